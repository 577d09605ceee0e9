# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_state, run_lock and cluster_record on a state folder of their own, host_info and runtime_info on this machine, called as Ansible calls them."""

from __future__ import annotations

import json
import stat
import uuid
from dataclasses import asdict
from pathlib import Path

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._cluster_state import NOT_YET
from ansible_collections.fpga.hybrid.plugins.module_utils._controller import this_run
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record
from tests.unit.plugins.modules.calling import Call

ME = asdict(this_run())
OTHER = {**ME, "machine_id": "0" * 32, "user": "maria"}


# --- which cluster is it


def test_a_cluster_gets_its_id_once(call: Call, tmp_path: Path) -> None:
    folder = str(tmp_path / "state")
    assert call("cluster_state", folder=folder)["record"] == {"cluster_id": None, "cluster_name": None, "versions": {}}
    checked = call("cluster_state", check=True, folder=folder, state="present", cluster_name="lab")
    assert (checked["changed"], checked["record"]["cluster_id"]) == (True, NOT_YET)
    assert not Path(folder).exists()
    made = call("cluster_state", folder=folder, state="present", cluster_name="lab")
    assert uuid.UUID(made["record"]["cluster_id"])
    assert stat.S_IMODE((Path(folder) / "cluster.json").stat().st_mode) == 0o600
    again = call("cluster_state", folder=folder, state="present", cluster_name="lab")
    assert (again["changed"], again["record"]) == (False, made["record"])


def test_a_record_that_is_none_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("[]")
    assert str(tmp_path / "cluster.json") in call("cluster_state", folder=str(tmp_path))["msg"]


# --- whose turn is it


def test_the_lock_is_held_by_one_run_and_given_back(call: Call, tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert not call("run_lock", check=True, folder=folder, state="held", holder=ME)["changed"]
    assert not list(tmp_path.iterdir())
    taken = call("run_lock", folder=folder, state="held", holder=ME)
    assert call("cluster_state", folder=folder)["lock_holder"] == ME
    refused = call("run_lock", folder=folder, state="held", holder=OTHER)
    assert (refused["verdict"], refused["found"]["holder"]) == ("held", ME)
    assert taken["verdict"] != "held"
    assert call("run_lock", folder=folder, state="released", holder=ME)["found"] is None
    assert call("cluster_state", folder=folder)["lock_holder"] is None


def test_a_run_that_ended_without_giving_it_back_is_replaced_by_name_only(call: Call, tmp_path: Path) -> None:
    folder = str(tmp_path)
    call("run_lock", folder=folder, state="held", holder=OTHER)
    assert call("run_lock", folder=folder, state="held", holder=ME, dead={**OTHER, "pid": 1})["verdict"] == "held"
    assert call("run_lock", folder=folder, state="held", holder=ME, dead=OTHER)["verdict"] != "held"
    assert call("cluster_state", folder=folder)["lock_holder"] == ME


def test_a_play_renews_the_lock_of_its_own_run_only(call: Call, tmp_path: Path) -> None:
    folder = str(tmp_path)
    call("run_lock", folder=folder, state="held", holder=ME)
    assert call("cluster_state", folder=folder, renew_lock_of=OTHER)["lock_holder"] == ME
    assert call("cluster_state", folder=folder, renew_lock_of=ME)["lock_holder"] == ME


def test_a_lock_that_cannot_be_read_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("{")
    assert "lock" in call("run_lock", folder=str(tmp_path), state="held", holder=ME)["msg"]


# --- what the cluster knows of its last run

KUBECTL = """#!/bin/sh
case "$*" in
*" get "*) cat "$HELD" 2> /dev/null || { echo 'Error from server (NotFound): configmaps "fpga-hybrid" not found' >&2; exit 1; } ;;
*" apply "*) cat > "$HELD" ;;
esac
"""
RUN = {"cluster_id": "6b1f0f5e", "cluster_name": "lab", "versions": {"kubernetes": "1.36.3"}, "collection": "0.1.0", "user": "maria"}


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that keeps the one ConfigMap in a file."""
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    (tmp_path / "admin.conf").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("HELD", str(tmp_path / "held.json"))
    return tmp_path


def test_the_run_is_recorded_in_the_cluster_and_only_its_content_is_a_change(call: Call, kubectl: Path) -> None:
    options = {**RUN, "kubeconfig": str(kubectl / "admin.conf")}
    assert call("cluster_record", check=True, **options)["changed"]
    assert not (kubectl / "held.json").exists()
    assert call("cluster_record", **options)["changed"]
    assert json.loads((kubectl / "held.json").read_text())["data"]["last_run"].endswith("Z maria")
    assert not call("cluster_record", **{**options, "user": "ann"})["changed"]
    assert call("cluster_record", **{**options, "versions": {"kubernetes": "1.36.4"}})["diff"]["before"]["versions"] == '{"kubernetes": "1.36.3"}'


def test_without_a_cluster_there_is_nowhere_to_record_it(call: Call, tmp_path: Path) -> None:
    assert not call("cluster_record", **RUN, kubeconfig=str(tmp_path / "admin.conf"))["changed"]


def test_an_api_server_that_refuses_is_told(call: Call, kubectl: Path) -> None:
    (kubectl / "kubectl").write_text("#!/bin/sh\necho 'connection refused' >&2; exit 1\n")
    said = call("cluster_record", **RUN, kubeconfig=str(kubectl / "admin.conf"))["msg"]
    assert "connection refused; expected the API server to take it" in said


# --- what host is it


def test_the_host_is_described_as_it_is(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Record.load
    monkeypatch.setattr("ansible_collections.fpga.hybrid.plugins.modules.host_info.Record.load", lambda: load(str(tmp_path / "record.json")))
    found = call("host_info")
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    assert found["ansible_facts"]["distribution_release"] == release["VERSION_CODENAME"].strip('"')
    (tmp_path / "record.json").write_text("{")
    assert "record.json" in call("host_info")["msg"]


def test_a_host_without_a_container_engine_has_none(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Record.load
    monkeypatch.setattr("ansible_collections.fpga.hybrid.plugins.modules.runtime_info.Record.load", lambda: load(str(tmp_path / "record.json")))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = call("runtime_info", containerd="2.*")
    assert set(found["engines"].values()) == {None}
    (tmp_path / "record.json").write_text("{")
    assert "record.json" in call("runtime_info")["msg"]
