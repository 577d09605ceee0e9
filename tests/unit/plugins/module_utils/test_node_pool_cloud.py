# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking AWS: pages, batches, and what is made of refusals. The client is a script of answers."""

from __future__ import annotations

import base64
import threading

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ParamValidationError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import shipped_types
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import PoolError, parse_cluster, parse_pools
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_checks import Image, image_of, image_problems, placement_problems
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import Cloud, CloudError, at_once, cluster_of


class Script:
    """As an AnsibleAWSModule and its clients: each call takes the next answer of its operation, or raises it."""

    def __init__(self, region=None, **answers):
        self.answers = {operation: list(given) for operation, given in answers.items()}
        self.asked = []
        self.made = []
        self.region, self.params = "eu-west-2", {"region": region, "cluster": {"name": "lab", "id": "1", "kubernetes_version": "1.36"}}

    def client(self, service, retry_decorator, region):
        self.made.append((service, region))
        return self

    def __getattr__(self, operation):
        def call(aws_retry, **parameters):
            assert aws_retry
            self.asked.append((operation, parameters))
            answer = self.answers[operation].pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def refusal(code, message="no"):
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


def said(error):
    with pytest.raises(CloudError) as caught:
        Cloud(Script(describe_subnets=[error]), "us-east-1").subnets(["subnet-1"])
    return str(caught.value), caught.value.code


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (NoCredentialsError(), "Found no AWS credentials; expected a profile, keys in the environment, or a role.", ""),
        (EndpointConnectionError(endpoint_url="http://x"), "ec2:DescribeSubnets: AWS could not be reached: Could not connect to the endpoint URL", ""),
        (ReadTimeoutError(endpoint_url="http://x"), "ec2:DescribeSubnets: AWS could not be reached: Read timeout", ""),
        (ParamValidationError(report="bad"), "ec2:DescribeSubnets: Parameter validation failed", ""),
        (ResponseParserError("<html>"), "ec2:DescribeSubnets: the answer is not AWS': <html>. Check endpoint_url", ""),
        (refusal("ExpiredToken"), "ec2:DescribeSubnets: ExpiredToken: no. AWS does not accept these credentials", "ExpiredToken"),
        (refusal("AccessDenied"), "The identity lacks the action ec2:DescribeSubnets: playbook iam", "AccessDenied"),
        (refusal("Throttling"), "AWS still throttles after several attempts", "Throttling"),
        (refusal("ResourceInUse"), "Instances have come or are going", "ResourceInUse"),
        (refusal("ValidationError", "Bad zone."), "ec2:DescribeSubnets: ValidationError: Bad zone. Correct what it names", "ValidationError"),
    ],
)
def test_a_refusal_is_told_with_the_action_and_what_to_do(error, text, code):
    assert said(error)[0].startswith(text) or text in said(error)[0]
    assert said(error)[1] == code


def test_clients_are_made_once_for_a_service_and_in_the_cluster_s_region():
    script = Script(describe_subnets=[{"Subnets": []}] * 2)
    cloud = Cloud(script, "eu-west-2")
    cloud.prepare("ec2", "autoscaling")
    cloud.subnets(["subnet-1"])
    cloud.subnets(["subnet-1"])
    assert script.made == [("ec2", "eu-west-2"), ("autoscaling", "eu-west-2")]


def test_groups_are_asked_for_a_hundred_at_a_time_and_page_by_page():
    pages = [{"AutoScalingGroups": [{"AutoScalingGroupName": "a"}], "NextToken": "more"}, {"AutoScalingGroups": [{"AutoScalingGroupName": "b"}]}]
    script = Script(describe_auto_scaling_groups=[*pages, {"AutoScalingGroups": [{"AutoScalingGroupName": "c"}]}])
    names = [f"g{number}" for number in range(130)]
    assert list(Cloud(script, "us-east-1").groups(names=names)) == ["a", "b", "c"]
    assert [len(parameters["AutoScalingGroupNames"]) for _operation, parameters in script.asked] == [100, 100, 30]
    assert script.asked[1][1]["NextToken"] == "more"
    assert all(parameters["MaxRecords"] == 100 for _operation, parameters in script.asked)


def test_launch_configurations_are_asked_for_fifty_at_a_time_and_their_user_data_decoded():
    data = base64.b64encode(b"#cloud-config\n").decode()
    answers = [
        {"LaunchConfigurations": [{"LaunchConfigurationName": "a", "UserData": data}]},
        {"LaunchConfigurations": [{"LaunchConfigurationName": "b", "UserData": "%"}]},
    ]
    script = Script(describe_launch_configurations=answers)
    found = Cloud(script, "us-east-1").launch_configurations(f"l{number}" for number in range(60))
    assert [len(parameters["LaunchConfigurationNames"]) for _operation, parameters in script.asked] == [50, 10]
    assert [one["UserData"] for one in found.values()] == ["#cloud-config\n", "%"], "what is not base64 is shown as it is"


def test_a_launch_template_that_is_not_there_is_none():
    for answer in (refusal("InvalidLaunchTemplateName.NotFoundException"), {"LaunchTemplateVersions": []}):
        assert Cloud(Script(describe_launch_template_versions=[answer]), "us-east-1").template("x") is None
    with pytest.raises(CloudError):
        Cloud(Script(describe_launch_template_versions=[refusal("AuthFailure")]), "us-east-1").template("x")


def test_images_that_are_not_there_are_left_out_and_the_others_asked_for_again():
    gone = refusal("InvalidAMIID.NotFound", "The image id '[ami-0bad]' does not exist")
    script = Script(describe_images=[gone, {"Images": [{"ImageId": "ami-0a", "RootDeviceName": "/dev/xvda"}]}])
    assert Cloud(script, "us-east-1").images(["ami-0bad", "ami-0a"]) == {"ami-0a": Image("ami-0a", "/dev/xvda", 0, "x86_64")}
    assert script.asked[1][1] == {"ImageIds": ["ami-0a"]}
    assert Cloud(Script(describe_images=[gone]), "us-east-1").images(["ami-0bad"]) == {}


@pytest.mark.parametrize("error", [refusal("InvalidAMIID.NotFound", "some image"), refusal("AuthFailure", "ami-0a")])
def test_a_refusal_that_names_none_of_the_images_is_one(error):
    with pytest.raises(CloudError):
        Cloud(Script(describe_images=[error]), "us-east-1").images(["ami-0a"])


def test_several_are_asked_at_once_and_all_have_ended_before_one_s_failure_is_told():
    together, ended = threading.Barrier(3, timeout=10), []

    def work(number):
        together.wait()
        if number == 1:
            raise CloudError("no")
        ended.append(number)

    with pytest.raises(CloudError):
        at_once(work, range(3))
    assert sorted(ended) == [0, 2]


@pytest.mark.parametrize(("option", "declared", "region"), [("us-east-1", None, "us-east-1"), (None, "us-west-2", "us-west-2"), (None, None, "eu-west-2")])
def test_the_region_comes_from_the_option_the_cluster_or_the_profile(option, declared, region):
    script = Script(region=option)
    script.params["cluster"]["region"] = declared
    assert cluster_of(script).region == region


def test_two_regions_are_refused():
    script = Script(region="us-east-1")
    script.params["cluster"]["region"] = "us-west-2"
    with pytest.raises(PoolError, match=r"cluster\.region: found us-west-2, beside region: us-east-1"):
        cluster_of(script)


# --- what is checked of the answers

TYPES = shipped_types()
CLUSTER = parse_cluster({"name": "lab", "id": "1", "kubernetes_version": "1.36", "region": "us-east-1", "images": {"f2": {"us-east-1": "ami-00000001"}}})


def pool(**more):
    (parsed,) = parse_pools([{"name": "f2", "instance_type": "f2.6xlarge", "max_size": 1, "availability_zones": ["us-east-1a", "us-east-1b"], **more}], "lab")
    return parsed


def test_an_image_is_taken_by_id_or_by_name():
    assert image_of(pool(image="ami-0123456789abcdef0"), CLUSTER) == "ami-0123456789abcdef0"
    assert image_of(pool(image="f2"), CLUSTER) == "ami-00000001"


def test_an_image_that_does_not_tell_its_root_device_is_refused_unless_the_pool_does():
    images = {"ami-00000001": Image("ami-00000001", "", 0, "x86_64")}
    (problem,) = image_problems(pool(), "ami-00000001", images, TYPES, "us-east-1")
    assert str(problem).startswith("pool f2, root_volume.device: image ami-00000001 doesn't name its root device")
    assert not list(image_problems(pool(root_volume={"device": "/dev/xvda"}), "ami-00000001", images, TYPES, "us-east-1"))


def test_a_zone_without_the_type_is_told_with_those_that_have_it():
    told = [str(one) for one in placement_problems(pool(), {}, {"f2.6xlarge": ["us-east-1c", "us-east-1b"]}, TYPES)]
    assert told == [
        "pool f2, availability_zones: f2.6xlarge isn't offered in us-east-1a; expected the zones that have it: us-east-1b, us-east-1c. Take those out."
    ]
    (nowhere,) = placement_problems(pool(), {}, {}, TYPES)
    assert "none in this region" in str(nowhere)


def test_a_subnet_counts_by_its_zone():
    one, other = "subnet-00000001", "subnet-00000002"
    in_subnets = pool(availability_zones=None, subnets=[one, other])
    told = [str(problem) for problem in placement_problems(in_subnets, {one: "us-east-1a"}, {"f2.6xlarge": ["us-east-1b"]}, TYPES)]
    assert [text.partition(";")[0] for text in told] == [
        "pool f2, subnets: subnet-00000002 isn't there",
        "pool f2, subnets: f2.6xlarge isn't offered in us-east-1a",
    ]


def test_a_retired_type_is_offered_nowhere_and_not_asked_for():
    assert not list(placement_problems(pool(instance_type="f1.2xlarge", allow_retired=True), {}, {}, TYPES))
