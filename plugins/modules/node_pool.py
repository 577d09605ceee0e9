#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: the plan is made by module_utils/_node_pool_plan.py and carried out by _node_pool_run.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_pool
short_description: Node pools in AWS, each a launch template and an Auto Scaling group that the Cluster Autoscaler knows
version_added: 0.9.0
description:
  - Takes all pools in one task, and makes launch template, group and tags what they say. What a node will be follows from the instance type,
    the pool and the accelerators; the tags that the autoscaler reads and what the instance is told come from that one template.
  - Everything is read and checked before anything is written. Check mode shows the very plan that a run carries out.
  - Writes differences only. The desired capacity belongs to the autoscaler and is never sent. Tags that others have put on a group stay.
  - A group is ours only if it carries the tag C(k8s.io/cluster-autoscaler/NAME) with V(owned), and C(fpga.hybrid/cluster-id) with this cluster's id.
    Any other is never touched.
  - A group names its launch template's version by number. A changed template is a new version; instances that run keep what they were started with.
  - Launch templates require IMDSv2 with a hop limit of 1, keep tags out of the metadata, and encrypt the root volume.
  - Process C(AZRebalance) is suspended, because it ends busy instances. Other processes are left as they are.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  state:
    description:
      - V(present), the pools are there as declared. V(absent), their groups and launch templates are gone; only C(name) and C(group_name) of a pool matter.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description:
      - Also remove groups of this cluster that are not declared, and launch templates of theirs that are left. Costs one more call.
    type: bool
    default: false
  force:
    description:
      - Let the run start or end instances, by a minimum above or a maximum below the present size, or by removing a group that has some.
        Without it, that is refused, and said which.
    type: bool
    default: false
  keep_versions:
    description:
      - How many versions of a launch template stay, the newest ones. One that a group names stays in any case.
    type: int
    default: 5
  account_id:
    description:
      - The only account that may be written to. Credentials of another are refused.
    type: str
extends_documentation_fragment:
  - fpga.hybrid.attributes.aws
  - fpga.hybrid.node_pool.cluster
  - fpga.hybrid.node_pool.pools
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Reads and checks everything, and writes nothing.
    support: full
  diff_mode:
    description: Shows each changed pool before and after. User-data is shown by its sum and size.
    support: full
seealso:
  - module: fpga.hybrid.node_pool_info
  - module: fpga.hybrid.node_template_info
"""

EXAMPLES = r"""
- name: Two pools of FPGA instances that cost nothing while nobody needs them
  fpga.hybrid.node_pool:
    region: us-east-1
    cluster: &cluster
      name: lab
      id: 6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b
      kubernetes_version: "1.36"
      images: {"1.36": {us-east-1: ami-03cf127a}}
    pools:
      - name: f2-6xlarge
        instance_type: f2.6xlarge
        max_size: 4
        availability_zones: [us-east-1a, us-east-1b]
      - name: f2-12xlarge
        instance_type: f2.12xlarge
        max_size: 2
        availability_zones: [us-east-1a, us-east-1b]
        tags: {team: research}

- name: The same, with one pool less
  fpga.hybrid.node_pool:
    region: us-east-1
    cluster: *cluster
    purge: true
    pools:
      - name: f2-6xlarge
        instance_type: f2.6xlarge
        max_size: 4
        availability_zones: [us-east-1a, us-east-1b]

- name: No pools any more
  fpga.hybrid.node_pool:
    region: us-east-1
    cluster: *cluster
    state: absent
    pools:
      - name: f2-6xlarge
"""

RETURN = r"""
pools:
  description: What happened, or in check mode would happen, to each pool; also to those that were purged.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: The pool's name.
      type: str
    group_name:
      description: Name of group and launch template.
      type: str
    state:
      description: V(created), V(changed), V(removed) or V(unchanged).
      type: str
    starts:
      description: How many instances the new sizes start.
      type: int
    ends:
      description: How many instances the new sizes, or the removal, end.
      type: int
    instances:
      description: Ids of the instances that the group had.
      type: list
      elements: str
    launch_template_version:
      description: The version that the group names. In check mode, the one that it would most likely name.
      type: str
    resources:
      description: Allocatable quantities of a node.
      type: dict
    labels:
      description: Labels of a node.
      type: dict
    taints:
      description: Taints of a node.
      type: list
      elements: str
calls:
  description: The writes, in their order within each pool. User-data is shown by its sum.
  type: list
  elements: dict
  returned: always
  contains:
    pool:
      description: The pool's name.
      type: str
    service:
      description: V(autoscaling) or V(ec2).
      type: str
    operation:
      description: The operation.
      type: str
    parameters:
      description: What is sent.
      type: dict
done_pools:
  description: Pools that are as declared although the run failed.
  type: list
  elements: str
  returned: when a run fails half-way
failed_pools:
  description: Reason by pool.
  type: dict
  returned: when a run fails half-way
"""

from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import PoolError, parse_accelerators, parse_pools
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import Cloud, CloudError, cluster_of
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_plan import Options
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_run import ABSENT, Plan, Run, RunError, Task


def task_of(module: AnsibleAWSModule) -> Task:
    params = module.params
    cluster = cluster_of(module)
    return Task(
        cluster=cluster,
        pools=parse_pools(params["pools"], cluster.name, names_only=params["state"] == ABSENT),
        accelerators=parse_accelerators(params["accelerators"]),
        state=params["state"],
        purge=params["purge"],
        account=params["account_id"],
        options=Options(force=params["force"], keep_versions=max(1, params["keep_versions"])),
    )


def result(run: Run, plan: Plan) -> dict[str, Any]:
    pools = [{**pool.shown(), **(run.templates[pool.pool].expected() if pool.pool in run.templates else {})} for pool in plan.pools]
    return {"changed": plan.changed, "pools": pools, "calls": plan.calls()}


def main() -> None:
    module = AnsibleAWSModule(
        argument_spec={
            "cluster": {"type": "dict", "required": True},
            "accelerators": {"type": "dict", "default": {}},
            "pools": {"type": "list", "elements": "dict", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "purge": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "keep_versions": {"type": "int", "default": 5},
            "account_id": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        task = task_of(module)
        run = Run(Cloud(module, task.cluster.region), task)
        plan = run.plan()
        diff = plan.diff()
        if not module.check_mode:
            plan = run.apply(plan)
    except RunError as error:
        module.fail_json(msg=str(error), changed=run.has_written, done_pools=error.done, failed_pools=error.failed)
    except (PoolError, CloudError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result(run, plan), diff=diff)


if __name__ == "__main__":
    main()
