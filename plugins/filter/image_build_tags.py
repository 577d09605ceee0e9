# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: image_build_tags
short_description: Tags of everything that a build of an image starts in AWS
version_added: 0.9.0
description:
  - They say whose image it will be, which build it is, which run carries it on, and from when on anybody may remove it.
  - The run is told by digests, which name neither machine nor user.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: Name of the cluster.
    type: str
    required: true
  hours:
    description: In how many hours it may be removed.
    type: int
    required: true
positional: hours
"""

EXAMPLES = r"""
- name: Show what instance, key pair and security group of a build carry
  ansible.builtin.debug:
    msg: "{{ 'lab' | fpga.hybrid.image_build_tags(2) }}"
"""

RETURN = r"""
_value:
  description: The tags.
  type: dict
"""

from collections.abc import Callable
from datetime import datetime, timezone

from ansible_collections.fpga.hybrid.plugins.module_utils._controller import this_run
from ansible_collections.fpga.hybrid.plugins.module_utils._image_builds import build_tags


def image_build_tags(cluster_name: str, hours: int) -> dict[str, str]:
    return build_tags(str(cluster_name), int(hours), this_run(), datetime.now(timezone.utc))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., dict[str, str]]]:
        return {"image_build_tags": image_build_tags}
