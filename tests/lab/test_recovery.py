# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mishaps of a whole run on the lab: a killed play, a reboot of every host; each ends in the same table."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from tests.lab.site import ROOT, environment, lab, on, playbook

pytestmark = [pytest.mark.lab, pytest.mark.slow]

HOSTS = ("cp1", "worker1", "worker2", "worker3")


@pytest.mark.parametrize("seconds", [25, 60, 90])
def test_a_play_killed_in_the_middle_is_taken_up_by_the_next(seconds):
    """From bare hosts; kill -9 of the play and its children, the lock stays behind, and the re-run just goes on."""
    lab("reset")
    lab("up")
    process = subprocess.Popen(
        ["ansible-playbook", "site.yml"], cwd=ROOT, env=environment(os.devnull), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    playbook("site").check()
    playbook("verify").check()


def test_every_host_comes_back_from_a_reboot():
    for host in HOSTS:
        lab("host", "reboot", host)
    deadline = time.monotonic() + 180
    ready = ""
    while ready.count("True") < len(HOSTS) and time.monotonic() < deadline:
        ready = on(
            "cp1",
            "kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes -o jsonpath='{.items[*].status.conditions[?(@.type==\"Ready\")].status}'",
            check=False,
        )
        time.sleep(2)
    playbook("verify").check()
    assert playbook("site").check().changed() == {}
