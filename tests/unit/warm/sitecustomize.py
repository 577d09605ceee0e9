# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads Ansible's own part of every module from its compiled files, where a module would compile it anew out of its archive: half of what a task costs here.

Of our collection nothing is loaded: that still comes from the archive.
"""

import contextlib

with contextlib.suppress(ImportError):  # a Python of the machine that knows no Ansible
    import ansible.module_utils.basic  # noqa: F401
