# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate and the lock with their modules run in this process; test_cluster_gate.py has whole runs of ansible-playbook."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.block import Block
from ansible.playbook.play import Play
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import connection_loader
from ansible.template import Templar, trust_as_template

from ansible_collections.fpga.hybrid.plugins.action import cluster_gate, run_lock
from ansible_collections.fpga.hybrid.plugins.module_utils._controller import this_run
from ansible_collections.fpga.hybrid.plugins.module_utils._lock import LockFile

ROOT = Path(__file__).resolve().parents[4]
ID = "5c9e8f6a-0000-4000-8000-000000000001"
DECLARED = {
    "inventory_hostname": "cp1",
    "ansible_play_hosts": ["cp1", "worker1"],
    "groups": {"on_prem": ["cp1", "worker1"], "control_plane": ["cp1"], "vpn_server": ["cp1"]},
    "hostvars": {"cp1": {"vpn_address": "172.27.224.1", "ansible_host": "10.0.0.10"}, "worker1": {"vpn_address": "172.27.224.12", "ansible_host": "10.0.0.11"}},
    "cluster_name": "lab",
    "cluster_control_plane_endpoint": "api.test.example:6443",
    "cluster_on_prem_addresses": "vpn",
    "cluster_vpn_endpoint": "192.0.2.1",
}


def task_of(name: str, arguments: dict[str, Any], play: Play) -> Task:
    """The task as that play's, of which the gate remembers what its first host was told."""
    return Task.load({f"fpga.hybrid.{name}": arguments}, block=Block(play=play))


def run(plugin: Any, name: str, arguments: dict[str, Any], variables: dict[str, Any], play: Play | None = None) -> dict[str, Any]:
    class InProcess(plugin.ActionModule):  # type: ignore[misc]
        def _execute_module(self, module_name: str, module_args: dict[str, Any], task_vars: Any = None) -> dict[str, Any]:
            printed = io.StringIO()
            main = import_module(f"ansible_collections.{module_name.replace('hybrid.', 'hybrid.plugins.modules.')}").main
            with patch_module_args(module_args), contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
                main()
            return dict(json.loads(printed.getvalue()))

    task, context = task_of(name, arguments, play or Play()), PlayContext()
    templar = Templar(loader=DataLoader(), variables=variables)
    result: dict[str, Any] = InProcess(task, connection_loader.get("ansible.builtin.local", context), context, None, templar, None).run(task_vars=variables)
    return result


@pytest.fixture
def gate(tmp_path, role_defaults, monkeypatch):
    (tmp_path / "controller").mkdir()
    monkeypatch.setattr("ansible.constants.DEFAULT_LOCAL_TMP", str(tmp_path / "controller"))
    folder = tmp_path / "state"
    folder.mkdir()

    def ask(play: Play | None = None, **more: Any) -> dict[str, Any]:
        return run(cluster_gate, "cluster_gate", {"folder": str(folder)}, {**role_defaults, **DECLARED, **more}, play)

    return ask


@pytest.fixture(scope="session")
def role_defaults():
    """As a play has them: its texts are templates."""
    return DataLoader().load_from_file(str(ROOT / "roles" / "cluster" / "defaults" / "main.yml"), trusted_as_template=True)


def existing(folder, name):
    state = {"schema": 1, "cluster_id": ID, "cluster_name": name, "versions": {}}
    (folder / "state" / "cluster.json").write_text(json.dumps(state))


def test_the_gate_shows_the_cluster_that_is_there(gate, tmp_path):
    assert gate()["ansible_facts"]["fpga_hybrid"]["record"]["cluster_id"] is None
    existing(tmp_path, "lab")
    assert gate()["ansible_facts"]["fpga_hybrid"]["record"]["cluster_id"] == ID


def test_a_play_s_other_hosts_do_as_the_first_is_told(gate):
    play, refused = Play(), Play()
    assert "ansible_facts" in gate(play)
    assert gate(play, inventory_hostname="worker1") == {"changed": False}
    assert gate(refused, cluster_vpn_network="172.27.224.0/33")["failed"]
    told = gate(refused, inventory_hostname="worker1")
    assert (told["failed"], told["msg"]) == (True, "Stopped, because cp1 was: see what it was told.")


def test_without_the_control_plane_that_the_run_had_nobody_goes_on(gate):
    play = Play()
    play._removed_hosts.append("cp1")
    assert gate(play, inventory_hostname="worker1")["msg"].startswith("Stopped, because cp1 failed earlier in this run")


def test_the_gate_asks_nothing_of_a_play_that_is_the_controller_s_own(gate):
    assert gate(inventory_hostname="localhost", ansible_play_hosts=["localhost"]) == {"changed": False}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"cluster_vpn_network": "172.27.224.0/33"}, "cluster_vpn_network: "),
        ({"cluster_vpn_endpoint": trust_as_template("{{ nothing_of_the_sort }}")}, "cluster_vpn_endpoint: its template fails"),
    ],
)
def test_the_gate_refuses_what_can_not_be(gate, more, said):
    refused = gate(**more)
    assert refused["failed"]
    assert said in refused["msg"]


def test_the_gate_refuses_another_cluster_s_control_plane(gate, tmp_path):
    existing(tmp_path, "other")
    assert "found a control plane of cluster other" in gate()["msg"]


def test_the_gate_refuses_to_go_on_without_the_lock_that_the_run_had(gate):
    before = {"ansible_facts": {"fpga_hybrid": {"held_by": asdict(this_run())}}}
    refused = gate(hostvars={**DECLARED["hostvars"], "cp1": {**DECLARED["hostvars"]["cp1"], **before}})
    assert "this run's lock was taken away, nobody has it" in refused["msg"]


# --- the lock


def lock(folder, **arguments: Any) -> dict[str, Any]:
    return run(run_lock, "run_lock", {"folder": str(folder), "state": "held", **arguments}, {})


def test_the_lock_is_taken_and_given_back(tmp_path):
    assert not lock(tmp_path).get("failed")
    assert LockFile(tmp_path).read().holder == this_run()
    assert not lock(tmp_path, state="released").get("failed")
    assert LockFile(tmp_path).read() is None


def test_somebody_else_s_lock_is_refused_by_name(tmp_path):
    other = replace(this_run(), machine_id="0" * 32, user="maria")
    LockFile(tmp_path).take(other, None, "")
    refused = lock(tmp_path)
    assert refused["failed"]
    assert "maria" in refused["msg"]


def test_the_lock_of_a_run_of_this_controller_that_has_died_is_taken_over(tmp_path):
    dead = replace(this_run(), pid=2**22 + 1, pid_started=1)
    LockFile(tmp_path).take(dead, None, "")
    assert not lock(tmp_path).get("failed")
    assert LockFile(tmp_path).read().holder == this_run()


def test_a_lock_that_cannot_be_read_is_a_failure(tmp_path):
    (tmp_path / "lock").write_text("{")
    assert lock(tmp_path)["failed"]
