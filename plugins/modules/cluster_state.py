#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: the cluster's id and recorded versions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_state
short_description: The cluster's id and recorded versions
version_added: 0.9.0
description:
  - Reads or writes C(cluster.json) on the control plane's host, which holds the cluster's id, name and exact versions.
  - The id is a UUID made once. A host that is the control plane of another cluster is refused, and so is one whose control plane stands while the file is lost.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  folder:
    description: The state folder.
    type: path
    default: /etc/fpga-hybrid
  state:
    description: V(read) changes nothing; V(present) makes the id where there is none.
    type: str
    choices: [read, present]
    default: read
  cluster_name:
    description: Name of the cluster.
    type: str
  versions:
    description: The versions to record, with O(state=present). Left alone if omitted, and where no API server of kubeadm's is on the host.
    type: dict
  renew_lock_of:
    description: The run whose lock is to be renewed, if it holds it. Not in check mode.
    type: dict
attributes:
  check_mode:
    support: full
    description: Shows what would be written. An id that a real run would make is shown as zeros.
  diff_mode:
    support: full
    description: Shows the file before and after.
"""

EXAMPLES = r"""
- name: Make the cluster's id
  fpga.hybrid.cluster_state:
    state: present
    cluster_name: InAccel
"""

RETURN = r"""
record:
  description: C(cluster_id), C(cluster_name), null before the first run, and C(versions), which names the running Kubernetes if none is recorded.
  returned: success
  type: dict
keeper:
  description: Whether role keeper has been here and was not taken out.
  returned: success
  type: bool
lock_holder:
  description: Who holds the run's lock, or null.
  returned: success
  type: dict
"""

import uuid
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from ansible_collections.fpga.hybrid.plugins.module_utils._cluster_state import (
    KEEPER_FILE,
    MANIFEST,
    NOT_YET,
    ClusterState,
    StateError,
    describe,
    plan,
    running_kubernetes,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._lock import LockError, LockFile, holder_from


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "default": "/etc/fpga-hybrid"},
            "state": {"type": "str", "choices": ["read", "present"], "default": "read"},
            "cluster_name": {"type": "str"},
            "versions": {"type": "dict"},
            "renew_lock_of": {"type": "dict"},
        },
        required_if=[("state", "present", ["cluster_name"])],
        supports_check_mode=True,
    )
    folder = Path(module.params["folder"])
    path = folder / "cluster.json"
    manifest = (Path("/") / MANIFEST).read_text(encoding="utf-8") if (Path("/") / MANIFEST).exists() else ""
    # Before there is a cluster, a version is only an intention, which the next run may change.
    versions = module.params["versions"] if running_kubernetes(manifest) else None
    try:
        found = ClusterState.parse(path.read_text(encoding="utf-8"), str(path)) if path.exists() else None
        wanted = found
        if module.params["state"] == "present":
            wanted = plan(found, module.params["cluster_name"], versions, lambda: NOT_YET if module.check_mode else str(uuid.uuid4()), stands=bool(manifest))
            if wanted != found and not module.check_mode:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _files.write(str(path), _files.File(wanted.text(), 0o600))
        lock = LockFile(folder)
        renew = module.params["renew_lock_of"]
        standing = lock.renew(holder_from(renew)) if renew and not module.check_mode else lock.read()
    except (StateError, LockError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=wanted != found,
        record=describe(wanted, manifest),
        keeper=(folder / KEEPER_FILE).exists(),
        lock_holder=vars(standing.holder) if standing else None,
        diff={"before_header": str(path), "after_header": str(path), "before": found.text() if found else "", "after": wanted.text() if wanted else ""},
    )


if __name__ == "__main__":
    main()
