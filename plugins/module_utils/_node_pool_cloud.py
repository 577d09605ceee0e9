# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only part of the node pools that talks to AWS. Clients, credentials and retries are amazon.aws'."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

try:
    from botocore import xform_name
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
    from botocore.exceptions import ConnectionError as NoConnectionError
    from botocore.parsers import ResponseParserError
except ImportError:  # AnsibleAWSModule says so
    BotoCoreError = ClientError = NoConnectionError = HTTPClientError = NoCredentialsError = ResponseParserError = Exception

from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import InstanceType, from_api
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import CLUSTER_ID_TAG, Cluster, PoolError, parse_cluster
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_checks import Image
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_documents import Document, Group, LaunchTemplate, TemplateVersion
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

Item = TypeVar("Item")
Result = TypeVar("Result")

#: More at once would only be throttled; botocore keeps ten connections.
THREADS = 8
#: AWS' own "not now", beside throttling: a group is being changed by somebody else, or has an activity to finish.
TRANSIENT = ("ResourceContention", "ScalingActivityInProgress")
THROTTLED = ("Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestThrottled", "TooManyRequestsException")
WRONG_CREDENTIALS = ("AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "ExpiredToken", "RequestExpired")
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
#: Somebody else was faster: what was found is no longer so.
CONFLICTS = ("AlreadyExists", "InvalidLaunchTemplateName.AlreadyExistsException")
TEMPLATE_IS_NOT_THERE = ("InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound")


class CloudError(Exception):
    """AWS could not or would not; the message says what to do. code: AWS' own, or ""."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def cluster_of(module: Any) -> Cluster:
    """Option cluster, with the region of the module's own option, the environment or the profile where it names none."""
    declared, region = module.params["cluster"], module.params.get("region")
    if region and declared.get("region") not in (None, region):
        raise PoolError(
            [Problem("", "cluster.region", f"found {declared['region']}, beside region: {region}", "one region", "Take one out, or make a task for each.")]
        )
    return parse_cluster({**declared, "region": region or declared.get("region") or module.region})


class Cloud:
    """module: an AnsibleAWSModule, or what has its method client."""

    def __init__(self, module: Any, region: str) -> None:
        self._module, self.region = module, region
        self._clients: dict[str, Any] = {}

    def prepare(self, *services: str) -> None:
        """Makes the clients; to be done before several threads ask."""
        for service in services:
            if service not in self._clients:
                retry = AWSRetry.jittered_backoff(retries=6, delay=2, max_delay=20, catch_extra_error_codes=list(TRANSIENT))
                self._clients[service] = self._module.client(service, retry_decorator=retry, region=self.region)

    def ask(self, service: str, operation: str, parameters: Mapping[str, Any]) -> Document:
        """One call, repeated while AWS says that it is only a matter of time."""
        self.prepare(service)
        try:
            answer: Document = getattr(self._clients[service], xform_name(operation))(aws_retry=True, **parameters)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            raise _said(error, service, operation) from error
        return answer

    def _pages(self, service: str, operation: str, key: str, parameters: Mapping[str, Any]) -> Iterator[Document]:
        token: Mapping[str, Any] = {}
        while True:
            answer = self.ask(service, operation, {**parameters, **token})
            yield from answer.get(key, [])
            if not answer.get("NextToken"):
                return
            token = {"NextToken": answer["NextToken"]}

    # --- groups

    def groups(self, *, cluster_id: str | None = None, names: Sequence[str] = ()) -> dict[str, Group]:
        """Groups with the cluster's id, or of these names, or all."""
        parameters: Document = {"MaxRecords": 100}
        if cluster_id:
            parameters["Filters"] = [{"Name": f"tag:{CLUSTER_ID_TAG}", "Values": [cluster_id]}]
        found: dict[str, Group] = {}
        for chunk in _chunks(names, 100) if names else [()]:
            named = {"AutoScalingGroupNames": list(chunk)} if chunk else {}
            for described in self._pages("autoscaling", "DescribeAutoScalingGroups", "AutoScalingGroups", {**parameters, **named}):
                found[described["AutoScalingGroupName"]] = Group(described)
        return found

    def launch_configurations(self, names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        for chunk in _chunks(sorted(names), 50):
            parameters = {"LaunchConfigurationNames": list(chunk), "MaxRecords": 100}
            for described in self._pages("autoscaling", "DescribeLaunchConfigurations", "LaunchConfigurations", parameters):
                found[described["LaunchConfigurationName"]] = _decoded(described)
        return found

    # --- launch templates

    def template(self, name: str) -> LaunchTemplate | None:
        """With all its versions, so that one call tells what is in use, what is free, and what is old."""
        try:
            parameters = {"LaunchTemplateName": name, "MaxResults": 200}
            versions = list(self._pages("ec2", "DescribeLaunchTemplateVersions", "LaunchTemplateVersions", parameters))
        except CloudError as error:
            if error.code in TEMPLATE_IS_NOT_THERE:
                return None
            raise
        return LaunchTemplate(versions[0]["LaunchTemplateId"], name, tuple(TemplateVersion.from_api(one) for one in versions)) if versions else None

    def templates_of(self, cluster_id: str) -> list[LaunchTemplate]:
        """Those with the cluster's id in their tags, without their versions."""
        filters = [{"Name": f"tag:{CLUSTER_ID_TAG}", "Values": [cluster_id]}]
        found = self._pages("ec2", "DescribeLaunchTemplates", "LaunchTemplates", {"Filters": filters, "MaxResults": 200})
        return [LaunchTemplate(one["LaunchTemplateId"], one["LaunchTemplateName"], owner=cluster_id) for one in found]

    # --- facts

    def instance_types(self, names: Sequence[str]) -> dict[str, InstanceType]:
        """Types that AWS describes in the region; one that it doesn't know is left out."""
        described: list[Mapping[str, Any]] = []
        for chunk in _chunks(sorted(names), 200):
            described += self._pages("ec2", "DescribeInstanceTypes", "InstanceTypes", {"Filters": [{"Name": "instance-type", "Values": list(chunk)}]})
        return from_api(described)

    def offerings(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Zones in which each type is offered."""
        zones: dict[str, list[str]] = {}
        parameters = {"LocationType": "availability-zone", "Filters": [{"Name": "instance-type", "Values": sorted(names)}]}
        for one in self._pages("ec2", "DescribeInstanceTypeOfferings", "InstanceTypeOfferings", parameters):
            zones.setdefault(one["InstanceType"], []).append(one["Location"])
        return zones

    def subnets(self, ids: Sequence[str]) -> dict[str, str]:
        """Zone of each subnet that is there."""
        found = self._pages("ec2", "DescribeSubnets", "Subnets", {"Filters": [{"Name": "subnet-id", "Values": sorted(ids)}]})
        return {one["SubnetId"]: one["AvailabilityZone"] for one in found}

    def images(self, ids: Iterable[str]) -> dict[str, Image]:
        """Images that are there. AWS refuses the whole question for one that isn't, and names it."""
        wanted = set(ids)
        while wanted:
            try:
                found = self._pages("ec2", "DescribeImages", "Images", {"ImageIds": sorted(wanted)})
                return {one["ImageId"]: Image.from_api(one) for one in found}
            except CloudError as error:
                absent = set(re.findall(r"ami-[0-9a-f]+", str(error))) & wanted if error.code.startswith("InvalidAMIID") else set()
                if not absent:
                    raise
                wanted -= absent
        return {}

    def account(self) -> str:
        return str(self.ask("sts", "GetCallerIdentity", {})["Account"])


def at_once(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """function of each item, several at a time; the first exception of any is raised when all have ended."""
    with ThreadPoolExecutor(THREADS) as executor:
        futures = [executor.submit(function, item) for item in items]
    return [future.result() for future in futures]


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _decoded(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """botocore encodes a launch configuration's user-data, and does not decode it."""
    try:
        return {**described, "UserData": base64.b64decode(described.get("UserData") or "", validate=True).decode()}
    except (binascii.Error, UnicodeDecodeError):
        return described


def _said(error: Exception, service: str, operation: str) -> CloudError:
    """What AWS or the way to it said, with what to do."""
    action = f"{service}:{operation}"
    if isinstance(error, NoCredentialsError):
        return CloudError("Found no AWS credentials; expected a profile, keys in the environment, or a role. Set profile, or AWS_ACCESS_KEY_ID and the like.")
    if isinstance(error, (NoConnectionError, HTTPClientError)):
        return CloudError(f"{action}: AWS could not be reached: {error}. Check endpoint_url, the network, a proxy; then run again.")
    if isinstance(error, ResponseParserError):
        return CloudError(f"{action}: the answer is not AWS': {error}. Check endpoint_url, and whether a proxy stands between.")
    if not isinstance(error, ClientError):
        return CloudError(f"{action}: {error}")
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    remedy = "Correct what it names, then run again."
    if code in WRONG_CREDENTIALS:
        remedy = "AWS does not accept these credentials: check the profile or the keys, and this machine's clock."
    elif code in DENIED:
        remedy = f"The identity lacks the action {action}: playbook iam writes the policies that are needed."
    elif code in THROTTLED:
        remedy = "AWS still throttles after several attempts: wait a minute, then run again; it goes on from there."
    elif code in ("ResourceInUse", "ScalingActivityInProgress"):
        remedy = "Instances have come or are going: look at the group, then run again."
    return CloudError(f"{action}: {code}: {message.rstrip('.')}. {remedy}", code)
