# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""What OpenVPN of ours would find on a host: whose the device and the port are, what the host was until now. `look` looks, the rest judges."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import socket
import typing as t

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn as openvpn
from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_as as access_server
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import Command, Program, Unit, is_ours, run

UNITS = {
    "server": "openvpn-server@fpga-hybrid.service",
    "client": "openvpn-client@fpga-hybrid.service",
    "routed": "fpga-hybrid-routes.service",
}
WORDS = {"server": "the VPN server", "client": "a VPN client", "routed": "a host that reaches the VPN through its LAN"}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The part of the VPN that a host is to be. endpoint, folder and backend concern the server only."""

    host: str
    side: str
    network: str
    device: str = "tun0"
    port: int = 1194
    protocol: str = "udp"
    endpoint: str = ""
    folder: str = "/etc/fpga-hybrid/vpn"
    backend: str = "openvpn"

    @property
    def is_access_server(self) -> bool:
        return self.side == "server" and self.backend == "openvpn_as"


@dataclasses.dataclass(frozen=True)
class Found:
    """other is the side whose unit runs although it is not the wanted one, else "". strangers have the server's port: (pid, program).

    foreign: an Access Server that we have not installed.
    """

    unit: Unit
    other: str = ""
    driver: OSError | None = None
    device: openvpn.Device | None = None
    strangers: tuple[tuple[int, str], ...] = ()
    key_lost: bool = False
    own_addresses: tuple[str, ...] = ()
    endpoint_addresses: frozenset[str] = frozenset()
    foreign: bool = False


def look(wanted: Wanted, command: Command = run) -> Found:
    name = access_server.UNIT if wanted.is_access_server else UNITS[wanted.side]
    unit = Unit.read(name, command)
    others = [side for side, other in UNITS.items() if other != name and Unit.read(other, command).active]
    found = Found(unit, other=others[0] if others else "")
    if wanted.side == "routed":
        return found
    if wanted.is_access_server:
        return _look_at_access_server(wanted, found, command)
    shown = command(["ip", "-j", "-d", "address", "show", "dev", wanted.device]).out
    found = dataclasses.replace(found, driver=_driver_error(), device=openvpn.parse_device(shown, openvpn.tun_owners(wanted.device)))
    if wanted.side == "client":
        return found
    return dataclasses.replace(
        found,
        strangers=tuple((pid, program) for pid, program in _port_owners(wanted, command) if pid != unit.main_pid),
        key_lost=os.path.exists(os.path.join(wanted.folder, "ca.crt")) and not os.path.exists(os.path.join(wanted.folder, "ca.key")),
        own_addresses=tuple(_own_addresses(command(["ip", "-j", "-4", "address", "show"]).out, wanted.device)),
        endpoint_addresses=_addresses(wanted.endpoint, wanted.port),
    )


def _look_at_access_server(wanted: Wanted, found: Found, command: Command) -> Found:
    """It has its own devices, and its daemons are children of its own."""
    program = Program(access_server.SACLI, None, "openvpn-as", None)
    return dataclasses.replace(
        found,
        driver=_driver_error(),
        strangers=tuple((pid, name) for pid, name in _port_owners(wanted, command) if not name.startswith("openvpn-openssl")),
        own_addresses=tuple(_own_addresses(command(["ip", "-j", "-4", "address", "show"]).out, wanted.device)),
        endpoint_addresses=_addresses(wanted.endpoint, wanted.port),
        foreign=os.path.exists(access_server.SACLI) and not is_ours(program, Record.load().section("apt")),
    )


def _port_owners(wanted: Wanted, command: Command) -> list[tuple[int, str]]:
    return openvpn.port_owners(command(["ss", "-H", "-l", "-n", "-p", "-u" if wanted.protocol == "udp" else "-t", f"sport = :{wanted.port}"]).out)


def look_at_tunnel(wanted: openvpn.Wanted) -> openvpn.Finding:
    """One look, also at an Access Server, which has its own way to be asked."""
    if not wanted.is_access_server:
        return openvpn.look(wanted)
    try:
        access_server.Sacli().call("status")
    except access_server.AccessServerError as error:
        return openvpn.Finding(None, why=str(error))
    return openvpn.Finding(openvpn.State("CONNECTED"))


def _driver_error() -> OSError | None:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return error
    return None


def _own_addresses(text: str, tunnel: str) -> t.Iterator[str]:
    for link in json.loads(text or "[]"):
        if link.get("ifname") not in ("lo", tunnel):
            yield from (entry["local"] for entry in link.get("addr_info", []))


def _addresses(endpoint: str, port: int) -> frozenset[str]:
    try:
        return frozenset(str(found[4][0]) for found in socket.getaddrinfo(endpoint, port, socket.AF_INET)) if endpoint else frozenset()
    except OSError:
        return frozenset()


def problems(wanted: Wanted, found: Found) -> list[Problem]:
    """What is somebody else's, or missing, so that nothing of ours may be started here."""
    return [
        *_other_side(wanted, found),
        *_foreign(wanted, found),
        *_driver(wanted, found),
        *_device(wanted, found),
        *_port(wanted, found),
        *_key(wanted, found),
    ]


def _other_side(wanted: Wanted, found: Found) -> t.Iterator[Problem]:
    """A host that was something else until now has a node under another address: that is no matter of a file more or less."""
    if found.other:
        what = f"{UNITS[found.other]} runs here, so this host is {WORDS[found.other]}{' of the other backend' if found.other == wanted.side else ''}"
        remedy = "Put the declaration right (group vpn_server, vpn_address), or take the host out first (reset.yml) and then run site.yml."
        yield Problem(wanted.host, "cluster_on_prem_addresses", what, WORDS[wanted.side], remedy)


def _foreign(wanted: Wanted, found: Found) -> t.Iterator[Problem]:
    if found.foreign:
        what = f"Access Server is installed here ({access_server.SACLI}), and not by us"
        remedy = (
            "Its settings and users are somebody's, so it is left as it is. Take another host for group vpn_server, or uninstall it there "
            "(`apt-get purge openvpn-as`), or take the community's (cluster_vpn_backend: openvpn) with another cluster_vpn_port beside it."
        )
        yield Problem(wanted.host, "cluster_vpn_backend", what, "a host without Access Server, or with the one that we have installed", remedy)


def _driver(wanted: Wanted, found: Found) -> t.Iterator[Problem]:
    if found.driver is not None:
        missing = found.driver.errno in (errno.ENODEV, errno.ENOENT)
        remedy = "Load the kernel module tun (modprobe tun)" if missing else "Look at the permissions of the file"
        what = f"it cannot be used: {found.driver.strerror}"
        yield Problem(wanted.host, "/dev/net/tun", what, "the tunnel driver", f"{remedy}; in a container the device must be passed in.")


def _device(wanted: Wanted, found: Found) -> t.Iterator[Problem]:
    conflict = openvpn.device_conflict(wanted.device, found.device, found.unit.main_pid, wanted.network)
    if conflict:
        remedy = "It is left as it is. Take it away, or give this host another device: cluster_vpn_device: tun1."
        yield Problem(wanted.host, "cluster_vpn_device", conflict, f"{wanted.device} free, or our OpenVPN's", remedy)


def _port(wanted: Wanted, found: Found) -> t.Iterator[Problem]:
    if found.strangers:
        what = f"{wanted.protocol.upper()} port {wanted.port} is in use by {', '.join(f'{program} (process {pid})' for pid, program in found.strangers)}"
        remedy = "It is left as it is. Stop it, or choose another cluster_vpn_port."
        yield Problem(wanted.host, "cluster_vpn_port", what, "nobody but our OpenVPN", remedy)


def _key(wanted: Wanted, found: Found) -> t.Iterator[Problem]:
    if found.key_lost:
        remedy = (
            "Restore the key from a backup; without it no client can be admitted or revoked. To begin anew with another authority: reset.yml, then site.yml."
        )
        yield Problem(wanted.host, f"{wanted.folder}/ca.key", f"it is not there, but {wanted.folder}/ca.crt is", "the authority's key", remedy)


def forward(wanted: Wanted, found: Found) -> str:
    """A sentence when the endpoint is not one of the server's own addresses: which port somebody else must forward, from where to where."""
    if wanted.side != "server" or not wanted.endpoint or found.endpoint_addresses & set(found.own_addresses):
        return ""
    known = ", ".join(sorted(found.endpoint_addresses)) or "a name that this host cannot resolve"
    endpoint = wanted.endpoint if found.endpoint_addresses == {wanted.endpoint} else f"{wanted.endpoint} ({known})"
    here = found.own_addresses[0] if found.own_addresses else "address unknown"
    port = f"{wanted.protocol.upper()} port {wanted.port}"
    return f"{port} of {endpoint}, which is cluster_vpn_endpoint, must be forwarded to this host, {here}:{wanted.port}."
