# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of InAccel's chart fpga-operator, of both generations. Pure; runs on the controller."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._chart_values import merged, unknown, value_problems
from ansible_collections.fpga.hybrid.plugins.module_utils._on_prem_fpga import INACCEL_ENABLED, INACCEL_LABEL
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem, listing

UPSTREAM = Path(__file__).parents[2] / "roles" / "inaccel" / "vars" / "upstream.yml"

#: Values that are refused, because something else says them, because another stack's nodes would be chosen, or because a secret would stand in them.
_MADE = {
    "license": "Put it into inaccel_license, or into a file on the control plane (inaccel_license_file).",
    "nodeSelector": f"Its nodes are those of hosts with fpga_stack: inaccel, by the label {INACCEL_LABEL}={INACCEL_ENABLED}.",
    "driver": "Role xrt brings the driver. The chart's would install another XRT on the host.",
    "fpga-discovery": "Nodes are labelled by fpga_stack. The chart's discovery would choose those of other stacks, by PCI id.",
    "coral.httpsProxy": "It is cluster_proxy.https.",
}


class InaccelError(ValueError):
    """Values that were refused; problems has each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__(listing(self.problems))


@lru_cache(maxsize=1)
def known_values() -> Mapping[str, Mapping[str, Any]]:
    """Version of the chart -> its values, of roles/inaccel/vars/upstream.yml."""
    import yaml  # the controller has it; on hosts, where this file is never used, it would only stand in the way of an import test

    known: Mapping[str, Mapping[str, Any]] = yaml.safe_load(UPSTREAM.read_text(encoding="utf-8"))["inaccel_known_values"]
    return known


def chart_values(version: str, extra: object, license_key: str, https_proxy: str) -> dict[str, Any]:
    """The user's values with ours. Raises InaccelError for what the chart does not know, and for what it cannot do without."""
    if version not in known_values():
        expected = f"one of {', '.join(known_values())}, whose values are recorded"
        raise InaccelError([Problem("", "inaccel_chart_version", f"found {version}", expected, "Take one of those.")])
    known = known_values()[version]
    problems = list(value_problems("inaccel_extra_values", extra, known, _MADE))
    selects = "nodeSelector" in known
    if selects and not license_key:
        remedy = "Set it (a vault's), or inaccel_license_file, or take inaccel_generation: current."
        problems.append(Problem("", "inaccel_license", "found nothing", f"a license, without which chart {version} does not start", remedy))
    if problems:
        raise InaccelError(problems)
    # Since 2.6.0 the chart chooses its nodes by this label itself.
    ours: dict[str, Any] = {"nodeSelector": {INACCEL_LABEL: INACCEL_ENABLED}}
    if not selects:
        ours = {"driver": {"enabled": False}, "fpga-discovery": {"enabled": False}}
    if license_key:
        ours["license"] = license_key
    if https_proxy and "httpsProxy" in known["coral"]:
        ours["coral"] = {"httpsProxy": https_proxy}
    if lost := list(unknown(ours, known)):
        raise InaccelError([Problem("", "inaccel_chart_version", f"chart {version} has no {lost[0]}", "a chart that role inaccel knows", "Report it.")])
    return merged(ours, extra if isinstance(extra, Mapping) else {})
