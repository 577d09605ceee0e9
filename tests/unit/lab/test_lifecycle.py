# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as a whole: what is not begun while somebody else is at it."""

from __future__ import annotations

import contextlib

import pytest

from lab import lifecycle, lock, machine
from lab.cloud import image as instance
from lab.lock import BusyError, held


@pytest.mark.parametrize("verb", [lifecycle.down, lifecycle.reset, lifecycle.clean])
def test_while_a_side_car_runs_the_lab_is_not_taken_away_under_it(monkeypatch, tmp_path, verb):
    """It would start its hosts anew, on networks that go."""
    monkeypatch.setattr(lock, "LOCKS", tmp_path)
    monkeypatch.setattr(lifecycle, "require_root", lambda: None)
    for name in ("after_reboot", "after_kill", "end_forgotten"):
        monkeypatch.setattr(lifecycle.recovery, name, lambda: pytest.fail("something was done"))
    with held("cloud", seconds=0), pytest.raises(BusyError, match=r"the lab's cloud runs .* end it first"):
        verb()


def test_while_the_image_of_instances_is_built_the_lab_is_not_cleaned(monkeypatch, tmp_path):
    """It would be there again afterwards."""
    monkeypatch.setattr(lock, "LOCKS", tmp_path)
    monkeypatch.setattr(lifecycle, "require_root", lambda: None)
    monkeypatch.setattr(lifecycle.recovery, "after_reboot", lambda: pytest.fail("something was done"))
    with held(instance.LOCK), pytest.raises(BusyError, match=r"the image of instances is being built .* wait for it"):
        lifecycle.clean()


@pytest.mark.parametrize("building", [False, True])
def test_what_a_killed_build_of_the_instances_image_left_goes_with_the_next_up(monkeypatch, tmp_path, building):
    monkeypatch.setattr(lock, "LOCKS", tmp_path)
    monkeypatch.setenv("FPGA_HYBRID_LAB_CACHE", str(tmp_path))
    for module, names in {
        lifecycle: ("require_root", "install_packages"),
        lifecycle.recovery: ("after_reboot", "after_kill", "end_forgotten", "after_side_car"),
        machine: ("raise_shared_limits",),
        lifecycle.lab_network: ("ensure",),
        lifecycle.container: ("ensure_ssh_key",),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, lambda: None)
    monkeypatch.setattr(machine, "record", lambda **_: None)
    monkeypatch.setattr(lifecycle.podman, "lab_containers", list)
    left = tmp_path / instance.FOLDER / "build-killed"
    (left / "root").mkdir(parents=True)
    with held(instance.LOCK) if building else contextlib.nullcontext():
        lifecycle.prepare(())
    assert left.exists() == building
