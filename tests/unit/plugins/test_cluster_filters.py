# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of role cluster, and the example that users copy."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.fpga.hybrid.plugins.filter.mirror_probes import mirror_probes
from ansible_collections.fpga.hybrid.plugins.filter.node_address import FilterModule as NodeAddress
from ansible_collections.fpga.hybrid.plugins.filter.nth_address import nth_address
from ansible_collections.fpga.hybrid.plugins.filter.problem_listing import problem_listing
from ansible_collections.fpga.hybrid.plugins.module_utils._declaration import HOST_VARIABLES, MIRRORS, VARIABLES, Host, validate

ROOT = Path(__file__).resolve().parents[3]
node_address = NodeAddress().filters()["node_address"]


def test_the_vpn_server_s_address_is_the_first_of_its_network():
    assert nth_address("172.27.224.0/20", 1) == "172.27.224.1"


@pytest.mark.parametrize(("network", "n"), [("172.27.224.1/20", 1), ("vpn", 1), ("10.0.0.0/30", 9), (None, 1)])
def test_a_network_that_is_none_is_said(network, n):
    with pytest.raises(AnsibleFilterError, match="expected an IPv4 network"):
        nth_address(network, n)


def test_a_host_without_an_address_is_named():
    assert node_address({"vpn_address": "172.27.224.12"}, "vpn", False, "172.27.224.1") == "172.27.224.12"
    with pytest.raises(AnsibleFilterError, match="worker1, vpn_address: found no address"):
        node_address({"inventory_hostname": "worker1"}, "vpn", False, "172.27.224.1")


def test_each_mirror_is_asked_for_what_upstream_has_at_that_place():
    asked = {entry["name"]: entry for entry in mirror_probes({name: {"url": "https://m/x/", "password": "p"} for name in MIRRORS}, "1.36", "focal")}
    assert asked["kubernetes"]["url"] == "https://m/x/core:/stable:/v1.36/deb/Release"
    assert asked["images"] == {"name": "images", "url": "https://m/x/v2/", "password": "p"}
    assert asked["xilinx"]["url"] == "https://m/x/debian-packages/dists/focal/Release"
    assert set(asked) == set(MIRRORS)


def test_a_problem_that_two_hosts_of_one_run_found_alike_is_told_once():
    problem = {"host": "", "variable": "v", "found": "found 1", "expected": "2", "remedy": "Mend it."}
    assert problem_listing([problem, problem, {**problem, "host": "a"}]) == "- v: found 1; expected 2. Mend it.\n- a, v: found 1; expected 2. Mend it."


def test_the_example_that_users_copy_is_sound():
    folder = ROOT / "inventories" / "example"
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(folder / "cluster.hybrid.yml")])
    defaults = loader.load_from_file(str(ROOT / "roles" / "cluster" / "defaults" / "main.yml"), trusted_as_template=True)
    settings = loader.load_from_file(str(folder / "group_vars" / "all.yml"), trusted_as_template=True)
    declaration = {**defaults, "cluster_vpn_server_address": "172.27.224.1", **settings, **inventory.groups["all"].vars}
    hosts = [
        Host(host.name, host.name in inventory.groups["vpn_server"].get_hosts(), {name: host.vars[name] for name in HOST_VARIABLES if name in host.vars})
        for host in inventory.groups["on_prem"].get_hosts()
    ]
    assert declaration["cluster_on_prem_addresses"] == "lan"
    declared = Templar(loader, declaration).template({name: declaration.get(name) for name in VARIABLES})
    assert [str(problem) for problem in validate(declared, hosts)] == []
