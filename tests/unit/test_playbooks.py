# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every playbook: nothing is changed before preflight has looked, nor by two runs at once, and each is named where users look for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = {path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "playbooks").glob("*.yml"))}
#: Roles that change no host, and reset, which has to do without preflight and takes the lock itself.
READERS = {f"fpga.hybrid.{role}" for role in ("cluster", "evaluation", "preflight", "verify", "reset")}


def roles(play):
    return {role if isinstance(role, str) else role["role"] for role in play.get("roles", [])}


def entry_points(play):
    return {include.get("tasks_from") for task in play.get("tasks", []) if (include := task.get("ansible.builtin.include_role"))}


def is_for_hosts(play):
    """An image is none: it belongs to no cluster, and begin says first whether it can be made."""
    return not {"localhost", "fpga_hybrid_image"}.issuperset(play.get("hosts", "localhost").split(":"))


CHANGING = [name for name, plays in PLAYBOOKS.items() if any(roles(play) - READERS for play in plays if is_for_hosts(play))]


def test_the_playbooks_that_change_hosts_are_known():
    assert CHANGING == ["docker.yml", "site.yml"]


@pytest.mark.parametrize("name", CHANGING)
def test_a_playbook_that_changes_hosts_looks_first_and_holds_the_lock_from_then_to_its_end(name):
    plays = PLAYBOOKS[name]
    assert plays[0].get("ansible.builtin.import_playbook") == "preflight.yml"
    assert entry_points(plays[1]) == {"begin"}
    assert not roles(plays[1])
    assert entry_points(plays[-1]) & {"end", "record"}


def begins_with_the_gate(play):
    """Once for all, in a play that does nothing for each host and stops as a whole."""
    first = play["tasks"][0]
    once = first.get("run_once") and play.get("any_errors_fatal") and first.get("tags") == ["always"]
    return once and first["ansible.builtin.include_role"] == {"name": "fpga.hybrid.cluster", "apply": {"tags": ["always"]}}


@pytest.mark.parametrize("name", CHANGING)
def test_every_play_that_changes_hosts_begins_with_the_gate_whatever_part_was_asked_for(name):
    """By a role in `roles`: of one that is included, the play's first host may have nothing to do, and the others would wait for its verdict."""
    without = [play["name"] for play in PLAYBOOKS[name][2:] if not play.get("roles") and entry_points(play) != {"end"} and not begins_with_the_gate(play)]
    assert without == []


def test_the_gate_that_a_role_brings_belongs_to_every_part():
    """The same tags everywhere, too: Ansible runs a role once a play, and takes one with other tags for another one."""
    metas = {path.parts[-3]: yaml.safe_load(path.read_text())["dependencies"] for path in (ROOT / "roles").glob("*/meta/main.yml")}
    gates = [{"role": "fpga.hybrid.cluster", "tags": ["always"]}]
    assert {role: dependencies for role, dependencies in metas.items() if dependencies not in ([], gates)} == {}
    named = [role for plays in PLAYBOOKS.values() for play in plays for role in play.get("roles", []) if "fpga.hybrid.cluster" in str(role)]
    assert [role for role in named if role not in gates] == []


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_no_play_gathers_facts(name):
    assert [play["name"] for play in PLAYBOOKS[name] if "hosts" in play and play.get("gather_facts", True)] == []


def test_a_sites_repository_says_what_each_playbook_is_for():
    purposes = yaml.safe_load((ROOT / "roles" / "site_repository" / "vars" / "main.yml").read_text())["__site_repository_purposes"]
    assert {f"{verb}.yml" for verb in purposes} == set(PLAYBOOKS) - {"init.yml"}  # which makes such a repository
