# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory file's `aws` may say, and what is said of its mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.plugin_utils._aws_options import AwsOptions, GroupRule, HostName, NamePart, parse_aws, parse_name

REGIONS = {"regions": ["us-east-1"]}


def options(**more: object) -> AwsOptions:
    parsed, problems = parse_aws({**REGIONS, **more})
    assert not problems
    assert parsed
    return parsed


def test_without_aws_there_is_nothing_to_ask():
    assert parse_aws(None) == (None, [])


def test_regions_alone_ask_for_the_cluster_s_instances_by_id_and_connect_to_none():
    assert options() == AwsOptions(regions=("us-east-1",), select="cluster", connect="none")


@pytest.mark.parametrize("regions", ["us-east-1,us-west-2", "us-east-1, us-west-2", ["us-east-1", "us-west-2", "us-east-1"]])
def test_regions_may_be_a_list_or_a_text_as_in_aws_ec2(regions):
    assert options(regions=regions).regions == ("us-east-1", "us-west-2")


@pytest.mark.parametrize("regions", [None, []])
def test_a_plain_inventory_may_leave_the_regions_to_the_account(regions):
    assert options(select="all", regions=regions).regions == ()


def test_filters_take_one_value_or_many():
    assert options(filters={"vpc-id": "vpc-1", "instance-type": ["f2.6xlarge", "f2.12xlarge"], "hibernation-options.configured": True}).filters == {
        "vpc-id": ("vpc-1",),
        "instance-type": ("f2.6xlarge", "f2.12xlarge"),
        "hibernation-options.configured": ("true",),
    }


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("private-ip-address", NamePart("private-ip-address", ("private_ip_address",))),
        ("tag:Name", NamePart("tag:Name", tags=(("Name", None),))),
        ("tag:Name=web,Role", NamePart("tag:Name=web,Role", tags=(("Name", "web"), ("Role", None)))),
        ("tag:Name | replace('a|b', 'c')", NamePart("tag:Name", tags=(("Name", None),), jinja_filter="replace('a|b', 'c')")),
    ],
)
def test_a_host_name_is_an_attribute_or_tags_and_perhaps_a_filter(text, part):
    assert parse_name(text) == part


def test_host_names_may_have_a_prefix():
    assert options(hostnames=["tag:Name", {"name": "private-ip-address", "prefix": "lab", "separator": "-"}]).hostnames == (
        HostName(parse_name("tag:Name")),
        HostName(parse_name("private-ip-address"), NamePart("lab", ("lab",)), "-"),
    )


def test_a_group_rule_is_named_after_its_attribute_unless_it_says_otherwise():
    plain, spelt = options(group_by=["tag:role", {"key": "instance_type", "prefix": "", "default_value": 0, "parent_group": "types"}]).group_by
    assert plain == GroupRule("tag:role", ("tags", "role"), "tag_role")
    assert (plain.group("fpga"), spelt.group("f2.6xlarge")) == ("tag_role_fpga", "f2.6xlarge")
    assert (spelt.default_value, spelt.parent_group) == ("0", "types")


@pytest.mark.parametrize(
    ("variables", "parsed"),
    [
        (["private_ip_address"], (("private_ip_address", True, ("private_ip_address",)),)),
        (["ec2_tags"], (("ec2_tags", True, ("tags",)),)),
        ({"ansible_host": "private_ip_address"}, (("ansible_host", False, ("private_ip_address",)),)),
        (["image_id", {"role": "tag:role"}], (("image_id", True, ("image_id",)), ("role", False, ("tags", "role")))),
    ],
)
def test_variables_are_attributes_or_a_mapping_to_attributes(variables, parsed):
    assert options(vars=variables).variables == parsed


@pytest.mark.parametrize("value", [True, "true", "yes", 1])
def test_a_switch_may_come_from_a_template_as_text(value):
    assert options(stale_ok=value).stale_ok is True


MISTAKES = {
    "no mapping": (["us-east-1"], "aws: found ['us-east-1']; expected a mapping with regions"),
    "no regions": ({}, "aws.regions: found None"),
    "region no text": ({"regions": [1]}, "aws.regions: found [1]"),
    "unknown key": ({**REGIONS, "instance_types": []}, "aws.instance_types: no such key; expected one of access_key"),
    "constructed below aws": ({**REGIONS, "compose": {}}, "aws.compose: no such key here; expected it beside aws, not below"),
    "another option of aws_ec2": ({**REGIONS, "iam_role_arn": "arn"}, "aws.iam_role_arn: no such key; expected another one. Use assume_role_arn"),
    "wrong choice": ({**REGIONS, "connect": "ssh"}, "aws.connect: found 'ssh'; expected one of none, vpn, jump, ssm"),
    "no switch": ({**REGIONS, "full": "a bit"}, "aws.full: found 'a bit'; expected true or false"),
    "filters no mapping": ({**REGIONS, "filters": ["vpc-id"]}, "aws.filters: found ['vpc-id']"),
    "hostnames no list": ({**REGIONS, "hostnames": "tag:Name"}, "aws.hostnames: found 'tag:Name'; expected a list of attributes"),
    "hostname without name": ({**REGIONS, "hostnames": [{"prefix": "x"}]}, "aws.hostnames: found {'prefix': 'x'}"),
    "group_by unknown key": ({**REGIONS, "group_by": [{"key": "a", "prefx": "b"}]}, "aws.group_by: found {'key': 'a', 'prefx': 'b'}"),
    "group_by without key": ({**REGIONS, "group_by": [{"prefix": "b"}]}, "aws.group_by: found {'prefix': 'b'}"),
    "variable of Ansible's": ({**REGIONS, "vars": ["tags"]}, "aws.vars: Ansible uses the name tags itself; expected another one. Take ec2_tags."),
    "variable with a hyphen": ({**REGIONS, "vars": ["tag:role"]}, "aws.vars: 'tag:role' can't be a variable's name"),
    "variable of nothing": ({**REGIONS, "vars": [1]}, "aws.vars: found [1]"),
    "vars no list": ({**REGIONS, "vars": "image_id"}, "aws.vars: found 'image_id'"),
    "profile and key": ({**REGIONS, "profile": "p", "access_key": "a", "secret_key": "s"}, "aws.profile: both profile and access_key"),
    "half a key": ({**REGIONS, "access_key": "a"}, "aws.access_key: one of access_key and secret_key is missing"),
    "key no text": ({**REGIONS, "access_key": "a", "secret_key": 12345678}, "aws.secret_key: found a int"),
    "endpoint no address": ({**REGIONS, "endpoint_url": "localhost:5000"}, "aws.endpoint_url: found 'localhost:5000'"),
    "jump host unused": ({**REGIONS, "connect": "vpn", "jump_host": "bastion"}, "aws.jump_host: connect is vpn; expected connect: jump"),
    "prefix": ({**REGIONS, "hostvars_prefix": "ec2-"}, "aws.hostvars_prefix: 'ec2-NAME' can't be a variable's name"),
}


@pytest.mark.parametrize(("declared", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_with_its_remedy(declared, message):
    _options, problems = parse_aws(declared)
    assert any(message in str(problem) for problem in problems), problems


def test_a_secret_is_never_shown():
    parsed, problems = parse_aws({**REGIONS, "access_key": "a", "secret_key": "hush", "session_token": "hush"})
    assert "hush" not in repr(parsed)
    assert not problems
    _parsed, problems = parse_aws({**REGIONS, "access_key": "a", "secret_key": ["hush"]})
    assert "hush" not in "".join(map(str, problems))


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)
keys = st.sampled_from(
    ["regions", "filters", "hostnames", "group_by", "vars", "full", "connect", "select", "hostvars_prefix", "jump_host", "endpoint_url", "x"]
)


@given(values | st.dictionaries(keys, values, max_size=6))
def test_no_declaration_makes_it_stumble(declared):
    parsed, problems = parse_aws(declared)
    assert declared is None or problems or parsed
