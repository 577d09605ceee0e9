#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: planning and applying are in module_utils/_kubectl.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubectl_apply
short_description: Applies objects by server-side apply, truthfully
version_added: 0.1.0
description:
  - Runs where kubectl and an administrator's kubeconfig are, that is on a control plane. Needs no Python library there.
  - Field manager is C(fpga-hybrid). Fields that others have set and that are not in the objects stay.
  - A server-side dry run decides what would change; only those objects are written, and the same dry run is what check mode and diff show.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  definition:
    description: Objects, as a list or one dictionary.
    type: raw
  src:
    description: A file on the host with objects in YAML or JSON.
    type: path
  kubeconfig:
    description: The kubeconfig to use.
    type: path
    default: /etc/kubernetes/admin.conf
  wait_for:
    description: Workloads to wait for after the apply, as C(daemonset/calico-node).
    type: list
    elements: str
    default: []
  wait_namespace:
    description: Their namespace.
    type: str
    default: kube-system
  wait_timeout:
    description: Seconds to wait for each of them. On failure the reasons of its pods are said.
    type: int
    default: 180
attributes:
  check_mode:
    description: The server says what would change. On a host without a cluster everything would be created.
    support: full
  diff_mode:
    description: Shows each object that changes.
    support: full
"""

EXAMPLES = r"""
- name: Apply a manifest
  fpga.hybrid.kubectl_apply:
    src: /etc/fpga-hybrid/cni/calico.json
    wait_for: [daemonset/calico-node]
"""

RETURN = r"""
created:
  description: Objects that were not there.
  type: list
  elements: str
  returned: always
updated:
  description: Objects that differed.
  type: list
  elements: str
  returned: always
"""

import json
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import (
    ADMIN_KUBECONFIG,
    Applied,
    Kubectl,
    KubeError,
    Object,
    ServerSideApply,
    identity,
    parse_yaml,
    run,
    wait_for_rollouts,
)


def objects(module: AnsibleModule) -> list[Object]:
    definition, name = module.params["definition"], "definition"
    if module.params["src"]:
        name = module.params["src"]
        with open(name, encoding="utf-8") as stream:
            definition = stream.read()
    if isinstance(definition, str):
        definition = parse_yaml(run, definition, name)
    return [definition] if isinstance(definition, dict) else list(definition)


def diff(plan: Applied) -> list[dict[str, str]]:
    def text(value: Object | None) -> str:
        return json.dumps(value, indent=2, sort_keys=True) + "\n" if value is not None else ""

    names = [*plan.created, *plan.updated]
    return [{"before_header": name, "after_header": name, "before": text(plan.before.get(name)), "after": text(plan.after.get(name))} for name in names]


def main() -> None:
    spec: dict[str, t.Any] = {
        "definition": {"type": "raw"},
        "src": {"type": "path"},
        "kubeconfig": {"type": "path", "default": ADMIN_KUBECONFIG},
        "wait_for": {"type": "list", "elements": "str", "default": []},
        "wait_namespace": {"type": "str", "default": "kube-system"},
        "wait_timeout": {"type": "int", "default": 180},
    }
    module = AnsibleModule(argument_spec=spec, required_one_of=[("definition", "src")], mutually_exclusive=[("definition", "src")], supports_check_mode=True)
    kubectl = Kubectl(run, module.params["kubeconfig"])
    try:
        src = module.params["src"]
        # Before the first run there is no API to ask, and a file that this run would have written may be missing.
        if module.check_mode and (not os.path.exists(kubectl.kubeconfig) or (src and not os.path.exists(src))):
            names = [src] if src else [identity(value) for value in objects(module)]
            module.exit_json(changed=True, created=names, updated=[], diff={"before": "", "after": "".join(f"{name}\n" for name in names)})
        wanted = objects(module)
        apply = ServerSideApply(kubectl)
        plan = apply.plan(wanted)
        if not module.check_mode:
            if plan.changed:
                apply.apply(wanted, plan)
            wait_for_rollouts(kubectl, module.params["wait_for"], module.params["wait_namespace"], module.params["wait_timeout"])
    except (KubeError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=plan.changed, created=plan.created, updated=plan.updated, diff=diff(plan))


if __name__ == "__main__":
    main()
