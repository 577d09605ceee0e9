#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: lets a pool's group start instances again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_pool_resume
short_description: Lets a node pool start instances again
version_added: 0.9.0
description:
  - Resumes process C(Launch) of the pool's Auto Scaling group, which keeper suspends after failed joins or at a ceiling, or somebody by hand.
  - Nothing else of the group is changed. Instances that it still lacks for its desired capacity are started at once.
  - M(fpga.hybrid.node_pool) leaves the process as it is.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  cluster:
    description: C(name) and C(id) of the cluster. What else M(fpga.hybrid.node_pool) takes may be there, too.
    type: dict
    required: true
  pool:
    description: The pool's name.
    type: str
    required: true
extends_documentation_fragment:
  - fpga.hybrid.attributes.aws
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Says whether it would resume the process.
    support: full
  diff_mode:
    description: Shows the suspended processes before and after.
    support: full
seealso:
  - module: fpga.hybrid.node_pool
  - module: fpga.hybrid.node_pool_info
"""

EXAMPLES = r"""
- name: Let it go on, now that the image is mended
  fpga.hybrid.node_pool_resume:
    region: us-east-1
    cluster: {name: lab, id: 6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b}
    pool: f2-6xlarge
"""

RETURN = r"""
group_name:
  description: The pool's group.
  type: str
  returned: success
suspended:
  description: Processes of the group that are suspended after this, or in check mode would be.
  type: list
  elements: str
  returned: success
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import PoolError
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import Cloud, CloudError, cluster_of
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_documents import LAUNCH, shown_group


def main() -> None:
    module = AnsibleAWSModule(
        argument_spec={"cluster": {"type": "dict", "required": True}, "pool": {"type": "str", "required": True}}, supports_check_mode=True
    )
    wanted = module.params["pool"]
    try:
        # Only needed to make pools.
        module.params["cluster"].setdefault("kubernetes_version", "1.0")
        cluster = cluster_of(module)
        cloud = Cloud(module, cluster.region)
        pools = {pool["name"]: pool for pool in (shown_group(group) for group in cloud.groups(cluster_id=cluster.id).values() if group.belongs_to(cluster))}
        if wanted not in pools:
            there = ", ".join(sorted(pools)) or "none"
            module.fail_json(msg=f"Cluster {cluster.name} has no pool {wanted} in {cluster.region}; it has: {there}. Name one, or make it (pools.yml).")
        before = pools[wanted]["suspended"]
        after = [process for process in before if process != LAUNCH]
        if after != before and not module.check_mode:
            cloud.ask("autoscaling", "ResumeProcesses", {"AutoScalingGroupName": pools[wanted]["group_name"], "ScalingProcesses": [LAUNCH]})
    except (PoolError, CloudError) as error:
        module.fail_json(msg=str(error))
    diff = {"before": {"suspended": before}, "after": {"suspended": after}}
    module.exit_json(changed=after != before, group_name=pools[wanted]["group_name"], suspended=after, diff=diff)


if __name__ == "__main__":
    main()
