# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: autoscaler_objects
short_description: Objects of the Cluster Autoscaler that are ours
version_added: 0.9.0
description: With method V(manifest) all of them; with V(chart) those that stand beside the chart's.
author: The fpga.hybrid maintainers (@fpga-hybrid)
positional: _input, method
options:
  _input:
    description: What role autoscaler has put together, C(__autoscaler_settings) of its C(vars/main.yml).
    type: dict
    required: true
  method:
    description: C(autoscaler_method).
    type: str
    choices: [chart, manifest]
    required: true
"""

EXAMPLES = r"""
- name: Show them
  ansible.builtin.debug:
    msg: "{{ __autoscaler_settings | fpga.hybrid.autoscaler_objects('manifest') }}"
"""

RETURN = r"""
_value:
  description: The objects.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler import AutoscalerError, parse_settings
from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler_objects import cloud_config_objects, manifest

MADE_BY = {"chart": cloud_config_objects, "manifest": manifest}


def autoscaler_objects(settings: Mapping[str, Any], method: str) -> list[dict[str, Any]]:
    if method not in MADE_BY:
        raise AnsibleFilterError(f"autoscaler_method: found {method!r}; expected chart or manifest.")
    try:
        objects: list[dict[str, Any]] = MADE_BY[method](parse_settings(settings))
    except AutoscalerError as error:
        raise AnsibleFilterError(str(error)) from error
    return objects


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"autoscaler_objects": autoscaler_objects}
