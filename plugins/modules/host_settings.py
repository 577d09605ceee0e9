#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_settings
short_description: Kernel modules, sysctls, names and files that a node needs
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Loads kernel modules and sets sysctls, now and for every start; keeps a block in C(/etc/hosts); writes files and folders of our own.
  - Strict reverse path filtering for all interfaces is made loose where it is found, because a node sees packets of one peer come by several ways.
  - O(state=absent) removes the files and the block, and gives back sysctls as they were found.
attributes:
  check_mode:
    support: full
    description: Predicts without touching anything.
  diff_mode:
    support: full
    description: Shows files and sysctls before and after.
  platform:
    support: full
    description: Works on Linux.
    platforms: posix
options:
  modules:
    description: Kernel modules.
    type: list
    elements: str
    default: []
  sysctl:
    description: Kernel parameters.
    type: dict
    default: {}
  hosts:
    description: Names and their addresses, for C(/etc/hosts). A line that gives one of the names another address is refused.
    type: dict
    default: {}
  folders:
    description: Folders of root's.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The folder.
        type: path
        required: true
      mode:
        description: Its mode, in octal.
        type: str
        required: true
  files:
    description: Files of root's, readable for everybody, each wholly ours.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      content:
        description: Its text. If it is empty, there must be no such file.
        type: str
        required: true
      group:
        description: A word for what is concerned, returned in RV(groups) if the file changed.
        type: str
        default: ""
      mode:
        description: Its mode, in octal.
        type: str
        default: "0644"
  apply:
    description: Load modules and set sysctls now. Without it only files are written, as for an image.
    type: bool
    default: true
  state:
    description: Whether all that is there or taken out.
    type: str
    choices: [present, absent]
    default: present
  root:
    description: Another folder than C(/), for tests.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: Prepare the kernel
  fpga.hybrid.host_settings:
    modules: [overlay, br_netfilter]
    sysctl: {net.ipv4.ip_forward: 1}
    hosts: {api.example.com: 10.0.0.10}
"""

RETURN = r"""
changes:
  description: A sentence for each thing that was changed, or would be.
  returned: success
  type: list
  elements: str
  sample: ["sysctl net.ipv4.ip_forward set to 1 (was 0)"]
groups:
  description: The words of the files that changed.
  returned: success
  type: list
  elements: str
  sample: [time]
"""

import os
import stat
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _files, _host
from ansible_collections.fpga.hybrid.plugins.module_utils._host import HostError
from ansible_collections.fpga.hybrid.plugins.module_utils._record import PATH, Record, RecordError


class Settings:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.root = module.params["root"].rstrip("/")
        self.record = Record.load(self.root + PATH)
        self.changes: list[str] = []
        self.groups: set[str] = set()
        self.before: list[str] = []
        self.after: list[str] = []

    def read(self, path: str) -> str | None:
        try:
            with open(self.root + path, encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HostError(f"{path} cannot be read ({error}).") from error

    def changed(self, sentence: str, before: str, after: str) -> bool:
        """Note a change; says whether it is to be made."""
        self.changes.append(sentence)
        self.before.append(before)
        self.after.append(after)
        return not self.module.check_mode

    def write(self, path: str, content: str, mode: int) -> None:
        try:
            _files.write(self.root + path, _files.File(content, mode))
        except OSError as error:
            raise HostError(f"{path} cannot be written ({error}).") from error

    def file(self, path: str, content: str, mode: int = 0o644, group: str = "") -> None:
        """content: empty means that there must be no such file."""
        current = self.read(path)
        if content:
            found_mode = stat.S_IMODE(os.stat(self.root + path).st_mode) if current is not None else None
            if current == content and found_mode == mode:
                return
            verb = "written" if current is None else "mended" if current != content else f"mode mended (was {found_mode:04o})"
            do = self.changed(f"{path} {verb}", show(path, current), show(path, content))
            if do:
                self.write(path, content, mode)
        else:
            if current is None:
                return
            if self.changed(f"{path} removed", show(path, current), show(path, None)):
                os.unlink(self.root + path)
        self.groups.add(group)

    def folder(self, path: str, mode: int) -> None:
        try:
            found = stat.S_IMODE(os.stat(self.root + path).st_mode)
        except FileNotFoundError:
            found = None
        if found == mode:
            return
        was = "absent" if found is None else f"mode {found:04o}"
        if self.changed(f"{path} made" if found is None else f"{path} mode mended", f"{path}: {was}\n", f"{path}: mode {mode:04o}\n"):
            os.makedirs(self.root + path, exist_ok=True)
            os.chmod(self.root + path, mode)

    def hosts(self, entries: t.Mapping[str, str]) -> None:
        _host.valid_hosts(entries)
        path, text = "/etc/hosts", self.read("/etc/hosts") or ""
        wrong = _host.contradictions(text, entries)
        if wrong:
            raise HostError(
                f"/etc/hosts of {os.uname().nodename} has {wrong[0]!r}, but this name must be {', '.join(f'{n} = {a}' for n, a in entries.items())}. "
                "Remove that line, or choose another cluster_control_plane_endpoint."
            )
        new = _host.with_block(text, [f"{address} {name}" for name, address in entries.items()])
        if new != text and self.changed(
            f"{path}: our block " + ("mended" if _host.BEGIN in text and entries else "written" if entries else "removed"), text, new
        ):
            status = os.stat(self.root + path) if os.path.exists(self.root + path) else None
            self.write(path, new, stat.S_IMODE(status.st_mode) if status else 0o644)

    def modules(self, names: t.Sequence[str]) -> None:
        release = os.uname().release
        for name in names:
            loaded = self.read("/proc/modules") or ""
            if _host.is_there(name, loaded, self.read(f"/lib/modules/{release}/modules.builtin") or "") or os.path.isdir(f"{self.root}/sys/module/{name}"):
                continue
            if self.changed(f"kernel module {name} loaded", f"module {name}: not loaded\n", f"module {name}: loaded\n"):
                status, out, err = self.module.run_command(["modprobe", "--", name])
                if status:
                    raise HostError(
                        f"{os.uname().nodename}: its kernel {release} has no module {name} ({(err or out).strip()}). "
                        "Install the full kernel (Debian: linux-image-amd64 instead of a cloud kernel; Ubuntu: linux-modules-extra), "
                        "or reboot if the kernel was just upgraded."
                    )

    def sysctl(self, values: t.Mapping[str, str]) -> None:
        for key, value in values.items():
            path = _host.sysctl_path(key)
            current = self.read(path)
            if current is not None and _host.same_value(current, value):
                continue
            was = "unset" if current is None else " ".join(current.split())
            if not self.changed(f"sysctl {key} set to {value} (was {was})", f"{key} = {was}\n", f"{key} = {value}\n"):
                continue
            if current is None:
                raise HostError(f"{os.uname().nodename}: its kernel has no {key}. The kernel module that brings it is missing: see the modules option.")
            self.record.note("sysctl", key, was)
            self.record.save()
            try:
                with open(self.root + path, "w", encoding="ascii") as file:
                    file.write(value)
            except OSError as error:
                raise HostError(f"{os.uname().nodename}: {key} cannot be set to {value} ({error}).") from error

    def present(self) -> None:
        params = self.module.params
        for folder in params["folders"]:
            self.folder(folder["path"], int(folder["mode"], 8))
        found = self.read(_host.sysctl_path(_host.RP_FILTER))
        strict = self.record.get("sysctl", _host.RP_FILTER, found.strip() if found else None)
        values = _host.wanted_sysctl(params["sysctl"], strict if params["apply"] else None)
        if params["modules"]:
            self.file(_host.MODULES_FILE, _host.render_modules(params["modules"]))
        if values:
            self.file(_host.SYSCTL_FILE, _host.render_sysctl(values))
        for file in params["files"]:
            self.file(file["path"], file["content"], int(file["mode"], 8), file["group"])
        if params["apply"]:
            self.hosts(params["hosts"])
            self.modules(params["modules"])
            self.sysctl(values)

    def absent(self) -> None:
        params = self.module.params
        ours = self.read(_host.SYSCTL_FILE) or ""
        set_by_us = dict(line.split(" = ", 1) for line in ours.splitlines() if " = " in line)
        self.file(_host.MODULES_FILE, "")
        self.file(_host.SYSCTL_FILE, "")
        for file in params["files"]:
            self.file(file["path"], "", group=file["group"])
        self.hosts({})
        for key, was in self.record.section("sysctl").items():
            current = self.read(_host.sysctl_path(key))
            # What somebody has set since is theirs.
            mine = current is not None and key in set_by_us and _host.same_value(current, set_by_us[key]) and not _host.same_value(current, was)
            if mine and self.changed(f"sysctl {key} given back as {was}", f"{key} = {set_by_us[key]}\n", f"{key} = {was}\n"):
                with open(self.root + _host.sysctl_path(key), "w", encoding="ascii") as file:
                    file.write(was)
            if not self.module.check_mode:
                self.record.forget("sysctl", key)
        if not self.module.check_mode:
            self.record.save()


def show(path: str, content: str | None) -> str:
    return f"{path}: absent\n" if content is None else f"{path}:\n{content}"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "modules": {"type": "list", "elements": "str", "default": []},
            "sysctl": {"type": "dict", "default": {}},
            "hosts": {"type": "dict", "default": {}},
            "folders": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "path", "required": True}, "mode": {"type": "str", "required": True}},
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "group": {"type": "str", "default": ""},
                    "mode": {"type": "str", "default": "0644"},
                },
            },
            "apply": {"type": "bool", "default": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    try:
        settings = Settings(module)
        if module.params["state"] == "present":
            settings.present()
        else:
            settings.absent()
    except (HostError, RecordError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(settings.changes),
        changes=settings.changes,
        groups=sorted(settings.groups - {""}),
        diff={"before": "".join(settings.before), "after": "".join(settings.after)},
    )


if __name__ == "__main__":
    main()
