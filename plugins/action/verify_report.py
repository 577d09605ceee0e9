# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.fpga.hybrid.plugins.module_utils import _verify as verify
from ansible_collections.fpga.hybrid.plugins.module_utils._verify import Line


def gather(cluster: Sequence[Mapping[str, Any]], hosts: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Line]:
    """All lines, and one for each host and for the API server where a module gave none."""
    lines = [Line.from_dict(line) for result in cluster for line in result.get("lines", [])]
    for result in cluster:
        if "lines" not in result:
            found = verify.one_line(str(result.get("msg") or "no connection"))
            remedy = "The control plane's host must be reachable for Ansible; without it only the hosts themselves can be looked at."
            lines.append(Line(verify.API, "control plane", False, found, "an answer", remedy=remedy))
    lines += verify.judge_hosts(hosts)
    lines += [Line.from_dict(line) for results in hosts.values() for result in results for line in result.get("lines", [])]
    return list(dict.fromkeys(lines))


class ActionModule(ActionBase):
    """Prints the table, writes the report, fails with the remedies."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "title": {"type": "str", "required": True},
                "cluster": {"type": "list", "elements": "dict", "required": True},
                "hosts": {"type": "dict", "required": True},
                "dest": {"type": "str", "default": ""},
            }
        )
        lines = gather(options["cluster"], options["hosts"])
        time = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        title = f"{options['title']}, {time}"
        # past the result callbacks, which would fold a table of many lines into one string
        self._display.display(f"\n{verify.render_table(title, lines)}\n")
        if options["dest"] and not self._task.check_mode:
            path = Path(os.path.expanduser(options["dest"]))
            report = verify.render_markdown(title, lines) if path.suffix == ".md" else verify.render_json(options["title"], time, lines)
            path.write_text(report, encoding="utf-8")
        failed = sum(line.ok is False for line in lines)
        if failed:
            # short: what to do about each stands below the table, and a failed task's message is printed twice
            return {"changed": False, "failed": True, "failed_lines": failed, "msg": f"{verify.summary(lines)}: {verify.failed_names(lines)}"}
        return {"changed": False, "failed_lines": 0, "msg": verify.summary(lines)}
