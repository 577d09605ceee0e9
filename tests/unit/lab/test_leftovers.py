# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an evaluation that was killed has left goes with the next one, and with `lab up`."""

from __future__ import annotations

import json

import pytest

from lab import leftovers
from lab.settings import LabError


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """What is called, in turn; of the control plane by its words."""
    called = []
    answers = {
        "get": "node/i-1\n",
        "list": json.dumps({"clients": [{"name": "worker1", "revoked": None}, {"name": "i-1", "revoked": None}, {"name": "i-0", "revoked": "yesterday"}]}),
    }

    def control_plane(*command, stdin=None):
        words = (
            command[len(leftovers.KUBECTL) :] if command[: len(leftovers.KUBECTL)] == leftovers.KUBECTL else command[-2:] if "vpn" in command[0] else command
        )
        called.append(" ".join(words).replace("/opt/fpga-hybrid/bin/", ""))
        return answers.get(command[-1] if command[-1] == "list" else words[0], "")

    monkeypatch.setenv("FPGA_HYBRID_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(leftovers, "control_plane", control_plane)
    monkeypatch.setattr(leftovers, "reset_role", lambda role: called.append(f"reset {role}"))
    monkeypatch.setattr(leftovers, "has_file", lambda *_paths: True)
    return called


def test_jobs_go_before_the_autoscaler_and_keys_last(cluster, tmp_path):
    (tmp_path / "evaluate-killed").mkdir()
    leftovers.clear()
    assert cluster == [
        "delete namespace fpga-hybrid-evaluation --ignore-not-found",
        "reset autoscaler",
        "reset keeper",
        "get nodes -l fpga.hybrid/pool -o name",
        "delete node/i-1",
        "fpga-hybrid-vpn list",
        "revoke i-1",
        "rm -f /etc/fpga-hybrid/autoscaler.aws /etc/fpga-hybrid/keeper.aws",
    ]
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_is_nothing_is_called(cluster, monkeypatch):
    monkeypatch.setattr(leftovers, "has_file", lambda *_paths: False)
    leftovers.clear()
    assert cluster == []


def test_one_step_that_fails_does_not_keep_the_others_from_being_done_and_the_mark_stays(cluster):
    done = []

    def fail():
        raise KeyError("it")

    with pytest.raises(LabError, match="not all of the evaluation could be taken away"):
        leftovers.in_turn((("first", lambda: done.append(1)), ("second", fail), ("third", lambda: done.append(3))))
    assert (done, cluster) == ([1, 3], [])
