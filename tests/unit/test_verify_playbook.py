# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify.yml where nobody answers: the table comes all the same, and so does the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = """\
all:
  vars:
    cluster_name: test
    cluster_control_plane_endpoint: api.test.example:6443
    cluster_on_prem_addresses: vpn
    cluster_vpn_endpoint: 192.0.2.1
    ansible_host: 127.0.0.1
    ansible_port: 1
  children:
    on_prem: {hosts: {cp1: {vpn_address: 172.27.224.1}, worker1: {vpn_address: 172.27.224.12}}}
    control_plane: {hosts: {cp1: {}}}
    workers: {hosts: {worker1: {}}}
    vpn_server: {hosts: {cp1: {}}}
"""


@pytest.mark.parametrize("limit", [[], ["--limit", "worker1"]])
def test_hosts_that_are_down_cost_their_lines_not_the_table(limit, tmp_path):
    (tmp_path / "site.yml").write_text(SITE)
    report = tmp_path / "report.json"
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "site.yml"), "playbooks/verify.yml", "-e", f"verify_report={report}"]
    done = subprocess.run([*command, *limit], cwd=ROOT, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = json.loads(report.read_text())["lines"]
    expected = {("API server", "control plane"), *(("host reached", host) for host in (["worker1"] if limit else ["cp1", "worker1"]))}
    assert {(line["check"], line["node"]) for line in lines} == expected
    assert all(line["ok"] is False and "Connection refused" in line["found"] and line["remedy"] for line in lines)
    assert "FAILED  host reached  worker1" in done.stdout
