# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real runs of ansible-playbook for the unit tests, on a site of two hosts that nobody answers for: a task that asked one of them would fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.unit.playbook_site import HASTE

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DECLARED = {
    "cluster_name": "test",
    "cluster_control_plane_endpoint": "api.test.example:6443",
    "cluster_on_prem_addresses": "vpn",
    "cluster_vpn_endpoint": "192.0.2.1",
    "ansible_host": "127.0.0.1",
    "ansible_port": 1,
    "ansible_python_interpreter": sys.executable,
}
#: A node pool that nothing speaks against.
POOL = {
    "name": "f2",
    "instance_type": "f2.6xlarge",
    "max_size": 1,
    "publish": "boards",
    "image": "ami-0123456789abcdef0",
    "subnets": ["subnet-0123456789abcdef0"],
}
HOSTS = {"cp1": {"vpn_address": "172.27.224.1"}, "worker1": {"vpn_address": "172.27.224.12"}}


def inventory(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    groups = {"on_prem": hosts, "control_plane": {"cp1": {}}, "workers": {"worker1": {}}, "vpn_server": {"cp1": {}}}
    return {"all": {"vars": DECLARED, "children": {name: {"hosts": members} for name, members in groups.items()}}}


def play(
    folder: Path, playbook: Path | str, variables: Mapping[str, Any], *options: str, hosts: Mapping[str, Mapping[str, Any]] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a playbook (of ours by its path in the repository) with the variables above all others. The folder holds inventory and variables."""
    (folder / "site.yml").write_text(json.dumps(inventory(hosts or HOSTS)))
    (folder / "vars.json").write_text(json.dumps(variables))
    command = [str(BIN / "ansible-playbook"), "-i", str(folder / "site.yml"), "-e", f"@{folder / 'vars.json'}", str(playbook), *options]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "no_proxy": "127.0.0.1", **HASTE}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
