# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin, called as Ansible calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible.template import Templar, is_trusted_as_template
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.inventory.cluster import DNS_LABEL, parse_hosts

ROOT = Path(__file__).resolve().parents[4]
CP = {"roles": ["control_plane", "vpn_server"], "vars": {"ansible_host": "10.0.0.10"}}
WORKER = {"roles": ["worker"], "vars": {"ansible_host": "10.0.0.11", "vpn_address": "172.27.224.11"}}


def parse(path: Path) -> InventoryData:
    inventory = InventoryData()
    plugin = inventory_loader.get("fpga.hybrid.cluster")
    assert plugin.verify_file(str(path))
    plugin.parse(inventory, DataLoader(), str(path))
    inventory.reconcile_inventory()
    return inventory


def write(folder: Path, content: object, name: str = "cluster.hybrid.yml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def cluster(**more):
    return {"plugin": "fpga.hybrid.cluster", "cluster_name": "InAccel", "hosts": {"cp1": CP, "worker1": WORKER}, **more}


def members(inventory: InventoryData, group: str) -> list[str]:
    return sorted(host.name for host in inventory.groups[group].get_hosts())


def test_hosts_are_sorted_into_groups_by_their_roles(tmp_path):
    inventory = parse(write(tmp_path, cluster()))
    groups = {name: members(inventory, name) for name in ("on_prem", "control_plane", "vpn_server", "workers", "aws")}
    assert groups == {"on_prem": ["cp1", "worker1"], "control_plane": ["cp1"], "vpn_server": ["cp1"], "workers": ["worker1"], "aws": []}
    assert inventory.hosts["worker1"].vars["vpn_address"] == "172.27.224.11"


def test_name_and_region_are_published_once_for_all(tmp_path):
    inventory = parse(write(tmp_path, cluster(aws={"regions": ["us-east-1", "us-west-2"]})))
    assert inventory.groups["all"].vars == {"cluster_name": "InAccel", "cluster_aws_region": "us-east-1"}


def test_without_aws_there_is_no_region(tmp_path):
    assert "cluster_aws_region" not in parse(write(tmp_path, cluster())).groups["all"].vars


def test_a_host_variable_may_be_a_template(tmp_path):
    """Data tagging would otherwise turn {{ vault_password }} in the administrator's own file into a plain text."""
    hosts = {"cp1": {**CP, "vars": {"ansible_password": "{{ 6 * 7 }}"}}}
    value = parse(write(tmp_path, cluster(hosts=hosts))).hosts["cp1"].vars["ansible_password"]
    assert is_trusted_as_template(value)
    assert Templar(loader=DataLoader()).template(value) == 42


def test_hosts_may_stand_in_a_file_of_their_own(tmp_path):
    write(tmp_path, {"cp1": CP}, "machines.yml")
    content = cluster(hosts_file="machines.yml")
    del content["hosts"]
    assert members(parse(write(tmp_path, content)), "on_prem") == ["cp1"]


def test_the_root_inventory_is_the_lab_s(tmp_path):
    """AWX synchronises the root's file, the lab's operator uses inventories/lab: they must not differ."""
    root, lab = parse(ROOT / "cluster.hybrid.yml"), parse(ROOT / "inventories" / "lab" / "lab.hybrid.yml")
    assert {name: host.vars for name, host in root.hosts.items()} == {name: host.vars for name, host in lab.hosts.items()}
    settings = yaml.safe_load((ROOT / "inventories" / "lab" / "group_vars" / "all.yml").read_text())
    assert root.groups["all"].vars == {**settings, "cluster_name": "lab"}


@pytest.mark.parametrize("name", ["hosts.yml", "cluster.yml", "cluster.hybrid.yml.bak"])
def test_other_files_are_left_to_other_plugins(tmp_path, name):
    path = write(tmp_path, cluster(), name)
    assert not inventory_loader.get("fpga.hybrid.cluster").verify_file(str(path))


def without_server(hosts):
    return {**hosts, "cp1": {"roles": ["control_plane"]}}


MISTAKES = {
    "unknown role": ({"cp1": CP, "w": {"roles": ["wroker"]}}, "w, roles: found 'wroker'; expected one of control_plane, vpn_server, worker"),
    "no roles": ({"cp1": CP, "w": {"vars": {}}}, "w, roles: found nothing"),
    "unknown key": ({"cp1": CP, "w": {"roles": ["worker"], "ansible_host": "10.0.0.1"}}, "w, hosts.w.ansible_host: no such key"),
    "two control planes": ({"cp1": CP, "cp2": {"roles": ["control_plane"]}}, "control_plane is cp1 and cp2; expected exactly one host"),
    "no control plane": ({"v": {"roles": ["vpn_server"]}}, "control_plane is no host"),
    "no vpn server": ({"cp1": {"roles": ["control_plane"]}}, "vpn_server is no host; expected exactly one host. Give the role vpn_server to one host."),
    "worker on the control plane": ({"cp1": {"roles": ["control_plane", "vpn_server", "worker"]}}, "cp1, roles: both control_plane and worker"),
    "same VPN address": (
        {"cp1": CP, "w1": WORKER, "w2": {"roles": ["worker"], "vars": {"vpn_address": "172.27.224.11"}}},
        "w2, vpn_address: 172.27.224.11, which w1 has as well",
    ),
    "same host twice": ({"cp1": CP, "w1": WORKER, "w2": {"roles": ["worker"], "vars": {"ansible_host": "10.0.0.11"}}}, "w2, ansible_host: 10.0.0.11"),
    "name no node can have": ({"cp1": CP, "Worker_1": WORKER}, "Worker_1, hosts: the name is 'Worker_1'; expected a DNS label"),
    "name of a group": ({"cp1": CP, "workers": WORKER}, "workers, hosts: the name is that of a group"),
    "vars no mapping": ({"cp1": CP, "w": {"roles": ["worker"], "vars": ["a"]}}, "w, vars: found a list"),
    "host no mapping": ({"cp1": CP, "w": "worker"}, "w, hosts: found a text"),
    "no hosts": ({}, "hosts: found an empty mapping"),
}


@pytest.mark.parametrize(("hosts", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_wrong_host_is_refused_with_what_to_do(tmp_path, hosts, message):
    with pytest.raises(AnsibleError) as refusal:
        parse(write(tmp_path, cluster(hosts=hosts)))
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"aws": {"regions": ["us-east-1"], "instance_types": ["f2.6xlarge"]}}, "aws.instance_types: no such key"),
        ({"aws": {"regions": []}}, "aws.regions: found []"),
        ({"aws": ["us-east-1"]}, "Config 'aws'"),
        ({"cluster_pod_network": "10.0.0.0/8"}, "cluster_pod_network: no such key"),
        ({"hosts_file": "hosts.yml"}, "both or none of hosts and hosts_file"),
        ({"vars_file": "nowhere.yml"}, "vars_file: found no file"),
    ],
)
def test_nothing_in_the_file_is_silently_ignored(tmp_path, more, message):
    write(tmp_path, {"cp1": CP}, "hosts.yml")
    with pytest.raises(AnsibleError) as refusal:
        parse(write(tmp_path, cluster(**more)))
    assert message in str(refusal.value)


def test_all_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(AnsibleError) as refusal:
        parse(write(tmp_path, cluster(hosts={"A": WORKER, "b": {"roles": ["x"]}}, aws={"zone": "a"})))
    assert all(part in str(refusal.value) for part in ("A, hosts", "b, roles", "aws.zone", "aws.regions"))


keys = st.text(max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | keys, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
)
entries = st.fixed_dictionaries(
    {"roles": st.lists(st.sampled_from(["control_plane", "vpn_server", "worker"]), min_size=1, max_size=2, unique=True)},
    optional={"vars": st.dictionaries(st.sampled_from(["vpn_address", "x"]), st.sampled_from(["172.27.224.1", "172.27.224.2"]))},
)


@given(json_values)
def test_no_declaration_makes_it_stumble(declared):
    hosts, problems = parse_hosts(declared)
    assert problems or hosts


@given(st.dictionaries(st.from_regex(DNS_LABEL, fullmatch=True) | st.text(max_size=5), entries, max_size=5))
def test_what_is_accepted_has_one_control_plane_one_server_and_no_address_twice(declared):
    hosts, problems = parse_hosts(declared)
    if problems:
        return
    assert len(hosts) == len(declared)
    assert all(sum(role in host.roles for host in hosts) == 1 for role in ("control_plane", "vpn_server"))
    addresses = [host.variables["vpn_address"] for host in hosts if "vpn_address" in host.variables]
    assert len(addresses) == len(set(addresses))
