# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VPN as a joining host brings it up: its profile, its unit, and whether anybody answers at the other end."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn

UNIT = "openvpn-client@fpga-hybrid.service"
CONFIGURATION = "etc/openvpn/client/fpga-hybrid.conf"
LOGIN = "etc/openvpn/client/fpga-hybrid.login"
SOCKET = "run/openvpn-client/fpga-hybrid.sock"

#: Options of a foreign profile that ours take the place of: where it logs, what it runs as, and how it is asked.
_TAKEN_OUT = re.compile(
    r"\s*(dev|dev-type|dev-node|management\S*|auth-user-pass|auth-retry|daemon|log|log-append|syslog|status|status-version|writepid|cd|chroot|user|group|"
    r"persist-tun|up|down|script-security|redirect-gateway|block-outside-dns)(\s|$)"
)


def adapted(profile: str, *, login: bool) -> str:
    """A profile that is not ours (OpenVPN Access Server's, say), so that our unit can run it and ask it. Inline files stay as they are."""
    kept, inline = [], ""
    for line in profile.splitlines():
        tag = re.fullmatch(r"\s*<(/?)([a-z0-9-]+)>\s*", line)
        if tag and tag[2] != "connection":
            inline = "" if tag[1] else tag[2]
        if inline or tag or not _TAKEN_OUT.match(line):
            kept.append(line)
    ours = [
        "# Added by fpga-hybrid-bootstrap",
        "dev tun0",
        "dev-type tun",
        "persist-tun",
        *([f"auth-user-pass /{LOGIN}"] if login else []),
        "# Whatever a server may push: no default route and no name server comes from the VPN",
        'pull-filter ignore "redirect-gateway"',
        'pull-filter ignore "dhcp-option"',
        f"management /{SOCKET} unix",
        "management-client-user root",
    ]
    return "\n".join([*kept, *ours]) + "\n"


@dataclass(frozen=True)
class Facts:
    """What a profile says. address: None where the server gives one."""

    remote: str
    port: int
    protocol: str
    device: str
    address: str | None


def facts(profile: str) -> Facts:
    options = {"port": "1194", "proto": "udp", "dev": "tun0"}
    remote: list[str] = []
    address = None
    for line in profile.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] in options:
            options[words[0]] = words[1]
        if len(words) >= 2 and words[0] == "remote" and not remote:
            remote = words[1:]
        if words[:2] == ["setenv-safe", "address"] and len(words) == 3:
            address = words[2].partition("/")[0]
    port = remote[1] if len(remote) > 1 else options["port"]
    protocol = remote[2] if len(remote) > 2 else options["proto"]
    return Facts(remote[0] if remote else "", int(port) if port.isdigit() else 1194, "tcp" if protocol.startswith("tcp") else "udp", options["dev"], address)


@dataclass(frozen=True)
class Tunnel:
    """One look. state: None where OpenVPN gave no answer; why then says so."""

    state: _openvpn.State | None
    why: str = ""


def look(socket_path: str) -> Tunnel:
    try:
        return Tunnel(_openvpn.parse_state(_openvpn.ask(socket_path, "state")))
    except _openvpn.ManagementError as error:
        return Tunnel(None, str(error))


def trouble(tunnel: Tunnel, profile: Facts, name: str) -> str:
    """What is wrong with it, nothing where it is connected with the right address."""
    return _openvpn.judge(_wanted(tunnel, profile, name), _openvpn.Finding(tunnel.state, tunnel.why, answers=True))


def _wanted(tunnel: Tunnel, profile: Facts, name: str) -> _openvpn.Wanted:
    given = tunnel.state.address if tunnel.state else ""
    return _openvpn.Wanted(
        host=name,
        side="client",
        address=profile.address or given,
        device=profile.device,
        management="",
        peer="",
        endpoint=profile.remote,
        port=profile.port,
        protocol=profile.protocol,
        server="at the endpoint",
        server_address=profile.remote,
        server_port=profile.port,
    )


def failed(tunnel: Tunnel, profile: Facts, name: str, log: tuple[str, ...], seconds: float) -> str:
    """The whole sentence, with what OpenVPN's own words mean and which port has to be open."""
    return _openvpn.failure(_wanted(tunnel, profile, name), _openvpn.Finding(tunnel.state, tunnel.why, answers=True, log=log), seconds)


def refused_login(log: tuple[str, ...]) -> bool:
    """Access servers lock an account after a few attempts, and the unit would go on for ever."""
    return any("AUTH_FAILED" in line for line in log)


def journal_arguments(since: float) -> list[str]:
    return ["journalctl", "--unit", UNIT, "--output", "cat", "--lines", "200", "--since", f"@{since:.0f}"]
