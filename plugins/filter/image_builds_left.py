# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: image_builds_left
short_description: Builds of images in AWS that nobody carries on
version_added: 0.9.0
description:
  - Those whose time is over, and those of a run of this controller that is gone. A build of another controller is left alone until its time is over.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: Things that builds have started, each with C(tags) as filter P(fpga.hybrid.image_build_tags#filter) makes them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the builds that were killed
  ansible.builtin.debug:
    msg: "{{ found.instances | fpga.hybrid.image_builds_left }}"
"""

RETURN = r"""
_value:
  description: Ids of the builds.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._controller import this_run
from ansible_collections.fpga.hybrid.plugins.module_utils._image_builds import left_builds


def image_builds_left(things: Sequence[Mapping[str, Any]]) -> list[str]:
    return left_builds([thing.get("tags") or {} for thing in things], this_run(), datetime.now(timezone.utc))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., list[str]]]:
        return {"image_builds_left": image_builds_left}
