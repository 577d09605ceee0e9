# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the modules share which fetch from a mirror."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of C(_fetch.MIRROR), beside url."""

    DOCUMENTATION = r"""
options:
  ca:
    description: Certificate of the authority to trust for O(url), as PEM text.
    type: str
  username:
    description: User name, if O(url) wants a login.
    type: str
  password:
    description: Password, if O(url) wants a login.
    type: str
  proxy:
    description: How O(url) is reached. Without it, as the environment says.
    type: dict
    suboptions:
      http:
        description: Proxy for C(http), as a URL.
        type: str
      https:
        description: Proxy for C(https), as a URL.
        type: str
      no_proxy:
        description: Names, domains, addresses and networks that are reached directly.
        type: list
        elements: str
        default: []
"""
