# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _docker as d
from ansible_collections.fpga.hybrid.plugins.module_utils._merged_file import merge


def test_the_users_keys_stay():
    found = {"data-root": "/data", "exec-opts": ["native.cgroupdriver=cgroupfs", "isolation=x"], "log-opts": {"max-size": "1m"}}
    assert merge(found, d.wanted(found, d.Options())) == {
        "data-root": "/data",
        "exec-opts": ["isolation=x", "native.cgroupdriver=systemd"],
        "log-opts": {"max-size": "1m"},
        "live-restore": True,
    }


def test_the_order_of_options_is_the_users():
    found = {"exec-opts": ["native.cgroupdriver=systemd", "isolation=x"]}
    assert d.wanted(found, d.Options())["exec-opts"] == found["exec-opts"]


def test_a_swarm_keeps_its_restarts():
    assert "live-restore" not in d.wanted({}, d.Options(swarm=True))


@pytest.mark.parametrize("text", ["[]", "3", '{"a": '])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(ValueError, match=r"object|delimiter|value"):
        d.parse(text)


def test_an_empty_file_is_an_empty_object():
    assert d.parse(" \n") == {}


def test_a_default_runtime_has_to_be_described():
    ours = d.wanted({}, d.Options("inaccel"))
    (problem,) = d.problems(ours, ours, [])
    assert "docker_extra_config.runtimes.inaccel" in problem
    described = d.wanted({}, d.Options("inaccel", {"runtimes": {"inaccel": {"path": "inaccel-runc"}}}))
    assert d.problems(described, described, []) == []


@pytest.mark.parametrize("argument", ["--exec-opt", "--exec-opt=native.cgroupdriver=systemd", "--live-restore"])
def test_a_flag_that_would_keep_dockerd_from_starting_is_found(argument):
    ours = d.wanted({}, d.Options())
    (problem,) = d.problems(ours, ours, ["/usr/sbin/dockerd", "-H", "fd://", argument])
    assert argument in problem


def test_the_mirrors_authority_is_trusted_under_its_own_name():
    assert list(d.registry_files("https://depot:5000/x", "PEM")) == ["/etc/docker/certs.d/depot:5000/ca.crt"]
    assert d.registry_files("https://depot:5000", None) == {}


def test_cri_dockerd_uses_the_systems_cni_and_the_clusters_pause_image():
    (file,) = d.cri_dockerd_files("/usr/bin/cri-dockerd", "registry.k8s.io/pause:3.10.2").values()
    assert "ExecStart=\nExecStart=/usr/bin/cri-dockerd --container-runtime-endpoint=fd:// --network-plugin=cni" in file.text
    assert "--pod-infra-container-image=registry.k8s.io/pause:3.10.2" in file.text


def test_the_kubelets_own_containers_are_not_foreign():
    assert d.foreign_containers(["k8s_POD_x", "k8s_app_x", "web", ""]) == 1
