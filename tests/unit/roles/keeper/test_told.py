# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics, events and commands, by which keeper tells others."""

from __future__ import annotations

import os
import re
import signal
import sys
import time

import pytest

from fpga_hybrid_keeper import told
from fpga_hybrid_keeper.expiry import Expiry
from fpga_hybrid_keeper.told import CommandError, event, metrics

NOW = 1_800_000_000.0
STATUS = {
    "healthy": False,
    "troubles": {"aws": "no answer."},
    "instances": {
        "i-1": {"phase": "joined", "pool": "f2"},
        "i-2": {"phase": "joined", "pool": "f2"},
        "i-3": {"phase": "gone", "pool": "f2"},
        "i-4": {"phase": "refused"},
    },
    "pools": {
        "f2": {"running": 2, "paused": {"kind": "failed_joins", "why": "w", "since": "s"}, "failed_joins": [{}, {}, {}]},
        "f1": {"running": 0, "paused": None, "failed_joins": []},
    },
    "today": {"date": "2027-01-15", "instances": 3, "hours": 4.25, "cost": None},
    "upkeep": {"snapshot": {"last": "2027-01-15T08:00:00Z", "path": "p", "trouble": ""}, "revocation_list": {"next_update": None, "trouble": "locked."}},
    "warnings": ["one", "two"],
}
LINE = re.compile(r'fpga_hybrid_[a-z_]+(\{[a-z]+="(\\.|[^"\\\n])*"(,[a-z]+="(\\.|[^"\\\n])*")*\})? -?\d+(\.\d+)?(e[+-]?\d+)?')


def samples(text: str) -> list[str]:
    return [line.removeprefix("fpga_hybrid_") for line in text.splitlines() if not line.startswith("#")]


# --- metrics ----------------------------------------------------------------------------------------------------------------------------


def test_metrics_say_what_the_status_says():
    found = samples(metrics(STATUS, [Expiry("etcd/ca", "w", 1_900_000_000.0, "r")], NOW))
    assert found == [
        "keeper_pass_timestamp_seconds 1800000000",
        "keeper_healthy 0",
        'keeper_trouble{what="aws"} 1',
        'keeper_trouble{what="revocation_list"} 1',
        "warnings 2",
        'instances{pool="",phase="refused"} 1',
        'instances{pool="f2",phase="gone"} 1',
        'instances{pool="f2",phase="joined"} 2',
        'pool_running{pool="f2"} 2',
        'pool_running{pool="f1"} 0',
        'pool_paused{pool="f2",kind="failed_joins"} 1',
        'pool_failed_joins{pool="f2"} 3',
        'pool_failed_joins{pool="f1"} 0',
        "today_instances 3",
        "today_instance_hours 4.25",
        "snapshot_timestamp_seconds 1800000000",
        'expiry_timestamp_seconds{name="etcd/ca"} 1900000000',
    ]


def test_what_the_status_does_not_say_there_is_no_metric_of():
    found = samples(metrics({"healthy": True, "troubles": {}, "instances": {}}, [], NOW))
    assert found == ["keeper_pass_timestamp_seconds 1800000000", "keeper_healthy 1", "warnings 0"]


def test_metrics_are_in_prometheus_format_whatever_a_name_holds():
    odd = 'a "quoted"\\\nname'
    text = metrics({**STATUS, "troubles": {odd: "t"}, "pools": {odd: {"running": 1}}}, [Expiry(odd, "w", 1.5, "r")], NOW)
    assert text.endswith("\n")
    for line in text.splitlines():
        assert line.startswith(("# HELP fpga_hybrid_", "# TYPE fpga_hybrid_")) or LINE.fullmatch(line), line
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert {line.split("{")[0].split()[0] for line in text.splitlines() if not line.startswith("#")} == set(names)


# --- events -----------------------------------------------------------------------------------------------------------------------------


def test_the_same_words_are_one_event_a_day():
    names = [event(text, "cp1", now)["metadata"]["name"] for text, now in (("a", NOW), ("a", NOW + 60), ("b", NOW), ("a", NOW + 86400))]
    assert names[0] == names[1]
    assert len(set(names)) == 3


@pytest.mark.parametrize("text", ["x" * 5000, "\u00e9" * 5000])
def test_a_long_sentence_is_cut_to_what_kubernetes_takes(text):
    note = event(text, "cp1", NOW)["note"]
    assert 1000 < len(note.encode()) <= 1024
    assert note.endswith(" ...")


# --- commands ---------------------------------------------------------------------------------------------------------------------------


def python(text: str) -> list[str]:
    return [sys.executable, "-ISc", f"import os, sys, time\n{text}"]


def test_a_command_gets_the_sentence_on_its_standard_input(tmp_path):
    told.run([*python("open(sys.argv[1], 'w').write(sys.stdin.read())"), str(tmp_path / "said")], "a sentence\n", 20)
    assert (tmp_path / "said").read_text() == "a sentence\n"


@pytest.mark.parametrize("data", ["", "x" * 1_000_000])
def test_a_command_that_reads_nothing_is_not_waited_for(data):
    told.run(["true"], data, 20)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("print('one'); print('no space on remote'); sys.exit(3)", r"failed with exit code 3: no space on remote$"),
        ("sys.exit(1)", r"failed with exit code 1$"),
        ("print('\\x1b[31mred\\x1b[0m\\x00 é'); sys.exit(1)", r": \[31mred\[0m"),
        ("os.kill(os.getpid(), 9)", r"failed with signal 9$"),
    ],
)
def test_a_command_that_fails_is_said_with_its_last_words(text, sentence):
    with pytest.raises(CommandError, match=sentence):
        told.run(python(text), "", 20)


@pytest.mark.parametrize("argv", [["/nowhere/at/all"], ["/etc/passwd"]])
def test_a_command_that_cannot_be_run_is_said(argv):
    with pytest.raises(CommandError, match=f"{argv[0]} cannot be run"):
        told.run(argv, "", 20)


def test_a_command_that_hangs_is_ended_with_all_that_it_has_started(tmp_path):
    text = "pid = os.fork()\nif pid: open(sys.argv[1], 'w').write(str(pid)); print('waiting', flush=True)\ntime.sleep(60)"
    with pytest.raises(CommandError, match=r"was ended: it was not done within 1 s: waiting$"):
        told.run([*python(text), str(tmp_path / "child")], "", 1)
    child = int((tmp_path / "child").read_text())
    for _try in range(100):
        try:
            os.kill(child, 0)
            with open(f"/proc/{child}/stat") as stream:
                if stream.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    pytest.fail("its child goes on")


def test_what_a_command_has_left_behind_does_not_hold_us_up(tmp_path):
    text = "pid = os.fork()\nif pid: open(sys.argv[1], 'w').write(str(pid)); os._exit(0)\ntime.sleep(60)"
    began = time.monotonic()
    told.run([*python(text), str(tmp_path / "child")], "", 30)
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    assert time.monotonic() - began < 20


def test_however_much_a_command_says_only_its_end_is_kept():
    with pytest.raises(CommandError) as caught:
        told.run(python("[print('x' * 100000) for _ in range(100)]; print('end'); sys.exit(1)"), "", 30)
    assert str(caught.value).endswith(": end")
    assert len(str(caught.value)) < 400
