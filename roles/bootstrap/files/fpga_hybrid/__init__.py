# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs of this collection share on the hosts where they run: Python's standard library and nothing else.

Installed to /opt/fpga-hybrid/lib, beside those of the collection's own utilities (plugins/module_utils) that it uses.
"""
