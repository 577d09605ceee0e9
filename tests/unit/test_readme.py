# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""README's commands, as far as they can be tried without a cluster; tests/lab/test_by_hand.py runs them for real."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile

import pytest
import yaml

from tests import readme

VPN_SERVER, CONTROL_PLANE, WORKER, REMOVAL = readme.scripts("Join a worker by hand")
MINE = {"name": "w1", "address": "172.27.224.9", "cluster": "c", "version": "1.36.3", "endpoint": "api.test", "control_plane": "172.27.224.1"}


def run(script: str, folder, programs: dict[str, str]) -> None:
    """Runs a script whose absolute paths lead into the folder, with stand-ins for the programs of a host that is not there."""
    for path, text in programs.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
        (folder / path).chmod(0o755)
    rooted = script.replace(" /opt/", f" {folder}/opt/").replace("\n/opt/", f"\n{folder}/opt/").replace("-C / ", f"-C {folder} ")
    environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}
    subprocess.run(["sh", "-euc", rooted], cwd=folder, env=environment, check=True)


@pytest.mark.parametrize("script", [VPN_SERVER, CONTROL_PLANE, WORKER, REMOVAL])
def test_each_block_is_shell_and_its_values_can_be_put_in(script):
    mine = readme.with_values(script, MINE)
    assert not [example for example in ("worker9", "172.27.224.19", "InAccel", "api.fpga.example.org") if example in mine]
    subprocess.run(["sh", "-n"], input=mine, text=True, check=True)
    with pytest.raises(KeyError):
        readme.with_values(script, {})


def test_the_archive_holds_the_tunnels_files_where_the_worker_needs_them(tmp_path):
    profile = "client\n<key>\nsecret\n</key>\n"
    unit = "etc/systemd/system/openvpn-server@fpga-hybrid.service.d/fpga-hybrid.conf"
    answer = json.dumps({"name": "w1", "profile": profile})
    authority = f"#!/bin/sh\n[ \"$*\" = 'issue w1 172.27.224.9' ] && cat <<'END'\n{answer}\nEND\n"
    files = {"opt/fpga-hybrid/bin/fpga-hybrid-vpn": authority, "opt/fpga-hybrid/bin/fpga-hybrid-tunnel": "#!/bin/sh\n", unit: "[Service]\n"}
    run(readme.with_values(VPN_SERVER, MINE), tmp_path, files)
    assert (tmp_path / "w1.tgz").stat().st_mode & 0o077 == 0, "a private key for everybody to read"
    assert not (tmp_path / "w1.conf").exists()
    with tarfile.open(tmp_path / "w1.tgz") as archive:
        found = {member.name: member.mode for member in archive.getmembers()}
        assert archive.extractfile("etc/openvpn/client/fpga-hybrid.conf").read().decode() == profile
    assert found["etc/openvpn/client/fpga-hybrid.conf"] & 0o077 == 0
    assert found["opt/fpga-hybrid/bin/fpga-hybrid-tunnel"] & 0o111
    # No folder: unpacking one would give the host's own that one's permissions.
    assert set(found) == {"etc/openvpn/client/fpga-hybrid.conf", "opt/fpga-hybrid/bin/fpga-hybrid-tunnel", unit.replace("-server@", "-client@")}


def test_kubeadms_answer_becomes_a_configuration_with_token_and_pinned_ca(tmp_path):
    said = "kubeadm join api.test:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:00 "
    run(readme.with_values(CONTROL_PLANE, MINE), tmp_path, {"bin/kubeadm": f"#!/bin/sh\n[ $1 = token ] && echo '{said}'\n"})
    assert (tmp_path / "w1.yaml").stat().st_mode & 0o077 == 0
    assert yaml.safe_load((tmp_path / "w1.yaml").read_text()) == {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "discovery": {"bootstrapToken": {"apiServerEndpoint": "api.test:6443", "token": "abcdef.0123456789abcdef", "caCertHashes": ["sha256:00"]}},
        "nodeRegistration": {
            "name": "w1",
            "kubeletExtraArgs": [{"name": "node-ip", "value": "172.27.224.9"}, {"name": "provider-id", "value": "fpga-hybrid:///c/w1"}],
        },
    }
