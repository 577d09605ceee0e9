# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What site.yml promises on a cluster that stands: nothing to do, nothing restarted, few tasks, a truthful check mode."""

from __future__ import annotations

import pytest

from tests.lab.site import on, playbook

pytestmark = pytest.mark.lab

HOSTS = ("cp1", "worker1", "worker2", "worker3")
SERVICES = "containerd kubelet openvpn-server@fpga-hybrid openvpn-client@fpga-hybrid"
SECOND_RUN_TASKS = 25


def starts() -> dict[str, str]:
    """Host -> when each of our services was started last."""
    return {host: on(host, f"systemctl show --property=Id,ExecMainStartTimestampMonotonic {SERVICES}") for host in HOSTS}


def test_a_second_run_changes_nothing_and_restarts_nothing():
    before = starts()
    run = playbook("site").check()
    assert run.changed() == {}
    assert starts() == before
    assert {worker: run.started(worker) for worker in HOSTS[1:] if run.started(worker) > SECOND_RUN_TASKS} == {}


def test_check_mode_on_a_converged_cluster_predicts_nothing():
    run = playbook("site", "--check", "--diff").check()
    assert run.changed() == {}
