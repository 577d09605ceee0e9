# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster knows of itself."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._cluster_state import (
    FROM_CLUSTER,
    ClusterState,
    StateError,
    config_map,
    describe,
    foreign_record,
    plan,
    record_of,
    running_kubernetes,
)

ID = "3b9d4e6b-fe0d-4945-bba3-114c6a4a81cb"
STATE = ClusterState(ID, "InAccel", {"kubernetes": "1.36.3"})
MANIFEST = "spec:\n  containers:\n  - command:\n    - kube-apiserver\n    image: registry.k8s.io/kube-apiserver:v1.36.3\n    imagePullPolicy: IfNotPresent\n"


def never():
    raise AssertionError("the id was made anew")


def test_the_id_is_made_once_and_never_again():
    first = plan(None, "InAccel", None, lambda: ID, stands=False)
    assert first == ClusterState(ID, "InAccel", {})
    assert plan(first, "InAccel", None, never, stands=True) == first


def test_a_control_plane_that_has_lost_its_file_gets_no_new_id():
    with pytest.raises(StateError, match=r"found none, beside a control plane that stands.*get configmap fpga-hybrid .* > /etc/fpga-hybrid/cluster.json"):
        plan(None, "InAccel", None, never, stands=True)


def test_the_command_that_restores_the_file_writes_what_was_in_it():
    """kubectl renders the template without a server, on what cluster_record writes."""
    kubectl = shutil.which("kubectl") or pytest.skip("needs kubectl")
    data = record_of(ID, "InAccel", STATE.versions, "0.1.0")
    template = next(word for word in shlex.split(FROM_CLUSTER) if word.startswith("go-template="))
    command = [kubectl, "patch", "--local", "-f", "-", "--type=merge", "-p", "{}", "-o", template]
    done = subprocess.run(command, input=config_map(data), capture_output=True, text=True, check=True)
    assert ClusterState.parse(done.stdout, "x") == STATE


@pytest.mark.parametrize(
    ("found", "refused"),
    [
        ({}, False),
        ({"cluster_id": ID, "cluster_name": "InAccel"}, False),
        ({"cluster_id": "11111111-2222-4333-8444-555555555555", "cluster_name": "Other"}, True),
        ({"cluster_id": "11111111-2222-4333-8444-555555555555"}, True),
    ],
)
def test_a_cluster_that_carries_another_id_is_not_written_to(found, refused):
    said = foreign_record(found, record_of(ID, "InAccel", {}, "0.1.0"))
    assert bool(said) == refused
    assert not refused or (f"id 11111111-2222-4333-8444-555555555555; expected InAccel, id {ID}" in said and "Nothing was written" in said)


def test_recorded_versions_stay_unless_others_are_given():
    assert plan(STATE, "InAccel", None, never, stands=True) == STATE
    assert plan(STATE, "InAccel", {"kubernetes": "1.36.4"}, never, stands=True).versions == {"kubernetes": "1.36.4"}


def test_the_control_plane_of_another_cluster_is_refused():
    with pytest.raises(StateError, match=f"cluster_name: this host is the control plane of cluster InAccel \\({ID}\\); expected lab"):
        plan(STATE, "lab", None, never, stands=True)


def test_what_is_written_can_be_read():
    assert ClusterState.parse(STATE.text(), "x") == STATE


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cluster_id": "x", "cluster_name": "y"}', "null"])
def test_a_broken_file_is_refused_rather_than_replaced(text):
    with pytest.raises(StateError, match=r"/etc/x: found nothing that can be read .*kube-system/fpga-hybrid"):
        ClusterState.parse(text, "/etc/x")


def test_a_file_of_a_later_collection_is_refused():
    with pytest.raises(StateError, match="found schema 2; expected 1"):
        ClusterState.parse(json.dumps({**json.loads(STATE.text()), "schema": 2}), "x")


@pytest.mark.parametrize(
    ("manifest", "version"), [(MANIFEST, "1.36.3"), (MANIFEST.replace("registry.k8s.io", "mirror:5000/k8s"), "1.36.3"), ("", None), ("image: x", None)]
)
def test_the_running_version_is_read_from_the_static_pod(manifest, version):
    assert running_kubernetes(manifest) == version


def test_a_cluster_whose_first_run_died_is_known_by_what_runs():
    """Else the re-run could take a newer default for a control plane that stands already."""
    assert describe(ClusterState(ID, "InAccel"), MANIFEST)["versions"] == {"kubernetes": "1.36.3"}
    assert describe(None, "")["cluster_id"] is None


def test_the_record_wins_over_what_runs():
    assert describe(STATE, MANIFEST.replace("1.36.3", "1.36.4"))["versions"] == {"kubernetes": "1.36.3"}


def test_a_config_map_holds_texts_only():
    data = json.loads(config_map(record_of(ID, "InAccel", {"kubernetes": "1.36.3"}, "0.1.0")))["data"]
    assert all(isinstance(value, str) for value in data.values())
    assert json.loads(data["versions"]) == {"kubernetes": "1.36.3"}
