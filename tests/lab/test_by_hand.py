# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""README's "Join a worker by hand": exactly its commands, on a host of the lab that Ansible has never seen; then site.yml takes it over."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
import yaml

from tests import readme
from tests.lab.site import CACHE, ROOT, lab, on, playbook

pytestmark = [pytest.mark.lab, pytest.mark.slow]

NAME, LAN, ADDRESS = "by-hand", "10.203.10.161", "172.27.224.61"
VALUES = {
    "name": NAME,
    "address": ADDRESS,
    "cluster": "lab",
    "version": "1.36.3",
    "endpoint": "api.lab.fpga-hybrid.test",
    "control_plane": "172.27.224.1",
}
VPN_SERVER, CONTROL_PLANE, WORKER, REMOVAL = (readme.with_values(script, VALUES) for script in readme.scripts("Join a worker by hand"))
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"

# What README asks of the worker's surroundings (package repositories, here the depot's), and what a host that is a container needs
# (inventories/lab/group_vars/all.yml, "This machine").
REPOSITORIES = """\
deb [signed-by=/etc/apt/depot.asc] https://depot/debian bookworm main
deb [signed-by=/etc/apt/depot.asc] https://depot/docker/linux/debian bookworm stable
deb [signed-by=/etc/apt/depot.asc] https://depot/kubernetes/core:/stable:/v1.36/deb/ /
"""
CONTAINERD = """\
version = 3
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
"""
REGISTRY = """\
server = "https://depot:5000/v2/{registry}"
[host."https://depot:5000/v2/{registry}"]
  capabilities = ["pull", "resolve"]
  override_path = true
  ca = "/etc/depot-ca.crt"
  [host."https://depot:5000/v2/{registry}".header]
    authorization = "Basic {login}"
"""


def put(host: str, path: str, content: str, mode: str = "644") -> None:
    encoded = base64.b64encode(content.encode()).decode()
    on(host, f"mkdir -p $(dirname {path}); install -m {mode} /dev/null {path}; echo {encoded} | base64 -d > {path}")


def move(host: str, name: str) -> None:
    """What README leaves to scp: a file from the control plane, where the VPN server is too, to the worker."""
    content = on("cp1", f"base64 -w0 /root/{name}; rm /root/{name}")
    on(host, f"umask 077; echo {content} | base64 -d > /root/{name}")


def as_root(host: str, script: str) -> str:
    return on(host, f"set -eu; export DEBIAN_FRONTEND=noninteractive; cd /root\n{script}")


@pytest.fixture(scope="module")
def worker():
    lab("host", "add", NAME, "--network", "onprem", "--address", LAN)
    login = "lab:" + (CACHE / "depot" / "password").read_text().strip()
    put(NAME, "/etc/depot-ca.crt", (CACHE / "depot" / "tls" / "ca.crt").read_text())
    put(NAME, "/etc/apt/depot.asc", (CACHE / "depot" / "key.asc").read_text())
    put(NAME, "/etc/apt/apt.conf.d/depot", 'Acquire::https::depot::CaInfo "/etc/depot-ca.crt";\n')
    put(NAME, "/etc/apt/auth.conf.d/depot.conf", "machine depot login {} password {}\n".format(*login.split(":")), mode="600")
    put(NAME, "/etc/apt/sources.list", REPOSITORIES)
    put(NAME, "/etc/containerd/conf.d/lab.toml", CONTAINERD)
    for registry in ("registry.k8s.io", "docker.io"):
        encoded = base64.b64encode(login.encode()).decode()
        put(NAME, f"/etc/containerd/certs.d/{registry}/hosts.toml", REGISTRY.format(registry=registry, login=encoded), mode="600")
    put(NAME, "/etc/systemd/system/containerd.service.d/lab.conf", "[Service]\nLimitNOFILE=20000\n")
    yield NAME
    as_root("cp1", REMOVAL)
    lab("host", "remove", NAME)


def node() -> str:
    """Readiness, address and provider id, as the API server has them."""
    columns = '{.status.conditions[?(@.type=="Ready")].status} {.status.addresses[?(@.type=="InternalIP")].address} {.spec.providerID}'
    return on("cp1", f"{KUBECTL} get node {NAME} -o jsonpath='{columns}'", check=False)


def test_a_worker_joins_by_readmes_commands(worker):
    as_root("cp1", VPN_SERVER)
    as_root("cp1", CONTROL_PLANE)
    move(worker, f"{NAME}.tgz")
    move(worker, f"{NAME}.yaml")
    # kubeadm looks for the kernel's configuration, which a container doesn't have
    on(worker, f"echo '  ignorePreflightErrors: [SystemVerification]' >> /root/{NAME}.yaml")
    as_root(worker, WORKER)
    deadline = time.monotonic() + 180
    while not node().startswith("True") and time.monotonic() < deadline:
        time.sleep(2)
    assert node() == f"True {ADDRESS} fpga-hybrid:///lab/{NAME}"
    assert on(worker, "ls /root") == "", "token or private key left behind"


def test_site_takes_it_over_and_the_whole_table_passes(worker, tmp_path):
    declared = yaml.safe_load((ROOT / "inventories" / "lab" / "lab.hybrid.yml").read_text())
    declared["hosts"][NAME] = {"roles": ["worker"], "vars": {"ansible_host": LAN, "vpn_address": ADDRESS}}
    (tmp_path / "lab.hybrid.yml").write_text(yaml.safe_dump(declared))
    (tmp_path / "group_vars").symlink_to(Path(ROOT, "inventories", "lab", "group_vars"))
    # Its containerd gets our configuration while pods run.
    mine = ("-i", str(tmp_path), "-e", "kubeadm_controller_kubeconfig=", "-e", "allow_disruption=true")
    playbook("site", *mine, "--limit", f"control_plane,vpn_server,{NAME}").check()
    playbook("verify", *mine).check()
    assert playbook("site", *mine, "--limit", f"control_plane,vpn_server,{NAME}").check().changed() == {}
