# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The AWS client: its signatures against botocore's, its protocols against moto, its failures against a server that fails on purpose."""

from __future__ import annotations

import email.utils
import json
import string
import time
import urllib.parse
from datetime import datetime, timezone

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from botocore.model import ServiceModel
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from fpga_hybrid import aws
from fpga_hybrid.credentials import Credentials, NoCredentialsError, environment, renewed, shared_file
from tests.unit.roles.bootstrap.doubles import FailingAws

KEY = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def client(endpoint: str, **more) -> aws.Aws:
    return aws.Aws("us-east-1", lambda: KEY, endpoint, sleep=lambda seconds: None, **more)


# --- signatures

WORD = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=20)
SECRET = st.text(string.ascii_letters + string.digits + "/+=", min_size=1, max_size=60)
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@given(
    credentials=st.builds(Credentials, WORD, SECRET, st.none() | SECRET),
    region=WORD,
    service=st.sampled_from(sorted(aws.SERVICES)),
    endpoint=st.builds(
        "{}://{}{}/{}".format, st.sampled_from(["http", "https"]), WORD, st.sampled_from(["", ":80", ":443", ":5000"]), st.text("abc/-_.~ %é", max_size=12)
    ),
    headers=st.dictionaries(st.sampled_from(["Content-Type", "X-Amz-Target"]), VALUE),
    body=st.binary(max_size=200),
    when=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc)),
)
def test_a_request_is_signed_as_botocore_signs_it(credentials, region, service, endpoint, headers, body, when):
    path = urllib.parse.urlsplit(endpoint).path
    if any(part in ("", ".", "..") for part in path.split("/")[1:-1]) or path.endswith(("/.", "/..", "//")):
        return  # such paths are shortened by some clients and not by others; no endpoint has one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda *_args, **_kwargs: when)
        request = botocore.awsrequest.AWSRequest("POST", endpoint, headers=headers, data=body)
        signer = botocore.auth.SigV4Auth(botocore.credentials.Credentials(credentials.access_key, credentials.secret_key, credentials.token), service, region)
        signer.add_auth(request)
    assert aws.sign(endpoint, headers, body, credentials, region, service, when) == dict(request.headers)


# --- what goes over the wire


@pytest.mark.parametrize(
    ("service", "action", "params"),
    [
        ("ec2", "DescribeInstances", {"Filters": [{"Name": "tag:a/b", "Values": ["x", "y z"]}], "MaxResults": 1000}),
        ("ec2", "DescribeInstances", {"InstanceIds": ["i-1", "i-2"], "DryRun": False}),
        ("ec2", "CreateTags", {"Resources": ["i-1"], "Tags": [{"Key": "fpga.hybrid/vpn-address", "Value": "172.27.232.1"}]}),
        ("autoscaling", "DescribeAutoScalingGroups", {"AutoScalingGroupNames": ["a", "b"], "MaxRecords": 100}),
        ("autoscaling", "SuspendProcesses", {"AutoScalingGroupName": "a", "ScalingProcesses": ["Launch"]}),
        ("autoscaling", "TerminateInstanceInAutoScalingGroup", {"InstanceId": "i-1", "ShouldDecrementDesiredCapacity": True}),
        ("sts", "GetCallerIdentity", {}),
    ],
)
def test_a_query_is_what_botocore_would_send(service, action, params, botocore_model):
    model = ServiceModel(botocore_model(service))
    expected = create_serializer(model.metadata["protocol"]).serialize_to_request(params, model.operation_model(action))["body"]
    assert dict(urllib.parse.parse_qsl(aws.query_body(service, action, params))) == {name: str(value) for name, value in expected.items()}


@pytest.fixture(scope="module")
def botocore_model():
    loader = botocore.session.get_session().get_component("data_loader")
    return lambda service: loader.load_service_model(service, "service-2")


def test_a_secret_parameter_is_written_tagged_read_and_deleted(moto):
    cloud = client(moto)
    tags = [{"Key": "fpga.hybrid/instance-arn", "Value": "arn:aws:ec2:us-east-1:1:instance/i-1"}]
    cloud.call("ssm", "PutParameter", {"Name": "/p/nodes/i-1", "Value": "secret", "Type": "SecureString", "Tags": tags, "KeyId": None})
    found = cloud.call("ssm", "GetParameter", {"Name": "/p/nodes/i-1", "WithDecryption": True})["Parameter"]
    assert (found["Type"], found["Value"]) == ("SecureString", "secret")
    cloud.call("ssm", "DeleteParameter", {"Name": "/p/nodes/i-1"})
    with pytest.raises(aws.NotFoundError, match="ParameterNotFound"):
        cloud.call("ssm", "GetParameter", {"Name": "/p/nodes/i-1"})


def test_instances_are_lists_of_plain_dictionaries_also_where_there_is_one_or_none(moto):
    cloud = client(moto)
    assert not cloud.call("ec2", "DescribeInstances")["reservationSet"]
    cloud.call("ec2", "RunInstances", {"ImageId": "ami-12345678", "MinCount": 2, "MaxCount": 2, "InstanceType": "t3.micro"})
    (reservation,) = cloud.call("ec2", "DescribeInstances")["reservationSet"]
    names = [instance["instanceId"] for instance in reservation["instancesSet"]]
    assert len(names) == 2
    cloud.call("ec2", "CreateTags", {"Resources": names[:1], "Tags": [{"Key": "a/b", "Value": "c"}]})
    (tagged,) = cloud.call("ec2", "DescribeInstances", {"Filters": [{"Name": "tag:a/b", "Values": ["c"]}]})["reservationSet"]
    assert [(one["instanceId"], one["tagSet"]) for one in tagged["instancesSet"]] == [(names[0], [{"key": "a/b", "value": "c"}])]
    assert cloud.call("sts", "GetCallerIdentity")["Account"] == "123456789012"


def test_groups_come_in_pages(moto):
    cloud = client(moto)
    for number in range(3):
        name = f"group-{number}"
        cloud.call("autoscaling", "CreateLaunchConfiguration", {"LaunchConfigurationName": name, "ImageId": "ami-12345678", "InstanceType": "t3.micro"})
        group = {"AutoScalingGroupName": name, "LaunchConfigurationName": name, "MinSize": 0, "MaxSize": 1, "AvailabilityZones": ["us-east-1a"]}
        cloud.call("autoscaling", "CreateAutoScalingGroup", group)
    pages = list(cloud.pages("autoscaling", "DescribeAutoScalingGroups", {"MaxRecords": 2}))
    assert [[group["AutoScalingGroupName"] for group in page["AutoScalingGroups"]] for page in pages] == [["group-0", "group-1"], ["group-2"]]


def test_the_endpoint_is_the_regions_own():
    assert aws.Aws("eu-west-1", lambda: KEY).url("ssm") == "https://ssm.eu-west-1.amazonaws.com/"
    assert aws.Aws("cn-north-1", lambda: KEY).url("ec2") == "https://ec2.cn-north-1.amazonaws.com.cn/"


# --- failures


@pytest.fixture
def failing():
    with FailingAws() as server:
        yield server


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, "AccessDeniedException", "User: x is not authorized to perform: ssm:GetParameter", aws.DeniedError),
        (400, "UnrecognizedClientException", "The security token included in the request is invalid.", aws.BadCredentialsError),
        (400, "ExpiredTokenException", "The security token included in the request is expired", aws.BadCredentialsError),
        (400, "com.amazonaws.ssm#ParameterNotFound", "", aws.NotFoundError),
        (400, "InvalidSignatureException", "Credential should be scoped to a valid region, not 'us-east-1'.", aws.WrongRegionError),
        (400, "InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than 20260102T000000Z", aws.ClockError),
        (400, "ValidationException", "1 validation error detected", aws.AwsError),
    ],
)
def test_a_refusal_has_a_kind_and_is_not_tried_again(failing, status, code, message, kind):
    failing.answer(status, json.dumps({"__type": code, "message": message}))
    with pytest.raises(aws.AwsError) as caught:
        client(failing.url).call("ssm", "GetParameter", {"Name": "/p"})
    assert type(caught.value) is kind
    assert caught.value.code == code.rpartition("#")[2]
    # A wrong time is corrected by AWS' own clock, and tried once more.
    assert len(failing.requests) == (2 if kind is aws.ClockError else 1)


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (
            "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>",
            aws.DeniedError,
            "UnauthorizedOperation",
        ),
        ("<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code></Error></Errors></Response>", aws.NotFoundError, "InvalidInstanceID.NotFound"),
        (
            '<ErrorResponse xmlns="http://x/"><Error><Code>ValidationError</Code><Message>AutoScalingGroup name not found</Message></Error></ErrorResponse>',
            aws.NotFoundError,
            "ValidationError",
        ),
        ("<html><body>a proxy's page", aws.AwsError, ""),
    ],
)
def test_errors_of_the_query_protocol_are_read_in_both_their_forms(failing, body, kind, code):
    failing.answer(400, body)
    with pytest.raises(aws.AwsError) as caught:
        client(failing.url).call("ec2", "DescribeInstances")
    assert (type(caught.value), caught.value.code) == (kind, code)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, '{"__type": "ThrottlingException", "message": "Rate exceeded"}', aws.ThrottledError),
        (503, "<html>", aws.UnavailableError),
        (500, '{"__type": "InternalServerError"}', aws.UnavailableError),
        (200, "{not json", aws.UnavailableError),
    ],
)
def test_what_may_pass_is_tried_again_and_then_said(failing, status, body, kind):
    failing.answer(status, body)
    pauses = []
    cloud = aws.Aws("us-east-1", lambda: KEY, failing.url, sleep=pauses.append, patience=1000)
    with pytest.raises(kind):
        cloud.call("ssm", "GetParameter", {"Name": "/p"}, attempts=4)
    assert len(failing.requests) == 4
    assert len(pauses) == 3
    assert all(0 <= pause <= aws.LONGEST_PAUSE for pause in pauses)


def test_an_answer_after_two_failures_is_as_good_as_one_at_once(failing):
    failing.answer(503, "", times=1)
    failing.hang_up(times=1)
    failing.answer(200, '{"Parameter": {"Value": "v"}}')
    assert client(failing.url).call("ssm", "GetParameter", {"Name": "/p"})["Parameter"]["Value"] == "v"


def test_a_call_that_must_not_be_doubled_is_made_once(failing):
    failing.hang_up()
    with pytest.raises(aws.UnreachableError, match="no answer from 127"):
        client(failing.url).call("autoscaling", "TerminateInstanceInAutoScalingGroup", {"InstanceId": "i-1"}, attempts=1)
    assert len(failing.requests) == 1


def test_no_attempt_begins_after_patience_is_over(failing):
    failing.answer(503, "")
    with pytest.raises(aws.UnavailableError):
        client(failing.url, patience=0).call("ssm", "GetParameter")
    assert len(failing.requests) == 1


def test_nobody_at_the_endpoint_is_unreachable():
    with pytest.raises(aws.UnreachableError, match="Connection refused"):
        client("http://127.0.0.1:9", patience=0).call("ssm", "GetParameter")


def test_a_slow_answer_is_unreachable_after_the_timeout(failing):
    failing.slow()
    with pytest.raises(aws.UnreachableError, match="timed out"):
        client(failing.url, patience=0, timeout=0.1).call("ssm", "GetParameter")


def test_a_wrong_clock_is_seen_and_the_signature_corrected(failing):
    """The server is an hour ahead, says so in its Date, and takes what is signed for its own time."""
    failing.ahead = 3600
    failing.answer(400, '{"__type": "InvalidSignatureException", "message": "Signature expired: x is now earlier than y"}', times=1)
    failing.answer(200, "{}")
    cloud = client(failing.url)
    cloud.call("ssm", "GetParameter")
    first, second = (datetime.strptime(headers["X-Amz-Date"], aws.TIMESTAMP).replace(tzinfo=timezone.utc).timestamp() for headers in failing.requests)
    assert abs(second - first - 3600) < 5
    assert cloud.clock_offset == pytest.approx(3600, abs=3)


def test_ec2s_word_for_a_wrong_clock_is_understood(failing):
    """It says that it could not validate the credentials."""
    failing.ahead = -1800
    failing.answer(401, "<Response><Errors><Error><Code>AuthFailure</Code></Error></Errors></Response>")
    with pytest.raises(aws.BadCredentialsError):  # with the corrected time it was not the clock
        client(failing.url).call("ec2", "DescribeInstances")
    assert len(failing.requests) == 2


def test_no_message_holds_a_key(failing):
    failing.answer(403, '{"__type": "AccessDeniedException"}')
    with pytest.raises(aws.DeniedError) as caught:
        client(failing.url).call("ssm", "GetParameter")
    assert KEY.secret_key not in f"{caught.value} {KEY!r}"


# --- credentials


def test_the_environment_gives_credentials_or_says_what_it_lacks():
    assert environment({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": ""})() == Credentials("a", "b")
    with pytest.raises(NoCredentialsError, match="no AWS_SECRET_ACCESS_KEY"):
        environment({"AWS_ACCESS_KEY_ID": "a"})()


def test_a_shared_file_is_read_anew_so_that_new_keys_count(tmp_path):
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id = A\naws_secret_access_key = b%c=\n[other]\n")
    source = shared_file(str(path))
    assert source() == Credentials("A", "b%c=")
    path.write_text("[default]\naws_access_key_id = A2\naws_secret_access_key = b2\naws_session_token = t\n")
    assert source() == Credentials("A2", "b2", "t")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("[default]\naws_access_key_id = A\n", "no aws_secret_access_key in profile default"),
        ("[other]\n", "no default in profile default"),
        ("topsecret\n", "is no credentials file"),
    ],
)
def test_a_shared_file_that_is_none_is_told_apart_and_not_quoted(tmp_path, text, message):
    path = tmp_path / "credentials"
    if text is not None:
        path.write_text(text)
    with pytest.raises(NoCredentialsError, match=message) as caught:
        shared_file(str(path))()
    assert "topsecret" not in str(caught.value)


def test_temporary_credentials_are_renewed_shortly_before_they_end_and_kept_while_that_fails():
    now, given_out, fail = [1000.0], [], [False]

    def source():
        if fail[0]:
            raise NoCredentialsError("nobody answers")
        given_out.append(Credentials(f"key{len(given_out)}", "s", "t", expires=now[0] + 3600))
        return given_out[-1]

    current = renewed(source, lambda: now[0])
    assert current().access_key == current().access_key == "key0"
    now[0] += 3600 - 100
    fail[0] = True
    assert current().access_key == "key0"
    now[0] += 200
    with pytest.raises(NoCredentialsError):
        current()
    fail[0] = False
    assert current().access_key == "key1"


def test_the_date_of_an_answer_is_what_the_offset_is_made_of(failing):
    failing.answer(200, "{}")
    cloud = client(failing.url)
    assert cloud.clock_offset is None
    cloud.call("ssm", "GetParameter")
    assert abs(cloud.clock_offset or 99) < 2
    assert abs(email.utils.parsedate_to_datetime(failing.last_date).timestamp() - time.time()) < 5
