#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: aws_fpga_tools
short_description: AWS' FPGA management tools, built from their SDK
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Fetches the SDK's sources, compares their checksum, builds the tools (C(fpga-load-local-image) and so on) and puts them into C(/usr/local).
  - No kernel module, no headers, and none of the SDK's set-up script, which upgrades all packages of the host.
  - Tools that somebody else installed and that run are left as they are, as those of an image of AWS'.
  - Needs bash, make and a C compiler where it has to build.
attributes:
  check_mode:
    support: full
    description: Predicts, and fetches nothing.
  diff_mode:
    support: full
    description: Shows the versions.
extends_documentation_fragment:
  - fpga.hybrid.mirror
options:
  state:
    description: V(absent) takes out what was built.
    type: str
    choices: [present, absent]
    default: present
  version:
    description: The SDK's release, for messages and the record.
    type: str
    default: ""
  url:
    description: Where its sources are, as a tar archive.
    type: str
    default: ""
  sha256:
    description: The archive's checksum. Required with O(state=present).
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Build the tools
  fpga.hybrid.aws_fpga_tools:
    version: 2.3.2
    url: https://github.com/aws/aws-fpga/archive/refs/tags/v2.3.2.tar.gz
    sha256: "{{ aws_fpga_sha256 }}"
"""

RETURN = r"""
why:
  description: Why they were, or would be, built; empty if they were not.
  returned: success
  type: str
adopted:
  description: Version of tools of somebody else that were left as they are, else empty.
  returned: success
  type: str
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _aws_fpga as aws
from ansible_collections.fpga.hybrid.plugins.module_utils._fetch import MIRROR, FetchError, fetch
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record, RecordError


def runner(module: AnsibleModule) -> aws.Run:
    def run(argv: Sequence[str], cwd: str | None, environment: Mapping[str, str]) -> tuple[int, str, str]:
        program = argv[0] if os.sep in argv[0] else module.get_bin_path(argv[0])
        if program is None:
            return 127, "", f"{argv[0]}: not found"
        status, out, err = module.run_command([program, *argv[1:]], cwd=cwd, environ_update=dict(environment))
        return int(status), str(out), str(err)

    return run


def make(module: AnsibleModule, record: Record, run: aws.Run, places: aws.Places) -> None:
    params = module.params
    with tempfile.TemporaryDirectory(prefix="aws-fpga-") as folder:
        archive = Path(folder) / "sources.tar"
        fetch(params, archive, params["sha256"])
        sources = aws.unpack(archive, params["url"], Path(folder) / "sources")
        aws.build(sources, run)
        files = aws.install(sources, places, run)
    record.put(aws.SECTION, aws.KEY, {"version": params["version"], "sha256": params["sha256"], "files": files})
    record.save()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "version": {"type": "str", "default": ""},
            "url": {"type": "str", "default": ""},
            "sha256": {"type": "str", "default": ""},
            **MIRROR,
        },
        supports_check_mode=True,
    )
    params, run, places = module.params, runner(module), aws.Places()
    why, adopted = "", ""
    try:
        record = Record.load()
        kept = record.get(aws.SECTION, aws.KEY)
        before = kept["version"] if kept else aws.version(run, aws.PROGRAM)
        if params["state"] == "absent":
            why = "taken out" if kept else ""
            if kept and not module.check_mode:
                aws.remove(kept, places, run)
                record.forget(aws.SECTION, aws.KEY)
                record.save()
        else:
            adopted = aws.foreign(kept, run)
            if not adopted:
                aws.check_sha256(params["sha256"], params["url"])
                why = aws.drift(kept, params["sha256"], places)
            if why and not module.check_mode:
                make(module, record, run, places)
    except (RecordError, FetchError, aws.ToolsError, OSError) as error:
        module.fail_json(msg=str(error))
    after = (params["version"] if params["state"] == "present" else "") if why else before
    diff = {"before": f"AWS' tools {before or 'absent'}\n", "after": f"AWS' tools {after or 'absent'}\n"}
    module.exit_json(changed=bool(why), why=why, adopted=adopted, diff=diff)


if __name__ == "__main__":
    main()
