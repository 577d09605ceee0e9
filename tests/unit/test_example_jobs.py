# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""examples/jobs: what a user copies asks for what our plugin publishes, reads what it sets, and is privileged in nothing.

That an API server takes them: tests/integration/admission/test_example_jobs.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import parse_accelerators
from ansible_collections.fpga.hybrid.plugins.module_utils._on_prem_fpga import KNOWN_BOARDS, on_prem_fpga, published
from fpga_device_plugin import catalogue
from fpga_device_plugin.answer import environment
from fpga_device_plugin.boards import KINDS
from fpga_device_plugin.discovery import Board
from lab.fpga.tree import Plugged, Tree

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "jobs"
DECLARED = yaml.safe_load((FOLDER / "cluster_accelerators.yml").read_text())["cluster_accelerators"]
JOBS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml")) if path.stem != "cluster_accelerators"}
SLOT = "0000:34:00"


def spec(job):
    return job["spec"]["template"]["spec"]


def limits(job):
    return {name: count for container in spec(job)["containers"] for name, count in container["resources"]["limits"].items()}


def publishable():
    """Resource -> the most of it that one board gives, of all that a host may be told to publish with this catalogue."""
    accelerators = parse_accelerators(DECLARED)
    found = {}
    for choices in ({}, dict.fromkeys(KNOWN_BOARDS, "boards")):
        section = on_prem_fpga("worker1", choices, "fpga_device_plugin", accelerators)
        for board in KNOWN_BOARDS:
            for resource, count in published(section, {board: 1}).items():
                found[resource] = max(count, found.get(resource, 0))
    return found


def test_there_are_the_three_that_the_documentation_names():
    assert set(JOBS) == {"accelerator", "f2-hello", "u250-validate"}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_asks_for_what_one_board_gives(name):
    assert limits(JOBS[name])
    assert {resource: count for resource, count in limits(JOBS[name]).items() if count > publishable().get(resource, 0)} == {}


@pytest.mark.parametrize("name", JOBS)
def test_nothing_in_a_job_is_privileged(name):
    pod = spec(JOBS[name])
    assert not {"hostPID", "hostIPC", "hostNetwork", "volumes"} & set(pod)
    for container in pod["containers"]:
        context = container["securityContext"]
        assert not context.get("privileged", False)
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_ends_by_itself(name):
    assert JOBS[name]["spec"]["activeDeadlineSeconds"] > 0
    assert "activeDeadlineSeconds" not in spec(JOBS[name]), "of a Job's pod it would only start the next one"
    assert spec(JOBS[name])["restartPolicy"] == "Never"


@pytest.mark.parametrize("name", JOBS)
def test_a_job_reads_only_variables_that_the_plugin_sets(name):
    (resource,) = limits(JOBS[name])
    given = environment(resource, [Board(SLOT, KINDS["aws-vu47p-f2"], "", f"{SLOT}.0", 0, image_slot=0)], [f"{SLOT}/0"])
    read = {variable for container in spec(JOBS[name])["containers"] for variable in re.findall(r"\b(?:PCIDEVICE|FPGA)_[A-Z0-9_]+", str(container["command"]))}
    assert read <= set(given)


def test_the_f2_job_prints_the_first_word_of_each_boards_bar(tmp_path):
    tree = Tree(tmp_path, real_nodes=False)
    for slot, word in (("0000:34:00", b"\xef\xbe\xad\xde"), ("0000:36:00", b"\x01\x00\x00\x00")):
        tree.plug(Plugged("aws-vu47p-f2", slot))
        with (tree.devices / f"{slot}.0" / "resource0").open("r+b") as bar:
            bar.write(word)
    (container,) = spec(JOBS["f2-hello"])["containers"]
    *_python, script = container["command"]
    done = subprocess.run(
        [sys.executable, "-c", script.replace("/sys/", f"{tree.sys}/")],
        env={**os.environ, "PCIDEVICE_EXAMPLE_ORG_F2_HELLO": "0000:34:00.0,0000:36:00.0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["0000:34:00.0: word 0 of BAR 0 is 0xdeadbeef", "0000:36:00.0: word 0 of BAR 0 is 0x00000001"]


def test_the_catalogue_is_one_that_the_plugin_takes_too():
    section = on_prem_fpga("worker1", {}, "fpga_device_plugin", parse_accelerators(DECLARED))
    assert {entry["resource"] for entry in DECLARED.values()} <= set(section["resources"].values())
    assert all(catalogue.is_extended_resource(entry["resource"]) for entry in DECLARED.values())
