"""A double of the tools of AWS' FPGA SDK, for boards out of files (tree.py). It is not AWS' program and speaks to no FPGA.

It does what theirs do to a host: an image changes the ids of the application function, which is removed from the bus and found again. Words, options,
numbers of errors and exit statuses are theirs (aws-fpga, sdk/userspace/fpga_mgmt_tools/src/fpga_local_cmd.c, include/hal/fpga_common.h). Called as theirs
are, by scripts: `fpga-local-cmd LoadFpgaImage -S 0 -I agfi-...`.

Below the root (LAB_FPGA_ROOT, else /run/lab-fpga): aws/images.json, which images there are {agfi: {vendor, device, seconds}}; aws/slot-N.json, what a slot
holds; aws/faults.json, what shall go wrong {"load": "hang"}, {"load 1": "fail 14"}, {"describe": "garble"}, {"load": "lie"} (says ok and has not
loaded it), each until it is taken out; aws/calls.log, what was called.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("LAB_FPGA_ROOT", "/run/lab-fpga"))
VERSION = "2.3.2"
SHELL = "0x10212415"
AMAZON, MAILBOXES = 0x1D0F, {0x1041: 0x1042, 0x9248: 0x9048}
COMMANDS = {"LoadFpgaImage": "load", "ClearFpgaImage": "clear", "DescribeFpgaImage": "describe", "DescribeFpgaImageSlots": "slots"}
ERRORS = {
    3: "busy",
    5: "invalid-afi-id",
    6: "afi-load-timeout",
    12: "cl-id-mismatch",
    13: "cl-ddr-calib-failed",
    14: "unspecified-error",
    16: "shell-version-not-supported",
    17: "afi-power-violation",
    20: "pci-device-missing",
    25: "unresponsive",
}
LONG = {5: "The agfi id passed is invalid or you do not have permission to load\nthis AFI.\n"}
STATUSES = {"loaded": 0, "cleared": 1, "busy": 2, "load-failed": 7}
#: The image of AWS' own documentation.
DOCUMENTED_IMAGES = {"agfi-0fedcba9876543210": {"vendor": 0x6789, "device": 0x1D50, "seconds": 0.0}}


class ToolError(Exception):
    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(ERRORS[number])


def read(name: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((ROOT / "aws" / name).read_text())
    except FileNotFoundError:
        return {}
    return content


def write(name: str, content: object) -> None:
    path = ROOT / "aws" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{name}.{os.getpid()}")
    unfinished.write_text(json.dumps(content))
    unfinished.replace(path)


def devices() -> Path:
    return ROOT / "sys" / "bus" / "pci" / "devices"


def ids(address: str) -> tuple[int, int]:
    try:
        return int((devices() / address / "vendor").read_text(), 16), int((devices() / address / "device").read_text(), 16)
    except FileNotFoundError:
        raise ToolError(20) from None


def slots(last: int | None = None) -> list[tuple[str, str, int]]:
    """(application function, mailbox function, default device id) of each slot, in the order of the mailboxes.

    As theirs it fails if the application function of one is missing; of those after the last that is wanted it does not ask.
    """
    found = []
    for path in sorted(devices().iterdir()):
        try:
            vendor, device = ids(path.name)
        except ToolError:  # it went since the folder was read
            continue
        if vendor == AMAZON and device in MAILBOXES:
            bus, rest = path.name.rsplit(":", 1)
            number, function = rest.split(".")
            application = f"{bus}:{int(number, 16) - 1:02x}.{function}" if device == 0x1041 else f"{bus}:{number}.0"
            found.append((application, path.name, MAILBOXES[device]))
    wanted = found if last is None else found[: last + 1]
    if not found or not all((devices() / application / "device").exists() for application, _mailbox, _default in wanted):
        raise ToolError(20)
    return found


def become(address: str, vendor: int, device: int) -> None:
    """The function goes from the bus and comes back as another one: not before the file aws/off-the-bus is gone, if a test has made it."""
    link = devices() / address
    folder = Path(os.path.realpath(link))
    target = os.readlink(link)
    saved = folder.with_name(f".{folder.name}.saved")
    shutil.rmtree(saved, ignore_errors=True)
    link.unlink()
    folder.rename(saved)
    time.sleep(0.05)
    while (ROOT / "aws" / "off-the-bus").exists():
        time.sleep(0.05)
    # A copy, because what comes back is a new device.
    shutil.copytree(saved, folder, symlinks=True, copy_function=sparse_copy)
    (folder / "vendor").write_text(f"0x{vendor:04x}\n")
    (folder / "device").write_text(f"0x{device:04x}\n")
    link.symlink_to(target)
    shutil.rmtree(saved)


def sparse_copy(source: str, target: str) -> None:
    size = os.path.getsize(source)
    if size < 4096:
        shutil.copyfile(source, target)
    else:
        with open(target, "wb") as file:
            file.truncate(size)
    shutil.copymode(source, target)


def show(slot: int, state: dict[str, Any]) -> None:
    image = state["image"] or "No AFI"  # what the shell itself says (aws-fpga's own tests compare with it); the tool has "none" where it says nothing
    print(f"{'AFI':<10}  {slot:2}       {image:<22}  {state['status']:<8}         {STATUSES[state['status']]:2}        {'ok':<8}        {0:2}       {SHELL}")
    show_device(slot, slots(slot)[slot][0])


def show_device(slot: int, address: str) -> None:
    vendor, device = ids(address)
    print(f"{'AFIDEVICE':<10}  {slot:2}       0x{vendor:04x}      0x{device:04x}      {address}")


def fault(command: str, slot: int) -> str:
    faults = read("faults.json")
    return str(faults.get(f"{command} {slot}", faults.get(command, "")))


def perform(command: str, options: argparse.Namespace) -> None:
    if command == "slots":
        for number, (application, _mailbox, _default) in enumerate(slots()):
            show_device(number, application)
        return
    known = slots(options.slot)
    if options.slot is None or not 0 <= options.slot < len(known):
        raise ToolError(20)
    application, _mailbox, default = known[options.slot]
    name = f"slot-{options.slot}.json"
    state = {"image": "", "status": "cleared", **read(name)}
    wrong = fault(command, options.slot)
    if wrong == "hang":
        write(name, {**state, "status": "busy"} if command != "describe" else state)
        time.sleep(3600)
    if wrong.startswith("fail"):
        raise ToolError(int(wrong.split()[1]))
    if wrong == "garble":
        print("Segmentation fault")
        return
    if command == "load":
        images = {**DOCUMENTED_IMAGES, **read("images.json")}
        if options.image not in images:
            raise ToolError(5)
        image = images[options.image]
        write(name, {"image": "", "status": "busy"})
        time.sleep(float(image.get("seconds", 0)))
        if wrong != "lie":
            become(application, image["vendor"], image["device"])
            state = {"image": options.image, "status": "loaded"}
        write(name, state)
    elif command == "clear":
        become(application, AMAZON, default)
        state = {"image": "", "status": "cleared"}
        write(name, state)
    show(options.slot, state)


def main() -> int:
    top = argparse.ArgumentParser(prog="fpga-local-cmd")
    top.add_argument("command", choices=COMMANDS)
    top.add_argument("-S", dest="slot", type=int)
    top.add_argument("-I", dest="image", default="")
    for flag in ("-H", "-R", "-A", "-M", "-F"):
        top.add_argument(flag, action="store_true")
    top.add_argument("-V", dest="version", action="store_true")
    options = top.parse_args()
    if options.version:
        print(f"AFI Management Tools Version: {VERSION}")
        return 234  # theirs ends with an error, too
    command = COMMANDS[options.command]
    (ROOT / "aws").mkdir(parents=True, exist_ok=True)
    with (ROOT / "aws" / "calls.log").open("a") as log:
        log.write(f"{command} {'' if options.slot is None else options.slot} {options.image}".rstrip() + "\n")
    try:
        perform(command, options)
    except ToolError as error:
        print(f"Error: ({error.number}) {error}\n{LONG.get(error.number, '')}", end="")
        return error.number
    return 0


if __name__ == "__main__":
    sys.exit(main())
