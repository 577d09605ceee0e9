"""Auto Scaling where moto's falls short: launches that can fail, activities, suspended processes, states that take time.

Takes over three methods of moto's groups (how many instances there shall be, how one is launched, what an update changes) and of its
backend (what TerminateInstances and StopInstances mean to a group). Everything else is moto's.
Sources: EC2 Auto Scaling User Guide ("Suspend and resume processes", "Troubleshoot ... instance launch failures"), API reference.
"""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError
from moto.autoscaling.models import ASG_NAME_TAG, AutoScalingBackend, FakeAutoScalingGroup, InstanceState, autoscaling_backends
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES
from moto.ec2.models.instances import StateReason
from moto.ec2.utils import convert_tag_spec, filter_iam_instance_profiles

from lab.cloud.faults import Faults, Settings

#: Types that AWS has retired and that moto's catalogue no longer has: vCPUs, for the quota.
RETIRED_VCPUS = {"f1.2xlarge": 8, "f1.4xlarge": 16, "f1.16xlarge": 64}
#: The vCPU quotas that FPGA types count against: on-demand, spot. Source: Service Quotas, service code ec2.
QUOTAS = {"f": ("L-74FC7D96", "L-88CF9481"), "g": ("L-DB2E81BA", "L-3819A6DF"), "vt": ("L-DB2E81BA", "L-3819A6DF")}
LIVE = ("Pending", "InService")
#: StateReason's code of what EC2 took back. Source: EC2 API reference, StateReason.
INTERRUPTED = "Server.SpotInstanceTermination"
NOT_RUNNING = "an instance was taken out of service in response to an EC2 health check indicating it has been terminated or stopped"


class Clock:
    """The time, and how far the lab has been moved ahead of it."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds

    def restart(self) -> None:
        self._ahead = 0.0

    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now(), timezone.utc)


@dataclass
class Activity:
    group: str
    group_arn: str
    description: str
    cause: str
    status: str  # Successful | Failed
    message: str
    moment: datetime
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def as_answer(self) -> dict[str, Any]:
        return {
            "ActivityId": self.id,
            "AutoScalingGroupName": self.group,
            "AutoScalingGroupARN": self.group_arn,
            "Description": self.description,
            "Cause": self.cause,
            "StartTime": self.moment,
            "EndTime": self.moment,
            "StatusCode": self.status,
            **({"StatusMessage": self.message} if self.message else {}),
            "Progress": 100,
            "Details": "{}",
        }


@dataclass(frozen=True)
class Due:
    """Something that happens to an instance when its time has come."""

    at: float
    kind: str  # running | terminated | forgotten
    instance: Any


@dataclass(frozen=True)
class Offer:
    """One way in which a group may get an instance."""

    instance_type: str
    spot: bool
    zone: str


class Groups:
    """Installed once a process; `settings` is asked anew for each decision."""

    def __init__(self, faults: Faults, settings: Callable[[], Settings], clock: Clock) -> None:
        self._faults = faults
        self._settings = settings
        self._clock = clock
        self._activities: dict[tuple[str, str], list[Activity]] = {}
        self._retry_at: dict[str, float] = {}
        self._due: list[Due] = []

    def reset(self) -> None:
        self._activities.clear()
        self._retry_at.clear()
        self._due.clear()

    # ---- time

    def advance(self) -> None:
        """What has come due since the last call, and new tries to launch what could not be launched."""
        now = self._clock.now()
        for due in [entry for entry in self._due if entry.at <= now]:
            self._due.remove(due)
            getattr(self, f"_{due.kind}")(due.instance)
        for group in all_groups():
            if self._retry_at.get(group.arn, math.inf) <= now:
                self.settle(group)

    def retry(self) -> None:
        """At once: a fault was lifted, a quota raised."""
        for group in all_groups():
            if group.arn in self._retry_at:
                self.settle(group)

    def _running(self, instance: Any) -> None:
        if instance.state == "pending":
            instance._state.name, instance._state.code = "running", 16
            for state in group_states(instance):
                state.lifecycle_state = "InService"

    def _terminated(self, instance: Any) -> None:
        said = instance.state_reason
        EC2_TERMINATE(instance.ec2_backend, [instance.id])
        if said.code == INTERRUPTED:
            instance.state_reason = said
        for group in all_groups():
            group.instance_states = [state for state in group.instance_states if state.instance is not instance or state.lifecycle_state != "Terminating"]
        self._due.append(Due(self._clock.now() + self._settings().forget_seconds, "forgotten", instance))

    @staticmethod
    def _forgotten(instance: Any) -> None:
        backend = instance.ec2_backend
        for reservation in list(backend.reservations.values()):
            reservation.instances = [other for other in reservation.instances if other is not instance]
            if not reservation.instances:
                del backend.reservations[reservation.id]

    # ---- how many instances

    def settle(self, group: Any) -> None:
        """Launch or terminate until there are as many as desired, as far as that is possible now."""
        self._retry_at.pop(group.arn, None)
        live = [state for state in group.instance_states if state.lifecycle_state in LIVE and state.health_status == "Healthy"]
        surplus = len(live) - (group.desired_capacity or 0)
        if surplus > 0 and "Terminate" not in suspended(group):
            oldest = [state for state in live if not state.protected_from_scale_in][:surplus]
            for state in oldest:
                self.end(group, state, "an instance was taken out of service in response to a difference between desired and actual capacity")
        for _ in range(-surplus):
            if "Launch" in suspended(group) or not self._launch_one(group):
                break

    def end(self, group: Any, state: Any, cause: str) -> None:
        self._record(group, f"Terminating EC2 instance: {state.instance.id}", cause, "Successful")
        state.lifecycle_state = "Terminating"
        self.terminate(state.instance)

    def terminate(self, instance: Any) -> None:
        seconds = self._settings().shutdown_seconds
        if instance.state in ("shutting-down", "terminated"):
            return
        self._due = [due for due in self._due if due.instance is not instance]
        if seconds <= 0:
            self._terminated(instance)
        else:
            instance._state.name, instance._state.code = "shutting-down", 32
            self._due.append(Due(self._clock.now() + seconds, "terminated", instance))

    def interrupt(self, instance_id: str) -> None:
        """EC2 takes a spot instance back, and says so for as long as it is described."""
        found = next((one for one in all_instances() if one.id == instance_id), None)
        if found is None or found.state in ("shutting-down", "terminated"):
            return
        found.state_reason = StateReason(f"{INTERRUPTED}: Spot instance termination", INTERRUPTED)
        self.terminate(found)
        self.instances_ended([instance_id])

    # ---- one launch

    def _launch_one(self, group: Any) -> bool:
        """False when no way of getting an instance is open; that is recorded and tried again later."""
        cause = f"an instance was started in response to a difference between desired and actual capacity, increasing the capacity to {group.desired_capacity}"
        template, gone = template_version(group)
        problem = gone
        if not gone:
            for offer in self._offers(group, template):
                problem = self._obstacle(group, offer)
                if problem:
                    continue
                try:
                    instance = self._run(group, template, offer)
                except ServiceException as error:  # what moto finds wrong with the template, AWS finds at launch, too
                    problem = str(error.message)
                    break
                self._record(group, f"Launching a new EC2 instance: {instance.id}", cause, "Successful")
                return True
        self._record(group, "Launching a new EC2 instance", cause, "Failed", f"{problem} Launching EC2 instance failed.")
        self._retry_at[group.arn] = self._clock.now() + self._settings().retry_seconds
        return False

    @staticmethod
    def _offers(group: Any, template: Any | None) -> Iterator[Offer]:
        """Types of a mixed policy in their order, each in the zones that hold fewest of the group's instances first."""
        live = [state for state in group.instance_states if state.lifecycle_state in LIVE]
        zones = sorted(group.availability_zones, key=lambda zone: sum(state.availability_zone == zone for state in live))
        types, spot = [group.instance_type], False
        if group.mixed_instances_policy:
            overrides = group.mixed_instances_policy["LaunchTemplate"].get("Overrides") or []
            types = [override["InstanceType"] for override in overrides if override.get("InstanceType")] or types
            distribution = group.mixed_instances_policy.get("InstancesDistribution") or {}
            base = int(distribution.get("OnDemandBaseCapacity", 0))
            percent = int(distribution.get("OnDemandPercentageAboveBaseCapacity", 100))
            on_demand = base + math.ceil(max(0, (group.desired_capacity or 0) - base) * percent / 100)
            spot = sum(state.instance.lifecycle != "spot" for state in live) >= on_demand
        elif template is not None:
            spot = ((template.data.get("InstanceMarketOptions") or {}).get("MarketType")) == "spot"
        elif group.launch_config:
            spot = bool(group.launch_config.spot_price)
        return (Offer(instance_type, spot, zone) for instance_type in types for zone in zones)

    def _obstacle(self, group: Any, offer: Offer) -> str:
        """Why this can't be launched now, in AWS's words; "" if it can."""
        failed = f"Could not launch {'Spot' if offer.spot else 'On-Demand'} Instances."
        if offer.zone not in zones_of(offer.instance_type, group.region):
            others = ", ".join(sorted(offered_zones(offer.instance_type, group.region)))
            return (
                f"{failed} Unsupported - Your requested instance type ({offer.instance_type}) is not supported in your requested Availability Zone "
                f"({offer.zone}). Please retry your request by not specifying an Availability Zone or choosing {others}."
            )
        free = self._faults.capacity(offer.instance_type, offer.zone)
        if free is not None and free < 1:
            return (
                f"{failed} InsufficientInstanceCapacity - We currently do not have sufficient {offer.instance_type} capacity in the Availability Zone "
                f"you requested ({offer.zone}). Our system will be working on provisioning additional capacity."
            )
        quota = QUOTAS.get(family(offer.instance_type))
        granted = self._settings().quotas.get(quota[offer.spot], math.inf) if quota else math.inf
        if quota and self._vcpus_in_use(group, quota, offer.spot) + vcpus(offer.instance_type) > granted:
            return (
                f"{failed} VcpuLimitExceeded - You have requested more vCPU capacity than your current vCPU limit of {granted:g} allows for the instance "
                "bucket that the specified instance type belongs to. "
                "Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
            )
        return ""

    @staticmethod
    def _vcpus_in_use(group: Any, quota: tuple[str, str], spot: bool) -> int:
        return sum(
            vcpus(instance.instance_type)
            for reservation in group.ec2_backend.reservations.values()
            for instance in reservation.instances
            if QUOTAS.get(family(instance.instance_type)) == quota and (instance.lifecycle == "spot") == spot and instance.state in ("pending", "running")
        )

    def _run(self, group: Any, template: Any | None, offer: Offer) -> Any:
        data = template.data if template is not None else {}
        tags = convert_tag_spec(data.get("TagSpecifications") or [])
        interfaces = data.get("NetworkInterfaces") or []
        security_groups = [*(data.get("SecurityGroupIds") or []), *(group_id for interface in interfaces for group_id in interface.get("Groups") or [])]
        backend = group.ec2_backend
        named = profile_of(group, data)
        if named:
            filter_iam_instance_profiles(group.account_id, partition="aws", **named)  # raises where there is none
        reservation = backend.run_instances(
            group.image_id,
            1,
            group.user_data,
            group.security_groups,
            region_name=group.region,
            instance_type=offer.instance_type,
            is_instance_type_default=False,
            placement=offer.zone,
            subnet_id=subnet_in(group, offer.zone),
            security_group_ids=security_groups,
            associate_public_ip=group.launch_config.associate_public_ip_address if group.launch_config else None,
            launch_config=group.launch_config,
            launch_template={"LaunchTemplateId": template.template.id, "Version": str(template.number)} if template is not None else None,
            metadata_options=data.get("MetadataOptions") or {},
            instance_initiated_shutdown_behavior=data.get("InstanceInitiatedShutdownBehavior"),
            lifecycle="spot" if offer.spot else None,
            tags={"instance": {**tags.get("instance", {}), **group.get_propagated_tags(), ASG_NAME_TAG: group.name}, "volume": tags.get("volume", {})},
        )
        (instance,) = reservation.instances
        self._finish(instance, data, tags.get("network-interface", {}))
        if named:
            backend.associate_iam_instance_profile(instance_id=instance.id, **named)
        self._faults.launched(offer.instance_type, offer.zone)
        self._begin(group, instance)
        return instance

    @staticmethod
    def _finish(instance: Any, data: Any, interface_tags: dict[str, str]) -> None:
        """What EC2 gives an instance and moto doesn't: interfaces and disks that go with it, tags on interfaces, one root disk."""
        backend = instance.ec2_backend
        said = {mapping.get("DeviceName"): (mapping.get("Ebs") or {}).get("DeleteOnTermination") for mapping in data.get("BlockDeviceMappings") or []}
        mapped = set()
        for name, device in instance.block_device_mapping.items():
            device.delete_on_termination = said.get(name) is not False
            mapped.add(device.volume_id)
        for volume in list(backend.volumes.values()):
            if volume.attachment is not None and volume.attachment.instance is instance and volume.id not in mapped:
                volume.attachment = None
                del backend.volumes[volume.id]
        for interface in instance.nics.values():
            interface.delete_on_termination = True
            interface.add_tags(interface_tags)

    def _begin(self, group: Any, instance: Any) -> None:
        instance.autoscaling_group = group
        state = InstanceState(instance, protected_from_scale_in=group.new_instances_protected_from_scale_in)
        group.instance_states.append(state)
        seconds = self._settings().pending_seconds
        if seconds > 0:
            instance._state.name, instance._state.code = "pending", 0
            state.lifecycle_state = "Pending"
            self._due.append(Due(self._clock.now() + seconds, "running", instance))

    def _record(self, group: Any, description: str, cause: str, status: str, message: str = "") -> None:
        moment = self._clock.moment()
        entry = Activity(group.name, group.arn, description, f"At {moment:%Y-%m-%dT%H:%M:%SZ} {cause}.", status, message, moment)
        self._activities.setdefault((group.account_id, group.region), []).insert(0, entry)

    # ---- what moto asks

    def activities(self, account: str, region: str, group: str | None) -> list[dict[str, Any]]:
        """Newest first, as AWS lists them."""
        return [entry.as_answer() for entry in self._activities.get((account, region), []) if group in (None, entry.group)]

    def instances_ended(self, instance_ids: list[str]) -> None:
        """Somebody terminated instances of groups: the health check finds them, the group replaces them."""
        for group in all_groups():
            for state in [state for state in group.instance_states if state.instance.id in instance_ids]:
                state.health_status = "Unhealthy"
                if not suspended(group) & {"HealthCheck", "ReplaceUnhealthy"}:
                    state.lifecycle_state = "Terminating"
                    self._record(group, f"Terminating EC2 instance: {state.instance.id}", NOT_RUNNING, "Successful")
                    if state.instance.state == "terminated":
                        group.instance_states.remove(state)
                    self.settle(group)

    def instances_stopped(self, instances: list[Any]) -> None:
        """The health check of a group doesn't wait for them to run again."""
        for group in all_groups():
            for state in [state for state in group.instance_states if state.instance in instances and state.lifecycle_state in LIVE]:
                state.health_status = "Unhealthy"
                if not suspended(group) & {"HealthCheck", "ReplaceUnhealthy"}:
                    self.end(group, state, NOT_RUNNING)
                    self.settle(group)

    def terminate_in_group(self, backend: Any, instance_id: str, decrement: bool) -> Activity:
        """TerminateInstanceInAutoScalingGroup."""
        found = next(
            ((group, state) for group in backend.autoscaling_groups.values() for state in group.instance_states if state.instance.id == instance_id), None
        )
        if found is None or found[1].lifecycle_state not in (*LIVE, "Standby"):
            raise AutoscalingClientError("ValidationError", f"Instance Id not found - No managed instance found for instance ID: {instance_id}")
        group, state = found
        if decrement and group.desired_capacity <= group.min_size:
            raise AutoscalingClientError(
                "ValidationError",
                f"Currently, desiredSize equals minSize ({group.min_size}). Terminating instance without replacement will violate group's min size constraint. "
                "Either set shouldDecrementDesiredCapacity flag to false or lower group's min size.",
            )
        if decrement:
            group.desired_capacity -= 1
        shrinking = f", shrinking the capacity from {group.desired_capacity + 1} to {group.desired_capacity}" if decrement else ""
        self.end(group, state, f"instance {instance_id} was taken out of service in response to a user request{shrinking}")
        self.settle(group)
        return next(entry for entry in self._activities[group.account_id, group.region] if entry.description.endswith(instance_id))

    def detach(self, group: Any, instance_ids: list[str], decrement: bool) -> list[Activity]:
        """DetachInstances: they run on, on their own; all of them, or none."""
        found = {state.instance.id: state for state in group.instance_states if state.lifecycle_state in ("InService", "Standby")}
        for instance_id in instance_ids:
            if instance_id not in found:
                raise AutoscalingClientError("ValidationError", f"The instance {instance_id} is not part of Auto Scaling group {group.name}.")
        if decrement and group.desired_capacity - len(instance_ids) < group.min_size:
            raise AutoscalingClientError(
                "ValidationError",
                f"AutoScalingGroup {group.name} has min-size={group.min_size}, max-size={group.max_size}, and desired-size={group.desired_capacity}. To detach "
                f"{len(instance_ids)} instance(s) with ShouldDecrementDesiredCapacity, please update the AutoScalingGroup sizes appropriately.",
            )
        for instance_id in instance_ids:
            instance = found[instance_id].instance
            group.instance_states.remove(found[instance_id])
            instance.ec2_backend.delete_tags([instance_id], {ASG_NAME_TAG: group.name})
            instance.autoscaling_group = None
            group.desired_capacity -= int(decrement)
            self._record(group, f"Detaching EC2 instance: {instance_id}", f"instance {instance_id} was detached in response to a user request", "Successful")
        self.settle(group)
        return self._activities[group.account_id, group.region][: len(instance_ids)]


# ---- facts about moto's objects


def everywhere(accounts: Any) -> Iterator[Any]:
    """A service's backends, of each account and region that there is."""
    for account in list(accounts.values()):
        yield from list(account.values())


def all_groups() -> Iterator[Any]:
    return (group for backend in everywhere(autoscaling_backends) for group in list(backend.autoscaling_groups.values()))


def all_instances() -> Iterator[Any]:
    return (instance for backend in everywhere(ec2_backends) for reservation in backend.reservations.values() for instance in reservation.instances)


def group_states(instance: Any) -> Iterator[Any]:
    return (state for group in all_groups() for state in group.instance_states if state.instance is instance)


def suspended(group: Any) -> set[str]:
    return {process["ProcessName"] for process in group.suspended_processes}


def template_version(group: Any) -> tuple[Any | None, str]:
    """The launch template's version that the next instance is made of, or why there is none."""
    template = group.ec2_launch_template
    if template is None:
        return None, ""
    if template.id not in group.ec2_backend.launch_templates:
        return None, f"The specified launch template, with template ID {template.id}, does not exist."
    try:
        return template.get_version(group.launch_template_version), ""
    except Exception:  # moto's own error
        return None, f"The specified launch template version, {group.launch_template_version}, for template ID {template.id} does not exist."


def profile_of(group: Any, data: Mapping[str, Any]) -> dict[str, str | None]:
    """The instance profile as moto's functions want it; empty for none."""
    profile = data.get("IamInstanceProfile") or {}
    if group.launch_config and (given := group.launch_config.iam_instance_profile):
        profile = {"Arn" if given.startswith("arn:") else "Name": given}
    return {"iam_instance_profile_name": profile.get("Name"), "iam_instance_profile_arn": profile.get("Arn")} if any(profile.values()) else {}


def subnet_in(group: Any, zone: str) -> str | None:
    """The group's subnet there, or the VPC's default one."""
    named = [name for name in (group.vpc_zone_identifier or "").split(",") if name]
    subnets = group.ec2_backend.describe_subnets(subnet_ids=named) if named else group.ec2_backend.describe_subnets(filters={"default-for-az": "true"})
    return next((str(subnet.id) for subnet in subnets if subnet.availability_zone == zone), None)


def family(instance_type: str) -> str:
    """The letters that quotas go by: f2.6xlarge is of f, vt1.3xlarge of vt."""
    match = re.match(r"[a-z]+", instance_type)
    return match[0] if match else ""


def vcpus(instance_type: str) -> int:
    known = INSTANCE_TYPES.get(instance_type)
    return int(known["VCpuInfo"]["DefaultVCpus"]) if known else RETIRED_VCPUS.get(instance_type, 0)


@cache
def offered_zones(instance_type: str, region: str) -> frozenset[str]:
    return frozenset(offer["Location"] for offer in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, []) if offer["InstanceType"] == instance_type)


class _Everywhere:
    def __contains__(self, zone: object) -> bool:
        return True


def zones_of(instance_type: str, region: str) -> frozenset[str] | _Everywhere:
    """Zones that have the type. A type that moto's catalogue doesn't know at all (f1.*) launches everywhere."""
    return offered_zones(instance_type, region) if instance_type in INSTANCE_TYPES else _Everywhere()


# ---- installation

EC2_TERMINATE = EC2Backend.terminate_instances
EC2_STOP = EC2Backend.stop_instances


def install(groups: Groups) -> Callable[[], None]:
    """Puts the engine under moto's groups; returns what takes it out again."""

    def set_desired_capacity(group: Any, new_capacity: int | None) -> None:
        group.desired_capacity = group.min_size if new_capacity is None else new_capacity
        groups.settle(group)

    def update(group: Any, **values: Any) -> None:
        """What isn't sent stays; a minimum above or a maximum below the desired capacity moves that."""
        group._set_azs_and_vpcs(values["availability_zones"], values["vpc_zone_identifier"], update=True)
        started_from = values["launch_config_name"], values["launch_template"], values["mixed_instances_policy"]
        if any(started_from):
            group.launch_config, group.launch_configuration_name, group.ec2_launch_template = None, None, None
            group.mixed_instances_policy = values["mixed_instances_policy"]
            group._set_launch_configuration(*started_from)
        for attribute, value in (
            ("min_size", values["min_size"]),
            ("max_size", values["max_size"]),
            ("health_check_grace_period", values["health_check_period"]),
            ("health_check_type", values["health_check_type"]),
            ("new_instances_protected_from_scale_in", values["new_instances_protected_from_scale_in"]),
        ):
            if value is not None:
                setattr(group, attribute, value)
        desired = values["desired_capacity"]
        group.desired_capacity = min(max(group.desired_capacity, group.min_size), group.max_size) if desired is None else desired
        groups.settle(group)

    def describe_scaling_activities(response: BaseResponse) -> ActionResult:
        name = response._get_param("AutoScalingGroupName")
        if name and name not in autoscaling_backends[response.current_account][response.region].autoscaling_groups:
            raise AutoscalingClientError("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
        found = groups.activities(response.current_account, response.region, name)
        wanted = response._get_param("ActivityIds", [])
        found = [entry for entry in found if not wanted or entry["ActivityId"] in wanted]
        start = int(response._get_param("NextToken") or 0)
        end = start + (response._get_int_param("MaxRecords") or 100)
        return ActionResult({"Activities": found[start:end], **({"NextToken": str(end)} if end < len(found) else {})})

    def terminate_instance_in_auto_scaling_group(response: Any) -> ActionResult:
        decrement = response._get_bool_param("ShouldDecrementDesiredCapacity", False)
        activity = groups.terminate_in_group(response.autoscaling_backend, response._get_param("InstanceId"), decrement)
        return ActionResult({"Activity": activity.as_answer()})

    def detach_instances(response: Any) -> ActionResult:
        name = response._get_param("AutoScalingGroupName")
        group = response.autoscaling_backend.autoscaling_groups.get(name)
        if group is None:
            raise AutoscalingClientError("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
        decrement = response._get_bool_param("ShouldDecrementDesiredCapacity", False)
        activities = groups.detach(group, response._get_param("InstanceIds", []), decrement)
        return ActionResult({"Activities": [activity.as_answer() for activity in activities]})

    def terminate_instances(backend: Any, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        before = [(instance, type(instance._state)(instance.state, instance.state_code)) for instance in backend.get_multi_instances_by_id(instance_ids)]
        if not before or any(instance.disable_api_termination is True for instance, _state in before):
            refused: list[tuple[Any, Any]] = EC2_TERMINATE(backend, instance_ids)  # moto's own refusal
            return refused
        for instance, _state in before:
            groups.terminate(instance)
        return before

    def stop_instances(backend: Any, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        stopped: list[tuple[Any, Any]] = EC2_STOP(backend, instance_ids)
        groups.instances_stopped([instance for instance, _before in stopped])
        return stopped

    def notify_terminate_instances(_backend: Any, instance_ids: list[str]) -> None:
        groups.instances_ended(instance_ids)

    return patched(
        (FakeAutoScalingGroup, "set_desired_capacity", set_desired_capacity),
        (FakeAutoScalingGroup, "update", update),
        (AutoScalingBackend, "notify_terminate_instances", notify_terminate_instances),
        (AutoScalingResponse, "describe_scaling_activities", describe_scaling_activities),
        (AutoScalingResponse, "terminate_instance_in_auto_scaling_group", terminate_instance_in_auto_scaling_group),
        (AutoScalingResponse, "detach_instances", detach_instances),
        (EC2Backend, "terminate_instances", terminate_instances),
        (EC2Backend, "stop_instances", stop_instances),
    )


def patched(*changes: tuple[type, str, Any]) -> Callable[[], None]:
    """Replaces methods; returns what puts the old ones back."""
    before = [(owner, name, owner.__dict__.get(name)) for owner, name, _new in changes]
    for owner, name, new in changes:
        setattr(owner, name, new)

    def restore() -> None:
        for owner, name, old in before:
            if old is None:
                delattr(owner, name)
            else:
                setattr(owner, name, old)

    return restore
