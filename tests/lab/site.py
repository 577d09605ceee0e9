# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs this collection's playbooks on the running lab and tells what they did; the lab's tests are written with it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv" / "bin"
CACHE = Path(os.environ.get("FPGA_HYBRID_LAB_CACHE") or Path.home() / ".cache" / "fpga-hybrid-lab")


@dataclass(frozen=True)
class Run:
    """One finished ansible-playbook: its exit status, its output, and per host what the task_budget callback counted."""

    status: int
    output: str
    hosts: dict[str, dict]

    def changed(self) -> dict[str, list[str]]:
        """Host -> names of the tasks that changed something."""
        return {host: counted["changed_tasks"] for host, counted in self.hosts.items() if counted["changed_tasks"]}

    def started(self, host: str) -> int:
        return len(self.hosts[host]["started"])

    def check(self) -> Run:
        assert self.status == 0, self.output[-6000:]
        return self


def environment(budget: str) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{VENV}:{os.environ['PATH']}",
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "task_budget",
        "TASK_BUDGET_FILE": budget,
    }


def playbook(name: str, *arguments: str, timeout: int = 1200) -> Run:
    """Runs playbooks/NAME.yml (or site.yml at the root) on the lab's inventory."""
    path = "site.yml" if name == "site" else f"playbooks/{name}.yml"
    with tempfile.NamedTemporaryFile(suffix=".json") as budget:
        finished = subprocess.run(
            ["ansible-playbook", path, *arguments],
            cwd=ROOT,
            env=environment(budget.name),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        counted = budget.read()
    return Run(finished.returncode, finished.stdout, json.loads(counted) if counted else {})


def verify(*arguments: str) -> dict:
    """Runs verify.yml; its report, with the run's own status, output and changes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        run = playbook("verify", "-e", f"verify_report={file}", *arguments)
        assert file.exists(), run.output[-6000:]
        return {**json.loads(file.read_text()), "status": run.status, "output": run.output, "changed": run.changed()}


def lab(*arguments: str) -> None:
    """Calls the lab's command line."""
    subprocess.run([ROOT / "lab" / "lab", *arguments], check=True, timeout=600)


def on(host: str, command: str, *, check: bool = True, stdin: str | None = None) -> str:
    """Runs a shell command on a lab host; returns what it printed."""
    words = [ROOT / "lab" / "lab", "host", "exec", host, "--", "sh", "-c", command]
    finished = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    assert not check or finished.returncode == 0, f"{host}: {command}: {finished.stderr}"
    return finished.stdout.strip()
