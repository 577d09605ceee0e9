# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about the boards as labels of the node: for people and for monitoring. Nobody may select on them from zero: a node that is not there has none.

Written with the kubelet's own credentials, because they are there and may change this one node only (admission plugin NodeRestriction), by kubectl,
because it understands them. What can be selected on from zero stands in node.json and is set by the kubelet itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fpga_device_plugin.discovery import Board

log = logging.getLogger(__name__)

PREFIX = "fpga.hybrid"
DRIVER, SHELL = f"{PREFIX}/xrt", f"{PREFIX}/shell."
SECONDS = 20.0


class LabelError(Exception):
    """The node cannot be labelled; the text says why."""


def value(text: str) -> str:
    """What of a text a label can hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("._-")


def facts(boards: Iterable[Board], driver_version: str, image_shells: Mapping[str, str]) -> dict[str, str]:
    """image_shells: what AWS' tools said, by slot. Boards of a kind with different shells are mixed."""
    shells: dict[str, set[str]] = {}
    for board in boards:
        if shell := value(board.shell or image_shells.get(board.slot, "")):
            shells.setdefault(board.kind.name, set()).add(shell)
    labels = {f"{SHELL}{kind}": next(iter(found)) if len(found) == 1 else "mixed" for kind, found in sorted(shells.items())}
    return {**({DRIVER: value(driver_version)} if driver_version else {}), **labels}


def is_ours(label: str) -> bool:
    return label == DRIVER or label.startswith(SHELL)


def _labels(text: str) -> dict[str, str]:
    """What kubectl printed. Raises LabelError."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise LabelError(f"kubectl get: found {text[:100]!r}, expected the node's labels as JSON")
    return found


@dataclass
class Labeller:
    """kubeconfig: the kubelet's. The node's name is who these credentials say we are."""

    kubeconfig: Path
    kubectl: str = "kubectl"
    _node: str = ""
    _told: dict[str, str] | None = field(default=None)

    async def tell(self, labels: Mapping[str, str]) -> None:
        """Makes our labels of the node exactly these. Raises LabelError."""
        if labels == self._told:
            return
        if not self.kubeconfig.exists():
            raise LabelError(f"{self.kubeconfig} is not there: this host is no node yet")
        if not self._node:
            who = await self._run("auth", "whoami", "--output=jsonpath={.status.userInfo.username}")
            if not who.startswith("system:node:"):
                raise LabelError(f"{self.kubeconfig} is that of {who!r}, expected system:node:NAME")
            self._node = who.removeprefix("system:node:")
        found = _labels(await self._run("get", "node", self._node, "--output=jsonpath={.metadata.labels}") or "{}")
        stale = {label: None for label in found if is_ours(label) and label not in labels}
        wrong = {label: text for label, text in labels.items() if found.get(label) != text}
        if stale or wrong:
            await self._run("patch", "node", self._node, "--type=merge", "--patch", json.dumps({"metadata": {"labels": {**stale, **wrong}}}))
            log.info("node %s labelled: %s", self._node, labels)
        self._told = dict(labels)

    async def _run(self, *arguments: str) -> str:
        program = shutil.which(self.kubectl)
        if program is None:
            raise LabelError(f"{self.kubectl} is not installed")
        command = [program, f"--kubeconfig={self.kubeconfig}", f"--request-timeout={SECONDS / 2:g}s", *arguments]
        try:
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        except OSError as error:
            raise LabelError(f"{program} cannot be started: {error.strerror}") from error
        try:
            output, errors = await asyncio.wait_for(process.communicate(), SECONDS)
        except asyncio.TimeoutError:
            process.kill()
            raise LabelError(f"kubectl {arguments[0]} took more than {SECONDS:g} s") from None
        if process.returncode:
            raise LabelError(f"kubectl {arguments[0]}: {errors.decode(errors='replace').strip()[:300]}")
        return output.decode(errors="replace").strip()
