# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may change the cluster now."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._controller import this_run
from ansible_collections.fpga.hybrid.plugins.module_utils._lock import (
    LIFETIME,
    Holder,
    Lock,
    LockError,
    LockFile,
    holder_from,
    is_dead,
    judge,
    proc_start,
    sentence,
)

ME = Holder("machine-a", "boot-1", "pid:[1]", 100, 5000, "maria", "laptop")
OTHER = replace(ME, machine_id="machine-b", user="ali", controller="awx")
NOW = 1_000_000.0


def lock_of(holder, age=60.0, left=3600.0):
    return Lock(holder, NOW - age, NOW + left)


@pytest.mark.parametrize(
    ("found", "more", "verdict"),
    [
        (None, {}, "free"),
        (lock_of(ME), {}, "mine"),
        (lock_of(ME, left=-1), {}, "mine"),
        (lock_of(OTHER), {}, "held"),
        (lock_of(OTHER, left=0), {}, "expired"),
        (lock_of(OTHER), {"dead": OTHER}, "dead"),
        (lock_of(OTHER), {"dead": replace(OTHER, pid=7)}, "held"),
        (lock_of(OTHER), {"break_lock": "ali@awx:100"}, "broken"),
        (lock_of(OTHER), {"break_lock": "ali@awx:101"}, "held"),
        (lock_of(OTHER), {"break_lock": "true"}, "held"),
        (lock_of(replace(ME, pid_started=9)), {}, "held"),
        (lock_of(replace(ME, pid_namespace="pid:[2]")), {}, "held"),
    ],
)
def test_a_lock_is_judged_by_its_holder_and_its_time(found, more, verdict):
    assert judge(found, ME, NOW, **more) == verdict


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("dead", "Took over the lock of ali@awx:100, taken 60 s ago ago: that run has ended"),
        ("expired", "Took over the lock of ali@awx:100"),
        ("broken", "Broke the lock of ali@awx:100"),
        ("held", "-e break_lock=ali@awx:100"),
    ],
)
def test_what_is_taken_over_or_refused_is_said(verdict, words):
    assert words.replace(" ago ago", " ago") in sentence(verdict, lock_of(OTHER), NOW)


@pytest.mark.parametrize("verdict", ["free", "mine"])
def test_the_ordinary_needs_no_words(verdict):
    assert sentence(verdict, lock_of(ME), NOW) == ""


@pytest.fixture
def proc(tmp_path):
    """A /proc with one process: 100, started at tick 5000."""
    write_stat(tmp_path, 100, "S", 5000)
    return tmp_path


def write_stat(proc, pid, state, started):
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} (ansible (play) x) {state} 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {started} 0 0\n")


@pytest.mark.parametrize(
    ("holder", "dead"),
    [
        (ME, False),
        (replace(ME, pid=101), True),
        (replace(ME, pid_started=4000), True),  # the pid was used again
        (replace(ME, boot_id="boot-0"), True),
        (replace(ME, machine_id="machine-b"), False),
        (replace(ME, machine_id="machine-b", pid=101), False),
        (replace(ME, pid_namespace="pid:[2]", pid=101), False),  # another container of this machine
    ],
)
def test_only_a_run_of_this_controller_can_be_known_to_be_gone(proc, holder, dead):
    assert is_dead(holder, ME, proc) is dead


def test_without_a_machine_id_nobody_is_declared_dead(proc):
    nameless = replace(ME, machine_id="")
    assert not is_dead(replace(nameless, pid=101), nameless, proc)


def test_a_zombie_is_gone(proc):
    write_stat(proc, 102, "Z", 5000)
    assert proc_start(102, proc) is None


def test_a_killed_run_is_known_to_be_gone():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    me = this_run()
    holder = replace(me, pid=child.pid, pid_started=proc_start(child.pid))
    assert not is_dead(holder, me)
    child.kill()
    child.communicate()
    assert is_dead(holder, me)


def test_this_run_is_the_long_living_process_not_its_worker():
    """A worker ends with its task: a lock in its name would be free at once."""
    code = (
        "import multiprocessing, os, sys; sys.path[:0] = sys.argv[1:];"
        "from ansible_collections.fpga.hybrid.plugins.module_utils._controller import this_run;"
        "context = multiprocessing.get_context('fork');"
        "pool = context.Pool(1); print(pool.apply(this_run).pid == os.getpid() == this_run().pid)"
    )
    done = subprocess.run([sys.executable, "-c", code, *sys.path], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


def test_one_run_holds_it_until_it_gives_it_back(tmp_path):
    file = LockFile(tmp_path / "state")
    assert file.take(ME, None, "")[0] == "free"
    assert file.take(OTHER, None, "")[0] == "held"
    assert file.release(OTHER).holder == ME
    assert file.take(ME, None, "")[0] == "mine"
    assert file.release(ME) is None
    assert file.take(OTHER, None, "")[0] == "free"


def test_the_file_is_the_owner_s_alone(tmp_path):
    file = LockFile(tmp_path / "state")
    file.take(ME, None, "")
    assert [stat.S_IMODE(os.stat(path).st_mode) for path in (file.folder, file.path)] == [0o700, 0o600]


def test_each_play_puts_the_expiry_off(tmp_path):
    file = LockFile(tmp_path)
    file.take(ME, None, "")
    old = replace(file.read(), expires=NOW)
    file.path.write_text(old.text())
    renewed = file.renew(ME)
    assert renewed.started == old.started
    assert renewed.expires >= old.expires + LIFETIME
    assert file.read() == renewed


def test_nobody_renews_another_s_lock(tmp_path):
    file = LockFile(tmp_path)
    file.take(OTHER, None, "")
    before = file.read()
    assert file.renew(ME) == before
    assert file.read() == before


def test_looking_for_a_lock_makes_nothing(tmp_path):
    file = LockFile(tmp_path / "state")
    assert (file.renew(ME), file.release(ME), file.read()) == (None, None, None)
    assert not file.folder.exists()


def test_a_dead_run_s_lock_goes_to_one_of_two_who_saw_it_dead(tmp_path):
    """Both controllers' processes looked, both want to take over: the second finds the first's lock."""
    file, dead = LockFile(tmp_path), replace(ME, pid=1)
    file.take(dead, None, "")
    assert file.take(ME, dead, "")[0] == "dead"
    assert file.take(OTHER, dead, "")[0] == "held"
    assert file.read().holder == ME


def test_of_many_at_once_one_gets_it(tmp_path):
    runs = [replace(ME, pid=pid) for pid in range(20)]
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda run: LockFile(tmp_path).take(run, None, "")[0], runs))
    assert sorted(verdicts) == ["free", *["held"] * 19]


def test_an_expired_lock_is_taken(tmp_path):
    file = LockFile(tmp_path, lifetime=0)
    file.take(OTHER, None, "")
    assert file.take(ME, None, "")[0] == "expired"


def test_a_file_that_is_no_lock_is_not_simply_overwritten(tmp_path):
    (tmp_path / "lock").write_text("{}")
    with pytest.raises(LockError, match="Look who is at work, then remove the file"):
        LockFile(tmp_path).take(ME, None, "")


def test_a_holder_survives_the_way_through_ansible():
    """Templates may turn numbers into texts."""
    assert holder_from({**vars(ME), "pid": "100", "pid_started": "5000"}) == ME
