# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin's half in AWS: the real plugin, the real botocore, and an EC2 that says what the test has written down."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible.template import Templar, is_trusted_as_template
from ansible.utils.display import Display
from ansible.vars.manager import VariableManager

from tests.unit.plugins.ec2_answers import ID, ec2, error, page, serving

HOSTS = {
    "cp1": {"roles": ["control_plane", "vpn_server"], "vars": {"ansible_host": "10.0.0.10", "vpn_address": "172.27.224.1"}},
    "worker1": {"roles": ["worker"], "vars": {"ansible_host": "10.0.0.11", "fpga_publish": {"u250": "boards", "u280": "none"}}},
}
OURS = {"k8s.io/cluster-autoscaler/InAccel": "owned", "fpga.hybrid/pool": "f2-12xlarge", "fpga.hybrid/vpn-address": "172.27.232.5"}


@pytest.fixture
def warnings(monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda _self, msg, *_more, **_options: told.append(msg))
    return told


@pytest.fixture
def write(tmp_path, ec2_double):
    """Writes an inventory file whose EC2 is the double; keys of `aws` are merged."""

    def writing(aws: dict | None = None, **more: object) -> Path:
        access = {"regions": ["us-east-1"], "endpoint_url": ec2_double.url, "access_key": "AKIATEST1234", "secret_key": "hush"}
        content = {"plugin": "fpga.hybrid.cluster", "cluster_name": "InAccel", "hosts": HOSTS, "aws": {**access, **(aws or {})}, **more}
        path = tmp_path / "cluster.hybrid.yml"
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}, sort_keys=False))
        return path

    return writing


def parse(path: Path, cache: bool = True, inventory: InventoryData | None = None, name: str = "fpga.hybrid.cluster") -> InventoryData:
    inventory = inventory or InventoryData()
    plugin = inventory_loader.get(name)
    plugin.parse(inventory, DataLoader(), str(path), cache=cache)
    if getattr(plugin, "_cache", None) is not None:
        plugin.update_cache_if_changed()
    inventory.reconcile_inventory()
    return inventory


def groups(inventory: InventoryData) -> dict[str, list[str]]:
    return {name: sorted(host.name for host in group.get_hosts()) for name, group in inventory.groups.items()}


def variables(inventory: InventoryData, host: str) -> dict:
    """What playbooks would see, evaluated as tasks do it."""
    found = inventory.hosts[host].vars
    return {key: value for key, value in Templar(loader=DataLoader(), variables=found).template(found).items() if not key.startswith("inventory_")}


def test_instances_and_declared_hosts_are_one_inventory(ec2_double, write):
    ec2_double.answers = [page(ec2(1, OURS, instanceType="f2.12xlarge"), ec2(2, {"Name": "a stranger"}))]
    inventory = parse(write())
    assert groups(inventory) == {
        "all": ["cp1", ID(1), "worker1"],
        "ungrouped": [],
        "on_prem": ["cp1", "worker1"],
        "control_plane": ["cp1"],
        "vpn_server": ["cp1"],
        "workers": [ID(1), "worker1"],
        "aws": [ID(1)],
        "fpga": [ID(1), "worker1"],
        "fpga_u250": ["worker1"],
        "fpga_aws_vu47p_f2": [ID(1)],
        "zone_us_east_1a": [ID(1)],
        "pool_f2_12xlarge": [ID(1)],
    }
    assert variables(inventory, ID(1)) == {
        "provider_id": f"aws:///us-east-1a/{ID(1)}",
        "instance_type": "f2.12xlarge",
        "availability_zone": "us-east-1a",
        "lifecycle_state": "running",
        "vpn_address": "172.27.232.5",
    }


def test_ansible_takes_it_by_its_own_way(ec2_double, write):
    ec2_double.answers = [page(ec2(1, OURS))]
    manager = InventoryManager(DataLoader(), sources=[str(write())])
    assert sorted(host.name for host in manager.get_hosts("workers:&aws")) == [ID(1)]
    assert VariableManager(DataLoader(), manager).get_vars(host=manager.get_host(ID(1)))["cluster_name"] == "InAccel"


def test_a_plain_ec2_inventory_needs_no_cluster(ec2_double, write):
    ec2_double.answers = [page(ec2(1, {"Name": "a"}), ec2(2, {"Name": "b"}))]
    inventory = parse(write({"select": "all", "hostnames": ["tag:Name"]}, cluster_name=None, hosts=None))
    assert groups(inventory)["aws"] == ["a", "b"]
    assert groups(inventory)["workers"] == []
    assert "cluster_name" not in inventory.groups["all"].vars


def test_all_regions_are_asked_where_none_is_named(ec2_double, write):
    from tests.bench.aws.replay import response, to_xml

    regions = (200, response("DescribeRegions", to_xml({"regionInfo": [{"regionName": "us-west-2"}, {"regionName": "eu-west-2"}]})))
    ec2_double.answers = lambda call: regions if call["Action"] == "DescribeRegions" else page()
    parse(write({"select": "all", "regions": None}))
    assert sorted(call["authorization"].split("/")[2] for call in ec2_double.requests) == ["eu-west-2", "us-east-1", "us-west-2"]


def test_options_may_be_templates(ec2_double, write, monkeypatch):
    monkeypatch.setenv("MY_REGIONS", "us-west-2,eu-west-2")
    inventory = parse(write({"regions": "{{ lookup('env', 'MY_REGIONS') }}"}))
    assert inventory.groups["all"].vars["cluster_aws_region"] == "us-west-2"
    assert len(ec2_double.requests) == 2


REFUSED = {
    "no cluster name": ({"cluster_name": None}, "cluster_name: found nothing; expected the cluster's name"),
    "no hosts": ({"hosts": None}, "hosts: both or none of hosts and hosts_file"),
    "stale_ok that can't be": ({"aws": {"stale_ok": True}}, "aws.stale_ok: cache_plugin is memory; expected a cache that outlives the run"),
    "jump over nobody": ({"aws": {"select": "all", "connect": "jump"}, "hosts": None}, "aws.connect: jump, and no host is vpn_server"),
    "misspelt attribute": ({"aws": {"vars": ["privat_ip_address"]}}, "aws.vars: no instance has an attribute privat_ip_address"),
    "two boards of one name": (
        {"hosts": {**HOSTS, "w": {"roles": ["worker"], "vars": {"fpga_publish": {"u-1": "boards", "u_1": "boards"}}}}},
        "groups: fpga_u_1 is 'fpga_u-1' of boards and 'fpga_u_1' of boards",
    ),
}


@pytest.mark.parametrize(("more", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_mistake_in_the_file_ends_it_before_anything_is_added(write, more, message):
    inventory = InventoryData()
    with pytest.raises(AnsibleError) as refusal:
        parse(write(more.get("aws"), **{key: value for key, value in more.items() if key != "aws"}), inventory=inventory)
    assert message in str(refusal.value)
    assert not inventory.hosts
    assert set(inventory.groups) == {"all", "ungrouped"}


def test_two_hosts_of_one_name_are_refused_with_both_sources(ec2_double, write):
    ec2_double.answers = [page(ec2(1, {**OURS, "Name": "worker1"}))]
    path = write({"hostnames": ["tag:Name"]})
    with pytest.raises(AnsibleError, match=f"worker1, name: claimed by the declared host of .*cluster.hybrid.yml and by instance {ID(1)} in us-east-1a"):
        parse(path)


def test_variables_of_a_missing_file_cost_no_call(ec2_double, write):
    with pytest.raises(AnsibleError, match="vars_file: found no file"):
        parse(write(vars_file="nowhere.yml"))
    assert not ec2_double.requests


@pytest.mark.parametrize("answer", [page(ec2(1, OURS)), error("UnauthorizedOperation", status=403)])
@pytest.mark.parametrize("enabled", [True, False])
def test_python_s_garbage_collector_is_left_as_it_was(ec2_double, write, answer, enabled):
    ec2_double.answers = [answer]
    (gc.enable if enabled else gc.disable)()
    try:
        with contextlib.suppress(AnsibleError):
            parse(write({"required": True}))
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


# ---- AWS gives no answer


def test_declared_hosts_are_there_in_any_case(ec2_double, write, warnings):
    ec2_double.answers = [error("AuthFailure", status=401)]
    assert groups(parse(write()))["all"] == ["cp1", "worker1"]
    (warning,) = warnings
    assert warning.startswith("aws, us-east-1: wrong credentials (explicit, key ...1234): AWS says AuthFailure")
    assert warning.endswith("Going on without the instances that are missing (aws.required: false).")


@pytest.mark.parametrize("more", [{"aws": {"required": True}}, {"aws": {"select": "all"}, "hosts": None}])
def test_where_aws_is_required_or_all_there_is_the_inventory_fails(ec2_double, write, more):
    ec2_double.answers = [error("UnauthorizedOperation", status=403)]
    inventory = InventoryData()
    path = write(more["aws"], **{key: value for key, value in more.items() if key != "aws"})
    with pytest.raises(AnsibleError, match="AWS gave no complete answer:\n- aws, us-east-1: no permission"):
        parse(path, inventory=inventory)
    assert not inventory.hosts


def test_a_plain_inventory_may_say_that_it_can_do_without(ec2_double, write, warnings):
    ec2_double.answers = [error("UnauthorizedOperation", status=403)]
    assert groups(parse(write({"select": "all", "required": False}, hosts=None)))["aws"] == []
    assert len(warnings) == 1


def test_without_credentials_the_declared_hosts_are_there(ec2_double, write, warnings):
    assert groups(parse(write({"access_key": None, "secret_key": None})))["aws"] == []
    assert "no AWS credentials" in warnings[0]


def test_without_botocore_the_declared_hosts_are_there(write, warnings, monkeypatch):
    monkeypatch.delitem(sys.modules, "ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_query", raising=False)
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    assert groups(parse(write()))["all"] == ["cp1", "worker1"]
    (warning,) = warnings
    assert warning.startswith("aws: Ansible's Python lacks a package (import of botocore.session halted")
    assert "expected botocore, to ask AWS for instances. Install boto3 into the environment of ansible-core." in warning


def test_a_region_that_answers_is_there_though_another_does_not(ec2_double, write, warnings):
    ec2_double.answers = lambda call: error("InternalError", status=500) if "/us-west-2/" in call["authorization"] else page(ec2(1, OURS))
    assert groups(parse(write({"regions": ["us-east-1", "us-west-2"]})))["aws"] == [ID(1)]
    assert "aws, us-west-2:" in warnings[0]


def test_a_region_without_permission_may_be_left_out(ec2_double, write, warnings):
    ec2_double.answers = lambda call: error("UnauthorizedOperation", status=403) if "/us-west-2/" in call["authorization"] else page(ec2(1, OURS))
    inventory = parse(write({"regions": ["us-east-1", "us-west-2"], "strict_permissions": False, "required": True}))
    assert groups(inventory)["aws"] == [ID(1)]
    assert warnings[0].endswith("Left out (aws.strict_permissions: false).")


# ---- the cache


@pytest.fixture
def kept(tmp_path):
    return {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "cache"), "cache_timeout": 60}


RULES = {
    "compose": {"role_upper": "tags.role | upper", "nothing": "no.such.thing"},
    "groups": {"bigger": "'12xlarge' in instance_type"},
    "keyed_groups": [{"key": "tags.role", "prefix": "role", "parent_group": "roles"}],
}


def test_a_hit_asks_nobody_and_gives_the_same(ec2_double, write, kept):
    ec2_double.answers = [page(ec2(1, {**OURS, "role": "db"}, instanceType="f2.12xlarge"))]
    path = write({"full": True, "connect": "jump", "group_by": ["instance_type"]}, **RULES, **kept)
    cold = parse(path)
    assert len(ec2_double.requests) == 1
    hit = parse(path)
    assert len(ec2_double.requests) == 1
    assert groups(hit) == groups(cold)
    assert {name: group.vars for name, group in hit.groups.items()} == {name: group.vars for name, group in cold.groups.items()}
    assert [host.vars for host in hit.hosts.values()] == [host.vars for host in cold.hosts.values()]
    assert groups(hit)["roles"] == groups(hit)["role_db"] == groups(hit)["bigger"] == [ID(1)]
    assert hit.hosts[ID(1)].vars["role_upper"] == "DB"


def test_a_hit_still_has_the_declared_hosts_as_they_are_now(ec2_double, write, kept):
    ec2_double.answers = [page(ec2(1, OURS))]
    parse(write(**kept))
    changed = {**HOSTS, "worker1": {"roles": ["worker"], "vars": {"ansible_host": "10.9.9.9"}}}
    inventory = parse(write(**kept, hosts=changed))
    assert len(ec2_double.requests) == 1
    assert inventory.hosts["worker1"].vars["ansible_host"] == "10.9.9.9"


@pytest.mark.parametrize(
    "changed",
    [
        {"aws": {"full": True}},
        {"aws": {"regions": ["us-west-2"]}},
        {"compose": {"a": "b"}},
        {"strict": True},
        {"cluster_name": "Other"},
        {"hosts": {**HOSTS, "worker2": {"roles": ["worker"]}}},
    ],
)
def test_changed_settings_never_meet_an_old_answer(ec2_double, write, kept, changed):
    parse(write(**kept))
    parse(write(changed.get("aws"), **kept, **{key: value for key, value in changed.items() if key != "aws"}))
    assert len(ec2_double.requests) == 2


def test_another_account_never_meets_this_one_s_answer(ec2_double, write, kept, monkeypatch):
    parse(write(**kept))
    monkeypatch.setenv("AWS_PROFILE", "other")
    monkeypatch.setattr("botocore.session.Session.get_scoped_config", lambda _self: {})
    parse(write(**kept))
    assert len(ec2_double.requests) == 2


def test_an_answer_that_is_too_old_is_asked_for_again(ec2_double, write, kept, monkeypatch):
    path = write(**kept)
    parse(path)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    parse(path)
    assert len(ec2_double.requests) == 2


def test_no_timeout_keeps_it_for_good(ec2_double, write, kept, monkeypatch):
    path = write(**{**kept, "cache_timeout": 0})
    parse(path)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e6)
    parse(path)
    assert len(ec2_double.requests) == 1


def test_flush_cache_asks_again_and_keeps_the_new_answer(ec2_double, write, kept):
    path = write(**kept)
    ec2_double.answers = [page(ec2(1, OURS)), page(ec2(2, OURS))]
    parse(path)
    assert groups(parse(path, cache=False))["aws"] == [ID(2)]
    assert groups(parse(path))["aws"] == [ID(2)]
    assert len(ec2_double.requests) == 2


def test_an_incomplete_answer_is_not_kept(ec2_double, write, kept, warnings):
    path = write({"regions": ["us-east-1", "us-west-2"]}, **kept)
    ec2_double.answers = lambda call: error("InternalError", status=500) if "/us-west-2/" in call["authorization"] else page(ec2(1, OURS))
    parse(path)
    ec2_double.answers = [page(ec2(1, OURS), ec2(2, OURS))]
    assert groups(parse(path))["aws"] == [ID(1), ID(2)]


OUTAGES = [("InternalError", 500), ("ServiceUnavailable", 503)]


@pytest.mark.parametrize(("code", "status"), OUTAGES)
@pytest.mark.parametrize("use_cache", [True, False])
def test_in_an_outage_the_last_good_answer_is_served_however_old(ec2_double, write, kept, warnings, monkeypatch, code, status, use_cache):
    path = write({"stale_ok": True, "required": True}, **{**kept, "cache": use_cache})
    ec2_double.answers = [page(ec2(1, OURS)), error(code, status=status)]
    parse(path)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    assert groups(parse(path))["aws"] == [ID(1)]
    (warning,) = warnings
    assert f"is in trouble (HTTP {status}): AWS says {code}" in warning
    assert "UTC, 120 minutes old (aws.stale_ok)." in warning


def test_an_outage_of_one_region_serves_the_last_answer_of_all(ec2_double, write, kept, warnings):
    path = write({"regions": ["us-east-1", "us-west-2"], "stale_ok": True}, **{**kept, "cache": False})
    ec2_double.answers = lambda call: page(ec2({"us-east-1": 1, "us-west-2": 2}[call["authorization"].split("/")[2]], OURS))
    parse(path)
    ec2_double.answers = lambda call: error("InternalError", status=500) if "/us-west-2/" in call["authorization"] else page()
    assert groups(parse(path))["aws"] == [ID(1), ID(2)]


def test_a_refusal_is_no_outage(ec2_double, write, kept, warnings):
    path = write({"stale_ok": True}, **{**kept, "cache": False})
    ec2_double.answers = [page(ec2(1, OURS)), error("AuthFailure", status=401)]
    parse(path)
    assert groups(parse(path))["aws"] == []
    assert "wrong credentials" in warnings[0]


def test_an_outage_before_the_first_answer_leaves_the_declared_hosts(write, kept, warnings):
    with serving() as down:
        pass
    assert groups(parse(write({"stale_ok": True, "endpoint_url": down.url}, **kept)))["all"] == ["cp1", "worker1"]
    assert "no answer" in warnings[0]


def test_without_stale_ok_an_outage_serves_nothing_old(ec2_double, write, kept, warnings):
    path = write(**{**kept, "cache_timeout": 1})
    ec2_double.answers = [page(ec2(1, OURS)), error("InternalError", status=500)]
    parse(path)
    assert groups(parse(path, cache=False))["aws"] == []


# ---- constructed, against core's own use of it in the peer

CONSTRUCTED = {
    "the six rules of the bench": {
        "keyed_groups": [
            {"prefix": "role", "key": "tags.role | default('none')"},
            {"prefix": "type", "key": "instance_type"},
            {"prefix": "az", "key": "placement.availability_zone"},
        ],
        "compose": {"ansible_host": "private_ip_address", "k8s_provider_id": "'aws:///' ~ placement.availability_zone ~ '/' ~ instance_id"},
        "groups": {"bench_fpga": "instance_type.startswith('f1') or instance_type.startswith('f2')"},
    },
    "lists and mappings": {"keyed_groups": [{"key": "tags", "prefix": "tag"}, {"key": "security_groups | map(attribute='group_id') | list", "prefix": "sg"}]},
    "defaults": {"keyed_groups": [{"key": "tags.empty", "prefix": "e", "default_value": "x"}, {"key": "tags", "prefix": "t", "trailing_separator": False}]},
    "parents": {
        "keyed_groups": [
            {"key": "tags.role", "prefix": "role", "parent_group": "all_roles"},
            {"key": "instance_type", "separator": "", "parent_group": "types"},
        ]
    },
    "no leading separator": {"keyed_groups": [{"key": "instance_type"}], "leading_separator": False},
    "what compose made": {
        "compose": {"size": "instance_type.split('.')[1]"},
        "groups": {"big": "size == '4xlarge'"},
        "keyed_groups": [{"key": "size", "prefix": "size"}],
    },
    "what fails is passed over": {"compose": {"a": "no.such", "b": "1 +"}, "groups": {"c": "no.such", "d": "'no bool'"}, "keyed_groups": [{"key": "no.such"}]},
    "any variable": {"compose": {"image": "lookup('vars', 'image_id')", "nic": "network_interfaces[0].network_interface_id"}},
    "the host itself": {"groups": {"seven": "inventory_hostname.endswith('7')"}},
    "ansible's own filters": {
        "compose": {"first": "private_ip_address | regex_replace('\\\\..*', '')", "net": "[private_ip_address] | ansible.builtin.unique"}
    },
}


@pytest.mark.parametrize("rules", CONSTRUCTED.values(), ids=CONSTRUCTED.keys())
def test_constructed_rules_give_what_they_give_in_aws_ec2(ec2_double, write, tmp_path, rules, warnings):
    ec2_double.answers = [page(*(ec2(number, {"role": ("db", "web", "a-b")[number % 3], "empty": ""} if number else {}) for number in range(20)))]
    ours = parse(write({"select": "all"}, **rules, hosts=None))
    peer_file = tmp_path / "peer.aws_ec2.yml"
    access = {"regions": ["us-east-1"], "endpoint_url": ec2_double.url, "access_key": "a", "secret_key": "b"}
    peer_file.write_text(yaml.safe_dump({"plugin": "amazon.aws.aws_ec2", "hostnames": ["instance-id"], **access, **rules}))
    theirs = parse(peer_file, name="amazon.aws.aws_ec2")
    theirs.groups["aws"] = theirs.groups.pop("aws_ec2")
    assert {name: members for name, members in groups(ours).items() if name in theirs.groups} == groups(theirs)
    assert set(ours.groups) - set(theirs.groups) <= {name for name in ours.groups if name.startswith(("zone_", "fpga", "on_prem", "control", "vpn", "workers"))}
    for name in rules.get("compose", {}):
        assert {host.name: host.vars.get(name) for host in ours.hosts.values()} == {host.name: host.vars.get(name) for host in theirs.hosts.values()}
    assert {
        group.name: sorted(child.name for child in group.child_groups) for group in theirs.groups.values() if group.name not in ("all", "aws_ec2")
    }.items() <= {group.name: sorted(child.name for child in group.child_groups) for group in ours.groups.values()}.items()


def test_strict_says_which_host_and_which_expression(ec2_double, write):
    ec2_double.answers = [page(ec2(1, OURS))]
    with pytest.raises(AnsibleError, match=f"Could not set a for host {ID(1)}"):
        parse(write(compose={"a": "no.such"}, strict=True))


def test_a_constructed_rule_fills_no_group_of_declared_hosts(ec2_double, write):
    """Else whoever may tag an instance would have kubeadm run on it, or drain the control plane."""
    ec2_double.answers = [page(ec2(1, {**OURS, "role": "control_plane"}))]
    with pytest.raises(AnsibleError, match="group control_plane: a constructed rule would fill it"):
        parse(write(keyed_groups=[{"key": "tags.role", "separator": ""}]))


def test_expressions_see_what_is_published_and_group_names(ec2_double, write):
    ec2_double.answers = [page(ec2(1, OURS))]
    inventory = parse(write(compose={"known": "[provider_id, vpn_address, group_names, inventory_file]"}))
    provider, address, names, file = inventory.hosts[ID(1)].vars["known"]
    assert (provider, address) == (f"aws:///us-east-1a/{ID(1)}", "172.27.232.5")
    assert names == ["aws", "fpga", "fpga_aws_vu9p_f1", "pool_f2_12xlarge", "workers", "zone_us_east_1a"]
    assert file.endswith("cluster.hybrid.yml")


def test_extra_variables_may_be_used(ec2_double, write, monkeypatch):
    ec2_double.answers = [page(ec2(1, OURS))]
    monkeypatch.setattr("ansible.plugins.inventory.load_extra_vars", lambda _loader: {"site": "lab"})
    inventory = parse(write(compose={"where": "site"}, use_extra_vars=True))
    assert inventory.hosts[ID(1)].vars["where"] == "lab"


# ---- data stays data


def test_what_a_tag_says_is_never_evaluated(ec2_double, write, tmp_path, warnings):
    trap = tmp_path / "trap"
    evil = f"{{{{ lookup('pipe', 'touch {trap}') }}}}"
    ec2_double.answers = [page(ec2(1, {**OURS, "Name": evil, "role": evil, evil: evil, "fpga.hybrid/vpn-address": evil}))]
    path = write(
        {
            "hostnames": ["tag:Name | replace('x', 'x')"],
            "full": True,
            "vars": {"role": "tag:role"},
            "group_by": [{"key": "tag:role", "prefix": "r"}],
            "connect": "vpn",
        },
        compose={"composed": "tags.role", "joined": "tags.role ~ '!'"},
        groups={"named": "tags.role == 'x'"},
        keyed_groups=[{"key": "tags", "prefix": "k"}],
    )
    manager = InventoryManager(DataLoader(), sources=[str(path)])
    (host,) = manager.get_hosts("aws")
    assert host.name == evil
    found = VariableManager(DataLoader(), manager).get_vars(host=host)
    seen = Templar(loader=DataLoader(), variables=found).template(
        {name: found[name] for name in ("role", "ec2_tags", "composed", "joined", "inventory_hostname")}
    )
    assert seen["role"] == seen["composed"] == seen["ec2_tags"]["role"] == seen["inventory_hostname"] == evil
    assert seen["joined"] == f"{evil}!"
    assert not trap.exists()


@pytest.mark.parametrize("cached", [False, True])
def test_how_to_jump_is_a_template_of_ours_and_no_instance_s_value_is(ec2_double, write, kept, cached):
    ec2_double.answers = [page(ec2(1, OURS))]
    path = write({"connect": "jump", "vars": ["ec2_tags"]}, **kept)
    for _run in range(1 + cached):
        found = parse(path).hosts[ID(1)].vars
    assert found["ansible_host"] == "172.27.232.5"
    assert is_trusted_as_template(found["ansible_ssh_extra_args"])
    assert not any(is_trusted_as_template(value) for name, value in found.items() if not name.endswith("_extra_args"))


def test_compose_may_overrule_connect(ec2_double, write):
    ec2_double.answers = [page(ec2(1, OURS))]
    assert parse(write({"connect": "vpn"}, compose={"ansible_host": "private_ip_address"})).hosts[ID(1)].vars["ansible_host"] == "10.0.0.1"
