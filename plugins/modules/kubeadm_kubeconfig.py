#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administrator's kubeconfig in people's homes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_kubeconfig
short_description: The administrator's kubeconfig for users of the control plane
version_added: 0.1.0
description:
  - Copies C(/etc/kubernetes/admin.conf) to C(~/.kube/config) of each user, mode 0600.
  - A file there that is for another cluster stays. The copy then goes beside it, as C(~/.kube/NAME.config), and a warning says so.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  users:
    description: Names of the users.
    type: list
    elements: str
    required: true
  cluster_name:
    description: The cluster's name, for the file beside one of another cluster.
    type: str
    required: true
  state:
    description: V(absent) removes the files that are for this cluster, and no others.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Says which files would be written or removed.
    support: full
  diff_mode:
    description: The files carry keys, so only their names are shown.
    support: partial
    details: See the description.
"""

EXAMPLES = r"""
- name: Give root and alice a kubeconfig
  fpga.hybrid.kubeadm_kubeconfig:
    users: [root, alice]
    cluster_name: example
"""

RETURN = r"""
paths:
  description: The files that were written or removed.
  type: list
  elements: str
  returned: always
"""

import os
import pwd
import re

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import KubeadmError
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import run


def authority(text: str) -> str:
    """What tells clusters apart: the CA in a kubeconfig."""
    found = re.search(r"certificate-authority-data: *(\S+)", text)
    return found.group(1) if found else ""


def find_user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise KubeadmError(f"cluster_admins: the control plane has no user {name}. Make the user first, or take the name out.") from error


def place(host: Host, home: str, cluster_name: str, ours: str) -> tuple[str, bool]:
    """Where the file of this cluster is or goes, and whether that is beside one of another cluster."""
    usual = os.path.join(home, ".kube", "config")
    found = host.read(usual)
    foreign = found is not None and found.strip() != "" and authority(found) != ours
    return (os.path.join(home, ".kube", f"{cluster_name}.config"), True) if foreign else (usual, False)


def write(host: Host, path: str, text: str, user: pwd.struct_passwd) -> None:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        os.mkdir(folder, 0o700)
        os.chown(folder, user.pw_uid, user.pw_gid)
    host.write(path, text, 0o600)
    os.chown(path, user.pw_uid, user.pw_gid)


def as_it_should_be(host: Host, path: str, text: str, user: pwd.struct_passwd) -> bool:
    if host.read(path) != text:
        return False
    status = os.stat(path)
    return (status.st_mode & 0o777, status.st_uid) == (0o600, user.pw_uid)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "users": {"type": "list", "elements": "str", "required": True},
            "cluster_name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    host = Host(run)
    absent = module.params["state"] == "absent"
    admin = host.read(host.paths.admin)
    paths: list[str] = []
    try:
        if admin is None and not absent:
            raise KubeadmError(f"There is no {host.paths.admin}: this host is no control plane.")
        ours = authority(admin or "")
        for name in module.params["users"] if admin else []:
            user = find_user(name)
            path, beside = place(host, user.pw_dir, module.params["cluster_name"], ours)
            if absent and os.path.exists(path):
                paths.append(path)
                if not module.check_mode:
                    host.remove(path)
            if absent:
                continue
            if beside:
                module.warn(f"{name}'s ~/.kube/config is for another cluster and stays as it is; the one for this cluster is {path}.")
            if not as_it_should_be(host, path, admin or "", user):
                paths.append(path)
                if not module.check_mode:
                    write(host, path, admin or "", user)
    except (KubeadmError, OSError) as error:
        module.fail_json(msg=str(error))
    names = "".join(f"{path}\n" for path in paths)
    module.exit_json(changed=bool(paths), paths=paths, diff={"before": names if absent else "", "after": "" if absent else names})


if __name__ == "__main__":
    main()
