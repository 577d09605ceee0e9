# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules say of themselves in the same words."""

from __future__ import annotations


class ModuleDocFragment:
    """read_only: of those that look, and change nothing. aws: of those that talk to AWS."""

    READ_ONLY = r"""
attributes:
  check_mode:
    support: full
    description: Changes nothing.
  diff_mode:
    support: none
    description: Changes nothing.
"""

    AWS = r"""
attributes:
  action_group:
    description: Use C(group/fpga.hybrid.aws) in C(module_defaults) to set defaults for this module and those of amazon.aws.
    support: full
    membership: [fpga.hybrid.aws]
"""
