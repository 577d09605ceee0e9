# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: autoscaler_chart_values
short_description: Values of the Cluster Autoscaler's chart
version_added: 0.9.0
description: Each key is one that the chart of this version has. Fails with everything that is wrong with the settings or the values.
author: The fpga.hybrid maintainers (@fpga-hybrid)
positional: _input, chart, extra
options:
  _input:
    description: What role autoscaler has put together, C(__autoscaler_settings) of its C(vars/main.yml).
    type: dict
    required: true
  chart:
    description: The chart's version.
    type: str
    required: true
  extra:
    description: C(autoscaler_extra_values), which win over ours.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the values
  ansible.builtin.debug:
    msg: "{{ __autoscaler_settings | fpga.hybrid.autoscaler_chart_values('9.59.0', {'podLabels': {'team': 'fpga'}}) }}"
"""

RETURN = r"""
_value:
  description: The values.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler import AutoscalerError, parse_settings
from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler_objects import chart_values


def autoscaler_chart_values(settings: Mapping[str, Any], chart: str, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    try:
        values: dict[str, Any] = chart_values(parse_settings(settings), chart, {} if extra is None else extra)
    except AutoscalerError as error:
        raise AnsibleFilterError(str(error)) from error
    return values


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"autoscaler_chart_values": autoscaler_chart_values}
