# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: images_to_spare
short_description: Images that are neither among the newest nor in use
version_added: 0.9.0
description: All but the newest, without those that are in use.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: Images, as M(amazon.aws.ec2_ami_info) tells them.
    type: list
    elements: dict
    required: true
  keep:
    description: How many of the newest stay.
    type: int
    required: true
  used:
    description: Ids of images that stay, however old.
    type: list
    elements: str
    required: true
positional: keep, used
"""

EXAMPLES = r"""
- name: Show the images that nobody needs
  ansible.builtin.debug:
    msg: "{{ found.images | fpga.hybrid.images_to_spare(3, ['ami-0123456789abcdef0']) }}"
"""

RETURN = r"""
_value:
  description: Ids of the images.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._image_builds import BuildError, spare_images


def images_to_spare(images: Sequence[Mapping[str, Any]], keep: int, used: Sequence[str]) -> list[str]:
    try:
        return spare_images(images, int(keep), set(used))
    except BuildError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., list[str]]]:
        return {"images_to_spare": images_to_spare}
