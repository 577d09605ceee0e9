# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin fpga.hybrid.cluster_gate."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_gate
short_description: Check a cluster's declaration, look up its record, renew the run's lock
version_added: 0.9.0
description:
  - First task of role C(fpga.hybrid.cluster), and with it of every play. Works on a play's first host; the others do as that one is told,
    so a refusal stops all of them, under any strategy.
  - Stops every host once the control plane's host or the VPN server's has failed or become unreachable in this run, also in plays that are not theirs.
  - Checks the variables of role C(fpga.hybrid.cluster) without contacting any host, and reports everything that is wrong at once.
  - Then reads id and versions from the control plane, refuses a declaration that the recorded versions contradict, and renews the lock if this run holds it.
  - To be delegated to the control plane's host, with C(delegate_facts).
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  folder:
    description: The state folder on the control plane's host.
    type: path
    required: true
  gone:
    description:
      - Hosts that nobody can ask any more. If the control plane's is among them, only the declaration is checked, as if no cluster were recorded.
      - Given by reset.yml only.
    type: list
    elements: str
attributes:
  check_mode:
    support: full
    description: Changes nothing; in check mode the lock isn't renewed either.
  diff_mode:
    support: none
    description: Changes nothing.
"""

EXAMPLES = r"""
- name: Check the declaration and look up the cluster's record
  fpga.hybrid.cluster_gate:
    folder: /etc/fpga-hybrid
  delegate_to: "{{ groups['control_plane'] | first }}"
  delegate_facts: true
"""

RETURN = r"""
problems:
  description: What is wrong, each with C(host), C(variable), C(found), C(expected), C(remedy).
  returned: failure
  type: list
  elements: dict
ansible_facts:
  description: C(fpga_hybrid) with C(record), see M(fpga.hybrid.cluster_state), and C(held_by), the holder of the lock.
  returned: success, on a play's first host
  type: dict
"""
