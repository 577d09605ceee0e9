"""Keeps dkms' books, with its words and exit statuses (dkms 3.0.10), and builds nothing: the kernel of the lab takes no modules.

/run/lab-fpga/faults/dkms makes it fail: `build` (the module does not compile for this kernel), `headers` (there are none for it).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

TREE = Path(os.environ.get("LAB_DKMS_TREE", "/var/lib/dkms"))
FAULT = Path(os.environ.get("LAB_FPGA_ROOT", "/run/lab-fpga")) / "faults" / "dkms"
MACHINE = os.uname().machine


def option(letter: str, default: str = "") -> str:
    return sys.argv[sys.argv.index(letter) + 1] if letter in sys.argv else default


MODULE, VERSION, KERNEL = option("-m"), option("-v"), option("-k", os.uname().release)


def fail(status: int, text: str) -> NoReturn:
    print(f"Error! {text}", file=sys.stderr)
    sys.exit(status)


def states() -> Iterator[str]:
    for folder in sorted(TREE.glob("*/*")):
        if (MODULE or folder.parent.name) == folder.parent.name and (VERSION or folder.name) == folder.name:
            kernels = sorted(path for path in folder.glob("*.state"))
            name = f"{folder.parent.name}/{folder.name}"
            yield from ([f"{name}, {path.stem}, {MACHINE}: {path.read_text()}" for path in kernels] or [f"{name}: added"])


def main() -> None:
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    folder = TREE / MODULE / VERSION
    state = folder / f"{KERNEL}.state"
    fault = FAULT.read_text().strip() if FAULT.exists() else ""
    if "--version" in sys.argv:
        print("dkms-3.0.10")
    elif command == "status":
        print("".join(f"{line}\n" for line in states()), end="")
    elif command == "add":
        if folder.exists():
            fail(3, f"DKMS tree already contains: {MODULE}-{VERSION}\nYou cannot add the same module/version combo more than once.")
        folder.mkdir(parents=True)
    elif command == "build":
        if fault == "headers":
            fail(21, f"Your kernel headers for kernel {KERNEL} cannot be found at /lib/modules/{KERNEL}/build or /lib/modules/{KERNEL}/source.")
        if fault:
            log = folder / "build" / "make.log"
            log.parent.mkdir(exist_ok=True)
            log.write_text(f"DKMS make.log for {MODULE}-{VERSION} for kernel {KERNEL} ({MACHINE})\nerror: implicit declaration of function 'iommu_present'\n")
            fail(10, f"Bad return status for module build on kernel: {KERNEL} ({MACHINE})\nConsult {log} for more information.")
        state.write_text("built")
    elif command == "install":
        if not state.exists():
            fail(4, f"The module {MODULE}/{VERSION} is not built for kernel {KERNEL} ({MACHINE}).")
        state.write_text("installed")
    elif command == "remove":
        if not folder.exists():
            fail(3, f"There is no instance of {MODULE} {VERSION} for kernel {KERNEL} ({MACHINE}) located in the DKMS tree.")
        shutil.rmtree(folder)
        with contextlib.suppress(OSError):  # another version stays
            folder.parent.rmdir()
    else:
        fail(1, f"Unknown action specified: {command!r}")


if __name__ == "__main__":
    main()
