# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others get: the tarball's files, and the collection where it was installed from that, with nothing of the checkout in reach."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.installed import ROOT, run

PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
ROLES = sorted(path.parents[1].name for path in (ROOT / "roles").glob("*/meta/main.yml"))
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text())
MADE = {"MANIFEST.json", "FILES.json"}
#: What is not for users: it makes, tests or shows the collection.
WORKSHOP = ("molecule/", "tests/", "lab/", "collections/", "requirements/", "inventories/lab", ".", "changelogs/fragments/")
ALONE = {"Makefile", "ansible.cfg", "cluster.hybrid.yml", "pyproject.toml", "CONTRIBUTING.md", "noxfile.py"}


@pytest.fixture(scope="module")
def files(installed) -> set[str]:
    with tarfile.open(installed.tarball) as archive:
        return {member.name for member in archive.getmembers() if not member.isdir()}


def test_the_tarball_holds_what_git_knows_but_for_the_workshop_and_nothing_else(files):
    """So a stray cache or key never gets in, and no file of a role is forgotten."""
    known = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
    shipped = {name for name in known.stdout.split("\0") if name and (ROOT / name).exists() and not name.startswith(WORKSHOP) and name not in ALONE}
    assert files - MADE == shipped


def test_no_file_of_it_is_big(files, installed):
    with tarfile.open(installed.tarball) as archive:
        assert {member.name: member.size for member in archive.getmembers() if member.size > 500_000} == {}
    assert installed.tarball.stat().st_size < 3_000_000


def test_it_is_installed_within_ten_seconds_with_what_it_depends_on(installed, capsys):
    with capsys.disabled():
        print(f"\nansible-galaxy collection install {installed.tarball.name}: {installed.seconds:.1f} s, {installed.processor:.1f} s of them computing")
    assert "fpga.hybrid" in installed.output
    assert installed.processor < 10, "seconds of a busy machine say little"
    checked = set(re.findall(r"'([a-z.]+):[\d.]+' is already installed", installed.output))
    assert checked >= set(GALAXY["dependencies"])


def test_each_playbook_is_there_by_its_name(installed, tmp_path):
    names = [f"fpga.hybrid.{name}" for name in PLAYBOOKS]
    run("ansible-playbook", "--syntax-check", *names, cwd=tmp_path, collections=installed.collections)


def test_site_lists_its_tasks_over_the_example_it_ships(installed, tmp_path):
    """Every import of it is resolved, and the inventory plugin found by its name, in the configuration that init writes."""
    run("ansible-playbook", "fpga.hybrid.init", "-e", "dest=ours", cwd=tmp_path, collections=installed.collections)
    listed = run("ansible-playbook", "fpga.hybrid.site", "--list-tasks", cwd=tmp_path / "ours", collections=installed.collections)
    plays = [play["name"] for play in yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text()) if "hosts" in play]
    assert [name for name in plays if name not in listed] == []
    assert listed.count("\n      ") > len(plays), "no tasks"


@pytest.fixture(scope="module")
def said(installed, tmp_path_factory) -> dict[str, Any]:
    """What ansible-doc says, by kind and name."""
    folder = tmp_path_factory.mktemp("elsewhere")
    return json.loads(run("ansible-doc", "--metadata-dump", "fpga.hybrid", cwd=folder, collections=installed.collections))["all"]


def test_every_plugin_module_and_role_has_its_documentation(said):
    assert [(kind, name) for kind, found in said.items() for name, entry in found.items() if "error" in entry] == []
    assert sorted(said["role"]) == [f"fpga.hybrid.{name}" for name in ROLES]
    modules = {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")}
    assert set(said["module"]) == {f"fpga.hybrid.{name}" for name in modules}
    assert list(said["inventory"]) == ["fpga.hybrid.cluster"]
    documented = {name for name, entry in said["module"].items() if entry["doc"]["short_description"] and entry["examples"]}
    assert documented == set(said["module"])
    assert all(entry["entry_points"] for entry in said["role"].values())
    assert len(said["filter"]) == len(list(filters())), "a filter without its documentation"


def test_what_says_since_when_it_is_there_names_a_version_that_there_is(said):
    docs = {f"{kind} {name}": entry["doc"] for kind in ("filter", "inventory", "module") for name, entry in said[kind].items()}
    released = set(yaml.safe_load((ROOT / "changelogs" / "changelog.yaml").read_text())["releases"])
    assert {name: doc.get("version_added") for name, doc in docs.items() if doc.get("version_added") not in released | {GALAXY["version"]}} == {}


def filters():
    """Names that the filter plugins bring."""
    for path in sorted((ROOT / "plugins" / "filter").glob("*.py")):
        module = __import__(f"ansible_collections.fpga.hybrid.plugins.filter.{path.stem}", fromlist=["FilterModule"])
        yield from module.FilterModule().filters()


def test_version_and_changelog_tell_the_same(installed):
    assert installed.tarball.name == f"fpga-hybrid-{GALAXY['version']}.tar.gz"
    released = yaml.safe_load((ROOT / "changelogs" / "changelog.yaml").read_text())["releases"] or {}
    assert [version for version in released if tuple(map(int, version.split("."))) > tuple(map(int, GALAXY["version"].split(".")))] == []


def test_it_says_which_ansible_it_needs(installed):
    runtime = yaml.safe_load((Path(installed.collections) / "ansible_collections/fpga/hybrid/meta/runtime.yml").read_text())
    assert runtime["requires_ansible"].startswith(">=2.19")
