#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: see module_utils/_pools_preflight.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pools_preflight
short_description: Asks AWS what stands in the way of node pools, before anything is made
version_added: 0.9.0
description:
  - Whose credentials these are, which actions they lack, whether the types are offered in the zones, whether the vCPU quota holds all pools at their
    C(max_size), and in which VPC they are. Changes nothing.
  - Rights are asked for with C(iam:SimulatePrincipalPolicy), action by action as policy V(pools) of M(fpga.hybrid.iam_policies) grants them. An identity
    that may not ask that has EC2's part tried by dry runs, and is told what could not be asked.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  cluster_name:
    description: The cluster's name.
    type: str
    required: true
  cluster_id:
    description: The cluster's unique id.
    type: str
    required: true
  ssm_prefix:
    description: The cluster's path in the parameter store.
    type: str
    required: true
  pools:
    description: The node pools, as for M(fpga.hybrid.node_pool).
    type: list
    elements: dict
    required: true
  account_id:
    description: The only account that is right. Empty means any.
    type: str
    default: ""
  security_group:
    description: Name of the security group that pools without C(security_groups) of their own share.
    type: str
    default: ""
  iam_path:
    description: IAM path of the role that these credentials are of, if they are of one.
    type: str
    default: /
  instance_roles:
    description: As for M(fpga.hybrid.iam_policies).
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - fpga.hybrid.attributes.aws
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Ask what stands in the way
  fpga.hybrid.pools_preflight:
    cluster_name: lab
    cluster_id: 6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b
    ssm_prefix: /fpga-hybrid/lab
    region: us-east-1
    pools:
      - {name: f2-6xlarge, instance_type: f2.6xlarge, max_size: 4, availability_zones: [us-east-1a, us-east-1b]}
"""

RETURN = r"""
account:
  description: Account of the credentials.
  type: str
  returned: success
arn:
  description: Who the credentials are.
  type: str
  returned: success
vpc_id:
  description: VPC of the pools that share the security group.
  type: str
  returned: success
quotas:
  description: vCPU quotas with C(code), C(name), C(needed), C(pools) and C(granted).
  type: list
  elements: dict
  returned: success
rights_asked_by:
  description: V(iam:SimulatePrincipalPolicy) or V(dry runs).
  type: str
  returned: success
rights_not_asked:
  description: Actions that could not be asked about.
  type: list
  elements: str
  returned: success
notes:
  description: What could not be found out.
  type: list
  elements: str
  returned: success
problems:
  description: What is wrong, each with C(host), C(variable), C(found), C(expected), C(remedy).
  type: list
  elements: dict
  returned: failure
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.fpga.hybrid.plugins.module_utils._iam import IamError, make_scope
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import PoolError, parse_pools
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import Cloud, CloudError
from ansible_collections.fpga.hybrid.plugins.module_utils._pools_preflight import Preflight
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import listing


def main() -> None:
    module = AnsibleAWSModule(
        argument_spec={
            "cluster_name": {"type": "str", "required": True},
            "cluster_id": {"type": "str", "required": True},
            "ssm_prefix": {"type": "str", "required": True},
            "pools": {"type": "list", "elements": "dict", "required": True},
            "account_id": {"type": "str", "default": ""},
            "security_group": {"type": "str", "default": ""},
            "iam_path": {"type": "str", "default": "/"},
            "instance_roles": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        scope = make_scope(
            params["cluster_name"],
            module.region,
            params["pools"],
            account=params["account_id"],
            cluster_id=params["cluster_id"],
            ssm_prefix=params["ssm_prefix"],
            path=params["iam_path"],
            instance_roles=params["instance_roles"],
        )
        pools = parse_pools(params["pools"], params["cluster_name"])
        preflight = Preflight(Cloud(module, module.region), scope, pools, account=params["account_id"], security_group=params["security_group"])
        result = preflight.run()
    except (CloudError, IamError, PoolError) as error:
        module.fail_json(msg=str(error))
    if result.problems:
        problems = [problem.as_dict() for problem in result.problems]
        module.fail_json(msg=f"AWS would not let these pools be:\n{listing(result.problems)}", problems=problems, **result.as_dict())
    module.exit_json(changed=False, **result.as_dict())


if __name__ == "__main__":
    main()
