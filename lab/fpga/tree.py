"""Makes FPGA boards out of files: what /sys and /dev would show of them, below any folder.

In a host of the lab this file is the program `lab-fpga`; tests import it. It needs the standard library only. The files are those that the drivers make;
sources: XRT, src/runtime_src/core/pcie/driver/linux (xocl_sysfs.c, mgmt-sysfs.c, devices.h, subdev/xmc.c); aws-fpga, sdk/userspace (fpga_common.h,
fpga_pci_sysfs.c) and its fpga_mgmt_tools/README.md; Documentation/ABI/testing/sysfs-bus-pci of the kernel.

    lab-fpga plug u250 [--slot 0000:3b:00] [--state ready] [--numa 0] [--shell NAME]
    lab-fpga unplug SLOT         it vanishes from the bus
    lab-fpga set SLOT STATE      as if its driver or its card had changed
    lab-fpga renumber            the driver numbers render nodes the other way round, as another order of probing would
    lab-fpga list
    lab-fpga restore             after a boot: /run is empty then, and a board is not

States: ready; no-driver, vfio (another driver), not-ready (xocl says so), no-node (udev made none), no-user (a management function alone),
factory (the image it was sold with); for boards of AWS: ready, no-bars.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path("/run/lab-fpga")
#: What stays over a reboot: which boards the host has.
RECORD = Path("/etc/lab-fpga.json")
XRT_VERSION = "2.16.204"
XRT_HASH = "fa4f2c2d2a8e1f3c5b7d9e0a1b2c3d4e5f607182"
FIRST_RENDER_NODE = 128
#: /dev/null's: a node that can be opened, and does nothing.
NULL_DEVICE = (1, 3)


class TreeError(Exception):
    """What was asked for does not exist; the text says what does."""


@dataclass(frozen=True)
class Model:
    """A board's ids. golden: the management function's id of a card with its factory image."""

    vendor: int
    management: int
    user: int
    golden: int = 0
    shell: str = ""
    aws: bool = False


MODELS = {
    "u200": Model(0x10EE, 0x5000, 0x5001, 0xD000, "xilinx_u200_gen3x16_xdma_base_2"),
    "u250": Model(0x10EE, 0x5004, 0x5005, 0xD004, "xilinx_u250_gen3x16_xdma_shell_4_1"),
    "u280": Model(0x10EE, 0x500C, 0x500D, 0xD00C, "xilinx_u280_gen3x16_xdma_base_1"),
    "u50": Model(0x10EE, 0x5020, 0x5021, 0xD020, "xilinx_u50_gen3x16_xdma_base_5"),
    "u55c": Model(0x10EE, 0x505C, 0x505D, 0, "xilinx_u55c_gen3x16_xdma_base_3"),
    "aws-vu9p-f1": Model(0x1D0F, 0x1041, 0x1042, aws=True),
    "aws-vu47p-f2": Model(0x1D0F, 0x9248, 0x9048, aws=True),
}
ALVEO_STATES = ("ready", "no-driver", "vfio", "not-ready", "no-node", "no-user", "factory")
AWS_STATES = ("ready", "no-bars")

#: Size of each BAR. F2: HDK, AWS_Shell_Interface_Specification; Alveo: a U250's.
AWS_BARS = {"resource0": 64 << 20, "resource2": 64 << 10, "resource4": 128 << 30, "resource4_wc": 128 << 30}
ALVEO_BARS = {"resource0": 32 << 20, "resource2": 256 << 10}


@dataclass(frozen=True)
class Plugged:
    """A board in a slot (domain:bus:device)."""

    board: str
    slot: str
    state: str = "ready"
    numa: int = 0
    shell: str = ""

    @property
    def model(self) -> Model:
        return MODELS[self.board]

    @property
    def application(self) -> str:
        """Address of the function that programs use."""
        return f"{self.slot}.0" if self.model.aws else f"{self.slot}.1"

    @property
    def management(self) -> str:
        if not self.model.aws:
            return f"{self.slot}.0"
        if self.board == "aws-vu9p-f1":  # one device further, there
            bus, device = self.slot.rsplit(":", 1)
            return f"{bus}:{int(device, 16) + 1:02x}.0"
        return f"{self.slot}.1"


def slots(board: str) -> Iterator[str]:
    """Where boards of a kind are found, one after the other; those of AWS as f2.48xlarge and f1.16xlarge have them."""
    if board == "aws-vu9p-f1":
        return (f"0000:00:{device:02x}" for device in range(0x1D, 0, -2))
    if board == "aws-vu47p-f2":
        return (f"0000:{bus:02x}:00" for bus in range(0x34, 0x100, 2))
    return (f"0000:{bus:02x}:00" for bus in range(0x3B, 0x100, 8))


def instance(address: str) -> int:
    """XRT's number of a function (XOCL_DEV_ID)."""
    domain, bus, rest = address.split(":")
    device, function = rest.split(".")
    return (int(domain, 16) << 16) + (int(bus, 16) << 8) + (int(device, 16) << 3) + int(function)


def serial(plugged: Plugged) -> str:
    """What would be printed on the card."""
    return f"LAB{plugged.slot.replace(':', '').upper()}"


class Tree:
    """sys and dev below root. real_nodes: make device nodes, which only root can; else empty files stand for them."""

    def __init__(self, root: Path = ROOT, *, real_nodes: bool = True) -> None:
        self.root, self.sys, self.dev = root, root / "sys", root / "dev"
        self.real_nodes = real_nodes
        for folder in (self.devices, self.sys / "devices", self.dev / "dri"):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def devices(self) -> Path:
        return self.sys / "bus" / "pci" / "devices"

    # --- boards

    def plug(self, plugged: Plugged) -> None:
        """Puts a board in, in place of what is in its slot."""
        self._check(plugged)
        self.unplug(plugged.slot)
        for address in (plugged.application, plugged.management):
            self.remove_function(address)
        if plugged.model.aws:
            self._plug_aws(plugged)
        else:
            self._plug_alveo(plugged)
        self._note(plugged.slot, plugged)

    def unplug(self, slot: str) -> None:
        plugged = self.plugged().get(slot)
        if plugged:
            for address in (plugged.application, plugged.management):
                self.remove_function(address)
            self._note(slot, None)

    def set_state(self, slot: str, state: str) -> None:
        plugged = self.plugged().get(slot)
        if plugged is None:
            raise TreeError(f"no board in slot {slot}; there are: {', '.join(self.plugged()) or 'none'}")
        self.plug(replace(plugged, state=state))

    def plugged(self) -> dict[str, Plugged]:
        try:
            return {slot: Plugged(**one) for slot, one in json.loads((self.root / "boards.json").read_text()).items()}
        except FileNotFoundError:
            return {}

    def free_slot(self, board: str) -> str:
        """Where a board of its kind would be found."""
        taken = self.plugged()
        return next(slot for slot in slots(board) if slot not in taken)

    def load_driver(self, loaded: bool) -> None:
        """As modprobe and rmmod of xocl: its module, and all Alveo cards bound or not."""
        for slot, plugged in self.plugged().items():
            if not plugged.model.aws and plugged.state in ("ready", "no-driver"):
                self.set_state(slot, "ready" if loaded else "no-driver")
        if loaded:
            self._load_xocl()
        else:
            shutil.rmtree(self.sys / "module" / "xocl", ignore_errors=True)

    def renumber(self) -> None:
        """All cards come back in another order, as after a boot or when a driver was loaded again."""
        boards = self.plugged()
        for slot in boards:
            self.unplug(slot)
        shutil.rmtree(self.sys / "class" / "drm", ignore_errors=True)
        for _slot, plugged in sorted(boards.items(), reverse=True):
            self.plug(plugged)

    def _by_path(self, address: str) -> Path:
        """The link that udev makes (60-drm.rules)."""
        return self.dev / "dri" / "by-path" / f"pci-{address}-render"

    def _check(self, plugged: Plugged) -> None:
        if plugged.board not in MODELS:
            raise TreeError(f"no board {plugged.board!r}; there are: {', '.join(MODELS)}")
        states = AWS_STATES if plugged.model.aws else ALVEO_STATES
        if plugged.state not in states:
            raise TreeError(f"{plugged.board} has no state {plugged.state!r}; there are: {', '.join(states)}")
        if plugged.state == "factory" and not plugged.model.golden:
            raise TreeError(f"the factory image of {plugged.board} is not known")

    def _note(self, slot: str, plugged: Plugged | None) -> None:
        boards = {known: asdict(one) for known, one in self.plugged().items() if known != slot}
        if plugged:
            boards[slot] = asdict(plugged)
        unfinished = self.root / ".boards.json"
        unfinished.write_text(json.dumps(boards, indent=1, sort_keys=True))
        unfinished.replace(self.root / "boards.json")

    def _plug_alveo(self, plugged: Plugged) -> None:
        model = plugged.model
        management = model.golden if plugged.state == "factory" else model.management
        folder = self.add_function(plugged.management, model.vendor, management, numa=plugged.numa, bars=ALVEO_BARS)
        (folder / "mgmt_pf").write_text("")
        (folder / "instance").write_text(f"{instance(plugged.management)}\n")
        self._bind(folder, "xclmgmt")
        self._write(folder / "xmc.m" / "serial_num", f"{serial(plugged)}\n")
        self._node(f"xclmgmt{instance(plugged.management)}", 0o600)
        if plugged.state in ("factory", "no-user"):
            return
        folder = self.add_function(plugged.application, model.vendor, model.user, numa=plugged.numa, bars=ALVEO_BARS)
        if plugged.state in ("no-driver", "vfio"):
            if plugged.state == "vfio":
                self._bind(folder, "vfio-pci")
            return
        self._load_xocl()
        self._bind(folder, "xocl")
        (folder / "user_pf").write_text("")
        (folder / "ready").write_text("0x0\n" if plugged.state == "not-ready" else "0x1\n")
        self._write(folder / "rom.u" / "VBNV", f"{plugged.shell or model.shell}\n")
        render = self._render_number(plugged.slot)
        (folder / "drm" / f"renderD{render}").mkdir(parents=True)
        (folder / "drm" / f"card{render - FIRST_RENDER_NODE}").mkdir()
        if plugged.state != "no-node":
            self._node(f"dri/renderD{render}", 0o666)
            by_path = self._by_path(plugged.application)
            by_path.parent.mkdir(exist_ok=True)
            by_path.symlink_to(f"../renderD{render}")

    def _plug_aws(self, plugged: Plugged) -> None:
        model = plugged.model
        self.add_function(plugged.management, model.vendor, model.management, numa=plugged.numa, bars={"resource0": 16 << 10})
        bars = {} if plugged.state == "no-bars" else AWS_BARS
        self.add_function(plugged.application, model.vendor, model.user, numa=plugged.numa, bars=bars)

    def _render_number(self, slot: str) -> int:
        """DRM gives the first number that is free; a card that comes back finds its own."""
        taken = self.sys / "class" / "drm"
        taken.mkdir(parents=True, exist_ok=True)
        for path in taken.iterdir():
            if path.read_text() == slot:
                return int(path.name.removeprefix("renderD"))
        numbers = {int(path.name.removeprefix("renderD")) for path in taken.iterdir()}
        number = next(number for number in range(FIRST_RENDER_NODE, 192) if number not in numbers)
        (taken / f"renderD{number}").write_text(slot)
        return number

    # --- functions of any device

    def add_function(self, address: str, vendor: int, device: int, *, numa: int = -1, pci_class: int = 0x120000, bars: dict[str, int] | None = None) -> Path:
        """A function on the bus, with what the kernel shows of each."""
        self.remove_function(address)
        domain, bus, _rest = address.split(":")
        folder = self.sys / "devices" / f"pci{domain}:{bus}" / address
        folder.mkdir(parents=True)
        for name, text in {
            "vendor": f"0x{vendor:04x}",
            "device": f"0x{device:04x}",
            "subsystem_vendor": f"0x{vendor:04x}",
            "subsystem_device": "0x000e",
            "class": f"0x{pci_class:06x}",
            "numa_node": str(numa),
            "enable": "1",
        }.items():
            (folder / name).write_text(f"{text}\n")
        for name, size in (bars or {}).items():
            with (folder / name).open("w") as file:
                os.fchmod(file.fileno(), 0o600)
                file.truncate(size)  # as large as the BAR, and empty
        link = self.devices / address
        link.symlink_to(os.path.relpath(folder, self.devices))
        return link

    def remove_function(self, address: str) -> None:
        """As a write to its file remove does it."""
        link = self.devices / address
        folder = Path(os.path.realpath(link))
        if not link.is_symlink():
            return
        for path in folder.glob("drm/renderD*"):
            (self.dev / "dri" / path.name).unlink(missing_ok=True)
            self._by_path(address).unlink(missing_ok=True)
        if (folder / "instance").exists():
            (self.dev / f"xclmgmt{(folder / 'instance').read_text().strip()}").unlink(missing_ok=True)
        link.unlink()
        shutil.rmtree(folder)

    def _load_xocl(self) -> None:
        self._write(self.sys / "module" / "xocl" / "version", f"{XRT_VERSION},{XRT_HASH}\n")

    def _bind(self, folder: Path, driver: str) -> None:
        target = self.sys / "bus" / "pci" / "drivers" / driver
        target.mkdir(parents=True, exist_ok=True)
        real = Path(os.path.realpath(folder))
        (real / "driver").symlink_to(os.path.relpath(target, real))

    def _node(self, name: str, mode: int) -> None:
        path = self.dev / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if self.real_nodes:
            os.mknod(path, stat.S_IFCHR | mode, os.makedev(*NULL_DEVICE))
            os.chmod(path, mode)
        else:
            path.touch(mode)

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# --- the program in a host


def record(tree: Tree) -> None:
    unfinished = RECORD.with_suffix(".new")
    unfinished.write_text(json.dumps([asdict(one) for one in tree.plugged().values()], indent=1))
    unfinished.replace(RECORD)


def restore(tree: Tree) -> None:
    if RECORD.exists():
        for one in json.loads(RECORD.read_text()):
            tree.plug(Plugged(**one))


def main(arguments: Sequence[str] | None = None) -> int:
    top = argparse.ArgumentParser(prog="lab-fpga", description="Boards out of files, for a host of the lab.")
    verbs = top.add_subparsers(required=True, dest="verb", metavar="VERB")
    plug = verbs.add_parser("plug", help="put a board in")
    plug.add_argument("board", choices=MODELS)
    plug.add_argument("--slot", default="", help="domain:bus:device; the first that is free without it")
    plug.add_argument("--state", default="ready", choices=sorted({*ALVEO_STATES, *AWS_STATES}))
    plug.add_argument("--numa", type=int, default=0)
    plug.add_argument("--shell", default="")
    verbs.add_parser("unplug", help="take a board out").add_argument("slot")
    change = verbs.add_parser("set", help="change a board's state")
    change.add_argument("slot")
    change.add_argument("state")
    verbs.add_parser("driver", help="load or unload xocl").add_argument("loaded", choices=("on", "off"))
    verbs.add_parser("renumber", help="give render nodes other numbers")
    verbs.add_parser("list", help="the boards, as JSON")
    verbs.add_parser("restore", help="put in what was there before the boot")
    options = top.parse_args(arguments)
    tree = Tree()
    try:
        if options.verb == "plug":
            tree.plug(Plugged(options.board, options.slot or tree.free_slot(options.board), options.state, options.numa, options.shell))
        elif options.verb == "unplug":
            tree.unplug(options.slot)
        elif options.verb == "renumber":
            tree.renumber()
        elif options.verb == "set":
            tree.set_state(options.slot, options.state)
        elif options.verb == "driver":
            tree.load_driver(options.loaded == "on")
        elif options.verb == "restore":
            restore(tree)
        print(json.dumps([asdict(one) for one in tree.plugged().values()], indent=1))
    except TreeError as error:
        print(f"lab-fpga: {error}", file=sys.stderr)
        return 1
    if options.verb not in ("list", "restore"):
        record(tree)
    return 0


if __name__ == "__main__":
    sys.exit(main())
