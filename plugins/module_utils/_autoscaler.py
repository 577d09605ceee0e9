# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Cluster Autoscaler is told, and why: its version, its command line and its cloud configuration, from the cluster's declaration.

Its defaults are made for web servers on cheap machines. Here an instance costs dollars an hour, takes minutes to become a node, and may be cut off from its
control plane for a while with a job on it that goes on. Pure; runs on the controller. Sources: cluster-autoscaler's FAQ.md, config/flags/flags.go and
cloudprovider/aws of release 1.36, where nothing else is named.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ansible_collections.fpga.hybrid.plugins.module_utils import _aws_key_file
from ansible_collections.fpga.hybrid.plugins.module_utils._chart_values import nearest
from ansible_collections.fpga.hybrid.plugins.module_utils._duration import EXAMPLE, DurationError, duration, seconds
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import AUTOSCALER_OPTION_PREFIX, CLUSTER_ID_TAG, Pool, PoolError, parse_pools
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem, listing
from ansible_collections.fpga.hybrid.plugins.module_utils.node_template import ENABLED_TAG

UPSTREAM = Path(__file__).parents[2] / "roles" / "autoscaler" / "vars" / "upstream.yml"

NAME, NAMESPACE = "cluster-autoscaler", "kube-system"
CLOUD_CONFIG = "/etc/cluster-autoscaler/cloud.conf"

#: From SetDesiredCapacity to bootstrap's first second. AWS: bare metal takes up to 15 minutes, the others a few.
BOOT, BOOT_OF_METAL = 300, 900
#: After the pods of a node that is cut off were given up, and before the instance is ended: their replacements want no second instance.
AFTER_TOLERANCE = 300
#: How long scale-down rests after a scale-up, of whichever group. 10 minutes by default, for which every idle instance is paid.
LONGEST_REST_AFTER_ADD = 60
#: How long the last node of a group stays its group's template. 10 years by default; a node of former settings would stand for those to come.
TEMPLATE_CACHE = 60

#: Keys of the Secret, by how the autoscaler gets its rights.
SECRET_KEYS = {"secret": tuple(_aws_key_file.KEYS.values()), "roles_anywhere": ("tls.crt", "tls.key"), "none": ()}
ROLES_ANYWHERE = ("trust_anchor_arn", "profile_arn", "role_arn", "image")
#: Services that the autoscaler asks; eks only for groups with labels of EKS.
SERVICES = ("ec2", "autoscaling", "eks")

#: Flags that follow from something else.
_OURS = {
    "cloud-provider": "It is always aws.",
    "namespace": f"It is always {NAMESPACE}.",
    "node-group-auto-discovery": "It follows from cluster_name and the cluster's id.",
    "nodes": "Groups are found by their tags.",
    "cloud-config": "Use autoscaler_endpoints.",
    "scan-interval": "Use autoscaler_scan_interval.",
    "scale-down-unneeded-time": "Use autoscaler_scale_down_unneeded_time.",
    "max-node-provision-time": "Use autoscaler_max_node_provision_time.",
    "max-nodes-total": "Use autoscaler_max_nodes_total.",
}
_UNREADY_OPTION = f"{AUTOSCALER_OPTION_PREFIX}scaledownunreadytime"
_TAG = re.compile(r"v(1\.[0-9]+)\.[0-9]+(-[\w.-]+)?(@sha256:[0-9a-f]{64})?", re.ASCII)
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]+", re.ASCII)


class AutoscalerError(Exception):
    """Everything that is wrong with what the autoscaler is to be told."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__(str(self.problems[0]) if len(self.problems) == 1 else listing(self.problems))


@lru_cache(maxsize=1)
def upstream() -> Mapping[str, Any]:
    """roles/autoscaler/vars/upstream.yml: C(autoscaler_known_values) and C(autoscaler_known_flags)."""
    import yaml  # the controller has it; on hosts, where this file is never used, it would only stand in the way of an import test

    known: Mapping[str, Any] = yaml.safe_load(UPSTREAM.read_text(encoding="utf-8"))
    return known


# --- version ------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """The image's tag, and what is to be said aloud about it, or ""."""

    tag: str
    note: str = ""


def resolve_version(table: Sequence[Mapping[str, Any]], minor: str, declared: str, allow_untested: Sequence[str]) -> Version:
    """table: section autoscaler of the table of versions. declared: a tag, or "" for the table's. Raises AutoscalerError."""
    fitting = [row["version"] for row in table if minor in row["kubernetes"]]
    expected = [row["version"] for row in table if minor in row.get("expected", [])]
    known = fitting + expected
    if not known and not declared:
        remedy = "Set autoscaler_version to a release of that minor."
        raise AutoscalerError([_problem("autoscaler_version", f"no release is known to go with Kubernetes {minor}", "one in the table of versions", remedy)])
    tag = declared or known[0]
    match = _TAG.fullmatch(tag)
    if match is None:
        wanted = f"Write v{tag}." if _TAG.fullmatch(f"v{tag}") else f"Take {known[0]}." if known else "Mend it."
        raise AutoscalerError([_problem("autoscaler_version", f"found {tag!r}", "a tag of upstream's image as v1.36.1", wanted)])
    if match[1] == minor:
        return Version(tag)
    phrase = f"autoscaler {tag} with kubernetes {minor}"
    if tag in expected:
        return Version(tag, f"{phrase}: its makers release one for each minor, and none for {minor} was to be seen when this table was written")
    if phrase in allow_untested:
        return Version(tag, f"{phrase}: not what its makers support, allowed by cluster_allow_untested")
    remedy = f'{f"Take {known[0]}" if known else "Take one of that minor"}, or say that you want it: cluster_allow_untested: ["{phrase}"].'
    found = f"found {tag}, which imitates the scheduler of Kubernetes {match[1]}"
    raise AutoscalerError([_problem("autoscaler_version", found, f"a release of the cluster's minor, {minor}", remedy)])


# --- settings -----------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Credentials:
    """How the autoscaler gets its rights. revision: changes with the Secret, so that pods start anew. roles_anywhere: by ROLES_ANYWHERE's names."""

    kind: str
    secret: str
    revision: str
    roles_anywhere: Mapping[str, str]


@dataclass(frozen=True)
class Settings:
    """All that the autoscaler is told, checked. Times in seconds; endpoints: service -> URL, those of AWS itself left out."""

    cluster_name: str
    cluster_id: str
    region: str
    minor: str
    image: str
    tag: str
    pools: tuple[Pool, ...]
    max_nodes_total: int
    max_node_provision_time: int
    scan_interval: int
    scale_down_unneeded_time: int
    outage_tolerance: int
    endpoints: Mapping[str, str]
    credentials: Credentials
    environment: Mapping[str, str]
    extra_args: Mapping[str, tuple[str, ...]]

    @property
    def discovery_tags(self) -> tuple[str, ...]:
        """All must be on a group. The cluster's id tells it from a group of another cluster of the same name."""
        return (ENABLED_TAG, f"k8s.io/cluster-autoscaler/{self.cluster_name}=owned", f"{CLUSTER_ID_TAG}={self.cluster_id}")

    @property
    def derived_args(self) -> dict[str, str]:
        """Flags, but for those that the chart makes from values of its own."""
        scan = duration(self.scan_interval)
        return {
            # Of the groups that a pod fits, the one with the least CPU left over, then memory: not two boards for a pod that asks for one.
            "expander": "least-waste",
            "max-nodes-total": str(self.max_nodes_total),
            "max-node-provision-time": duration(self.max_node_provision_time),
            "scan-interval": scan,
            "scale-down-unneeded-time": duration(self.scale_down_unneeded_time),
            # A node whose job could go nowhere else is looked at again only then; 5 minutes by default, paid for with nothing to do.
            "unremovable-node-recheck-timeout": scan,
            "scale-down-delay-after-add": duration(min(LONGEST_REST_AFTER_ADD, self.scale_down_unneeded_time)),
            "node-info-cache-expire-time": duration(TEMPLATE_CACHE),
            "scale-down-unready-time": duration(self.outage_tolerance + AFTER_TOLERANCE),
            # Else one pod of kube-system, as CoreDNS', keeps an instance for an hour.
            "skip-nodes-with-system-pods": "false",
            # The call of its start knows no other endpoint, and would wait for AWS itself.
            **({"aws-use-static-instance-list": "true"} if "ec2" in self.endpoints else {}),
            "logtostderr": "true",
            "stderrthreshold": "info",
            "v": "4",
        }

    @property
    def args(self) -> dict[str, tuple[str, ...]]:
        """Flag -> its values, several where it is given several times; the user's in place of ours."""
        return {**{name: (value,) for name, value in self.derived_args.items()}, **self.extra_args}

    def command_line(self) -> list[str]:
        """The whole of it, for a manifest of ours."""
        first = {
            "cloud-provider": ("aws",),
            "namespace": (NAMESPACE,),
            "node-group-auto-discovery": (f"asg:tag={','.join(self.discovery_tags)}",),
            **({"cloud-config": (CLOUD_CONFIG,)} if self.endpoints else {}),
        }
        return [f"--{name}={value}" for name, values in {**first, **self.args}.items() for value in values]

    def cloud_config(self) -> str:
        """Where services are, if not at AWS, as cloudprovider/aws/aws_sdk_provider.go reads it (gcfg); "" if all are. AWS_ENDPOINT_URL has no effect."""
        sections = []
        for service, url in self.endpoints.items():
            keys = {"Service": service, "Region": self.region, "URL": url, "SigningRegion": self.region, "SigningMethod": "v4", "SigningName": service}
            sections.append(f'[ServiceOverride "{service}"]\n' + "".join(f"{key}={_quoted(value)}\n" for key, value in keys.items()))
        return "[Global]\n" + "".join(sections) if sections else ""


def _quoted(value: str) -> str:
    """Unquoted, a # or ; would begin a comment."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def parse_settings(declared: Mapping[str, Any]) -> Settings:
    """What role autoscaler has put together (its vars/main.yml names the keys), or AutoscalerError with everything that is wrong."""
    problems: list[Problem] = []
    name = str(declared["cluster_name"])
    pools = _pools(declared, name, problems)
    scan = _seconds("autoscaler_scan_interval", declared["scan_interval"], problems, least=1)
    unneeded = _seconds("autoscaler_scale_down_unneeded_time", declared["scale_down_unneeded_time"], problems, least=scan)
    tolerance = _seconds("cluster_fpga_outage_tolerance", declared["outage_tolerance"], problems)
    if not _REGION.fullmatch(str(declared["region"])):
        problems.append(_problem("cluster_aws_region", f"found {declared['region']!r}", "an AWS region as us-east-1", "Say which."))
    settings = Settings(
        cluster_name=name,
        cluster_id=str(declared["cluster_id"]),
        region=str(declared["region"]),
        minor=str(declared["minor"]),
        image=str(declared["image"]),
        tag=str(declared["tag"]),
        pools=pools,
        max_nodes_total=_nodes_total(declared, pools, problems),
        max_node_provision_time=_provision_time(declared, pools, problems),
        scan_interval=scan,
        scale_down_unneeded_time=unneeded,
        outage_tolerance=tolerance,
        endpoints=_endpoints(declared["endpoints"], problems),
        credentials=_credentials(declared["credentials"], problems),
        environment=_environment(declared["proxy"]),
        extra_args=_extra_args(declared["extra_args"], str(declared["minor"]), tolerance, problems),
    )
    problems += _unready_options(pools, tolerance)
    if problems:
        raise AutoscalerError(problems)
    return settings


def _problem(variable: str, found: str, expected: str, remedy: str) -> Problem:
    return Problem("", variable, found, expected, remedy)


def _seconds(variable: str, written: object, problems: list[Problem], least: int = 0) -> int:
    try:
        found = seconds(written)
    except DurationError as error:
        problems.append(_problem(variable, str(error), EXAMPLE, "Write a unit with each number."))
        return least
    if found < least:
        problems.append(_problem(variable, f"found {written}", f"at least {duration(least)}", "Raise it."))
    return found


def _number(variable: str, value: object, problems: list[Problem]) -> int:
    if isinstance(value, (int, str)) and not isinstance(value, bool) and str(value).isdecimal():
        return int(value)
    problems.append(_problem(variable, f"found {value!r}", "a whole number, 0 or more", "Mend it."))
    return 0


def _pools(declared: Mapping[str, Any], cluster_name: str, problems: list[Problem]) -> tuple[Pool, ...]:
    try:
        pools = tuple(parse_pools(declared["pools"], cluster_name))
    except PoolError as error:
        problems += error.problems
        return ()
    if not pools:
        problems.append(_problem("cluster_node_pools", "found none", "the pools that the autoscaler is to move", "Declare them, or leave this role out."))
    return pools


def _nodes_total(declared: Mapping[str, Any], pools: Sequence[Pool], problems: list[Problem]) -> int:
    """It counts every node of the cluster, also those that no group has (core/scaleup/orchestrator, GetCappedNewNodeCount)."""
    variable = "autoscaler_max_nodes_total"
    others = _number("other_nodes", declared["other_nodes"], problems)
    wanted = _number(variable, declared["max_nodes_total"], problems)
    sizes = sum(pool.max_size for pool in pools)
    if wanted and wanted <= others:
        found = f"found {wanted}, and {others} nodes are on-prem, which count, too: no instance would ever start"
        problems.append(_problem(variable, found, f"more than {others}", f"Take {others + sizes}, or 0, which means on-prem nodes and the pools' max_size."))
    return wanted or others + sizes


def _provision_time(declared: Mapping[str, Any], pools: Sequence[Pool], problems: list[Problem]) -> int:
    """One time for all groups, because on AWS a group's own is not read; so the slowest pool's.

    Shorter than bootstrap's own limit would end instances that are about to join, and those that are about to say why they cannot.
    """
    variable = "autoscaler_max_node_provision_time"
    limit = _number("bootstrap_timeout", declared["bootstrap_timeout"], problems)
    metal = any(one.endswith(".metal") or ".metal-" in one for pool in pools for one in pool.instance_types)
    needed = limit + (BOOT_OF_METAL if metal else BOOT)
    if not declared["max_node_provision_time"]:
        return needed
    wanted = _seconds(variable, declared["max_node_provision_time"], problems)
    if 0 < wanted <= limit:
        found = f"found {declared['max_node_provision_time']}, in which an instance must boot and join"
        problems.append(_problem(variable, found, f"more than the {duration(limit)} that bootstrap may take", f"Take {duration(needed)}, or leave it out."))
    return wanted


def _endpoints(declared: object, problems: list[Problem]) -> dict[str, str]:
    if not isinstance(declared, Mapping):
        problems.append(_problem("autoscaler_endpoints", f"found {declared!r}", "service: URL", "Write {ec2: https://..., autoscaling: https://...}."))
        return {}
    found = {}
    for service, url in declared.items():
        variable = f"autoscaler_endpoints.{service}"
        if service not in SERVICES:
            problems.append(_problem(variable, "no such service is asked", f"one of {', '.join(SERVICES)}", nearest(str(service), SERVICES)))
            continue
        parts = _url(url)
        if parts is None:
            problems.append(_problem(variable, f"found {url!r}", "an URL as https://vpce-0123.ec2.us-east-1.vpce.amazonaws.com", "Mend it."))
        elif parts.username or parts.password:
            problems.append(_problem(variable, "found credentials in the URL", "an URL without them", "The autoscaler's own come from its Secret."))
        else:
            found[service] = str(url)
    return found


def _url(value: object) -> SplitResult | None:
    if not isinstance(value, str) or not value.isprintable():
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None


def _environment(proxy: Mapping[str, Any]) -> dict[str, str]:
    """The proxy on the way to AWS. The API server's address must not go through it, so the service network is among C(no_proxy)."""
    urls = {f"{kind.upper()}_PROXY": str(proxy[kind]) for kind in ("http", "https") if proxy.get(kind)}
    return {**urls, "NO_PROXY": ",".join(proxy["no_proxy"])} if urls else {}


def _credentials(declared: Mapping[str, Any], problems: list[Problem]) -> Credentials:
    kind, secret = str(declared["kind"]), str(declared["secret"])
    anywhere = declared["roles_anywhere"]
    if kind == "roles_anywhere":
        problems += [
            _problem(f"autoscaler_roles_anywhere.{key}", "found nothing", f"all of {', '.join(ROLES_ANYWHERE)}", "Add it.")
            for key in ROLES_ANYWHERE
            if not anywhere.get(key)
        ]
        problems += [
            _problem(f"autoscaler_roles_anywhere.{key}", "no such key", f"one of {', '.join(ROLES_ANYWHERE)}", nearest(key, ROLES_ANYWHERE))
            for key in anywhere
            if key not in ROLES_ANYWHERE
        ]
    found = declared.get("found")
    if found is not None:
        problems += _secret_problems(kind, secret, found)
    return Credentials(kind, secret, str((found or {}).get("revision", "")), {key: str(value) for key, value in anywhere.items()})


def _secret_problems(kind: str, secret: str, found: Mapping[str, Any]) -> Iterator[Problem]:
    """found: {keys, revision} of the Secret, keys None where there is none. Its values are nobody's business here."""
    wanted = SECRET_KEYS[kind]
    keys = found["keys"]
    missing = [key for key in wanted if key not in (keys or [])]
    if not missing:
        return
    if kind == "roles_anywhere":
        make = f"kubectl -n {NAMESPACE} create secret tls {secret} --cert=FILE --key=FILE"
    else:
        make = f"kubectl -n {NAMESPACE} create secret generic {secret} --from-env-file=FILE, FILE (0600) with a line NAME=value for each; "
        make += "or name a file there with the key, as AWS' programs have it, and the role makes it: cluster_aws_credentials.autoscaler"
    there = "there is no such Secret" if keys is None else f"it has {', '.join(keys) or 'no keys'}"
    replace = "" if keys is None else f"Delete it first (kubectl -n {NAMESPACE} delete secret {secret}). "
    variable, expected = f"autoscaler_secret, Secret {NAMESPACE}/{secret}", f"the keys {' and '.join(wanted)}"
    yield _problem(variable, there, expected, f"{replace}Make it on the control plane: {make}.")


def _extra_args(declared: object, minor: str, tolerance: int, problems: list[Problem]) -> dict[str, tuple[str, ...]]:
    variable = "autoscaler_extra_args"
    if not isinstance(declared, Mapping):
        problems.append(_problem(variable, f"found {declared!r}", "flag: value, flags without the leading --", "Write {balance-similar-node-groups: true}."))
        return {}
    known = known_flags(minor)
    found = {}
    for flag, value in declared.items():
        where = f"{variable}.{flag}"
        if flag in _OURS:
            problems.append(_problem(where, "found a flag that is made", "one that is not", _OURS[flag]))
        elif flag not in known:
            bare = str(flag).lstrip("-").replace("_", "-")
            remedy = f"Write {bare}." if bare in known else nearest(str(flag), known)
            problems.append(_problem(where, f"no flag of cluster-autoscaler {minor}", "one that it knows: it ends at others", remedy))
        else:
            found[str(flag)] = tuple(_written(one) for one in (value if isinstance(value, list) else [value]))
    if "scale-down-unready-time" in found:
        problems += _unready(f"{variable}.scale-down-unready-time", found["scale-down-unready-time"][-1], tolerance)
    return found


def known_flags(minor: str) -> set[str]:
    """Those of a minor; of a later one than is recorded, all."""
    groups = upstream()["autoscaler_known_flags"]
    return {flag for group, flags in groups.items() if group == "shared" or _minor(group) <= _minor(minor) for flag in flags}


def _minor(minor: str) -> int:
    return int(minor.partition(".")[2])


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unready_options(pools: Sequence[Pool], tolerance: int) -> Iterator[Problem]:
    """A group's own time, given by a tag."""
    for pool in pools:
        if _UNREADY_OPTION in pool.tags:
            yield from _unready(f"pool {pool.name}, tags.{_UNREADY_OPTION}", pool.tags[_UNREADY_OPTION], tolerance)


def _unready(variable: str, written: str, tolerance: int) -> Iterator[Problem]:
    try:
        short = seconds(written) < tolerance
    except DurationError as error:
        yield _problem(variable, str(error), EXAMPLE, "Write a unit with each number.")
        return
    if short:
        found = f"found {written}, after which an instance that is cut off is ended with the job that runs on"
        yield _problem(variable, found, f"at least cluster_fpga_outage_tolerance, {duration(tolerance)}", "Raise it, or lower the tolerance.")
