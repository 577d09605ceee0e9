# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""OpenVPN on a host: whose the device and the port are, what its management socket says, and whether the other end answers."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import re
import socket
import typing as t

from ansible_collections.fpga.hybrid.plugins.module_utils import _command, _icmp


@dataclasses.dataclass(frozen=True)
class State:
    """A line of the management command `state` (openvpn/doc/management-notes.txt)."""

    name: str
    detail: str = ""
    address: str = ""
    remote: str = ""

    @property
    def connected(self) -> bool:
        return self.name == "CONNECTED"


# What each state means for somebody who waits, in the words of an error message.
MEANING = {
    "RESOLVE": "it looks up the endpoint's name",
    "WAIT": "it has sent its first packet and no answer came",
    "CONNECTING": "it has sent its first packet and no answer came",
    "TCP_CONNECT": "it tries to open the TCP connection",
    "AUTH": "the server answered, but TLS does not complete, so it may refuse this host's certificate (fpga-hybrid-vpn list on the VPN server)",
    "GET_CONFIG": "TLS is up, the server sends no settings",
    "AUTH_PENDING": "TLS is up, the server sends no settings",
    "RECONNECTING": "the last attempt failed, it waits for the next",
}

# Pattern in OpenVPN's log -> what it means. The first that fits the newest lines wins.
HINTS = (
    (r"Cannot resolve host address|RESOLVE: Cannot", "The endpoint's name cannot be resolved on this host."),
    (r"certificate revoked|CRL: .*revoked|VERIFY ERROR.*revoked", "The server says that this host's certificate was revoked."),
    (r"CRL has expired", "The server's revocation list has lapsed. On the VPN server: systemctl start fpga-hybrid-vpn-crl.service"),
    (r"certificate is not yet valid", "A certificate is not yet valid: the clock of one of the two hosts is wrong."),
    (r"certificate has expired", "A certificate has expired, or the clock of one of the two hosts is wrong."),
    (r"AUTH_FAILED", "The server knows the certificate but has no client entry for this host: it was revoked, or its entry removed."),
    (
        r"VERIFY (X509NAME|EKU|KU) ERROR|VERIFY ERROR",
        "The server's certificate is not the one of this cluster's authority: does the endpoint lead to another VPN server?",
    ),
    (r"tls-crypt unwrap error|packet HMAC authentication failed", "The two ends have different tls-crypt keys: does the endpoint lead to another VPN server?"),
    (r"ECONNREFUSED", "The endpoint's host answers that nothing listens on this port."),
    (r"EHOSTUNREACH|ENETUNREACH|No route to host|Network is unreachable", "This host has no route to the endpoint."),
    (r"Cannot ioctl TUNSETIFF|Cannot open TUN/TAP", "The tunnel's device cannot be opened."),
    (r"Options error: (?P<text>.*)", "OpenVPN refuses its configuration."),
    (r"Could not bind|Address already in use", "The port is taken by another program."),
)


class ManagementError(Exception):
    """The management socket gave no answer: the sentence says why."""


def ask(path: str, command: str, timeout: float = 3.0) -> list[str]:
    """The lines of a management command's answer, without its END."""
    lines: list[str] = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(path)
            connection.sendall(command.encode() + b"\n")
            with connection.makefile("r", encoding="utf-8", errors="replace") as stream:
                for raw in stream:
                    line = raw.rstrip("\r\n")
                    if line == "END":
                        return lines
                    if line.startswith("ERROR:"):
                        raise ManagementError(line)
                    if not line.startswith(">"):
                        lines.append(line)
    except OSError as error:
        raise ManagementError(f"{path}: {error}") from None
    raise ManagementError(f"{path}: closed before the answer was complete")


def parse_state(lines: t.Sequence[str]) -> State:
    """The newest line: time,name,detail,tunnel address,remote address,remote port,... Raises ManagementError where there is none."""
    if not lines:
        raise ManagementError("no state was given")
    fields = lines[-1].split(",") + [""] * 6
    remote = f"{fields[4]}:{fields[5]}" if fields[4] else ""
    return State(name=fields[1], detail=fields[2], address=fields[3], remote=remote)


def hint(log: t.Sequence[str]) -> str:
    """What OpenVPN's newest log lines say about a connection that does not come up; "" when nothing known."""
    for line in reversed(log):
        for pattern, meaning in HINTS:
            match = re.search(pattern, line)
            if match:
                text = match.groupdict().get("text")
                return f"{meaning} ({text.strip()})" if text else meaning
    return ""


#: A `Wanted` as a module's options, but for the host's name.
WANTED_OPTIONS: dict[str, t.Any] = {
    "side": {"type": "str", "choices": ["server", "client", "routed"], "required": True},
    "address": {"type": "str", "default": ""},
    "peer": {"type": "str", "default": ""},
    "device": {"type": "str", "default": "tun0"},
    "management": {"type": "path"},
    "endpoint": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 1194},
    "protocol": {"type": "str", "choices": ["udp", "tcp"], "default": "udp"},
    "server": {"type": "str", "default": "the VPN server"},
    "server_address": {"type": "str", "default": "its address"},
    "server_port": {"type": "int"},
    "backend": {"type": "str", "choices": ["openvpn", "openvpn_as"], "default": "openvpn"},
}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a host's tunnel should be, and the words for a message where it is not."""

    host: str
    side: str
    address: str
    device: str
    management: str
    peer: str
    endpoint: str
    port: int
    protocol: str
    server: str
    server_address: str
    server_port: int
    backend: str = "openvpn"

    @classmethod
    def of(cls, parameters: t.Mapping[str, t.Any], **more: t.Any) -> Wanted:
        """From a module's parameters, of which management and server_port may be unset."""
        given = {"backend": "openvpn", **parameters, **more}
        values = {field.name: given[field.name] for field in dataclasses.fields(cls)}
        management = values["management"] or f"/run/openvpn-{values['side']}/fpga-hybrid.sock"
        return cls(**{**values, "management": management, "server_port": values["server_port"] or values["port"]})

    @property
    def is_access_server(self) -> bool:
        return self.side == "server" and self.backend == "openvpn_as"

    @property
    def unit(self) -> str:
        return "openvpnas.service" if self.is_access_server else f"openvpn-{self.side}@fpga-hybrid.service"

    def open_port(self) -> str:
        """Which port must be open from where to where."""
        port = f"{self.protocol.upper()} port {self.port}"
        if self.endpoint == self.server_address:
            return f"{port} must be open from {self.host} to the VPN server {self.server} ({self.endpoint}); look at the firewalls of both and between them."
        return (
            f"{port} must be open from {self.host} to {self.endpoint} (cluster_vpn_endpoint), and be forwarded from there to "
            f"{self.server_address}:{self.server_port}, where the VPN server {self.server} listens."
        )


@dataclasses.dataclass(frozen=True)
class Finding:
    """One look at a tunnel. state is None where OpenVPN itself gave no answer; `why` then says what it said instead."""

    state: State | None
    why: str = ""
    answers: bool | None = None
    log: tuple[str, ...] = ()


def judge(wanted: Wanted, finding: Finding) -> str:
    """What is wrong, in a sentence; nothing when the tunnel is well. Neither the unit's nor the address's existence says anything here."""
    state = finding.state
    if wanted.side == "routed":
        if finding.answers:
            return ""
        return (
            f"the VPN server's address {wanted.peer} does not answer through the LAN. It must forward between its LAN and the VPN "
            f"(net.ipv4.ip_forward, firewall) and be up; this host's route to it is made by fpga-hybrid-routes.service"
        )
    if state is None:
        return f"OpenVPN does not run ({finding.why})"
    if not state.connected:
        detail = f" ({state.detail})" if state.detail else ""
        meaning = f": {MEANING[state.name]}" if state.name in MEANING else ""
        return f"OpenVPN is in state {state.name}{detail}{meaning}"
    if state.address not in ("", wanted.address):
        return f"OpenVPN is connected with the address {state.address}, expected {wanted.address}"
    unanswered = wanted.side == "client" and not finding.answers
    return f"OpenVPN is connected, but the VPN server's address {wanted.peer} does not answer through {wanted.device}" if unanswered else ""


def advice(wanted: Wanted, finding: Finding) -> str:
    """What to do about a tunnel that is not well, as far as its state and its log tell."""
    sentences = []
    said = hint(finding.log)
    if said:
        sentences.append(said)
    state = finding.state
    if wanted.side == "client" and (state is None or not state.connected):
        sentences.append(wanted.open_port())
    if wanted.side == "client" and state is not None and state.connected and not finding.answers:
        sentences.append(f"Look at the firewall of {wanted.server}: it must accept what comes from its {wanted.device}.")
    if wanted.side != "routed":
        sentences.append(f"OpenVPN's own words: `journalctl -u {wanted.unit.removesuffix('.service')} -n 50`.")
    return " ".join(sentences)


def failure(wanted: Wanted, finding: Finding, seconds: float) -> str:
    """The whole message for a tunnel that did not come up in time."""
    return f"{wanted.host}: the VPN is not well after {seconds:.0f} s: {judge(wanted, finding)}. {advice(wanted, finding)}".strip()


# --- Looking ---------------------------------------------------------------------------------------------------------------------------


def look(wanted: Wanted) -> Finding:
    """One look: OpenVPN's own state first, then the other end, and nowhere but through the tunnel."""
    if wanted.side == "routed":
        return Finding(None, answers=_icmp.answers(wanted.peer))
    try:
        state = parse_state(ask(wanted.management, "state"))
    except ManagementError as error:
        return Finding(None, why=str(error))
    if wanted.side == "client" and state.connected:
        return Finding(state, answers=_icmp.answers(wanted.peer, wanted.device))
    return Finding(state)


def with_log(wanted: Wanted, finding: Finding, since: float) -> Finding:
    """The same with OpenVPN's lines since a moment (seconds since 1970); older ones speak of other troubles."""
    if wanted.side == "routed":
        return finding
    answer = _command.run(["journalctl", "--unit", wanted.unit, "--output", "cat", "--lines", "200", "--since", f"@{since:.0f}"], timeout=20)
    return dataclasses.replace(finding, log=tuple(answer.out.splitlines()))


# --- Whose is it -----------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Device:
    """A network device of the wanted name; kind is `ip -d link`'s."""

    kind: str
    addresses: tuple[str, ...]
    mtu: int
    up: bool
    owners: tuple[tuple[int, str], ...] = ()


def parse_device(text: str, owners: t.Sequence[tuple[int, str]]) -> Device | None:
    """From `ip -j -d address show dev NAME`; None where there is no such device."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return None
    links = [link for link in found if link.get("ifname")]
    if not links:
        return None
    link = links[0]
    addresses = tuple(f"{entry['local']}/{entry['prefixlen']}" for entry in link.get("addr_info", []) if entry.get("family") == "inet")
    kind = link.get("linkinfo", {}).get("info_kind", "")
    data = link.get("linkinfo", {}).get("info_data", {})
    if kind == "tun" and data.get("type"):
        kind = data["type"]
    return Device(kind, addresses, int(link.get("mtu", 0)), "UP" in link.get("flags", []), tuple(owners))


def device_conflict(name: str, device: Device | None, our_pid: int, network: str) -> str:
    """What stands in the way, in words; nothing when the device is free or ours."""
    if device is None:
        return ""
    strangers = [f"{program} (process {pid})" for pid, program in device.owners if pid != our_pid]
    if strangers:
        return f"device {name} is in use by {', '.join(strangers)}"
    if device.kind != "tun":
        return f"device {name} exists and is of another kind ({device.kind or 'unknown'}, not tun)"
    vpn = ipaddress.IPv4Network(network)
    foreign = [address for address in device.addresses if ipaddress.IPv4Interface(address).ip not in vpn]
    if foreign and not device.owners:
        return f"device {name} exists with the address {foreign[0]}, which is not of cluster_vpn_network {network}"
    return ""


def device_drifted(device: Device | None, address: str, mtu: int) -> bool:
    """Whether a running tunnel's device is not as fpga-hybrid-tunnel made it."""
    return device is None or device.addresses != (address,) or device.mtu != mtu or not device.up


def port_owners(text: str) -> list[tuple[int, str]]:
    """(pid, program) from `ss -H -l -u|-t -n -p sport = :PORT`."""
    return [(int(pid), program) for program, pid in re.findall(r'\("([^"]+)",pid=(\d+)', text)]


def tun_owners(name: str, proc: str = "/proc") -> list[tuple[int, str]]:
    """(pid, program) of whoever holds the tun device open: the kernel says so in fdinfo."""
    owners = []
    for pid in filter(str.isdigit, os.listdir(proc)):
        folder = f"{proc}/{pid}"
        try:
            for descriptor in os.listdir(f"{folder}/fd"):
                if not os.readlink(f"{folder}/fd/{descriptor}").endswith("/net/tun"):
                    continue
                with open(f"{folder}/fdinfo/{descriptor}", encoding="utf-8") as info:
                    if re.search(rf"^iff:\s*{re.escape(name)}\s*$", info.read(), re.MULTILINE):
                        with open(f"{folder}/comm", encoding="utf-8") as comm:
                            owners.append((int(pid), comm.read().strip()))
                        break
        except OSError:
            continue  # ended while we looked
    return owners


def route_present(text: str, gateway: str) -> bool:
    """Whether `ip -j route show exact NETWORK` has it by this gateway."""
    try:
        return any(route.get("gateway") == gateway for route in json.loads(text or "[]"))
    except ValueError:
        return False
