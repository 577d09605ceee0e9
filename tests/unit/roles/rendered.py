# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role would put on a host, rendered by Ansible itself in check mode; and what Python files import."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.unit.playbook_site import HASTE

ROOT = Path(__file__).resolve().parents[3]
UTILITIES = "ansible_collections.fpga.hybrid.plugins.module_utils"


def imports(path: Path) -> tuple[set[str], set[str]]:
    """(the collection's utilities, top-level names of everything else) that a file imports."""
    utilities, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            others |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == UTILITIES:
            utilities |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{UTILITIES}."):
            utilities.add((node.module or "").removeprefix(f"{UTILITIES}."))
        elif isinstance(node, ast.ImportFrom):
            others.add((node.module or "").partition(".")[0])
    return utilities, others


def render(role: Path, play: str, folder: Path, hosts: Mapping[str, Any], variables: Mapping[str, Any], name: str = "lab") -> Any:
    """Runs the play in check mode; gives the JSON that it leaves in the file ROLE_RESULT. ROLE_PATH is the role's folder, both are in its environment."""
    (folder / "play.yml").write_text(play)
    (folder / "site.hybrid.yml").write_text(yaml.safe_dump({"plugin": "fpga.hybrid.cluster", "cluster_name": name, "hosts": dict(hosts)}))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ROLE_PATH": str(role),
        "ROLE_RESULT": str(folder / "result.json"),
        **HASTE,
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(folder / "site.hybrid.yml"), "-e", json.dumps(variables), "--check"]
    done = subprocess.run([*command, str(folder / "play.yml")], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "result.json").read_text())
