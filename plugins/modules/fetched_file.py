#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fetched_file
short_description: A file from a mirror, with its checksum
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - As M(ansible.builtin.get_url), for a mirror that has an authority of its own, which that module cannot be given.
  - A file that is there with the wanted checksum costs no network access.
attributes:
  check_mode:
    support: full
    description: Predicts, and fetches nothing.
  diff_mode:
    support: full
    description: Shows the checksums.
extends_documentation_fragment:
  - fpga.hybrid.mirror
options:
  url:
    description: Where the file is.
    type: str
    required: true
  dest:
    description: Where it is to be. Its folder must exist.
    type: path
    required: true
  sha256:
    description: Its checksum.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Fetch XRT
  fpga.hybrid.fetched_file:
    url: https://mirror.example.org/xrt/xrt_202320.2.16.204_22.04-amd64-xrt.deb
    dest: /var/lib/fpga-hybrid/xrt/xrt.deb
    sha256: 144873c762a5218a6e9d79934818edc80b5b95bbb3e6d92f9eddaaa76d60521a
    ca: "{{ lookup('ansible.builtin.file', 'mirror-ca.crt') }}"
"""

RETURN = r"""
dest:
  description: The file.
  returned: success
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._fetch import MIRROR, FetchError, fetch, sha256_of


def main() -> None:
    required = {"type": "str", "required": True}
    module = AnsibleModule(argument_spec={"url": required, "sha256": required, "dest": {"type": "path", "required": True}, **MIRROR}, supports_check_mode=True)
    params = module.params
    dest = Path(params["dest"])
    try:
        before = sha256_of(dest)
        changed = before != params["sha256"]
        if changed and not module.check_mode:
            fetch(params, dest, params["sha256"])
    except (FetchError, OSError) as error:
        module.fail_json(msg=str(error))
    diff = {"before": f"sha256 {before or '(absent)'}\n", "after": f"sha256 {params['sha256']}\n", "before_header": str(dest), "after_header": str(dest)}
    module.exit_json(changed=changed, dest=str(dest), diff=diff)


if __name__ == "__main__":
    main()
