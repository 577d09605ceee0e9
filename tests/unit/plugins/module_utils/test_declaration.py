# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a declaration must keep to."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils._declaration import MIRRORS as MIRROR_NAMES
from ansible_collections.fpga.hybrid.plugins.module_utils._declaration import VARIABLES, Host, node_address, validate

ROOT = Path(__file__).resolve().parents[4]
DEFAULTS = yaml.safe_load((ROOT / "roles" / "cluster" / "defaults" / "main.yml").read_text())
OPTIONS = yaml.safe_load((ROOT / "roles" / "cluster" / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
GOOD = {
    **{name: value for name, value in DEFAULTS.items() if name in VARIABLES},
    "cluster_name": "InAccel",
    "cluster_vpn_server_address": "172.27.224.1",
    "cluster_vpn_dial_port": 1194,
    "cluster_control_plane_endpoint": "api.fpga.example.org:6443",
    "cluster_vpn_endpoint": "vpn.fpga.example.org",
    "cluster_on_prem_addresses": "vpn",
    "cluster_lan_networks": ["10.203.10.0/24"],
}
CP = Host("cp1", True, {"ansible_host": "10.203.10.11"})
WORKER = Host("worker1", False, {"ansible_host": "10.203.10.12", "vpn_address": "172.27.224.12"})


def problems(hosts=(CP, WORKER), recorded=None, **changes) -> list[str]:
    return [str(problem) for problem in validate({**GOOD, **changes}, list(hosts), recorded)]


def worker(**variables):
    return (CP, Host("worker1", False, {**WORKER.variables, **variables}))


def test_the_tutorial_s_declaration_is_sound():
    assert problems() == []


def test_every_default_is_checked_or_computed():
    """A variable that nobody checks could be mistyped without a word."""
    assert set(DEFAULTS) - set(VARIABLES) == {"allow_disruption"}


@pytest.mark.parametrize(
    ("changes", "hosts", "says"),
    [
        ({}, (CP, WORKER), ""),
        ({}, worker(vpn_address="172.27.224.8"), ""),
        ({}, worker(vpn_address="172.27.224.5"), "worker1, vpn_address: found 172.27.224.5; expected an address outside of 172.27.224.0/29"),
        ({"cluster_vpn_server_address": "172.27.225.1"}, (CP, WORKER), ""),
        (
            {"cluster_vpn_server_address": "172.27.224.9"},
            (CP, WORKER),
            "worker1, vpn_address: found 172.27.224.12; expected an address outside of 172.27.224.8/29",
        ),
        ({"cluster_vpn_server_address": "172.27.224.2"}, (CP, WORKER), "cluster_vpn_server_address: found 172.27.224.2; expected the first address of a /29"),
        ({"cluster_vpn_instance_range": "172.27.224.0/22"}, (CP,), "cluster_vpn_instance_range: found 172.27.224.0/22; expected a part of the network without"),
        ({"cluster_vpn_network": "172.27.224.0/29", "cluster_vpn_instance_range": "172.27.224.4/30"}, (CP,), "in a network larger than /29"),
    ],
)
def test_access_server_has_a_part_of_the_network_for_itself(changes, hosts, says):
    found = [message for message in problems(hosts, cluster_vpn_backend="openvpn_as", **changes) if "Access Server" in message]
    assert bool(found) is bool(says)
    assert all(says in message for message in found[:1])
    assert not any("Access Server" in message for message in problems(hosts, **changes)), "community OpenVPN has no such rule"


@pytest.mark.parametrize(("name", "choice"), [(name, choice) for name, option in OPTIONS.items() for choice in option.get("choices", [])])
def test_what_the_argument_specs_offer_is_taken(name, choice):
    assert [message for message in problems(**{name: choice}) if message.startswith(f"{name}:")] == []


def test_every_mirror_that_can_be_set_is_described():
    described = " ".join(OPTIONS["cluster_mirrors"]["description"])
    assert [mirror for mirror in MIRROR_NAMES if f"C({mirror})" not in described] == []


@pytest.mark.parametrize("name", ["cluster_name", "cluster_on_prem_addresses", "cluster_control_plane_endpoint", "cluster_vpn_endpoint"])
def test_what_has_no_default_must_be_given(name):
    assert [message for message in problems(**{name: None}) if message.startswith(f"{name}: found nothing; expected ")]


NETWORKS = [
    ({"cluster_pod_network": "172.27.0.0/16"}, "cluster_vpn_network: 172.27.224.0/20 overlaps cluster_pod_network 172.27.0.0/16"),
    ({"cluster_service_network": "10.244.128.0/17"}, "cluster_pod_network: 10.244.0.0/16 overlaps cluster_service_network 10.244.128.0/17"),
    ({"cluster_lan_networks": ["10.96.0.0/24"]}, "cluster_service_network: 10.96.0.0/12 overlaps cluster_lan_networks 10.96.0.0/24"),
    ({"cluster_lan_networks": ["10.203.10.0/24", "10.203.0.0/16"]}, "cluster_lan_networks: 10.203.10.0/24 overlaps cluster_lan_networks 10.203.0.0/16"),
    ({"cluster_vpc_networks": ["10.203.0.0/16"]}, "cluster_lan_networks: 10.203.10.0/24 overlaps cluster_vpc_networks 10.203.0.0/16"),
    (
        {"cluster_pod_network": "10.244.1.0/16"},
        "cluster_pod_network: found '10.244.1.0/16'; expected an IPv4 network",
    ),
    ({"cluster_pod_network": "fd00::/64"}, "cluster_pod_network: found 'fd00::/64'"),
    ({"cluster_pod_network": "224.0.0.0/8"}, "cluster_pod_network: found '224.0.0.0/8'; expected a network that hosts may have"),
    ({"cluster_pod_network": "10.244.0.0/24"}, "cluster_pod_network: found 10.244.0.0/24, enough for 1 nodes"),
    ({"cluster_pod_network": "10.244.0.0/25"}, "cluster_pod_network: found 10.244.0.0/25; expected a size from /8 to /24"),
    ({"cluster_service_network": "10.64.0.0/10"}, "cluster_service_network: found 10.64.0.0/10; expected a size from /12 to /28"),
    ({"cluster_vpn_instance_range": "172.27.240.0/21"}, "cluster_vpn_instance_range: found 172.27.240.0/21; expected a part of cluster_vpn_network"),
    ({"cluster_vpn_instance_range": "172.27.224.0/20"}, "cluster_vpn_instance_range: found 172.27.224.0/20; expected a part"),
    ({"cluster_vpn_instance_range": "172.27.232.0"}, "cluster_vpn_instance_range: found '172.27.232.0'"),
    ({"cluster_lan_networks": "10.203.10.0/24"}, "cluster_lan_networks: found '10.203.10.0/24'; expected a list"),
]


@pytest.mark.parametrize(("changes", "message"), NETWORKS)
def test_networks_that_cannot_work_are_refused(changes, message):
    assert any(problem.startswith(message) for problem in problems(**changes)), problems(**changes)


ADDRESSES = [
    (worker(vpn_address="172.27.224.1"), "worker1, vpn_address: 172.27.224.1, which cp1 has as well"),
    (worker(vpn_address="172.28.0.1"), "worker1, vpn_address: found '172.28.0.1'; expected an address out of cluster_vpn_network 172.27.224.0/20"),
    (worker(vpn_address="172.27.224.0"), "worker1, vpn_address: found 172.27.224.0, which is the network's own"),
    (worker(vpn_address="172.27.232.7"), "worker1, vpn_address: 172.27.232.7 lies in cluster_vpn_instance_range 172.27.232.0/21"),
    (worker(vpn_address="172.27.224.012"), "worker1, vpn_address: found '172.27.224.012'"),
    (worker(vpn_address=None), "worker1, vpn_address: found nothing"),
    (worker(ansible_host="10.244.3.3"), "worker1, ansible_host: 10.244.3.3 lies in cluster_pod_network 10.244.0.0/16"),
    (worker(cluster_vpn_endpoint="https://vpn"), "worker1, cluster_vpn_endpoint: found 'https://vpn'"),
    (worker(node_labels={"example.org/rack": 4}), "worker1, node_labels.example.org/rack: found 4"),
    (worker(node_taints=["x=y:Never"]), "worker1, node_taints: found 'x=y:Never'"),
    (
        worker(node_taints=[{"key": "x", "effect": "Never"}]),
        "worker1, node_taints: found {'key': 'x', 'effect': 'Never'}; expected key=value:effect, or a mapping",
    ),
    (worker(node_taints=[4]), "worker1, node_taints: found 4"),
    ((Host("cp1", True, {"vpn_address": "172.27.224.5"}),), "cp1, vpn_address: found 172.27.224.5; expected cluster_vpn_server_address"),
]


@pytest.mark.parametrize(("hosts", "message"), ADDRESSES)
def test_hosts_that_cannot_work_are_refused_by_name(hosts, message):
    assert any(problem.startswith(message) for problem in problems(hosts)), problems(hosts)


@pytest.mark.parametrize("taint", ["x=y:NoSchedule", "x:NoExecute", {"key": "x", "effect": "NoSchedule"}, {"key": "x", "value": "y", "effect": "NoSchedule"}])
def test_a_taint_may_be_written_as_kubectl_does_or_as_a_mapping(taint):
    assert problems(worker(node_taints=[taint])) == []


VALUES = [
    ("cluster_control_plane_endpoint", "10.0.0.1", "found the address 10.0.0.1"),
    ("cluster_control_plane_endpoint", "https://api.example.org", "found 'https://api.example.org'"),
    ("cluster_control_plane_endpoint", "api.example.org:70000", "found the port '70000'"),
    ("cluster_control_plane_endpoint", "api_1", "found 'api_1'"),
    ("cluster_vpn_endpoint", "vpn.example.org:1194", "found 'vpn.example.org:1194'"),
    ("cluster_vpn_endpoint", "300.1.1.1", "found '300.1.1.1'"),
    ("cluster_vpn_port", 0, "found 0"),
    ("cluster_vpn_dial_port", 70000, "found 70000; expected a number from 1 to 65535"),
    ("cluster_vpn_device", "a-tunnel-device-0", "found 'a-tunnel-device-0'; expected at most 15 letters"),
    ("cluster_vpn_port", True, "found True"),
    ("cluster_vpn_mtu", 1500, "found 1500; expected a number from 1280 to 1448"),
    ("cluster_vpn_mtu", 576, "found 576"),
    ("cluster_ready_timeout", 0, "found 0; expected a number from 1 to 3600"),
    ("cluster_vpn_protocol", "sctp", "found 'sctp'"),
    ("cluster_vpn_backend", "wireguard", "found 'wireguard'; expected openvpn or openvpn_as"),
    ("cluster_on_prem_addresses", "both", "found 'both'; expected vpn or lan"),
    ("cluster_container_runtime", "crio", "found 'crio'"),
    ("cluster_cni", "flannel", "found 'flannel'"),
    ("cluster_dns_domain", "cluster local", "found 'cluster local'"),
    ("cluster_admins", ["Maria!"], "found 'Maria!'"),
    ("cluster_name", "two words", "found 'two words'"),
    ("cluster_proxy", {"htp": "x"}, "no such key"),
    ("cluster_proxy", {"http": "proxy:3128"}, "found no URL"),
    ("cluster_proxy", {"https": "http://user:S3CRET@proxy:3128"}, "found credentials in the URL"),
    ("cluster_proxy", {"http": "http://:S3CRET@proxy:3128"}, "found credentials in the URL"),
    ("cluster_proxy", {"http": "http://user@proxy:3128"}, "found credentials in the URL"),
]


@pytest.mark.parametrize(("name", "value", "message"), VALUES)
def test_a_value_that_cannot_work_is_refused_by_the_name_of_its_variable(name, value, message):
    found = problems(**{name: value})
    assert any(problem.startswith(name) and message in problem for problem in found), found


def test_numbers_may_come_as_texts_from_the_command_line():
    assert problems(cluster_vpn_port="1195", cluster_vpn_mtu="1380") == []


MIRROR = {"url": "https://mirror.example.org"}
MIRRORS = [
    (
        {"apt": MIRROR},
        "cluster_mirrors.apt: no such mirror; expected one of debian, kubernetes, docker, helm, xilinx, inaccel, openvpn_as, images, charts, files, python",
    ),
    ({"images": "https://x"}, "cluster_mirrors.images: found 'https://x'; expected a mapping with url"),
    ({"images": {}}, "cluster_mirrors.images.url: found nothing"),
    ({"images": {"url": "ftp://x"}}, "cluster_mirrors.images.url: found 'ftp://x'"),
    ({"images": {**MIRROR, "key": "x"}}, "cluster_mirrors.images.key: no such key"),
    ({"images": {**MIRROR, "user": "x"}}, "cluster_mirrors.images.user: no such key"),
    ({"images": {**MIRROR, "password": "x"}}, "cluster_mirrors.images.username: one of username and password without the other"),
    ({"images": {"url": "http://x", "username": "u", "password": "p"}}, "cluster_mirrors.images.url: a password would go over plain http"),
    ({"images": {"url": "https://u:p@x"}}, "cluster_mirrors.images.url: found credentials in the URL"),
    ({"images": {**MIRROR, "ca": "/etc/ca.crt"}}, "cluster_mirrors.images.ca: found no PEM certificate"),
    ({"helm": {**MIRROR, "key": "/etc/key.asc"}}, "cluster_mirrors.helm.key: found no armored PGP key"),
    ({"helm": {**MIRROR, "username": 7, "password": 8}}, "cluster_mirrors.helm.username: found no text"),
]


@pytest.mark.parametrize(("mirrors", "message"), MIRRORS)
def test_a_wrong_mirror_is_named(mirrors, message):
    assert any(problem.startswith(message) for problem in problems(cluster_mirrors=mirrors)), problems(cluster_mirrors=mirrors)


def test_a_mirror_that_docker_as_the_runtime_cannot_use_is_refused():
    mirrors = {"images": MIRROR, "docker": MIRROR}
    assert problems(cluster_mirrors=mirrors) == []
    (found,) = problems(cluster_mirrors=mirrors, cluster_container_runtime="docker")
    assert found.startswith("cluster_mirrors.images: found a mirror; expected none where Docker is the runtime")
    assert problems(cluster_mirrors={"docker": MIRROR}, cluster_container_runtime="docker") == []


@pytest.mark.parametrize("mirror", [{"url": "http://x"}, {"url": "https://u:S3CRET@x"}, {"url": 7}, MIRROR])
def test_no_message_holds_a_password(mirror):
    mirrors = {"images": {**mirror, "password": "S3CRET", "ca": "S3CRET", "S": "S3CRET"}}
    assert not [problem for problem in problems(cluster_mirrors=mirrors) if "S3CRET" in problem]


@pytest.mark.parametrize("url", ["http://user:S3CRET@proxy:3128", "http://:S3CRET@proxy", "user:S3CRET@proxy:3128", "socks5://user:S3CRET@proxy"])
def test_no_message_holds_a_proxys_password(url):
    found = problems(cluster_proxy={"http": url, "https": url})
    assert len(found) == 2
    assert not [problem for problem in found if "S3CRET" in problem]


def test_a_proxy_without_login_is_accepted():
    assert problems(cluster_proxy={"http": "http://proxy.example.org:3128", "https": "http://10.0.0.9:3128/"}) == []


def test_another_kubernetes_than_the_recorded_one_is_refused():
    recorded = {"kubernetes": "1.36.3", "calico": "v3.32.1"}
    assert problems(recorded=recorded) == []
    assert "never upgrades" in problems(recorded=recorded, cluster_kubernetes_version="1.37")[0]


def test_in_lan_mode_only_hosts_from_elsewhere_need_a_vpn_address():
    here = Host("worker1", False, {"ansible_host": "10.203.10.12"})
    elsewhere = Host("worker2", False, {"ansible_host": "10.203.20.13", "vpn_address": "172.27.224.13"})
    assert problems((CP, here, elsewhere), cluster_on_prem_addresses="lan") == []


def test_in_lan_mode_a_host_reached_by_name_must_tell_its_address():
    found = problems((CP, Host("worker1", False, {"ansible_host": "worker1.example.org"})), cluster_on_prem_addresses="lan")
    assert found[0].startswith("worker1, node_address: found 'worker1.example.org'; expected the IPv4 address that the host has in the LAN")


def test_in_lan_mode_the_lan_must_be_routed():
    found = problems((CP, Host("worker1", False, {"ansible_host": "10.7.0.1"})), cluster_on_prem_addresses="lan")
    assert found[0].startswith("worker1, cluster_lan_networks: none of 10.203.10.0/24 holds the node's address 10.7.0.1")


@pytest.mark.parametrize(
    ("variables", "mode", "server", "address"),
    [
        ({"vpn_address": "172.27.224.12", "ansible_host": "10.0.0.1"}, "vpn", False, "172.27.224.12"),
        ({"ansible_host": "10.0.0.1"}, "vpn", True, "172.27.224.1"),
        ({"ansible_host": "10.0.0.1"}, "vpn", False, None),
        ({"ansible_host": "10.0.0.1"}, "lan", False, "10.0.0.1"),
        ({"ansible_host": "198.51.100.1", "node_address": "10.0.0.1"}, "lan", False, "10.0.0.1"),
        ({"ansible_host": "10.0.0.1", "vpn_address": "172.27.224.1"}, "lan", True, "10.0.0.1"),
        ({"ansible_host": "10.0.0.1", "vpn_address": "172.27.224.13"}, "lan", False, "172.27.224.13"),
        ({"ansible_host": "worker1"}, "lan", False, None),
    ],
)
def test_a_node_s_address_follows_from_the_inventory_alone(variables, mode, server, address):
    assert node_address(variables, mode, server, "172.27.224.1") == address


networks = st.builds(lambda bits, length: str(IPv4Network((bits << 8, length), strict=False)), st.integers(2**16, 2**24 - 2), st.integers(8, 28))
words = st.text(max_size=5)
junk = st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.lists(words, max_size=2) | st.dictionaries(words, words, max_size=2)


@given(st.dictionaries(st.sampled_from(VARIABLES), junk), st.dictionaries(st.sampled_from(["vpn_address", "node_address", "node_labels", "node_taints"]), junk))
def test_no_declaration_makes_it_stumble(changes, variables):
    for problem in validate({**GOOD, **changes}, [CP, Host("worker1", False, variables)]):
        assert all((problem.variable, problem.found, problem.expected, problem.remedy))


@given(networks, networks, networks)
def test_what_is_accepted_does_not_overlap(vpn, pods, services):
    changes = {"cluster_vpn_network": vpn, "cluster_pod_network": pods, "cluster_service_network": services, "cluster_lan_networks": []}
    overlapping = any(IPv4Network(a).overlaps(IPv4Network(b)) for a, b in [(vpn, pods), (vpn, services), (pods, services)])
    said = any(" overlaps " in problem for problem in problems((), **changes))
    assert said or not overlapping or any("expected a network that hosts may have" in problem for problem in problems((), **changes))
