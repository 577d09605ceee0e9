#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: the program does it, the same on-prem and in AWS."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bootstrap_join
short_description: Joins this host to its cluster, by the program that instances join with
version_added: 0.9.0
description:
  - Writes the join bundle to a file of mode 0600 that lives as long as the program C(fpga-hybrid-bootstrap) runs, and calls that.
  - A join that was killed in the middle is recovered. State that is not ours, and a CNI configuration of somebody else, are refused.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  node_name:
    description: Name of the node.
    type: str
    required: true
  endpoint:
    description: Name and port of the API server, C(name:port).
    type: str
    required: true
  endpoint_address:
    description: Address that the endpoint's name leads to, for the hosts file. Left out where a name server knows it.
    type: str
  token:
    description: Join token. Needed but for check mode.
    type: str
  ca_cert_hashes:
    description: The hashes that pin the cluster's CA. Needed but for check mode.
    type: list
    elements: str
    default: []
  vpn_profile:
    description: The VPN's profile of this host. Left out where the VPN is up already, or is not needed.
    type: str
  vpn_address:
    description: This host's address in the VPN.
    type: str
  node_address:
    description: The address that becomes the node's InternalIP. Left out, it is O(vpn_address).
    type: str
  cni_files:
    description:
      - CNI configurations that may be there, by file name. Any other in C(/etc/cni/net.d) is refused, because the runtime would give pods that network.
      - Left out, anything may be there.
    type: list
    elements: str
  timeout:
    description: Seconds that the whole join may take.
    type: int
    default: 300
  config:
    description: What the node is (C(node.json)), as M(fpga.hybrid.kubeadm_kubelet) writes it.
    type: path
    default: /etc/fpga-hybrid/node.json
  program:
    description: The program, which role C(fpga.hybrid.bootstrap) installs.
    type: path
    default: /opt/fpga-hybrid/bin/fpga-hybrid-bootstrap
attributes:
  check_mode:
    description: Says whether it would join. Asks nobody but the host.
    support: full
  diff_mode:
    description: Shows the step that is to be made.
    support: partial
    details: The files that kubeadm makes are not shown.
seealso:
  - module: fpga.hybrid.kubeadm_token
  - module: fpga.hybrid.kubeadm_node
"""

EXAMPLES = r"""
- name: Join
  fpga.hybrid.bootstrap_join:
    node_name: worker1
    endpoint: api.example.org:6443
    endpoint_address: 172.27.224.1
    vpn_address: 172.27.224.12
    token: "{{ __kubeadm_token.token }}"
    ca_cert_hashes: "{{ __kubeadm_token.ca_cert_hashes }}"
"""

RETURN = r"""
situation:
  description: What was found, as in M(fpga.hybrid.kubeadm_state).
  type: str
  returned: always
changes:
  description: What the program changed, one sentence each.
  type: list
  elements: str
  returned: success
steps:
  description: Its steps with their seconds.
  type: list
  elements: dict
  returned: when the program ran
failure:
  description: Kind, exit status, step and sentence of a join that failed; the kinds stand in the README of role C(fpga.hybrid.bootstrap).
  type: dict
  returned: failure
"""

import json
import os
import tempfile
import typing as t
from contextlib import suppress

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import CLEAN, FRESH, JOINED, KubeadmError, Object
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host, refuse_foreign_networks, refuse_situation
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import run

BUNDLE_SCHEMA = 1


def look(params: Object, host: Host) -> str:
    """What is there; KubeadmError where that must not be touched."""
    with host.lock(timeout=300):
        _found, situation = host.situation("worker", api_timeout=0)
    refuse_situation(params["node_name"], "worker", situation)
    if situation.state in (FRESH, CLEAN):
        refuse_foreign_networks(host, params["node_name"], params["cni_files"])
    return situation.state


def bundle(params: Object) -> Object:
    """As bootstrap reads it (fpga_hybrid/bundle.py)."""
    fields = ("endpoint", "endpoint_address", "token", "ca_cert_hashes", "vpn_profile", "vpn_address", "node_address")
    return {"schema": BUNDLE_SCHEMA, "node": params["node_name"], **{name: params[name] for name in fields}}


def join(params: Object, host: Host) -> Object:
    """The program's answer; KubeadmError where it gave none."""
    os.makedirs(host.paths.run, mode=0o700, exist_ok=True)
    handle, path = tempfile.mkstemp(prefix="bundle-", dir=host.paths.run)  # 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(bundle(params), stream)
        argv = [params["program"], "--config", params["config"], "--bundle", path, "--node-name", params["node_name"]]
        # All nodes of a run are waited for together, at its end.
        code, out, err = host.run([*argv, "--until", "joined", "--timeout", str(params["timeout"])])
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)
    try:
        answer: Object = json.loads(out)
    except ValueError:
        words = err.strip() or "nothing said"
        raise KubeadmError(f"{params['node_name']}: {params['program']} gave no answer (exit code {code}): {words}") from None
    return answer


def main() -> None:
    spec: dict[str, t.Any] = {
        "node_name": {"type": "str", "required": True},
        "endpoint": {"type": "str", "required": True},
        "endpoint_address": {"type": "str"},
        "token": {"type": "str", "no_log": True},
        "ca_cert_hashes": {"type": "list", "elements": "str", "default": []},
        "vpn_profile": {"type": "str", "no_log": True},
        "vpn_address": {"type": "str"},
        "node_address": {"type": "str"},
        "cni_files": {"type": "list", "elements": "str"},
        "timeout": {"type": "int", "default": 300},
        "config": {"type": "path", "default": "/etc/fpga-hybrid/node.json"},
        "program": {"type": "path", "default": "/opt/fpga-hybrid/bin/fpga-hybrid-bootstrap"},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    params, host = module.params, Host(run)
    try:
        situation = look(params, host)
        changed = situation != JOINED
        answer = join(params, host) if changed and not module.check_mode else {}
    except KubeadmError as error:
        module.fail_json(msg=str(error))
    if answer.get("failure"):
        module.fail_json(msg=f"{params['node_name']}: {answer['failure']['sentence']}", situation=situation, failure=answer["failure"], steps=answer["steps"])
    diff = {"before": "", "after": "join the cluster\n" if changed else ""}
    shown = {"steps": answer["steps"]} if answer else {}
    module.exit_json(changed=changed, situation=situation, changes=answer.get("changes", []), diff=diff, **shown)


if __name__ == "__main__":
    main()
