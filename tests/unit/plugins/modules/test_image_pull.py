# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module image_pull on a host whose ctr and systemd-run are scripts that note how they were called. The unit's script itself is run."""

from __future__ import annotations

import subprocess

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.modules.image_pull import SCRIPT

PROXY, CALICO = "registry.k8s.io/kube-proxy:v1.36.3", "docker.io/calico/node:v3.28.5"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """host(ctr, systemd_run) puts shell scripts in front of the path and gives the file in which they note what they were asked."""

    def make(ctr="exit 0", systemd_run="exit 0"):
        noted = tmp_path / "noted"
        noted.touch()
        for name, does in (("ctr", ctr), ("systemd-run", systemd_run)):
            program = tmp_path / name
            program.write_text(f'#!/bin/sh\necho {name} "$@" >> {noted}\n{does}\n')
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return noted

    return make


def test_what_is_not_there_is_pulled_by_a_unit_that_goes_on_by_itself(host, call):
    noted = host(ctr=f"echo {PROXY}; echo sha256:12")
    answer = call("image_pull", images=[PROXY, CALICO])
    assert (answer["changed"], answer["pulled"]) == (True, [CALICO])
    listed, started = noted.read_text().split("systemd-run ")
    assert listed.startswith("ctr ")
    assert "--no-block" in started.split()
    assert started.rstrip().endswith(f" sh /etc/containerd/certs.d {CALICO}")


def test_nothing_is_started_where_all_is_there(host, call):
    noted = host(ctr=f"echo {PROXY}; echo {CALICO}")
    assert call("image_pull", images=[PROXY, CALICO])["changed"] is False
    assert "systemd-run" not in noted.read_text()


def test_a_check_starts_nothing(host, call):
    noted = host()
    assert call("image_pull", check=True, images=[PROXY])["pulled"] == [PROXY]
    assert "systemd-run" not in noted.read_text()


def test_a_check_of_a_host_without_containerd_predicts_all(call, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert call("image_pull", check=True, images=[PROXY])["pulled"] == [PROXY]


def test_a_pull_of_an_earlier_run_that_still_goes_on_is_as_good(host, call):
    host(systemd_run="echo 'Unit fpga-hybrid-images.service was already loaded or has a fragment file.' >&2; exit 1")
    assert call("image_pull", images=[PROXY])["changed"] is True


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ({"ctr": "echo 'cannot access containerd socket' >&2; exit 1"}, "containerd does not answer: cannot access containerd socket."),
        ({"systemd_run": "echo 'Failed to connect to bus' >&2; exit 1"}, "systemd-run did not start the pull: Failed to connect to bus."),
    ],
)
def test_what_stands_in_the_way_is_a_warning_because_the_kubelet_pulls_for_itself(host, call, monkeypatch, programs, said):
    warnings = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _module, message: warnings.append(message))
    host(**programs)
    assert call("image_pull", images=[PROXY])["changed"] is False
    assert said in warnings[0]


def test_an_image_that_cannot_be_pulled_keeps_no_other_from_being_pulled_and_the_unit_says_so(host):
    noted = host(ctr=f'case "$*" in *{PROXY}*) exit 1;; esac')
    assert subprocess.run(["sh", "-c", SCRIPT, "sh", "/certs", PROXY, CALICO], check=False).returncode == 1
    assert noted.read_text().splitlines() == [f"ctr --namespace k8s.io images pull --skip-metadata --hosts-dir /certs {image}" for image in (PROXY, CALICO)]
