# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking over from a lab whose end was not orderly: which processes and files are its remains."""

from __future__ import annotations

import json
import os
from ipaddress import IPv4Address

import pytest

from lab import podman, recovery, status
from lab.hosts import container
from lab.run import CommandError
from lab.settings import VPC, InstanceHost

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


# ---- containers that end while somebody looks


@pytest.fixture
def one_of_two(monkeypatch, tmp_path) -> None:
    """A podman that knows the first of two hosts only, and says so as the real one does."""
    state = {"Name": "fpga-hybrid-i-1", "Id": "1", "State": {"Status": "running", "Running": True, "Pid": os.getpid()}}
    program = tmp_path / "podman"
    program.write_text(
        f"""#!/bin/sh
case "$*" in
    "container inspect fpga-hybrid-i-1") echo '[{json.dumps(state)}]' ;;
    "container exists fpga-hybrid-broken") ;;
    "container exists "*) exit 1 ;;
    *) echo '[]'; echo "Error: no such container fpga-hybrid-i-2" >&2; exit 125 ;;
esac
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_what_has_gone_meanwhile_is_left_out(one_of_two):
    assert [found["Id"] for found in podman.inspect_present("fpga-hybrid-i-1", "fpga-hybrid-i-2")] == ["1"]


def test_another_error_of_podmans_stays_one(one_of_two):
    with pytest.raises(CommandError, match="no such container"):
        podman.inspect_present("fpga-hybrid-i-1", "fpga-hybrid-broken")


def test_a_host_that_ends_while_the_table_is_made_is_not_in_it(one_of_two, monkeypatch):
    hosts = [InstanceHost(f"i-{number}", VPC, IPv4Address(f"10.203.30.{number}")) for number in (1, 2)]
    monkeypatch.setattr(container, "every", list)
    monkeypatch.setattr(container, "instances", lambda: hosts)
    assert [row[0] for row in status.host_rows()] == ["i-1"]


def test_a_host_that_ends_while_others_are_examined_stops_nobody(one_of_two, monkeypatch):
    examined = []
    monkeypatch.setattr(recovery, "is_lost", lambda found: examined.append(found["Id"]))
    recovery.end_lost(["fpga-hybrid-i-1", "fpga-hybrid-i-2"])
    assert examined == ["1"]
