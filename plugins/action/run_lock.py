# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of fpga.hybrid.run_lock: who this run is, and whether a holder on this controller still lives."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.fpga.hybrid.plugins.module_utils._controller import this_run
from ansible_collections.fpga.hybrid.plugins.module_utils._lock import Lock, holder_from, is_dead, sentence

MODULE = "fpga.hybrid.run_lock"


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        me = this_run()
        arguments = {**self._task.args, "holder": asdict(me)}
        result: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        found = _lock(result)
        if result.get("verdict") == "held" and found and is_dead(found.holder, me):
            # Only that very lock is replaced: if somebody else was faster, the module finds another and refuses.
            result = self._execute_module(MODULE, module_args={**arguments, "dead": asdict(found.holder)}, task_vars=task_vars)
            found = _lock(result)
        if result.get("failed"):
            return result
        words = sentence(result.get("verdict", "free"), found, float(result.get("now", 0)))
        if result.get("verdict") == "held":
            return {**result, "failed": True, "msg": words}
        if words:
            Display().warning(words)
        elif found and self._task.args["state"] == "released":
            Display().warning(f"The lock of this run was gone at its end: {found.holder.name} holds it now.")
        return result


def _lock(result: dict[str, Any]) -> Lock | None:
    found = result.get("found")
    return Lock(holder_from(found["holder"]), found["started"], found["expires"]) if found else None
