# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verify table: who tests whom, what counts as passed, how it reads."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn as openvpn
from ansible_collections.fpga.hybrid.plugins.module_utils import _verify as verify
from ansible_collections.fpga.hybrid.plugins.module_utils._verify import Line, Observation

SITES = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=5), st.sampled_from(["on-prem", "us-east-1a", "us-east-1b", "room2"]), max_size=40)


# --- pairs


@given(SITES, st.integers(0, 45))
def test_whoever_is_tested_tests_back(sites, full_mesh):
    peers = verify.plan_pairs(sites, full_mesh)
    assert set(peers) == set(sites)
    for node, others in peers.items():
        assert node not in others
        assert all(node in peers[other] for other in others)


@given(SITES, st.integers(0, 45))
def test_each_node_tests_every_other_site(sites, full_mesh):
    """So each pair of sites is tested in both directions, from every node."""
    for node, others in verify.plan_pairs(sites, full_mesh).items():
        assert {sites[other] for other in others} >= set(sites.values()) - {sites[node]}


@given(SITES)
def test_a_small_cluster_is_tested_completely(sites):
    peers = verify.plan_pairs(sites, full_mesh=40)
    assert all(set(others) == set(sites) - {node} for node, others in peers.items())


def test_effort_stays_linear_in_large_clusters():
    sites = {f"n{number}": f"site{number % 2}" for number in range(500)}
    assert sum(map(len, verify.plan_pairs(sites).values())) <= 3 * 500


# --- packets

FULL = "1322 bytes pass unfragmented, 1323 do not"


@pytest.mark.parametrize(
    ("seen", "ok", "words", "remedy"),
    [
        (Observation("reply", "too big", "reply"), True, "1322 bytes pass, 1323: too big", ""),
        (Observation("reply", "no answer", "reply"), True, "1322 bytes pass, 1323: no answer", ""),
        (Observation("reply", "reply", "reply"), False, "1323 bytes pass as well", "larger than the declared 1350"),
        (Observation("too big", "too big", "reply"), False, "1322 bytes: too big; small packets pass", "carries less than the pod MTU 1350"),
        (Observation("no answer", "no answer", "reply"), False, "1322 bytes: no answer; small packets pass", "carries less than the pod MTU 1350"),
        (Observation("no answer", "no answer", "no answer"), False, "no answer, neither", "UDP/4789"),
    ],
)
def test_exactly_the_pod_mtu_must_pass(seen, ok, words, remedy):
    line = verify.judge_ping("worker1", "worker2", seen, 1350)
    assert (line.check, line.node, line.peer, line.ok, line.expected) == ("DF ping", "worker1", "worker2", ok, FULL)
    assert words in line.found
    assert remedy in line.remedy
    assert bool(line.remedy) != ok


def test_fragments_count_only_when_they_come_with_every_round_of_pings():
    """Somebody else's large packet may pass by at the same time; ours would be split each time."""
    ours = {"FragCreates": 6, "ReasmReqds": 0}
    quiet = {"FragCreates": 0, "ReasmReqds": 0}
    assert verify.judge_fragments("worker1", [quiet]).ok
    assert verify.judge_fragments("worker1", [ours, quiet]).ok
    line = verify.judge_fragments("worker1", [ours, {"FragCreates": 2, "ReasmReqds": 4}, ours])
    assert line.ok is False
    assert line.found == "FragCreates +2, ReasmReqds +0"
    assert "cluster_vpn_mtu" in line.remedy


def test_fragments_without_a_peer_are_not_judged():
    assert verify.judge_fragments("worker1", []).ok is None


# --- VPN

CLIENT = openvpn.Wanted(
    host="worker1",
    side="client",
    address="172.27.224.12",
    device="tun0",
    management="/none",
    peer="172.27.224.1",
    endpoint="203.0.113.7",
    port=1194,
    protocol="udp",
    server="cp1",
    server_address="10.0.0.10",
    server_port=1194,
)
SERVER = replace(CLIENT, host="cp1", side="server", address="172.27.224.1")
ROUTED = replace(CLIENT, side="routed", address="")
CONNECTED = openvpn.State("CONNECTED", "SUCCESS", "172.27.224.12")
WELL = openvpn.Finding(CONNECTED, answers=True)


@pytest.mark.parametrize(
    ("wanted", "finding", "has_address", "words", "todo"),
    [
        (CLIENT, openvpn.Finding(None, why="no such socket"), True, "OpenVPN does not run (no such socket)", "UDP port 1194 must be open"),
        # revoked: the unit is active, the address is there
        (CLIENT, openvpn.Finding(openvpn.State("AUTH")), True, "OpenVPN is in state AUTH: the server answered", "fpga-hybrid-vpn list` on cp1"),
        (CLIENT, replace(WELL, answers=False), True, "172.27.224.1 does not answer through tun0", "firewall of cp1"),
        (CLIENT, WELL, False, "tun0 does not have 172.27.224.12", "site.yml again"),
        (CLIENT, openvpn.Finding(openvpn.State("CONNECTED", "SUCCESS", "172.27.224.13"), answers=True), True, "with the address 172.27.224.13", "site.yml"),
        (SERVER, openvpn.Finding(None, why="no such socket"), True, "OpenVPN does not run", "openvpn-server@fpga-hybrid"),
        (SERVER, openvpn.Finding(openvpn.State("CONNECTED")), False, "tun0 does not have 172.27.224.1", "site.yml again"),
        (ROUTED, openvpn.Finding(None, answers=False), False, "172.27.224.1 does not answer through the LAN", "site.yml again"),
    ],
)
def test_each_part_of_the_vpn_can_fail_alone(wanted, finding, has_address, words, todo):
    line = verify.judge_vpn(wanted, finding, has_address)
    assert line.ok is False
    assert words in line.found
    assert todo in line.remedy


@pytest.mark.parametrize(
    ("wanted", "finding", "words"),
    [
        (CLIENT, WELL, "connected, 172.27.224.12 on tun0, 172.27.224.1 answers through it"),
        (SERVER, openvpn.Finding(openvpn.State("CONNECTED", "SUCCESS", "172.27.224.1")), "connected, 172.27.224.1 on tun0"),
        (ROUTED, openvpn.Finding(None, answers=True), "172.27.224.1 answers through the LAN"),
    ],
)
def test_a_working_vpn(wanted, finding, words):
    line = verify.judge_vpn(wanted, finding, has_address=wanted.side != "routed")
    assert (line.ok, line.found, line.node) == (True, words, wanted.host)


# --- nodes


def a_node(ready="True", address="172.27.224.12", calico="172.27.224.12/20"):
    return {
        "metadata": {"name": "worker1", "annotations": {"projectcalico.org/IPv4Address": calico} if calico else {}},
        "status": {
            "addresses": [{"type": "Hostname", "address": "worker1"}, {"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": ready, "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}],
            "nodeInfo": {"kubeletVersion": "v1.36.3"},
        },
    }


def failed(lines):
    return [(line.check, line.found, line.expected) for line in lines if line.ok is False]


def test_a_node_as_declared():
    assert failed(verify.judge_node("worker1", a_node(), "172.27.224.12", "calico")) == []


@pytest.mark.parametrize(
    ("node", "wrong"),
    [
        (a_node(ready="Unknown"), [("node Ready", "NodeStatusUnknown: Kubelet stopped posting node status.", "Ready")]),
        (a_node(address="10.0.0.12", calico="10.0.0.12/24"), [("InternalIP", "10.0.0.12", "172.27.224.12")]),
        (a_node(calico="10.0.0.12/24"), [("Calico address", "10.0.0.12", "172.27.224.12")]),
        (a_node(calico=""), [("Calico address", "none", "172.27.224.12")]),
        (None, [("node Ready", "the cluster has no node of this name", "Ready")]),
    ],
)
def test_each_line_of_a_node_can_fail_alone(node, wrong):
    lines = verify.judge_node("worker1", node, "172.27.224.12", "calico")
    assert failed(lines) == wrong
    assert all(line.remedy for line in lines if line.ok is False)


def test_without_calico_its_address_is_no_line():
    assert verify.CALICO not in [line.check for line in verify.judge_node("worker1", a_node(calico=""), "172.27.224.12", "none")]


# --- DNS, Services


def test_dns_must_give_the_address_of_the_api_server():
    def line(answers, problem=""):
        return verify.judge_dns("w", server="10.96.0.10", name="kubernetes.default.svc.cluster.local", answers=answers, problem=problem, expected="10.96.0.1")

    assert line(["10.96.0.1"]).ok
    assert line(["10.0.0.1"]).found == "10.96.0.10: kubernetes.default.svc.cluster.local is 10.0.0.1"
    assert line([], "no answer").found == "10.96.0.10: no answer"
    assert not line(["10.0.0.1"]).ok


def test_a_service_must_lead_to_its_own_pod():
    assert verify.judge_service("w1", "w2", "10.96.3.4", "w2", "").ok
    line = verify.judge_service("w1", "w2", "10.96.3.4", "w3", "")
    assert (line.ok, line.found) == (False, "10.96.3.4: answered by w3")
    assert verify.judge_service("w1", "w2", "10.96.3.4", "", "no answer").found == "10.96.3.4: no answer"


# --- the table

LINES = [
    Line("DNS", "worker1", True, "10.96.0.1"),
    Line("DF ping", "worker1", True, "1322 bytes pass", FULL, "cp1"),
    Line("DF ping", "worker1", False, "no answer", FULL, "worker2", "Look at the VPN."),
    Line("DF ping", "worker1", True, "1322 bytes pass", FULL, "worker3"),
    Line("versions", "cp1", None, "v1.36.3; this combination: tested"),
    Line("node Ready", "cp1", True, "Ready", "Ready"),
]


def test_the_table_reads_like_this():
    assert (
        verify.render_table("Cluster lab", LINES)
        == """\
Cluster lab: 4 of 5 tests passed, 1 FAILED

result  check       node     peer          found
ok      node Ready  cp1                    Ready
ok      DF ping     worker1  cp1, worker3  1322 bytes pass unfragmented, 1323 do not
FAILED  DF ping     worker1  worker2       no answer
ok      DNS         worker1                10.96.0.1
-       versions    cp1                    v1.36.3; this combination: tested

DF ping, worker1 to worker2: found no answer; expected 1322 bytes pass unfragmented, 1323 do not. Look at the VPN."""
    )
    assert verify.failed_names(LINES) == "DF ping worker1 to worker2"


def test_markdown_escapes_what_would_break_the_table():
    text = verify.render_markdown("Cluster lab", [Line("logs", "cp1", False, "a | b", "c", remedy="d")])
    assert "| FAILED | logs | cp1 |  | a \\| b |" in text
    assert "- logs, cp1: found a | b; expected c. d" in text


@given(
    st.lists(
        st.builds(
            Line,
            check=st.sampled_from(verify.ORDER),
            node=st.sampled_from(["cp1", "w1"]),
            ok=st.sampled_from([True, False, None]),
            found=st.text(max_size=20),
            peer=st.sampled_from(["", "w2", "w3"]),
            remedy=st.sampled_from(["", "Look."]),
        )
    )
)
def test_no_failure_is_ever_merged_away(lines):
    rows = verify.rows(lines)
    assert sum(row[0] == "FAILED" for row in rows) == sum(line.ok is False for line in lines)
    assert len(verify.remedies(lines)) == sum(line.ok is False for line in lines) + sum(row[0] == "warning" for row in rows)
    data = json.loads(verify.render_json("t", "now", lines))
    assert data["failed"] == sum(line.ok is False for line in lines)
    assert {Line.from_dict(line) for line in data["lines"]} == set(lines)


def test_an_empty_table_claims_nothing():
    assert verify.render_table("Cluster lab", []).startswith("Cluster lab: nothing could be tested")


def test_a_host_without_a_result_is_a_failed_line():
    lines = verify.judge_hosts(
        {
            "cp1": [{"lines": []}, {"lines": []}],
            "worker1": [{"unreachable": True, "msg": "Connection timed out"}, {}],
            "worker2": [{"lines": []}, {"msg": "MODULE FAILURE"}],
            "worker3": [{}, {}],
        }
    )
    assert [(line.node, line.ok, line.found) for line in lines] == [
        ("cp1", True, "yes"),
        ("worker1", False, "Connection timed out"),
        ("worker2", False, "MODULE FAILURE"),
        ("worker3", False, "no connection"),
    ]
