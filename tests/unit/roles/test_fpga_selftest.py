# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga_selftest.yml as it is run, on this machine in the place of the hosts; kubectl is a script that says what an API server would."""

from __future__ import annotations

import json
import os

from lab.fpga.tree import Plugged, Tree
from tests.unit.site import play

KUBECTL = """#!/bin/sh
case "$*" in
  *" logs "*) echo PCIDEVICE_XILINX_U250=0000:3b:00.1 ;;
  *" get nodes "*) echo '%(nodes)s' ;;
  *" get pods "*) echo '%(pods)s' ;;
  *" get "*) echo 'Error from server (NotFound)' >&2; exit 1 ;;
esac
"""


def test_a_report_is_written_for_workers_with_boards(tmp_path, monkeypatch):
    tree = Tree(tmp_path / "boards", real_nodes=False)
    tree.plug(Plugged("u250", "0000:3b:00"))
    nodes = {"kind": "List", "items": [{"metadata": {"name": "worker1"}, "status": {"allocatable": {"cpu": "8", "xilinx/u250": "1"}}}]}
    pods = {"kind": "List", "items": [{"metadata": {"name": "trial-1"}, "status": {"phase": "Succeeded"}}]}
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").write_text(KUBECTL % {"nodes": json.dumps(nodes), "pods": json.dumps(pods)})
    (tmp_path / "bin" / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    declared = {
        "ansible_connection": "local",
        "cluster_state_folder": str(tmp_path),
        "fpga_device_plugin_sysfs_root": str(tree.sys),
        "fpga_device_plugin_dev_root": str(tree.dev),
        "fpga_device_plugin_metrics": "127.0.0.1:9",
        "fpga_device_plugin_selftest_report": str(tmp_path / "report.md"),
    }
    done = play(tmp_path, "playbooks/fpga_selftest.yml", declared)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "report.md").read_text()
    assert "| u250, xilinx_u250_gen3x16_xdma_shell_4_1, " in text
    assert "| ran: ready |" in text
    assert "PCIDEVICE_XILINX_U250=0000:3b:00.1" in text
    assert "Connection refused" in text
