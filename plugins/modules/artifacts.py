#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

# The code is the action plugin of the same name: everything happens on the controller, and no host is contacted.

DOCUMENTATION = r"""
module: artifacts
short_description: Lists everything that a declaration needs from outside
version_added: 0.9.0
description:
  - Packages with their repositories and keys, images, charts and files, for copying into a mirror of a site without Internet.
  - The list is made of the very variables with which the roles install. Each role states it in C(<role>_artifacts).
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
attributes:
  action:
    support: full
    description: Runs on the controller.
  check_mode:
    support: full
    description: Writes no file in check mode.
  diff_mode:
    support: none
    description: There is nothing to compare.
options:
  title:
    description: What the list is about.
    type: str
    required: true
  roles:
    description: Roles of this collection whose needs are listed.
    type: list
    elements: str
    required: true
  systems:
    description: The operating systems of the hosts, by name, each with its facts C(distribution), C(distribution_release), C(distribution_major_version).
    type: dict
    required: true
  image_mirror:
    description: The registry that serves images instead of upstream's. Empty means none.
    type: str
    default: ""
  resolve:
    description:
      - Ask the mirrors, or upstream where there is none, for digests, checksums, and what a version expression means now.
      - What cannot be reached is said, and the rest is listed nevertheless.
      - CA and credentials of the mirrors are those of the variable C(cluster_mirrors), which is no option, because options are shown and logged.
    type: bool
    default: false
  dest:
    description: File on the controller for the list as JSON. Empty means none.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: List what a mirror must hold
  fpga.hybrid.artifacts:
    title: Cluster lab
    roles: [containerd, kubeadm]
    systems:
      Debian 12: {distribution: Debian, distribution_release: bookworm, distribution_major_version: "12"}
    dest: artifacts.json
"""

RETURN = r"""
artifacts:
  description: All of them.
  returned: success
  type: list
  elements: dict
unresolved:
  description: What could not be looked up, with the reason.
  returned: O(resolve=true)
  type: list
  elements: str
"""
