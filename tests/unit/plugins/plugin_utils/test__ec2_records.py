# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our reading of DescribeInstances against that of the peer, and the names of its pieces."""

from __future__ import annotations

import json
from xml.etree.ElementTree import ParseError

import botocore.loaders
import botocore.model
import botocore.parsers
import pytest
from ansible_collections.amazon.aws.plugins.inventory.aws_ec2 import _prepare_host_vars
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_records import ALWAYS, FILTER_NAMES, RecordReader, path_of, snake_case, value_at
from tests.bench.aws.replay import NAMESPACE, instance
from tests.unit.plugins.ec2_answers import page

MODEL = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("ec2", "service-2"), "ec2")
OUTPUT = MODEL.operation_model("DescribeInstances").output_shape
EVERYTHING = RecordReader(OUTPUT)


def as_the_peer_reads(body: bytes) -> list[dict]:
    """botocore's parser and aws_ec2's own function; times as JSON shows them."""
    answer = botocore.parsers.EC2QueryParser().parse({"body": body, "headers": {}, "status_code": 200}, OUTPUT)
    records = []
    for reservation in answer["Reservations"]:
        of_reservation = {"OwnerId": reservation["OwnerId"], "RequesterId": reservation.get("RequesterId", ""), "ReservationId": reservation["ReservationId"]}
        records += [_prepare_host_vars({**one, **of_reservation}) for one in reservation["Instances"]]
    return json.loads(json.dumps(records, default=lambda time: time.isoformat()))


def test_a_whole_instance_is_read_as_the_peer_reads_it():
    _status, body = page(*map(instance, range(25)))
    assert EVERYTHING.read(body, "us-east-1") == (as_the_peer_reads(body), "")


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), max_size=20)
needed = {"instanceId", "placement", "instanceState"}


@given(st.sets(st.sampled_from(sorted(instance(0))), max_size=40), st.dictionaries(texts, texts, max_size=5), st.integers(0, 1 << 20))
def test_whatever_is_missing_and_whatever_tags_say_it_is_read_as_the_peer_reads_it(left_out, tags, number):
    made = {key: value for key, value in instance(number).items() if key not in left_out or key in needed}
    made["tagSet"] = [{"key": key, "value": value} for key, value in tags.items()]
    _status, body = page(made)
    (record,), _token = EVERYTHING.read(body, "us-east-1")
    assert record == as_the_peer_reads(body)[0]


def test_the_region_is_the_one_that_was_asked_also_in_a_local_zone():
    """aws_ec2 cuts the last letter off the zone's name, which gives us-west-2-lax-1."""
    _status, body = page({**instance(0), "placement": {"availabilityZone": "us-west-2-lax-1a"}})
    (record,), _token = EVERYTHING.read(body, "us-west-2")
    assert record["placement"]["region"] == "us-west-2"


def test_only_what_is_wanted_is_read():
    _status, body = page(instance(0))
    (record,), _token = RecordReader(OUTPUT, {"private_ip_address", "owner_id"}).read(body, "us-east-1")
    assert set(record) == ALWAYS | {"private_ip_address", "owner_id"}


def test_an_answer_of_another_api_version_is_read_too():
    _status, body = page(instance(0))
    older = body.replace(NAMESPACE.encode(), b"http://ec2.amazonaws.com/doc/2013-10-15/")
    assert EVERYTHING.read(older, "us-east-1") == EVERYTHING.read(body, "us-east-1")


def test_elements_that_this_botocore_does_not_know_are_passed_over():
    _status, body = page({**instance(0), "inventedIn2031": {"a": [1, 2]}})
    assert EVERYTHING.read(body, "us-east-1") == EVERYTHING.read(page(instance(0))[1], "us-east-1")


def test_the_next_page_has_a_token():
    assert EVERYTHING.read(page(instance(0), token="further")[1], "us-east-1")[1] == "further"


def test_a_time_that_is_none_stays_the_text_that_it_was():
    _status, body = page({**instance(0), "launchTime": "soon"})
    (record,), _token = EVERYTHING.read(body, "us-east-1")
    assert record["launch_time"] == "soon"


@pytest.mark.parametrize("body", [b"", b"<html><p>Log in to the hotel's network", b"{}"])
def test_what_is_no_xml_is_an_error(body):
    with pytest.raises(ParseError):
        EVERYTHING.read(body, "us-east-1")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("tag:k8s.io/cluster.name", ("tags", "k8s.io/cluster.name")),
        ("instance_type", ("instance_type",)),
        ("private-ip-address", ("private_ip_address",)),
        ("dns-name", ("public_dns_name",)),
        ("availability-zone", ("placement", "availability_zone")),
        ("availability_zone", ("placement", "availability_zone")),
        ("iam-instance-profile.arn", ("iam_instance_profile", "arn")),
        ("network_interfaces.groups.group_id", ("network_interfaces", "groups", "group_id")),
        ("autoscaling_group", ("tags", "aws:autoscaling:groupName")),
    ],
)
def test_an_attribute_may_be_called_by_variable_filter_name_or_tag(name, path):
    assert path_of(name) == path


@pytest.mark.parametrize("name", sorted(FILTER_NAMES))
def test_a_filter_name_stands_for_something_that_instances_have(name):
    assert path_of(name)[0] in EVERYTHING.attributes


RECORD = {"state": {"name": "running"}, "tags": {"a": ""}, "security_groups": [{"group_id": "sg-1"}, {"group_id": "sg-2"}, {}], "key_name": "lab"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("state", "name"), "running"),
        (("tags", "a"), ""),
        (("tags", "b"), None),
        (("nothing", "at", "all"), None),
        (("key_name", "deeper"), None),
        (("security_groups", "group_id"), ["sg-1", "sg-2"]),
        (("security_groups", "group_id", "deeper"), []),
    ],
)
def test_a_value_is_found_through_mappings_and_lists(path, value):
    assert value_at(RECORD, path) == value


def test_names_are_spelt_as_the_peer_spells_them():
    assert [snake_case(name) for name in ("InstanceId", "Ipv6Addresses", "EbsOptimized")] == ["instance_id", "ipv6_addresses", "ebs_optimized"]
