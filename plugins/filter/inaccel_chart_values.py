# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: inaccel_chart_values
short_description: Values of InAccel's chart fpga-operator
version_added: 0.9.0
description:
  - A user's values with those that role P(fpga.hybrid.inaccel#role) makes, each checked against what the chart of that version knows.
  - helm itself takes any key, and does nothing with one that the chart does not know.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: The user's values.
    type: dict
    required: true
  version:
    description: The chart's version.
    type: str
    required: true
  license:
    description: The license key; the result then holds it, too.
    type: str
    default: ""
  https_proxy:
    description: The proxy on the way out of the cluster.
    type: str
    default: ""
positional: version
"""

EXAMPLES = r"""
- name: Show the values
  ansible.builtin.debug:
    msg: "{{ {'reef': {'tag': '1.0'}} | fpga.hybrid.inaccel_chart_values('2.8.2') }}"
"""

RETURN = r"""
_value:
  description: The values.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._inaccel import InaccelError, chart_values


def inaccel_chart_values(extra: Mapping[str, Any], version: str, license: str = "", https_proxy: str = "") -> dict[str, Any]:  # noqa: A002  its name for users
    try:
        return chart_values(version, extra, license, https_proxy)
    except InaccelError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"inaccel_chart_values": inaccel_chart_values}
