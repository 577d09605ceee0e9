# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""preflight.yml as it is run, on this machine in the place of the hosts: it only looks."""

from __future__ import annotations

import shutil
import time

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.fpga.hybrid.plugins.modules.host_preflight import EXAMPLES
from lab.fpga.tree import Plugged, Tree
from tests.unit.site import POOL, ROOT, play

TASKS = yaml.safe_load((ROOT / "roles" / "preflight" / "tasks" / "main.yml").read_text())


def test_every_role_that_may_refuse_a_host_is_heard_before_anything_is_changed(tmp_path):
    if shutil.which("cri-dockerd"):
        pytest.skip("cri-dockerd is installed here, so nothing is missed")
    tree = Tree(tmp_path / "boards", real_nodes=False)
    tree.plug(Plugged("u250", "0000:3b:00", "factory"))
    declared = {
        "cluster_container_runtime": "docker",
        "fpga_device_plugin_sysfs_root": str(tree.sys),
        "fpga_device_plugin_dev_root": str(tree.dev),
        "cluster_state_folder": str(tmp_path),
        "ansible_connection": "local",
        "cluster_admins": ["nobody-of-that-name"],
        "cluster_vpn_backend": "openvpn_as",
        "cluster_aws_region": "us-east-1",
        "cluster_node_pools": [{**POOL, "max_size": 3}],
        "cluster_aws_credentials": {"autoscaler": str(tmp_path / "none.aws")},
    }
    done = play(tmp_path, "playbooks/preflight.yml", declared)
    assert done.returncode == 2, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "Nothing was changed. This stands in the way:" in said
    for host in ("cp1", "worker1"):
        assert f"{host}, docker_cri_dockerd_version: cri-dockerd was not found; expected >=0.4.0" in said
    assert "cp1, cluster_admins: there is no user nobody-of-that-name" in said
    assert "worker1, cluster_admins" not in said
    for name, file in (("keeper", "keeper.aws"), ("autoscaler", "none.aws")):
        assert f"cp1, cluster_aws_credentials.{name}: {tmp_path}/{file}: No such file or directory; expected a file with section [default]" in said
    assert "worker1, cluster_aws_credentials" not in said
    assert "worker1, board 0000:3b:00: u250: it holds the image that it was sold with, and no shell" in said
    assert "cp1, board" not in said
    assert "cp1, openvpn_as_licence: 2 connections (openvpn_as_connections, since Access Server does not run yet); expected at least 4" in said
    assert "worker1, openvpn_as_licence" not in said
    # the VPN server's side, though the others stand in the way
    assert "UDP port 1194 of 192.0.2.1, which is cluster_vpn_endpoint, must be forwarded to this host" in said + " ".join(done.stderr.split())


def test_cards_that_preflight_has_looked_at_are_not_looked_at_again(tmp_path):
    playbook = tmp_path / "boards.yml"
    playbook.write_text("- {hosts: worker1, gather_facts: false, roles: [fpga.hybrid.xrt]}\n")
    here = {"ansible_connection": "local", "cluster_state_folder": str(tmp_path)}
    looked = []
    for found in ({"situation": "none"}, {"situation": "none", "problems": []}):
        done = play(tmp_path, playbook, {**here, "__xrt": found}, "--check")
        assert done.returncode == 0, done.stdout + done.stderr
        looked.append("TASK [fpga.hybrid.xrt : Look at the cards and their driver]" in done.stdout)
    assert looked == [True, False]


@pytest.mark.parametrize("tasks", [TASKS, yaml.safe_load(EXAMPLES)], ids=["role", "example"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_the_controllers_time_is_the_same_in_every_time_zone(zone, tasks, monkeypatch):
    told = next(task["fpga.hybrid.host_preflight"]["controller_time"] for task in tasks if "fpga.hybrid.host_preflight" in task)
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert abs(float(Templar(DataLoader()).template(trust_as_template(told))) - time.time()) < 60
    finally:
        monkeypatch.undo()
        time.tzset()
