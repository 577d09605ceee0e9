# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's folder for real runs of ansible-playbook whose hosts are all this machine, with a state folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from ansible_collections.fpga.hybrid.plugins.module_utils._lock import LockFile

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE_PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
HOSTS = {
    "cp1": {"roles": ["control_plane", "vpn_server"], "vars": LOCAL},
    "worker1": {"roles": ["worker"], "vars": {**LOCAL, "vpn_address": "172.27.224.12"}},
    "worker2": {"roles": ["worker"], "vars": {**LOCAL, "vpn_address": "172.27.224.13"}},
}
#: What costs a run only time: its Pythons find sitecustomize.py, and a host that is down on purpose is not tried again for eleven seconds.
HASTE = {"PYTHONPATH": str(Path(__file__).parent / "warm"), "ANSIBLE_SSH_RETRIES": "0"}
#: ssh to a port where nobody listens.
UNREACHABLE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
SETTINGS = {
    "cluster_on_prem_addresses": "vpn",
    "cluster_control_plane_endpoint": "api.example.org",
    "cluster_vpn_endpoint": "vpn.example.org",
}


class Site:
    """A cluster's folder: inventory, playbooks, and the state that a control plane would have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.lock = LockFile(self.state)
        self.write_inventory()

    def write_inventory(self, **host_variables):
        hosts = {name: {**host, "vars": {**host["vars"], **host_variables.get(name, {})}} for name, host in HOSTS.items()}
        (self.folder / "lab.hybrid.yml").write_text(yaml.safe_dump({"plugin": "fpga.hybrid.cluster", "cluster_name": "lab", "hosts": hosts}))

    def command(self, plays, *options, **variables):
        (self.folder / "play.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
        extra = json.dumps({**SETTINGS, "cluster_state_folder": str(self.state), **variables})
        return [ANSIBLE_PLAYBOOK, "-i", self.folder / "lab.hybrid.yml", self.folder / "play.yml", "-e", extra, *options]

    def run(self, plays, *options, path="", inside=(), **variables):
        """path: a folder whose programs the hosts find first; inside: a command that runs the one that follows it."""
        environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
        environment |= {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_NOCOLOR": "1",
            **HASTE,
        }
        command = [*inside, *self.command(plays, *options, **variables)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=self.folder, timeout=120)

    def cluster_id(self):
        return json.loads((self.state / "cluster.json").read_text())["cluster_id"]
