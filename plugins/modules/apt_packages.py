#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_packages
short_description: Packages of one owner with their source, key, pins and holds
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Brings a set of packages, and the repository that they come from, to the wanted state in one step. What drifted is mended, and only that.
  - What was there before the first run is written into C(/etc/fpga-hybrid/record.json), so that O(state=absent) removes what this module installed
    and nothing else.
  - A host that is as it should be costs one C(dpkg-query) and no network access.
  - Never removes or downgrades a package to install another one, never asks, keeps configuration files that were edited.
  - Brings an installation to its end that was interrupted (C(dpkg --configure -a)).
requirements:
  - Debian 12 or later, or Ubuntu 22.04 or later, on the host. No Python bindings of apt are needed.
attributes:
  check_mode:
    support: full
    description: Predicts without network access. On a host that does not know the source yet, the version told is the requested one.
  diff_mode:
    support: full
    description: Shows files and packages before and after; credentials are left out.
  platform:
    support: full
    description: Works with apt.
    platforms: debian
options:
  name:
    description:
      - The owner of these packages, in the record and in the names of the files, for example C(/etc/apt/sources.list.d/fpga-hybrid-NAME.sources).
    type: str
    required: true
  source:
    description:
      - The repository. If it is left out, the host's own sources are used.
      - If a file of somebody else on the host names the same repository and suite already, that one is used and nothing is written.
    type: dict
    suboptions:
      url:
        description: Address of the repository, C(http) or C(https).
        type: str
        required: true
      suite:
        description: The suite, for example V(bookworm); for a flat repository a path that ends with a slash, for example V(/).
        type: str
        required: true
      components:
        description: Components; none for a flat repository.
        type: list
        elements: str
        default: []
      key:
        description: The public key to trust for this repository, as armored text. Excludes O(source.key_url).
        type: str
      key_url:
        description:
          - Where the key is fetched from when the host has none yet, with the CA and the credentials of the repository.
          - The key is then pinned. Another one on the server is refused unless O(accept_new_key=true).
          - Without O(source.key) and O(source.key_url) the keys that the host trusts for everything are used.
        type: str
      ca:
        description: Certificate of the CA to trust for this repository alone, as PEM text.
        type: str
      username:
        description: User name, if the repository wants a login.
        type: str
      password:
        description: Password, if the repository wants a login. Written to a file in C(/etc/apt/auth.conf.d) that only root can read.
        type: str
  packages:
    description: The packages.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the package.
        type: str
        required: true
      version:
        description:
          - Version, or a pattern with C(*), for example V(2.*). It is also pinned, so that other upgrades of the host stay inside.
          - An installed version that fits is left as it is. Otherwise the newest one that fits is installed.
        type: str
      hold:
        description: Keep C(apt upgrade) from touching the package.
        type: bool
        default: false
      path:
        description: Install from this package file on the host. What the package needs comes from the host's sources.
        type: path
      sha256:
        description: The checksum that the file must have. Required with O(packages[].path).
        type: str
  state:
    description:
      - V(present) installs.
      - V(absent) removes the files, and the packages that were not there before us and that no other owner needs; gives holds back.
        O(packages) and O(source) are not needed then.
    type: str
    choices: [present, absent]
    default: present
  update_cache_valid_time:
    description: Age in seconds from which package lists are updated before something is installed.
    type: int
    default: 3600
  start_services:
    description: Whether the services of newly installed packages are started by their packages, as Debian does.
    type: bool
    default: true
  proxy:
    description:
      - How the repository of O(source) is reached; this is kept in a file.
      - During the task itself the host's own sources are reached over it, too.
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
  accept_new_key:
    description: Fetch O(source.key_url) and trust what it holds, even if another key was trusted before.
    type: bool
    default: false
  variable:
    description: The key of C(cluster_mirrors) that errors name as the place to look at, for example V(kubernetes).
    type: str
  lock_timeout:
    description: How many seconds to wait for another program that works with packages.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Install containerd from Docker's repository
  fpga.hybrid.apt_packages:
    name: containerd
    source:
      url: https://download.docker.com/linux/debian
      suite: bookworm
      components: [stable]
      key_url: https://download.docker.com/linux/debian/gpg
    packages:
      - name: containerd.io
        version: "2.*"
        hold: true
    start_services: false
    variable: docker

- name: Install from the host's own sources
  fpga.hybrid.apt_packages:
    name: openvpn
    packages:
      - name: openvpn

- name: Remove what was installed for containerd
  fpga.hybrid.apt_packages:
    name: containerd
    state: absent
"""

RETURN = r"""
packages:
  description:
    - The packages by name. RV(packages.installed) is the version on the host (in check mode the one that would be, null if that cannot be known
      without network access), RV(packages.was) the one that was there before us.
  returned: success
  type: dict
  contains:
    installed:
      description: Version.
      type: str
    was:
      description: Version before our first run, null if the package was not there.
      type: str
    held:
      description: Whether the package is held.
      type: bool
  sample:
    containerd.io:
      installed: 2.4.2-1
      was: null
      held: true
changes:
  description: A sentence for each thing that was changed, or would be.
  returned: success
  type: list
  elements: str
  sample:
    - "containerd.io held again: its hold had been removed"
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._apt import AptError, Package, Source
from ansible_collections.fpga.hybrid.plugins.module_utils._apt_host import Host, Request, Worker
from ansible_collections.fpga.hybrid.plugins.module_utils._fetch import PROXY, proxy_of
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record, RecordError


def argument_spec() -> dict[str, t.Any]:
    return {
        "name": {"type": "str", "required": True},
        "source": {
            "type": "dict",
            "options": {
                "url": {"type": "str", "required": True},
                "suite": {"type": "str", "required": True},
                "components": {"type": "list", "elements": "str", "default": []},
                "key": {"type": "str", "no_log": False},
                "key_url": {"type": "str", "no_log": False},
                "ca": {"type": "str"},
                "username": {"type": "str"},
                "password": {"type": "str", "no_log": True},
            },
        },
        "packages": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "version": {"type": "str"},
                "hold": {"type": "bool", "default": False},
                "path": {"type": "path"},
                "sha256": {"type": "str"},
            },
            "required_together": [("path", "sha256")],
        },
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "update_cache_valid_time": {"type": "int", "default": 3600},
        "start_services": {"type": "bool", "default": True},
        "proxy": PROXY,
        "accept_new_key": {"type": "bool", "default": False, "no_log": False},
        "variable": {"type": "str"},
        "lock_timeout": {"type": "int", "default": 120},
    }


def request(params: dict[str, t.Any]) -> Request:
    """The module's parameters as typed data; AptError where they contradict each other."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", params["name"]):
        raise AptError("option", f"name: {params['name']!r} is used in names of files, so it may have small letters, digits and hyphens only.")
    source = params["source"]
    # An empty text from an unset variable means the same as no text.
    fields = {key: value or None for key, value in source.items() if key not in ("url", "suite", "components")} if source else {}
    return Request(
        name=params["name"],
        source=Source(url=source["url"], suite=source["suite"], components=tuple(source["components"] or ()), **fields) if source else None,
        packages=tuple(Package(p["name"], p["version"] or None, p["hold"], p["path"], p["sha256"]) for p in params["packages"]),
        proxy=proxy_of(params["proxy"]),
        valid_time=params["update_cache_valid_time"],
        start_services=params["start_services"],
        variable=params["variable"],
        accept_new_key=params["accept_new_key"],
    )


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    host = Host(lambda command, environment: module.run_command(list(command), environ_update=dict(environment)), lock_timeout=module.params["lock_timeout"])
    try:
        wanted = request(module.params)
        if module.check_mode:
            result = act(module, host, wanted)
        else:
            with host.locked():
                result = act(module, host, wanted)
    except (AptError, RecordError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=result.changed, changes=result.changes, packages=result.packages, diff=result.diff())


def act(module: AnsibleModule, host: Host, wanted: Request) -> t.Any:
    worker = Worker(host, Record.load(), wanted, check=module.check_mode)
    return worker.present() if module.params["state"] == "present" else worker.absent()


if __name__ == "__main__":
    main()
