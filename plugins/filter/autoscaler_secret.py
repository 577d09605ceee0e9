# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: autoscaler_secret
short_description: The Secret with the Cluster Autoscaler's AWS key
version_added: 0.9.0
description:
  - Made of a file as AWS' own programs have it. What is wrong with that is said without a word of what stands in it.
author: The fpga.hybrid maintainers (@fpga-hybrid)
positional: _input, name
options:
  _input:
    description: The file's text.
    type: str
    required: true
  name:
    description: The Secret's name.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Make the Secret
  fpga.hybrid.kubectl_apply:
    definition: "{{ key_file.content | b64decode | fpga.hybrid.autoscaler_secret('cluster-autoscaler-aws') }}"
  no_log: true
  diff: false
"""

RETURN = r"""
_value:
  description: The object.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler import AutoscalerError
from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler_objects import secret


def autoscaler_secret(text: str, name: str) -> dict[str, Any]:
    try:
        made: dict[str, Any] = secret(text, name)
    except AutoscalerError as error:
        raise AnsibleFilterError(str(error)) from error
    return made


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"autoscaler_secret": autoscaler_secret}
