# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of AWS in memory, in the place of the one class that talks to it. As unkind as AWS' API allows: it sorts, adds, refuses and forgets."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import shipped_types
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import Cloud, CloudError

ACCOUNT = "123456789012"
REGION = "us-east-1"
IMAGE = "ami-0d0d0d0d0d0d0d0d1"
ZONES = tuple(f"{REGION}{letter}" for letter in "abc")


class FakeAws(Cloud):
    """asked: every call. before: what happens once, right before a call of that name."""

    def __init__(self) -> None:
        super().__init__(module=None, region=REGION)
        self.groups_there: dict[str, dict[str, Any]] = {}
        self.templates_there: dict[str, dict[str, Any]] = {}
        self.configurations: dict[str, dict[str, Any]] = {}
        self.subnets_there = {f"subnet-{number}{'0' * 16}": zone for number, zone in enumerate(ZONES)}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.before: dict[str, Callable[[], None]] = {}
        self.refuses: dict[str, CloudError] = {}
        self._ids = itertools.count(1)

    def prepare(self, *services: str) -> None:
        pass

    def ask(self, service: str, operation: str, parameters: Any) -> dict[str, Any]:
        self.asked.append((operation, copy.deepcopy(dict(parameters))))
        self.before.pop(operation, lambda: None)()
        if operation in self.refuses:
            raise self.refuses[operation]
        answer: dict[str, Any] = getattr(self, operation)(**copy.deepcopy(dict(parameters))) or {}
        return copy.deepcopy(answer)

    @property
    def writes(self) -> list[str]:
        return [operation for operation, _parameters in self.asked if not operation.startswith(("Describe", "Get"))]

    def start(self, group: str, number: int) -> None:
        """What the autoscaler does."""
        self._resize(self.groups_there[group], number)

    def tags(self, group: str) -> dict[str, str]:
        return {tag["Key"]: tag["Value"] for tag in self.groups_there[group]["Tags"]}

    # --- Auto Scaling

    def DescribeAutoScalingGroups(self, AutoScalingGroupNames=(), Filters=(), MaxRecords=50, NextToken="0"):
        assert MaxRecords <= 100
        found = [group for name, group in sorted(self.groups_there.items()) if not AutoScalingGroupNames or name in AutoScalingGroupNames]
        for one in Filters:
            key = one["Name"].removeprefix("tag:")
            found = [group for group in found if any(tag["Key"] == key and tag["Value"] in one["Values"] for tag in group["Tags"])]
        shown = [{**group, "Tags": sorted(group["Tags"], key=lambda tag: tag["Key"])} for group in found]
        return self._page("AutoScalingGroups", shown, NextToken)

    def CreateAutoScalingGroup(self, AutoScalingGroupName, MinSize, MaxSize, Tags, VPCZoneIdentifier="", AvailabilityZones=(), **launch):
        if AutoScalingGroupName in self.groups_there:
            raise CloudError("already there", "AlreadyExists")
        assert len(Tags) <= 25
        zones = AvailabilityZones or [self.subnets_there[subnet] for subnet in VPCZoneIdentifier.split(",")]
        group = {
            "AutoScalingGroupName": AutoScalingGroupName,
            "AutoScalingGroupARN": f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:1:autoScalingGroupName/{AutoScalingGroupName}",
            "MinSize": MinSize,
            "MaxSize": MaxSize,
            "AvailabilityZones": sorted(zones),
            "VPCZoneIdentifier": VPCZoneIdentifier,
            "SuspendedProcesses": [],
            "Instances": [],
            "Tags": Tags,
            "DefaultCooldown": 300,
        }
        self._launch(group, launch)
        self._resize(group, MinSize)
        self.groups_there[AutoScalingGroupName] = group

    def UpdateAutoScalingGroup(self, AutoScalingGroupName, MinSize=None, MaxSize=None, VPCZoneIdentifier=None, AvailabilityZones=None, **launch):
        group = self.groups_there[AutoScalingGroupName]
        group["MinSize"] = group["MinSize"] if MinSize is None else MinSize
        group["MaxSize"] = group["MaxSize"] if MaxSize is None else MaxSize
        assert group["MinSize"] <= group["MaxSize"]
        if VPCZoneIdentifier:
            group |= {"VPCZoneIdentifier": VPCZoneIdentifier, "AvailabilityZones": sorted(self.subnets_there[one] for one in VPCZoneIdentifier.split(","))}
        elif AvailabilityZones:
            assert not group["VPCZoneIdentifier"], "AWS takes no group out of its subnets"
            group["AvailabilityZones"] = sorted(AvailabilityZones)
        if launch:
            for name in ("LaunchTemplate", "MixedInstancesPolicy", "LaunchConfigurationName"):
                group.pop(name, None)
            self._launch(group, launch)
        self._resize(group, min(max(group["DesiredCapacity"], group["MinSize"]), group["MaxSize"]))

    def DeleteAutoScalingGroup(self, AutoScalingGroupName, ForceDelete=False):
        if self.groups_there[AutoScalingGroupName]["Instances"] and not ForceDelete:
            raise CloudError("there are instances", "ResourceInUse")
        del self.groups_there[AutoScalingGroupName]

    def SuspendProcesses(self, AutoScalingGroupName, ScalingProcesses):
        suspended = self.groups_there[AutoScalingGroupName]["SuspendedProcesses"]
        suspended += [
            {"ProcessName": name, "SuspensionReason": "User suspended"} for name in ScalingProcesses if name not in [one["ProcessName"] for one in suspended]
        ]

    def CreateOrUpdateTags(self, Tags):
        assert 1 <= len(Tags) <= 25
        for tag in Tags:
            group = self.groups_there[tag["ResourceId"]]
            group["Tags"] = [one for one in group["Tags"] if one["Key"] != tag["Key"]] + [tag]
            assert len(group["Tags"]) <= 50

    def DeleteTags(self, Tags):
        assert 1 <= len(Tags) <= 25
        for tag in Tags:
            group = self.groups_there[tag["ResourceId"]]
            group["Tags"] = [one for one in group["Tags"] if one["Key"] != tag["Key"]]

    def DescribeLaunchConfigurations(self, LaunchConfigurationNames=(), MaxRecords=50):
        return {"LaunchConfigurations": [self.configurations[name] for name in LaunchConfigurationNames if name in self.configurations]}

    def CreateLaunchConfiguration(self, LaunchConfigurationName, **content):
        if LaunchConfigurationName in self.configurations:
            raise CloudError("already there", "AlreadyExists")
        self.configurations[LaunchConfigurationName] = {"LaunchConfigurationName": LaunchConfigurationName, "KernelId": "", **content}

    def DeleteLaunchConfiguration(self, LaunchConfigurationName):
        if any(group.get("LaunchConfigurationName") == LaunchConfigurationName for group in self.groups_there.values()):
            raise CloudError("a group uses it", "ResourceInUse")
        del self.configurations[LaunchConfigurationName]

    # --- EC2

    def DescribeLaunchTemplateVersions(self, LaunchTemplateName, MaxResults=15, NextToken="0"):
        assert 1 <= MaxResults <= 200
        template = self._template(LaunchTemplateName)
        shown = []
        for number, version in sorted(template["versions"].items(), reverse=True):
            data = copy.deepcopy(version["data"])
            for specification in data["TagSpecifications"]:
                specification["Tags"].sort(key=lambda tag: tag["Key"], reverse=True)
            data["TagSpecifications"].reverse()
            data["MetadataOptions"] |= {"State": "applied", "HttpProtocolIpv6": "disabled"}
            data["BlockDeviceMappings"][0]["Ebs"].setdefault("Throughput", 125)
            data |= {"EbsOptimized": False, "CapacityReservationSpecification": {"CapacityReservationPreference": "open"}}
            shown.append(
                {
                    "LaunchTemplateId": template["id"],
                    "VersionNumber": number,
                    "VersionDescription": version["description"],
                    "LaunchTemplateData": data,
                    "DefaultVersion": number == template["default"],
                }
            )
        return self._page("LaunchTemplateVersions", shown, NextToken)

    def CreateLaunchTemplate(self, LaunchTemplateName, VersionDescription, LaunchTemplateData, TagSpecifications):
        if LaunchTemplateName in self.templates_there:
            raise CloudError("already there", "InvalidLaunchTemplateName.AlreadyExistsException")
        (tags,) = TagSpecifications
        assert tags["ResourceType"] == "launch-template"
        template = {"id": f"lt-{next(self._ids)}", "versions": {}, "default": 1, "tags": tags["Tags"]}
        self.templates_there[LaunchTemplateName] = template
        self._version(template, VersionDescription, LaunchTemplateData)
        return {"LaunchTemplate": {"LaunchTemplateId": template["id"], "CreateTime": "now", "LatestVersionNumber": 1}}

    def CreateLaunchTemplateVersion(self, LaunchTemplateName, VersionDescription, LaunchTemplateData):
        number = self._version(self._template(LaunchTemplateName), VersionDescription, LaunchTemplateData)
        return {"LaunchTemplateVersion": {"VersionNumber": number}}

    def ModifyLaunchTemplate(self, LaunchTemplateId, DefaultVersion):
        self._template(LaunchTemplateId)["default"] = int(DefaultVersion)
        return {"LaunchTemplate": {"LatestVersionNumber": 1}}

    def DeleteLaunchTemplateVersions(self, LaunchTemplateId, Versions):
        template = self._template(LaunchTemplateId)
        for number in map(int, Versions):
            assert number != template["default"]
            del template["versions"][number]

    def DescribeLaunchTemplates(self, Filters, MaxResults):
        (one,) = Filters
        wanted = {"Key": one["Name"].removeprefix("tag:"), "Value": one["Values"][0]}
        found = [{"LaunchTemplateId": it["id"], "LaunchTemplateName": name} for name, it in self.templates_there.items() if wanted in it["tags"]]
        return {"LaunchTemplates": found}

    def DeleteLaunchTemplate(self, LaunchTemplateId=None, LaunchTemplateName=None):
        template = self._template(LaunchTemplateId or LaunchTemplateName)
        self.templates_there = {name: one for name, one in self.templates_there.items() if one is not template}

    def DescribeInstanceTypes(self, Filters):
        types = shipped_types()
        return {
            "InstanceTypes": [
                {
                    "InstanceType": name,
                    "VCpuInfo": {"DefaultVCpus": types[name].vcpus},
                    "MemoryInfo": {"SizeInMiB": types[name].memory},
                    "ProcessorInfo": {"SupportedArchitectures": ["i386", "x86_64"]},
                    "FpgaInfo": {"Fpgas": [{"Name": device.name, "Count": device.count} for device in types[name].devices]},
                }
                for name in Filters[0]["Values"]
                if name in types and not types[name].retired
            ]
        }

    def DescribeInstanceTypeOfferings(self, LocationType, Filters):
        return {"InstanceTypeOfferings": [{"InstanceType": name, "Location": zone} for name in Filters[0]["Values"] for zone in ZONES]}

    def DescribeSubnets(self, Filters):
        return {"Subnets": [{"SubnetId": one, "AvailabilityZone": self.subnets_there[one]} for one in Filters[0]["Values"] if one in self.subnets_there]}

    def DescribeImages(self, ImageIds):
        unknown = [one for one in ImageIds if not one.startswith("ami-0d")]
        if unknown:
            raise CloudError(f"The image ids '[{', '.join(unknown)}]' do not exist", "InvalidAMIID.NotFound")
        devices = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8}}]
        return {"Images": [{"ImageId": one, "RootDeviceName": "/dev/xvda", "Architecture": "x86_64", "BlockDeviceMappings": devices} for one in ImageIds]}

    def GetCallerIdentity(self):
        return {"Account": ACCOUNT}

    # --- inside

    def _page(self, key: str, items: list[Any], token: str) -> dict[str, Any]:
        start, size = int(token), 2
        return {key: items[start : start + size], **({"NextToken": str(start + size)} if len(items) > start + size else {})}

    def _template(self, name_or_id: str) -> dict[str, Any]:
        for name, template in self.templates_there.items():
            if name_or_id in (name, template["id"]):
                return template
        raise CloudError("not there", "InvalidLaunchTemplateName.NotFoundException")

    def _version(self, template: dict[str, Any], description: str, data: dict[str, Any]) -> int:
        number: int = max(template["versions"], default=0) + 1
        template["versions"][number] = {"description": description, "data": data}
        return number

    def _launch(self, group: dict[str, Any], launch: dict[str, Any]) -> None:
        """A group shows id and name of its template, whichever was sent, and a mixed policy with what was not said."""
        launch = copy.deepcopy(launch)
        for specification in self._specifications(launch):
            specification["LaunchTemplateId"] = self._template(specification["LaunchTemplateName"])["id"]
            assert int(specification["Version"]) in self._template(specification["LaunchTemplateName"])["versions"]
        if "MixedInstancesPolicy" in launch:
            launch["MixedInstancesPolicy"]["InstancesDistribution"] |= {"OnDemandAllocationStrategy": "prioritized", "SpotInstancePools": 2}
        if "LaunchConfigurationName" in launch:
            assert launch["LaunchConfigurationName"] in self.configurations
        assert len(launch) == 1
        group |= launch

    def _specifications(self, launch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "LaunchTemplate" in launch:
            yield launch["LaunchTemplate"]
        if "MixedInstancesPolicy" in launch:
            yield launch["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]

    def _resize(self, group: dict[str, Any], number: int) -> None:
        group["DesiredCapacity"] = number
        there = group["Instances"]
        there += [{"InstanceId": f"i-{next(self._ids):04}", "LifecycleState": "InService"} for _ in range(number - len(there))]
        del there[number:]
