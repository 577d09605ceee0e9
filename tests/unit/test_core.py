# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An ansible-core that is too old is told so by the first thing that a playbook does, instead of failing somewhere for a reason that nobody understands."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from ansible_collections.fpga.hybrid.plugins.module_utils._core import MINIMUM, core_problem
from tests.unit.site import BIN, HOSTS, ROOT, inventory

PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
#: A stand-in of an old core: this one, with another version written on it, and without what came with 2.19 and we use.
OLDER = """\
import ansible.release, ansible.template
ansible.release.__version__ = '2.16.14'
del ansible.template.trust_as_template
"""
SENTENCE = "Found ansible-core 2.16.14; expected 2.19 or newer"


def test_the_least_core_is_the_one_that_the_collection_declares():
    declared = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    assert declared == f">={'.'.join(map(str, MINIMUM))}.0"


@pytest.mark.parametrize(
    ("version", "fine"), [("2.15.13", False), ("2.18.16rc1", False), ("2.19.0", True), ("2.19.0b7", True), ("2.21.5", True), ("3.0", True)]
)
def test_an_older_one_is_told_what_to_do(version, fine):
    told = core_problem(version)
    assert (told == "") is fine
    assert fine or (f"Found ansible-core {version}; expected 2.19 or newer" in told and "execution environment" in told)


def first_tasks(plays, folder):
    """What a playbook begins with: (the role, its entry) of its first play, through playbooks that it imports."""
    play = plays[0]
    if imported := play.get("ansible.builtin.import_playbook"):
        return first_tasks(yaml.safe_load((folder / imported).read_text()), folder)
    if play.get("roles"):
        role = play["roles"][0]
        return role if isinstance(role, str) else role["role"]
    return play["tasks"][0]["ansible.builtin.include_role"]["name"]


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_every_playbook_begins_with_a_role_that_looks_at_the_core_first(name):
    """fpga.hybrid.cluster, whose gate does, or a role that begins with it; only init has its own look."""
    role = first_tasks(yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text()), ROOT / "playbooks").removeprefix("fpga.hybrid.")
    if role == "site_repository":
        (first, *_others) = yaml.safe_load((ROOT / "roles" / role / "tasks" / "main.yml").read_text())
        assert "ansible_version.full is version('2.19', '>=')" in first["ansible.builtin.assert"]["that"]
    elif role != "cluster":
        (first,) = yaml.safe_load((ROOT / "roles" / role / "meta" / "main.yml").read_text())["dependencies"]
        assert first == {"role": "fpga.hybrid.cluster", "tags": ["always"]}


def run(folder: Path, *command: str) -> str:
    (folder / "sitecustomize.py").write_text(OLDER)
    environment = {**os.environ, "PYTHONPATH": str(folder), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("name", ["preflight", "init"])
def test_the_first_task_tells_an_older_core(name, tmp_path: Path):
    (tmp_path / "site.yml").write_text(json.dumps(inventory(HOSTS)))
    assert SENTENCE in run(tmp_path, "ansible-playbook", "-i", str(tmp_path / "site.yml"), f"playbooks/{name}.yml", "-e", f"dest={tmp_path / 'site'}")
    assert not (tmp_path / "site").exists()


def test_the_inventory_which_comes_before_any_task_tells_it_too(tmp_path: Path):
    assert SENTENCE in run(tmp_path, "ansible-inventory", "--list", "-i", "cluster.hybrid.yml")
