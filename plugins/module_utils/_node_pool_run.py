# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads, plans, and carries out: the order of things for all pools of a task. Several pools at a time, since waiting for AWS is most of the work."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import RETIRED, InstanceType
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import LAUNCH_CONFIGURATION, Accelerator, Cluster, Pool, PoolError
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_checks import image_of, image_problems, placement_problems, root_volume_problems
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import CONFLICTS, THREADS, Cloud, CloudError, at_once
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_documents import Document, Found, Group, LaunchTemplate, Wanted, root_device
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_plan import (
    UNCHANGED,
    Call,
    Options,
    PoolPlan,
    Removal,
    plan_pool,
    surplus_versions,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem
from ansible_collections.fpga.hybrid.plugins.module_utils.node_template import NodeTemplate, make_template

PRESENT, ABSENT = "present", "absent"
#: How often a pool is looked at anew because somebody else was faster.
ATTEMPTS = 3
#: A launch configuration's name tells its content, so one that is there already is the one that is wanted.
_ALREADY_DONE = {("CreateLaunchConfiguration", "AlreadyExists")}


@dataclass(frozen=True)
class Task:
    """What a task of node_pool asks for. account: the only one that it may touch, None for any."""

    cluster: Cluster
    pools: Sequence[Pool]
    accelerators: Mapping[str, Accelerator]
    state: str = PRESENT
    purge: bool = False
    account: str | None = None
    options: Options = field(default_factory=Options)


class RunError(Exception):
    """A run that ended half-way: the message says which pools are done, and why the others are not."""

    def __init__(self, done: Sequence[str], failed: Mapping[str, str], total: int) -> None:
        reasons = "\n".join(f"- pool {pool}: {reason}" for pool, reason in failed.items())
        finished = f"Done: {', '.join(done)}." if done else "None is done."
        super().__init__(f"{len(failed)} of {total} pools failed:\n{reasons}\n{finished} Run again when that is mended: it goes on from there.")
        self.done, self.failed = list(done), dict(failed)


@dataclass(frozen=True)
class Plan:
    pools: tuple[PoolPlan, ...]

    @property
    def changed(self) -> bool:
        return any(pool.calls for pool in self.pools)

    def diff(self) -> list[Document]:
        return [pool.diff() for pool in self.pools if pool.calls]

    def calls(self) -> list[Document]:
        return [{"pool": pool.pool, **call.shown()} for pool in self.pools for call in pool.calls]


class Run:
    def __init__(self, cloud: Cloud, task: Task) -> None:
        self.cloud, self.task = cloud, task
        self.templates: dict[str, NodeTemplate] = {}
        self.has_written = False

    # --- planning

    def plan(self) -> Plan:
        """Everything is looked at and checked before the first write."""
        self.cloud.prepare("autoscaling", "ec2")
        plan = self._absent() if self.task.state == ABSENT else self._present()
        self._check_account(plan)
        return plan

    def _present(self) -> Plan:
        task = self.task
        for pool in task.pools:
            _raise(root_volume_problems(pool))
        images = {pool.name: image for pool, image in zip(task.pools, _each(lambda pool: image_of(pool, task.cluster), task.pools))}
        found, types = self._read()
        self.templates = {one.pool: one for one in _each(lambda pool: make_template(pool, task.cluster, types, task.accelerators), task.pools)}
        wanted, asked = self._wanted(images, found, types)
        found = replace(found, named_versions=self._named_versions(wanted, found))
        plans = _each(lambda one: plan_pool(one, found, task.options), wanted)
        self._preflight([one for one, plan in zip(wanted, plans) if _is_touched(plan)], types, asked)
        return Plan((*plans, *self._purge(found)))

    def _read(self) -> tuple[Found, dict[str, InstanceType]]:
        """Groups by the cluster's id in one call, each launch template with its versions in one, types in one: all at the same time."""
        task, cloud = self.task, self.cloud
        types = {name for pool in task.pools for name in pool.instance_types}
        templates = [pool.group_name for pool in task.pools if pool.kind != LAUNCH_CONFIGURATION]
        with ThreadPoolExecutor(THREADS) as executor:
            groups = executor.submit(self._groups)
            described = executor.submit(cloud.instance_types, sorted(types - set(RETIRED))) if types - set(RETIRED) else None
            found = dict(zip(templates, executor.map(cloud.template, templates)))
        known = (described.result() if described else {}) | {name: RETIRED[name] for name in types & set(RETIRED)}
        return self._with_configurations(groups.result(), found), known

    def _groups(self) -> dict[str, Group]:
        """Ours by their tag; and of the declared ones that are not among them, those that are there and belong to somebody else."""
        names = [pool.group_name for pool in self.task.pools]
        groups = self.cloud.groups(cluster_id=self.task.cluster.id)
        missing = [name for name in names if name not in groups]
        return {**groups, **(self.cloud.groups(names=missing) if missing else {})}

    def _with_configurations(self, groups: Mapping[str, Group], templates: Mapping[str, LaunchTemplate | None]) -> Found:
        declared = {pool.group_name for pool in self.task.pools}
        used = {group.launch_configuration for name, group in groups.items() if name in declared and group.launch_configuration}
        configurations = self.cloud.launch_configurations(name for name in used if name) if used else {}
        return Found(groups, {name: template for name, template in templates.items() if template}, configurations)

    def _wanted(self, images: Mapping[str, str], found: Found, types: Mapping[str, InstanceType]) -> tuple[list[Wanted], dict[str, Any]]:
        """The pools with their images' root devices, which are asked for only where nothing that is in use tells them."""
        task = self.task
        devices = {pool.name: root_device(images[pool.name], pool, found) for pool in task.pools}

        def combine() -> list[Wanted]:
            return [Wanted(pool, task.cluster, self.templates[pool.name], images[pool.name], devices[pool.name] or "") for pool in task.pools]

        # A device that was found belongs to what was made then; for anything else the image is the authority.
        unsure = [one.pool for one in combine() if not one.pool.root_volume.device and not (one.root_device and _is_in_use(one, found))]
        asked = self.cloud.images(images[pool.name] for pool in unsure) if unsure else {}
        _raise(problem for pool in unsure for problem in image_problems(pool, images[pool.name], asked, types, task.cluster.region))
        devices |= {pool.name: asked[images[pool.name]].root_device for pool in unsure}
        return combine(), asked

    def _named_versions(self, wanted: Sequence[Wanted], found: Found) -> dict[str, frozenset[int]]:
        """Asked only where old versions are to go: whichever other group of the account names one keeps it."""
        templates = [(one, found.templates[one.name]) for one in wanted if one.name in found.templates and not one.uses_launch_configuration]
        keep = self.task.options.keep_versions
        crowded = [template for one, template in templates if surplus_versions(template, keep, new=not any(map(one.is_version, template.versions)))]
        if not crowded:
            return {}
        groups = self.cloud.groups().values()
        return {template.id: frozenset(number for group in groups if group.name != template.name for number in _named(group, template)) for template in crowded}

    def _preflight(self, touched: Sequence[Wanted], types: Mapping[str, InstanceType], asked: Mapping[str, Any]) -> None:
        """What AWS would take, and fail over when an instance is to start."""
        if not touched:
            return
        cloud = self.cloud
        subnets = {subnet for one in touched for subnet in one.pool.subnets}
        names = {name for one in touched for name in one.pool.instance_types if not types[name].retired}
        images = {one.image for one in touched if one.image.startswith("ami-")} - set(asked)
        with ThreadPoolExecutor(THREADS) as executor:
            zones = executor.submit(cloud.subnets, sorted(subnets)) if subnets else None
            offered = executor.submit(cloud.offerings, sorted(names)) if names else None
            known = executor.submit(cloud.images, images) if images else None
        every = {**asked, **(known.result() if known else {})}
        problems: list[Problem] = []
        for one in touched:
            problems += image_problems(one.pool, one.image, every, types, self.task.cluster.region)
            problems += placement_problems(one.pool, zones.result() if zones else {}, offered.result() if offered else {}, types)
        _raise(problems)

    # --- removing

    def _absent(self) -> Plan:
        pools = self.task.pools
        with ThreadPoolExecutor(THREADS) as executor:
            groups = executor.submit(self._groups)
            templates = dict(zip([pool.group_name for pool in pools], executor.map(self.cloud.template, [pool.group_name for pool in pools])))
        removals = [Removal(pool.name, pool.group_name, groups.result().get(pool.group_name), templates[pool.group_name]) for pool in pools]
        return Plan(tuple(self._planned(removals)) + self._purge(Found(groups.result())))

    def _purge(self, found: Found) -> tuple[PoolPlan, ...]:
        """Groups of ours that are not declared, and launch templates of ours that an earlier run did not get round to."""
        if not self.task.purge:
            return ()
        declared = {pool.group_name for pool in self.task.pools}
        groups = {name: group for name, group in found.groups.items() if name not in declared and group.belongs_to(self.task.cluster)}
        templates = {template.name: template for template in self.cloud.templates_of(self.task.cluster.id) if template.name not in declared}
        if templates:
            # One that a group still starts from stays, whosever that group is.
            staying = (group for name, group in self.cloud.groups().items() if name not in groups)
            used = {group.template_specification.get("LaunchTemplateId") for group in staying}
            templates = {name: template for name, template in templates.items() if template.id not in used}
        names = sorted(set(groups) | set(templates))
        return tuple(self._planned([Removal(groups[name].pool if name in groups else name, name, groups.get(name), templates.get(name)) for name in names]))

    def _planned(self, removals: Sequence[Removal]) -> list[PoolPlan]:
        return _each(lambda removal: removal.plan(self.task.cluster, self.task.options), removals)

    def _check_account(self, plan: Plan) -> None:
        """A wrong profile must not make groups in somebody else's account. Asked only where something is to be written."""
        expected = self.task.account
        if expected and plan.changed:
            account = self.cloud.account()
            if account != expected:
                raise CloudError(f"These credentials are of account {account}; expected account_id {expected}. Take the right profile, or mend account_id.")

    # --- carrying out

    def apply(self, plan: Plan) -> Plan:
        """Carries the plan out, several pools at a time; within a pool in its order. Gives back what was really done."""
        busy = [pool for pool in plan.pools if pool.calls]
        outcomes = at_once(self._attempt, busy)
        failed = {pool.pool: outcome for pool, outcome in zip(busy, outcomes) if isinstance(outcome, str)}
        if failed:
            raise RunError([pool.pool for pool in plan.pools if pool.pool not in failed], failed, len(plan.pools))
        done = {pool.group_name: outcome for pool, outcome in zip(busy, outcomes) if isinstance(outcome, PoolPlan)}
        return Plan(tuple(done.get(pool.group_name, pool) for pool in plan.pools))

    def _attempt(self, plan: PoolPlan) -> PoolPlan | str:
        """The plan as it was carried out, or why it was not."""
        carried: list[Call] = []
        for _attempt in range(ATTEMPTS):
            try:
                version = self._carry_out(plan, carried)
                return replace(plan, calls=tuple(carried), version=version or plan.version, state=plan.state if carried else UNCHANGED)
            except CloudError as error:
                if error.code not in CONFLICTS:
                    return str(error)
            try:
                plan = replace(self._again(plan), before=plan.before)
            except (CloudError, PoolError) as error:
                return str(error)
        return f"somebody else changed group {plan.group_name} {ATTEMPTS} times meanwhile. Run again."

    def _again(self, plan: PoolPlan) -> PoolPlan:
        """A new plan for one pool."""
        pools = [pool for pool in self.task.pools if pool.name == plan.pool]
        (again,) = Run(self.cloud, replace(self.task, pools=pools, purge=False, account=None)).plan().pools
        return again

    def _carry_out(self, plan: PoolPlan, carried: list[Call]) -> str | None:
        version: str | None = None
        for call in plan.calls:
            try:
                answer = self.cloud.ask(call.service, call.operation, call.with_version(version))
            except CloudError as error:
                if (call.operation, error.code) not in _ALREADY_DONE:
                    raise
                continue
            carried.append(call)
            self.has_written = True
            version = _made_version(answer) or version
            _check_deleted(answer)
        return version


def _is_in_use(wanted: Wanted, found: Found) -> bool:
    """Whether the group runs on exactly what is wanted, root device included."""
    group, template = found.groups.get(wanted.name), found.templates.get(wanted.name)
    if group is None:
        return False
    if wanted.uses_launch_configuration:
        return bool(group.launch_configuration == wanted.launch_configuration["LaunchConfigurationName"])
    version = template.version(group.template_specification.get("Version")) if template else None
    return bool(version and wanted.is_version(version))


def _is_touched(plan: PoolPlan) -> bool:
    """Whether it makes or changes what instances are started from, or where."""
    for call in plan.calls:
        if call.operation.startswith("Create") and call.operation != "CreateOrUpdateTags":
            return True
        if call.operation == "UpdateAutoScalingGroup" and not {"AvailabilityZones", "VPCZoneIdentifier"}.isdisjoint(call.parameters):
            return True
    return False


def _named(group: Group, template: LaunchTemplate) -> list[int]:
    specification = group.template_specification
    if specification.get("LaunchTemplateId") != template.id:
        return []
    version = str(specification.get("Version") or "$Default")
    if version == "$Latest":
        return [template.latest]
    if version == "$Default":
        return [one.number for one in template.versions if one.is_default]
    return [int(version)]


def _made_version(answer: Mapping[str, Any]) -> str | None:
    """The number that AWS gave to a version that was just made."""
    if "LaunchTemplateVersion" in answer:
        return str(answer["LaunchTemplateVersion"]["VersionNumber"])
    made = answer.get("LaunchTemplate", {})
    return str(made["LatestVersionNumber"]) if "CreateTime" in made and "LatestVersionNumber" in made else None


def _check_deleted(answer: Mapping[str, Any]) -> None:
    """DeleteLaunchTemplateVersions succeeds as a call even where it deletes nothing."""
    refused = answer.get("UnsuccessfullyDeletedLaunchTemplateVersions") or []
    if refused:
        reasons = "; ".join(f"version {one.get('VersionNumber')}: {one.get('ResponseError', {}).get('Message', 'no reason given')}" for one in refused)
        raise CloudError(f"ec2:DeleteLaunchTemplateVersions: {reasons}. The pool itself is done.")


def _each(function: Any, items: Sequence[Any]) -> list[Any]:
    """function of each; problems of all are told together."""
    results, problems = [], []
    for item in items:
        try:
            results.append(function(item))
        except PoolError as error:
            problems += error.problems
    _raise(problems)
    return results


def _raise(problems: Any) -> None:
    told = list(problems)
    if told:
        raise PoolError(told)
