#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: planning and applying are in module_utils/_kubectl.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubectl_apply
short_description: Applies objects by server-side apply, truthfully
version_added: 0.9.0
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
  charts:
    description:
      - Charts to render on the host by helm, whose objects are applied together with those of O(definition) or O(src).
      - Their definitions of kinds (CRDs) are applied first, wherever they stand. Their hooks are left out, and no release is recorded.
    type: list
    elements: dict
    suboptions:
      release:
        description: The release's name, as templates see it.
        type: str
        required: true
      name:
        description: The chart's name in O(charts[].repository); without that a folder, or C(NAME/CHART) of a repository that helm knows on the host.
        type: str
        required: true
      version:
        description: Its exact version.
        type: str
        required: true
      repository:
        description: URL of the repository.
        type: str
        default: ""
      namespace:
        description: The namespace that templates see. It is not made.
        type: str
        default: default
      values:
        description: The chart's values.
        type: dict
        default: {}
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
    description: The server says what would change. On a host without a cluster, or without helm where O(charts) are given, everything would be created.
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

- name: Apply an operator and the kinds that it brings
  fpga.hybrid.kubectl_apply:
    definition: {apiVersion: v1, kind: Namespace, metadata: {name: tigera-operator}}
    charts:
      - release: calico
        name: tigera-operator
        version: v3.31.7
        repository: https://docs.tigera.io/calico/charts
        namespace: tigera-operator
    wait_for: [deployment/tigera-operator]
    wait_namespace: tigera-operator
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

from ansible_collections.fpga.hybrid.plugins.module_utils._helm import Chart, render
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


def objects(module: AnsibleModule, charts: list[Chart]) -> list[Object]:
    definition, name = module.params["definition"] or [], "definition"
    if module.params["src"]:
        name = module.params["src"]
        with open(name, encoding="utf-8") as stream:
            definition = stream.read()
    if isinstance(definition, str):
        definition = parse_yaml(run, definition, name)
    given = [definition] if isinstance(definition, dict) else list(definition)
    return given + [value for chart in charts for value in render(run, chart)]


def unknown_yet(module: AnsibleModule, kubectl: Kubectl, charts: list[Chart]) -> list[str]:
    """What cannot be compared in a check of a host that lacks the API, helm, or a file that the run would have made, by name; else nothing."""
    src = module.params["src"]
    missing_file = bool(src) and not os.path.exists(src)
    no_helm = bool(charts) and module.get_bin_path("helm") is None
    if os.path.exists(kubectl.kubeconfig) and not missing_file and not no_helm:
        return []
    given = [src] if src else [identity(value) for value in objects(module, [])]
    return [*given, *(f"chart {chart.place}" for chart in charts)]


def diff(plan: Applied) -> list[dict[str, str]]:
    def text(value: Object | None) -> str:
        return json.dumps(value, indent=2, sort_keys=True) + "\n" if value is not None else ""

    names = [*plan.created, *plan.updated]
    return [{"before_header": name, "after_header": name, "before": text(plan.before.get(name)), "after": text(plan.after.get(name))} for name in names]


def main() -> None:
    spec: dict[str, t.Any] = {
        "definition": {"type": "raw"},
        "src": {"type": "path"},
        "charts": {
            "type": "list",
            "elements": "dict",
            "options": {
                "release": {"type": "str", "required": True},
                "name": {"type": "str", "required": True},
                "version": {"type": "str", "required": True},
                "repository": {"type": "str", "default": ""},
                "namespace": {"type": "str", "default": "default"},
                "values": {"type": "dict", "default": {}},
            },
        },
        "kubeconfig": {"type": "path", "default": ADMIN_KUBECONFIG},
        "wait_for": {"type": "list", "elements": "str", "default": []},
        "wait_namespace": {"type": "str", "default": "kube-system"},
        "wait_timeout": {"type": "int", "default": 180},
    }
    module = AnsibleModule(
        argument_spec=spec,
        required_one_of=[("definition", "src", "charts")],
        mutually_exclusive=[("definition", "src")],
        supports_check_mode=True,
    )
    kubectl = Kubectl(run, module.params["kubeconfig"])
    charts = [Chart(**given) for given in module.params["charts"] or []]
    try:
        names = unknown_yet(module, kubectl, charts) if module.check_mode else []
        if names:
            module.exit_json(changed=True, created=names, updated=[], diff={"before": "", "after": "".join(f"{name}\n" for name in names)})
        wanted = objects(module, charts)
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
