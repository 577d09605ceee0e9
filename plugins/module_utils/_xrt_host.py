# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a host for C(_xrt.py), and builds and loads XRT's driver there."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _xrt
from ansible_collections.fpga.hybrid.plugins.module_utils._boards import alveo_cards
from ansible_collections.fpga.hybrid.plugins.module_utils._host import parse_os_release

#: run(argv) -> (exit code, stdout, stderr); 127 when there is no such program.
Run = Callable[[Sequence[str]], tuple[int, str, str]]

TOOLS = "/opt/xilinx/xrt/bin"
#: EFI's variable, four bytes of attributes before its value (Documentation/filesystems/efivarfs.rst).
SECURE_BOOT = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
FLASHED = "var/lib/fpga-hybrid/xrt-flashed.json"


def host_of(module: Any) -> Host:
    """The host that a module runs on, by its options host, sysfs_root and dev_root."""

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        # dkms and modinfo stand in sbin, which an ordinary PATH lacks
        if os.sep not in argv[0] and module.get_bin_path(argv[0]) is None:
            return 127, "", f"{argv[0]}: not found"
        status, out, err = module.run_command([module.get_bin_path(argv[0]) if os.sep not in argv[0] else argv[0], *argv[1:]])
        return int(status), str(out), str(err)

    return Host(module.params["host"], run, sysfs=Path(module.params["sysfs_root"]), dev=Path(module.params["dev_root"]))


class FlashError(Exception):
    """xbmgmt did not flash; the text says what it said."""


@dataclass(frozen=True)
class Host:
    """One host. root, sysfs, dev are other folders than the kernel's only in tests and in the lab."""

    name: str
    run: Run
    root: Path = Path("/")
    sysfs: Path = Path("/sys")
    dev: Path = Path("/dev")

    def look(self, ours: bool) -> _xrt.Found:
        kernel = os.uname().release
        builds = _xrt.parse_dkms_status(self._said("dkms", "status"))
        name, package = self.package()
        dkms = self.dkms(name)
        tool = self.tool()
        status, examined, complaint = self.run([tool, "examine"]) if tool else (0, "", "")
        return _xrt.Found(
            host=self.name,
            system=self.system(),
            kernel=kernel,
            cards=alveo_cards(self.sysfs, self.dev),
            loaded=self._read(self.sysfs / "module/xocl/version").partition(",")[0],
            builds=builds,
            modinfo={module: _xrt.parse_modinfo(self._said("modinfo", module)) for module in _xrt.MODULES} if builds else {},
            tool=tool,
            examined=_xrt.parse_examine(examined),
            examine_error=(complaint or examined).strip()[-300:] if status else "",
            package=package,
            package_name=name,
            dkms=dkms,
            ours=ours,
            next_kernel=self.next_kernel(),
            headers=(self.root / "lib/modules" / kernel / "build").exists(),
            users=int(self._read(self.sysfs / "module/xocl/refcnt") or 0),
            secure_boot=self.secure_boot(),
            signing_key=next((key for key in _xrt.SIGNING_KEYS if (self.root / key.lstrip("/")).exists()), ""),
            build_log=self.build_log([build.version for build in builds if build.module == dkms], dkms),
        )

    def system(self) -> str:
        """As "ubuntu 22.04", by which the table goes."""
        release = parse_os_release(self._read(self.root / "etc/os-release"))
        return f"{release.get('ID', 'unknown')} {release.get('VERSION_ID', '')}".strip()

    def tool(self) -> str:
        """xrt-smi, from 2024.2 on, else xbutil."""
        for name in ("xrt-smi", "xbutil"):
            for folder in (self.root / TOOLS.lstrip("/"), None):
                path = shutil.which(name, path=str(folder) if folder else None)
                if path:
                    return path
        return ""

    def package(self) -> tuple[str, str]:
        """(name, version) of the installed package with the driver; version "" for none."""
        for name in _xrt.PACKAGES:
            status, said, _error = self.run(["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", name])
            state, _space, version = said.strip().partition(" ")
            if status == 0 and state == "installed":
                return name, version
        return _xrt.PACKAGES[0], ""

    def dkms(self, package: str) -> str:
        """The driver's name in dkms. Of a distribution's package its sources tell, which lie in /usr/src/NAME-VERSION."""
        files = self._said("dpkg-query", "--listfiles", package) if package != _xrt.PACKAGES[0] else ""
        found = re.search(r"^/usr/src/(.+)-[^/-]+/dkms\.conf$", files, re.MULTILINE)
        return found[1] if found else _xrt.DKMS

    def kernel_packages(self) -> list[str]:
        """Installed packages by which this kernel stays or goes: its own, its headers, and those that always bring the newest."""
        said = self._said("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", "linux-*")
        installed = [name for state, _space, name in (line.partition(" ") for line in said.splitlines()) if state == "installed"]
        return sorted(name for name in installed if name == f"linux-image-{os.uname().release}" or _xrt.FOLLOWS_KERNEL.fullmatch(name))

    def next_kernel(self) -> str:
        kernels = [path.name.removeprefix("vmlinuz-") for path in (self.root / "boot").glob("vmlinuz-*")]
        setting = re.search(r"^\s*GRUB_DEFAULT=[\"']?([^\"'\n]*)", self._read(self.root / "etc/default/grub"), re.MULTILINE)
        saved = re.search(r"^saved_entry=(.*)$", self._read(self.root / "boot/grub/grubenv"), re.MULTILINE)
        return _xrt.next_kernel(kernels, setting[1].strip() if setting else "", saved[1].strip() if saved else "")

    def secure_boot(self) -> bool:
        try:
            return (self.sysfs / SECURE_BOOT).read_bytes()[4:5] == b"\x01"
        except OSError:
            return False

    def build_log(self, versions: Sequence[str], dkms: str) -> str:
        logs = sorted((self.root / "var/lib/dkms" / dkms).glob(f"{versions[-1]}/**/make.log")) if versions else []
        lines = [line for line in self._read(logs[-1]).splitlines() if re.search(r"\berror\b", line, re.IGNORECASE)] if logs else []
        return lines[0].strip()[:200] if lines else ""

    # --- what changes something

    def build(self, found: _xrt.Found, version: str) -> None:
        """Whether it went well is for judge to say; build fails where it is built already."""
        sources = found.builds_of(version)[0]
        for verb in ("build", "install"):
            self.run(["dkms", verb, "-m", sources.module, "-v", sources.version, "-k", os.uname().release])

    def load(self) -> None:
        for module in reversed(_xrt.MODULES):
            self.run(["modprobe", module])

    # --- flashing

    def pending(self) -> dict[str, str]:
        """Serial -> stage, of cards that were flashed and have not shown what they hold since. A record, because nothing on the bus tells."""
        try:
            return {str(serial): str(stage) for serial, stage in json.loads(self._read(self.root / FLASHED) or "{}").items()}
        except (ValueError, AttributeError):
            return {}

    def remember(self, pending: Mapping[str, str]) -> None:
        path = self.root / FLASHED
        if not pending:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(dict(pending), indent=1, sort_keys=True), encoding="utf-8")
        unfinished.replace(path)

    def flash(self, step: _xrt.Flash) -> None:
        program = shutil.which("xbmgmt", path=str(self.root / TOOLS.lstrip("/"))) or "xbmgmt"
        status, said, error = self.run([program, *step.arguments])
        if status:
            what = f"{self.name}: {step.card.board} {step.card.slot} (serial {step.card.serial})"
            raise FlashError(f"{what}: xbmgmt {' '.join(step.arguments)} fails with {status}: {(error or said).strip()[-400:]}")

    # ---

    def _said(self, *command: str) -> str:
        status, said, _error = self.run(command)
        return said if status == 0 else ""

    @staticmethod
    def _read(path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""
