# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts are reached by a user who may become root (ansible_become in group_vars/all), and nothing on the controller is done as root for that."""

from __future__ import annotations

import pytest
import yaml

from tests.unit.playbook_site import ROOT, Site

PLAYBOOKS = {path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "playbooks").glob("*.yml"))}
ON_THE_CONTROLLER = {name: play for name, plays in PLAYBOOKS.items() for play in plays if play.get("hosts") == "localhost"}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site like that of inventories/example; its controller's sudo refuses."""
    monkeypatch.setenv("ANSIBLE_BECOME_ALLOW_SAME_USER", "true")  # whoever runs the tests may be root
    made = Site(tmp_path)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text(yaml.safe_dump({"ansible_become": True}))
    (tmp_path / "sudo").write_text("#!/bin/sh\necho 'nobody becomes root here' >&2\nexit 1\n")
    (tmp_path / "sudo").chmod(0o755)
    return made


def test_the_site_refuses_who_becomes_root(site):
    done = site.run([{"hosts": "localhost", "gather_facts": False, "become": False, "tasks": [{"ansible.builtin.command": "true"}]}], path=site.folder)
    assert "nobody becomes root here" in done.stdout, "ansible_become beats become: the tests below would find nothing"


@pytest.mark.parametrize("playbook", ON_THE_CONTROLLER)
def test_every_play_of_the_controller_is_its_users(playbook):
    """The inventory's ansible_become beats the keyword become, so it has to be the variable."""
    assert ON_THE_CONTROLLER[playbook]["vars"]["ansible_become"] is False


@pytest.mark.parametrize("playbook", ["init", "iam"])
def test_what_a_playbook_writes_on_the_controller_is_its_users(playbook, site):
    made = site.folder / "made"
    done = site.run([{"import_playbook": str(ROOT / "playbooks" / f"{playbook}.yml")}], path=site.folder, dest=str(made), cluster_aws_region="us-east-1")
    assert done.returncode == 0, done.stdout
    assert list(made.iterdir())


def test_the_controllers_kubeconfig_is_its_users(site):
    """On a control plane where root is come by otherwise, so that it alone may meet this sudo."""
    site.write_inventory(cp1={"ansible_become": False})
    (site.folder / "admin.conf").write_text("clusters:\n- cluster:\n    server: https://api.example.org:6443\n")
    tasks = yaml.safe_load((ROOT / "roles/kubeadm/tasks/kubeconfig.yml").read_text().replace("/etc/kubernetes/admin.conf", str(site.folder / "admin.conf")))
    asked = {"kubeadm_controller_kubeconfig": str(site.folder / "mine"), "kubeadm_controller_server": "https://192.0.2.1:6443"}
    done = site.run([{"hosts": "control_plane", "gather_facts": False, "vars": asked, "tasks": tasks[1:]}], path=site.folder)
    assert done.returncode == 0, done.stdout
    assert (site.folder / "mine").read_text() == "clusters:\n- cluster:\n    server: https://192.0.2.1:6443\n"
