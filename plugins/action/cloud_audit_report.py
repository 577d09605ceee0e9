# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.fpga.hybrid.plugins.module_utils._cloud_audit import Resource, summary, table


class ActionModule(ActionBase):
    """Prints the table past the result callbacks, which would fold it into one string."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={"title": {"type": "str", "required": True}, "resources": {"type": "list", "elements": "dict", "required": True}}
        )
        resources = [Resource(**one) for one in options["resources"]]
        self._display.display(f"\n{table(options['title'], resources)}\n")
        orphans = sum(bool(one.orphan) for one in resources)
        return {"changed": False, "failed": bool(orphans), "orphans": orphans, "msg": summary(resources)}
