# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left behind for whoever wants to know: the status file, and of a failed instance its evidence in AWS and on the console."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

from fpga_hybrid import evidence
from fpga_hybrid.aws import Aws, AwsError
from fpga_hybrid.credentials import renewed
from fpga_hybrid.evidence import stamp
from fpga_hybrid.failure import Failure
from fpga_hybrid.imds import Imds
from fpga_hybrid.options import PROGRAM
from fpga_hybrid.run import Endpoint, Run

Object = dict[str, Any]

STATUS = "var/lib/fpga-hybrid/bootstrap.json"
SCHEMA = 1
#: Seconds for telling AWS about a failure; it is no reason to hold up the end.
EVIDENCE_PATIENCE = 15.0


class Status:
    """The status file. It is written at each step of a join; a run that finds a node and changes nothing leaves it as it was."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._path = run.path(STATUS)
        self._former = run.host.read_json(self._path) or {}
        self._started = stamp()
        self._finished: str | None = None
        self._steps: list[Object] = []
        self.failure: Object | None = None
        self.state = "running"
        self.step = ""

    def former_endpoint(self) -> Endpoint | None:
        found = self._former.get("endpoint")
        return Endpoint(found["name"], found["address"]) if isinstance(found, dict) and {"name", "address"} <= set(found) else None

    def begin(self, step: str) -> None:
        self.step = step
        if self._run.knows_itself and not self._run.joined:
            self._save()

    def end(self, step: str, started: float, result: str) -> None:
        self._steps.append({"name": step, "seconds": round(time.monotonic() - started, 3), "result": result})

    def finish(self, failure: Failure | None) -> None:
        self._finished = stamp()
        if failure:
            self.state = "failed"
            sentence = self._run.log.masked(failure.sentence)
            self.failure = {"kind": failure.kind.name, "status": failure.kind.status, "step": self.step, "sentence": sentence}
        else:
            self.state = "joined"
            self.step = ""
        if failure or self._run.changes or self._former.get("state") != "joined":
            self._save()

    def document(self) -> Object:
        run = self._run
        node = run.node if run.knows_itself else None
        declared = run.declared or {}
        return {
            "schema": SCHEMA,
            "state": self.state,
            "step": self.step or None,
            "node_name": node.name if node else None,
            "provider_id": node.provider_id if node else None,
            "cluster_name": declared.get("cluster_name"),
            "cluster_id": declared.get("cluster_id"),
            "pool": declared.get("pool"),
            "endpoint": run.endpoint._asdict() if run.endpoint else None,
            "started": self._started,
            "finished": self._finished,
            "steps": self._steps,
            "changes": run.changes,
            "failure": self.failure,
        }

    def _save(self) -> None:
        if self._run.options.dry_run:
            return
        # A full disk must not hide the failure that is told here.
        with suppress(OSError):
            self._run.host.write(self._path, json.dumps(self.document(), indent=2) + "\n", 0o644)


def leave_evidence(run: Run, status: Object) -> None:
    """Of an instance: on its console, which AWS keeps after its end, and in the parameter that keeper reads."""
    node = run.node if run.knows_itself else None
    found = status["failure"]
    if node is None or node.instance is None or run.options.dry_run:
        if run.declared and run.declared["pool"]:
            _to_console(run, f"{PROGRAM}: this instance did not join {status['cluster_name']}: {found['kind']}: {found['sentence']}")
        return
    _to_console(
        run,
        f"{PROGRAM}: {node.instance.id} did not join cluster {status['cluster_name']}. Step {found['step']}, {found['kind']} (exit status {found['status']}): "
        f"{found['sentence']} It is not tried again before the next start.",
    )
    aws = run.declared["aws"] if run.declared else None
    if not aws:
        return
    name = evidence.parameter(aws["ssm_prefix"], node.instance.id)
    client = Aws(aws["region"], renewed(Imds().credentials), aws["endpoint_url"], timeout=5.0, patience=min(EVIDENCE_PATIENCE, run.options.timeout))
    try:
        evidence.put(client, name, text_of(run, status))
        run.log.say(f"wrote the evidence to parameter {name}")
    except AwsError as error:
        run.log.say(f"could not write the evidence to parameter {name}: {error}")


def text_of(run: Run, status: Object) -> str:
    """The status, and as many of the log's last lines as a parameter holds."""
    return evidence.fitted({key: value for key, value in status.items() if key != "changes"}, run.log.lines, ("failure", "sentence"))


def _to_console(run: Run, text: str) -> None:
    evidence.to_console(run.options.root, run.log.masked(text))
