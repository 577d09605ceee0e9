#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: the story is in module_utils/_evaluation.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evaluation_step
short_description: One step of the tutorial's evaluation, waited for, checked and told
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Runs on a control plane host. Two jobs ask for the same accelerator; the second makes an instance appear.
    Playbook evaluate.yml has the steps in their order.
  - Each step waits for what has to happen, and fails with what happened instead.
attributes:
  check_mode:
    support: none
    description: Nothing is done in check mode, since what happens next depends on what happened.
  diff_mode:
    support: none
    description: There is nothing to compare.
options:
  step:
    description:
      - V(site), who is there. V(first) and V(second), the jobs are made. V(scale_up), the autoscaler chooses a pool. V(joined), the instance is a node.
        V(running), the second job runs there. V(first_ends) and V(second_ends), the jobs end. V(gone), the idle instance has gone. V(clean), the jobs go.
    type: str
    required: true
    choices: [site, first, second, scale_up, joined, running, first_ends, second_ends, gone, clean]
  story:
    description: RV(story) of the step before.
    type: dict
    default: {}
  resource:
    description: The accelerator's resource.
    type: str
    required: true
  copies:
    description: How many of it each job asks for.
    type: int
    default: 4
  cluster_name:
    description: The cluster's name, which the pools' Auto Scaling groups begin with.
    type: str
    required: true
  pools:
    description: The pools that the autoscaler may choose from, as in M(fpga.hybrid.node_pool).
    type: list
    elements: dict
    required: true
  promises:
    description: For each of them, in the same order, what P(fpga.hybrid.node_template_expected#filter) says of it.
    type: list
    elements: dict
    required: true
  image:
    description: An image whose program works for C(EVALUATION_SECONDS) seconds, an environment variable, and ends with status 0.
    type: str
    required: true
  arguments:
    description: Its arguments. Kubernetes puts variables in where C($(EVALUATION_SECONDS)) stands.
    type: list
    elements: str
    default: []
  seconds:
    description: How long each job works. The first must still work when the second begins, and the second must still work when the first has ended.
    type: list
    elements: int
    default: [90, 60]
  patience:
    description: Seconds to wait for an instance to come or go.
    type: int
    default: 900
  keeper_status:
    description: Where keeper writes its status on this host.
    type: path
    default: /var/lib/fpga-hybrid/keeper/status.json
  kubeconfig:
    description: An administrator's kubeconfig on this host.
    type: path
    default: /etc/kubernetes/admin.conf
"""

EXAMPLES = r"""
- name: Look who is there
  fpga.hybrid.evaluation_step:
    step: site
    resource: inaccel.com/xgboost.exact
    cluster_name: InAccel
    pools:
      - {name: f2-12xlarge, instance_type: f2.12xlarge, max_size: 2, availability_zones: [us-east-1a], publish: com.inaccel.xgboost.exact}
    promises:
      - labels: {fpga.hybrid/pool: f2-12xlarge}
        taints: []
        resources: {inaccel.com/xgboost.exact: "4"}
    image: registry.example.org/xgboost-fit:1
"""

RETURN = r"""
told:
  description: What happened, a line each, with seconds since the first step.
  returned: always
  type: list
  elements: str
story:
  description: What the next step has to know.
  returned: success
  type: dict
"""

import json

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _evaluation as evaluation
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError, run


def phase_of(status: str, instance: str) -> str | None:
    """What keeper says of an instance; None if it says nothing."""
    try:
        with open(status, encoding="utf-8") as file:
            found = json.load(file)["instances"].get(instance, {}).get("phase")
    except (OSError, ValueError, KeyError):
        return None
    return str(found) if found else None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "required": True, "choices": list(evaluation.STEPS)},
            "story": {"type": "dict", "default": {}},
            "resource": {"type": "str", "required": True},
            "copies": {"type": "int", "default": 4},
            "cluster_name": {"type": "str", "required": True},
            "pools": {"type": "list", "elements": "dict", "required": True},
            "promises": {"type": "list", "elements": "dict", "required": True},
            "image": {"type": "str", "required": True},
            "arguments": {"type": "list", "elements": "str", "default": []},
            "seconds": {"type": "list", "elements": "int", "default": [90, 60]},
            "patience": {"type": "int", "default": 900},
            "keeper_status": {"type": "path", "default": "/var/lib/fpga-hybrid/keeper/status.json"},
            "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
        },
        supports_check_mode=False,
    )
    params = module.params
    if len(params["seconds"]) != 2 or min(params["seconds"]) < 1:
        module.fail_json(msg=f"seconds: found {params['seconds']}; expected two numbers above 0, for the first job and the second.")
    plan = evaluation.Plan(
        resource=params["resource"],
        copies=params["copies"],
        promises={
            pool["name"]: int(promise["resources"].get(params["resource"], 0)) for pool, promise in zip(params["pools"], params["promises"], strict=True)
        },
        groups={pool["name"]: pool.get("group_name") or f"{params['cluster_name']}-{pool['name']}" for pool in params["pools"]},
        image=params["image"],
        arguments=params["arguments"],
        seconds=dict(zip((evaluation.FIRST, evaluation.SECOND), params["seconds"], strict=True)),
        patience=params["patience"],
    )
    steps = evaluation.Evaluation(
        Kubectl(run, params["kubeconfig"], request_timeout=60),
        plan,
        evaluation.Story.restore(params["story"]),
        keeper=lambda instance: phase_of(params["keeper_status"], instance),
    )
    try:
        steps.do(params["step"])
    except (evaluation.EvaluationError, KubeError) as error:
        module.fail_json(msg=str(error), told=steps.told)
    module.exit_json(changed=params["step"] in ("first", "second"), told=steps.told, story=steps.story.keep())


if __name__ == "__main__":
    main()
