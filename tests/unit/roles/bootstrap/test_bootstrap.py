# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program fpga-hybrid-bootstrap as a whole: what it makes of a host (golden files), and what it says of everything that can be wrong.

The program is the real one, without site-packages. UPDATE_GOLDEN=1 writes the golden files anew; then read the difference.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.fpga.hybrid.plugins.module_utils._node import NODE_FILE, eviction_reservation, kubelet_arguments, kubelet_configuration
from ansible_collections.fpga.hybrid.plugins.module_utils._node_template_inputs import template_of
from ansible_collections.fpga.hybrid.plugins.module_utils._quantity import Quantity
from fpga_hybrid import bundle, failure
from fpga_hybrid import node as nodes
from fpga_hybrid.aws import Aws
from fpga_hybrid.credentials import Credentials
from tests.unit.roles.bootstrap.doubles import TOKEN, Authority, MetadataService, node_object
from tests.unit.roles.bootstrap.world import ADDRESS, GOLDEN, INSTANCE, PROFILE, PROVIDER_ID, SECRETS, World

CLUSTER = {"name": "c", "id": "6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b", "kubernetes_version": "1.36", "region": "us-east-1", "ssm_prefix": "/fpga-hybrid/c"}
POOL = {
    "name": "f2-12xlarge",
    "instance_type": "f2.12xlarge",
    "max_size": 4,
    "availability_zones": ["us-east-1a", "us-east-1b"],
    "labels": {"example.org/team": "a"},
    "taints": ["example.org/only=fpga:NoSchedule"],
    # What a test's file system surely has.
    "resources": {"ephemeral-storage": "1Mi"},
    "reserved": {"kube": {"ephemeral-storage": "1Mi"}, "system": {"ephemeral-storage": "1Mi"}},
}
ON_PREM = {
    "schema": 1,
    "cluster_name": "c",
    "cluster_id": CLUSTER["id"],
    "pool": None,
    "labels": {"example.org/rack": "4", "node-role.kubernetes.io/worker": ""},
    "taints": ["example.org/fpga=:NoSchedule"],
    "startup_taints": [],
    "resources": {},
    "reserved": {},
    "provider_id": "fpga-hybrid:///c/worker1",
    "vpn": {"backend": "openvpn", "mtu": 1400},
    "aws": None,
    "ignore_preflight": ["SystemVerification"],
    "fpga": None,
    "kubelet": {"cri_socket": "unix:///run/cri-dockerd.sock", "configuration": {"maxPods": 50}, "extra_args": {"v": "2"}},
}
FILE = "/run/fpga-hybrid/bundle.json"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def world(authority) -> Iterator[World]:
    world = World(authority)
    yield world
    world.close()


def user_data_node(world: World, **pool) -> dict:
    """node.json as cloud-init writes it from a pool's user-data."""
    document = yaml.safe_load(template_of({**POOL, **pool}, {**CLUSTER, "endpoint_url": world.aws.url}).user_data())
    (written,) = document["write_files"]
    assert written["path"] == NODE_FILE
    return json.loads(written["content"])


@pytest.fixture
def instance(world) -> World:
    """An instance of a pool, enrolled, its API server well."""
    world.declare(user_data_node(world))
    world.parameter()
    return world


@pytest.fixture
def on_prem(world) -> World:
    """A worker as Ansible leaves it before the join: VPN up, bundle written."""
    world.declare(ON_PREM)
    world.vpn.address = "172.27.224.12"
    world.vpn_is_up()
    world.write("etc/openvpn/client/fpga-hybrid.conf", PROFILE.replace(ADDRESS, "172.27.224.12"), 0o600)
    world.write("etc/systemd/system/kubelet.service.d/20-fpga-hybrid.conf", "[Unit]\nAfter=openvpn-client@fpga-hybrid.service\n")
    world.is_node("worker1")
    give_bundle(world)
    return world


def give_bundle(world: World, **changes) -> None:
    made = world.bundle(node="worker1", vpn_profile=world.read("etc/openvpn/client/fpga-hybrid.conf"), vpn_address="172.27.224.12", **changes)
    world.write(FILE.lstrip("/"), json.dumps(made.document()), 0o600)


def join_on_prem(world: World, *more: str):
    return world.run("--config", "/etc/fpga-hybrid/node.json", "--bundle", FILE, "--node-name", "worker1", "--until", "joined", "--timeout", "20", *more)


def golden(name: str, found: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found)
    assert found == path.read_text(), f"{path} says otherwise"


def golden_join(world: World, case: str) -> None:
    """Everything that a join leaves behind."""
    kubelet = json.loads((world.doubles / "kubelet.json").read_text())
    if "systemReserved" in kubelet:
        kubelet["systemReserved"]["ephemeral-storage"] = "<what the test's file system has more>"
    golden(f"{case}/join.json", world.plain(json.dumps(json.loads((world.doubles / "join.json").read_text()), indent=2)) + "\n")
    golden(f"{case}/kubelet.json", json.dumps(kubelet, indent=2, sort_keys=True) + "\n")
    golden(f"{case}/hosts", world.read("etc/hosts"))
    golden(f"{case}/status.json", world.plain(world.read("var/lib/fpga-hybrid/bootstrap.json")))
    golden(f"{case}/calls", world.plain("\n".join(masked_folder(line) for line in world.calls())) + "\n")


def masked_folder(line: str) -> str:
    return " ".join("/run/fpga-hybrid/kubeadm-x/config.yaml" if word.endswith("/config.yaml") else word for word in line.split())


def no_secret_is_left(world: World, *results) -> None:
    """But for the VPN's own profile, and what kubeadm made."""
    allowed = {"etc/openvpn/client/fpga-hybrid.conf", "etc/openvpn/client/fpga-hybrid.login"}
    texts = [*(one.output + one.log for one in results), "\n".join(world.calls())]
    texts += [content.decode(errors="replace") for name, (_mode, _time, content) in world.snapshot().items() if name not in allowed]
    assert not [secret for secret in SECRETS for text in texts if secret in text]


# --- joins -----------------------------------------------------------------------------------------------------------------------------


def test_an_instance_joins_by_itself(instance):
    result = instance.join()
    assert result.status == 0, result.log
    golden_join(instance, "instance")
    golden("instance/openvpn.conf", instance.read("etc/openvpn/client/fpga-hybrid.conf"))
    assert json.loads(result.output) == json.loads(instance.read("var/lib/fpga-hybrid/bootstrap.json"))
    assert stat.S_IMODE((instance.root / "etc/openvpn/client/fpga-hybrid.conf").stat().st_mode) == 0o600
    assert instance.imds.without_token == []
    assert instance.evidence() is None
    no_secret_is_left(instance, result)


def test_an_on_prem_worker_joins_with_the_file_that_ansible_wrote(on_prem):
    result = join_on_prem(on_prem)
    assert result.status == 0, result.log
    golden_join(on_prem, "on-prem")
    assert not (on_prem.root / FILE.lstrip("/")).exists()
    assert "left to the control plane, because a kubelet may not set it: label node-role.kubernetes.io/worker" in result.log
    no_secret_is_left(on_prem, result)


def test_a_worker_of_the_lan_needs_no_vpn(world):
    world.declare({**ON_PREM, "vpn": None})
    world.is_node("worker1")
    world.write(FILE.lstrip("/"), json.dumps(world.bundle(node="worker1", vpn_profile=None, vpn_address=None, node_address="10.0.0.12").document()), 0o600)
    result = join_on_prem(world)
    assert result.status == 0, result.log
    golden_join(world, "lan")


@pytest.fixture
def tutorial(world) -> list[str]:
    """The command line of the tutorial's bootstrap.sh, on a host outside of AWS; with an access server's profile and a login."""
    world.imds.mode = "openstack"
    world.is_node("worker9")
    world.vpn.address = "172.27.224.9"
    given = world.folder / "given"
    given.mkdir()
    (given / "client.ovpn").write_text(
        "client\ndev tun\nremote vpn.example.org 1194 udp\nauth-user-pass\nsetenv FORWARD_COMPATIBLE 1\n<key>\ndev is no option in here\n</key>\nlog /tmp/x\n"
    )
    (given / "login").write_text("worker9\nthisisthepassword\n")
    (given / "token").write_text(f"{TOKEN}\n")
    return [
        *("--apiserver-endpoint", f"127.0.0.1:{world.api.port}"),
        *("--discovery-token-ca-cert-hash", world.api.authority.pin),
        *("--labels", "inaccel/fpga=enabled,example.org/x="),
        *("--openvpn-config", str(given / "client.ovpn")),
        *("--openvpn-login", f"@{given}/login"),
        *("--token", f"@{given}/token"),
        *("--node-name", "worker9", "--timeout", "20"),
    ]


def test_the_tutorials_command_line_still_works(world, tutorial):
    result = world.run(*tutorial, "--taints", "example.org/a=b:NoExecute")
    assert result.status == 0, result.log
    golden_join(world, "tutorial")
    golden("tutorial/openvpn.conf", world.read("etc/openvpn/client/fpga-hybrid.conf"))
    assert world.read("etc/openvpn/client/fpga-hybrid.login") == "worker9\nthisisthepassword\n"
    assert stat.S_IMODE((world.root / "etc/openvpn/client/fpga-hybrid.login").stat().st_mode) == 0o600
    assert "not EC2" in result.log
    no_secret_is_left(world, result)
    assert "thisisthepassword" not in result.log + result.output


def test_in_ec2_the_tutorials_command_line_adds_what_the_instance_is(world, tutorial):
    world.imds.mode = "v2"
    world.is_node(INSTANCE)
    result = world.run(*tutorial[:-4], "--timeout", "20")
    assert result.status == 0, result.log
    golden_join(world, "tutorial-ec2")


def test_a_literal_token_is_taken_with_a_warning(world, tutorial):
    arguments = [TOKEN if word.endswith("/token") else word for word in tutorial]
    result = world.run(*arguments)
    assert result.status == 0, result.log
    assert "warning: --token: a literal on the command line can be read by everybody" in result.log
    assert TOKEN not in result.log + result.output


def test_a_refused_login_ends_at_once_and_stops_the_client(world, tutorial):
    """An access server locks the account after a few attempts."""
    world.vpn.state = "RECONNECTING,auth-failure"
    (world.doubles / "openvpn.log").write_text("AUTH: Received control message: AUTH_FAILED\n")
    result = world.run(*tutorial)
    assert (result.status, result.failure["kind"]) == (40, "vpn")
    assert "refuses the login" in result.failure["sentence"]
    assert world.calls()[-1] == "systemctl disable --now openvpn-client@fpga-hybrid.service"


def test_bundle_and_evidence_go_through_a_parameter_store(world, moto):
    """moto's, as keeper writes and reads it."""
    cloud = Aws("us-east-1", lambda: Credentials("k", "s"), moto)
    node = user_data_node(world)
    world.declare({**node, "aws": {**node["aws"], "endpoint_url": moto}})
    made = bundle.encode(world.bundle())
    name = f"/fpga-hybrid/c/nodes/{INSTANCE}"
    tags = [{"Key": "fpga.hybrid/instance-arn", "Value": f"arn:aws:ec2:us-east-1:123456789012:instance/{INSTANCE}"}]
    cloud.call("ssm", "PutParameter", {"Name": name, "Value": made.text, "Type": "SecureString", "Tier": made.tier, "Tags": tags})
    world.api.tokens.clear()
    arguments = ("--config", "/etc/fpga-hybrid/node.json", "--bundle", "ssm", "--timeout", "3")
    assert world.run(*arguments).status == failure.TOKEN.status
    evidence = json.loads(cloud.call("ssm", "GetParameter", {"Name": f"/fpga-hybrid/c/failures/{INSTANCE}"})["Parameter"]["Value"])
    assert (evidence["failure"]["kind"], evidence["node_name"], evidence["pool"]) == ("token", INSTANCE, "f2-12xlarge")
    assert evidence["log"][-1].startswith("fpga-hybrid-bootstrap: step cluster: token (exit status 52)")
    world.api.tokens.add(TOKEN)
    result = world.join()
    assert result.status == 0, result.log


# --- again, and again ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["instance", "on_prem"])
def test_a_second_run_on_a_node_changes_nothing(request, host):
    world = request.getfixturevalue(host)
    again = world.join if host == "instance" else lambda: join_on_prem(world)
    assert again().status == 0
    before, calls = world.snapshot(), world.calls()
    result = again()
    assert result.status == 0, result.log
    assert world.snapshot() == before
    assert world.calls() == calls
    assert result.document["changes"] == []
    assert result.document["state"] == "joined"


def test_a_second_run_asks_aws_for_nothing(instance):
    assert instance.join().status == 0
    asked = len(instance.aws.requests)
    instance.aws.forget()
    instance.aws.answer(400, '{"__type": "ParameterNotFound"}')
    assert instance.join().status == 0
    assert len(instance.aws.requests) == asked


def test_a_hosts_file_that_cloud_init_wrote_anew_is_mended_at_the_next_start(instance):
    assert instance.join().status == 0
    instance.write("etc/hosts", "127.0.0.1 localhost\n")
    result = instance.join()
    assert result.status == 0, result.log
    assert result.document["changes"] == ["name api.example.org (127.0.0.1) in /etc/hosts"]
    assert "127.0.0.1 api.example.org" in instance.read("etc/hosts")


def test_a_failed_run_is_taken_up_by_the_next_and_the_status_says_so(instance):
    instance.api.tokens.clear()
    assert instance.run("--config", "/etc/fpga-hybrid/node.json", "--bundle", "ssm", "--timeout", "3").status == failure.TOKEN.status
    instance.api.tokens.add(TOKEN)
    result = instance.join()
    assert result.status == 0, result.log
    assert result.document["changes"] == ["kubeadm join"] or result.document["changes"] == ["start the kubelet after the VPN", "kubeadm join"]
    assert json.loads(instance.read("var/lib/fpga-hybrid/bootstrap.json"))["state"] == "joined"


@pytest.mark.parametrize("steps", range(6))
def test_a_join_that_was_killed_anywhere_is_made_by_the_next_run(instance, steps):
    """kill -9 of bootstrap and kubeadm, as a power cut does it, after each file that kubeadm writes."""
    (instance.doubles / "kubeadm.hangs").write_text(str(steps))
    process = instance.start("--config", "/etc/fpga-hybrid/node.json", "--bundle", "ssm", "--timeout", "30")
    wait_for(instance.doubles / "kubeadm.at_work")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, children)):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    assert not (instance.root / "etc/kubernetes/kubelet.conf").exists()
    (instance.doubles / "kubeadm.hangs").unlink()
    (instance.doubles / "calls").unlink()
    result = instance.join()
    assert result.status == 0, result.log
    kubeadm = [line.split()[1] for line in instance.calls() if line.startswith("kubeadm")]
    assert kubeadm == (["reset"] if steps else []) + ["config", "join"]
    assert not list((instance.root / "run/fpga-hybrid").glob("kubeadm-*"))
    no_secret_is_left(instance, result)


def test_a_shutdown_leaves_no_secret_and_is_no_failure_to_report(on_prem):
    (on_prem.doubles / "kubeadm.hangs").write_text("2")
    process = on_prem.start("--config", "/etc/fpga-hybrid/node.json", "--bundle", FILE, "--node-name", "worker1", "--timeout", "30")
    wait_for(on_prem.doubles / "kubeadm.at_work")
    process.terminate()
    output, _log = process.communicate(timeout=10)
    assert process.returncode == 143
    assert json.loads(output)["failure"]["kind"] == "interrupted"
    no_secret_is_left(on_prem)


def test_two_at_a_time_wait_for_each_other(on_prem):
    (on_prem.doubles / "kubeadm.hangs").write_text("2")
    first = on_prem.start("--config", "/etc/fpga-hybrid/node.json", "--bundle", FILE, "--node-name", "worker1", "--timeout", "30")
    wait_for(on_prem.doubles / "kubeadm.at_work")
    before = on_prem.read("var/lib/fpga-hybrid/bootstrap.json")
    second = on_prem.run("--config", "/etc/fpga-hybrid/node.json", "--bundle", "/run/other.json", "--node-name", "worker1", "--timeout", "1")
    assert second.status == failure.BUSY.status
    assert "another fpga-hybrid-bootstrap is at work on this host" in second.log
    assert on_prem.read("var/lib/fpga-hybrid/bootstrap.json") == before
    first.terminate()
    first.communicate(timeout=10)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 15
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.02)


# --- what the node becomes -------------------------------------------------------------------------------------------------------------


def test_what_the_host_has_beyond_the_promise_is_reserved_as_the_template_says(instance):
    """The same function on both sides: what the collection predicts is what the kubelet is told, and allocatable is the template's to the byte."""
    assert instance.join().status == 0
    node = json.loads(instance.read("etc/fpga-hybrid/node.json"))
    capacity = nodes.capacity(str(instance.root))
    told = json.loads((instance.doubles / "kubelet.json").read_text())
    expected = kubelet_configuration(node, capacity)
    assert {key: told[key] for key in expected if key != "registerWithTaints"} == {key: value for key, value in expected.items() if key != "registerWithTaints"}
    registration = json.loads((instance.doubles / "join.json").read_text())["nodeRegistration"]
    assert registration["taints"] == expected["registerWithTaints"]
    for name in ("cpu", "memory", "ephemeral-storage"):
        held = Quantity.parse(told["systemReserved"][name]) + Quantity.parse(told["kubeReserved"][name])
        evicted = eviction_reservation(name, told["evictionHard"], capacity[name])
        assert capacity[name] - held - evicted == Quantity.parse(node["resources"][name])
    flags = {flag["name"]: flag["value"] for flag in registration["kubeletExtraArgs"]}
    assert set(kubelet_arguments(node)["node-labels"].split(",")) < set(flags["node-labels"].split(","))


@pytest.mark.parametrize(
    ("pool", "zone", "expected"),
    [
        ({}, "us-east-1b", {"topology.kubernetes.io/zone": "us-east-1b", "topology.kubernetes.io/region": "us-east-1"}),
        ({"labels": {"topology.kubernetes.io/zone": "elsewhere"}}, "us-east-1b", {"topology.kubernetes.io/zone": "elsewhere"}),
    ],
)
def test_zone_and_region_are_what_the_autoscaler_predicts(world, pool, zone, expected):
    """From the group where the pool is silent, from the pool's labels (the group's tags) where it is not."""
    world.imds.identity["availabilityZone"] = zone
    world.declare(user_data_node(world, **pool))
    world.parameter()
    assert world.join().status == 0
    registration = json.loads((world.doubles / "join.json").read_text())["nodeRegistration"]
    flags = {flag["name"]: flag["value"] for flag in registration["kubeletExtraArgs"]}
    labels = dict(pair.split("=", 1) for pair in flags["node-labels"].split(","))
    assert {key: labels[key] for key in expected} == expected
    assert flags["provider-id"] == f"aws:///{zone}/{INSTANCE}"


def test_huge_pages_are_no_memory_for_pods(world):
    world.write("proc/meminfo", "MemTotal:       1000 kB\nHugetlb:          200 kB\n")
    assert nodes.capacity(str(world.root))["memory"] == Quantity.bytes(800 * 1024)


def test_a_block_of_the_hosts_file_keeps_what_others_put_there(instance):
    instance.write("etc/hosts", "127.0.0.1 localhost\n# BEGIN fpga.hybrid\n10.0.0.9 depot\n172.27.224.9 api.example.org\n# END fpga.hybrid\n10.0.0.7 x\n")
    assert instance.join().status == 0
    golden("hosts-block/hosts", instance.read("etc/hosts"))


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(instance):
    before = instance.snapshot()
    result = instance.join("--dry-run")
    assert result.status == 0, result.log
    assert instance.snapshot() == before
    assert instance.calls() == []
    golden("dry-run/output.json", dry(instance, result))
    no_secret_is_left(instance, result)


def test_a_dry_run_with_the_vpn_up_asks_the_cluster_too(on_prem):
    result = join_on_prem(on_prem, "--dry-run")
    assert result.status == 0, result.log
    assert (on_prem.root / FILE.lstrip("/")).exists()
    assert any("cluster-info" in line for line in on_prem.api.asked)
    on_prem.api.tokens.clear()
    assert join_on_prem(on_prem, "--dry-run").status == failure.TOKEN.status


def dry(world: World, result) -> str:
    document = result.document
    document["kubelet_configuration"]["systemReserved"]["ephemeral-storage"] = "<more>"
    return world.plain(json.dumps(document, indent=2)) + "\n"


# --- what can be wrong -----------------------------------------------------------------------------------------------------------------


def broken_imds(world: World, **mode) -> None:
    world.imds.__exit__()
    world.imds = MetadataService(INSTANCE, **mode).__enter__() if mode else None


def aws_says(world: World, status: int, code: str, message: str = "") -> None:
    world.aws.forget()
    world.aws.puts = None
    world.aws.answer(status, json.dumps({"__type": code, "message": message}))


def parameter_is(world: World, text: str) -> None:
    world.aws.forget()
    world.parameter(text)


def bundle_with(world: World, **changes) -> None:
    parameter_is(world, bundle.encode(world.bundle(**changes)).text)


def clock_is_off(world: World, seconds: float) -> None:
    world.aws.forget()
    world.parameter()
    world.aws.ahead = seconds


def another_cluster(world: World) -> None:
    world.write("etc/kubernetes/manifests/kube-apiserver.yaml", "x")


def copied_from_a_node(world: World) -> None:
    world.write("etc/kubernetes/kubelet.conf", "x")
    world.write("var/lib/kubelet/kubeadm-flags.env", 'KUBELET_KUBEADM_ARGS="--provider-id=aws:///us-east-1a/i-0fedcba9876543210"\n')


def dead_node(world: World, name: str = INSTANCE, provider_id: str | None = "aws:///us-east-1a/i-0fedcba9876543210") -> None:
    world.api.nodes[name] = node_object(name, provider_id, ready=False)


def never_ready(world: World) -> None:
    world.ready_after = 10_000


def vpn_is(world: World, state: str, log: str = "") -> None:
    world.vpn.state = state
    (world.doubles / "openvpn.log").write_text(log)


def unpublish(world: World) -> None:
    world.api.__exit__()


def silent_endpoint(world: World) -> None:
    """A port that takes connections into its queue and no more, until that is full."""
    line = socket.create_server(("127.0.0.1", 0), backlog=0)
    world.kept = [line, *(socket.socket() for _number in range(3))]
    for waiting in world.kept[1:]:
        waiting.setblocking(False)
        waiting.connect_ex(line.getsockname())
    bundle_with(world, endpoint=f"api.example.org:{line.getsockname()[1]}")


ENCODED = "H4sIAAAAAAAA"
INSTANCE_CASES = {
    # case: (what is wrong, kind)
    "node-json-missing": (lambda world: (world.root / "etc/fpga-hybrid/node.json").unlink(), failure.CONFIG),
    "node-json-no-json": (lambda world: world.write("etc/fpga-hybrid/node.json", "{"), failure.CONFIG),
    "node-json-wrong": (lambda world: world.declare({**user_data_node(world), "labels": [], "surprise": 1}), failure.CONFIG),
    "label-refused": (lambda world: world.declare({**user_data_node(world), "labels": {"node-role.kubernetes.io/fpga": ""}}), failure.LABEL),
    "label-malformed": (lambda world: world.declare({**user_data_node(world), "labels": {"example.org/a b": "c"}}), failure.LABEL),
    "image-without-kubeadm": (lambda world: (world.bin / "kubeadm").unlink(), failure.PROGRAM),
    "control-plane-on-it": (another_cluster, failure.FOREIGN),
    "copied-from-a-node": (copied_from_a_node, failure.FOREIGN),
    "too-little-memory": (lambda world: world.has(cpus=48, memory_kib=400_000_000), failure.CAPACITY),
    "too-few-cpus": (lambda world: world.has(cpus=24, memory_kib=528_280_000), failure.CAPACITY),
    "clock-behind": (lambda world: clock_is_off(world, 3600), failure.CLOCK),
    "clock-ahead": (lambda world: clock_is_off(world, -400), failure.CLOCK),
    "clock-behind-the-api-server": (lambda world: setattr(world.api, "ahead", 900.0), failure.CLOCK),
    "imds-absent": (broken_imds, failure.IMDS_ABSENT),
    "imds-slow": (lambda world: broken_imds(world, mode="slow"), failure.IMDS_SLOW),
    "imds-v1-only": (lambda world: broken_imds(world, mode="v1"), failure.IMDS_V1),
    "imds-disabled": (lambda world: broken_imds(world, mode="disabled"), failure.IMDS_DISABLED),
    "openstack": (lambda world: broken_imds(world, mode="openstack"), failure.NOT_AWS),
    "not-enrolled": (lambda world: aws_says(world, 400, "ParameterNotFound"), failure.NOT_ENROLLED),
    "ssm-denied": (
        lambda world: aws_says(world, 400, "AccessDeniedException", "User: x is not authorized to perform: ssm:GetParameter on resource: y"),
        failure.DENIED,
    ),
    "ssm-throttled": (lambda world: aws_says(world, 400, "ThrottlingException", "Rate exceeded"), failure.AWS),
    "ssm-failing": (lambda world: aws_says(world, 500, "InternalServerError", "try again"), failure.AWS),
    "ssm-unreachable": (lambda world: world.declare({**user_data_node(world), "aws": nowhere(world)}), failure.AWS),
    "ssm-of-another-region": (
        lambda world: aws_says(world, 400, "InvalidSignatureException", "Credential should be scoped to a valid region, not 'us-east-1'."),
        failure.REGION,
    ),
    "instance-of-another-region": (lambda world: broken_imds(world, mode="v2", region="eu-west-2", availabilityZone="eu-west-2a"), failure.REGION),
    "no-role": (lambda world: broken_imds(world, role=None), failure.NO_ROLE),
    "credentials-unknown": (lambda world: aws_says(world, 400, "UnrecognizedClientException", "The security token is invalid."), failure.NO_ROLE),
    "second-enrolment": (
        lambda world: parameter_is(world, bundle.encode_refusal(f"{INSTANCE} was enrolled before; end this instance.").text),
        failure.REFUSED,
    ),
    "bundle-cut-short": (lambda world: parameter_is(world, bundle.encode(world.bundle()).text[:400]), failure.BUNDLE_CUT),
    "bundle-empty": (lambda world: parameter_is(world, " "), failure.BUNDLE_CUT),
    "bundle-garbled": (lambda world: parameter_is(world, base64.b64encode(gzip.compress(b'{"schema": 9}')).decode()), failure.BUNDLE_BAD),
    "bundle-of-another-instance": (lambda world: bundle_with(world, node="i-0fedcba9876543210"), failure.BUNDLE_FOREIGN),
    "vpn-refused": (lambda world: vpn_is(world, "RECONNECTING,tls-error", "VERIFY ERROR: depth=0, error=certificate revoked: CN=i-1\n"), failure.VPN),
    "vpn-port-closed": (lambda world: vpn_is(world, "WAIT,"), failure.VPN),
    "vpn-wrong-address": (lambda world: setattr(world.vpn, "address", "172.27.232.99"), failure.VPN),
    "vpn-nothing-answers": (silent_endpoint, failure.VPN),
    "hosts-file-contradicts": (lambda world: world.write("etc/hosts", "10.9.9.9 api.example.org\n"), failure.HOSTS),
    "api-server-down": (unpublish, failure.API),
    "no-api-server": (lambda world: setattr(world.api, "cluster_info", "<html>"), failure.API),
    "wrong-ca-hash": (lambda world: bundle_with(world, ca_cert_hashes=("sha256:" + "1" * 64,)), failure.CA),
    "token-expired": (lambda world: world.api.tokens.clear(), failure.TOKEN),
    "name-of-a-dead-instance": (dead_node, failure.NAME_TAKEN),
    "name-without-provider-id": (lambda world: dead_node(world, provider_id=None), failure.NAME_TAKEN),
    "kubeadm-preflight": (
        lambda world: (world.doubles / "kubeadm.fails").write_text("[preflight]\n\t[ERROR CRI]: could not connect to the container runtime\n"),
        failure.KUBEADM,
    ),
    "kubeadm-finds-the-token-gone": (
        lambda world: (world.doubles / "kubeadm.fails").write_text('error: could not find a JWS signature in the cluster-info ConfigMap for token ID "abcdef"'),
        failure.TOKEN,
    ),
    "never-ready": (never_ready, failure.NOT_READY),
}


#: Where bootstrap waits for a change for the better, as long as a test can bear.
PATIENCE = {
    **dict.fromkeys([failure.IMDS_ABSENT, failure.IMDS_SLOW], "1"),
    **dict.fromkeys([failure.CLOCK, failure.NOT_ENROLLED, failure.DENIED, failure.AWS, failure.NO_ROLE], "2"),
    **dict.fromkeys([failure.VPN, failure.API, failure.TOKEN, failure.NOT_READY], "3"),
}


def nowhere(world: World) -> dict:
    return {**user_data_node(world)["aws"], "endpoint_url": "http://127.0.0.1:9"}


@pytest.mark.parametrize("case", INSTANCE_CASES)
def test_an_instance_that_cannot_join_says_why(instance, case):
    """Its own exit status and a sentence that says what to do, in the status file, on the console and, where AWS can be reached, in the parameter store."""
    breaks, kind = INSTANCE_CASES[case]
    breaks(instance)
    result = instance.run("--config", "/etc/fpga-hybrid/node.json", "--bundle", "ssm", "--timeout", PATIENCE.get(kind, "20"))
    assert (result.status, result.failure["kind"]) == (kind.status, kind.name), result.log
    document = json.loads(instance.read("var/lib/fpga-hybrid/bootstrap.json"))
    assert document["state"] == "failed"
    assert document["failure"] == result.failure
    golden(f"failures/{case}.txt", instance.plain(f"exit status {result.status}, step {result.failure['step']}\n{result.failure['sentence']}\n"))
    known = document["node_name"] is not None
    console = instance.read("dev/console")
    assert instance.plain(result.failure["sentence"]) in instance.plain(console) or case.startswith("node-json")
    if known and kind not in (failure.AWS,) and not case.startswith(("ssm-", "no-role", "credentials-")):
        put = instance.evidence()
        assert put["Name"] == f"/fpga-hybrid/c/failures/{INSTANCE}"
        assert (put["Type"], put["Overwrite"]) == ("String", True)
        assert len(put["Value"].encode()) <= 4096
        assert json.loads(put["Value"])["failure"] == result.failure
    no_secret_is_left(instance, result)


def test_each_kind_of_failure_has_its_own_status_and_is_in_the_help(world):
    statuses = [kind.status for kind in failure.KINDS]
    assert len(set(statuses)) == len(statuses) == len({kind.name for kind in failure.KINDS})
    help_text = world.run("--help")
    assert help_text.status == 0
    assert all(f"{kind.status:>3}  {kind.name} " in help_text.output for kind in failure.KINDS)


COMPLETE = ["--apiserver-endpoint", "api:6443", "--discovery-token-ca-cert-hash", "sha256:" + "0" * 64]
USAGE_CASES = {
    "unknown option": (["--frobnicate"], "unrecognized arguments: --frobnicate"),
    "shortened option": (["--tok", "x"], "unrecognized arguments: --tok"),
    "nothing at all": ([], "--apiserver-endpoint, --discovery-token-ca-cert-hash, --token: missing"),
    "no token": (COMPLETE, "--token: missing"),
    "argument missing": (["--token"], "argument --token: expected one argument"),
    "token of the wrong form": ([*COMPLETE, "--token", "thisisasecret"], "--token: expected six and sixteen characters"),
    "token file missing": ([*COMPLETE, "--token", "@/nowhere"], "--token: /nowhere cannot be read: No such file"),
    "hash of the wrong form": (["--token", TOKEN, *COMPLETE[:3], "sha1:00"], "expected sha256: and 64 hexadecimal digits"),
    "endpoint without a port": (["--token", TOKEN, "--apiserver-endpoint", "api", *COMPLETE[2:]], "--apiserver-endpoint 'api': expected name:port"),
    "bundle and token": (["--bundle", "/x", "--token", TOKEN], "--token: comes with the bundle"),
    "ssm without config": (["--bundle", "ssm"], "--bundle ssm needs --config"),
    "login without a profile": ([*COMPLETE, "--token", TOKEN, "--openvpn-login", "/x"], "--openvpn-login needs --openvpn-config"),
    "login that is no file": ([*COMPLETE, "--token", TOKEN, "--openvpn-config", "/dev/null", "--openvpn-login", "user:password"], "cannot be read"),
    "timeout that is none": (["--bundle", "/x", "--timeout", "soon"], "--timeout 'soon': expected seconds"),
    "name that is none": (["--bundle", "/x", "--node-name", "Worker_1"], "--node-name 'Worker_1': expected lower-case"),
    "bundle that is not there": (
        ["--config", "/etc/fpga-hybrid/node.json", "--bundle", "/run/none", "--node-name", "worker1"],
        "--bundle /run/none cannot be read",
    ),
}


@pytest.mark.parametrize("case", USAGE_CASES)
def test_a_wrong_command_line_is_told_and_does_nothing(world, case):
    arguments, words = USAGE_CASES[case]
    world.declare(ON_PREM)
    result = world.run(*arguments)
    assert result.status == failure.USAGE.status
    assert words in result.log
    assert world.calls() == []
    assert "thisisasecret" not in result.log + result.output


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--labels=example.org/a=b c", "is no label that Kubernetes takes"),
        ("--labels=-a=b", "is no label"),
        ("--labels=node-role.kubernetes.io/fpga=", "no kubelet may give its own node a label"),
        ("--taints=example.org/a=b", "is no taint|has the effect"),
        ("--taints=example.org/a=b:Sometimes", "has the effect 'Sometimes'"),
    ],
)
def test_a_label_or_taint_that_kubernetes_refuses_is_told(world, option, words):
    world.declare(ON_PREM)
    world.write(FILE.lstrip("/"), json.dumps(world.bundle(node="worker1").document()), 0o600)
    result = join_on_prem(world, option)
    assert result.status == failure.LABEL.status
    assert any(word in result.log for word in words.split("|"))


def test_a_bundle_that_others_can_read_is_told(on_prem):
    (on_prem.root / FILE.lstrip("/")).chmod(0o644)
    result = join_on_prem(on_prem)
    assert result.status == 0
    assert "others can read it (mode 0044)" in result.log


def test_a_slow_start_of_the_metadata_service_is_waited_for(instance):
    instance.imds.mode = "slow_at_first"
    assert instance.join().status == 0


def test_a_bundle_that_comes_late_is_waited_for(instance):
    """Enrolment takes its time; until then AWS says denied, because the condition on the parameter's tag is not met."""
    instance.aws.forget()
    instance.aws.answer(400, '{"__type": "AccessDeniedException", "message": "no"}')
    instance.aws.hang_up()
    instance.parameter()
    result = instance.join()
    assert result.status == 0, result.log
    assert "waiting: parameter /fpga-hybrid/c/nodes/i-0123456789abcdef0 is denied to this instance" in result.log


def test_a_defect_of_the_program_is_told_as_one(instance):
    (instance.root / "proc/meminfo").write_text("nothing\n")
    result = instance.join()
    assert (result.status, result.failure["kind"]) == (failure.INTERNAL.status, "internal")
    assert "a defect of fpga-hybrid-bootstrap: KeyError in node.py:" in result.failure["sentence"]
    assert instance.evidence() is not None


def test_evidence_of_a_long_story_still_fits(instance):
    (instance.doubles / "kubeadm.fails").write_text("\n".join(f"[ERROR Check{number}]: {'x' * 200}" for number in range(100)))
    result = instance.join()
    assert result.status == failure.KUBEADM.status
    assert len(instance.evidence()["Value"].encode()) <= 4096
    assert PROVIDER_ID in instance.evidence()["Value"]


def test_a_secret_that_another_program_prints_is_masked_wherever_it_would_appear(instance):
    (key,) = [line for line in PROFILE.splitlines() if "thisisthekey" in line]
    (instance.doubles / "kubeadm.fails").write_text(f"error: token {TOKEN}, secret {SECRETS[1]}, {key}")
    result = instance.join()
    assert result.status == failure.KUBEADM.status
    assert "error: token ********, secret ********, ********" in result.failure["sentence"]
    no_secret_is_left(instance, result)
    assert not [secret for secret in SECRETS if secret in instance.evidence()["Value"]]
