# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an instance leaves behind that outlives it: lines on its console, which AWS keeps, and a parameter, which keeper reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from fpga_hybrid.aws import Aws

#: AWS Systems Manager: of a standard parameter.
LIMIT = 4096
#: Below the cluster's path.
FOLDER = "failures"


def stamp() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parameter(prefix: str, instance: str) -> str:
    """prefix: the cluster's path, as /fpga-hybrid/lab."""
    return f"{prefix}/{FOLDER}/{instance}"


def put(client: Aws, name: str, text: str) -> None:
    """Raises AwsError."""
    client.call("ssm", "PutParameter", {"Name": name, "Type": "String", "Overwrite": True, "Value": text})


def fitted(document: Mapping[str, Any], lines: Sequence[str], sentence: tuple[str, ...]) -> str:
    """The document with as many of the last lines as a parameter holds, else with less of its sentence. sentence: the keys that lead to it."""
    kept, lines = json.loads(json.dumps(document)), list(lines)
    while True:
        text = json.dumps({**kept, "log": lines}, separators=(",", ":"))
        if len(text.encode()) <= LIMIT:
            return text
        if lines:
            lines.pop(0)
        elif not _halve(kept, sentence):
            return json.dumps({key: kept.get(key) for key in ("schema", "state", "node_name")}, separators=(",", ":"))


def _halve(document: dict[str, Any], keys: tuple[str, ...]) -> bool:
    """Whether there was anything to take away."""
    for key in keys[:-1]:
        document = document[key]
    former = document[keys[-1]]
    document[keys[-1]] = former[: len(former) // 2]
    return bool(former)


def to_console(root: str, text: str) -> None:
    """The serial console; it may be missing or busy, which is no reason to stop."""
    with suppress(OSError):
        handle = os.open(os.path.join(root, "dev/console"), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            os.write(handle, f"{text}\n".encode())
        finally:
            os.close(handle)
