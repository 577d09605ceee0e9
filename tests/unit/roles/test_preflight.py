# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""preflight.yml as it is run, on this machine in the place of the hosts: it only looks."""

from __future__ import annotations

import shutil

import pytest

from tests.unit.site import play


def test_every_role_that_may_refuse_a_host_is_heard_before_anything_is_changed(tmp_path):
    if shutil.which("cri-dockerd"):
        pytest.skip("cri-dockerd is installed here, so nothing is missed")
    declared = {"cluster_container_runtime": "docker", "cluster_state_folder": str(tmp_path), "ansible_connection": "local"}
    done = play(tmp_path, "playbooks/preflight.yml", declared)
    assert done.returncode == 2, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "Nothing was changed. This stands in the way:" in said
    for host in ("cp1", "worker1"):
        assert f"{host}, docker_cri_dockerd_version: cri-dockerd was not found; expected >=0.4.0" in said
    # the VPN server's side, though the others stand in the way
    assert "UDP port 1194 of 192.0.2.1, which is cluster_vpn_endpoint, must be forwarded to this host" in said + " ".join(done.stderr.split())
