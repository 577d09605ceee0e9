#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: What a host is like before it becomes a node
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Tells whether a host is a container, and what keeps its time. Changes nothing. Whether its clock is right is M(fpga.hybrid.host_preflight)'s to judge.
  - Gives C(ansible_facts.distribution) and C(distribution_release), as the setup module does, so that roles need not gather facts.
extends_documentation_fragment: [fpga.hybrid.attributes.read_only]
attributes:
  platform:
    support: full
    description: Works on Linux with systemd.
    platforms: posix
"""

EXAMPLES = r"""
- name: Look at the host
  fpga.hybrid.host_info:
  register: host
"""

RETURN = r"""
ansible_facts:
  description: C(distribution) and C(distribution_release).
  returned: success
  type: dict
  sample: {distribution: Debian, distribution_release: bookworm}
container:
  description: What kind of container the host is, null for a machine.
  returned: success
  type: str
time_service:
  description:
    - The service that keeps the time, null if there is none. C(ours) says whether this collection installed it.
    - C(configured) says whether it is systemd-timesyncd with time servers that this collection has given it.
  returned: success
  type: dict
  sample: {unit: chrony.service, package: chrony, active: true, enabled: true, ours: false, configured: false}
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _host
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record, RecordError

#: As role host writes it.
TIMESYNCD_CONF = "/etc/systemd/timesyncd.conf.d/fpga-hybrid.conf"


def container(module: AnsibleModule) -> str | None:
    status, out, _err = module.run_command(["systemd-detect-virt", "--container"])
    return out.strip() if status == 0 else None


def read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def find_time_service(module: AnsibleModule) -> _host.TimeService | None:
    if not os.path.isdir("/run/systemd/system"):  # an image that is being built
        return None
    show = ["systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState", *_host.TIME_UNITS]
    return _host.time_service(_host.parse_units(module.run_command(show)[1]))


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    service = find_time_service(module)
    try:
        packages = Record.load().get("apt", "host", {}).get("packages", {})
    except RecordError as error:
        module.fail_json(msg=str(error))
    time_service = None
    if service:
        installed = packages.get(service.package)
        ours = installed is not None and installed["was"] is None
        configured = service.unit == "systemd-timesyncd.service" and os.path.exists(TIMESYNCD_CONF)
        state = {"active": service.active, "enabled": service.enabled, "ours": ours, "configured": configured}
        time_service = {"unit": service.unit, "package": service.package, **state}
    release = _host.distribution(_host.parse_os_release(read("/etc/os-release")))
    module.exit_json(changed=False, ansible_facts=release, container=container(module), time_service=time_service)


if __name__ == "__main__":
    main()
