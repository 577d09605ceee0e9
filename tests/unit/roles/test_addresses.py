# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which addresses roles host and openvpn make of a declaration: what the firewalls let in, and by which address the VPN server is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[3]
VPN, LAN = "172.27.224.0/20", "10.0.0.0/24"
SITE = {
    "cluster_name": "test",
    "cluster_control_plane_endpoint": "api.test.example",
    "cluster_vpn_endpoint": "192.0.2.1",
    "cluster_lan_networks": [LAN],
    "host_firewall_rules": [],
}


@pytest.fixture
def value(tmp_path):
    """value(hosts, host, variable, **declaration): a variable as a task of our roles on that host would see it. hosts: name -> its variables."""

    def find(hosts: dict[str, dict[str, Any]], host: str, variable: str, **declaration: Any) -> Any:
        variables: dict[str, Any] = {}
        for role in ("cluster", "host", "openvpn", "preflight", "verify"):
            for folder in ("defaults", "vars"):
                variables |= yaml.safe_load((ROOT / "roles" / role / folder / "main.yml").read_text())
        first, *others = hosts
        children = {
            "on_prem": {"hosts": hosts},
            "control_plane": {"hosts": {first: {}}},
            "vpn_server": {"hosts": {first: {}}},
            "workers": {"hosts": {name: {} for name in others}},
        }
        source = tmp_path / "site.yml"
        source.write_text(yaml.safe_dump({"all": {"vars": {**variables, **SITE, **declaration}, "children": children}}))
        loader = DataLoader()
        inventory = InventoryManager(loader, str(source))
        manager = VariableManager(loader, inventory)
        hostvars = HostVars(inventory, manager, loader)
        found = manager.get_vars(host=inventory.get_host(host)) | {"hostvars": hostvars}
        return Templar(loader, variables=found).template(found[variable])

    return find


def sources(rules: list[dict[str, Any]]) -> set[str]:
    """Where the traffic to the kubelet's port may come from."""
    return {rule["source"] for rule in rules if 10250 in rule.get("ports", [])}


IN_LAN = {
    "cp1": {"ansible_host": "10.0.0.10"},
    "worker1": {"ansible_host": "10.0.0.11"},
    "far": {"ansible_host": "198.51.100.7", "vpn_address": "172.27.224.12"},
}


@pytest.mark.parametrize("host", IN_LAN)
def test_in_lan_mode_every_node_lets_in_those_of_the_lan_and_those_behind_the_vpn(value, host):
    assert sources(value(IN_LAN, host, "__host_firewall_rules", cluster_on_prem_addresses="lan")) == {VPN, LAN}


@pytest.mark.parametrize(("mode", "networks"), [("lan", {VPN, LAN}), ("vpn", {VPN})])
def test_the_vpn_server_answers_every_node_and_nobody_else_has_to(value, mode, networks):
    """openvpn_health has each of them ask it for an echo."""
    hosts = {name: {"vpn_address": f"172.27.224.{number}", **IN_LAN[name]} for number, name in enumerate(IN_LAN, 1)}
    rules = {host: value(hosts, host, "__host_firewall_rules", cluster_on_prem_addresses=mode) for host in hosts}
    echo = {host: [rule for rule in found if rule.get("protocol") == "icmp"] for host, found in rules.items()}
    assert {rule["source"] for rule in echo["cp1"]} == networks
    assert all(rule["direction"] == "in" and "ports" not in rule for rule in echo["cp1"])
    assert echo["worker1"] == echo["far"] == []


def test_in_vpn_mode_nodes_come_from_the_vpn_alone(value):
    hosts = {name: {"vpn_address": f"172.27.224.{number}", **IN_LAN[name]} for number, name in enumerate(IN_LAN, 1)}
    assert sources(value(hosts, "worker1", "__host_firewall_rules", cluster_on_prem_addresses="vpn")) == {VPN}


@pytest.mark.parametrize(
    ("server", "gateway"),
    [
        ({"ansible_host": "10.0.0.10"}, "10.0.0.10"),
        ({"node_address": "10.0.0.10"}, "10.0.0.10"),
        ({"node_address": "10.0.0.10", "ansible_host": "198.51.100.1"}, "10.0.0.10"),
        ({"node_address": "10.0.0.10", "ansible_host": "cp1.example.org", "vpn_address": "172.27.224.1"}, "10.0.0.10"),
    ],
)
def test_in_lan_mode_the_way_to_the_vpn_is_by_its_servers_node_address(value, server, gateway):
    hosts = {"cp1": server, "worker1": {"node_address": "10.0.0.11"}}
    assert value(hosts, "worker1", "cluster_vpn_server_lan_address", cluster_on_prem_addresses="lan") == gateway
    assert sources(value(hosts, "worker1", "__host_firewall_rules", cluster_on_prem_addresses="lan")) == {VPN, LAN}


@pytest.mark.parametrize(
    ("server", "shown"), [({"ansible_host": "10.0.0.10"}, "10.0.0.10"), ({"ansible_host": "cp1.example.org"}, "cp1.example.org"), ({}, "cp1")]
)
def test_in_vpn_mode_the_servers_own_address_is_named_as_the_inventory_has_it(value, server, shown):
    hosts = {"cp1": {"vpn_address": "172.27.224.1", **server}, "worker1": {"vpn_address": "172.27.224.11"}}
    assert value(hosts, "worker1", "cluster_vpn_server_lan_address", cluster_on_prem_addresses="vpn") == shown


BY_VPN = {
    "cp1": {"ansible_host": "10.0.0.10", "vpn_address": "172.27.224.1"},
    "worker1": {"vpn_address": "172.27.224.12", "cluster_vpn_dial_port": 1196},
}


@pytest.mark.parametrize(
    ("hosts", "mode", "host", "side", "port"),
    [
        (IN_LAN, "lan", "cp1", "server", 1195),
        (IN_LAN, "lan", "worker1", "routed", 1195),
        (IN_LAN, "lan", "far", "client", 1195),
        (BY_VPN, "vpn", "cp1", "server", 1195),
        (BY_VPN, "vpn", "worker1", "client", 1196),
    ],
)
def test_preflight_the_vpns_role_and_verify_agree_about_a_hosts_part_of_the_vpn(value, hosts, mode, host, side, port):
    def of(variable):
        return value(hosts, host, variable, cluster_on_prem_addresses=mode, cluster_vpn_port=1195)

    wanted, verified = of("__preflight_vpn"), of("__verify_vpn")
    assert (wanted["side"], verified["side"], of("cluster_vpn_side")) == (side, side, side)
    assert (wanted["device"], verified["device"], of("cluster_vpn_device")) == ("tun0", "tun0", "tun0")
    assert (int(verified["port"]), int(of("cluster_vpn_dial_port"))) == (port, port)
    assert (verified["server_address"], of("cluster_vpn_server_lan_address")) == ("10.0.0.10", "10.0.0.10")
