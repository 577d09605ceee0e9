# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking over from a lab whose end was not orderly: which processes and files are its remains."""

from __future__ import annotations

import os

import pytest

from lab import recovery

CONMON = "/usr/bin/conmon\0--api-version\x001\0-c\0{id}\0-u\0{id}\0-n\0{name}\0--exit-dir\0/run/libpod/exits\0"


@pytest.mark.parametrize(
    ("command_line", "expected"),
    [
        (CONMON.format(id="abc", name="fpga-hybrid-cp1"), ("fpga-hybrid-cp1", "abc")),
        (CONMON.format(id="known", name="fpga-hybrid-cp1"), None),
        (CONMON.format(id="abc", name="somebody-elses"), None),
        ("/usr/bin/conmon\0--version\0", None),
    ],
    ids=["podman forgot it", "podman knows it", "not of the lab", "no container"],
)
def test_only_hosts_of_the_lab_that_podman_forgot_are_ended(command_line, expected):
    assert recovery.forgotten(command_line, {"known"}) == expected


def test_emptying_a_folder_keeps_the_folder_and_what_links_lead_to(tmp_path):
    """The folder may be a mount point: what lies beneath it is not ours."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    folder = tmp_path / "volatile"
    (folder / "inner/deep").mkdir(parents=True)
    (folder / "file").touch()
    (folder / "link").symlink_to(elsewhere)
    recovery.empty(folder)
    assert list(folder.iterdir()) == []
    assert (elsewhere / "kept").exists()
    recovery.empty(tmp_path / "absent")


def test_an_ended_process_is_not_alive_although_it_is_still_listed():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        assert os.path.exists(f"/proc/{pid}")
        assert not recovery.is_alive(pid)
        assert recovery.is_alive(os.getpid())
    finally:
        os.waitpid(pid, 0)
