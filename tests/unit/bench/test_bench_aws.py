# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark says what was measured, and doesn't time answers that differ."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest

from tests.bench.aws.inventory import same_members
from tests.bench.aws.replay import Replay, server
from tests.bench.aws.table import Row, Samples, at_least, at_most, render, write_json


@pytest.mark.parametrize(("ours", "met"), [(1.0, True), (1.25, True), (1.26, False)])
def test_a_goal_is_met_or_said_to_be_missed(ours, met):
    row = at_least("cold", ours, 10.0, 8)
    assert (row.met, row.verdict, row.goal) == (met, "met" if met else "MISSED", ">= 8x")


@pytest.mark.parametrize(("ours", "met"), [(35.0, True), (36.0, False)])
def test_a_limit_is_kept_or_said_to_be_missed(ours, met):
    assert at_most("memory", ours, 100.0, 0.35).met is met


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
        "| figure       | ours   | peer    | ratio | goal    |        |",
        "|--------------|--------|---------|-------|---------|--------|",
        "| cold         | 1.00 s | 10.00 s | 10.0x | >= 8x   | met    |",
        "| memory, peak | 40 MB  | 100 MB  | 0.40  | <= 0.35 | MISSED |",
        "| start        | 1 s    |         |       |         |        |",
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
