"""Stand-in for the sources of AWS' FPGA SDK: laid out and built as theirs (sdk/userspace of aws-fpga, branch f2), and what comes out is the lab's double.

It needs bash, make and a C compiler as theirs does, and fails without them as theirs does. Nothing in it is AWS'.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from lab.fpga import aws_tools

NAME = f"aws-fpga-{aws_tools.VERSION}"
SCRIPTS = Path(__file__).parents[1] / "depot" / "packages"
WRAPPERS = ("fpga-load-local-image", "fpga-clear-local-image", "fpga-describe-local-image", "fpga-describe-local-image-slots")
NOTE = "A stand-in of the lab of fpga.hybrid for AWS' FPGA SDK. Nothing in it is AWS'.\n"
MKALL = """#!/bin/bash
TOP=`pwd`
source $REPO_ROOT/shared/bin/set_common_functions.sh
cd $TOP/fpga_mgmt_tools/src
make OPT="-DCLI_VERSION='\\"$RELEASE_VERSION\\"'"
if [ $? -ne 0 ]; then
    echo "make failed"
    exit 1
fi
"""
MAKEFILE = """all: ../../lib/so/libfpga_mgmt.so.1.0.0 fpga-local-cmd

../../lib/so/libfpga_mgmt.so.1.0.0: stand_in.c
\tmkdir -p ../../lib/so
\t$(CC) $(OPT) -shared -fPIC -o $@ $< -Wl,-soname,libfpga_mgmt.so.1

fpga-local-cmd: fpga_local_cmd.py
\tinstall -m 0755 $< $@
"""


def archive() -> bytes:
    """The same bytes each time."""
    userspace = "sdk/userspace"
    files = {
        "README.md": (NOTE, 0o644),
        "release_version.txt": (f"RELEASE_VERSION={aws_tools.VERSION}\n", 0o644),
        "shared/bin/set_common_functions.sh": ("source $REPO_ROOT/release_version.txt\n", 0o644),
        f"{userspace}/mkall_fpga_mgmt_tools.sh": (MKALL, 0o755),
        f"{userspace}/fpga_mgmt_tools/src/Makefile": (MAKEFILE, 0o644),
        f"{userspace}/fpga_mgmt_tools/src/stand_in.c": ("const char *fpga_mgmt_stand_in(void) { return CLI_VERSION; }\n", 0o644),
        f"{userspace}/fpga_mgmt_tools/src/fpga_local_cmd.py": ("#!/usr/bin/python3\n" + Path(aws_tools.__file__).read_text(), 0o644),
        **{f"{userspace}/fpga_mgmt_tools/src/{name}": ((SCRIPTS / name).read_text(), 0o755) for name in WRAPPERS},
    }
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, (text, mode) in sorted(files.items()):
            member = tarfile.TarInfo(f"{NAME}/{name}")
            member.size, member.mode = len(text.encode()), mode
            tar.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(raw.getvalue(), mtime=0)
