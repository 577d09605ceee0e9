# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can become a node: the rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._host import BEGIN, END
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import CONTROL_PLANE_FILES, NODE_FILES, Found
from ansible_collections.fpga.hybrid.plugins.module_utils._preflight import Answer, KeyFile, Listener, Probe, Route, Wanted, judge, notes

FRESH = Probe(
    os=("debian", "12"),
    os_name="Debian GNU/Linux 12 (bookworm)",
    machine="x86_64",
    init="systemd",
    tun_error="",
    cpus=4,
    memory=8000,
    disk_free=50000,
    cgroup_v2=True,
    missing_features=(),
    routes=(Route("10.203.10.0/24", "eth0"),),
    listeners=(Listener("tcp", 22, "sshd"),),
    clock_offset=0.3,
    time_servers={},
    answers=(Answer("images", "https://mirror/v2/", 200),),
)
WORKER = Wanted(
    host="worker1",
    control_plane=False,
    vpn_server=False,
    vpn_member=True,
    cluster_name="InAccel",
    cluster_id="id-1",
    endpoint="api.example.org:6443",
    endpoint_address="172.27.224.1",
    node_address="172.27.224.12",
    kubernetes="1.36.3",
    networks=(
        ("cluster_vpn_network", "172.27.224.0/20"),
        ("cluster_pod_network", "10.244.0.0/16"),
        ("cluster_service_network", "10.96.0.0/12"),
        ("cluster_lan_networks", "10.203.10.0/24"),
        ("cluster_vpc_networks", "172.31.0.0/16"),
    ),
    vpn_port=1194,
    vpn_protocol="udp",
    fail_cgroup_v1=True,
    keep_swap=False,
    minimum_cpus=2,
    minimum_memory=1700,
    minimum_disk=4096,
    clock_tolerance=30,
)
MASTER = replace(WORKER, host="cp1", control_plane=True, vpn_server=True, node_address="172.27.224.1")
JOINED = replace(
    FRESH,
    node_cluster_id="id-1",
    kubelet_server="api.example.org:6443",
    vpn_is_ours=True,
    routes=(
        Route("172.27.224.0/20", "tun0"),
        Route("10.244.7.0/26", "vxlan.calico", "10.244.7.0"),
        Route("10.244.1.3/32", "cali12345"),
        Route("10.244.1.0/26", ""),
    ),
    listeners=(Listener("tcp", 10250, "kubelet"), Listener("tcp", 10256, "kube-proxy"), Listener("udp", 4789, "")),
)


def said(found, wanted=WORKER):
    return [str(problem) for problem in judge(found, wanted)]


@pytest.mark.parametrize("found", [FRESH, JOINED, replace(FRESH, os=("ubuntu", "24.04"))])
@pytest.mark.parametrize("wanted", [WORKER, MASTER])
def test_a_fresh_host_and_a_node_of_ours_have_no_problem(found, wanted):
    assert said(found, wanted) == []


@pytest.mark.parametrize(
    "text", [f"{BEGIN}\n172.27.224.9 api.example.org\n{END}\n", "172.27.224.1 api.example.org\n", "127.0.1.1 cp1\n", "#127.0.1.1 api.example.org\n"]
)
def test_a_hosts_file_that_says_the_same_or_that_the_run_mends_is_no_problem(text):
    assert said(replace(FRESH, hosts_file=text)) == []


def test_an_administrator_who_is_no_user_is_named():
    problems = said(replace(FRESH, unknown_users=("alice", "bob")), MASTER)
    assert problems == [
        f"cp1, cluster_admins: there is no user {user}; expected users of this host. Make the user first, or take the name out." for user in ("alice", "bob")
    ]


KEEPER, AUTOSCALER = "cluster_aws_credentials.keeper", "cluster_aws_credentials.autoscaler"


def test_a_key_file_that_is_not_there_is_named_with_what_to_do():
    (problem,) = said(replace(FRESH, key_files=(KeyFile(KEEPER, "/root/k", "No such file or directory"), KeyFile(AUTOSCALER, "/root/a"))), MASTER)
    assert problem == (
        "cp1, cluster_aws_credentials.keeper: /root/k: No such file or directory; expected a file with section [default] with aws_access_key_id and "
        "aws_secret_access_key. Put it there, mode 0600, on cp1 (playbook iam.yml writes what the key has to be good for), or name another file."
    )


def test_one_that_is_no_key_file_has_a_remedy_of_its_own():
    (problem,) = said(replace(FRESH, key_files=(KeyFile(KEEPER, "/root/k", "it is no credentials file", "Write [default]."),)), MASTER)
    assert problem.endswith(". Write [default].")


def test_a_key_that_is_to_be_in_a_secret_needs_a_cluster_that_has_it():
    found = replace(FRESH, key_files=(KeyFile(AUTOSCALER, ""),))
    (problem,) = said(found, MASTER)
    assert problem.startswith("cp1, cluster_aws_credentials.autoscaler: it names no file, and there is no cluster yet that could have the Secret; expected")
    assert said(replace(found, kubernetes=Found(files=("admin.conf",))), replace(MASTER, node=False)) == []


def test_a_standing_control_plane_has_no_problem():
    listeners = [
        ("tcp", 6443, "kube-apiserver"),
        ("tcp", 2379, "etcd"),
        ("tcp", 2380, "etcd"),
        ("tcp", 10257, "kube-controller"),
        ("tcp", 10259, "kube-scheduler"),
    ]
    found = replace(JOINED, running_kubernetes="1.36.3", listeners=tuple(Listener(*entry) for entry in [*listeners, ("udp", 1194, "openvpn")]))
    assert said(found, MASTER) == []


OBSTACLES = {
    "operating system": (replace(FRESH, os=("fedora", "43"), os_name="Fedora 43"), "worker1, operating system: found Fedora 43; expected Debian 12 or 13"),
    "Debian 11": (replace(FRESH, os=("debian", "11"), os_name="Debian 11"), "worker1, operating system: found Debian 11"),
    "architecture": (replace(FRESH, machine="aarch64"), "worker1, architecture: found aarch64"),
    "no systemd": (replace(FRESH, init="sh"), "worker1, init system: process 1 is sh"),
    "no tun": (replace(FRESH, tun_error="/dev/net/tun: No such file or directory"), "worker1, /dev/net/tun: /dev/net/tun: No such file"),
    "kernel": (replace(FRESH, missing_features=("br_netfilter",)), "worker1, kernel, br_netfilter: the kernel has no br_netfilter"),
    "cgroup v1": (replace(FRESH, cgroup_v2=False), "worker1, kubeadm_kubelet_configuration.failCgroupV1: the host has cgroup v1"),
    "Debian's own line for its name": (
        replace(FRESH, hosts_file="127.0.0.1 localhost\n127.0.1.1 api.example.org api\n"),
        "worker1, cluster_control_plane_endpoint: /etc/hosts has '127.0.1.1 api.example.org api'; expected api.example.org = 172.27.224.1 alone",
    ),
    "disk": (replace(FRESH, disk_free=100), "worker1, preflight_minimum.disk: found 100 MiB free"),
    "swap of the machine below": (replace(FRESH, swaps=("/dev/vda2",), container="lxc"), "worker1, swap_policy: /dev/vda2 is on"),
    "another cluster's id": (
        replace(JOINED, node_cluster_id="id-2", node_cluster_name="Other"),
        "worker1, cluster_id: is a node of cluster Other, id id-2; expected no node",
    ),
    "another API server": (
        replace(FRESH, kubelet_server="10.0.0.1:6443"),
        "worker1, cluster_control_plane_endpoint: its kubelet belongs to the API server 10.0.0.1:6443",
    ),
    "a route in the pod network": (
        replace(FRESH, routes=(Route("10.244.0.0/14", "eth1", "10.0.0.1"),)),
        "worker1, cluster_pod_network: there is a route to 10.244.0.0/14 by 10.0.0.1 on eth1, which overlaps 10.244.0.0/16",
    ),
    "a VPN of somebody else": (
        replace(FRESH, routes=(Route("172.27.224.0/20", "as0t0"),)),
        "worker1, cluster_vpn_network: there is a route to 172.27.224.0/20 on as0t0",
    ),
    "tun0 before our VPN": (replace(FRESH, routes=(Route("172.27.224.0/20", "tun0"),)), "worker1, cluster_vpn_network: there is a route"),
    "the site is inside the VPC's network": (
        replace(FRESH, routes=(Route("172.31.5.0/24", "eth0"),)),
        "worker1, cluster_vpc_networks: there is a route to 172.31.5.0/24",
    ),
    "Docker": (
        replace(JOINED, routes=(Route("10.203.10.0/28", "docker network web"),)),
        "worker1, cluster_lan_networks: docker network web has 10.203.10.0/28, which overlaps 10.203.10.0/24",
    ),
    "a strange kubelet port": (replace(FRESH, listeners=(Listener("tcp", 10250, "k3s-agent"),)), "worker1, port 10250/tcp: k3s-agent listens there"),
    "VXLAN of a program": (
        replace(FRESH, listeners=(Listener("udp", 4789, "ovs"),)),
        "worker1, port 4789/udp: ovs listens there; expected nobody but the pod network",
    ),
    "clock ahead": (replace(FRESH, clock_offset=95), "worker1, clock: 95 s ahead of the controller; expected at most 30 s"),
    "clock behind": (replace(FRESH, clock_offset=-95), "worker1, clock: 95 s behind the controller"),
    "time source": (replace(FRESH, time_servers={"depot": -7200.0}), "worker1, clock: 7200 s behind time server depot"),
    "mirror down": (
        replace(FRESH, answers=(Answer("helm", "https://m/x", 0, "Connection refused"),)),
        "worker1, cluster_mirrors.helm: https://m/x: Connection refused",
    ),
    "wrong password": (
        replace(FRESH, answers=(Answer("images", "https://m/v2/", 401),)),
        "worker1, cluster_mirrors.images: https://m/v2/ answers 401; expected to be let in",
    ),
    "incomplete mirror": (
        replace(FRESH, answers=(Answer("debian", "https://m/d", 404),)),
        "worker1, cluster_mirrors.debian: https://m/d answers 404; expected 200",
    ),
}


@pytest.mark.parametrize(("found", "message"), OBSTACLES.values(), ids=OBSTACLES.keys())
def test_an_obstacle_is_named_with_host_and_variable(found, message):
    assert any(problem.startswith(message) for problem in said(found)), said(found)


CONTROL_PLANE = {
    "processors": (replace(FRESH, cpus=1), "cp1, preflight_minimum.cpus: found 1; expected 2"),
    "memory": (replace(FRESH, memory=1000), "cp1, preflight_minimum.memory: found 1000 MiB"),
    "API port": (replace(FRESH, listeners=(Listener("tcp", 6443, "nginx"),)), "cp1, port 6443/tcp: nginx listens there; expected nobody but kube-apiserver"),
    "etcd": (replace(FRESH, listeners=(Listener("tcp", 2379, ""),)), "cp1, port 2379/tcp: another program listens there"),
    "VPN port": (
        replace(FRESH, listeners=(Listener("udp", 1194, "wg"),)),
        "cp1, port 1194/udp: wg listens there; expected nobody but openvpn or openvpn-openssl. Stop wg, or choose another",
    ),
    "Kubernetes": (replace(JOINED, running_kubernetes="1.35.9"), "cp1, cluster_kubernetes_version: the control plane runs 1.35.9; expected 1.36.3"),
}


@pytest.mark.parametrize(("found", "message"), CONTROL_PLANE.values(), ids=CONTROL_PLANE.keys())
def test_what_a_control_plane_needs_is_asked_of_it(found, message):
    assert any(problem.startswith(message) for problem in said(found, MASTER)), said(found, MASTER)


@pytest.mark.parametrize("found", [FRESH, replace(FRESH, cpus=1, memory=1000, listeners=(Listener("tcp", 6443, "nginx"), Listener("udp", 1194, "wg")))])
def test_a_worker_may_be_small_and_serve_what_it_likes(found):
    assert said(found, WORKER) == []


def test_all_problems_of_a_host_are_told_at_once():
    found = replace(FRESH, os=("fedora", "43"), init="sh", disk_free=1, clock_offset=999.0)
    assert len(said(found)) == 4


def test_a_node_of_a_cluster_that_has_no_id_yet_is_somebody_else_s():
    assert "worker1, cluster_id" in said(JOINED, replace(WORKER, cluster_id=""))[0]


def test_what_the_declaration_allows_is_no_obstacle():
    assert said(replace(FRESH, cgroup_v2=False), replace(WORKER, fail_cgroup_v1=False)) == []
    assert said(replace(FRESH, swaps=("/x",), container="podman"), replace(WORKER, keep_swap=True)) == []
    assert said(replace(FRESH, tun_error="none"), replace(WORKER, vpn_member=False)) == []


def test_swap_of_the_host_s_own_is_left_to_role_swap():
    assert said(replace(FRESH, swaps=("/dev/vda2",))) == []


def test_a_lan_host_of_ours_has_a_route_to_the_vpn_by_its_server():
    route = Route("172.27.224.0/20", "eth0", "10.203.10.11")
    assert said(replace(JOINED, routes=(route,))) == []
    assert said(replace(FRESH, vpn_is_ours=True, routes=(route,))) == []  # the run that made it ended before the join
    assert said(replace(FRESH, routes=(route,)))  # somebody else's


def test_a_time_server_that_does_not_answer_is_passed_over():
    assert said(replace(FRESH, time_servers={"depot": None})) == []


def test_what_is_no_obstacle_is_said_aloud():
    assert "never run by us" in notes(replace(FRESH, os=("ubuntu", "22.04"), os_name="Ubuntu 22.04"), WORKER)[0]
    assert "cgroup v1" in notes(replace(FRESH, cgroup_v2=False), replace(WORKER, fail_cgroup_v1=False))[0]
    assert notes(FRESH, WORKER) == []


def test_the_control_planes_kubelet_may_know_the_local_api_server():
    assert judge(replace(JOINED, kubelet_server="172.27.224.1:6443"), MASTER) == []


def test_only_the_control_planes_kubelet_may_know_a_local_api_server():
    assert [problem.variable for problem in judge(replace(JOINED, kubelet_server="172.27.224.12:6443"), WORKER)] == ["cluster_control_plane_endpoint"]


# --- a Kubernetes that is there already ---------------------------------------------------------------------------------------------------------

STANDS = Found(files=(*CONTROL_PLANE_FILES, *NODE_FILES), etcd_data=True, api="healthy")
FOREIGN = replace(STANDS, foreign="it is a control plane that we did not make")
CONFIGURATION = {
    "clusterName": "InAccel",
    "controlPlaneEndpoint": "api.example.org:6443",
    "networking": {"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/12", "dnsDomain": "cluster.local"},
}
OURS = replace(JOINED, kubernetes=STANDS, cluster_maker="id-1", cluster_configuration=CONFIGURATION, running_kubernetes="1.36.3")


def test_our_own_control_plane_is_no_obstacle():
    assert said(OURS, MASTER) == []


def test_a_control_plane_of_somebody_else_is_refused_although_its_address_is_right():
    """kubeadm init by hand on the declared address: nothing but our record tells it from ours."""
    found = replace(FRESH, kubelet_server="172.27.224.1:6443", running_kubernetes="1.36.3", kubernetes=FOREIGN)
    (problem,) = said(found, MASTER)
    assert problem.startswith("cp1, Kubernetes: it is a control plane that we did not make")


def test_a_worker_that_is_a_control_plane_is_refused_before_it_is_changed():
    assert said(replace(FRESH, kubernetes=STANDS))[0].startswith("worker1, Kubernetes: it is a control plane, or was one")


def test_a_host_that_only_serves_the_vpn_may_be_anything():
    assert said(replace(FRESH, kubernetes=FOREIGN), replace(WORKER, node=False, vpn_server=True)) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"clusterName": "Other"}, "cp1, cluster_name: the cluster has Other; expected InAccel"),
        ({"controlPlaneEndpoint": "api.other.org:6443"}, "cp1, cluster_control_plane_endpoint: the cluster has api.other.org:6443"),
        ({"networking": {**CONFIGURATION["networking"], "podSubnet": "10.10.0.0/16"}}, "cp1, cluster_pod_network: the cluster has 10.10.0.0/16"),
        ({"networking": {**CONFIGURATION["networking"], "dnsDomain": "lan"}}, "cp1, cluster_dns_domain: the cluster has lan; expected cluster.local"),
    ],
)
def test_what_a_living_cluster_cannot_become_is_refused_before_anything_is_changed(change, problem):
    assert said(replace(OURS, cluster_configuration={**CONFIGURATION, **change}), MASTER)[0].startswith(problem)


def test_a_lost_cluster_json_is_restored_rather_than_the_cluster_reset():
    (problem,) = said(OURS, replace(MASTER, cluster_id=""))
    assert problem.startswith("cp1, /etc/fpga-hybrid/cluster.json: none, beside the control plane of the cluster with id id-1")
    assert "get configmap fpga-hybrid" in problem
    assert "reset" not in problem


def test_a_node_that_missed_the_reset_of_a_former_cluster_is_told_how_to_leave_it():
    (problem,) = said(replace(JOINED, node_cluster_id="id-0", node_cluster_name="InAccel"))
    assert "reset.yml --limit worker1 -e confirm=InAccel -e reset_former_id=id-0." in problem
    (problem,) = said(replace(JOINED, node_cluster_name="InAccel"), replace(WORKER, cluster_id=""))
    assert problem.endswith("reset.yml --limit worker1 -e confirm=InAccel.")
