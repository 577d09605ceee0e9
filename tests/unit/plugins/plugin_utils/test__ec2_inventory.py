# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of an instance: its name, its variables, its groups."""

from __future__ import annotations

import shlex

import pytest
from ansible.inventory.group import to_safe_group_name
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, is_trusted_as_template
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.plugin_utils._aws_options import AwsOptions, parse_aws
from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_inventory import (
    DECLARED_ONLY,
    Finished,
    Finisher,
    Naming,
    RefusedError,
    Site,
    connection,
    declared_groups,
    expression_variables,
    select,
    unknown_attributes,
    wanted_attributes,
)

ATTRIBUTES = {"instance_id", "private_ip_address", "instance_type", "placement", "tags", "security_groups", "public_ip_address", "owner_id"}
SITE = Site("InAccel", "cluster.hybrid.yml", ("cp1", "worker1"), ("172.27.224.1",))
OWNED = "k8s.io/cluster-autoscaler/InAccel"


def record(number: int = 1, tags: dict[str, str] | None = None, **more: object) -> dict:
    return {
        "instance_id": f"i-{number}",
        "instance_type": "f2.12xlarge",
        "placement": {"availability_zone": "us-east-1a", "region": "us-east-1"},
        "state": {"name": "running", "code": 16},
        "tags": tags or {},
        "private_ip_address": f"10.0.0.{number}",
        "security_groups": [{"group_id": "sg-1"}, {"group_id": "sg-2"}],
        **more,
    }


def options(**more: object) -> AwsOptions:
    parsed, problems = parse_aws({"regions": ["us-east-1"], **more})
    assert parsed
    assert not problems
    return parsed


def finisher(given: AwsOptions, site: Site = SITE) -> Finisher:
    templar = Templar(loader=DataLoader())

    def evaluate(expression, variables):
        return templar.evaluate_expression(trusted(expression), local_variables=dict(variables))

    return Finisher(given, site, Naming(given.hostnames, ATTRIBUTES, evaluate))


def trusted(text):
    from ansible.template import trust_as_template

    return trust_as_template(text)


def finish(*records: dict, site: Site = SITE, **more: object) -> Finished:
    work = finisher(options(**more), site)
    for one in records:
        work.finish(one, ours=True)
    return work.result()


def groups_of(finished: Finished, host: str) -> set[str]:
    return {name for name, members in finished.groups.items() if host in members}


# ---- which instances


@pytest.mark.parametrize(
    ("tags", "ours"),
    [
        ({OWNED: "owned"}, True),
        ({OWNED: "shared"}, False),
        ({"k8s.io/cluster-autoscaler/inaccel": "owned"}, False),
        ({"fpga.hybrid/pool": "f2", "aws:autoscaling:groupName": "InAccel-f2"}, True),
        ({"fpga.hybrid/pool": "f2", "aws:autoscaling:groupName": "Other-f2"}, False),
        ({"fpga.hybrid/pool": "f2"}, False),
        ({}, False),
    ],
)
def test_by_its_name_a_cluster_has_what_the_autoscaler_s_tag_or_a_pool_s_group_says(tags, ours):
    assert bool(select([record(tags=tags)], options(), "InAccel")) is ours


def test_with_its_id_known_nothing_else_counts():
    instances = [record(1, {"fpga.hybrid/cluster-id": "u-1"}), record(2, {"fpga.hybrid/cluster-id": "u-2", OWNED: "owned"}), record(3, {OWNED: "owned"})]
    assert [one["instance_id"] for one, _ours in select(instances, options(cluster_id="u-1"), "InAccel")] == ["i-1"]


def test_two_clusters_of_one_name_are_told_apart_or_refused():
    instances = [record(number, {OWNED: "owned", "fpga.hybrid/cluster-id": f"u-{number}"}) for number in (1, 2)]
    with pytest.raises(RefusedError, match=r"instances of 2 clusters are called InAccel: u-1, u-2; expected one cluster. Say which with cluster_id"):
        select(instances, options(), "InAccel")


def test_select_all_takes_strangers_too_and_still_knows_its_own():
    instances = [record(1, {OWNED: "owned"}), record(2)]
    assert [ours for _one, ours in select(instances, options(select="all"), "InAccel")] == [True, False]
    assert [ours for _one, ours in select(instances, options(select="all"), "")] == [False, False]


# ---- names


@pytest.mark.parametrize(
    ("hostnames", "tags", "name"),
    [
        ([], {"Name": "a"}, "i-1"),
        (["tag:Name"], {"Name": "a"}, "a"),
        (["tag:Name"], {}, "i-1"),
        (["tag:Name"], {"Name": ""}, "i-1"),
        (["tag:Name", "private-ip-address"], {}, "10.0.0.1"),
        (["tag:Name=a,Role"], {"Name": "b", "Role": "r"}, "r"),
        (["tag:Name=b"], {"Name": "b"}, "Name_b"),
        ([{"name": "private_ip_address", "prefix": "tag:Name"}], {"Name": "a"}, "a_10.0.0.1"),
        ([{"name": "private_ip_address", "prefix": "aws", "separator": "-"}], {}, "aws-10.0.0.1"),
        ([{"name": "private_ip_address", "prefix": "tag:Name"}], {}, "10.0.0.1"),
        (["security_groups.group_id"], {}, "sg-1"),
        (["tag:Name | upper"], {"Name": "a"}, "A"),
        (["tag:Name | split('.')"], {"Name": "a.b"}, "a"),
        (["tag:Name | upper"], {}, "i-1"),
        (["tag:Name"], {"Name": "a:b"}, "a_b"),
    ],
)
def test_an_instance_is_called_by_the_first_that_it_has(hostnames, tags, name):
    assert list(finish(record(tags=tags), hostnames=hostnames).hosts) == [name]


def test_a_filter_is_given_the_tag_as_data():
    """aws_ec2 pastes the tag into the template's text: whoever may write a tag may run a lookup on the controller."""
    name = "x' | lower }}{{ lookup('pipe', 'id') }}{{ '"
    assert list(finish(record(tags={"Name": name}), hostnames=["tag:Name | upper"]).hosts) == [name.upper()]


CLASHES = {
    "two instances": (
        [record(1, {"Name": "a"}), record(2, {"Name": "a"})],
        "a, name: claimed by instance i-1 in us-east-1a and by instance i-2 in us-east-1a; expected one host of a name.",
    ),
    "a declared host": ([record(1, {"Name": "cp1"})], "cp1, name: claimed by the declared host of cluster.hybrid.yml and by instance i-1 in us-east-1a"),
    "the controller": ([record(1, {"Name": "localhost"})], "localhost, name: claimed by the controller and by instance i-1"),
    "a group": ([record(1, {"Name": "aws"})], "aws, name: instance i-1 in us-east-1a is called like a group"),
    "a group of declared hosts": ([record(1, {"Name": "on_prem"})], "on_prem, name: instance i-1 in us-east-1a is called like a group"),
    "an option of ssh": ([record(1, {"Name": "-oProxyCommand=id"})], "called like an option of ssh"),
}


@pytest.mark.parametrize(("records", "message"), CLASHES.values(), ids=CLASHES.keys())
def test_a_name_that_somebody_else_has_is_refused_with_both_sources(records, message):
    with pytest.raises(RefusedError) as refusal:
        finish(*records, hostnames=["tag:Name"])
    assert message in str(refusal.value)


# ---- groups


def test_an_instance_of_the_cluster_is_a_worker_of_its_pool_zone_and_board():
    finished = finish(record(tags={"fpga.hybrid/pool": "f2-12xlarge"}))
    assert groups_of(finished, "i-1") == {"aws", "workers", "pool_f2_12xlarge", "zone_us_east_1a", "fpga", "fpga_aws_vu47p_f2"}


@pytest.mark.parametrize(
    ("instance_type", "board"), [("f1.2xlarge", "fpga_aws_vu9p_f1"), ("f2.48xlarge", "fpga_aws_vu47p_f2"), ("vt1.3xlarge", "fpga_u30"), ("m5.large", None)]
)
def test_boards_follow_from_the_instance_s_family(instance_type, board):
    groups = groups_of(finish(record(instance_type=instance_type)), "i-1")
    assert groups & {"fpga", board} == ({"fpga", board} if board else set())


def test_a_stranger_is_no_worker_and_in_no_pool():
    work = finisher(options(select="all"))
    work.finish(record(tags={"fpga.hybrid/pool": "f2"}), ours=False)
    assert not groups_of(work.result(), "i-1") & {"workers", "pool_f2"}


def test_group_aws_is_there_also_when_it_is_empty():
    assert finish().groups == {"aws": {}}


@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        ("instance_type", {"instance_type_f2_12xlarge"}),
        ({"key": "tag:role", "prefix": "role"}, {"role_db"}),
        ({"key": "tag:role", "prefix": "role", "separator": "__"}, {"role__db"}),
        ({"key": "tag:none", "prefix": "role", "default_value": "none"}, {"role_none"}),
        ({"key": "tag:empty", "prefix": "role", "default_value": "none"}, {"role_none"}),
        ("tag:none", set()),
        ("security_groups.group_id", {"security_groups_group_id_sg_1", "security_groups_group_id_sg_2"}),
        ("placement", set()),
    ],
)
def test_group_by_makes_a_group_of_each_value(rule, groups):
    tags = {"role": "db", "empty": ""}
    assert groups_of(finish(record(tags=tags), group_by=[rule]), "i-1") - groups_of(finish(record(tags=tags)), "i-1") == groups


def test_group_by_may_gather_its_groups_in_a_parent():
    finished = finish(record(1, {"role": "a"}), record(2, {"role": "b"}), group_by=[{"key": "tag:role", "prefix": "role", "parent_group": "roles"}])
    assert finished.children == {"roles": {"role_a": None, "role_b": None}}
    assert finished.groups["roles"] == {}


REFUSED_GROUPS = {
    "two pools": ([record(1, {"fpga.hybrid/pool": "f2-a"}), record(2, {"fpga.hybrid/pool": "f2_a"})], {}, "pool_f2_a is 'pool_f2-a' of pools and 'pool_f2_a'"),
    "two tags": ([record(1, {"r": "a-b"}), record(2, {"r": "a.b"})], {"group_by": ["tag:r"]}, "tag_r_a_b is 'tag_r_a-b' of group_by tag:r and 'tag_r_a.b'"),
    "two rules": (
        [record(1, {"r": "f2"}), record(2, {"fpga.hybrid/pool": "f2"})],
        {"group_by": [{"key": "tag:r", "prefix": "pool"}]},
        "pool_f2 is 'pool_f2' of group_by tag:r and 'pool_f2' of pools; expected one meaning for one group",
    ),
    "declared hosts' group": (
        [record(1, {"r": "control_plane"})],
        {"group_by": [{"key": "tag:r", "prefix": ""}]},
        "group control_plane: group_by tag:r would fill",
    ),
    "by sanitising": (
        [record(1, {"r": "on-prem"})],
        {"group_by": [{"key": "tag:r", "prefix": ""}]},
        "group on_prem: group_by tag:r would fill it from 'on-prem'",
    ),
    "as parent": ([], {"group_by": [{"key": "tag:r", "parent_group": "on_prem"}]}, "group on_prem: it is parent_group of tag:r"),
}


@pytest.mark.parametrize(("records", "more", "message"), REFUSED_GROUPS.values(), ids=REFUSED_GROUPS.keys())
def test_a_group_with_two_meanings_is_refused(records, more, message):
    with pytest.raises(RefusedError) as refusal:
        finish(*records, **more)
    assert message in str(refusal.value)


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True))
def test_no_tag_brings_an_instance_among_the_declared_hosts_and_groups_are_sanitised_as_core_does_it(values):
    records = [record(number, {"r": value}) for number, value in enumerate(values)]
    try:
        finished = finish(*records, group_by=[{"key": "tag:r", "prefix": ""}])
    except RefusedError:
        return
    assert not DECLARED_ONLY & finished.groups.keys()
    for number, value in enumerate(values):
        assert f"i-{number}" in finished.groups[to_safe_group_name(value, force=True, silent=True)]


def test_declared_hosts_are_sorted_by_the_boards_they_publish():
    assert declared_groups({"w1": ["u250", "u280"], "w2": ["u250"], "cp1": []}) == {"fpga": ["w1", "w2"], "fpga_u250": ["w1", "w2"], "fpga_u280": ["w1"]}
    with pytest.raises(RefusedError, match="fpga_u_1 is"):
        declared_groups({"w1": ["u-1"], "w2": ["u_1"]})


# ---- variables


def test_few_variables_are_published_unless_more_are_asked_for():
    assert finish(record(tags={"fpga.hybrid/vpn-address": "172.27.232.5"})).hosts["i-1"] == {
        "provider_id": "aws:///us-east-1a/i-1",
        "instance_type": "f2.12xlarge",
        "availability_zone": "us-east-1a",
        "lifecycle_state": "running",
        "vpn_address": "172.27.232.5",
    }


def test_single_variables_are_added_and_one_that_an_instance_lacks_is_not():
    hosts = finish(record(tags={"role": "db"}), vars=["private_ip_address", "public_ip_address", {"role": "tag:role"}]).hosts
    assert {"private_ip_address": "10.0.0.1", "role": "db"}.items() <= hosts["i-1"].items()
    assert "public_ip_address" not in hosts["i-1"]


def test_full_gives_everything_and_calls_the_tags_ec2_tags():
    given = record(tags={"a": "b"})
    variables = finish(given, full=True).hosts["i-1"]
    assert "tags" not in variables
    assert variables["ec2_tags"] == {"a": "b"}
    assert {key: value for key, value in given.items() if key != "tags"}.items() <= variables.items()


def test_prefix_and_suffix_go_around_names_from_ec2_but_not_around_chosen_ones():
    variables = finish(
        record(), full=True, hostvars_prefix="aws_", hostvars_suffix="_x", vars={"role": "owner_id", "ansible_host": "private_ip_address"}
    ).hosts["i-1"]
    assert {"aws_provider_id_x", "aws_ec2_tags_x", "aws_instance_type_x", "ansible_host"} <= variables.keys()
    assert all(name.startswith("aws_") and name.endswith("_x") for name in variables if name != "ansible_host")


@pytest.mark.parametrize("text", ["-oProxyCommand=id", "172.27.232", "{{ 1 }}", "worker1"])
def test_a_vpn_address_that_is_none_is_not_used(text):
    work = finisher(options(connect="vpn"))
    work.finish(record(tags={"fpga.hybrid/vpn-address": text}), ours=True)
    assert not {"vpn_address", "ansible_host"} & work.result().hosts["i-1"].keys()
    assert repr(text) in work.warnings[0]


def test_a_declared_host_s_vpn_address_is_not_taken_over():
    work = finisher(options(connect="vpn"))
    work.finish(record(tags={"fpga.hybrid/vpn-address": "172.27.224.1"}), ours=True)
    assert "vpn_address" not in work.result().hosts["i-1"]
    assert "172.27.224.1 is a declared host's" in work.warnings[0]


# ---- how it is reached

IN_VPN = record(tags={"fpga.hybrid/vpn-address": "172.27.232.5"})


@pytest.mark.parametrize(
    ("more", "address"),
    [
        ({}, None),
        ({"connect": "vpn"}, "172.27.232.5"),
        ({"connect": "jump"}, "172.27.232.5"),
        ({"connect": "jump", "jump_host": "admin@bastion:22"}, "10.0.0.1"),
    ],
)
def test_connect_says_which_address_is_used(more, address):
    assert finish(IN_VPN, **more).hosts["i-1"].get("ansible_host") == address


def test_over_ssm_an_instance_is_its_id_in_its_region():
    given = options(connect="ssm", profile="fpga")
    assert connection(given, "cp1") == {"ansible_connection": "amazon.aws.aws_ssm", "ansible_aws_ssm_profile": "fpga"}
    variables = finish(IN_VPN, connect="ssm").hosts["i-1"]
    assert (variables["ansible_aws_ssm_instance_id"], variables["ansible_aws_ssm_region"]) == ("i-1", "us-east-1")
    assert "ansible_host" not in variables


@pytest.mark.parametrize("connect", ["none", "vpn"])
def test_without_a_jump_nothing_but_the_address_is_set(connect):
    assert connection(options(connect=connect), "cp1") == {}


def test_a_jump_host_of_one_s_own_is_quoted():
    variables = connection(options(connect="jump", jump_host="admin@bastion:22; id"), "cp1")
    assert set(variables) == {"ansible_ssh_extra_args", "ansible_scp_extra_args", "ansible_sftp_extra_args"}
    assert shlex.split(variables["ansible_ssh_extra_args"]) == ["-o", "ProxyJump=admin@bastion:22; id"]


@pytest.mark.parametrize(
    ("via", "command"),
    [
        ({}, ["ssh", "-p", "22", "-W", "[%h]:%p", "cp1"]),
        (
            {
                "ansible_host": "10.0.0.10",
                "ansible_user": "admin",
                "ansible_port": 2222,
                "ansible_ssh_private_key_file": "/home/a b/key",
                "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null",
            },
            ["ssh", "-o", "UserKnownHostsFile=/dev/null", "-i", "/home/a b/key", "-p", "2222", "-W", "[%h]:%p", "admin@10.0.0.10"],
        ),
    ],
)
def test_a_jump_over_the_vpn_server_reaches_it_as_ansible_itself_would(via, command):
    text = connection(options(connect="jump"), "cp1")["ansible_ssh_extra_args"]
    assert is_trusted_as_template(text)
    rendered = Templar(loader=DataLoader(), variables={"hostvars": {"cp1": via}}).template(text)
    option, value = shlex.split(rendered)
    assert option == "-o"
    assert shlex.split(value.removeprefix("ProxyCommand=")) == command


# ---- what has to be read


@pytest.mark.parametrize(
    ("more", "expressions", "wanted"),
    [
        ({}, frozenset(), set()),
        ({}, frozenset({"image_id"}), {"image_id"}),
        ({"hostvars_prefix": "aws_"}, frozenset({"aws_image_id"}), {"image_id"}),
        (
            {"vars": ["key_name"], "group_by": ["vpc_id"], "hostnames": [{"name": "private-dns-name", "prefix": "tag:x"}]},
            frozenset(),
            {"key_name", "vpc_id", "private_dns_name"},
        ),
        ({"connect": "jump", "jump_host": "b"}, frozenset(), {"private_ip_address"}),
    ],
)
def test_only_what_something_names_has_to_be_read(more, expressions, wanted):
    found = wanted_attributes(options(**more), expressions)
    assert found is not None
    assert wanted <= found
    assert "block_device_mappings" not in found


@pytest.mark.parametrize(("more", "expressions"), [({"full": True}, frozenset()), ({}, None)])
def test_everything_is_read_when_everything_may_be_used(more, expressions):
    assert wanted_attributes(options(**more), expressions) is None


@pytest.mark.parametrize("option", ["hostnames", "group_by", "vars"])
def test_a_misspelt_attribute_is_found(option):
    (problem,) = unknown_attributes(options(**{option: ["privat_ip_address"]}), ATTRIBUTES)
    assert str(problem).startswith(f"aws.{option}: no instance has an attribute privat_ip_address; expected an attribute of DescribeInstances")
    assert not unknown_attributes(options(**{option: ["private_ip_address"]}), ATTRIBUTES)


def test_expressions_see_the_tags_by_both_names():
    variables = expression_variables(record(tags={"a": "b"}), options(hostvars_prefix="aws_"))
    assert variables["aws_tags"] == variables["aws_ec2_tags"] == {"a": "b"}


# ---- what the cache keeps


@given(
    st.dictionaries(st.text(max_size=4), st.dictionaries(st.text(max_size=4), st.text(max_size=4) | st.integers() | st.none(), max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=4), st.lists(st.text(max_size=4), unique=True, max_size=3), max_size=3),
)
def test_finished_hosts_come_out_of_json_as_they_went_in(hosts, groups):
    finished = Finished(hosts, {name: dict.fromkeys(members) for name, members in groups.items()}, {"a": {"b": None}})
    assert Finished.from_json(finished.to_json()) == finished
