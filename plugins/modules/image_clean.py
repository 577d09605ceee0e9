#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_clean
short_description: Takes out of an image what no image may hold
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Removes host keys, logs, package lists, histories, keys of whoever built it, cloud-init's memory and the state of a node, and leaves an empty machine id,
    so that every instance begins as the first one did. M(fpga.hybrid.image_check) refuses an image that holds any of them.
  - Secrets in other files are not removed, because only you can know what they are for; M(fpga.hybrid.image_check) finds them.
  - Never for a host that is in use. A root of which systemd runs is refused, unless it is the instance that O(instance_id) names, and so is one in which
    anything to be taken out is on another file system or mount than the root, because that is not the image's own.
attributes:
  check_mode:
    support: full
    description: Predicts without touching anything.
  diff_mode:
    support: full
    description: Lists what is there before, and what is left of it (empty files), without contents.
  platform:
    support: full
    description: Works on Debian and Ubuntu.
    platforms: debian
options:
  instance_id:
    description:
      - The EC2 instance that this is, started for nothing but to make an image of it. Any other machine is refused, by what cloud-init has noted there.
      - What is on other file systems than the root is left alone then, and so is the C(resolv.conf) that it needs.
    type: str
    default: ""
    version_added: 0.9.0
  root:
    description: Another folder than C(/), for tests.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: Take out what no image may hold
  fpga.hybrid.image_clean:
"""

RETURN = r"""
removed:
  description: What was taken out or emptied, or would be, by what it is; and an empty machine id that was made.
  returned: success
  type: dict
  sample: {"ssh host keys": [/etc/ssh/ssh_host_ed25519_key, /etc/ssh/ssh_host_ed25519_key.pub]}
"""

import glob
import os
import shutil

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _image


def take_out(path: str, *, emptied: bool) -> None:
    if emptied:
        with open(path, "w", encoding="ascii"):
            return
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def main() -> None:
    module = AnsibleModule(argument_spec={"instance_id": {"type": "str", "default": ""}, "root": {"type": "path", "default": "/"}}, supports_check_mode=True)
    root, instance = module.params["root"].rstrip("/"), module.params["instance_id"]
    if instance and instance != _image.instance_here(root):
        module.fail_json(
            msg=f"{_image.INSTANCE_ID}: found {_image.instance_here(root) or 'none'}, expected {instance}, the instance that was started for this image: "
            "nothing was removed. Run playbook image again, which starts one."
        )
    if not instance and os.path.isdir(f"{root}/run/systemd/system"):
        msg = "This is a running system, not an image: nothing was removed. Unpack the image into a folder and run playbook image on that."
        module.fail_json(msg=msg)
    found = _image.unwanted(root, _image.UNWANTED_RUNNING if instance else _image.UNWANTED)
    foreign = _image.elsewhere(root, (path for _rule, paths in found for path in paths))
    if instance:
        found = [(rule, left) for rule, paths in found if (left := [path for path in paths if path not in foreign])]
    elif foreign:
        module.fail_json(
            msg=f"{_image.listed(foreign)}: on another file system or mount than the image's root, so that it is not the image's own; nothing was removed. "
            "Unmount it (umount), then run playbook image again."
        )
    # systemd makes one at boot only where the file is there, empty; without it the boot is the first one, which sets all units back to their presets.
    missing = not os.path.lexists(root + _image.MACHINE_ID)
    if not module.check_mode:
        try:
            for rule, paths in found:
                for path in paths:
                    take_out(root + path, emptied=rule.emptied)
            if missing:
                take_out(root + _image.MACHINE_ID, emptied=True)
            if found:
                # What installs packages later is to see that the lists are not of today.
                for path in (f"{root}/var/lib/apt/lists", *glob.glob(f"{glob.escape(root)}/var/lib/fpga-hybrid/apt/*.updated")):
                    if os.path.exists(path):
                        os.utime(path, (0, 0))
        except OSError as error:
            module.fail_json(msg=f"{error}. Mend that, then run playbook image again; what is left is taken out then.")
    removed = {rule.what: paths for rule, paths in found} | ({"no machine id": [_image.MACHINE_ID]} if missing else {})
    before = [f"{path}: {rule.what}\n" for rule, paths in found for path in paths]
    after = [f"{path}: empty\n" for rule, paths in found for path in paths if rule.emptied] + ([f"{_image.MACHINE_ID}: empty\n"] if missing else [])
    module.exit_json(changed=bool(removed), removed=removed, diff={"before": "".join(before), "after": "".join(after)})


if __name__ == "__main__":
    main()
