"""The wall: an nftables table of the lab's own, beside whatever the machine has.

The three networks cannot reach each other, nor anything outside this machine. One hole: UDP datagrams to an endpoint, which is
the gateway address of the sender's own network, are passed on to the VPN server behind it (so the "public" address of the VPN is
never an address that could belong to somebody). The machine itself reaches every host and is reached by them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from lab.files import write_atomically
from lab.run import CommandError, run, succeeds
from lab.settings import INNER_NETWORKS, NETWORKS, SITE2, STATE, VPC, VPN_PORT, LabError, Network

TABLE = "fpga_hybrid_lab"

#: What each drop counter means; `lab/lab status` prints them.
COUNTERS = {
    "between": "from one network of the lab to another",
    "outside": "from the lab to anything outside this machine",
    "inbound": "from outside this machine to the lab",
    "astray": "for a network of the lab, or from one, on the way out by an interface of the machine",
    "closed": "datagrams from the lab to this machine itself: endpoints that lead nowhere",
}


@dataclass(frozen=True)
class Endpoint:
    """An endpoint: datagrams from a network to its own gateway's port go to the server's port."""

    network: Network
    port: int
    server: IPv4Address
    server_port: int = VPN_PORT

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """`site2:1194=10.203.10.11:1194`"""
        try:
            outer, inner = text.split("=")
            network, port = outer.split(":")
            server, server_port = inner.split(":")
            return cls(NETWORKS[network], int(port), IPv4Address(server), int(server_port))
        except (ValueError, KeyError) as error:
            raise LabError(f"endpoint {text!r}: expected NETWORK:PORT=SERVER:PORT, for example site2:1194=10.203.10.11:1194") from error

    def __post_init__(self) -> None:
        if self.server in self.network.subnet or not any(self.server in network.subnet for network in NETWORKS.values()):
            raise LabError(f"endpoint {self}: the server must be in another network of the lab than {self.network.name}")

    def __str__(self) -> str:
        return f"{self.network.name}:{self.port}={self.server}:{self.server_port}"


VPN_SERVER = IPv4Address("10.203.10.11")
DEFAULT_ENDPOINTS = (Endpoint(SITE2, VPN_PORT, VPN_SERVER), Endpoint(VPC, VPN_PORT, VPN_SERVER))


def render(bridges: Mapping[str, str], endpoints: Iterable[Endpoint]) -> str:
    """The table as nft reads it; loading it replaces the old one in one step. bridges: network name to interface."""
    endpoints = sorted(endpoints, key=str)
    home = {network.name: network for network in NETWORKS.values()}
    ours = ", ".join(f'"{bridges[name]}"' for name in sorted(home))
    everything = ", ".join(str(subnet) for subnet in sorted([*(network.subnet for network in home.values()), *INNER_NETWORKS.values()]))

    def server_bridge(server: IPv4Address) -> str:
        return next(bridges[network.name] for network in home.values() if server in network.subnet)

    lines = [
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        *(f'  counter {name} {{ comment "{meaning}"; }}' for name, meaning in COUNTERS.items()),
        "",
        "  chain endpoints {",
        "    type nat hook prerouting priority dstnat - 5; policy accept;",
        *(f'    iifname "{bridges[e.network.name]}" ip daddr {e.network.gateway} udp dport {e.port} dnat ip to {e.server}:{e.server_port}' for e in endpoints),
        "  }",
        "",
        # netavark masquerades what leaves a network; where the machine has bridge-nf-call-iptables on, that takes in what stays on the bridge
        # for an address behind another host, the VPN's for one. A mapping to itself, made first, keeps the sender's address.
        "  chain own_address {",
        "    type nat hook postrouting priority srcnat - 5; policy accept;",
        *(f'    oifname "{bridges[name]}" ip saddr {home[name].subnet} snat ip to ip saddr' for name in sorted(home)),
        "  }",
        "",
        "  chain forward {",
        "    type filter hook forward priority filter - 10; policy accept;",
        f"    iifname {{ {ours} }} jump leaving",
        f"    oifname {{ {ours} }} counter name inbound drop",
        "  }",
        "",
        "  chain leaving {",
        # Within a bridge: passes here only where the machine has bridge-nf-call-iptables on.
        *(f'    iifname "{bridges[name]}" oifname "{bridges[name]}" accept' for name in sorted(home)),
        *dict.fromkeys(line for e in endpoints for line in passages(e, outer=bridges[e.network.name], inner=server_bridge(e.server))),
        f"    oifname {{ {ours} }} counter name between drop",
        "    counter name outside drop",
        "  }",
        "",
        # The machine serves the lab nothing by UDP. A datagram refused here is never confirmed as a connection, so the same
        # sender is passed on as soon as the endpoint leads somewhere.
        "  chain input {",
        "    type filter hook input priority filter - 10; policy accept;",
        f"    iifname {{ {ours} }} meta l4proto udp ct state new counter name closed drop",
        "  }",
        "",
        "  chain postrouting {",
        "    type filter hook postrouting priority filter; policy accept;",
        f'    oifname {{ {ours}, "lo" }} accept',
        f"    ip saddr {{ {everything} }} counter name astray drop",
        f"    ip daddr {{ {everything} }} counter name astray drop",
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def passages(endpoint: Endpoint, *, outer: str, inner: str) -> tuple[str, str]:
    """The hole in the wall for one endpoint: only what came by way of the gateway's address, and the replies to it."""
    server, port = endpoint.server, endpoint.server_port
    return (
        f'    iifname "{outer}" oifname "{inner}" ip daddr {server} udp dport {port} ct status dnat ct direction original accept',
        f'    iifname "{inner}" oifname "{outer}" ip saddr {server} udp sport {port} ct status dnat ct direction reply accept',
    )


def endpoints() -> list[Endpoint]:
    """The endpoints in force: the lab's own and those added for a scenario, which take precedence."""
    chosen = {(e.network.name, e.port): e for e in DEFAULT_ENDPOINTS}
    chosen |= {(e.network.name, e.port): e for e in added_endpoints()}
    return list(chosen.values())


def added_endpoints() -> list[Endpoint]:
    file = STATE / "endpoints"
    return [Endpoint.parse(line) for line in file.read_text().split()] if file.exists() else []


def add_endpoint(endpoint: Endpoint) -> None:
    write_added([*(e for e in added_endpoints() if (e.network, e.port) != (endpoint.network, endpoint.port)), endpoint])


def remove_endpoint(endpoint: Endpoint) -> None:
    write_added([e for e in added_endpoints() if e != endpoint])


def write_added(wanted: Iterable[Endpoint]) -> None:
    write_atomically(STATE / "endpoints", "".join(f"{endpoint}\n" for endpoint in wanted))


def ensure(bridges: Mapping[str, str]) -> None:
    """Have the table loaded. One that is there and as it should be stays, with its counters."""
    wanted = render(bridges, endpoints())
    loaded = STATE / "wall.nft"
    if succeeds("nft", "list", "table", "inet", TABLE) and loaded.exists() and loaded.read_text() == wanted:
        return
    run("nft", "-f", "-", stdin=wanted)
    write_atomically(loaded, wanted)
    forget_flows()


def forget_flows() -> None:
    """A sender that never pauses would keep the way that its first datagram took: let every flow to a gateway choose anew."""
    for network in NETWORKS.values():
        # Status 1: there was none.
        succeeds("conntrack", "-D", "-p", "udp", "--orig-dst", str(network.gateway))


def remove() -> None:
    if succeeds("nft", "list", "table", "inet", TABLE):
        run("nft", "delete", "table", "inet", TABLE)
    (STATE / "wall.nft").unlink(missing_ok=True)


def counters() -> dict[str, int]:
    """Packets dropped since the table was loaded, by counter; empty without a table."""
    try:
        listing = json.loads(run("nft", "-j", "list", "counters", "table", "inet", TABLE))
    except CommandError:
        return {}
    return {item["counter"]["name"]: item["counter"]["packets"] for item in listing["nftables"] if "counter" in item}
