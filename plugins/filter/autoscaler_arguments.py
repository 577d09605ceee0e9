# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: autoscaler_arguments
short_description: The Cluster Autoscaler's command line
version_added: 0.9.0
description: What role autoscaler tells it, made from the cluster's declaration. Fails with everything that is wrong with that.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: What the role has put together, C(__autoscaler_settings) of its C(vars/main.yml).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ __autoscaler_settings | fpga.hybrid.autoscaler_arguments }}"
"""

RETURN = r"""
_value:
  description: The arguments, in order.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler import AutoscalerError, parse_settings


def autoscaler_arguments(settings: Mapping[str, Any]) -> list[str]:
    try:
        arguments: list[str] = parse_settings(settings).command_line()
    except AutoscalerError as error:
        raise AnsibleFilterError(str(error)) from error
    return arguments


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"autoscaler_arguments": autoscaler_arguments}
