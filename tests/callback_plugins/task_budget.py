# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what a run did per host to the file named by TASK_BUDGET_FILE, for the tests that hold a budget."""

from __future__ import annotations

import json
import os
from collections import defaultdict

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_budget
type: aggregate
short_description: Counts the tasks started on each host
description: Started tasks, skipped ones too, without argument-spec and include lines; what changed; how long each took.
requirements:
  - E(TASK_BUDGET_FILE) names the file to write.
"""

NOT_COUNTED = ("include_tasks", "include_role", "import_tasks", "import_role", "validate_argument_spec", "meta")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_budget"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self.started = defaultdict(list)
        self.changed = defaultdict(list)
        self.failed = defaultdict(list)

    def v2_runner_on_start(self, host, task):
        if task.action.rpartition(".")[2] not in NOT_COUNTED:
            self.started[host.get_name()].append(task.get_name())

    def v2_runner_on_ok(self, result):
        if result.result.get("changed"):
            self.changed[result.host.get_name()].append(result.task.get_name())

    def v2_runner_on_failed(self, result, ignore_errors=False):
        if not ignore_errors:
            self.failed[result.host.get_name()].append(result.task.get_name())

    def v2_playbook_on_stats(self, stats):
        hosts = {
            host: {**stats.summarize(host), "started": self.started[host], "changed_tasks": self.changed[host], "failed_tasks": self.failed[host]}
            for host in stats.processed
        }
        with open(os.environ["TASK_BUDGET_FILE"], "w", encoding="utf-8") as file:
            json.dump(hosts, file, indent=1)
