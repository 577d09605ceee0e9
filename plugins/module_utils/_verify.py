# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lines of the verify table are, which node tests which, and how the table looks.

PRIVATE to the collection. Pure functions over plain data: the observations come from _verify_probe.py (on a node) and
_verify_cluster.py (from the API server).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn as openvpn

ICMP_AND_IP_HEADERS = 28  # bytes that an echo request's payload leaves of the MTU (IPv4 without options)

ANSIBLE = "host reached"
API = "API server"
READY = "node Ready"
INTERNAL_IP = "InternalIP"
CALICO = "Calico address"
VPN = "VPN"
PROBE = "probe pod"
PING = "DF ping"
FRAGMENTS = "fragments"
DNS = "DNS"
CLUSTER_IP = "ClusterIP"
SERVICE = "Service"
LOGS = "logs"
EXEC = "exec"
KEEPER = "keeper"
POOL = "pool"
FAILED_JOIN = "failed join"
TODAY = "today"
IDLE = "idle instance"
OLD_POD = "old pod"
VERSIONS = "versions"
RECORD = "record"
CERTIFICATES = "certificates"
TOKENS = "join tokens"
CLEAN_UP = "clean-up"
ABOUT_HOSTS = (ANSIBLE, API, READY, INTERNAL_IP, CALICO, VPN)
ABOUT_PODS = (PROBE, PING, FRAGMENTS, DNS, CLUSTER_IP, SERVICE, LOGS, EXEC)
#: Where there are node pools. Their order puts what stops launches before what it costs.
ABOUT_POOLS = (KEEPER, POOL, FAILED_JOIN, TODAY, IDLE, OLD_POD)
ORDER = (*ABOUT_HOSTS, *ABOUT_PODS, *ABOUT_POOLS, VERSIONS, RECORD, CERTIFICATES, TOKENS, CLEAN_UP)


@dataclass(frozen=True)
class Line:
    """One thing that was looked at.

    ok is None where nothing is judged: an information, or something that could not be tested (found says why). With a remedy it is a warning: somebody should
    look at it, and nothing is broken.
    """

    check: str
    node: str
    ok: bool | None
    found: str
    expected: str = ""
    peer: str = ""
    remedy: str = ""

    @property
    def warns(self) -> bool:
        return self.ok is None and bool(self.remedy)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Line:
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


@dataclass(frozen=True)
class Observation:
    """What one host saw of another: how its pings of each payload size (bytes) fared.

    Outcomes: "reply", "too big" (the kernel refused to send: larger than the path's MTU), "no answer".
    """

    full: str
    above: str
    small: str


# --- who tests whom -----------------------------------------------------------------------------------------------


def plan_pairs(sites: Mapping[str, str], full_mesh: int = 12) -> dict[str, list[str]]:
    """Which peers each node tests. sites: {node: site}.

    Up to `full_mesh` nodes everybody tests everybody. Above it, the effort stays about linear: a node tests its two neighbours of its own site
    and one node of each other site, and whoever is tested tests back, so that each pair of sites is tested in both directions.
    """
    nodes = sorted(sites)
    if len(nodes) <= full_mesh:
        return {node: [peer for peer in nodes if peer != node] for node in nodes}
    members: dict[str, list[str]] = {}
    for node in nodes:
        members.setdefault(sites[node], []).append(node)
    peers: dict[str, set[str]] = {node: set() for node in nodes}
    for site, here in members.items():
        for position, node in enumerate(here):
            chosen = [here[(position + 1) % len(here)]]
            chosen += [there[position % len(there)] for other, there in members.items() if other != site]
            for peer in chosen:
                if peer != node:
                    peers[node].add(peer)
                    peers[peer].add(node)
    return {node: sorted(peers[node]) for node in nodes}


# --- judging ------------------------------------------------------------------------------------------------------


def judge_ping(node: str, peer: str, seen: Observation, pod_mtu: int) -> Line:
    """Do packets of exactly the declared pod MTU pass, and no larger ones?"""
    full = pod_mtu - ICMP_AND_IP_HEADERS
    expected = f"{full} bytes pass unfragmented, {full + 1} do not"
    if seen.full == "reply" and seen.above != "reply":
        return Line(PING, node, True, f"{full} bytes pass, {full + 1}: {seen.above}", expected, peer)
    if seen.full == "reply":
        found = f"{full + 1} bytes pass as well"
        remedy = f"The pods' MTU is larger than the declared {pod_mtu} (cluster_vpn_mtu - 50): run site.yml, then start the pods of {node} and {peer} again."
    elif seen.small == "reply":
        found = f"{full} bytes: {seen.full}; small packets pass"
        remedy = (
            f"Something between {node} and {peer} carries less than the pod MTU {pod_mtu}: compare `ip link show vxlan.calico` and the tunnel device on both "
            f"with cluster_vpn_mtu, and run site.yml on what differs."
        )
    else:
        found = "no answer, neither to full-size nor to small packets"
        remedy = (
            f"Look at the VPN lines of {node} and {peer} first. If they passed: is UDP/4789 (VXLAN) let through between the nodes' addresses, "
            f"and is calico-node running on both?"
        )
    return Line(PING, node, False, found, expected, peer, remedy)


def judge_fragments(node: str, rounds: Sequence[Mapping[str, int]]) -> Line:
    """rounds: per round of full-size pings, by how much each IP counter rose.

    Other traffic may be fragmented at the same time, ours is fragmented in every round: only a rise in each of them counts.
    """
    expected = "no packet split or put together during the pings"
    if not rounds:
        return Line(FRAGMENTS, node, None, "not tested: no peer answered full-size pings", expected)
    risen = {name: min(counters[name] for counters in rounds) for name in rounds[0]}
    found = ", ".join(f"{name} +{count}" for name, count in sorted(risen.items()))
    if not any(risen.values()):
        return Line(FRAGMENTS, node, True, found, expected)
    remedy = (
        f"Packets of pods are too large for a link below them, so each is sent in two halves. Compare the MTU of the tunnel device of {node} with "
        "cluster_vpn_mtu, and cluster_vpn_mtu + about 60 with what the way to the VPN endpoint carries (PPPoE: 1492): "
        "make cluster_vpn_mtu smaller and run site.yml."
    )
    return Line(FRAGMENTS, node, False, found, expected, remedy=remedy)


def judge_dns(node: str, *, server: str, name: str, answers: Sequence[str], problem: str, expected: str) -> Line:
    if expected in answers:
        return Line(DNS, node, True, f"{name} is {', '.join(answers)}", expected)
    remedy = (
        "`kubectl -n kube-system get pods,endpointslices -l k8s-app=kube-dns -o wide`: is CoreDNS running and listed? "
        f"If so, packets from pods of {node} to it are lost: see the DF ping lines, and `kubectl -n kube-system logs -l k8s-app=kube-proxy`."
    )
    found = problem or f"{name} is {', '.join(answers) or 'unknown'}"
    return Line(DNS, node, False, f"{server}: {found}", expected, remedy=remedy)


def judge_cluster_ip(node: str, address: str, status: str, problem: str) -> Line:
    expected = "the API server answers at its Service address"
    if not problem:
        return Line(CLUSTER_IP, node, True, f"{address}: {status}", expected)
    remedy = (
        f"Is kube-proxy running on {node} (`kubectl -n kube-system get pods -o wide -l k8s-app=kube-proxy`), "
        f"and does {node} reach the control plane's InternalIP on its API port?"
    )
    return Line(CLUSTER_IP, node, False, f"{address}: {problem}", expected, remedy=remedy)


def judge_service(node: str, peer: str, address: str, answer: str, problem: str) -> Line:
    expected = "the pod behind it answers"
    if answer == peer:
        return Line(SERVICE, node, True, f"{address}: {answer} answers", expected, peer)
    remedy = (
        f"If the DF ping line of {node} to {peer} passed, the Service's rules are what is missing: kube-proxy on {node}; "
        "`kubectl get endpointslices -A`; kube-controller-manager's log."
    )
    return Line(SERVICE, node, False, f"{address}: {problem or 'answered by ' + answer}", expected, peer, remedy)


def judge_vpn(wanted: openvpn.Wanted, finding: openvpn.Finding, has_address: bool) -> Line:
    """OpenVPN's own state and the other end's answer, as when the VPN was made. has_address: its device has the host's address."""
    tunnel = f"{wanted.address} on {wanted.device}"
    there = {"server": f"OpenVPN connected, {tunnel}", "client": f"OpenVPN connected, {tunnel}, {wanted.peer} answers through it"}
    expected = there.get(wanted.side, f"{wanted.peer} answers through the LAN")
    problem = openvpn.judge(wanted, finding)
    if not problem and wanted.side != "routed" and not has_address:
        problem = f"{wanted.device} does not have {wanted.address}"
    if not problem:
        return Line(VPN, wanted.host, True, expected.removeprefix("OpenVPN "), expected)
    remedy = f"{openvpn.advice(wanted, finding)} `fpga-hybrid-vpn list` on {wanted.server} says who is let in. Running site.yml again mends what drifted."
    return Line(VPN, wanted.host, False, problem, expected, remedy=remedy.strip())


def node_addresses(node: Mapping[str, Any]) -> list[str]:
    return [entry["address"] for entry in node.get("status", {}).get("addresses", []) if entry["type"] == "InternalIP"]


def node_ready(node: Mapping[str, Any]) -> tuple[bool, str]:
    """Is the Node object Ready, and in words why (not)."""
    for condition in node.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready":
            if condition["status"] == "True":
                return True, f"Ready, {node['status'].get('nodeInfo', {}).get('kubeletVersion', '')}".rstrip(", ")
            return False, f"{condition.get('reason', 'not Ready')}: {condition.get('message', '')}".rstrip(": ")
    return False, "has never reported"


def judge_node(name: str, node: Mapping[str, Any] | None, declared: str | None, cni: str) -> list[Line]:
    """Ready, InternalIP and Calico's address of one node. declared is None for a node of a pool: its address comes from its enrolment."""
    if node is None:
        remedy = f"Run site.yml (with --limit {name} it is about this host alone), or take {name} out of the inventory."
        return [Line(READY, name, False, "the cluster has no node of this name", "Ready", remedy=remedy)]
    ready, words = node_ready(node)
    remedy = f"On {name}: `systemctl status kubelet` and `journalctl -u kubelet -n 50`; then its VPN line in this table."
    lines = [Line(READY, name, ready, words, "Ready", remedy="" if ready else remedy)]
    addresses = node_addresses(node)
    found = ", ".join(addresses) or "none"
    if declared is None:
        lines.append(Line(INTERNAL_IP, name, bool(addresses), found, "an address"))
    else:
        right = addresses == [declared]
        remedy = f"The kubelet of {name} runs with another --node-ip than declared (cluster_on_prem_addresses, vpn_address): run site.yml, then verify again."
        lines.append(Line(INTERNAL_IP, name, right, found, declared, remedy="" if right else remedy))
    if cni == "calico":
        calico = node.get("metadata", {}).get("annotations", {}).get("projectcalico.org/IPv4Address", "").split("/")[0]
        right = bool(calico) and calico in addresses
        remedy = f"calico-node must detect its address by kubernetes-internal-ip: delete the calico-node pod of {name} so that it looks again, or run site.yml."
        lines.append(Line(CALICO, name, right, calico or "none", found, remedy="" if right else remedy))
    return lines


# --- the table ----------------------------------------------------------------------------------------------------

HEADER = ("result", "check", "node", "peer", "found")


def word(line: Line) -> str:
    return "warning" if line.warns else {True: "ok", False: "FAILED", None: "-"}[line.ok]


def in_order(lines: Iterable[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (ORDER.index(line.check) if line.check in ORDER else len(ORDER), line.node, line.peer))


def rows(lines: Iterable[Line]) -> list[tuple[str, ...]]:
    """The table's rows: what passed with several peers is one row, every failure has its own."""
    result: list[tuple[str, ...]] = []
    passed: dict[tuple[str, str], int] = {}
    for line in in_order(lines):
        key = (line.check, line.node)
        if line.ok and line.peer and key in passed:
            row = result[passed[key]]
            # what was found differs by address only; the JSON report has each
            result[passed[key]] = (*row[:3], f"{row[3]}, {line.peer}", line.expected)
            continue
        if line.ok and line.peer:
            passed[key] = len(result)
        result.append((word(line), line.check, line.node, line.peer, " ".join(line.found.split())))
    return result


def summary(lines: Sequence[Line]) -> str:
    failed = sum(line.ok is False for line in lines)
    passed = sum(line.ok is True for line in lines)
    warnings = sum(line.warns for line in lines)
    if not passed and not failed:
        return "nothing could be tested"
    told = f", {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    return f"{passed} of {passed + failed} tests passed" + (f", {failed} FAILED" if failed else "") + told


def render_table(title: str, lines: Sequence[Line]) -> str:
    """Plain text for a terminal or a ticket, and below it what to do about each failure and each warning."""
    table = [HEADER, *rows(lines)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADER) - 1)]
    text = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip() for row in table]
    wrong = remedies(lines)
    return "\n".join([f"{title}: {summary(lines)}", "", *text, *(["", *wrong] if wrong else [])])


def render_markdown(title: str, lines: Sequence[Line]) -> str:
    def cells(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"

    table = [cells(HEADER), cells(["---"] * len(HEADER)), *(cells(row) for row in rows(lines))]
    wrong = remedies(lines)
    return "\n".join([f"**{title}: {summary(lines)}**", "", *table, *(["", *(f"- {sentence}" for sentence in wrong)] if wrong else []), ""])


def render_json(title: str, time: str, lines: Sequence[Line]) -> str:
    data = {
        "title": title,
        "time": time,
        "passed": sum(line.ok is True for line in lines),
        "failed": sum(line.ok is False for line in lines),
        "warnings": sum(line.warns for line in lines),
        "lines": [line.as_dict() for line in in_order(lines)],
    }
    return json.dumps(data, indent=2) + "\n"


def _where(line: Line) -> str:
    """A peer is where packets went to, or what of a pool or node is meant."""
    return f"{line.node}{', ' if line.check in ABOUT_POOLS else ' to '}{line.peer}" if line.peer else line.node


def failed_names(lines: Iterable[Line]) -> str:
    return ", ".join(f"{line.check} {_where(line)}" for line in in_order(lines) if line.ok is False)


def remedies(lines: Iterable[Line]) -> list[str]:
    """For each failed line, and then each warning: what was found, what was expected, what to do."""
    ordered = in_order(lines)
    return [_remedy(line) for line in ordered if line.ok is False] + [_remedy(line) for line in ordered if line.warns]


def _remedy(line: Line) -> str:
    expected = f"; expected {line.expected}" if line.expected else ""
    return f"{line.check}, {_where(line)}: found {line.found.rstrip('.')}{expected}. {line.remedy}".strip()


def one_line(message: str) -> str:
    """Ansible's message as a finding: without what it puts in front of every one."""
    return " ".join(message.split()).removeprefix("Task failed: ")


def judge_hosts(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Line]:
    """Did each host give all its results, or was it unreachable, or did a module fail there? results: {host: [task result]}."""
    lines = []
    for host, given in results.items():
        missing = [result for result in given if "lines" not in result]
        if not missing:
            lines.append(Line(ANSIBLE, host, True, "yes", "yes"))
            continue
        reasons = [one_line(str(result["msg"])) for result in missing if result.get("msg")]
        remedy = f"Is {host} up, and does `ansible {host} -m ansible.builtin.ping` work from here (ansible_host, ssh key, become)?"
        lines.append(Line(ANSIBLE, host, False, reasons[0] if reasons else "no connection", "yes", remedy=remedy))
    return lines
