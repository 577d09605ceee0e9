# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_versions
short_description: The exact versions of a cluster
version_added: 0.9.0
description:
  - Resolves what is declared against the table C(roles/cluster/vars/versions.yml). What the cluster has recorded wins over the table's defaults.
  - Fails on a combination that the table doesn't know, with the nearest one that it does.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: C(cluster_kubernetes_version), a minor or an exact version.
    type: str
    required: true
  cni:
    description: C(cluster_cni).
    type: str
    default: calico
  calico:
    description: C(cluster_calico_version). Empty means the table's newest that is known to work.
    type: str
    default: ""
  runtime:
    description: C(cluster_container_runtime).
    type: str
    default: containerd
  allow_untested:
    description: C(cluster_allow_untested).
    type: list
    elements: str
    default: []
  recorded:
    description: The versions that the cluster has recorded.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the exact version of Kubernetes
  ansible.builtin.debug:
    msg: "{{ ('1.36' | fpga.hybrid.cluster_versions).kubernetes }}"
"""

RETURN = r"""
_value:
  description: C(minor), C(kubernetes), C(package_revision), C(containerd), C(docker), C(cri_dockerd), C(calico), C(helm), C(images) and C(tested).
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._problems import listing
from ansible_collections.fpga.hybrid.plugins.module_utils._versions import load_table, resolve


def cluster_versions(
    kubernetes: str,
    cni: str = "calico",
    calico: str = "",
    runtime: str = "containerd",
    allow_untested: Sequence[str] = (),
    recorded: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    versions, problems = resolve(load_table(), kubernetes, cni, calico, runtime, allow_untested, recorded or {})
    if versions is None:
        raise AnsibleFilterError(listing(problems))
    result: dict[str, Any] = versions.as_dict()
    return result


class FilterModule:
    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        return {"cluster_versions": cluster_versions}
