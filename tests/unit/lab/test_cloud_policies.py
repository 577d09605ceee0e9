# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the lab's AWS judges IAM policies, and reads calls off the wire."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.cloud.policies import Effect, PolicyError, evaluate
from lab.cloud.request import parse

GROUP = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:0b1c:autoScalingGroupName/lab-f2"


def policy(**statement: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", **statement}]}


def effect(document: dict[str, Any], action: str = "autoscaling:DeleteAutoScalingGroup", resource: str = GROUP, **context: Any) -> Effect:
    return evaluate([document], None, action, resource, {key.replace("__", ":"): value for key, value in context.items()}).effect


@pytest.mark.parametrize(
    ("pattern", "action", "matches"),
    [
        ("autoscaling:*", "autoscaling:DeleteAutoScalingGroup", True),
        ("AutoScaling:deleteautoscalinggroup", "autoscaling:DeleteAutoScalingGroup", True),
        ("autoscaling:Describe*", "autoscaling:DeleteAutoScalingGroup", False),
        ("ec2:Describe?ags", "ec2:DescribeTags", True),
        ("ec2:Describe", "ec2:DescribeTags", False),
    ],
)
def test_an_action_matches_by_wildcards_and_in_any_case(pattern: str, action: str, matches: bool) -> None:
    assert evaluate([policy(Action=pattern)], None, action, "*", {}).allowed is matches


def test_a_resource_is_compared_with_case() -> None:
    assert effect(policy(Resource="arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/lab-*")) is Effect.ALLOWED
    assert effect(policy(Resource="arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/LAB-*")) is Effect.IMPLICIT_DENY


@pytest.mark.parametrize(
    ("condition", "context", "met"),
    [
        ({"StringEquals": {"aws:ResourceTag/id": "a"}}, {"aws:ResourceTag/id": "a"}, True),
        ({"StringEquals": {"aws:ResourceTag/id": "a"}}, {"aws:resourcetag/ID": "a"}, True),
        ({"StringEquals": {"aws:ResourceTag/id": "a"}}, {"aws:ResourceTag/id": "A"}, False),
        ({"StringEquals": {"aws:ResourceTag/id": ["b", "a"]}}, {"aws:ResourceTag/id": "a"}, True),
        ({"StringEquals": {"aws:ResourceTag/id": "a"}}, {}, False),
        ({"StringEqualsIfExists": {"aws:ResourceTag/id": "a"}}, {}, True),
        ({"StringNotEquals": {"aws:ResourceTag/id": "a"}}, {}, True),
        ({"StringNotEquals": {"aws:ResourceTag/id": "a"}}, {"aws:ResourceTag/id": "b"}, True),
        ({"StringLike": {"aws:ResourceTag/id": "a*"}}, {"aws:ResourceTag/id": "abc"}, True),
        ({"StringEquals": {"aws:ResourceTag/id": "a*"}}, {"aws:ResourceTag/id": "abc"}, False),
        (
            {"ArnLike": {"ec2:LaunchTemplate": "arn:aws:ec2:*:*:launch-template/*"}},
            {"ec2:LaunchTemplate": "arn:aws:ec2:eu-west-1:1:launch-template/lt"},
            True,
        ),
        ({"ArnLike": {"ec2:LaunchTemplate": "arn:aws:ec2:*:launch-template/*"}}, {"ec2:LaunchTemplate": "arn:aws:ec2:eu-west-1:1:launch-template/lt"}, False),
        ({"Bool": {"ec2:IsLaunchTemplateResource": True}}, {"ec2:IsLaunchTemplateResource": "true"}, True),
        ({"Null": {"aws:RequestTag/id": "true"}}, {}, True),
        ({"Null": {"aws:RequestTag/id": "false"}}, {}, False),
        ({"NumericLessThanEquals": {"autoscaling:MaxSize": 4}}, {"autoscaling:MaxSize": "4"}, True),
        ({"NumericLessThanEquals": {"autoscaling:MaxSize": "4"}}, {"autoscaling:MaxSize": "5"}, False),
        ({"ForAllValues:StringLike": {"aws:TagKeys": ["k8s.io/*", "fpga.hybrid/*"]}}, {"aws:TagKeys": ["k8s.io/a", "fpga.hybrid/b"]}, True),
        ({"ForAllValues:StringLike": {"aws:TagKeys": ["k8s.io/*"]}}, {"aws:TagKeys": ["k8s.io/a", "owner"]}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}}, {}, True),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["a"]}}, {"aws:TagKeys": ["b", "a"]}, True),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["a"]}}, {}, False),
        ({"StringEquals": {"a": "1", "b": "2"}}, {"a": "1", "b": "2"}, True),
        ({"StringEquals": {"a": "1", "b": "2"}}, {"a": "1", "b": "3"}, False),
        ({"StringEquals": {"a": "1"}, "StringLike": {"b": "2"}}, {"a": "1"}, False),
    ],
)
def test_conditions_hold_as_iam_says(condition: dict[str, Any], context: dict[str, Any], met: bool) -> None:
    assert evaluate([policy(Condition=condition)], None, "ec2:CreateTags", "*", context).allowed is met


def test_a_variable_stands_for_what_the_call_brings() -> None:
    document = policy(Condition={"StringEquals": {"ssm:resourceTag/fpga.hybrid/instance-arn": "${ec2:SourceInstanceARN}"}})
    own, other = ("arn:aws:ec2:us-east-1:123456789012:instance/i-1", "arn:aws:ec2:us-east-1:123456789012:instance/i-2")
    tag = {"ssm:resourceTag/fpga.hybrid/instance-arn": own}
    assert evaluate([document], None, "ssm:GetParameter", "*", {**tag, "ec2:SourceInstanceARN": own}).allowed
    assert not evaluate([document], None, "ssm:GetParameter", "*", {**tag, "ec2:SourceInstanceARN": other}).allowed
    assert not evaluate([document], None, "ssm:GetParameter", "*", tag).allowed


def test_a_variables_value_is_no_pattern() -> None:
    document = policy(Resource="arn:aws:s3:::home/${aws:username}/*")
    assert evaluate([document], None, "s3:GetObject", "arn:aws:s3:::home/ann/x", {"aws:username": "ann"}).allowed
    assert not evaluate([document], None, "s3:GetObject", "arn:aws:s3:::home/ann/x", {"aws:username": "*"}).allowed


def test_an_explicit_deny_wins_over_every_allow() -> None:
    deny = policy(Effect="Deny", Action="autoscaling:Delete*")
    assert evaluate([policy(), deny], None, "autoscaling:DeleteAutoScalingGroup", GROUP, {}).effect is Effect.EXPLICIT_DENY
    assert evaluate([policy(), deny], None, "autoscaling:UpdateAutoScalingGroup", GROUP, {}).allowed


def test_a_boundary_only_takes_away() -> None:
    boundary = policy(Action="ec2:*")
    assert evaluate([policy()], boundary, "ec2:RunInstances", "*", {}).allowed
    assert not evaluate([policy()], boundary, "iam:PassRole", "*", {}).allowed
    assert not evaluate([], boundary, "ec2:RunInstances", "*", {}).allowed


def test_everything_but_what_notaction_names_is_meant() -> None:
    document = {"Statement": {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::secret"}}
    assert evaluate([document], None, "s3:GetObject", "arn:aws:s3:::open", {}).allowed
    assert not evaluate([document], None, "s3:GetObject", "arn:aws:s3:::secret", {}).allowed
    assert not evaluate([document], None, "iam:PassRole", "*", {}).allowed


@pytest.mark.parametrize(
    "document",
    [
        {},
        policy(Effect="Maybe"),
        policy(Condition={"StringResembles": {"a": "b"}}),
        policy(Condition={"ForSomeValues:StringEquals": {"a": "b"}}),
        policy(NotAction="ec2:*"),
        policy(Principal="*"),
    ],
)
def test_what_the_evaluator_does_not_know_is_an_error_and_never_a_yes(document: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        evaluate([document], None, "ec2:RunInstances", "*", {"a": "b"})


@given(st.text(), st.text())
def test_a_text_without_wildcards_matches_itself_alone(text: str, other: str) -> None:
    document = policy(Condition={"StringEquals": {"key": text.replace("$", "${$}")}})
    assert evaluate([document], None, "a:b", "*", {"key": text}).allowed
    assert evaluate([document], None, "a:b", "*", {"key": other}).allowed is (text == other)


AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=AKIAX/20261125/eu-west-2/{service}/aws4_request, SignedHeaders=host, Signature=0"


def test_a_query_call_is_read_with_its_lists() -> None:
    body = b"Action=CreateOrUpdateTags&Version=2011-01-01&Tags.member.2.Key=b&Tags.member.1.Key=a&Tags.member.1.Value=x&Names.member.1=n"
    request = parse({"HTTP_AUTHORIZATION": AUTHORIZATION.format(service="autoscaling")}, body)
    assert request is not None
    assert (request.service, request.action, request.region, request.access_key) == ("autoscaling", "CreateOrUpdateTags", "eu-west-2", "AKIAX")
    assert request.tags("Tags") == {"a": "x", "b": ""}
    assert request.members("Names") == ["n"]
    assert request.is_write


def test_a_json_call_is_read_and_its_secret_is_not_shown() -> None:
    environ = {"HTTP_AUTHORIZATION": AUTHORIZATION.format(service="ssm"), "HTTP_X_AMZ_TARGET": "AmazonSSM.PutParameter"}
    request = parse(environ, b'{"Name": "/a", "Value": "hunter2", "Tags": [{"Key": "k", "Value": "v"}]}')
    assert request is not None
    assert request.iam_action == "ssm:PutParameter"
    assert request.tags("Tags") == {"k": "v"}
    assert "hunter2" not in str(request.shown_params())
    assert request.shown_params()["Name"] == "/a"


def test_a_digest_tells_other_parameters_apart_and_not_their_order() -> None:
    environ = {"HTTP_AUTHORIZATION": AUTHORIZATION.format(service="ec2")}
    one, same, other = (parse(environ, body) for body in (b"Action=X&A=1&B=2", b"Action=X&B=2&A=1", b"Action=X&A=1&B=3"))
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize("header", ["", "Basic abc", "AWS4-HMAC-SHA256 Credential=AKIAX/20261125/eu-west-2"])
def test_what_is_not_signed_is_no_call(header: str) -> None:
    assert parse({"HTTP_AUTHORIZATION": header}, b"Action=DescribeInstances") is None
