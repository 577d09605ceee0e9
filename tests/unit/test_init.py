# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`ansible-playbook fpga.hybrid.init`, as a user runs it: from elsewhere, with the collection installed."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import pytest

from tests.unit.installed import README, ROOT, run


@pytest.fixture(scope="module")
def collections(installed) -> Path:
    return installed.collections


@pytest.fixture(scope="module")
def site(tmp_path_factory, collections) -> Path:
    folder = tmp_path_factory.mktemp("home")
    run("ansible-playbook", "fpga.hybrid.init", "-e", "dest=our-cluster", cwd=folder, collections=collections)
    return folder / "our-cluster"


def test_what_readme_has_a_user_edit_is_what_is_read(site):
    (edited,) = re.findall(r"cd ~/my-cluster && \$EDITOR (.*)", README)
    assert [name for name in edited.split() if not (site / name).is_file()] == []


def test_there_is_a_stub_for_each_playbook(site):
    verbs = {path.name for path in (ROOT / "playbooks").glob("*.yml")} - {"init.yml"}
    assert {path.name for path in site.glob("*.yml")} == verbs


def test_each_stub_works_where_the_collection_is_installed(site, collections):
    stubs = sorted(path.name for path in site.glob("*.yml"))
    run("ansible-playbook", "--syntax-check", *stubs, cwd=site, collections=collections)


def test_ssh_is_used_as_in_a_checkout(site):
    """One place found out what a connection needs; the other would learn it the hard way."""
    theirs, ours = configparser.ConfigParser(), configparser.ConfigParser()
    theirs.read(site / "ansible.cfg")
    ours.read(ROOT / "ansible.cfg")
    assert dict(theirs["ssh_connection"]) == dict(ours["ssh_connection"])


def test_the_inventory_is_read(site, collections):
    hosts = json.loads(run("ansible-inventory", "--list", cwd=site, collections=collections))
    assert hosts["control_plane"]["hosts"]
    declared = hosts["_meta"]["hostvars"][hosts["control_plane"]["hosts"][0]]
    assert "cluster_control_plane_endpoint" in declared, "group_vars were passed over"
    assert "vault_mirror_password" in declared


def test_the_collections_own_version_is_required(site):
    assert 'version: "0.' in (site / "collections" / "requirements.yml").read_text()


def test_secrets_are_nobody_elses(site):
    assert (site / "inventory" / "group_vars" / "all" / "vault.yml").stat().st_mode & 0o077 == 0
    assert ".vault-password" in (site / ".gitignore").read_text().split()


def test_a_second_run_changes_nothing_and_names_what_was_edited(site, collections):
    readme = site / "README.md"
    before = readme.read_text()
    try:
        assert "changed=0" in run("ansible-playbook", "fpga.hybrid.init", "-e", f"dest={site}", cwd=site.parent, collections=collections)
        readme.write_text("ours now\n")
        output = run("ansible-playbook", "fpga.hybrid.init", "-e", f"dest={site}", cwd=site.parent, collections=collections)
        assert "changed=0" in output
        assert "README.md" in output
        assert readme.read_text() == "ours now\n"
    finally:
        readme.write_text(before)


@pytest.mark.parametrize("dest", [None, "thesis"])
def test_no_folder_and_somebody_elses_folder_are_refused(dest, tmp_path, collections):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    with pytest.raises(AssertionError, match="-e dest=DIR" if dest is None else "not empty"):
        run("ansible-playbook", "fpga.hybrid.init", *(["-e", f"dest={dest}"] if dest else []), cwd=tmp_path, collections=collections)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]
