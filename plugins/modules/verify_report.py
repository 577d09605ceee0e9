#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

# The code is the action plugin of the same name: it runs on the controller, where the table is read.

DOCUMENTATION = r"""
module: verify_report
short_description: Prints the verify table, writes the report, and fails if a line failed
version_added: 0.9.0
description:
  - Gathers the lines of M(fpga.hybrid.verify_cluster) and M(fpga.hybrid.verify_node) into one table that can be pasted into a ticket.
  - A host that gave no result, because it could not be reached for instance, is a failed line of its own.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
attributes:
  action:
    support: full
    description: Runs on the controller.
  check_mode:
    support: full
    description: Prints the same table in check mode, and writes no file.
  diff_mode:
    support: none
    description: There is nothing to compare.
options:
  title:
    description: What the table is about.
    type: str
    required: true
  cluster:
    description: Results of M(fpga.hybrid.verify_cluster), in the order in which they ran.
    type: list
    elements: dict
    required: true
  hosts:
    description: Per host of the play, its results of M(fpga.hybrid.verify_node).
    type: dict
    required: true
  dest:
    description:
      - File on the controller for the report. C(.md) gives Markdown, anything else JSON.
      - Empty means none.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show what was found
  fpga.hybrid.verify_report:
    title: Cluster lab
    cluster: ["{{ __verify_started }}", "{{ __verify_finished }}"]
    hosts: {worker1: ["{{ __verify_ready }}", "{{ __verify_tested }}"]}
    dest: verify.json
"""

RETURN = r"""
failed_lines:
  description: How many lines failed.
  returned: always
  type: int
"""
