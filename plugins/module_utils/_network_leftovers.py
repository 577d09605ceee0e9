# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubelet, kube-proxy and Calico leave in a host's kernel after `kubeadm reset`, told from what belongs to others by its name.

PRIVATE to the collection. Names are those of the sources: k8s.io/kubernetes pkg/proxy and pkg/kubelet (chains KUBE-*, nftables table kube-proxy,
device kube-ipvs0), projectcalico felix/rules (chains cali-*, comments "cali:..."), felix/dataplane (devices, route protocol 80).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CHAIN = re.compile(r"(KUBE-|cali-)")
CALICO_COMMENT = re.compile(r"cali:[A-Za-z0-9_-]{16}")
DEVICE = re.compile(r"cali[0-9a-f]{11}|vxlan(-v6)?\.calico|wireguard\.cali|wg-v6\.cali|kube-ipvs0")
CALICO_ROUTE_PROTOCOL = "80"
NFT_TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))


@dataclass(frozen=True)
class Tables:
    """What is ours in the output of one iptables-save."""

    rules: dict[str, list[str]]  # in other people's chains, by table
    chains: dict[str, list[str]]  # whole chains, by table

    def __bool__(self) -> bool:
        return bool(self.rules or self.chains)

    def restore(self) -> str:
        """Input for `iptables-restore --noflush`: takes out exactly this, all of a table in one step."""
        text = []
        for table in sorted({*self.rules, *self.chains}):
            chains = self.chains.get(table, [])
            text.append(f"*{table}")
            text += [f"-D {rule}" for rule in self.rules.get(table, [])]
            # emptied before any is deleted: they jump to each other
            text += [f":{chain} - [0:0]" for chain in chains]
            text += [f"-X {chain}" for chain in chains]
            text.append("COMMIT")
        return "".join(f"{line}\n" for line in text)

    def listing(self) -> list[str]:
        rules = [f"{table}: rule -A {rule}" for table, found in sorted(self.rules.items()) for rule in found]
        return rules + [f"{table}: chain {chain}" for table, found in sorted(self.chains.items()) for chain in found]


def is_ours(rule: str) -> bool:
    """Does a rule in somebody else's chain jump to one of ours, or carry Calico's mark?"""
    words = shlex.split(rule)
    pairs = list(zip(words, words[1:]))
    if any(option in {"-j", "-g"} and CHAIN.match(value) for option, value in pairs):
        return True
    return any(option == "--comment" and CALICO_COMMENT.fullmatch(value) for option, value in pairs)


def find_in_tables(saved: str) -> Tables:
    """saved: the output of iptables-save."""
    rules: dict[str, list[str]] = {}
    chains: dict[str, list[str]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            name = line[1:].split()[0]
            if CHAIN.match(name):
                chains.setdefault(table, []).append(name)
        elif line.startswith("-A ") and not CHAIN.match(line.split()[1]) and is_ours(line[3:]):
            rules.setdefault(table, []).append(line[3:])
    return Tables(rules, chains)


def find_devices(links: Iterable[Mapping[str, Any]]) -> list[str]:
    """links: `ip -json link show`."""
    return sorted(link["ifname"] for link in links if DEVICE.fullmatch(link.get("ifname", "")))


def find_routes(routes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Calico's blackhole routes, one for each block of pod addresses. routes: `ip -json route show`.

    Its other routes go with their devices.
    """
    return sorted(route["dst"] for route in routes if route.get("type") == "blackhole" and str(route.get("protocol")) == CALICO_ROUTE_PROTOCOL)


def find_nft_tables(listed: str) -> list[tuple[str, str]]:
    """listed: `nft list tables`. kube-proxy in nftables mode has tables of its own."""
    found = {tuple(line.split()[1:3]) for line in listed.splitlines() if line.startswith("table ")}
    return [table for table in NFT_TABLES if table in found]
