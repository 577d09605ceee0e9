# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role inaccel: where its packages come from, whom its service serves, and what names its runtime; out of the roles' own variables."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.fpga.hybrid.plugins.module_utils._inaccel import known_values
from tests.unit.site import ROOT, play

ROLE = ROOT / "roles" / "inaccel"
HOST = {"inventory_hostname": "worker1", "cluster_mirrors": {}, "ansible_facts": {"distribution": "Debian", "distribution_release": "trixie"}}
UPSTREAM = "https://dl.cloudsmith.io/public/inaccel/stable"
FIRST = {"inaccel_generation": "2020"}


def seen(expression: str, role: str = "inaccel", **variables: Any) -> Any:
    """What an expression is with the variables of role cluster and of this one, and with these above them."""
    loader, known = DataLoader(), dict[str, Any]()
    for name in ("cluster", role):
        for part in ("defaults", "vars"):
            known |= loader.load_from_file(str(ROOT / "roles" / name / part / "main.yml"), trusted_as_template=True)
    return Templar(loader=loader, variables={**known, **HOST, "role_path": str(ROOT / "roles" / role), **variables}).template(trust_as_template(expression))


@pytest.mark.parametrize(
    ("variables", "source"),
    [
        ({}, {"url": f"{UPSTREAM}/deb/debian", "suite": "trixie", "components": ["main"], "key_url": "https://setup.inaccel.com/gpg"}),
        (
            FIRST,
            {
                "url": "https://jfrog.inaccel.com/artifactory/generic/packages/debian",
                "suite": "/",
                "key_url": "https://jfrog.inaccel.com/artifactory/generic/packages/gpg",
            },
        ),
        (
            {"cluster_mirrors": {"inaccel": {"url": "https://m/inaccel/", "username": "u", "password": "p"}}},
            {
                "url": "https://m/inaccel/deb/debian",
                "suite": "trixie",
                "components": ["main"],
                "key_url": "https://m/inaccel/gpg",
                "username": "u",
                "password": "p",
            },
        ),
        ({**FIRST, "cluster_mirrors": {"inaccel": {"url": "https://m", "key": "KEY"}}}, {"url": "https://m/debian", "suite": "/", "key": "KEY"}),
    ],
)
def test_packages_come_from_where_their_generation_is_or_from_a_mirror(variables, source):
    assert seen("{{ __inaccel_source }}", **variables) == source


@pytest.mark.parametrize(
    ("variables", "packages", "chart"),
    [({}, ["inaccel", "inaccel-fpga"], "2.8.2"), (FIRST, ["inaccel"], "1.2.2"), ({"inaccel_generation": 2020}, ["inaccel"], "1.2.2")],
)
def test_each_generation_has_packages_and_a_chart(variables, packages, chart):
    assert [package["name"] for package in seen("{{ inaccel_packages }}", **variables)] == packages
    assert seen("{{ inaccel_chart_version }}", **variables) == chart
    assert chart in known_values()


@pytest.mark.parametrize(
    ("variables", "lines", "sockets"),
    [
        ({}, ["DOCKER=enabled", "KUBELET=disabled"], ["/run/docker/plugins/inaccel.sock"]),
        (
            {"inaccel_operator": False},
            ["DOCKER=enabled", "KUBELET=enabled"],
            ["/run/docker/plugins/inaccel.sock", "/var/lib/kubelet/plugins_registry/inaccel.sock"],
        ),
        ({"inaccel_docker": False}, ["DOCKER=disabled", "KUBELET=disabled"], []),
    ],
)
def test_the_kubelet_is_served_by_the_host_or_by_the_operator_and_never_by_both(variables, lines, sockets):
    (drop_in,) = seen("{{ __inaccel_files }}", **variables)
    assert [line.split('"')[1] for line in drop_in["content"].splitlines() if line.startswith("Environment")] == lines
    assert seen("{{ __inaccel_sockets }}", **variables) == sockets


def test_our_settings_come_after_the_packages_own():
    (drop_in,) = seen("{{ __inaccel_files }}")
    assert drop_in["path"].rpartition("/")[2] > "override.conf"


@pytest.mark.parametrize(
    ("variables", "containerd", "docker"),
    [
        ({}, "runc", ""),
        ({"fpga_stack": "inaccel"}, "runc", ""),
        (FIRST, "runc", ""),
        ({"fpga_stack": "inaccel", **FIRST}, "inaccel", "inaccel"),
        ({"fpga_stack": "inaccel", "inaccel_generation": 2020}, "inaccel", "inaccel"),
    ],
)
def test_the_runtime_of_2020_is_the_default_where_the_host_has_that_stack(variables, containerd, docker):
    assert seen("{{ containerd_default_runtime_name }}", "containerd", **variables) == containerd
    assert seen("{{ docker_default_runtime }}", "docker", **variables) == docker


@pytest.mark.parametrize("role", ["containerd", "docker"])
def test_the_runtime_is_described_beside_the_users_own_settings(role):
    tasks = yaml.safe_load((ROOT / "roles" / role / "tasks" / "install.yml").read_text())
    (expression,) = [task[f"fpga.hybrid.{role}_config"]["extra_config"] for task in tasks if f"fpga.hybrid.{role}_config" in task]
    own = {"plugins": {"io.containerd.cri.v1.runtime": {"disable_apparmor": True}}}
    variables = {f"{role}_extra_config": own}
    assert seen(expression, role, **variables) == own
    found = seen(expression, role, **variables, fpga_stack="inaccel", **FIRST)
    assert found["plugins"]["io.containerd.cri.v1.runtime"]["disable_apparmor"] is True
    assert "inaccel-runc" in str(found)


def test_a_mirror_is_told_of_packages_images_and_chart():
    found = seen("{{ inaccel_artifacts }}", inaccel_extra_values={"daemon": {"tag": "1.0"}, "coral": {"image": "registry.example.org/coral"}})
    assert found["charts"] == [{"name": "fpga-operator", "version": "2.8.2", "repository": "https://setup.inaccel.com/helm"}]
    assert set(found["images"]) == {
        "registry.example.org/coral:2.1",
        "docker.io/inaccel/daemon:1.0",
        "docker.io/inaccel/mkrt:latest",
        "docker.io/inaccel/monitor:2.1",
        "docker.io/inaccel/reef:latest",
    }
    assert seen("{{ inaccel_artifacts.images }}", inaccel_operator=False) == []


def license_play(folder, **variables):
    tasks = [{"ansible.builtin.include_role": {"name": "fpga.hybrid.inaccel", "tasks_from": "license"}}]
    tasks.append({"ansible.builtin.copy": {"content": "{{ __inaccel_license_found.content | b64decode }}", "dest": str(folder / "seen"), "mode": "0600"}})
    (folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "cp1", "connection": "local", "gather_facts": False, "tasks": tasks}]))
    return play(folder, folder / "play.yml", {"cluster_state_folder": str(folder), "inaccel_license_file": str(folder / "license"), **variables}, "-vvv")


def test_a_license_is_read_from_a_file_of_roots_and_told_to_nobody(tmp_path):
    (tmp_path / "license").write_text("planted-license\n")
    (tmp_path / "license").chmod(0o600)
    done = license_play(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "seen").read_text() == "planted-license\n"
    assert "cGxhbnRlZC1saWNlbnNl" not in done.stdout, "its base64"


@pytest.mark.parametrize(
    ("mode", "variables", "says"),
    [
        (0o640, {}, "found mode 0640; expected one license"),
        (None, {}, "found no such file"),
        (0o600, {"inaccel_license": "x"}, "found inaccel_license beside it"),
    ],
)
def test_a_license_that_others_can_read_or_that_is_said_twice_is_refused(mode, variables, says, tmp_path):
    if mode is not None:
        (tmp_path / "license").write_text("planted-license\n")
        (tmp_path / "license").chmod(mode)
    done = license_play(tmp_path, **variables)
    assert done.returncode != 0
    assert says in " ".join(done.stdout.split())
