#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: the documents are made by module_utils/_iam.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: iam_policies
short_description: Writes least-privilege IAM policies for the identities of a cluster
version_added: 0.9.0
description:
  - For each identity one file with the policy, and one with a CloudFormation template that brings it into an account. Contacts nothing.
  - What exists may be changed only if it carries the cluster's id; what is made must be given it.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  dest:
    description: Folder for the files. An absolute path. Made if it isn't there.
    type: path
    required: true
  identities:
    description:
      - Which identities. By default all.
      - V(pools) runs pools.yml. V(inventory) only reads, for the inventory plugin and cloud_audit.yml.
      - V(keeper) is the program of role C(fpga.hybrid.keeper), V(autoscaler) what role C(fpga.hybrid.autoscaler) runs.
        V(instance) is the role of the instances themselves. V(image) runs C(image.yml -e image_target=ec2).
    type: list
    elements: str
    default: []
  cluster:
    description:
      - C(name) and C(region) have to be there.
      - C(id), the cluster's unique id; without it the policies hold for every cluster of this collection's in the account.
      - C(account_id); without it they hold in any account. C(ssm_prefix), by default V(/fpga-hybrid/NAME).
    type: dict
    required: true
  pools:
    description:
      - The node pools, as for M(fpga.hybrid.node_pool). What no pool needs isn't granted.
    type: list
    elements: dict
    default: []
  make_roles:
    description: Have the CloudFormation templates make a role that the policy hangs on. Without it, there is the policy alone, to hang on what is given.
    type: bool
    default: false
  path:
    description: IAM path of policies and roles.
    type: str
    default: /
  permissions_boundary:
    description: ARN of a managed policy that bounds the roles.
    type: str
    default: ""
  trusted:
    description: ARNs of users and roles that may become the roles. By default whoever the account's own policies let.
    type: list
    elements: str
    default: []
  instance_roles:
    description: Names or ARNs of the roles that instances get. By default, those named like the pools' instance profiles.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Says which files it would write.
    support: full
  diff_mode:
    description: Shows the difference of each file.
    support: full
"""

EXAMPLES = r"""
- name: Write the policies of a cluster with two pools
  fpga.hybrid.iam_policies:
    dest: "{{ lookup('ansible.builtin.env', 'PWD') }}/iam"
    cluster:
      name: lab
      id: 6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b
      region: us-east-1
      account_id: "123456789012"
    pools:
      - {name: f2-6xlarge, instance_profile: lab-instance}
      - {name: f2-12xlarge, instance_profile: lab-instance}
"""

RETURN = r"""
files:
  description: The files, policies and templates.
  type: list
  elements: str
  returned: success
policies:
  description: The policy documents by identity.
  type: dict
  returned: success
stacks:
  description: Files with CloudFormation templates by identity.
  type: dict
  returned: success
wide:
  description: Where the policies had to be wider than they could be, and what would make them narrower.
  type: list
  elements: str
  returned: success
"""

import json
import os
from collections.abc import Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._files import Change, File
from ansible_collections.fpga.hybrid.plugins.module_utils._iam import IamError, make_scope, policy_of, stack_of
from ansible_collections.fpga.hybrid.plugins.module_utils._iam_identities import IDENTITIES


def wide(cluster: dict[str, Any]) -> Iterator[str]:
    if not cluster.get("id"):
        yield (
            "Without the cluster's id these policies hold for every cluster of this collection's in the account. "
            "Give it (-e cluster_id=..., from /etc/fpga-hybrid/cluster.json on the control plane) once site.yml has made it."
        )
    if not cluster.get("account_id"):
        yield "Without cluster_aws_account_id these policies hold in whichever account they are put into."


def documents(params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Policies and templates by identity."""
    cluster = params["cluster"]
    scope = make_scope(
        cluster["name"],
        cluster["region"],
        params["pools"],
        account=cluster.get("account_id") or "",
        cluster_id=cluster.get("id") or None,
        ssm_prefix=cluster.get("ssm_prefix") or "",
        path=params["path"],
        instance_roles=params["instance_roles"],
    )
    chosen = [IDENTITIES[name] for name in params["identities"] or IDENTITIES]
    given = {"make_role": params["make_roles"], "boundary": params["permissions_boundary"], "trusted": params["trusted"]}
    return {one.name: policy_of(one, scope) for one in chosen}, {one.name: stack_of(one, scope, **given) for one in chosen}


def text(document: Any) -> str:
    return json.dumps(document, indent=2) + "\n"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "identities": {"type": "list", "elements": "str", "default": []},
            "cluster": {"type": "dict", "required": True},
            "pools": {"type": "list", "elements": "dict", "default": []},
            "make_roles": {"type": "bool", "default": False},
            "path": {"type": "str", "default": "/"},
            "permissions_boundary": {"type": "str", "default": ""},
            "trusted": {"type": "list", "elements": "str", "default": []},
            "instance_roles": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not os.path.isabs(params["dest"]):
        module.fail_json(msg=f"dest is {params['dest']!r}, expected an absolute path. Name the folder for the policies: -e dest=DIR.")
    unknown = sorted(set(params["identities"]) - set(IDENTITIES))
    if unknown:
        module.fail_json(msg=f"identities: found {', '.join(unknown)}; expected some of {', '.join(IDENTITIES)}. Mend the name.")
    missing = [key for key in ("name", "region") if not params["cluster"].get(key)]
    if missing:
        module.fail_json(msg=f"cluster.{missing[0]}: found nothing; expected the cluster's {missing[0]}. Policies name it in every resource. Say it.")
    try:
        policies, stacks = documents(params)
        wanted = {os.path.join(params["dest"], f"{name}.policy.json"): text(policy) for name, policy in policies.items()}
        templates = {name: os.path.join(params["dest"], f"{name}.cloudformation.json") for name in stacks}
        wanted.update({templates[name]: text(stack) for name, stack in stacks.items()})
        changes = [Change(path, File.read(path), File(content)) for path, content in sorted(wanted.items())]
        if not module.check_mode:
            for change in changes:
                change.apply()
    except (IamError, OSError) as error:
        module.fail_json(msg=str(error))
    changed = [change for change in changes if change.changed]
    diff = [change.diff() for change in changed]
    module.exit_json(changed=bool(changed), diff=diff, files=sorted(wanted), policies=policies, stacks=templates, wide=list(wide(params["cluster"])))


if __name__ == "__main__":
    main()
