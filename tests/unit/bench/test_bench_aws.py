# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark says what was measured, and doesn't time answers that differ."""

from __future__ import annotations

import base64
import copy
import json
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest

from tests.bench.aws.inventory import same_members
from tests.bench.aws.pools import OURS, STEPS, Made, comparable, difference, peer_tasks, rows_of
from tests.bench.aws.pools import PEER as MODULES
from tests.bench.aws.replay import Replay, server
from tests.bench.aws.table import Row, Samples, at_least, at_most, render, write_json


@pytest.mark.parametrize(("ours", "met"), [(1.0, True), (1.25, True), (1.6, False)])
def test_a_goal_is_met_or_said_by_how_much_it_is_missed(ours, met):
    row = at_least("cold", ours, 10.0, 8)
    assert (row.met, row.verdict, row.goal) == (met, "met" if met else "missed by 22 %", ">= 8x")


@pytest.mark.parametrize(("ours", "verdict"), [(35.0, "met"), (42.0, "missed by 20 %"), (35.1, "missed by 1 %")])
def test_a_limit_is_kept_or_said_by_how_much_it_is_missed(ours, verdict):
    assert at_most("memory", ours, 100.0, 0.35).verdict == verdict


def test_a_figure_without_a_goal_has_no_verdict():
    assert at_least("wall", 1.0, 2.0, None).verdict == at_most("memory", 1.0, 2.0, None).verdict == ""


def test_figures_are_medians():
    samples = Samples()
    for cpu in (9.0, 1.0, 2.0):
        samples.add(cpu=cpu)
    assert samples.median("cpu") == 2.0


def test_the_table_is_markdown_and_its_columns_stand_below_each_other():
    text = render("Title", [at_least("cold", 1.0, 10.0, 8), at_most("memory, peak", 40.0, 100.0, 0.35), Row("start", "1 s")])
    assert text.splitlines() == [
        "### Title",
        "",
        "| figure       | ours   | peer    | ratio | goal    |                |",
        "|--------------|--------|---------|-------|---------|----------------|",
        "| cold         | 1.00 s | 10.00 s | 10.0x | >= 8x   | met            |",
        "| memory, peak | 40 MB  | 100 MB  | 0.40  | <= 0.35 | missed by 14 % |",
        "| start        | 1 s    |         |       |         |                |",
    ]


def test_every_sample_is_kept(tmp_path):
    samples = Samples()
    samples.add(cpu=1.0, wall=2.0)
    write_json(tmp_path / "bench.json", {"rounds": 1}, {"Inventory": [at_least("cold", 1.0, 10.0, 8)]}, {"cold": samples})
    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["rounds"] == 1
    assert content["rows"]["Inventory"][0]["verdict"] == "met"
    assert content["samples"] == {"cold": {"cpu": [1.0], "wall": [2.0]}}


PEER = {"_meta": {}, "all": {}, "aws_ec2": {"hosts": ["a", "b"]}, "role_x": {"hosts": ["a"]}}


@pytest.mark.parametrize(
    ("ours", "difference"),
    [
        ({"aws": {"hosts": ["b", "a"]}, "role_x": {"hosts": ["a"]}, "more": {"hosts": ["a"]}}, ""),
        ({"aws": {"hosts": ["a", "b"]}, "role_x": {"hosts": ["b"]}}, "group role_x: 1 hosts in the peer, 1 in ours, 2 differ"),
        ({"aws": {"hosts": ["a", "b"]}}, "group role_x: 1 hosts in the peer, 0 in ours, 1 differ"),
    ],
)
def test_answers_are_compared_before_anything_is_timed(ours, difference):
    assert same_members(PEER, ours) == difference


# --- pools

MADE = Made(
    group={
        "AutoScalingGroupName": "bench-f2",
        "MinSize": 0,
        "MaxSize": 2,
        "AvailabilityZones": ["us-east-1a"],
        "SuspendedProcesses": [{"ProcessName": "AZRebalance"}],
        "Tags": [{"Key": "a", "Value": "1", "PropagateAtLaunch": False}, {"Key": "b", "Value": "2", "PropagateAtLaunch": True}],
    },
    template={
        "ImageId": "ami-1",
        "InstanceType": "f2.6xlarge",
        "UserData": base64.b64encode(b"#cloud-config").decode(),
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 80, "DeleteOnTermination": True}}],
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "x"}]}],
    },
)


def test_the_peer_is_told_to_make_the_very_same():
    templates, groups = peer_tasks([MADE], {"bench-f2": 5})
    (template,), (group,) = templates["loop"], groups["loop"]
    assert template["metadata_options"] == {"http_tokens": "required", "http_put_response_hop_limit": 1}
    assert template["block_device_mappings"] == [{"device_name": "/dev/xvda", "ebs": {"volume_size": 80, "delete_on_termination": True}}]
    assert template["tag_specifications"] == [{"resource_type": "instance", "tags": {"team": "x"}}]
    assert group["tags"] == [{"a": "1", "propagate_at_launch": False}, {"b": "2", "propagate_at_launch": True}]
    assert (group["max_size"], group["suspend_processes"]) == (5, ["AZRebalance"])
    assert groups["amazon.aws.autoscaling_group"]["max_size"] == "{{ item.max_size }}"


@pytest.mark.parametrize(
    ("part", "key", "value", "told"),
    [
        ("group", "Tags", [{"Key": "b", "Value": "2", "PropagateAtLaunch": True}, {"Key": "a", "Value": "1", "PropagateAtLaunch": False}], ""),
        ("template", "MetadataOptions", {**MADE.template["MetadataOptions"], "HttpProtocolIpv6": "disabled"}, ""),
        ("group", "MaxSize", 3, "group bench-f2, MaxSize: 2 by ours, 3 by the peer"),
        ("group", "SuspendedProcesses", [], "group bench-f2, suspended:"),
        ("template", "UserData", base64.b64encode(b"#!").decode(), "group bench-f2, UserData:"),
        ("group", "AutoScalingGroupName", "other", "group bench-f2, AvailabilityZones:"),
    ],
)
def test_pools_that_differ_are_not_timed(part, key, value, told):
    other = copy.deepcopy(MADE)
    getattr(other, part)[key] = value
    found = difference(comparable([MADE]), comparable([other]))
    assert found.startswith(told)
    assert bool(found) is bool(told)


@pytest.mark.parametrize(("calls", "writes", "missed"), [(8, 0, 0), (9, 0, 1), (8, 1, 2)])
def test_a_run_that_has_nothing_to_do_is_held_to_its_calls_and_writes(calls, writes, missed):
    samples = {}
    for step in STEPS:
        samples[f"{step} {OURS}"], samples[f"{step} {MODULES}"] = Samples(), Samples()
        samples[f"{step} {OURS}"].add(wall=2.0, cpu=1.0, calls=calls, writes=writes)
        samples[f"{step} {MODULES}"].add(wall=20.0, cpu=10.0, calls=60, writes=12)
    rows = rows_of(samples)
    assert sum(row.met is False for row in rows) == missed
    assert [(row.figure, row.verdict) for row in rows if row.goal == ">= 5x"] == [("6 pools, create, wall", "met"), ("6 pools, no-op, wall", "met")]


@pytest.fixture
def replay():
    listening = server(Replay(1100))
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def call(**parameters):
        data = urllib.parse.urlencode({"Action": "DescribeInstances", **parameters}).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{listening.server_address[1]}", data, timeout=10) as answer:
            return answer.read().decode()

    yield call
    listening.shutdown()
    listening.server_close()
    thread.join()


def test_the_replay_server_pages_as_ec2_does(replay):
    first = replay(MaxResults="1000")
    assert first.count("<instanceId>") == 1000
    assert "<nextToken>1000</nextToken>" in first
    assert replay(MaxResults="1000", NextToken="1000").count("<instanceId>") == 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"Action": "RunInstances"},
        {"InstanceId.1": "i-1"},
        {"Filter.1.Name": "tag:role", "Filter.1.Value.1": "fpga"},
        {"MaxResults": "2000"},
        {"NextToken": "made-up"},
    ],
)
def test_the_replay_server_refuses_what_it_would_answer_wrongly(replay, wrong):
    with pytest.raises(urllib.error.HTTPError, match="400"):
        replay(**wrong)
