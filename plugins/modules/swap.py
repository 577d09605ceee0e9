#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: swap
short_description: Swap off for good, or kept for the kubelet's NodeSwap
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Turns swap off, now and at every start. Entries of fstab are commented with a mark of ours, C(*.swap) units, zram-generator's devices and the services
    zramswap, zram-config and dphys-swapfile are masked.
  - In a container nothing is done, because its swap is that of the machine below. RV(note) then says so.
attributes:
  check_mode:
    support: full
    description: Predicts without touching anything.
  diff_mode:
    support: full
    description: Shows fstab, units and swap spaces before and after.
  platform:
    support: full
    description: Works on Linux with systemd.
    platforms: posix
options:
  policy:
    description:
      - V(off) turns swap off.
      - V(node_swap) leaves it, gives back what V(off) had turned off, and refuses a host on which the kubelet could not bound it.
      - V(ignore) leaves everything as it is.
      - V(restore) gives back what V(off) had turned off.
    type: str
    choices: ["off", node_swap, ignore, restore]
    default: "off"
  apply:
    description: Turn swap off that is in use. Without it only what brings swap at a start is turned off, as for an image, in which the machine's swap is seen.
    type: bool
    default: true
  root:
    description: Another folder than C(/), for tests and images. Then no program is run.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: Turn swap off
  fpga.hybrid.swap:
    policy: "off"
"""

RETURN = r"""
changes:
  description: A sentence for each thing that was changed, or would be.
  returned: success
  type: list
  elements: str
  sample: ["/etc/fstab: /dev/sda2 commented out", "/dev/sda2 turned off"]
note:
  description: Why nothing is done, if that needs a word.
  returned: success
  type: str
swaps:
  description: The swap spaces that are in use afterwards.
  returned: success
  type: list
  elements: str
"""

import glob
import os
import stat
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _files, _swap
from ansible_collections.fpga.hybrid.plugins.module_utils._record import PATH, Record, RecordError
from ansible_collections.fpga.hybrid.plugins.module_utils._swap import SwapError, Unit

FSTAB = "/etc/fstab"
MASKS = "/etc/systemd/system"
ASIDE = ".fpga-hybrid-off"


class Host:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.root = module.params["root"].rstrip("/")
        self.record = Record.load(self.root + PATH)
        self.changes: list[str] = []
        self.before: list[str] = []
        self.after: list[str] = []
        self.reload = False

    def read(self, path: str) -> str:
        try:
            with open(self.root + path, encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except (FileNotFoundError, IsADirectoryError):
            return ""

    def run(self, *command: str) -> tuple[int, str]:
        if self.root:
            return 0, ""
        status, out, err = self.module.run_command(list(command))
        return status, (err or out).strip()

    def change(self, sentence: str, before: str, after: str) -> bool:
        """Note a change; says whether it is to be made."""
        self.changes.append(sentence)
        self.before.append(before)
        self.after.append(after)
        return not self.module.check_mode

    def write_fstab(self, text: str) -> None:
        path = os.path.realpath(self.root + FSTAB)
        mode = stat.S_IMODE(os.stat(path).st_mode)
        _files.write(path, _files.File(text, mode))
        self.reload = True

    def swaps(self) -> list[_swap.Swap]:
        return list(_swap.parse_proc_swaps(self.read("/proc/swaps")))

    def units(self) -> list[Unit]:
        found = []
        for folder in _swap.UNIT_FOLDERS:
            paths = [path for pattern in ("*.swap", "systemd-zram-setup@*.service") for path in glob.glob(f"{self.root}{folder}/{pattern}")]
            paths += [f"{self.root}{folder}/{name}" for name in _swap.SERVICES]
            for path in paths:
                if os.path.lexists(path):
                    masked = os.path.islink(path) and os.readlink(path) == "/dev/null"
                    source = None if masked else self.source_of(path[len(self.root) :])
                    found.append(Unit(os.path.basename(path), folder, masked, source))
        return found

    def source_of(self, path: str) -> str | None:
        return next((line.split("=", 1)[1].strip() for line in self.read(path).splitlines() if line.startswith("SourcePath=")), None)

    # Off

    def off(self) -> None:
        swaps = self.swaps() if self.module.params["apply"] else []
        _swap.refuse_swapoff(swaps, _swap.parse_available(self.read("/proc/meminfo")))
        self.fstab_off()
        self.mask(_swap.units_to_mask(self.units(), [self.read(path) for path in _swap.ZRAM_CONFIGS]))
        self.daemon_reload()
        still_on = {swap.path for swap in self.swaps()}  # a service that makes swap turns it off as it is stopped
        for swap in swaps:
            if self.change(f"{swap.path} turned off ({swap.size // 1024} MiB)", f"{swap.path}: on\n", f"{swap.path}: off\n"):
                self.record.note("swap", f"on {swap.path}", True)
                self.record.save()
                status, says = self.run("swapoff", swap.path) if swap.path in still_on else (0, "")
                if status:
                    raise SwapError(
                        f"{swap.path} cannot be turned off: {says}. It is kept off from the next start on. "
                        "End what uses the memory, or reboot, then run again; or keep swap with swap_policy: node_swap."
                    )

    def fstab_off(self) -> None:
        text = self.read(FSTAB)
        new = _swap.fstab_off(text)
        if new == text:
            return
        for line in text.splitlines():
            if _swap.is_swap_entry(line):
                self.changes.append(f"{FSTAB}: {line.split()[0]} commented out")
        self.before.append(text)
        self.after.append(new)
        if not self.module.check_mode:
            self.write_fstab(new)

    def mask(self, names: t.Sequence[str]) -> None:
        for name in names:
            if not self.change(f"{name} masked", f"{name}: not masked\n", f"{name}: masked\n"):
                continue
            path = f"{self.root}{MASKS}/{name}"
            aside = os.path.lexists(path)  # the administrator's own unit file stands where the mask has to be
            self.record.note("swap", f"masked {name}", {"aside": aside})
            self.record.save()
            if self.module.params["apply"] and (name in _swap.SERVICES or name.startswith("systemd-zram-setup@")):
                self.run("systemctl", "stop", name)
            if aside:
                os.replace(path, path + ASIDE)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink("/dev/null", path)
            self.reload = True

    def daemon_reload(self) -> None:
        if self.reload and os.path.isdir("/run/systemd/system"):
            self.run("systemctl", "daemon-reload")
        self.reload = False

    # Back

    def restore(self) -> None:
        text = self.read(FSTAB)
        new = _swap.fstab_on(text)
        if new != text and self.change(f"{FSTAB}: swap entries given back", text, new):
            self.write_fstab(new)
        ours = self.record.section("swap")
        services = []
        for key, found in ours.items():
            kind, name = key.split(" ", 1)
            path = f"{self.root}{MASKS}/{name}"
            if kind != "masked" or not os.path.islink(path) or os.readlink(path) != "/dev/null":
                continue
            if self.change(f"{name} no longer masked", f"{name}: masked\n", f"{name}: not masked\n"):
                os.unlink(path)
                if found["aside"]:
                    os.replace(path + ASIDE, path)
                services += [name] if name in _swap.SERVICES or name.startswith("systemd-zram-setup@") else []
                self.reload = True
        self.daemon_reload()
        for service in services:
            self.run("systemctl", "start", service)
        self.turn_on([key.split(" ", 1)[1] for key in ours if key.startswith("on ")])
        if not self.module.check_mode:
            for key in ours:
                self.record.forget("swap", key)
            self.record.save()

    def turn_on(self, paths: t.Sequence[str]) -> None:
        now = {swap.path for swap in self.swaps()}
        for path in sorted(set(paths) - now):
            if not self.change(f"{path} turned on again", f"{path}: off\n", f"{path}: on\n"):
                continue
            status, says = self.run("swapon", path)
            if status:
                # zram's device, say, is made anew at the next start.
                self.changes[-1] = f"{path} is turned on at the next start ({says})"

    def node_swap(self) -> None:
        if self.module.params["apply"] and self.module.params["root"] == "/" and not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            raise SwapError(
                "NodeSwap needs cgroup v2, and this host runs with cgroup v1. Boot with systemd.unified_cgroup_hierarchy=1, or set swap_policy: off."
            )
        self.restore()


def detected(module: AnsibleModule) -> str | None:
    status, out, _err = module.run_command(["systemd-detect-virt", "--container"])
    return out.strip() if status == 0 else None


def container(module: AnsibleModule) -> str | None:
    """What kind of container this host is. An image is none, wherever it is made."""
    return detected(module) if module.params["root"] == "/" and module.params["apply"] else None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "policy": {"type": "str", "choices": ["off", "node_swap", "ignore", "restore"], "default": "off"},
            "apply": {"type": "bool", "default": True},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    policy, note = module.params["policy"], ""
    kind = container(module)
    try:
        host = Host(module)
        if kind:
            shown = ", ".join(swap.path for swap in host.swaps())
            note = f"This host is a container ({kind}): its swap is that of the machine below, which is left as it is ({shown or 'none in use'})."
        elif policy == "off":
            host.off()
        elif policy == "restore":
            host.restore()
        elif policy == "node_swap":
            host.node_swap()
    except (SwapError, RecordError) as error:
        module.fail_json(msg=f"{os.uname().nodename}: {error}")
    module.exit_json(
        changed=bool(host.changes),
        changes=host.changes,
        note=note,
        swaps=[swap.path for swap in host.swaps()],
        diff={"before": "".join(host.before), "after": "".join(host.after)},
    )


if __name__ == "__main__":
    main()
