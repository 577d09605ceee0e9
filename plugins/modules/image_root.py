#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_root
short_description: Refuses a folder that is in use, or has something mounted below it, as an image's root
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Runs on the machine on which an image is made, before anything in it is touched. What is mounted below the folder is part of that machine, and
    M(fpga.hybrid.image_clean) would empty it; a folder of which a system runs is that machine itself. Changes nothing.
  - The folder itself may be a mount, as that of an image's partition.
extends_documentation_fragment: [fpga.hybrid.attributes.read_only]
attributes:
  platform:
    support: full
    description: Works on Linux.
    platforms: posix
options:
  path:
    description: The folder.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Refuse a folder that is in use
  fpga.hybrid.image_root:
    path: /srv/image
"""

RETURN = r"""
path:
  description: The folder, without links.
  returned: success
  type: str
  sample: /srv/image
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _image


def main() -> None:
    module = AnsibleModule(argument_spec={"path": {"type": "path", "required": True}}, supports_check_mode=True)
    path = os.path.realpath(module.params["path"])
    try:
        running, mounts = _image.running(path), _image.mounts_below(path)
    except OSError as error:
        module.fail_json(msg=f"image_root: {error}")
    if running:
        module.fail_json(
            msg=f"image_root: found {path}, which is a running system ({running}); expected an image of which nothing runs. "
            "Unpack or mount an image elsewhere. Nothing was touched."
        )
    if mounts:
        module.fail_json(
            msg=f"image_root: found {_image.listed(mounts)} mounted below {path}; expected nothing, because what is mounted there would be changed, too, "
            f"and emptied. Run: umount {' '.join(reversed(mounts))}. Nothing was touched."
        )
    module.exit_json(changed=False, path=path)


if __name__ == "__main__":
    main()
