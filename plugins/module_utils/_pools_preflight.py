# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only AWS can tell before node pools are made: the account, its quotas, the identity's rights, zones, VPC. Reads only.

What node_pool checks itself (images, sizes, tags, ownership of groups) is left to it; it does so before its first write, too.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._iam import Scope, Simulation, policy_of, principal_of, simulations
from ansible_collections.fpga.hybrid.plugins.module_utils._iam_identities import POOLS
from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import RETIRED, InstanceType
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import CLUSTER_ID_TAG, Pool
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_checks import placement_problems
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import DENIED, Cloud, CloudError, at_once
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

Ask = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any]]

#: vCPU quotas of EC2 by the letters of a type's family: on-demand, spot. Each with its name in Service Quotas (service code ec2).
_STANDARD = (
    ("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"),
    ("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests"),
)
_GRAPHICS = (("L-DB2E81BA", "Running On-Demand G and VT instances"), ("L-3819A6DF", "All G and VT Spot Instance Requests"))
QUOTAS: Mapping[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "f": (("L-74FC7D96", "Running On-Demand F instances"), ("L-88CF9481", "All F Spot Instance Requests")),
    "g": _GRAPHICS,
    "vt": _GRAPHICS,
    **dict.fromkeys("acdhimrtz", _STANDARD),
}
SIMULATION, DRY_RUNS, ROOT = "iam:SimulatePrincipalPolicy", "dry runs", "the root user, who may do everything"


# ---- quotas: pure


@dataclass(frozen=True)
class QuotaNeed:
    """vCPUs that the pools may take together of one quota. granted None: AWS didn't tell."""

    code: str
    name: str
    needed: int
    pools: tuple[str, ...]
    granted: float | None = None

    def problem(self, region: str) -> Problem | None:
        if self.granted is None or self.granted >= self.needed:
            return None
        return Problem(
            "",
            "cluster_node_pools",
            f"{self.needed} vCPUs needed by {', '.join(self.pools)}, {self.granted:g} granted by quota {self.name} ({self.code}) in {region}",
            "a quota that all pools at their max_size fit into, since a larger instance is refused at the moment that a job waits for it",
            f"{self.needed} needed, {self.granted:g} granted: lower max_size or request {self.needed} (Service Quotas, Amazon EC2; takes AWS about a day).",
        )


def quota_needs(pools: Sequence[Pool], types: Mapping[str, InstanceType]) -> tuple[list[QuotaNeed], list[str]]:
    """What to ask for, and names of types whose quota isn't known here."""
    vcpus: dict[tuple[str, str], int] = {}
    users: dict[tuple[str, str], list[str]] = {}
    unknown = []
    for pool in pools:
        quota = QUOTAS.get(_family(pool.instance_type))
        if quota is None:
            unknown.append(pool.instance_type)
            continue
        largest = max(types[name].vcpus for name in pool.instance_types)
        for which, count in zip(quota, _markets(pool)):
            if count:
                vcpus[which] = vcpus.get(which, 0) + count * largest
                users.setdefault(which, []).append(pool.name)
    return [QuotaNeed(code, name, needed, tuple(users[code, name])) for (code, name), needed in vcpus.items()], unknown


def _markets(pool: Pool) -> tuple[int, int]:
    """How many instances of the pool may be on-demand, and how many spot."""
    if pool.mixed is None:
        return (0, pool.max_size) if pool.spot else (pool.max_size, 0)
    percentage = pool.mixed.on_demand_percentage
    if percentage is None:
        percentage = 0 if pool.spot else 100
    base = min(pool.mixed.on_demand_base, pool.max_size)
    on_demand = base + math.ceil((pool.max_size - base) * percentage / 100)
    return on_demand, pool.max_size - on_demand


def _family(instance_type: str) -> str:
    match = re.match(r"[a-z]+", instance_type)
    return match[0] if match else ""


# ---- rights: pure


def missing_actions(results: Iterable[tuple[Simulation, Sequence[Mapping[str, Any]]]]) -> list[str]:
    """Actions that are not allowed, each with the kind of resource that they are not allowed on."""
    missing = {
        f"{result['EvalActionName']} on {simulation.resource}" if simulation.resource != "*" else str(result["EvalActionName"])
        for simulation, evaluated in results
        for result in evaluated
        if result["EvalDecision"] != "allowed"
    }
    return sorted(missing)


def rights_problem(arn: str, missing: Sequence[str], asked_by: str) -> Problem:
    return Problem(
        "",
        "AWS identity",
        f"{arn} lacks {', '.join(missing)} (asked by {asked_by})",
        "every action of policy pools",
        "Playbook iam writes that policy: have it attached to this identity, or take the identity that has it.",
    )


# ---- asking


@dataclass
class Result:
    account: str
    arn: str
    vpc_id: str = ""
    quotas: list[QuotaNeed] = field(default_factory=list)
    asked_by: str = ""
    not_asked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "account": self.account,
            "arn": self.arn,
            "vpc_id": self.vpc_id,
            "quotas": [asdict(quota) for quota in self.quotas],
            "rights_asked_by": self.asked_by,
            "rights_not_asked": self.not_asked,
            "notes": self.notes,
        }


class Preflight:
    """security_group: name of the one that the pools share, "" where they bring their own. account: the only right one, "" for any."""

    def __init__(self, cloud: Cloud, scope: Scope, pools: Sequence[Pool], *, account: str = "", security_group: str = "") -> None:
        self._cloud, self._ask, self._scope, self._pools = cloud, cloud.ask, scope, pools
        self._account, self._security_group = account, security_group
        self._types: Mapping[str, InstanceType] = {}

    def run(self) -> Result:
        """Everything that is wrong; but with a wrong account nothing else is asked."""
        caller = self._ask("sts", "GetCallerIdentity", {})
        result = Result(str(caller["Account"]), str(caller["Arn"]))
        if self._account and result.account != self._account:
            remedy = "Take the right profile or role, or mend cluster_aws_account_id."
            result.problems.append(
                Problem("", "cluster_aws_account_id", f"these credentials are of account {result.account}", f"account {self._account}", remedy)
            )
            return result
        self._rights(result)
        if not result.problems:
            self._types = self._describe_types()
            self._places(result)
            self._quotas(result)
        return result

    # --- rights

    def _rights(self, result: Result) -> None:
        principal = principal_of(result.arn, self._scope.path)
        if result.arn.endswith(":root"):
            result.asked_by = ROOT
            return
        questions = list(simulations(policy_of(POOLS, self._scope)))
        if principal is not None:
            try:
                answers = at_once(lambda one: self._ask("iam", "SimulatePrincipalPolicy", one.parameters(principal))["EvaluationResults"], questions)
            except CloudError as error:
                if error.code not in (*DENIED, "NoSuchEntity"):
                    raise
            else:
                result.asked_by = SIMULATION
                self._conclude(result, missing_actions(zip(questions, answers)))
                return
        self._dry_runs(result, questions)

    def _dry_runs(self, result: Result, questions: Sequence[Simulation]) -> None:
        """EC2 alone can be asked whether it would; of the rest only what reads tells by itself."""
        tags = [{"Key": CLUSTER_ID_TAG, "Value": self._scope.cluster_id or ""}]
        name = f"{self._scope.cluster_name}-preflight"
        tries: dict[str, dict[str, Any]] = {
            "ec2:CreateLaunchTemplate": {
                "LaunchTemplateName": name,
                "LaunchTemplateData": {"InstanceType": self._pools[0].instance_type if self._pools else "f2.6xlarge"},
                "TagSpecifications": [{"ResourceType": "launch-template", "Tags": tags}],
            },
            "ec2:CreateSecurityGroup": {
                "GroupName": name,
                "Description": "never made",
                "TagSpecifications": [{"ResourceType": "security-group", "Tags": tags}],
            },
        }
        missing = [action for action, parameters in tries.items() if not self._would(action, parameters)]
        result.asked_by = DRY_RUNS
        reads = re.compile(r"\w+:(Describe|Get|Simulate)")
        result.not_asked = sorted({action for question in questions for action in question.actions if action not in tries and not reads.match(action)})
        result.notes.append(
            f"{result.arn} may not ask about its own rights (iam:SimulatePrincipalPolicy), so only EC2 was asked, by dry runs. "
            f"Not asked: {', '.join(result.not_asked)}."
        )
        self._conclude(result, missing)

    def _would(self, action: str, parameters: Mapping[str, Any]) -> bool:
        try:
            self._ask("ec2", action.partition(":")[2], {**parameters, "DryRun": True})
        except CloudError as error:
            if error.code == "DryRunOperation":
                return True
            if error.code in DENIED:
                return False
            raise
        return True

    @staticmethod
    def _conclude(result: Result, missing: Sequence[str]) -> None:
        if missing:
            result.problems.append(rights_problem(result.arn, missing, result.asked_by))

    # --- places

    def _places(self, result: Result) -> None:
        subnets = self._subnets()
        types = self._types
        unknown = [pool for pool in self._pools if any(name not in types for name in pool.instance_types)]
        for pool in unknown:
            missing = ", ".join(name for name in pool.instance_types if name not in types)
            found = f"found {missing}, which AWS doesn't know in {self._scope.region}"
            result.problems.append(pool.problem("instance_type", found, "an instance type of that region", "Mend the name, or take another region."))
        current = sorted({name for pool in self._pools for name in pool.instance_types if name in types and not types[name].retired})
        offerings = self._cloud.offerings(current) if current else {}
        zones = {name: str(one["AvailabilityZone"]) for name, one in subnets.items()}
        for pool in self._pools:
            if pool not in unknown:
                result.problems += placement_problems(pool, zones, offerings, types)
        if self._security_group:
            result.vpc_id = self._vpc(subnets, result)
            result.problems += self._security_group_problems(result.vpc_id)

    def _describe_types(self) -> dict[str, InstanceType]:
        names = {name for pool in self._pools for name in pool.instance_types}
        current = sorted(names - set(RETIRED))
        return {**(self._cloud.instance_types(current) if current else {}), **{name: RETIRED[name] for name in names & set(RETIRED)}}

    def _subnets(self) -> dict[str, Mapping[str, Any]]:
        ids = sorted({subnet for pool in self._pools for subnet in pool.subnets})
        if not ids:
            return {}
        answer = self._ask("ec2", "DescribeSubnets", {"Filters": [{"Name": "subnet-id", "Values": ids}]})
        return {one["SubnetId"]: one for one in answer["Subnets"]}

    def _vpc(self, subnets: Mapping[str, Mapping[str, Any]], result: Result) -> str:
        """The VPC of all pools that share the security group; of those without subnets, the account's default one."""
        sharing = [pool for pool in self._pools if not pool.security_groups]
        vpcs = {str(subnets[name]["VpcId"]) for pool in sharing for name in pool.subnets if name in subnets}
        in_default = [pool for pool in sharing if not pool.subnets]
        if in_default:
            default = [str(one["VpcId"]) for one in self._ask("ec2", "DescribeVpcs", {"Filters": [{"Name": "is-default", "Values": ["true"]}]})["Vpcs"]]
            if not default:
                found = f"{self._scope.region} of this account has no default VPC"
                result.problems += [pool.problem("subnets", found, "subnets, since instances must be in some VPC", "Name subnets.") for pool in in_default]
            vpcs |= set(default)
        if len(vpcs) > 1:
            remedy = "Give pools their own security_groups, or put them into one VPC."
            result.problems.append(Problem("", "cluster_node_pools", f"pools lie in {', '.join(sorted(vpcs))}", "one VPC for the security group", remedy))
        return min(vpcs, default="")

    def _security_group_problems(self, vpc_id: str) -> Iterator[Problem]:
        filters = [{"Name": "group-name", "Values": [self._security_group]}, {"Name": "vpc-id", "Values": [vpc_id]}]
        for group in self._ask("ec2", "DescribeSecurityGroups", {"Filters": filters})["SecurityGroups"] if vpc_id else []:
            owner = {tag["Key"]: tag["Value"] for tag in group.get("Tags", [])}.get(CLUSTER_ID_TAG)
            if owner != self._scope.cluster_id:
                found = f"{self._security_group} ({group['GroupId']}) is there and not ours ({CLUSTER_ID_TAG}: {owner or 'none'})"
                expected = f"none, or one that carries {CLUSTER_ID_TAG}={self._scope.cluster_id}"
                yield Problem("", "pools_security_group", found, expected, "Set pools_security_group to another name.")

    # --- quotas

    def _quotas(self, result: Result) -> None:
        known = [pool for pool in self._pools if all(name in self._types for name in pool.instance_types)]
        needs, unknown = quota_needs(known, self._types)
        result.quotas = [QuotaNeed(need.code, need.name, need.needed, need.pools, self._granted(need, result)) for need in needs]
        result.problems += [problem for need in result.quotas if (problem := need.problem(self._scope.region))]
        if unknown:
            result.notes.append(f"The vCPU quota of {', '.join(sorted(set(unknown)))} is not known here: look it up in Service Quotas.")

    def _granted(self, need: QuotaNeed, result: Result) -> float | None:
        try:
            return float(self._ask("service-quotas", "GetServiceQuota", {"ServiceCode": "ec2", "QuotaCode": need.code})["Quota"]["Value"])
        except CloudError as error:
            if error.code not in (*DENIED, "NoSuchResourceException"):
                raise
            result.notes.append(f"Quota {need.name} ({need.code}) could not be looked up: {error}")
            return None
