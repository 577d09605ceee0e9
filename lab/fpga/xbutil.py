"""xbutil and xbmgmt for boards out of files: `examine` says what XRT's say of them (2023.2), `xbmgmt program` notes that it was called.

/run/lab-fpga/faults/xbutil and /run/lab-fpga/faults/xbmgmt make the command fail that is named there, examine or program, each until it is taken out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

XRT = "2.16.204"
ROOT = Path(os.environ.get("LAB_FPGA_ROOT", "/run/lab-fpga"))
SAID = {"examine": "ERROR: Failed to find any devices: Operation not permitted", "program": "ERROR: No shells found on the system. Operation canceled."}


def boards() -> list[dict[str, Any]]:
    done = subprocess.run(["/usr/local/sbin/lab-fpga", "list"], capture_output=True, text=True, check=False)
    return [board for board in json.loads(done.stdout or "[]") if not board["board"].startswith("aws-")]


def examine(management: bool) -> None:
    print(f"System Configuration\nXRT\n  Version              : {XRT}\n  XOCL                 : {XRT}\n  XCLMGMT              : {XRT}\n\nDevices present")
    visible = [board for board in boards() if management or board["state"] not in ("no-user", "factory", "no-driver", "vfio")]
    if not visible:
        print("  0 devices found")
        return
    print("BDF             :  Shell                                Logic UUID  Device ID  Device Ready*\n" + "-" * 80)
    for board in visible:
        golden = board["state"] == "factory"
        shell = "xilinx_" + board["board"] + ("_GOLDEN" if golden else "_gen3x16_xdma")
        ready = "Yes" if board["state"] in ("ready", "no-node") else "No"
        print(f"[{board['slot']}.{0 if management else 1}]  :  {shell:<35}  n/a  {'mgmt' if management else 'user'}  {ready}")


def main() -> None:
    management = sys.argv[0].endswith("xbmgmt")
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    fault = ROOT / "faults" / Path(sys.argv[0]).name
    if fault.exists() and fault.read_text().strip() == command:
        print(SAID[command], file=sys.stderr)
        sys.exit(1)
    if command == "examine":
        examine(management)
    elif management and command == "program":
        with (ROOT / "xbmgmt.log").open("a") as log:
            log.write(" ".join(sys.argv[1:]) + "\n")
        print("****************************************************\nCold reboot machine to load the new image on device.\n" + "*" * 52)
    else:
        print(f"ERROR: Unknown command: '{command}'", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
