# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin fpga.hybrid.cloud_audit_report."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_audit_report
short_description: Prints what M(fpga.hybrid.cloud_audit) has found, and fails on orphans
version_added: 0.9.0
description:
  - One table on the terminal, orphans marked with an exclamation mark. Runs on the controller.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  title:
    description: First line of the table.
    type: str
    required: true
  resources:
    description: As M(fpga.hybrid.cloud_audit) returns them.
    type: list
    elements: dict
    required: true
attributes:
  check_mode:
    description: Changes nothing.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Show what there is
  fpga.hybrid.cloud_audit_report:
    title: Cluster lab in us-east-1
    resources: "{{ audit.resources }}"
"""

RETURN = r"""
orphans:
  description: How many of them nothing accounts for.
  type: int
  returned: always
"""
