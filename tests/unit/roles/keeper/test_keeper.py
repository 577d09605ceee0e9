# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper against the lab's AWS with its IAM enforced, the real fpga-hybrid-vpn, and a double of the API server."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from fpga_hybrid.aws import DeniedError, ThrottledError
from fpga_hybrid.bundle import RefusedError, decode
from fpga_hybrid_keeper import cloud as edge
from fpga_hybrid_keeper import cluster
from fpga_hybrid_keeper.keeper import CALM, EVERYWHERE, LONGEST_PAUSE
from tests.unit.roles.keeper.site import BOARD, GROUP_TAGS, ID, PREFIX, TAINT, Site

KEEPER_USER = "arn:aws:iam::123456789012:user/keeper"


def calls(site: Site) -> list[str]:
    return [call["action"] for call in site.cloud.calls() if call["identity"] == KEEPER_USER]


def lifetime(site: Site) -> tuple[str, str]:
    """An instance's whole story: enrolled, joined, its FPGA published, terminated, cleared away."""
    keeper = site.keeper()
    (name,) = site.scale(1)
    assert site.after(keeper)
    secret = site.parameters()[name]["Value"]
    site.joins(name, given={BOARD: "0"})
    assert site.after(keeper)
    site.joins(name, given={BOARD: "1"})
    assert site.after(keeper)
    site.scale(0)
    site.joins(name, ready=False) if name in site.api.nodes else None
    for _pass in range(6):
        assert site.after(keeper)
    return name, secret


# --- enrolment --------------------------------------------------------------------------------------------------------------------------


def test_each_instance_gets_a_bundle_that_it_and_nobody_else_can_read(site):
    one, two = site.scale(2)
    assert site.after(site.keeper())
    bundles = {name: site.reads(name) for name in (one, two)}
    for name, found in bundles.items():
        assert (found.node, found.endpoint, found.endpoint_address) == (name, "api.example.org:6443", "172.27.224.1")
        assert found.ca_cert_hashes == (site.api.authority.pin,)
        assert found.vpn_address == site.clients()[name]["address"]
        assert f"setenv-safe address {found.vpn_address}/20" in found.vpn_profile
        assert found.token in site.api.tokens()
    assert len({found.token for found in bundles.values()}) == 2
    with pytest.raises(DeniedError):
        site.reads(one, of=two)
    parameter = site.parameters()[one]
    assert parameter["Type"] == "SecureString"
    assert {name: entry["phase"] for name, entry in site.record().items()} == {one: "enrolled", two: "enrolled"}


def test_a_token_is_a_bootstrap_token_for_one_node_and_half_an_hour(site):
    (name,) = site.scale(1)
    site.after(site.keeper())
    ((secret, found),) = site.api.secrets.items()
    data = found["data"]
    assert (secret, found["type"]) == (f"bootstrap-token-{data['token-id']}", "bootstrap.kubernetes.io/token")
    assert name in data["description"]
    assert (data["usage-bootstrap-authentication"], data["usage-bootstrap-signing"]) == ("true", "true")
    assert data["auth-extra-groups"] == "system:bootstrappers:kubeadm:default-node-token"
    ends = time.mktime(time.strptime(data["expiration"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert 1700 < ends - time.time() <= 1800


def test_ten_instances_at_once_are_all_enrolled_in_one_pass(site):
    names = site.scale(10)
    assert site.after(site.keeper())
    assert set(site.parameters()) == set(names)
    assert len({entry["vpn_address"] for entry in site.record().values()}) == 10


def test_an_instance_is_enrolled_once_and_a_second_pass_changes_nothing(site):
    site.scale(1)
    keeper = site.keeper()
    site.after(keeper)
    before = (site.parameters(), site.record(), site.api.tokens())
    site.cloud.forget_calls()
    for _pass in range(3):
        assert site.after(keeper)
    assert (site.parameters(), site.record(), site.api.tokens()) == before
    assert site.cloud.calls(writes=True) == []


def test_a_second_enrolment_is_refused_and_the_instance_is_told_why(site):
    """As after the loss of the record: a certificate was issued, the bundle is read, and the node is not there."""
    (name,) = site.scale(1)
    site.after(site.keeper())
    site.cloud.client("ssm").delete_parameter(Name=f"{PREFIX}/nodes/{name}")
    (site.state / "record.json").unlink()
    serial = site.clients()[name]["serial"]
    assert site.after(site.keeper())
    with pytest.raises(RefusedError, match="an instance is enrolled once: the VPN's authority has issued a certificate for it before") as caught:
        site.reads(name)
    assert f"End {name}" in str(caught.value)
    assert site.record()[name]["phase"] == "refused"
    assert site.clients()[name]["serial"] == serial
    assert site.api.secrets == {}


@pytest.mark.parametrize("quoted", ["token", "text"])
def test_what_aws_quotes_of_a_bundle_is_neither_logged_nor_shown(site, capsys, monkeypatch, quoted):
    """As its parameter validation does, which repeats the value that it refuses."""
    (name,) = site.scale(1)
    keeper = site.keeper()
    secrets = []

    def refuse(_name, _arn, value):
        secrets.append(value.text if quoted == "text" else decode(value.text).token)
        raise ThrottledError("ssm:PutParameter", "ValidationException", f"1 validation error detected: Value '{secrets[0]}' at 'value' failed")

    monkeypatch.setattr(keeper.edges.aws, "put", refuse)
    assert not site.after(keeper)
    shown = [capsys.readouterr().err, (site.state / "status.json").read_text()]
    for text in shown:
        assert "ssm:PutParameter: ValidationException: 1 validation error detected: Value '********' at" in text
        assert secrets[0] not in text
    assert site.record()[name]["phase"] == "enrolling"


def test_a_parameter_that_keeper_did_not_write_is_not_written_over(site):
    (name,) = site.scale(1)
    site.cloud.client("ssm").put_parameter(Name=f"{PREFIX}/nodes/{name}", Value="planted", Type="String")
    site.after(site.keeper())
    assert site.parameters()[name]["Value"] == "planted"
    assert site.record()[name]["phase"] == "refused"
    assert f"parameter {PREFIX}/nodes/{name} is there already" in site.status()["instances"][name]["reason"]
    assert site.api.secrets == {}


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({name: value for name, value in GROUP_TAGS.items() if value != "owned"}, "lacks the tag k8s.io/cluster-autoscaler/lab=owned"),
        ({**GROUP_TAGS, "fpga.hybrid/cluster-id": "another"}, None),
    ],
)
def test_an_instance_of_a_foreign_group_gets_no_bundle(site, tags, reason):
    site.make_group("foreign", tags)
    (name,) = site.scale(1, "foreign")
    keeper = site.keeper()
    for _pass in range(6):
        assert site.after(keeper)
    if reason is None:  # not even of ours by its tags: nothing is said to it
        assert (site.parameters(), keeper.record.entries) == ({}, {})
        return
    with pytest.raises(RefusedError, match=reason):
        site.reads(name)
    assert site.clients() == {}


def test_an_instance_that_carries_our_id_and_is_in_no_group_is_told_why_it_gets_no_bundle(site):
    name = site.start_by_hand({"fpga.hybrid/cluster-id": ID})
    keeper = site.keeper()
    site.after(keeper)
    assert site.parameters() == {}
    site.after(keeper, EVERYWHERE)
    with pytest.raises(RefusedError, match=f"{name} was started by no group; expected a group with the tags fpga.hybrid/cluster-id={ID}"):
        site.reads(name)


def test_of_a_refused_instance_nothing_is_left_either(site):
    name = site.start_by_hand({"fpga.hybrid/cluster-id": ID})
    keeper = site.keeper()
    site.after(keeper)
    site.after(keeper, EVERYWHERE)
    assert name in site.parameters()
    site.cloud.client("ec2").terminate_instances(InstanceIds=[name])
    for _pass in range(6):
        assert site.after(keeper)
    assert site.parameters() == {}
    assert site.record()[name]["phase"] == "gone"


# --- the story to its end ---------------------------------------------------------------------------------------------------------------


def test_when_it_has_joined_bundle_and_token_are_gone_and_the_inventory_knows_its_address(site):
    (name,) = site.scale(1)
    keeper = site.keeper()
    site.after(keeper)
    site.joins(name, given={BOARD: "0"})
    assert site.after(keeper)
    assert (site.parameters(), site.api.secrets) == ({}, {})
    tags = {tag["Key"]: tag["Value"] for tag in site.instance(name)["Tags"]}
    assert tags["fpga.hybrid/vpn-address"] == site.clients()[name]["address"] == site.record()[name]["vpn_address"]
    assert site.api.taints(name) == [TAINT["key"]]
    assert f"{BOARD} is 0, promised 1" in site.status()["instances"][name]["note"]


def test_the_startup_taint_goes_with_the_first_look_at_a_complete_node_and_other_taints_stay(site):
    (name,) = site.scale(1)
    keeper = site.keeper()
    site.after(keeper)
    site.joins(name, given={BOARD: "0"})
    site.api.nodes[name]["spec"]["taints"].append({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-11-25T10:00:00Z"})
    site.after(keeper)
    site.joins(name, given={BOARD: "1"})
    assert site.after(keeper, 2.0), "not even AWS is waited for"
    assert site.api.nodes[name]["spec"]["taints"] == [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-11-25T10:00:00Z"}]
    site.joins(name, given={BOARD: "0"})
    site.after(keeper)
    assert TAINT["key"] not in site.api.taints(name)


def test_a_node_without_the_startup_taint_gets_it(site):
    (name,) = site.scale(1)
    keeper = site.keeper()
    site.after(keeper)
    site.joins(name, given={BOARD: "0"})
    del site.api.nodes[name]["spec"]["taints"]
    assert site.after(keeper)
    assert site.api.nodes[name]["spec"]["taints"] == [TAINT]


def test_of_an_instance_that_has_gone_nothing_is_left(site):
    site.api.put_node("worker1", "fpga-hybrid:///lab/worker1", ready=False)
    on_prem = dict(site.api.nodes["worker1"])
    name, _secret = lifetime(site)
    assert site.api.nodes == {"worker1": on_prem}
    assert site.parameters() == {}
    assert site.api.secrets == {}
    assert site.clients()[name]["revoked"]
    assert site.record()[name]["phase"] == "gone"


def test_one_that_never_joined_leaves_neither_certificate_nor_parameter(site):
    (name,) = site.scale(1)
    keeper = site.keeper()
    site.after(keeper)
    site.scale(0)
    for _pass in range(6):
        assert site.after(keeper)
    assert (site.parameters(), site.api.secrets) == ({}, {})
    assert site.clients()[name]["revoked"]


def test_of_one_that_came_and_went_while_keeper_was_away_what_it_said_of_its_failure_goes(site):
    (name,) = site.scale(1)
    site.fails(name)
    site.scale(0)
    (other,) = site.scale(1)
    site.fails(other)
    keeper = site.keeper()
    for _pass in range(7):
        assert site.after(keeper)
    assert (site.failures(), site.record()[name]["phase"]) == ({other}, "gone"), "who lives keeps it"
    site.cloud.forget_calls()
    for _pass in range(20):
        assert site.after(keeper, EVERYWHERE)
    assert "GetParametersByPath" not in calls(site), "once an hour"


NEVER_MET = "i-0fffffffffffffff1"


def is_left(site: Site, name: str) -> None:
    site.cloud.client("ssm").put_parameter(Name=f"{PREFIX}/failures/{name}", Value="{}", Type="String")


def test_what_somebody_wrote_in_the_name_of_an_instance_that_lives_and_is_not_ours_stays_and_it_comes_on_no_record(site):
    ec2 = site.cloud.client("ec2")
    (foreign,) = ec2.run_instances(ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1)["Instances"]
    is_left(site, foreign["InstanceId"])
    keeper = site.keeper()
    for _pass in range(7):
        assert site.after(keeper)
    assert (site.failures(), site.record()) == ({foreign["InstanceId"]}, {})


def test_what_else_was_written_there_hides_nobody(site, monkeypatch):
    monkeypatch.setattr(edge, "LEFT_AT_ONCE", 2)
    for name in ("a", "b", "c", NEVER_MET):
        is_left(site, name)
    assert site.keeper().edges.aws.left() == {NEVER_MET}


def test_in_another_account_nobody_looks_for_what_was_left_and_in_the_right_one_it_is_not_waited_for(site, monkeypatch):
    site.scale(1)
    site.after(site.keeper())
    is_left(site, NEVER_MET)
    keeper = site.keeper()
    with monkeypatch.context() as patch:
        patch.setattr(keeper.edges.aws, "_whose", lambda: "999999999999")
        assert not site.after(keeper)
    for _pass in range(7):
        assert site.after(keeper)
    assert site.record()[NEVER_MET]["phase"] == "gone"
    assert site.failures() == set()


def test_without_the_right_to_look_for_what_was_left_the_trouble_says_who_gives_it(site):
    site.cloud.fault("deny", action="GetParametersByPath")
    assert not site.after(site.keeper())
    assert "ssm:GetParametersByPath" in site.status()["troubles"]["failures"]
    assert site.status()["troubles"]["failures"].endswith("Run iam.yml again: keeper's policy is older than this right.")


def test_a_list_of_failure_parameters_that_cannot_be_had_stops_nothing_else(site):
    site.cloud.fault("deny", action="GetParametersByPath")
    (name,) = site.scale(1)
    keeper = site.keeper()
    assert not site.after(keeper)
    assert "GetParametersByPath" in site.status()["troubles"]["failures"]
    site.cloud.lift()
    assert name in site.parameters()


def test_an_instance_that_fell_silent_and_lives_keeps_everything(site):
    (name,) = site.scale(1)
    keeper = site.keeper()
    site.after(keeper)
    site.joins(name, given={BOARD: "1"})
    site.after(keeper)
    site.joins(name, ready=False)
    for _pass in range(6):
        site.after(keeper, 30.0)
    assert name in site.api.nodes
    assert not site.clients()[name]["revoked"]


def mishaps(site: Site) -> None:
    """What stops launches, each once, and a failed instance that is kept for a look until its time has come."""
    none = {"instances": None, "instance_hours_per_day": None}

    def passes(count: int) -> None:
        for _pass in range(count):
            assert site.after(keeper)

    for limits, kind in (({**none, "instances": 1}, "instances"), ({**none, "instance_hours_per_day": 0.5}, "instance_hours")):
        site.write_config(limits=limits)
        keeper = site.keeper()
        (name,) = site.scale(1)
        passes(1)
        site.joins(name, given={BOARD: "1"})
        site.now += 3600
        passes(2)
        assert site.status()["pools"]["f2"]["paused"]["kind"] == kind
        site.scale(0)
        site.joins(name, ready=False)
        passes(6)
        site.now += 86400
        passes(6)
        assert not site.suspended()

    site.write_config(keep_failed={"f2": 1})
    keeper = site.keeper()
    for _turn in range(3):
        (name,) = site.scale(1)
        passes(1)
        site.fails(name)
        passes(2)
        site.scale(0)
        passes(6)
    assert site.suspended()
    (kept,) = site.status()["pools"]["f2"]["kept"]
    site.now += 7200
    passes(6)
    assert site.record()[kept["instance"]]["phase"] == "gone"


def test_the_policy_of_iam_yml_is_enough_and_nothing_in_it_is_for_nothing(site):
    lifetime(site)
    mishaps(site)
    mine = [call for call in site.cloud.calls() if call["identity"] == KEEPER_USER]
    assert [call for call in mine if call["status"] in (401, 403)] == []
    used = {action for call in mine for action in call["authorised"]}
    assert used == {action for one in site.policy["Statement"] for action in one["Action"]}


# --- when something does not answer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"kind": "throttle"}, "Throttling: Rate exceeded"),
        ({"kind": "deny"}, "AccessDenied"),
        ({"kind": "down"}, "no answer from 127.0.0.1"),
        ({"kind": "deny", "service": "ec2"}, "UnauthorizedOperation"),
    ],
    ids=["throttled", "denied", "down", "one service denied"],
)
def test_while_aws_does_not_answer_nothing_is_cleared_away_and_it_is_said_once(site, capsys, monkeypatch, fault, said):
    keeper = site.keeper()
    monkeypatch.setattr(keeper.edges.aws._aws, "_sleep", lambda seconds: None)
    name = site.gone_silently(keeper)
    site.cloud.fault(**fault)
    site.cloud.forget_calls()
    capsys.readouterr()
    for _pass in range(30):
        assert not site.after(keeper, 10.0)
    log = capsys.readouterr().err
    assert log.count(said) == 1, log
    assert "It is tried again, at least every 60 s." in log
    assert name in site.api.nodes
    assert not site.clients()[name]["revoked"]
    assert said in site.status()["troubles"]["aws"]
    looks = [call for call in site.cloud.calls() if call["action"] == "DescribeAutoScalingGroups"]
    assert len(looks) <= 5 * (300 / LONGEST_PAUSE + 6), "it is asked seldom"
    site.cloud.lift()
    for _pass in range(12):
        site.after(keeper, 10.0)
    assert "AWS: works again, after" in capsys.readouterr().err
    assert name not in site.api.nodes
    assert site.status()["healthy"]


def test_a_denial_that_ec2_words_anew_each_time_is_said_once(site, capsys):
    keeper = site.keeper()
    (name,) = site.scale(1)
    site.after(keeper)
    site.joins(name, given={BOARD: "1"})
    for number in range(4):
        site.cloud.fault("error", action="CreateTags", code="UnauthorizedOperation", message=f"You are not authorized. Encoded: {number}", status=403)
        assert not site.after(keeper, LONGEST_PAUSE)
        site.cloud.lift()
    assert capsys.readouterr().err.count("You are not authorized") == 1
    assert "Encoded: 3" in site.status()["troubles"][f"{name}: tag with its VPN address"]
    assert site.after(keeper, LONGEST_PAUSE)


def test_other_credentials_of_another_account_are_not_believed(site, monkeypatch):
    keeper = site.keeper()
    name = site.gone_silently(keeper)
    monkeypatch.setattr(keeper.edges.aws, "_whose", lambda: "999999999999")
    for _pass in range(6):
        assert not site.after(keeper)
    assert name in site.api.nodes
    assert "found account 999999999999" in site.status()["troubles"]["account"]


def test_an_account_that_was_not_declared_is_refused(site):
    site.write_config(account="111111111111")
    site.scale(1)
    assert not site.after(site.keeper())
    assert "the credentials are of account 123456789012, expected 111111111111" in site.status()["troubles"]["aws"]
    assert site.parameters() == {}


def test_credentials_that_are_not_there_yet_are_waited_for(site):
    text = (site.folder / "credentials").read_text()
    (site.folder / "credentials").unlink()
    (name,) = site.scale(1)
    keeper = site.keeper()
    assert not site.after(keeper)
    assert f"{site.folder}/credentials cannot be read: No such file or directory" in site.status()["troubles"]["aws"]
    (site.folder / "credentials").write_text(text)
    assert site.after(keeper, LONGEST_PAUSE)
    assert name in site.parameters()


def test_while_the_api_server_is_away_nobody_is_enrolled_or_cleared_away(site, capsys):
    keeper = site.keeper()
    name = site.gone_silently(keeper)
    (newcomer,) = site.scale(1)
    site.api.down = True
    capsys.readouterr()
    for _pass in range(8):
        assert not site.after(keeper, 10.0)
    assert capsys.readouterr().err.count("https://127.0.0.1") == 1
    assert newcomer not in site.clients()
    assert not site.clients()[name]["revoked"]
    site.api.down = False
    for _pass in range(8):
        site.after(keeper, 30.0)
    assert newcomer in site.parameters()
    assert site.clients()[name]["revoked"]


def test_a_certificate_of_the_administrator_that_was_renewed_is_taken_up(site):
    keeper = site.keeper()
    (name,) = site.scale(1)
    site.api.refuses = True
    assert not site.after(keeper)
    site.api.refuses = False
    (site.folder / "admin.conf").write_text(site.api.kubeconfig())
    assert site.after(keeper)
    assert name in site.parameters()


def test_another_ca_of_the_cluster_is_taken_up(site):
    """The API server shows a certificate that the CA of before has not signed; the new kubeconfig knows the one that has."""
    keeper = site.keeper()
    (name,) = site.scale(1)
    assert site.after(keeper)
    site.api.replace_authority("kubernetes-2")
    assert not site.after(keeper)
    assert "its certificate does not hold" in site.status()["troubles"]["kubernetes"]
    (site.folder / "admin.conf").write_text(site.api.kubeconfig())
    site.joins(name)
    assert site.after(keeper)
    assert site.record()[name]["phase"] == "joined"


@pytest.mark.parametrize("action", ["PutParameter", "DeleteParameter"])
def test_an_enrolment_that_fails_half_way_is_ended_later_with_the_same_certificate(site, action):
    """DeleteParameter is what an enrolment that goes on does first."""
    keeper = site.keeper()
    (name,) = site.scale(1)
    site.cloud.fault("deny", action="PutParameter", times=1)
    assert not site.after(keeper)
    assert site.record()[name]["phase"] == "enrolling"
    first, tokens = site.clients()[name]["serial"], site.api.tokens()
    if action == "DeleteParameter":
        site.cloud.fault("deny", action=action, times=1)
        assert not site.after(site.keeper())
    assert site.after(site.keeper(), 30.0), "a new process goes on"
    assert site.reads(name).token in tokens
    assert site.clients()[name]["serial"] == first


def test_an_authority_that_does_not_work_is_told_with_its_own_sentence_and_tried_again(site, capsys):
    (name,) = site.scale(1)
    settings = (site.vpn / "authority.json").read_text()
    (site.vpn / "authority.json").write_text("{")
    keeper = site.keeper()
    for _pass in range(5):
        assert not site.after(keeper, 30.0)
    log = capsys.readouterr().err
    assert log.count("enrolment: ") == 1, log
    assert "authority.json" in log
    (site.vpn / "authority.json").write_text(settings)
    assert site.after(keeper, LONGEST_PAUSE)
    assert name in site.parameters()


def test_an_authority_that_is_not_there_is_said(site):
    site.write_config(vpn=[str(site.folder / "nowhere")])
    (name,) = site.scale(1)
    keeper = site.keeper()
    assert not site.after(keeper)
    assert f"{site.folder}/nowhere: not found" in site.status()["troubles"][f"{name}: enrolment"]


def test_a_token_of_somebody_else_under_our_name_is_left_alone(site):
    (name,) = site.scale(1)
    secret = cluster.secret_name(name)
    theirs = {"description": "theirs", "token-id": "x", "token-secret": "y", "expiration": "2099-01-01T00:00:00Z"}
    site.api.secrets[secret] = {"metadata": {"name": secret, "resourceVersion": "1"}, "data": theirs}
    assert not site.after(site.keeper())
    assert site.api.secrets[secret]["data"] == theirs


def test_a_node_that_changed_since_it_was_looked_at_is_not_deleted(site, monkeypatch):
    keeper = site.keeper()
    name = site.gone_silently(keeper)
    before = keeper.edges.kubernetes.nodes

    def then_it_reports() -> dict:
        found = before()
        site.joins(name, ready=True)
        return found

    monkeypatch.setattr(keeper.edges.kubernetes, "nodes", then_it_reports)
    for _pass in range(6):
        site.joins(name, ready=False)
        site.after(keeper)
    assert name in site.api.nodes


def test_where_the_record_cannot_be_written_nothing_is_done(site):
    site.scale(1)
    keeper = site.keeper()
    site.state.parent.joinpath("state").write_text("a file where the folder should be")
    assert not site.after(keeper)
    assert site.parameters() == {}
    assert site.clients() == {}


# --- what it costs ----------------------------------------------------------------------------------------------------------------------


def test_without_instances_a_pass_is_one_call_and_the_cluster_is_left_in_peace(site):
    keeper = site.keeper()
    site.after(keeper)
    site.cloud.forget_calls()
    for _pass in range(9):
        site.after(keeper)
    assert calls(site) == ["DescribeAutoScalingGroups"] * 9
    assert site.api.asked == []


def test_with_instances_that_are_well_it_is_one_call_and_one_list_of_nodes(site):
    (name,) = site.scale(1)
    keeper = site.keeper()
    site.after(keeper)
    site.joins(name, given={BOARD: "1"})
    site.after(keeper)
    site.cloud.forget_calls()
    site.api.asked.clear()
    for _pass in range(4):
        site.after(keeper)
    assert calls(site) == ["DescribeAutoScalingGroups"] * 4
    assert site.api.asked == ["GET /api/v1/nodes"] * 4


def test_at_rest_there_are_no_more_than_two_calls_in_ten_seconds(site):
    (name,) = site.scale(1)
    keeper = site.keeper()
    site.after(keeper)
    site.joins(name, given={BOARD: "1"})
    site.after(keeper)
    site.after(keeper, EVERYWHERE)
    site.cloud.forget_calls()
    began = site.now
    for _pass in range(60):
        site.after(keeper, keeper.pause)
    assert 60 <= len(calls(site)) <= 2 * (site.now - began) / 10


def test_an_instance_whose_node_falls_silent_is_asked_about_whatever_its_group_says(site):
    (name,) = site.scale(1)
    keeper = site.keeper()
    site.after(keeper)
    site.joins(name, given={BOARD: "1"})
    site.after(keeper)
    site.after(keeper)
    autoscaling = site.cloud.client("autoscaling")
    autoscaling.suspend_processes(AutoScalingGroupName="lab-f2", ScalingProcesses=["HealthCheck"])
    site.cloud.client("ec2").terminate_instances(InstanceIds=[name])
    site.joins(name, ready=False)
    for _pass in range(6):
        site.after(keeper)
    assert name not in site.api.nodes


def test_it_looks_more_often_while_somebody_waits_for_it(site):
    keeper = site.keeper()
    site.after(keeper)
    assert keeper.pause == 5 * CALM
    (name,) = site.scale(1)
    site.after(keeper)
    assert keeper.pause == 2.0
    site.joins(name, given={BOARD: "1"})
    site.after(keeper)
    assert keeper.pause == 5 * CALM


# --- secrets ----------------------------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_log_status_or_record(site, capsys):
    (name,) = site.scale(1)
    site.after(site.keeper())
    found = site.reads(name)
    lifetime_log = capsys.readouterr()
    written = "".join(path.read_text() for path in site.state.iterdir()) + lifetime_log.err + lifetime_log.out
    keys = (site.folder / "credentials").read_text().split()
    assert name in written
    for secret in (*found.secrets, keys[-1]):
        assert secret not in written
    assert (site.state / "record.json").stat().st_mode & 0o777 == 0o600


# --- the program ------------------------------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_what_it_would_do_and_changes_nothing(site):
    (name,) = site.scale(1)
    site.cloud.forget_calls()
    done = site.called("--dry-run", "--once")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["actions"] == [{"action": "enrolment", "instance": name, "details": "pool f2, VPN address the next free one"}]
    assert site.cloud.calls(writes=True) == []
    assert site.clients() == {}
    assert not site.state.exists()


def test_once_is_one_pass(site):
    (name,) = site.scale(1)
    done = site.called("--once")
    assert done.returncode == 0, done.stderr
    assert f"{name}: enrolment, done: pool f2, VPN address 172.27.232.1\n" in done.stderr
    assert name in site.parameters()
    site.cloud.fault("deny", service="autoscaling")
    assert site.called("--once").returncode == 1


def test_a_daemon_serves_until_it_is_ended_and_is_the_only_one(site):
    path = site.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(30)
        daemon = subprocess.Popen(site.command(), env={**site.environment(), "NOTIFY_SOCKET": str(path)}, stderr=subprocess.PIPE, text=True)
        try:
            assert systemd.recv(100) == b"READY=1"
            assert systemd.recv(100) == b"WATCHDOG=1"
            second = site.called("--once")
            assert (second.returncode, "another fpga-hybrid-keeper is at work on this host" in second.stderr) == (75, True)
            assert site.called("--dry-run").returncode == 0
        finally:
            daemon.send_signal(signal.SIGTERM)
            _out, log = daemon.communicate(timeout=30)
    assert daemon.returncode == 0, log
    assert "keeps cluster lab" in log


def test_a_daemon_ends_when_what_it_was_made_from_is_newer_on_the_disk(site):
    site.write_config(interval=1)
    daemon = subprocess.Popen(site.command(), env=site.environment(), stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 30
        while not (site.state / "status.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.utime(site.config)
        _out, log = daemon.communicate(timeout=30)
    finally:
        daemon.kill()
    assert daemon.returncode == 0, log


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"region": ""}, "region: found ''"),
        ({"interval": 0}, "interval: found 0, expected 1 second or more"),
        ({"limits": {"instances": 0, "instance_hours_per_day": 24}}, "limits.instances: found 0, expected more, or null for no ceiling"),
        ({"limits": {"instances": 4, "instance_hours_per_day": 0}}, "limits.instance_hours_per_day: found 0, expected more, or null for no ceiling"),
        ({"limits": {"instances": 0.5, "instance_hours_per_day": None}}, "limits.instances: found 0.5, expected integer or null"),
        ({"surplus": 1}, "surplus: no such key"),
        ({"vpn": "a"}, "vpn: found 'a', expected array"),
    ],
)
def test_a_wrong_configuration_is_told_with_the_place(site, change, sentence):
    site.write_config(**change)
    done = site.called("--once")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Role keeper writes it: run site.yml." in done.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "cannot be read"),
        ('{"schema": 1', "cannot be read"),
        ('{"schema": 2, "cluster_id": "x", "account": "", "region": "", "instances": {}}', "was written by another version of the collection"),
        ('{"schema": 1, "cluster_id": "other", "account": "", "region": "", "instances": {}}', "is of cluster other, this is"),
        ('{"schema": 1, "cluster_id": "x", "account": "", "region": "", "instances": {"i": {"phase": "joined"}}}', "cannot be read"),
    ],
    ids=["empty", "cut short", "other version", "other cluster", "incomplete entry"],
)
def test_a_record_that_cannot_be_used_is_never_taken_for_an_empty_one(site, text, sentence):
    site.scale(1)
    site.state.mkdir()
    (site.state / "record.json").write_text(text)
    done = site.called("--once")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert (site.state / "record.json").read_text() == text
    assert site.clients() == {}


@pytest.mark.skipif(shutil.which("kubectl", path="/usr/local/bin:/usr/bin:/bin") is None, reason="no kubectl on this machine")
def test_the_real_kubectl_reads_a_kubeconfig_as_the_double_does(site, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    assert cluster.Kubernetes(str(site.folder / "admin.conf")).nodes() == {}


def test_a_kubeconfig_that_leads_nowhere_says_what_is_wrong_and_not_what_is_in_it(site):
    (site.folder / "admin.conf").write_text(json.dumps({"users": [{"user": {"client-key-data": "c2VjcmV0"}}]}))
    with pytest.raises(cluster.KubeError, match="gives no way into the cluster") as caught:
        cluster.connect(str(site.folder / "admin.conf"))
    assert "c2VjcmV0" not in str(caught.value)


def test_ids_of_tokens_are_what_kubernetes_takes_and_differ():
    ids = {cluster.token_id(f"i-{number:017x}") for number in range(2000)}
    assert all(re.fullmatch("[a-z0-9]{6}", one) for one in ids)
    assert len(ids) == 2000
