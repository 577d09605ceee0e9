# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions go together: the table roles/cluster/vars/versions.yml, and what a declaration means by it. Runs on the controller."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

TABLE = Path(__file__).parents[2] / "roles" / "cluster" / "vars" / "versions.yml"
KUBERNETES = re.compile(r"(1\.\d+)(\.\d+)?")


@dataclass(frozen=True)
class Versions:
    """The exact versions of one cluster.

    kubernetes has no leading v, calico has one (as their makers write them); containerd and helm are apt pin expressions.
    docker and cri_dockerd say which versions of an engine that is there fit. calico is "" without that CNI.
    tested: this very combination has run in the lab. note: what is to be said aloud about it, or "".
    """

    minor: str
    kubernetes: str
    package_revision: str
    containerd: str
    docker: str
    cri_dockerd: str
    calico: str
    helm: str
    images: dict[str, str]
    tested: bool
    note: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@lru_cache(maxsize=1)
def load_table() -> Mapping[str, Any]:
    import yaml  # the controller has it; on hosts, where this file is never used, it would only stand in the way of an import test

    table: Mapping[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["cluster_known_versions"]
    return table


def combination(calico: str, minor: str) -> str:
    """The name under which cluster_allow_untested lets a combination pass."""
    return f"calico {calico} with kubernetes {minor}"


def resolve(
    table: Mapping[str, Any],
    kubernetes: object,
    cni: str,
    calico: str,
    runtime: str,
    allow_untested: Sequence[str],
    recorded: Mapping[str, str],
) -> tuple[Versions | None, list[Problem]]:
    """The exact versions, or None and what is wrong.

    kubernetes: a minor ("1.36") or an exact version ("1.36.3"). A minor means the recorded version, else the table's default.
    calico: an exact version with v, or "" for the recorded one, else the first that fits. recorded: kubernetes and calico.
    """
    row, exact, problems = _kubernetes(table, kubernetes, recorded.get("kubernetes"))
    if row is None:
        return None, problems
    chosen, note, more = ("", "", []) if cni != "calico" else _calico(table, row["minor"], calico, allow_untested, recorded.get("calico"))
    problems += more
    if problems:
        return None, problems
    calico_ran = not chosen or exact in next(entry["ran"] for entry in table["calico"] if entry["version"] == chosen)
    return Versions(
        minor=row["minor"],
        kubernetes=exact,
        package_revision=row["package_revision"],
        containerd=row["containerd"],
        docker=row["docker"],
        cri_dockerd=row["cri_dockerd"],
        calico=chosen,
        helm=row["helm"],
        images=dict(row.get("images") or {}),
        # cri-dockerd cannot be had in the lab, so no cluster with Docker as its runtime has run there.
        tested=exact in row["ran"] and calico_ran and runtime == "containerd" and cni == "calico",
        note=note,
    ), []


def _kubernetes(table: Mapping[str, Any], declared: object, recorded: str | None) -> tuple[Mapping[str, Any] | None, str, list[Problem]]:
    name = "cluster_kubernetes_version"
    rows: dict[str, Mapping[str, Any]] = {row["minor"]: row for row in table["kubernetes"]}
    known = ", ".join(rows)
    match = KUBERNETES.fullmatch(declared) if isinstance(declared, str) else None
    if match is None:
        return (
            None,
            "",
            [
                Problem(
                    "",
                    name,
                    f"found {declared!r}",
                    f'a text: a minor out of {known} or an exact version as "1.36.3"',
                    'Write it in quotes and without a leading v: "1.36".',
                )
            ],
        )
    minor = match[1]
    if minor not in rows:
        nearest = min(rows, key=lambda other: abs(_number(other) - _number(minor)))
        return (
            None,
            "",
            [Problem("", name, f"found {declared}", f"one of {known}", f'Take the nearest that is known, "{nearest}", or another version of this collection.')],
        )
    if recorded and declared not in (recorded, ".".join(recorded.split(".")[:2])):
        return (
            None,
            "",
            [
                Problem(
                    "",
                    name,
                    f"found {declared}",
                    f"{recorded}, which this cluster has recorded",
                    f'Write "{recorded}": this run never upgrades a live cluster.',
                )
            ],
        )
    return rows[minor], recorded or (declared if match[2] else rows[minor]["default"]), []  # type: ignore[return-value]


def _calico(table: Mapping[str, Any], minor: str, declared: str, allow_untested: Sequence[str], recorded: str | None) -> tuple[str, str, list[Problem]]:
    name = "cluster_calico_version"
    fitting = [row["version"] for row in table["calico"] if minor in row["kubernetes"]]
    expected = [row["version"] for row in table["calico"] if minor in row.get("expected", [])]
    nearest = (fitting + expected)[0]
    if declared and recorded and declared != recorded:
        return (
            "",
            "",
            [
                Problem(
                    "", name, f"found {declared}", f"{recorded}, which this cluster has recorded", f"Write {recorded}: this run never upgrades a live cluster."
                )
            ],
        )
    version = declared or recorded or nearest
    row = next((row for row in table["calico"] if row["version"] == version), None)
    phrase = combination(version, minor)
    if row is not None and version in fitting:
        return version, "", []
    if row is not None and version in expected:
        return version, f"{phrase}: not yet in the list of what Calico's makers have tested", []
    if row is not None and minor in row.get("exceptions", []):
        if phrase in allow_untested:
            return version, f"{phrase}: outside what Calico's makers support, allowed by cluster_allow_untested", []
        remedy = f'Take {nearest}, or say that you want it: cluster_allow_untested: ["{phrase}"].'
        return (
            "",
            "",
            [
                Problem(
                    "", name, f"found {version}, which its makers have not tested with Kubernetes {minor}", f"one of {', '.join(fitting + expected)}", remedy
                )
            ],
        )
    return (
        "",
        "",
        [
            Problem(
                "",
                name,
                f"found {version!r}, which is not known to go with Kubernetes {minor}",
                f"one of {', '.join(fitting + expected)}",
                f"Take the nearest that is known, {nearest}, or leave the variable empty.",
            )
        ],
    )


def _number(minor: str) -> int:
    return int(minor.split(".")[1])
