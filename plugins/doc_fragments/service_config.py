# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the modules for container engines share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of C(_service_config.service_argument_spec)."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Can run in check mode and return what would change.
    support: full
  diff_mode:
    description: Shows the changes, secrets hidden.
    support: full
options:
  state:
    description:
      - V(present) sets our keys and files.
      - V(absent) takes out exactly those; what the record says was there before comes back.
    type: str
    choices: [present, absent]
    default: present
  service_overrides:
    description: Lines of the unit's C([Service]) section, as a dictionary; a list gives several lines of one key.
    type: dict
    default: {}
  proxy:
    description: Proxies for pulling images.
    type: dict
    default: {}
    suboptions:
      http:
        description: For http URLs.
        type: str
      https:
        description: For https URLs.
        type: str
  no_proxy:
    description: Names and networks that are reached directly. Used only with O(proxy).
    type: list
    elements: str
    default: []
  remove_data:
    description:
      - With O(state=absent), also remove what the service has stored, where there was nothing before us.
      - Meant for after the package's removal. Does nothing while the program is there, except telling in check mode what would go.
    type: bool
    default: false
  allow_disruption:
    description: Go on although containers of others run and the service has to be restarted.
    type: bool
    default: false
"""
