# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import os
import random
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils._image_builds import BUILD, BuildError, build_tags, left_builds, spare_images
from ansible_collections.fpga.hybrid.plugins.module_utils._lock import Holder, proc_start

NOW = datetime(2026, 11, 26, 8, 30, tzinfo=timezone.utc)
ME = Holder("machine", "boot", "pid:[1]", os.getpid(), proc_start(os.getpid()) or 0, "ann", "console")
GONE = dataclasses.replace(ME, pid_started=ME.pid_started - 1)


def tags(holder=ME, hours=2, started=NOW):
    return build_tags("lab", hours, holder, started)


def test_the_tags_say_whose_it_is_which_build_and_when_it_may_go_and_name_nobody():
    found = tags()
    assert found["fpga.hybrid/image-of"] == "lab"
    assert found["fpga.hybrid/image-build"].startswith("20261126T083000Z-")
    assert found["fpga.hybrid/image-until"] == "2026-11-26T10:30:00Z"
    assert not {"machine", "boot", "ann", "console"} & {word for value in found.values() for word in value.split("/")}
    assert max(map(len, found.values())) <= 256


@pytest.mark.parametrize(
    ("holder", "later", "left"),
    [
        (ME, timedelta(hours=1), False),
        (ME, timedelta(hours=2), True),
        (GONE, timedelta(), True),
        (dataclasses.replace(ME, boot_id="an older boot"), timedelta(), True),
        (dataclasses.replace(GONE, machine_id="another"), timedelta(hours=1), False),
        (dataclasses.replace(GONE, machine_id="another"), timedelta(hours=2), True),
        (dataclasses.replace(GONE, pid_namespace="pid:[2]"), timedelta(hours=1), False),
    ],
)
def test_a_build_is_left_when_its_run_is_gone_or_its_time_is_over(holder, later, left):
    found = tags(holder)
    assert left_builds([found, found], ME, NOW + later) == ([found[BUILD]] if left else [])


def test_who_has_no_machine_id_takes_no_run_for_dead():
    nobody = dataclasses.replace(ME, machine_id="")
    assert left_builds([tags(dataclasses.replace(nobody, pid_started=1))], nobody, NOW) == []


@pytest.mark.parametrize("builder", ["", "hello", "a/b/c/d/e", "a/b/c/1", "1/2/3/4/-5"])
def test_tags_that_somebody_has_written_by_hand_end_nothing_before_their_time(builder):
    found = {**tags(GONE), "fpga.hybrid/image-builder": builder}
    assert left_builds([found], ME, NOW) == []
    assert left_builds([found], ME, NOW + timedelta(hours=3)) == [found[BUILD]]
    assert left_builds([{**found, "fpga.hybrid/image-until": "tomorrow"}, {"Name": "a stranger"}], ME, NOW + timedelta(days=9)) == []


@given(st.sets(st.integers(0, 99), max_size=9), st.integers(1, 9), st.sets(st.integers(0, 99)))
def test_the_newest_and_those_in_use_stay_and_no_other(numbers, keep, used):
    images = [{"image_id": f"ami-{number:02}", "creation_date": f"2026-11-26T08:00:{number:02}.000Z"} for number in numbers]
    random.Random(0).shuffle(images)
    spare = spare_images(images, keep, {f"ami-{number:02}" for number in used})
    assert {int(image[4:]) for image in spare} == set(sorted(numbers)[: max(0, len(numbers) - keep)]) - used


def test_the_newest_image_is_never_spared():
    with pytest.raises(BuildError, match="image_keep: found 0, expected 1 or more"):
        spare_images([], 0, [])
