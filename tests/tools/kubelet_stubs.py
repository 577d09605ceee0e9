# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the device plugin's stubs of the kubelet's APIs out of its two proto files.

.venv/bin/python -m tests.tools.kubelet_stubs

What protoc writes is laid out as the rest of the collection is: ansible-test checks it like any other file.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "roles" / "fpga_device_plugin" / "files"
PACKAGE = "fpga_device_plugin"
PROTOS = ("deviceplugin", "podresources")
#: Bytes of a serialized descriptor in one line.
WIDTH = 32

HEADER = """# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Written by tests/tools/kubelet_stubs.py: don't edit.
"""


def wrapped(match: re.Match[str]) -> str:
    """The serialized descriptor in lines that people and linters can stand."""
    content: bytes = ast.literal_eval(match[1])
    lines = "".join(f"    {content[start : start + WIDTH]!r}\n" for start in range(0, len(content), WIDTH))
    return f"AddSerializedFile(\n{lines})"


def laid_out(text: str) -> str:
    text = re.sub(r"^# -\*- coding.*\n|^import warnings\n", "", text, flags=re.MULTILINE)  # which it never uses
    return HEADER + re.sub(r"AddSerializedFile\((b'(?:[^'\\]|\\.)*')\)", wrapped, text)


def make(target: Path) -> None:
    """All stubs, into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCES}", f"--python_out={folder}", f"--pyi_out={folder}", f"--grpc_python_out={folder}"]
        subprocess.run([*command, *(f"{PACKAGE}/{name}.proto" for name in PROTOS)], check=True, cwd=SOURCES)
        made = sorted(path for path in (Path(folder) / PACKAGE).iterdir())
        for path in made:
            path.write_text(laid_out(path.read_text()))
        ruff = Path(sys.executable).with_name("ruff")
        subprocess.run([ruff, "format", "--quiet", "--isolated", "--line-length=160", *made], check=True)
        for path in made:
            shutil.copyfile(path, target / path.name)


if __name__ == "__main__":
    make(SOURCES / PACKAGE)
