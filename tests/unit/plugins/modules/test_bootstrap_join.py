# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bootstrap_join with the real program, on a host in a folder: what it gives it, what it makes of its answers."""

from __future__ import annotations

import json
import shlex
import stat
from collections.abc import Iterator

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _command
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import KubeadmError
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host, Paths
from ansible_collections.fpga.hybrid.plugins.modules.bootstrap_join import bundle, join, look
from fpga_hybrid.bundle import decode
from tests.unit.roles.bootstrap.doubles import TOKEN, Authority
from tests.unit.roles.bootstrap.world import World

NODE = {
    "schema": 1,
    "cluster_name": "c",
    "cluster_id": "id-1",
    "pool": None,
    "labels": {"example.org/rack": "4"},
    "taints": [],
    "startup_taints": [],
    "resources": {},
    "reserved": {},
    "provider_id": "fpga-hybrid:///c/worker1",
    "vpn": {"backend": "openvpn", "mtu": 1400},
    "aws": None,
    "ignore_preflight": [],
    "fpga": None,
}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def world(authority) -> Iterator[World]:
    world = World(authority)
    world.declare(NODE)
    world.is_node("worker1")
    world.vpn.address = "172.27.224.12"
    world.vpn_is_up()
    world.write("etc/systemd/system/kubelet.service.d/20-fpga-hybrid.conf", "[Unit]\n")
    # The module gives whole paths, as on a host whose folder is the root; the program puts the folder in front again.
    arguments = f'"$(for word; do printf "%s\\n" "${{word#{world.root}}}"; done)"'
    environment = " ".join(f"{name}={shlex.quote(value)}" for name, value in world.environment().items())
    launcher = f'#!/bin/bash\nmapfile -t words <<<{arguments}\nexec env -i {environment} {shlex.join(world.command())} "${{words[@]}}"\n'
    world.program("fpga-hybrid-bootstrap", launcher)
    yield world
    world.close()


@pytest.fixture
def host(world) -> Host:
    return Host(lambda argv, data=None, pass_fds=(): _command.run(argv, data or "", pass_fds), Paths(str(world.root)))


def params(world: World, **more) -> dict:
    return {
        "node_name": "worker1",
        "endpoint": world.api.endpoint,
        "endpoint_address": "127.0.0.1",
        "token": TOKEN,
        "ca_cert_hashes": [world.api.authority.pin],
        "vpn_profile": None,
        "vpn_address": "172.27.224.12",
        "node_address": "172.27.224.12",
        "cni_files": ["10-calico.conflist"],
        "timeout": 20,
        "config": "/etc/fpga-hybrid/node.json",
        "program": str(world.bin / "fpga-hybrid-bootstrap"),
        **more,
    }


def test_what_it_writes_is_what_the_program_reads(world):
    read = decode(json.dumps(bundle(params(world))))
    assert (read.node, read.endpoint, read.endpoint_address, read.address, read.token) == ("worker1", world.api.endpoint, "127.0.0.1", "172.27.224.12", TOKEN)


def test_a_host_is_joined_and_no_secret_stays(world, host):
    assert look(params(world), host) == "fresh"
    answer = join(params(world), host)
    assert answer["failure"] is None, answer
    assert answer["changes"] == [f"name {world.api.NAME} (127.0.0.1) in /etc/hosts", "kubeadm join"]
    assert [path.name for path in (world.root / "run/fpga-hybrid").iterdir() if path.name.startswith("bundle")] == []
    assert not [word for line in world.calls() for word in line.split() if TOKEN in word]
    assert look(params(world), host) == "joined"


def test_the_bundle_is_readable_by_root_alone_and_on_no_command_line(world, host):
    world.program("fpga-hybrid-bootstrap", f'#!/bin/sh\necho "$@" > {world.doubles}/argv\nstat -c %a "$4" > {world.doubles}/mode\necho "{{}}"\n')
    join(params(world), host)
    argv = (world.doubles / "argv").read_text().split()
    assert argv[:3] == ["--config", "/etc/fpga-hybrid/node.json", "--bundle"]
    assert argv[4:] == ["--node-name", "worker1", "--until", "joined", "--timeout", "20"]
    assert (world.doubles / "mode").read_text() == "600\n"
    assert TOKEN not in " ".join(argv)
    assert stat.S_IMODE((world.root / "run/fpga-hybrid").stat().st_mode) == 0o700


def test_a_failure_is_the_programs_own_sentence(world, host):
    world.api.tokens.clear()
    answer = join(params(world, timeout=3), host)
    assert (answer["failure"]["kind"], answer["failure"]["status"]) == ("token", 52)
    assert "the cluster does not know the join token" in answer["failure"]["sentence"]


def test_a_program_that_breaks_down_is_not_taken_for_an_answer(world, host):
    world.program("fpga-hybrid-bootstrap", "#!/bin/sh\necho no module named x >&2\nexit 1\n")
    with pytest.raises(KubeadmError, match=r"gave no answer \(exit code 1\): no module named x"):
        join(params(world), host)
    assert not list((world.root / "run/fpga-hybrid").glob("bundle-*"))


def test_a_host_of_somebody_else_is_refused_before_anything_is_written(world, host):
    world.write("etc/kubernetes/admin.conf", "")
    with pytest.raises(KubeadmError, match=r"worker1 cannot be made a worker: it is a control plane, or was one \(admin.conf are there\)"):
        look(params(world), host)
    assert world.calls() == []


def test_a_network_of_somebody_else_is_refused_with_its_file(world, host):
    world.write("etc/cni/net.d/10-flannel.conflist", json.dumps({"name": "cbr0", "plugins": [{"type": "flannel"}]}))
    with pytest.raises(KubeadmError, match=r"10-flannel.conflist: network cbr0, plugins flannel"):
        look(params(world), host)
    assert look(params(world, cni_files=None), host) == "fresh"


def test_a_join_of_ours_that_was_broken_off_is_made_again(world, host):
    world.write("etc/kubernetes/bootstrap-kubelet.conf", "")
    host.begin("join", "id-1")
    assert look(params(world), host) == "clean"
    assert join(params(world), host)["failure"] is None
    assert [line.split()[1] for line in world.calls() if line.startswith("kubeadm")] == ["reset", "config", "join"]
