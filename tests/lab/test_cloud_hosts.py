# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's AWS with real hosts: what an instance finds when it boots, and what becomes of it. Beside the running cluster, of which it takes nothing."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from lab import podman, recovery
from lab.hosts import container
from lab.run import wait_until
from lab.settings import INSTANCE_LABEL, ONPREM, PREFIX
from tests.lab.site import ROOT

if TYPE_CHECKING:
    from lab.cloud.server import Control
    from lab.cloud.sidecar import SideCar

pytestmark = pytest.mark.lab

USER_DATA = """\
#cloud-config
write_files:
  - path: /etc/told.json
    owner: root:root
    permissions: "0644"
    content: |
      {"pool": "f2"}
runcmd:
  - [sh, -c, "cp /etc/told.json /root/ran"]
"""
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
#: As pools' launch templates have it.
TOKENS_ONLY = {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled", "InstanceMetadataTags": "disabled"}

#: Run in an instance's host, by its own Python: everything that it is told, with a token and without.
ASK = """
import json, urllib.error, urllib.request
BASE = "http://169.254.169.254/latest"
def ask(path, method="GET", **headers):
    request = urllib.request.Request(BASE + path, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).read().decode()
    except urllib.error.HTTPError as error:
        return error.code
token = ask("/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
told = {name: ask(path, X_aws_ec2_metadata_token=token) for name, path in {
    "document": "/dynamic/instance-identity/document",
    "zone": "/meta-data/placement/availability-zone",
    "name": "/meta-data/local-hostname",
    "keys": "/meta-data/iam/security-credentials/node",
}.items()}
told["without a token"] = ask("/meta-data/instance-id")
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def image() -> str:
    """Of instances; by FPGA_HYBRID_LAB_INSTANCE_IMAGE another one that is there."""
    if named := os.environ.get("FPGA_HYBRID_LAB_INSTANCE_IMAGE"):
        return named
    from lab.cloud import image as instance_image

    return str(instance_image.ensure())


@pytest.fixture
def cars(image) -> Iterator[SideCar]:
    from lab.cloud.server import Cloud
    from lab.cloud.sidecar import SideCar

    with Cloud(str(ONPREM.gateway), 0) as cloud, SideCar(cloud, image) as running:
        yield running
    assert container.instances() == []
    assert podman.lab_volumes(INSTANCE_LABEL) == []


def make_group(cloud: Control, instance_type: str) -> None:
    """A group without instances, as a pool's is."""
    from lab.cloud.sidecar import make_subnets

    iam, ec2 = cloud.client("iam"), cloud.client("ec2")
    iam.create_role(RoleName="node", AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.create_instance_profile(InstanceProfileName="node")
    iam.add_role_to_instance_profile(InstanceProfileName="node", RoleName="node")
    data = {
        "ImageId": "ami-0123456789abcdef0",
        "InstanceType": instance_type,
        "UserData": base64.b64encode(USER_DATA.encode()).decode(),
        "MetadataOptions": TOKENS_ONLY,
        "IamInstanceProfile": {"Name": "node"},
    }
    ec2.create_launch_template(LaunchTemplateName="lab-f2", LaunchTemplateData=data)
    cloud.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName="lab-f2",
        MinSize=0,
        MaxSize=4,
        VPCZoneIdentifier=",".join(make_subnets(cloud).values()),
        LaunchTemplate={"LaunchTemplateName": "lab-f2", "Version": "1"},
    )


def scale(cloud: Control, desired: int) -> list[dict[str, Any]]:
    cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName="lab-f2", DesiredCapacity=desired)
    return alive(cloud)


def alive(cloud: Control) -> list[dict[str, Any]]:
    pages = cloud.client("ec2").describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}])["Reservations"]
    return [instance for page in pages for instance in page["Instances"]]


def inside(instance: str, *command: str) -> str:
    """What a command says in an instance's host; nothing of one that has failed."""
    done = subprocess.run(["podman", "exec", f"{PREFIX}{instance}", *command], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else ""


def eventually(true: Callable[[], bool], what: str) -> None:
    wait_until(true, seconds=40, what=what)


def wait_for_user_data(instance: str) -> None:
    eventually(lambda: inside(instance, "cat", "/root/ran") != "", f"{instance} has run its user-data")


def test_two_instances_of_a_group_boot_each_as_itself_and_one_that_is_terminated_goes(cars):
    cloud = cars._cloud
    make_group(cloud, "f2.12xlarge")
    found = {one["InstanceId"]: one for one in scale(cloud, 2)}
    assert len(found) == 2
    cars.wait_for(*found)
    for identifier, instance in found.items():
        wait_for_user_data(identifier)
        assert json.loads(inside(identifier, "cat", "/root/ran")) == {"pool": "f2"}

        told = json.loads(inside(identifier, "python3", "-c", ASK))
        document = json.loads(told["document"])
        assert (document["instanceId"], document["instanceType"], document["privateIp"]) == (identifier, "f2.12xlarge", instance["PrivateIpAddress"])
        assert told["zone"] == document["availabilityZone"] == instance["Placement"]["AvailabilityZone"]
        assert told["name"].partition(".")[0] == inside(identifier, "hostname").strip()
        assert told["without a token"] == 401

        keys = json.loads(told["keys"])
        session = {"aws_access_key_id": keys["AccessKeyId"], "aws_secret_access_key": keys["SecretAccessKey"], "aws_session_token": keys["Token"]}
        assert cloud.client("sts", credentials=session).get_caller_identity()["Arn"] == f"arn:aws:sts::123456789012:assumed-role/node/{identifier}"

        assert [board["board"] for board in json.loads(inside(identifier, "lab-fpga", "list"))] == ["aws-vu47p-f2"] * 2
        assert instance["PrivateIpAddress"] in inside(identifier, "ip", "-4", "-brief", "address")
        assert {one.agent.partition("/")[0] for one in cars.imds(identifier).without_token()} == {"Cloud-Init", "python-requests", "Python-urllib"}

    inside(next(iter(found)), "sh", "-c", "echo did not join > /dev/console")
    gone, stays = found
    cloud.client("autoscaling").terminate_instance_in_auto_scaling_group(InstanceId=gone, ShouldDecrementDesiredCapacity=True)
    cars.wait_until_gone(gone)
    assert [host.name for host in container.instances()] == [stays]
    assert not podman.container_exists(f"{PREFIX}{gone}")
    assert "did not join" in cloud.client("ec2").get_console_output(InstanceId=gone)["Output"]


def test_an_instance_that_powers_itself_off_is_stopped_and_its_group_replaces_it(cars):
    """Pools' launch templates say nothing of it, so EC2 stops it, and Auto Scaling takes a stopped instance for an ill one."""
    make_group(cars._cloud, "f2.6xlarge")
    (first,) = (one["InstanceId"] for one in scale(cars._cloud, 1))
    cars.wait_for(first)
    wait_for_user_data(first)

    inside(first, "systemctl", "reboot")
    eventually(lambda: any(event.text == "reboots" for event in cars.events), "it reboots")
    cars.wait_for(first)
    assert [one["InstanceId"] for one in alive(cars._cloud)] == [first]
    eventually(lambda: inside(first, "systemctl", "is-active", "multi-user.target").strip() == "active", "it has booted again")
    assert [board["board"] for board in json.loads(inside(first, "lab-fpga", "list"))] == ["aws-vu47p-f2"]

    inside(first, "systemctl", "poweroff")
    cars.wait_until_gone(first)
    (second,) = (one["InstanceId"] for one in alive(cars._cloud))
    assert second != first
    cars.wait_for(second)


def test_hosts_of_a_killed_side_car_are_removed_and_not_taken_over(image):
    from lab.cloud.server import Control

    command = [sys.executable, "-m", "lab.cloud", "--listen", f"{ONPREM.gateway}:0", "--hosts", image]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        cloud = Control(process.stdout.readline().split()[1])
        make_group(cloud, "f2.6xlarge")
        (instance,) = (one["InstanceId"] for one in scale(cloud, 1))
        eventually(lambda: podman.container_exists(f"{PREFIX}{instance}"), "its host is there")
        recovery.after_side_car()
        assert [host.name for host in container.instances()] == [instance], "while its side-car runs, it stays"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    recovery.after_side_car()
    assert container.instances() == []
    assert podman.lab_volumes(INSTANCE_LABEL) == []
