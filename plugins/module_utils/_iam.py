# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Least-privilege policies for the cluster's identities, and the CloudFormation that brings them into an account. Pure; contacts nothing."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._iam_identities import (
    DEFAULT_VPC,
    IDENTITIES,
    INSTANCE_PROFILES,
    KEY_PAIRS,
    LAUNCH_CONFIGURATIONS,
    SUBNETS,
    Condition,
    Grant,
    Identity,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem, listing

Document = dict[str, Any]

#: IAM's limit for a managed policy, without the white space (IAM User Guide, "IAM and AWS STS quotas").
POLICY_SIZE = 6144
ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
ROLE_PATH = re.compile(r"/([\x21-\x7e]+/)?", re.ASCII)
ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
ARN = re.compile(r"arn:[a-z-]+:[a-z0-9-]*:[a-z0-9-]*:(\d{12})?:\S+", re.ASCII)
_PLACE = re.compile(r"(?<!\$)\{(\w+)\}")
_VARIABLE = re.compile(r"\$\{([^}]+)\}")


class IamError(Exception):
    """What is wrong with the scope or too big for IAM; each with its variable and a remedy."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__(str(self.problems[0]) if len(self.problems) == 1 else listing(self.problems))


@dataclass(frozen=True)
class Scope:
    """What the policies are about. account "*" and cluster_id None stand for any.

    groups: patterns of the groups' names. instance_roles: roles that instances get, by name or ARN. path: of the roles that are made.
    """

    cluster_name: str
    region: str
    account: str = "*"
    cluster_id: str | None = None
    ssm_prefix: str = ""
    groups: tuple[str, ...] = ()
    instance_roles: tuple[str, ...] = ()
    features: frozenset[str] = frozenset()
    path: str = "/"

    @property
    def partition(self) -> str:
        return next((partition for prefix, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")) if self.region.startswith(prefix)), "aws")

    def role_name(self, identity: str) -> str:
        return f"{self.cluster_name}-{identity}"

    def values(self, identity: str) -> dict[str, tuple[str, ...]]:
        """What {names} in grants stand for."""
        role = f"arn:{self.partition}:iam::{self.account}:role"
        return {
            "partition": (self.partition,),
            "region": (self.region,),
            "account": (self.account,),
            "cluster_name": (self.cluster_name,),
            "cluster_id": (self.cluster_id or "?*",),
            "ssm_prefix": (self.ssm_prefix or f"/fpga-hybrid/{self.cluster_name}",),
            "group": self.groups,
            # The declaration tells a role's name only, so any path is right.
            "passed_role": tuple(
                arn for name in self.instance_roles for arn in ([name] if name.startswith("arn:") else [f"{role}/{name}", f"{role}/*/{name}"])
            ),
            "own_role": (f"{role}{self.path}{self.role_name(identity)}",),
        }


def make_scope(
    cluster_name: str,
    region: str,
    pools: Sequence[Mapping[str, Any]],
    *,
    account: str = "",
    cluster_id: str | None = None,
    ssm_prefix: str = "",
    path: str = "/",
    instance_roles: Sequence[str] = (),
) -> Scope:
    """The scope of a declaration, or IamError. instance_roles: instead of those that the pools' instance profiles tell by their names."""
    problems = []
    if account and not ACCOUNT.fullmatch(account):
        problems.append(Problem("", "cluster_aws_account_id", f"found {account!r}", "twelve digits in quotes, or nothing", "Mend it."))
    if not ROLE_PATH.fullmatch(path):
        problems.append(Problem("", "iam_path", f"found {path!r}", "a path as /teams/fpga/, with a slash at both ends", "Mend it."))
    for identity in IDENTITIES:
        if not ROLE_NAME.fullmatch(f"{cluster_name}-{identity}"):
            found = f"makes the role name {cluster_name}-{identity}"
            problems.append(Problem("", "cluster_name", found, "at most 64 letters, digits and + = , . @ _ -", "Take a shorter name."))
    if problems:
        raise IamError(problems)
    prefix = f"{cluster_name}-"
    named = [str(pool.get("group_name") or f"{prefix}{pool.get('name')}") for pool in pools]
    profiles = [str(pool["instance_profile"]) for pool in pools if pool.get("instance_profile")]
    features = {
        LAUNCH_CONFIGURATIONS: any(pool.get("kind") == "launch_configuration" for pool in pools),
        INSTANCE_PROFILES: bool(profiles or instance_roles),
        SUBNETS: any(pool.get("subnets") for pool in pools),
        DEFAULT_VPC: any(not pool.get("subnets") for pool in pools),
        KEY_PAIRS: any(pool.get("key_name") for pool in pools),
    }
    return Scope(
        cluster_name=cluster_name,
        region=region,
        account=account or "*",
        cluster_id=cluster_id,
        ssm_prefix=ssm_prefix,
        # A pool more or less needs no other policy, as long as its group is named after the cluster.
        groups=(f"{prefix}*", *sorted({name for name in named if not name.startswith(prefix)})),
        instance_roles=tuple(instance_roles) or tuple(sorted({profile.rpartition("/")[2] for profile in profiles})),
        features=frozenset(feature for feature, used in features.items() if used),
        path=path,
    )


def policy_of(identity: Identity, scope: Scope) -> Document:
    """The policy document. Raises IamError if IAM would find it too long."""
    statements = [_statement(grant, scope.values(identity.name)) for grant in identity.grants if not grant.needs or grant.needs in scope.features]
    document = {"Version": "2012-10-17", "Statement": statements}
    size = len(re.sub(r"\s", "", json.dumps(document)))
    if size > POLICY_SIZE:
        expected = f"at most {POLICY_SIZE} for a managed policy"
        remedy = f"Name groups after the cluster ({scope.cluster_name}-...), which one pattern covers."
        raise IamError([Problem("", "cluster_node_pools", f"the policy of {identity.name} has {size} characters", expected, remedy)])
    return document


def _statement(grant: Grant, values: Mapping[str, tuple[str, ...]]) -> Document:
    resources = [filled for resource in grant.resources for filled in _filled(resource, values)]
    statement: Document = {
        "Sid": grant.sid,
        "Effect": "Allow",
        "Action": list(grant.actions),
        "Resource": resources[0] if resources == ["*"] else resources,
    }
    return {**statement, "Condition": _condition(grant.condition, values)} if grant.condition else statement


def _condition(condition: Condition, values: Mapping[str, tuple[str, ...]]) -> Document:
    rendered: dict[str, dict[str, Any]] = {}
    for operator, pairs in condition.items():
        for key, value in pairs.items():
            wanted = [filled for text in ((value,) if isinstance(value, str) else value) for filled in _filled(text, values)]
            # Any cluster's id is a pattern, which StringEquals would take literally.
            fitting = "StringLike" if operator == "StringEquals" and any("*" in text for text in wanted) else operator
            rendered.setdefault(fitting, {})[key] = wanted[0] if len(wanted) == 1 else wanted
    return rendered


def _filled(text: str, values: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """The text for each combination of its {names}' values."""
    names = list(dict.fromkeys(_PLACE.findall(text)))
    for chosen in product(*(values[name] for name in names)):
        known = dict(zip(names, chosen))
        yield _PLACE.sub(lambda match: known[match[1]], text)  # noqa: B023  # used before known changes


# ---- CloudFormation


def stack_of(identity: Identity, scope: Scope, *, make_role: bool, boundary: str = "", trusted: Sequence[str] = ()) -> Document:
    """A template with the managed policy, to hang on an identity that is given; with make_role also the role that it hangs on.

    boundary: ARN of a permissions boundary. trusted: ARNs of those who may become the role; by default, whoever the account lets.
    """
    wrong = [arn for arn in (boundary, *trusted) if arn and not ARN.fullmatch(arn)]
    if wrong:
        variable = "iam_permissions_boundary" if wrong[0] == boundary else "iam_trusted"
        raise IamError([Problem("", variable, f"found {wrong[0]!r}", "an ARN as arn:aws:iam::123456789012:policy/boundary", "Mend it.")])
    policy: Document = {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": {"Description": identity.purpose, "Path": scope.path, "PolicyDocument": policy_of(identity, scope)},
    }
    resources: Document = {"Policy": policy}
    outputs: Document = {"PolicyArn": {"Value": {"Ref": "Policy"}}}
    if make_role:
        role: Document = {
            "RoleName": scope.role_name(identity.name),
            "Description": identity.purpose,
            "Path": scope.path,
            "AssumeRolePolicyDocument": _trust(identity, scope, trusted),
        }
        if boundary:
            role["PermissionsBoundary"] = boundary
        resources["Role"] = {"Type": "AWS::IAM::Role", "Properties": role}
        policy["Properties"]["Roles"] = [{"Ref": "Role"}]
        outputs["RoleArn"] = {"Value": {"Fn::GetAtt": ["Role", "Arn"]}}
    if make_role and identity.trusted == "ec2":
        profile = {"InstanceProfileName": scope.role_name(identity.name), "Path": scope.path, "Roles": [{"Ref": "Role"}]}
        resources["InstanceProfile"] = {"Type": "AWS::IAM::InstanceProfile", "Properties": profile}
    description = f"fpga.hybrid cluster {scope.cluster_name}, identity {identity.name}. {identity.purpose}"
    return {"AWSTemplateFormatVersion": "2010-09-09", "Description": description[:1024], "Resources": resources, "Outputs": outputs}


def _trust(identity: Identity, scope: Scope, trusted: Sequence[str]) -> Document:
    if identity.trusted == "ec2":
        principal: Document = {"Service": "ec2.amazonaws.com"}
    else:
        account = {"Fn::Sub": f"arn:{scope.partition}:iam::${{AWS::AccountId}}:root"}
        principal = {"AWS": list(trusted) or account}
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]}


# ---- asking whether an identity has what it needs


@dataclass(frozen=True)
class Simulation:
    """One question for iam:SimulatePrincipalPolicy: may these actions be done on this resource, in this context?"""

    actions: tuple[str, ...]
    resource: str
    context: tuple[tuple[str, str], ...]

    def parameters(self, arn: str) -> Document:
        entries = [{"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"} for key, value in self.context]
        return {"PolicySourceArn": arn, "ActionNames": list(self.actions), "ResourceArns": [self.resource], "ContextEntries": entries}


def simulations(policy: Document) -> Iterator[Simulation]:
    """What to ask so that every statement of a policy is tried once, on one resource of each kind and with its conditions met."""
    for statement in policy["Statement"]:
        resources = statement["Resource"]
        conditions = [pair for pairs in statement.get("Condition", {}).values() for pair in pairs.items()]
        context = tuple(met for key, value in conditions for met in _met(key, value if isinstance(value, str) else value[0]))
        for resource in [resources] if isinstance(resources, str) else resources:
            if "${" not in resource:
                yield Simulation(tuple(statement["Action"]), resource if resource == "*" else _sample(resource), context)


def _met(key: str, wanted: str) -> Iterator[tuple[str, str]]:
    """What meets a condition; one that compares with a variable of IAM's is met by the same value on both sides."""
    variable = _VARIABLE.fullmatch(wanted)
    if variable:
        yield variable[1], "x"
    yield key, "x" if variable else _sample(wanted)


def _sample(pattern: str) -> str:
    """Something that the pattern fits."""
    return pattern.replace("?*", "x").replace("*", "x")


def principal_of(caller_arn: str, path: str) -> str | None:
    """The ARN whose policies the caller acts under; None for the root user and for federated ones, who can't be asked about.

    An assumed role's ARN doesn't tell the role's path.
    """
    prefix, _colon, kind = caller_arn.rpartition(":")
    if kind.startswith("user/"):
        return caller_arn
    if kind.startswith("assumed-role/"):
        return f"{prefix.replace(':sts:', ':iam:')}:role{path}{kind.split('/')[1]}"
    return None
