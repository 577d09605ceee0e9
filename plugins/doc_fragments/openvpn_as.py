# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the modules for OpenVPN Access Server share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of C(_openvpn_as.ARGUMENTS)."""

    DOCUMENTATION = r"""
options:
  wait:
    description: How many seconds to wait at most for Access Server to be up.
    type: int
    default: 60
  program:
    description: Where C(sacli) is.
    type: path
    default: /usr/local/openvpn_as/scripts/sacli
"""
