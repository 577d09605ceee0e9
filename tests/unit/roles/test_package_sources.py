# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the roles take their packages from: upstream, or a mirror with whatever a declaration can say of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.fpga.hybrid.plugins.module_utils._apt import Source

ROOT = Path(__file__).resolve().parents[3]
LOGIN = {"ca": "CA", "username": "u", "password": "p"}
#: By role: its variable, the mirror, upstream, what of it is the source, and where the key is.
SOURCES = {
    "containerd": (
        "__containerd_source",
        "docker",
        "https://download.docker.com",
        "/linux/debian",
        "/linux/debian/gpg",
        {"suite": "trixie", "components": ["stable"]},
    ),
    "docker": ("__docker_source", "docker", "https://download.docker.com", "/linux/debian", "/linux/debian/gpg", {"suite": "trixie", "components": ["stable"]}),
    "kubeadm": ("__kubeadm_source", "kubernetes", "https://pkgs.k8s.io", "/core:/stable:/v1.36/deb/", "/core:/stable:/v1.36/deb/Release.key", {"suite": "/"}),
    "helm": ("__helm_source", "helm", "https://packages.buildkite.com/helm-linux/helm-debian", "/any/", "/gpgkey", {"suite": "any", "components": ["main"]}),
    "openvpn_as": (
        "__openvpn_as_source",
        "openvpn_as",
        "https://packages.openvpn.net",
        "/as/debian",
        "/as-repo-public.asc",
        {"suite": "trixie", "components": ["main"]},
    ),
    "host": ("__host_mirror", "debian", None, "", None, {"suite": "trixie", "components": ["main"]}),
}


def rendered(role, mirrors):
    variables = {
        name: trust_as_template(value)
        for name, value in yaml.safe_load((ROOT / "roles" / role / "vars" / "main.yml").read_text()).items()
        if isinstance(value, str)
    }
    facts = {"distribution": "Debian", "distribution_release": "trixie"}
    variables |= {"cluster_mirrors": mirrors, "cluster_minor": "1.36", "ansible_facts": facts, "host_mirror_suites": []}
    return Templar(loader=DataLoader(), variables=variables).template(variables[SOURCES[role][0]])


@pytest.mark.parametrize("role", SOURCES)
def test_without_a_mirror_packages_come_from_upstream_or_from_what_the_host_has(role):
    _variable, _name, upstream, path, key, what = SOURCES[role]
    assert rendered(role, {}) == (None if upstream is None else {"url": upstream + path, "key_url": upstream + key, **what})


@pytest.mark.parametrize(
    ("mirror", "kept"),
    [
        ({"url": "https://m"}, {}),
        ({"url": "https://m//"}, {}),
        ({"url": "https://m", "key": ""}, {}),
        ({"url": "https://m", "ca": None, "username": None, "password": None, "key": None}, {}),
        ({"url": "https://m", **LOGIN}, LOGIN),
        ({"url": "https://m", "key": "KEY"}, {"key": "KEY"}),
        ({"url": "https://m", "key": "KEY", **LOGIN}, {"key": "KEY", **LOGIN}),
    ],
    ids=["url alone", "slashes", "empty key", "nothing", "login", "key", "all"],
)
@pytest.mark.parametrize("role", SOURCES)
def test_a_mirror_stands_in_for_upstream_with_its_own_key_and_login(role, mirror, kept):
    _variable, name, _upstream, path, key, what = SOURCES[role]
    from_mirror = {"key_url": "https://m" + key} if key and "key" not in kept else {}
    source = rendered(role, {name: mirror})
    assert source == {"url": "https://m" + path, **from_mirror, **kept, **what}
    Source(**{**source, "components": tuple(source.get("components", ()))})  # which apt_packages takes
