# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster's declaration must keep to, checked without contacting any host. Pure; runs on the controller."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Any


def ipv4(value: object) -> IPv4Address | None:
    try:
        return IPv4Address(str(value))
    except AddressValueError:
        return None


def node_address(host: Mapping[str, Any], on_prem_addresses: str, is_vpn_server: bool, vpn_server_address: str) -> str | None:
    """The InternalIP that a declared host's node is to have; None when the inventory doesn't tell it.

    vpn: its VPN address (the VPN server's is known without being declared).
    lan: node_address, else the VPN address of a host that dials in from elsewhere, else ansible_host where that is an address.
    """
    vpn_address = host.get("vpn_address") or (vpn_server_address if is_vpn_server else None)
    if on_prem_addresses == "vpn":
        candidates = [vpn_address]
    else:
        candidates = [host.get("node_address"), None if is_vpn_server else vpn_address, host.get("ansible_host")]
    chosen = next((candidate for candidate in candidates if candidate), None)
    address = ipv4(chosen)
    return str(address) if address else None
