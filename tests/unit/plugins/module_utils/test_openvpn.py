# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What OpenVPN and the system say, and what is made of it."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import threading
from pathlib import Path

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn as openvpn

WANTED = openvpn.Wanted(
    host="worker2",
    side="client",
    address="172.27.224.13",
    device="tun0",
    management="/none",
    peer="172.27.224.1",
    endpoint="203.0.113.7",
    port=1195,
    protocol="udp",
    server="cp1",
    server_address="10.0.0.10",
    server_port=1194,
)
CONNECTED = openvpn.State("CONNECTED", "SUCCESS", "172.27.224.13", "203.0.113.7:1195")


def test_the_newest_state_line_counts() -> None:
    lines = ["1795449428,CONNECTING,,,,,,", "1795449428,CONNECTED,SUCCESS,172.27.224.12,10.0.0.1,1194,,"]
    assert openvpn.parse_state(lines) == openvpn.State("CONNECTED", "SUCCESS", "172.27.224.12", "10.0.0.1:1194")
    assert openvpn.parse_state(["1795449428,WAIT,,,,,,"]) == openvpn.State("WAIT")


def test_no_state_is_no_state() -> None:
    with pytest.raises(openvpn.ManagementError):
        openvpn.parse_state([])


def test_a_connected_client_is_well_only_when_the_other_end_answers() -> None:
    assert openvpn.judge(WANTED, openvpn.Finding(CONNECTED, answers=True)) == ""
    assert "does not answer through tun0" in openvpn.judge(WANTED, openvpn.Finding(CONNECTED, answers=False))


def test_a_client_with_another_s_address_is_not_well() -> None:
    other = dataclasses.replace(CONNECTED, address="172.27.224.99")
    assert "expected 172.27.224.13" in openvpn.judge(WANTED, openvpn.Finding(other, answers=True))


@pytest.mark.parametrize("name", sorted(openvpn.MEANING))
def test_every_other_state_is_not_well_and_says_what_it_means(name: str) -> None:
    sentence = openvpn.judge(WANTED, openvpn.Finding(openvpn.State(name), answers=True))
    assert name in sentence
    assert openvpn.MEANING[name] in sentence


def test_a_server_needs_nobody_to_answer() -> None:
    server = dataclasses.replace(WANTED, side="server", address="172.27.224.1")
    assert openvpn.judge(server, openvpn.Finding(openvpn.State("CONNECTED", "SUCCESS", "172.27.224.1"))) == ""


def test_a_host_of_the_lan_is_judged_by_the_answer_alone() -> None:
    routed = dataclasses.replace(WANTED, side="routed")
    assert openvpn.judge(routed, openvpn.Finding(None, answers=True)) == ""
    message = openvpn.failure(routed, openvpn.Finding(None, answers=False), 60)
    assert "172.27.224.1 does not answer through the LAN" in message
    assert "journalctl" not in message, "it runs no OpenVPN to read about"


def test_a_failure_names_the_port_that_must_be_open_and_where_it_must_lead() -> None:
    message = openvpn.failure(WANTED, openvpn.Finding(openvpn.State("WAIT")), 60)
    assert message.startswith("worker2: the VPN is not well after 60 s: OpenVPN is in state WAIT")
    assert "UDP port 1195 must be open from worker2 to 203.0.113.7 (cluster_vpn_endpoint), and be forwarded from there to 10.0.0.10:1194" in message


def test_where_nothing_forwards_no_forwarding_is_asked_for() -> None:
    direct = dataclasses.replace(WANTED, endpoint="10.0.0.10", port=1194)
    message = openvpn.failure(direct, openvpn.Finding(openvpn.State("WAIT")), 60)
    assert "must be open from worker2 to the VPN server cp1 (10.0.0.10)" in message
    assert "forwarded" not in message


def test_a_connected_tunnel_without_an_answer_is_no_matter_of_the_port() -> None:
    message = openvpn.failure(WANTED, openvpn.Finding(CONNECTED, answers=False), 60)
    assert "must be open" not in message
    assert "firewall of cp1" in message


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("RESOLVE: Cannot resolve host address: vpn.example.org:1194 (Name or service not known)", "name cannot be resolved"),
        ("read UDPv4 [ECONNREFUSED]: Connection refused (fd=4,code=111)", "nothing listens"),
        ("AUTH: Received control message: AUTH_FAILED", "no client entry"),
        ("VERIFY X509NAME ERROR: CN=someone, must be fpga-hybrid-vpn-server", "another VPN server"),
        ("tls-crypt unwrap error: packet authentication failed", "different tls-crypt keys"),
        ("VERIFY ERROR: depth=0, error=certificate is not yet valid: CN=x", "clock"),
        ("VERIFY ERROR: depth=0, error=CRL has expired: CN=x", "lapsed"),
        ("Options error: --ca fails with 'ca.crt': No such file or directory (errno=2)", "--ca fails"),
        ("Initialization Sequence Completed", ""),
    ],
)
def test_openvpn_s_words_are_understood(line: str, says: str) -> None:
    found = openvpn.hint(["Restart pause, 1 second(s)", line, "Note: nothing"])
    assert says in found
    assert bool(found) is bool(says)


def test_the_newest_trouble_counts() -> None:
    assert "nothing listens" in openvpn.hint(["AUTH_FAILED", "read UDPv4 [ECONNREFUSED]: Connection refused"])


def answer(path: str, text: str) -> threading.Thread:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.listen(1)

    def serve() -> None:
        connection, _ = server.accept()
        with server, connection:
            connection.recv(64)
            connection.sendall(text.encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_ask_gives_the_lines_of_the_answer_without_what_openvpn_says_by_the_way(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    answer(path, ">INFO:OpenVPN Management Interface\r\n1,CONNECTED,SUCCESS,172.27.224.12,10.0.0.1,1194,,\r\n>STATE:x\r\nEND\r\n")
    assert openvpn.ask(path, "state") == ["1,CONNECTED,SUCCESS,172.27.224.12,10.0.0.1,1194,,"]


@pytest.mark.parametrize("text", ["ERROR: unknown command\r\n", ">INFO:x\r\n1,CONN"])
def test_ask_fails_where_there_is_no_whole_answer(tmp_path: Path, text: str) -> None:
    path = str(tmp_path / "socket")
    answer(path, text)
    with pytest.raises(openvpn.ManagementError):
        openvpn.ask(path, "state")


def test_a_look_asks_openvpn_itself(tmp_path: Path) -> None:
    server = dataclasses.replace(WANTED, side="server", management=str(tmp_path / "socket"))
    assert "No such file" in openvpn.look(server).why
    answer(server.management, "1,CONNECTED,SUCCESS,172.27.224.1,,,,\r\nEND\r\n")
    assert openvpn.look(server) == openvpn.Finding(openvpn.State("CONNECTED", "SUCCESS", "172.27.224.1"))


@pytest.mark.skipif(os.geteuid() != 0, reason="a raw socket needs root")
def test_a_look_from_the_lan_asks_the_server_alone() -> None:
    assert openvpn.look(dataclasses.replace(WANTED, side="routed", peer="127.0.0.1")) == openvpn.Finding(None, answers=True)


def test_what_a_module_leaves_out_is_where_the_role_puts_it() -> None:
    parameters = {**dataclasses.asdict(WANTED), "management": None, "server_port": None}
    filled = openvpn.Wanted.of(parameters, host="worker9")
    assert (filled.host, filled.management, filled.server_port) == ("worker9", f"/run/openvpn-{WANTED.side}/fpga-hybrid.sock", WANTED.port)


def test_ask_fails_where_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(openvpn.ManagementError, match="No such file"):
        openvpn.ask(str(tmp_path / "socket"), "state")


def device_text(kind: str = "tun", address: str = "172.27.224.13", mtu: int = 1400) -> str:
    info = {"info_kind": "tun", "info_data": {"type": kind}} if kind in ("tun", "tap") else {"info_kind": kind}
    addresses = [{"family": "inet", "local": address, "prefixlen": 20}, {"family": "inet6", "local": "fe80::1", "prefixlen": 64}]
    return json.dumps([{}, {"ifname": "tun0", "flags": ["POINTOPOINT", "UP"], "mtu": mtu, "linkinfo": info, "addr_info": addresses}])


NETWORK = "172.27.224.0/20"


def test_no_device_and_our_own_device_are_no_conflict() -> None:
    assert openvpn.parse_device("", []) is None
    assert openvpn.device_conflict("tun0", None, 0, NETWORK) == ""
    assert openvpn.device_conflict("tun0", openvpn.parse_device(device_text(), [(42, "openvpn")]), 42, NETWORK) == ""
    assert openvpn.device_conflict("tun0", openvpn.parse_device(device_text(), []), 0, NETWORK) == "", "it waits for OpenVPN after a boot"


def test_a_device_of_somebody_else_is_a_conflict() -> None:
    assert "openvpn (process 7)" in openvpn.device_conflict("tun0", openvpn.parse_device(device_text(), [(7, "openvpn")]), 42, NETWORK)
    assert "another kind (tap" in openvpn.device_conflict("tun0", openvpn.parse_device(device_text("tap"), []), 0, NETWORK)
    assert "another kind (wireguard" in openvpn.device_conflict("tun0", openvpn.parse_device(device_text("wireguard"), []), 0, NETWORK)
    assert "10.8.0.2/24" in openvpn.device_conflict("tun0", openvpn.parse_device(device_text(address="10.8.0.2").replace("20}", "24}"), []), 0, NETWORK)


def test_a_device_drifts_by_address_mtu_state_or_absence() -> None:
    good = openvpn.parse_device(device_text(), [])
    assert good is not None
    assert not openvpn.device_drifted(good, "172.27.224.13/20", 1400)
    assert openvpn.device_drifted(None, "172.27.224.13/20", 1400)
    for changes in ({"addresses": ()}, {"addresses": ("172.27.224.13/20", "172.27.224.99/20")}, {"mtu": 1500}, {"up": False}):
        assert openvpn.device_drifted(dataclasses.replace(good, **changes), "172.27.224.13/20", 1400), changes  # type: ignore[arg-type]


def test_owners_of_a_port_are_read_from_ss() -> None:
    line = 'UNCONN 0 0 0.0.0.0:1194 0.0.0.0:* users:(("openvpn",pid=1123,fd=7),("named",pid=9,fd=3))'
    assert openvpn.port_owners(line) == [(1123, "openvpn"), (9, "named")]
    assert openvpn.port_owners("") == []


def test_the_holder_of_a_tun_device_is_found_in_proc(tmp_path: Path) -> None:
    for pid, name, device in ((7, "openvpn", "tun0"), (8, "vpnd", "tun1")):
        folder = tmp_path / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "fdinfo").mkdir()
        (folder / "fd" / "5").symlink_to("/dev/net/tun")
        (folder / "fdinfo" / "5").write_text(f"pos:\t0\nflags:\t0104002\niff:\t{device}\n")
        (folder / "comm").write_text(f"{name}\n")
    (tmp_path / "9").mkdir()  # a process that ended while we looked
    assert openvpn.tun_owners("tun0", str(tmp_path)) == [(7, "openvpn")]


def test_a_route_is_there_only_by_the_right_gateway() -> None:
    text = json.dumps([{"dst": NETWORK, "gateway": "10.0.0.10", "dev": "eth0", "flags": []}])
    assert openvpn.route_present(text, "10.0.0.10")
    assert not openvpn.route_present(text, "10.0.0.11")
    assert not openvpn.route_present("", "10.0.0.10")
