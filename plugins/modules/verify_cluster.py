#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: verify_cluster
short_description: Starts and removes the probe pods of the verify table, and asks the API server about the cluster
version_added: 0.9.0
description:
  - Runs on a control plane host.
  - V(state=started) removes what a killed run left, makes one pod and one Service a node in the namespace C(fpga-hybrid-verify), and waits for them.
  - V(state=finished) removes that namespace, and meanwhile looks at nodes, kubelets, certificates and the record.
  - Together they leave the cluster as it was, so neither reports a change; whether the removal worked is a line of the table.
  - A test that fails is a line with O(ignore:ok=false), not a failed module.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
attributes:
  check_mode:
    support: full
    description: Makes no probe pods in check mode; everything that only reads is done.
  diff_mode:
    support: none
    description: There is nothing to compare.
options:
  state:
    description: Before or after the tests on the nodes.
    type: str
    choices: [started, finished]
    required: true
  control_plane:
    description: This host's name in the cluster.
    type: str
    required: true
  image:
    description: The probe pods' image. Empty means the pause image that each node's container runtime has already.
    type: str
    default: ""
  full_mesh:
    description: Up to so many nodes everybody tests everybody. Above, each node tests its neighbours and one node of each other site.
    type: int
    default: 12
  places:
    description:
      - The address or name of each declared host outside the VPN, from which follows at which site it stands.
      - Hosts in one of O(lan_networks), or else in the same C(/24), are one site. Nodes with the label C(topology.kubernetes.io/zone) stand in that zone.
    type: dict
    default: {}
  lan_networks:
    description: The declared networks of rooms.
    type: list
    elements: str
    default: []
  answer_here:
    description: Have this host's probe pod answer, because M(fpga.hybrid.verify_node) will not run on it.
    type: bool
    default: false
  wait:
    description: Seconds to wait for the probe pods, and for their removal.
    type: int
    default: 20
  nodes:
    description: Nodes to judge. Empty means all.
    type: list
    elements: str
    default: []
  declared:
    description: The address that each declared node should have as its InternalIP.
    type: dict
    default: {}
  cluster_id:
    description: The cluster's id, which the record must carry.
    type: str
  versions:
    description: The declared versions by component, and whether this combination was ever run by us.
    type: dict
    default: {}
  cni:
    description: The declared network plugin.
    type: str
    default: calico
  keeper:
    description:
      - keeper's configuration on this host. Where it is, what keeper says of the node pools and what stands on their nodes are lines of the table, too.
    type: path
    default: /etc/fpga-hybrid/keeper.json
  unneeded:
    description: After how long the autoscaler ends an idle instance, as V(5m). One that is idle for longer is a warning.
    type: str
    default: 5m
  kubeconfig:
    description: An administrator's kubeconfig on this host.
    type: path
    default: /etc/kubernetes/admin.conf
"""

EXAMPLES = r"""
- name: Start a probe pod on each node
  fpga.hybrid.verify_cluster:
    state: started
    control_plane: cp1
  register: __verify_cluster
"""

RETURN = r"""
lines:
  description: Lines of the verify table.
  returned: success
  type: list
  elements: dict
pods:
  description: The probe pods' addresses by node.
  returned: O(state=started), when the API server answered
  type: dict
services:
  description: The address of the Service in front of each node's probe pod.
  returned: O(state=started), when the API server answered
  type: dict
peers:
  description: Which peers each node tests.
  returned: O(state=started), when the API server answered
  type: dict
kubernetes_address:
  description: The API server's Service address.
  returned: O(state=started), when the API server answered
  type: str
dns_address:
  description: The DNS Service's address.
  returned: O(state=started), when the API server answered
  type: str
answering:
  description: Nodes whose probe pod this module had answer.
  returned: O(state=started)
  type: list
  elements: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _keeper_status as keeper_status
from ansible_collections.fpga.hybrid.plugins.module_utils import _verify as verify
from ansible_collections.fpga.hybrid.plugins.module_utils import _verify_cluster as cluster
from ansible_collections.fpga.hybrid.plugins.module_utils import _verify_pools as pools
from ansible_collections.fpga.hybrid.plugins.module_utils import _verify_probe as probe
from ansible_collections.fpga.hybrid.plugins.module_utils._duration import EXAMPLE, DurationError, seconds
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError, run


def unreachable(control_plane: str, error: Exception) -> verify.Line:
    remedy = (
        f"On {control_plane}: `systemctl status kubelet`, `ls /var/log/containers | grep apiserver`, and is the name of cluster_control_plane_endpoint "
        "resolved to this host (`getent hosts`)?"
    )
    return verify.Line(verify.API, control_plane, False, cluster.in_a_line(error), "an answer", remedy=remedy)


def start(module: AnsibleModule, kubectl: Kubectl) -> dict[str, Any]:
    here, params = module.params["control_plane"], module.params
    try:
        plan: dict[str, Any] = cluster.start_probes(
            kubectl,
            params["image"],
            params["full_mesh"],
            params["wait"],
            inventory=cluster.Inventory(params["places"], params["lan_networks"]),
            only_checking=module.check_mode,
        )
    except KubeError as error:
        return {"lines": [unreachable(here, error).as_dict()], "answering": []}
    plan["answering"] = []
    if params["answer_here"] and here in plan["pods"]:
        try:
            probe.answer(probe.find_namespace(plan["pods"][here]), here, seconds=120)
            plan["answering"] = [here]
        except (probe.ProbeError, OSError) as error:
            module.warn(f"{here}: its probe pod cannot answer ({error}); the Service lines that need it are left out.")
    return plan


def unneeded(module: AnsibleModule) -> int:
    try:
        return seconds(module.params["unneeded"])
    except DurationError as error:
        module.fail_json(msg=f"unneeded: {error}, expected {EXAMPLE}.")
        raise


def finish(module: AnsibleModule, kubectl: Kubectl) -> list[verify.Line]:
    here, params = module.params["control_plane"], module.params
    lines: list[verify.Line] = []
    answers = True
    wanted = cluster.Wanted(cluster_id=params["cluster_id"], versions=params["versions"], cni=params["cni"])
    now, idle = time.time(), unneeded(module)
    keeper = pools.read(params["keeper"], lambda: keeper_status.is_running(run(list(keeper_status.IS_ACTIVE), timeout=10)[0]))
    if keeper:
        lines += pools.judge(here, keeper, now)
    try:
        if not module.check_mode:
            kubectl.call("delete", "namespace", cluster.NAMESPACE, "--ignore-not-found", "--wait=false")
        lines += cluster.look(kubectl, here, params["nodes"], params["declared"], wanted)
        if keeper:
            lines += pools.look(kubectl, here, idle, now, cluster.NAMESPACE)
    except KubeError as error:
        lines.append(unreachable(here, error))
        answers = False
    kubeadm = module.get_bin_path("kubeadm")
    if kubeadm:
        code, text, _error = module.run_command([kubeadm, "certs", "check-expiration", "-o", "json"])
        if code == 0:
            lines.append(cluster.judge_certificates(here, text))
    if answers and not module.check_mode:
        lines.append(clean_up(here, kubectl, params["wait"]))
    elif not module.check_mode:
        lines.append(verify.Line(verify.CLEAN_UP, here, None, f"not looked at; the next verify.yml removes namespace {cluster.NAMESPACE}"))
    return lines


def clean_up(here: str, kubectl: Kubectl, seconds: float) -> verify.Line:
    expected = f"namespace {cluster.NAMESPACE} is gone"
    try:
        cluster.remove_probes(kubectl, seconds)
    except KubeError as error:
        remedy = f"`kubectl delete namespace {cluster.NAMESPACE}`; while a node is down its pod cannot end, the next verify.yml removes it."
        return verify.Line(verify.CLEAN_UP, here, False, cluster.in_a_line(error), expected, remedy=remedy)
    return verify.Line(verify.CLEAN_UP, here, True, "probe pods, their Services and namespace made and removed", expected)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "finished"], "required": True},
            "control_plane": {"type": "str", "required": True},
            "image": {"type": "str", "default": ""},
            "full_mesh": {"type": "int", "default": 12},
            "places": {"type": "dict", "default": {}},
            "lan_networks": {"type": "list", "elements": "str", "default": []},
            "answer_here": {"type": "bool", "default": False},
            "wait": {"type": "int", "default": 20},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "declared": {"type": "dict", "default": {}},
            "cluster_id": {"type": "str"},
            "versions": {"type": "dict", "default": {}},
            "cni": {"type": "str", "default": "calico"},
            "keeper": {"type": "path", "default": "/etc/fpga-hybrid/keeper.json"},
            "unneeded": {"type": "str", "default": "5m"},
            "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
        },
        supports_check_mode=True,
    )
    kubectl = Kubectl(run, module.params["kubeconfig"], request_timeout=10, bounded=True)
    if module.params["state"] == "started":
        module.exit_json(changed=False, **start(module, kubectl))
    module.exit_json(changed=False, lines=[line.as_dict() for line in finish(module, kubectl)])


if __name__ == "__main__":
    main()
