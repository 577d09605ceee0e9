# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: problem_listing
short_description: Problems of all hosts, readable
version_added: 0.9.0
description: Turns the problems that M(fpga.hybrid.host_preflight) returns into a listing, one a line, by host.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: The problems of all hosts.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Report
  ansible.builtin.fail:
    msg: "{{ problems | fpga.hybrid.problem_listing }}"
"""

RETURN = r"""
_value:
  description: The listing.
  type: str
"""

from collections.abc import Callable, Iterable, Mapping

from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem, listing


def problem_listing(problems: Iterable[Mapping[str, str]]) -> str:
    return str(listing(Problem(**problem) for problem in problems))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., str]]:
        return {"problem_listing": problem_listing}
