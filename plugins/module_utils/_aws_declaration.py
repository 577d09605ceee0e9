# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The AWS part of a cluster's declaration, checked without asking AWS. Pure; runs on the controller."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _duration
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import (
    Pool,
    PoolError,
    orphan_timeout_problems,
    parse_accelerators,
    parse_cluster,
    parse_pools,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

#: The variables of role cluster that are checked here.
AWS_VARIABLES = (
    "cluster_aws_region",
    "cluster_aws_endpoint_url",
    "cluster_aws_account_id",
    "cluster_aws_images",
    "cluster_aws_credentials",
    "cluster_ssm_prefix",
    "cluster_node_pools",
    "cluster_accelerators",
    "cluster_cloud_limits",
    "cluster_orphan_timeout",
    "cluster_fpga_outage_tolerance",
    "cluster_fpga_pod_deadline",
)
LIMITS = ("instances", "instance_hours_per_day")
#: Who has a file with a key on the control plane.
HOLDERS = ("keeper", "autoscaler")

#: Kubernetes' own wait before it gives up a node's pods: less would be worse than without us.
SHORTEST_TOLERANCE = 300

_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
#: How node_pool calls what is a variable here.
_CALLED = {
    "cluster.region": "cluster_aws_region",
    "cluster.endpoint_url": "cluster_aws_endpoint_url",
    "cluster.ssm_prefix": "cluster_ssm_prefix",
    "cluster.images": "cluster_aws_images",
}


def aws_problems(declaration: Mapping[str, Any]) -> Iterator[Problem]:
    """Everything that is wrong, in reading order."""
    account = declaration.get("cluster_aws_account_id")
    if account and not (isinstance(account, str) and _ACCOUNT.fullmatch(account)):
        yield Problem("", "cluster_aws_account_id", f"found {account!r}", "twelve digits in quotes", "Mend it, or leave it out for any account.")
    name = declaration.get("cluster_name")
    pools, problems = _pools(declaration.get("cluster_node_pools"), name if isinstance(name, str) else "")
    yield from problems
    try:
        parse_accelerators(declaration.get("cluster_accelerators"))
    except PoolError as error:
        yield from error.problems
    if pools or declaration.get("cluster_aws_region"):
        yield from _cluster(declaration)
    yield from _credentials(declaration.get("cluster_aws_credentials", {}))
    yield from _reserved_prefix(declaration.get("cluster_ssm_prefix"))
    yield from _limits(declaration.get("cluster_cloud_limits"), pools)
    yield from orphan_timeout_problems(declaration.get("cluster_orphan_timeout"), "cluster_orphan_timeout")
    yield from _durations(declaration)


def _pools(declared: object, cluster_name: str) -> tuple[list[Pool], list[Problem]]:
    try:
        return parse_pools(declared, cluster_name), []
    except PoolError as error:
        return [], [replace(problem, variable="cluster_node_pools") if problem.variable == "pools" else problem for problem in error.problems]


def _cluster(declaration: Mapping[str, Any]) -> Iterator[Problem]:
    declared = {
        "name": "any",
        "id": "any",
        "kubernetes_version": "1.36",
        "region": declaration.get("cluster_aws_region"),
        "endpoint_url": declaration.get("cluster_aws_endpoint_url") or None,
        "ssm_prefix": declaration.get("cluster_ssm_prefix"),
        "images": declaration.get("cluster_aws_images"),
    }
    try:
        parse_cluster(declared)
    except PoolError as error:
        for problem in error.problems:
            variable = problem.variable
            for theirs, ours in _CALLED.items():
                variable = variable.replace(theirs, ours)
            yield replace(problem, variable=variable)


def _credentials(files: object) -> Iterator[Problem]:
    variable = "cluster_aws_credentials"
    if not isinstance(files, Mapping):
        yield Problem("", variable, f"found {files!r}", f"a mapping with {' or '.join(HOLDERS)}", "Write {keeper: /root/keeper.aws}.")
        return
    for holder, path in files.items():
        if holder not in HOLDERS:
            yield Problem("", f"{variable}.{holder}", "found it", f"{' or '.join(HOLDERS)}", "Mend the name.")
        elif not (isinstance(path, str) and path.startswith("/")):
            # Not what stands there: it may be the key itself.
            yield Problem("", f"{variable}.{holder}", "found no absolute path", "a file on the control plane, as /root/keeper.aws", "Name the file.")


def _reserved_prefix(prefix: object) -> Iterator[Problem]:
    if isinstance(prefix, str) and re.match(r"/(aws|ssm)", prefix, re.IGNORECASE):
        yield Problem("", "cluster_ssm_prefix", f"found {prefix}", "a path that AWS doesn't keep for itself (/aws..., /ssm...)", "Take another.")


def _limits(limits: object, pools: list[Pool]) -> Iterator[Problem]:
    variable = "cluster_cloud_limits"
    if not isinstance(limits, Mapping) or set(limits) != set(LIMITS):
        expected = f"a mapping with {' and '.join(LIMITS)} (null for no ceiling)"
        yield Problem("", variable, f"found {limits!r}", expected, "Write {instances: 4, instance_hours_per_day: 24}.")
        return
    wrong = [key for key in LIMITS if limits[key] is not None and not _count(limits[key])]
    for key in wrong:
        # 0 reads as "none may run" to one person and as "nothing limits it" to the next: what is paid for is not left to that.
        zero = "0 is neither: write null for no ceiling, and max_size: 0 in each pool where nothing may be started."
        remedy = zero if _count(limits[key]) == 0 else "Mend it."
        yield Problem("", f"{variable}.{key}", f"found {limits[key]!r}", "a whole number, 1 or more, or null for no ceiling", remedy)
    if wrong:
        return
    instances, hours = (_count(limits[key]) for key in LIMITS)
    most, always = sum(pool.max_size for pool in pools), sum(pool.min_size for pool in pools)
    if instances is not None and most > instances:
        sizes = " + ".join(f"{pool.name} {pool.max_size}" for pool in pools)
        found = f"the pools may run {most} instances at once ({sizes})"
        remedy = f"Lower max_size, or raise {variable}.instances to {most}, if that many may be paid for."
        yield Problem("", f"{variable}.instances", found, f"at most {instances}", remedy)
    if hours is not None and always * 24 > hours:
        found = f"min_size keeps {always} instances running, {always * 24} instance-hours a day"
        remedy = f"Lower min_size, or raise {variable}.instance_hours_per_day to {always * 24}, if that much may be paid for."
        yield Problem("", f"{variable}.instance_hours_per_day", found, f"at most {hours}", remedy)


def _durations(declaration: Mapping[str, Any]) -> Iterator[Problem]:
    for variable, least in (("cluster_fpga_outage_tolerance", SHORTEST_TOLERANCE), ("cluster_fpga_pod_deadline", 0)):
        try:
            if _duration.seconds(declaration.get(variable)) < least:
                expected = f"at least {_duration.duration(least)}, what Kubernetes itself waits"
                yield Problem("", variable, f"found {declaration.get(variable)}", expected, "Raise it.")
        except _duration.DurationError as error:
            yield Problem("", variable, str(error), _duration.EXAMPLE, "Write a unit with each number.")


def _count(value: object) -> int | None:
    """A number, also as text, which is how extra variables of the command line arrive. None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        return int(value) if int(value) >= 0 else None
    except ValueError:
        return None
