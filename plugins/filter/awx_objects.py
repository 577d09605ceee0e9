# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: awx_objects
short_description: The objects that AWX gets for a cluster
version_added: 0.9.0
description:
  - Out of the catalogue in role C(fpga.hybrid.awx), and the role's variables.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: The catalogue, with C(credential_types), C(templates) and C(workflows).
    type: dict
    required: true
  settings:
    description: The role's variables, without C(awx_), and C(pools), whether the cluster has node pools.
    type: dict
    required: true
  export:
    description: As variables of the collection C(infra.aap_configuration), instead of as arguments of modules.
    type: bool
    default: false
positional: settings, export
"""

EXAMPLES = r"""
- name: Show the names of the job templates
  ansible.builtin.debug:
    msg: "{{ (__awx_catalogue | fpga.hybrid.awx_objects(__awx_settings)).templates | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description: Lists of objects by kind.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._awx import Catalogue, Settings, called, exported, objects, problems
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import listing


def _awx_objects(catalogue: Mapping[str, Any], settings: Mapping[str, Any], export: bool = False) -> dict[str, list[dict[str, Any]]]:
    known, wanted = Catalogue(**catalogue), Settings(**settings)
    if found := problems(known, wanted):
        raise AnsibleFilterError(f"AWX's objects can't be made:\n{listing(found)}")
    made = objects(known, wanted)
    return exported(made) if export else called(made)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"awx_objects": _awx_objects}
