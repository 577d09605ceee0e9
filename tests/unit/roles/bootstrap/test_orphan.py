# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an instance is nobody's any more, as a rule over everything that may be seen; and which pods count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils._node import ORPHAN_TIMEOUT
from fpga_hybrid import orphan, pods
from fpga_hybrid.aws import AwsError, BadCredentialsError, DeniedError, NotFoundError, ThrottledError, UnreachableError
from tests.unit.roles.bootstrap.doubles import pod_object

LIMITS = orphan.Timeouts(idle=600, busy=2400)
#: alive, busy, or neither; and the real seconds since the last one.
LOOKS = st.tuples(st.just("look"), st.sampled_from(["alive", "idle", "busy"]), st.floats(1, 400))
REBOOTS = st.tuples(st.just("reboot"), st.just(""), st.floats(0, 4000))


def gone(timer: orphan.Timer, start: float, seconds: float, *, busy: bool = False) -> float:
    """Looks every ten seconds; gives the time of the last one."""
    now = start
    while now <= start + seconds:
        timer.look(now, alive=False, busy=busy)
        now += 10
    return now - 10


@given(st.lists(st.one_of(LOOKS, LOOKS, REBOOTS), max_size=80))
def test_it_never_ends_itself_before_the_time_of_absence_has_passed_without_an_answer(events):
    """Whatever the order of answers, jobs, stalls and reboots. The wall clock is no part of it, so that it may be set as it likes."""
    timer, real, answered, worked, monotonic = orphan.Timer(), 0.0, 0.0, 0.0, 0.0
    for kind, state, seconds in events:
        real += seconds
        monotonic += seconds
        if kind == "reboot":
            # The monotonic clock begins anew; the file is all that is left.
            timer, monotonic = orphan.Timer(timer.document()), 0.0
            continue
        timer.look(monotonic, alive=state == "alive", busy=state == "busy")
        answered = real if state == "alive" else answered
        worked = real if state != "idle" else worked
        if timer.is_over(LIMITS):
            assert real - answered >= LIMITS.idle - 1
            assert real - worked >= LIMITS.idle - 1 or real - answered >= LIMITS.busy - 1


@given(st.lists(st.one_of(LOOKS, REBOOTS), max_size=30), st.booleans(), st.floats(1, orphan.LONGEST_STEP), st.floats(0, 1e6))
def test_it_always_ends_itself_when_the_absence_lasts(events, busy, pause, start):
    timer = orphan.Timer()
    for number, (kind, state, _seconds) in enumerate(events):
        timer = orphan.Timer(timer.document()) if kind == "reboot" else timer
        timer.look(number * 10.0, alive=state == "alive", busy=state == "busy")
    timer = orphan.Timer(timer.document())
    needed = int((LIMITS.busy if busy else LIMITS.idle) / pause) + 3
    for number in range(needed):
        timer.look(start + number * pause, alive=False, busy=busy)
    assert timer.is_over(LIMITS)


def test_an_api_server_that_comes_back_begins_the_count_anew():
    timer = orphan.Timer()
    gone(timer, 0, 590)
    timer.look(595, alive=True, busy=False)
    last = gone(timer, 600, 590)
    assert not timer.is_over(LIMITS)
    gone(timer, last, 20)
    assert timer.is_over(LIMITS)


def test_a_reboot_counts_neither_for_nor_against_it():
    before = orphan.Timer()
    gone(before, 90000, 400)
    after = orphan.Timer(before.document())
    gone(after, 12, 190)
    assert not after.is_over(LIMITS)
    gone(after, 202, 20)
    assert after.is_over(LIMITS)


def test_a_machine_that_stood_still_has_not_seen_an_absence():
    timer = orphan.Timer()
    timer.look(0, alive=False, busy=False)
    timer.look(90000, alive=False, busy=False)
    assert timer.document() == {"gone": orphan.LONGEST_STEP, "idle": orphan.LONGEST_STEP}


def test_a_job_that_ends_in_the_absence_gives_it_the_idle_time_once_more():
    timer = orphan.Timer()
    last = gone(timer, 0, 1800, busy=True)
    assert not timer.is_over(LIMITS)
    last = gone(timer, last, 590)
    assert not timer.is_over(LIMITS)
    gone(timer, last, 20)
    assert timer.is_over(LIMITS)


@pytest.mark.parametrize(
    "document", [None, {}, {"gone": "x"}, {"gone": -1, "idle": None}, {"gone": True, "idle": [1]}, {"gone": float("inf"), "idle": float("nan")}]
)
def test_a_damaged_file_counts_for_nothing(document):
    assert orphan.Timer(document).document() == {"gone": 0.0, "idle": 0.0}


def test_what_an_older_node_json_does_not_say_is_the_default():
    assert orphan.Timeouts.of(None) == orphan.Timeouts.of({"region": "us-east-1"}) == orphan.Timeouts(3600, 14400)
    assert orphan.Timeouts.of({"orphan_timeout": {"idle": 40, "busy": 80}}) == orphan.Timeouts(40, 80)
    assert set(ORPHAN_TIMEOUT) == {"idle", "busy"}


@pytest.mark.parametrize(
    ("error", "words", "pause"),
    [
        (AwsError("c", "ValidationError", "Currently, desiredSize equals minSize (1). ... group's min size constraint."), "lower min_size", 600),
        (NotFoundError("c", "ValidationError", "Instance Id not found - No managed instance found"), "it powers itself off 2h after that", 600),
        (DeniedError("c", "AccessDenied", "not authorized"), "playbook iam.yml", 300),
        (BadCredentialsError("c", "ExpiredToken", "expired"), "playbook iam.yml", 300),
        (ThrottledError("c", "Throttling", "Rate exceeded"), "Rate exceeded.", 30),
        (UnreachableError("c", "", "no answer"), "no answer.", 30),
    ],
)
def test_each_refusal_says_what_to_do_and_is_tried_again(error, words, pause):
    found = orphan.refusal(error, 1)
    assert words in found.sentence
    assert found.pause == pause


def test_pauses_grow_to_five_minutes_and_no_further():
    error = UnreachableError("c", "", "no answer")
    assert [orphan.refusal(error, attempt).pause for attempt in (1, 2, 3, 4, 5, 1000)] == [30, 60, 120, 240, 300, 300]


# --- pods -------------------------------------------------------------------------------------------------------------------------------

JOB, SET, STATIC = "11111111-2222-3333-4444-555555555555", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "0123456789abcdef0123456789abcdef"


def cgroup(root, path, processes="42\n"):
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True)
    (folder / "cgroup.procs").write_text(processes)
    for parent in folder.parents:
        if parent == root / "sys/fs/cgroup":
            break
        (parent / "cgroup.procs").touch()


def scope(uid: str, quality: str = "burstable-") -> str:
    return f"kubepods.slice/kubepods-{quality.rstrip('-')}.slice/kubepods-{quality}pod{uid.replace('-', '_')}.slice/cri-containerd-ab12.scope"


@pytest.mark.parametrize(
    "path",
    [
        scope(JOB),
        f"kubepods.slice/kubepods-pod{JOB.replace('-', '_')}.slice/docker-ab12.scope",  # Guaranteed
        f"kubepods/besteffort/pod{JOB}/ab12",  # driver cgroupfs
        f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{JOB.replace('-', '_')}.slice/x.scope",  # with a cgroupRoot
        f"memory/{scope(JOB)}",  # version 1
    ],
)
def test_a_pod_runs_that_has_processes_in_its_cgroup(tmp_path, path):
    cgroup(tmp_path, path)
    assert pods.running(str(tmp_path)) == {JOB}


def test_a_pod_without_processes_has_ended_and_others_are_none(tmp_path):
    cgroup(tmp_path, scope(JOB), processes="")
    cgroup(tmp_path, "system.slice/podman.service")
    cgroup(tmp_path, f"user.slice/pod{JOB}")
    assert pods.running(str(tmp_path)) == set()
    cgroup(tmp_path, scope(STATIC, "besteffort-"))
    assert pods.running(str(tmp_path)) == {STATIC}


def test_a_host_without_cgroups_runs_nothing(tmp_path):
    assert pods.running(str(tmp_path)) == set()


def test_what_belongs_to_the_host_is_a_daemonsets_or_a_static_pod():
    job, other = pod_object("job", "n", JOB), pod_object("proxy", "n", SET, owner="DaemonSet")
    mirror = pod_object("static", "n", "mirror-uid", owner="Node", **{"kubernetes.io/config.mirror": STATIC, "kubernetes.io/config.hash": STATIC})
    assert pods.of_the_host([job, other, mirror]) == {SET, STATIC}


@pytest.mark.parametrize(("phase", "over"), [("Running", False), ("Pending", False), ("Succeeded", True), ("Failed", True)])
def test_a_pod_whose_work_has_ended_is_over(phase, over):
    pod = pod_object("job", "n", JOB, phase=phase)
    assert pods.is_over(pod) is over
    assert not pods.is_leaving(pod)
    leaving = {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2026-11-26T10:00:00Z"}}
    assert (pods.is_leaving(leaving), pods.is_over(leaving)) == (True, over)
