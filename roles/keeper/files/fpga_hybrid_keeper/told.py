# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How keeper tells others: metrics as Prometheus' textfile has them, events on the control plane's Node, and commands of the user."""

from __future__ import annotations

import hashlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from fpga_hybrid.kube import Object
from fpga_hybrid_keeper.expiry import Expiry, seconds

#: Kubernetes' limits of an event (pkg/apis/core/validation/events.go).
NOTE_LIMIT, INSTANCE_LIMIT = 1024, 128
CONTROLLER = "fpga.hybrid/keeper"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
#: Bytes of a command's output that are kept: its last words.
LAST_WORDS = 2000


# --- metrics ----------------------------------------------------------------------------------------------------------------------------

Sample = tuple[Mapping[str, str], float]

HELP = {
    "keeper_pass_timestamp_seconds": "When keeper has last written this",
    "keeper_healthy": "1 if keeper could ask everybody and do everything",
    "keeper_trouble": "What keeper cannot do just now, always 1; status.json has the sentence",
    "warnings": "How many warnings keeper has; status.json has the sentences",
    "instances": "Instances on keeper's record, by pool and phase",
    "pool_running": "Instances of a pool that run",
    "pool_paused": "Why a pool starts no instances, always 1",
    "pool_failed_joins": "Instances of a pool that lately did not join",
    "today_instances": "Instances that ran today, in UTC",
    "today_instance_hours": "Hours that instances have run today, in UTC",
    "today_cost": "What they cost today, in the currency of price_per_hour",
    "snapshot_timestamp_seconds": "When the newest snapshot was made",
    "expiry_timestamp_seconds": "When something ends",
}


def metrics(status: Mapping[str, Any], expiries: Iterable[Expiry], now: float) -> str:
    """Prometheus' text format. From what status says; what it does not say, there is no metric of."""
    found: dict[str, list[Sample]] = {name: [] for name in HELP}
    for name, labels, value in _samples(status, now):
        found[name].append((labels, value))
    found["expiry_timestamp_seconds"] = [({"name": one.name}, one.ends) for one in expiries]
    lines = []
    for name, samples in found.items():
        if samples:
            lines += [f"# HELP fpga_hybrid_{name} {HELP[name]}", f"# TYPE fpga_hybrid_{name} gauge"]
            lines += [f"fpga_hybrid_{name}{_labels(labels)} {value:.15g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _samples(status: Mapping[str, Any], now: float) -> Iterator[tuple[str, Mapping[str, str], float]]:
    yield "keeper_pass_timestamp_seconds", {}, now
    yield "keeper_healthy", {}, float(bool(status["healthy"]))
    for what in status["troubles"]:
        yield "keeper_trouble", {"what": what}, 1
    yield "warnings", {}, len(status.get("warnings") or [])
    counted: dict[tuple[str, str], int] = {}
    for entry in status["instances"].values():
        key = (str(entry.get("pool") or ""), str(entry["phase"]))
        counted[key] = counted.get(key, 0) + 1
    for (pool, phase), count in sorted(counted.items()):
        yield "instances", {"pool": pool, "phase": phase}, count
    for pool, entry in (status.get("pools") or {}).items():
        yield "pool_running", {"pool": pool}, entry["running"]
        yield "pool_failed_joins", {"pool": pool}, len(entry.get("failed_joins") or [])
        if entry.get("paused"):
            yield "pool_paused", {"pool": pool, "kind": entry["paused"]["kind"]}, 1
    today = status.get("today") or {}
    for figure, name in (("instances", "today_instances"), ("hours", "today_instance_hours"), ("cost", "today_cost")):
        if today.get(figure) is not None:
            yield name, {}, today[figure]
    for name, section in (status.get("upkeep") or {}).items():
        if section.get("trouble"):
            yield "keeper_trouble", {"what": name}, 1
    last = (status.get("upkeep") or {}).get("snapshot", {}).get("last")
    if last:
        yield "snapshot_timestamp_seconds", {}, seconds(last)


def _labels(labels: Mapping[str, str]) -> str:
    def quoted(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{quoted(value)}"' for name, value in labels.items()) + "}" if labels else ""


# --- events -----------------------------------------------------------------------------------------------------------------------------


def event(warning: str, node: str, now: float) -> Object:
    """As `kubectl describe node` and `kubectl get events` show it. Source: Kubernetes API, events.k8s.io/v1.

    The node's uid is its name there, as in the kubelet's own events: that is what kubectl looks for. The same words have one name in a day.
    """
    moment = datetime.fromtimestamp(now, timezone.utc)
    digest = hashlib.sha256(f"{moment:%Y-%m-%d} {warning}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"fpga-hybrid-keeper.{digest}", "namespace": "default"},
        "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": "Warning",
        "reason": "FpgaHybridWarning",
        "action": "Warned",
        "note": warning if len(warning.encode()) <= NOTE_LIMIT else warning.encode()[: NOTE_LIMIT - 4].decode("utf-8", "ignore") + " ...",
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "reportingController": CONTROLLER,
        "reportingInstance": node[:INSTANCE_LIMIT],
    }


# --- commands ---------------------------------------------------------------------------------------------------------------------------


class CommandError(Exception):
    """The command did not do it; the message has its last words."""


def run(argv: Sequence[str], data: str, timeout: float) -> None:
    """A user's command, with all that it starts ended when its time is over. However much it says, only its last words are kept."""
    name, text = os.path.basename(argv[0]), data.encode(errors="replace")
    try:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, start_new_session=True)
    except OSError as error:
        raise CommandError(f"{argv[0]} cannot be run: {error.strerror or error}") from error
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        # A command need not read: one that takes nothing in does not hold us up.
        os.set_blocking(process.stdin.fileno(), False)
        with suppress(OSError):
            process.stdin.write(text)
        with suppress(OSError):
            process.stdin.close()
        said = _last_words(process, timeout)
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise CommandError(f"{name} was ended: it was not done within {timeout:.0f} s{said}")
    if process.returncode:
        code = process.returncode
        raise CommandError(f"{name} failed with {f'exit code {code}' if code > 0 else f'signal {-code}'}{said}")


def _last_words(process: subprocess.Popen[bytes], timeout: float) -> str:
    """Until it ends, also where something that it has left behind holds its output open."""
    assert process.stdout is not None
    output, end, words, step = process.stdout.fileno(), time.monotonic() + timeout, b"", 0.01
    is_open = True
    while time.monotonic() < end:
        ended = process.poll() is not None
        if is_open and select.select([output], [], [], 0 if ended else step)[0]:
            piece = os.read(output, 1 << 16)
            is_open = bool(piece)
            words = (words + piece)[-LAST_WORDS:]
        elif ended:
            break
        elif not is_open:
            time.sleep(step)
        step = min(step * 2, 1.0)
    lines = [line for line in re.sub(r"[^\x20-\x7e\n]", "", words.decode("utf-8", "ignore")).splitlines() if line.strip()]
    return f": {lines[-1].strip()[-300:]}" if lines else ""
