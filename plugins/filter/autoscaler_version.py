# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: autoscaler_version
short_description: The Cluster Autoscaler's image tag for a Kubernetes minor
version_added: 0.9.0
description: Upstream releases one for each minor, since it imitates that minor's scheduler. Fails on a tag of another minor.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: The cluster's minor, as V(1.36).
    type: str
    required: true
  declared:
    description: A tag, or empty for the one of the table C(roles/cluster/vars/versions.yml).
    type: str
    default: ""
  allow_untested:
    description: C(cluster_allow_untested).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show the tag
  ansible.builtin.debug:
    msg: "{{ ('1.36' | fpga.hybrid.autoscaler_version).tag }}"
"""

RETURN = r"""
_value:
  description: C(tag), and C(note), what is to be said aloud about it, or empty.
  type: dict
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler import AutoscalerError, resolve_version
from ansible_collections.fpga.hybrid.plugins.module_utils._versions import load_table


def autoscaler_version(minor: str, declared: str = "", allow_untested: Sequence[str] = ()) -> dict[str, str]:
    try:
        version: dict[str, str] = asdict(resolve_version(load_table()["autoscaler"], minor, declared, allow_untested))
    except AutoscalerError as error:
        raise AnsibleFilterError(str(error)) from error
    return version


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"autoscaler_version": autoscaler_version}
