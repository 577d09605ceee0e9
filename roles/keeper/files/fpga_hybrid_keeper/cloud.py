# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper's edge to AWS: what is looked at, and the few things that it writes there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from itertools import islice
from typing import Any

from fpga_hybrid import evidence, imds
from fpga_hybrid.aws import Answer, Aws, AwsError, DeniedError, NotFoundError
from fpga_hybrid.bundle import Encoded
from fpga_hybrid.credentials import Source
from fpga_hybrid_keeper.brakes import Evidence, read_evidence
from fpga_hybrid_keeper.plan import CLUSTER_ID_TAG, OWNED_PREFIX, POOL_TAG, Cloud, Group, Instance, Rules

LAUNCH = "Launch"
GROUP_OF_INSTANCE = "aws:autoscaling:groupName"
KEPT_TAG = "fpga.hybrid/kept-until"
ADDRESS_TAG, ARN_TAG = "fpga.hybrid/vpn-address", "fpga.hybrid/instance-arn"
PROMISE_PREFIX = f"{OWNED_PREFIX}node-template/resources/"
#: What the states of a group's instances begin with.
STAYING, ENDING = ("Pending", "InService", "Warmed", "Standby", "Entering"), "Terminat"
#: EC2 API, DescribeInstances: values of a filter; Auto Scaling API: groups in a page.
IDS_PER_CALL, GROUPS_PER_CALL, INSTANCES_PER_CALL = 200, 100, 1000
#: Systems Manager API, GetParameters.
PARAMETERS_PER_CALL = 10  # and in a page of GetParametersByPath
LEFT_AT_ONCE = 100  # and pages that are looked through for them
#: Seconds that one answer may take, and after which a call is not tried again within a pass.
TIMEOUT, PATIENCE = 5.0, 10.0


class WrongAccountError(AwsError):
    """The credentials are another account's than the declaration says."""


class ExistsError(AwsError):
    """The parameter is there already."""


class AwsEdge:
    def __init__(self, region: str, source: Source, endpoint_url: str | None, ssm_prefix: str, account: str, rules: Rules) -> None:
        self._aws = Aws(region, source, endpoint_url, timeout=TIMEOUT, patience=PATIENCE)
        self._source, self._prefix, self._declared, self._rules = source, ssm_prefix, account, rules
        self._account = ("", "")

    # --- looking ------------------------------------------------------------------------------------------------------------------------

    def look(self, known: Iterable[str], everywhere: bool, steady: Set[str] = frozenset()) -> Cloud:
        """Groups, their instances, and those that are known; everywhere: also instances that carry the cluster's id and are in no group of it.

        steady: of whom nothing new is expected. While their group has them they are not asked about, which is one call less.
        """
        account = self._whose()
        groups = {group.name: group for group in self._groups()}
        found = {instance.id: instance for instance in self._tagged()} if everywhere else {}
        members = frozenset(one for group in groups.values() for one in group.instances)
        asked = (frozenset(known) | members) - (steady & members)
        found |= {instance.id: instance for instance in self._named(sorted(asked - set(found)))}
        mine = f":{account}:instance/"
        return Cloud(account, self._aws.region, groups, {name: one for name, one in found.items() if mine in one.arn}, asked)

    def _whose(self) -> str:
        """The account of the credentials that are in use now. An access key is one account's for ever."""
        key = _key_of(self._source)
        if self._account[0] != key or not key:
            self._account = (key, str(self._aws.call("sts", "GetCallerIdentity")["Account"]))
        account = self._account[1]
        if self._declared and account != self._declared:
            remedy = "Give keeper the credentials of that account."
            raise WrongAccountError("sts:GetCallerIdentity", "", f"the credentials are of account {account}, expected {self._declared}. {remedy}")
        return account

    def _groups(self) -> Iterator[Group]:
        rules = self._rules
        filters = [{"Name": f"tag:{CLUSTER_ID_TAG}", "Values": [rules.cluster_id]}]
        for page in self._aws.pages("autoscaling", "DescribeAutoScalingGroups", {"Filters": filters, "MaxRecords": GROUPS_PER_CALL}):
            for group in page.get("AutoScalingGroups") or []:
                tags = {tag["Key"]: tag.get("Value") or "" for tag in group.get("Tags") or []}
                if tags.get(CLUSTER_ID_TAG) == rules.cluster_id:
                    states = {str(one["InstanceId"]): str(one.get("LifecycleState") or "") for one in group.get("Instances") or []}
                    yield Group(
                        name=str(group["AutoScalingGroupName"]),
                        pool=tags.get(POOL_TAG) or str(group["AutoScalingGroupName"]),
                        owned=tags.get(rules.owned_tag) == "owned",
                        promise={key.removeprefix(PROMISE_PREFIX): value for key, value in tags.items() if key.startswith(PROMISE_PREFIX)},
                        instances=frozenset(name for name, state in states.items() if state.startswith(STAYING)),
                        suspended=any(one.get("ProcessName") == LAUNCH for one in group.get("SuspendedProcesses") or []),
                        ending=frozenset(name for name, state in states.items() if state.startswith(ENDING)),
                    )

    def _tagged(self) -> Iterator[Instance]:
        yield from self._instances({"Filters": [{"Name": f"tag:{CLUSTER_ID_TAG}", "Values": [self._rules.cluster_id]}], "MaxResults": INSTANCES_PER_CALL})

    def _named(self, ids: list[str]) -> Iterator[Instance]:
        """By a filter: an id that is not there is left out of the answer, where in a list of ids it would fail the whole call."""
        for start in range(0, len(ids), IDS_PER_CALL):
            filters = [{"Name": "instance-id", "Values": ids[start : start + IDS_PER_CALL]}]
            yield from self._instances({"Filters": filters, "MaxResults": INSTANCES_PER_CALL})

    def _instances(self, params: Mapping[str, Any]) -> Iterator[Instance]:
        for page in self._aws.pages("ec2", "DescribeInstances", params):
            for reservation in page.get("reservationSet") or []:
                for found in reservation.get("instancesSet") or []:
                    if imds.INSTANCE_ID.fullmatch(found["instanceId"]):
                        yield self._instance(found, str(reservation.get("ownerId") or ""))

    def _instance(self, found: Answer, owner: str) -> Instance:
        tags = {tag["key"]: tag.get("value") or "" for tag in found.get("tagSet") or []}
        region = self._aws.region
        partition = next((name for prefix, name in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")) if region.startswith(prefix)), "aws")
        return Instance(
            id=found["instanceId"],
            state=str((found.get("instanceState") or {}).get("name") or ""),
            zone=str((found.get("placement") or {}).get("availabilityZone") or ""),
            arn=f"arn:{partition}:ec2:{region}:{owner}:instance/{found['instanceId']}",
            group=tags.get(GROUP_OF_INSTANCE, ""),
            cluster_id=tags.get(CLUSTER_ID_TAG, ""),
            launched=_moment(found.get("launchTime")),
            reason=str((found.get("stateReason") or {}).get("code") or ""),
        )

    def evidence(self, ids: Sequence[str]) -> dict[str, Evidence]:
        """Of those instances that have left any."""
        found = {}
        for start in range(0, len(ids), PARAMETERS_PER_CALL):
            names = [evidence.parameter(self._prefix, name) for name in ids[start : start + PARAMETERS_PER_CALL]]
            for parameter in self._aws.call("ssm", "GetParameters", {"Names": names}).get("Parameters") or []:
                found[str(parameter["Name"]).rpartition("/")[2]] = read_evidence(str(parameter.get("Value") or ""))
        return found

    def left(self) -> frozenset[str]:
        """Instances that have left evidence. Not all at once, and not for ever: an instance that was broken into may write as many names as it likes."""
        pages = self._aws.pages("ssm", "GetParametersByPath", {"Path": f"{self._prefix}/{evidence.FOLDER}", "MaxResults": PARAMETERS_PER_CALL})
        names = (str(parameter["Name"]).rpartition("/")[2] for page in islice(pages, LEFT_AT_ONCE) for parameter in page.get("Parameters") or [])
        try:
            return frozenset(islice(filter(imds.INSTANCE_ID.fullmatch, names), LEFT_AT_ONCE))
        except DeniedError as error:
            remedy = "Run iam.yml again: keeper's policy is older than this right."
            raise DeniedError(error.call, error.code, f"{error.message.rstrip('.')}. {remedy}") from error

    # --- writing ------------------------------------------------------------------------------------------------------------------------

    def parameter(self, instance: str) -> str:
        return f"{self._prefix}/nodes/{instance}"

    def put(self, instance: str, arn: str, value: Encoded) -> None:
        """Never over one that is there: a parameter keeps the tags that it was made with, and they say who may read it."""
        tags = [{"Key": CLUSTER_ID_TAG, "Value": self._rules.cluster_id}, {"Key": ARN_TAG, "Value": arn}]
        params = {"Name": self.parameter(instance), "Value": value.text, "Type": "SecureString", "Tier": value.tier, "Tags": tags, "Overwrite": False}
        try:
            self._aws.call("ssm", "PutParameter", params)
        except AwsError as error:
            if error.code == "ParameterAlreadyExists":
                raise ExistsError(error.call, error.code, f"parameter {self.parameter(instance)} is there already") from error
            raise

    def delete(self, instance: str) -> None:
        self._delete(self.parameter(instance))

    def forget_failure(self, instance: str) -> None:
        self._delete(evidence.parameter(self._prefix, instance))

    def _delete(self, parameter: str) -> None:
        try:
            self._aws.call("ssm", "DeleteParameter", {"Name": parameter})
        except NotFoundError:
            return

    def suspend(self, group: str) -> None:
        """No further launch, and nothing else."""
        self._aws.call("autoscaling", "SuspendProcesses", {"AutoScalingGroupName": group, "ScalingProcesses": [LAUNCH]})

    def resume(self, group: str) -> None:
        self._aws.call("autoscaling", "ResumeProcesses", {"AutoScalingGroupName": group, "ScalingProcesses": [LAUNCH]})

    def keep(self, instance: str, group: str, until: str) -> None:
        """No instance comes in its place. Tagged when it is out: one that its group still has may be ended at any time, whatever its tag says."""
        params = {"AutoScalingGroupName": group, "InstanceIds": [instance], "ShouldDecrementDesiredCapacity": True}
        try:
            self._aws.call("autoscaling", "DetachInstances", params, attempts=1)
        except AwsError as error:
            if error.code != "ValidationError" or "is not part of" not in error.message:
                raise
        self._aws.call("ec2", "CreateTags", {"Resources": [instance], "Tags": [{"Key": KEPT_TAG, "Value": until}]})

    def end(self, instance: str) -> None:
        try:
            self._aws.call("ec2", "TerminateInstances", {"InstanceIds": [instance]})
        except NotFoundError:
            return

    def tell_address(self, instance: str, address: str) -> None:
        self._aws.call("ec2", "CreateTags", {"Resources": [instance], "Tags": [{"Key": ADDRESS_TAG, "Value": address}]})


def _key_of(source: Source) -> str:
    try:
        return source().access_key
    except Exception:  # the call itself says what is wrong with them
        return ""


def _moment(text: object) -> float:
    """As EC2 writes it."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0
