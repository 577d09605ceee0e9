# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in OpenVPN's way on a host, as preflight and the role say it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn as openvpn
from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_host as host
from ansible_collections.fpga.hybrid.plugins.module_utils._command import Output
from ansible_collections.fpga.hybrid.plugins.module_utils._openvpn import Device
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import Unit

CLIENT = host.Wanted("worker1", "client", "172.27.224.0/20")
SERVER = replace(CLIENT, host="cp1", side="server", endpoint="203.0.113.7")
ACCESS_SERVER = replace(SERVER, backend="openvpn_as")
STOPPED, RUNNING = Unit(exists=True), Unit(exists=True, active=True, main_pid=42)
TUN = Device("tun", ("172.27.224.12/20",), 1400, True)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (CLIENT, host.Found(STOPPED)),
        (CLIENT, host.Found(RUNNING, device=replace(TUN, owners=((42, "openvpn"),)))),
        (CLIENT, host.Found(STOPPED, device=TUN)),  # ours, after a boot
        (SERVER, host.Found(RUNNING)),
        (replace(CLIENT, side="routed"), host.Found(STOPPED)),
    ],
)
def test_a_free_host_and_our_own_tunnel_are_no_obstacle(wanted, found):
    assert host.problems(wanted, found) == []


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        (
            CLIENT,
            host.Found(STOPPED, device=replace(TUN, owners=((7, "openvpn"),))),
            "worker1, cluster_vpn_device: device tun0 is in use by openvpn (process 7)",
        ),
        (CLIENT, host.Found(STOPPED, device=replace(TUN, kind="tap")), "worker1, cluster_vpn_device: device tun0 exists and is of another kind (tap"),
        (CLIENT, host.Found(STOPPED, other="routed"), "fpga-hybrid-routes.service runs here, so this host is a host that reaches the VPN through its LAN"),
        (CLIENT, host.Found(STOPPED, driver=FileNotFoundError(2, "No such file or directory")), "Load the kernel module tun (modprobe tun)"),
        (CLIENT, host.Found(STOPPED, driver=PermissionError(1, "Operation not permitted")), "Look at the permissions of the file"),
        (SERVER, host.Found(STOPPED, strangers=((7, "openvpn"),)), "cp1, cluster_vpn_port: UDP port 1194 is in use by openvpn (process 7)"),
        (
            ACCESS_SERVER,
            host.Found(STOPPED, foreign=True),
            "cp1, cluster_vpn_backend: Access Server is installed here (/usr/local/openvpn_as/scripts/sacli), and not by us",
        ),
        (
            ACCESS_SERVER,
            host.Found(STOPPED, other="server"),
            "openvpn-server@fpga-hybrid.service runs here, so this host is the VPN server of the other backend",
        ),
        (SERVER, host.Found(STOPPED, key_lost=True), "cp1, /etc/fpga-hybrid/vpn/ca.key: it is not there, but /etc/fpga-hybrid/vpn/ca.crt is"),
    ],
)
def test_what_is_somebody_elses_is_named_with_the_way_out(wanted, found, said):
    (problem,) = host.problems(wanted, found)
    assert said in str(problem)
    assert problem.remedy


@pytest.mark.parametrize(
    ("endpoint", "resolved", "said"),
    [
        ("10.0.0.10", {"10.0.0.10"}, ""),
        ("vpn.example.org", {"10.0.0.10"}, ""),
        ("203.0.113.7", {"203.0.113.7"}, "UDP port 1194 of 203.0.113.7, which is cluster_vpn_endpoint, must be forwarded to this host, 10.0.0.10:1194."),
        ("vpn.example.org", {"203.0.113.7"}, "UDP port 1194 of vpn.example.org (203.0.113.7), which"),
        ("vpn.example.org", set(), "vpn.example.org (a name that this host cannot resolve)"),
        ("", set(), ""),
    ],
)
def test_a_port_to_forward_is_told_only_where_the_endpoint_is_not_the_servers_own(endpoint, resolved, said):
    found = host.Found(STOPPED, own_addresses=("10.0.0.10", "10.1.0.1"), endpoint_addresses=frozenset(resolved))
    sentence = host.forward(replace(SERVER, endpoint=endpoint), found)
    assert said in sentence
    assert bool(said) == bool(sentence)
    assert host.forward(replace(CLIENT, endpoint=endpoint), found) == ""


def test_a_server_is_looked_at_by_the_programs_that_every_host_has(tmp_path):
    (tmp_path / "ca.crt").touch()
    addresses = [{"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}]}, {"ifname": "eth0", "addr_info": [{"local": "10.0.0.10"}]}]
    link = [{"ifname": "tun0", "linkinfo": {"info_kind": "tun", "info_data": {"type": "tun"}}, "addr_info": [], "mtu": 1500, "flags": ["UP"]}]
    answers = {"-4": json.dumps(addresses), "-d": json.dumps(link), "-l": 'UNCONN 0 0 *:1194 *:* users:(("openvpn",pid=7,fd=5))\n'}
    asked = []

    def command(argv):
        asked.append(argv)
        return Output(0, next((text for word, text in answers.items() if word in argv), ""), "")

    found = host.look(replace(SERVER, endpoint="10.0.0.10", folder=str(tmp_path)), command)
    assert (found.own_addresses, found.endpoint_addresses, found.strangers) == (("10.0.0.10",), frozenset({"10.0.0.10"}), ((7, "openvpn"),))
    assert found.key_lost
    assert found.device.kind == "tun"
    (tmp_path / "ca.key").touch()
    assert not host.look(replace(SERVER, folder=str(tmp_path)), command).key_lost


def test_a_host_without_a_tunnel_is_asked_for_its_units_only():
    found = host.look(replace(CLIENT, side="routed"), lambda _argv: Output(0, "", ""))
    assert found == host.Found(found.unit)


def access_server_host(monkeypatch, sockets, installed=(), record=None):
    def command(words):
        return Output(0, sockets if words[0] == "ss" else "[]", "")

    monkeypatch.setattr(host, "_driver_error", lambda: None)
    monkeypatch.setattr(host.os.path, "exists", lambda path: path in installed)
    monkeypatch.setattr(host.Record, "load", classmethod(lambda _cls: type("R", (), {"section": lambda _self, _name: record or {}})()))
    return host.look(ACCESS_SERVER, command)


def test_access_servers_own_daemon_is_no_stranger_at_its_port(monkeypatch):
    found = access_server_host(monkeypatch, 'UNCONN 0 0 0.0.0.0:1194 0.0.0.0:* users:(("openvpn-openssl",pid=77,fd=6))')
    assert (found.strangers, found.foreign, host.problems(ACCESS_SERVER, found)) == ((), False, [])


def test_another_program_at_access_servers_port_is_named(monkeypatch):
    found = access_server_host(monkeypatch, 'UNCONN 0 0 0.0.0.0:1194 0.0.0.0:* users:(("openvpn",pid=77,fd=6))')
    assert found.strangers == ((77, "openvpn"),)


@pytest.mark.parametrize("was", [None, "2.14.0"])
def test_an_access_server_is_ours_if_its_package_was_not_there_before_us(monkeypatch, was):
    record = {"openvpn-as": {"packages": {"openvpn-as": {"was": was}}}}
    assert access_server_host(monkeypatch, "", installed={"/usr/local/openvpn_as/scripts/sacli"}, record=record).foreign is (was is not None)


@pytest.mark.parametrize(
    ("answer", "state", "why"), [(Output(0, "{}", ""), "CONNECTED", ""), (Output(1, "", "ERROR: no socket sagent\n"), None, "systemctl status openvpnas")]
)
def test_an_access_server_is_asked_by_its_own_command_line(monkeypatch, answer, state, why):
    words = {"host": "cp1", "side": "server", "backend": "openvpn_as", "device": "as0t0", "management": None, "peer": "", "endpoint": "", "server": ""}
    wanted = openvpn.Wanted.of({**words, "address": "172.27.224.1", "port": 1194, "protocol": "udp", "server_address": "", "server_port": None})
    monkeypatch.setattr(openvpn._command, "run", lambda _argv, **_options: answer)
    finding = host.look_at_tunnel(wanted)
    assert (finding.state.name if finding.state else None, why in finding.why) == (state, True)
    assert "journalctl -u openvpnas -n 50" in openvpn.advice(wanted, finding)
