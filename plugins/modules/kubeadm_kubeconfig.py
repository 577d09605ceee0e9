#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administrator's kubeconfig in people's homes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_kubeconfig
short_description: The administrator's kubeconfig for users of the control plane
version_added: 0.9.0
description:
  - Copies C(/etc/kubernetes/admin.conf) to C(~/.kube/config) of each user, mode 0600.
  - A file there that is for another cluster, or for this one and others, stays. The copy then goes beside it, as C(~/.kube/NAME.config), and a
    warning says so.
  - In a file that is for this cluster alone its entry and the administrator's are mended. Contexts, and what else a user has put there, stay.
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
    description: V(absent) removes the files that are for this cluster alone, and no others.
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

import functools
import os
import pwd

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _kubeconfig
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import KubeadmError
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import KubeError, Object, run


def find_user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise KubeadmError(f"cluster_admins: the control plane has no user {name}. Make the user first, or take the name out.") from error


class Ours:
    """The administrator's kubeconfig, and what follows from it for files in homes."""

    def __init__(self, host: Host, text: str, cluster_name: str) -> None:
        self._host = host
        self._text = text
        self._cluster_name = cluster_name

    @functools.cached_property
    def _config(self) -> Object:
        config: Object = _kubeconfig.load(self._host.run, self._text)
        if not _kubeconfig.authorities(config) - {""}:
            path = self._host.paths.admin
            raise KubeadmError(f"{path} has no CA of a cluster in it. Move it away and have it made anew: kubeadm init phase kubeconfig admin; then run again.")
        return config

    def place(self, home: str) -> tuple[str, bool]:
        """Where this cluster's file is or goes, and whether that is beside one that is not for this cluster alone."""
        usual = os.path.join(home, ".kube", "config")
        found = self._host.read(usual)
        if not (found or "").strip() or self.is_in(found):
            return usual, False
        return os.path.join(home, ".kube", f"{self._cluster_name}.config"), True

    def is_in(self, found: str | None) -> bool:
        """Whether a file is for this cluster, and for no other one."""
        return found == self._text or _kubeconfig.is_for_same(_kubeconfig.load(self._host.run, found or ""), self._config)

    def wanted(self, found: str | None) -> str:
        """What has to be in a file of this cluster."""
        if found is None or not self.is_in(found) or found == self._text:
            return self._text
        config = _kubeconfig.load(self._host.run, found)
        renewed = _kubeconfig.renewed(config, self._config)
        return found if renewed == config else _kubeconfig.dump(self._host.run, renewed)


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
        ours = Ours(host, admin or "", module.params["cluster_name"])
        for name in module.params["users"] if admin else []:
            user = find_user(name)
            path, beside = ours.place(user.pw_dir)
            found = host.read(path)
            if absent and ours.is_in(found):
                paths.append(path)
                if not module.check_mode:
                    host.remove(path)
            if absent:
                continue
            if beside:
                module.warn(f"{name}'s ~/.kube/config is not for this cluster alone and stays as it is; the one for this cluster is {path}.")
            text = ours.wanted(found)
            if not as_it_should_be(host, path, text, user):
                paths.append(path)
                if not module.check_mode:
                    write(host, path, text, user)
    except (KubeadmError, KubeError, OSError) as error:
        module.fail_json(msg=str(error))
    names = "".join(f"{path}\n" for path in paths)
    module.exit_json(changed=bool(paths), paths=paths, diff={"before": names if absent else "", "after": "" if absent else names})


if __name__ == "__main__":
    main()
