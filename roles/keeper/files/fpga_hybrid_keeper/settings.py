# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper.json, which role keeper writes, and the command line. No secret stands in either."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._schema import violations

PROGRAM = "fpga-hybrid-keeper"
CONFIG = "/etc/fpga-hybrid/keeper.json"

_TEXT = {"type": "string", "pattern": "."}
_OPTIONAL = {"type": ["string", "null"]}
_COUNT = {"type": ["number", "null"]}
_WORDS = {"type": "array", "items": _TEXT}


def _keys(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(properties)}


SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "schema": {"enum": [1]},
        "cluster_name": _TEXT,
        "cluster_id": _TEXT,
        "region": _TEXT,
        "endpoint_url": _OPTIONAL,
        "account": _OPTIONAL,
        "ssm_prefix": _TEXT,
        "credentials": _TEXT,
        "endpoint": _TEXT,
        "endpoint_address": _OPTIONAL,
        "kubeconfig": _TEXT,
        "ca": _TEXT,
        "vpn": {"type": "array", "items": _TEXT},
        "state": _TEXT,
        "interval": {"type": "integer"},
        "grace": {"type": "integer"},
        "network_told": {"type": "boolean"},
        "limits": _keys(instances={"type": ["integer", "null"]}, instance_hours_per_day=_COUNT),
        "failed_joins": _keys(most=_COUNT, window={"type": "integer"}),
        "keep_failed": {"type": "object", "additionalProperties": {"enum": [0, 1]}},
        "prices": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
        "upkeep": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "node": _TEXT,
                "etcd": _TEXT,
                "kubernetes": _TEXT,
                "kubelet": _TEXT,
                "saved": {"type": "object", "additionalProperties": _TEXT},
                "snapshots_kept": {"type": "integer"},
                "snapshot_command": _WORDS,
                "warning_command": _WORDS,
                "warn_days": {"type": "integer"},
                "metrics_file": _TEXT,
            },
        },
    },
}
SCHEMA["properties"]["upkeep"]["required"] = list(SCHEMA["properties"]["upkeep"]["properties"])
SCHEMA["required"] = list(SCHEMA["properties"])


class SettingsError(Exception):
    """What is wrong with what keeper was given, and what to do."""


@dataclass(frozen=True)
class UpkeepSettings:
    """node: the control plane's. etcd: its URL. kubernetes: kubeadm's folder. kubelet: the kubelet's certificate.

    saved: what a snapshot has beside etcd's data, {name in the archive: file or folder}. Commands: programs with their arguments, or nothing.
    """

    node: str
    etcd: str
    kubernetes: str
    kubelet: str
    saved: Mapping[str, str]
    snapshots_kept: int
    snapshot_command: tuple[str, ...]
    warning_command: tuple[str, ...]
    warn_days: int
    metrics_file: str

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> UpkeepSettings:
        commands = {name: tuple(document[name]) for name in ("snapshot_command", "warning_command")}
        return cls(**{**document, **commands})


@dataclass(frozen=True)
class Settings:
    """account: empty for any. credentials: a file as AWS' own programs have it. endpoint, endpoint_address: as in a join bundle.

    vpn: the command that is the VPN's authority, here or over ssh. state: the folder of record and status. interval, grace: seconds.
    network_told: whether the pods' network sets its condition on nodes, as Calico does.
    limits: the cluster's ceilings, None for no ceiling. failed_joins: how many of a pool in how many seconds, or in a row, are too many; 0 or nothing for
    none.
    keep_failed: pool -> how many of its failed instances are kept for a look. prices: pool -> what an instance costs an hour.
    """

    cluster_name: str
    cluster_id: str
    region: str
    endpoint_url: str | None
    account: str
    ssm_prefix: str
    credentials: str
    endpoint: str
    endpoint_address: str | None
    kubeconfig: str
    ca: str
    vpn: tuple[str, ...]
    state: str
    interval: int
    grace: int
    network_told: bool
    limits: Mapping[str, float | None]
    failed_joins: Mapping[str, float | None]
    keep_failed: Mapping[str, int]
    prices: Mapping[str, float | None]
    upkeep: UpkeepSettings


@dataclass(frozen=True)
class Options:
    config: str
    once: bool
    dry_run: bool
    status: bool = False
    as_json: bool = False


def options(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Enrols the cluster's EC2 instances, lifts the startup taints of their nodes, and clears away what is left of those that have gone.",
        epilog=f"Exit status: 0 done; 1 something could not be asked or done (--once), or keeper does not run, has not looked for 3 minutes or has troubles "
        f"(status); 2 usage or configuration; 75 another {PROGRAM} is at work. Its log: journalctl -u {PROGRAM}.",
    )
    parser.add_argument("command", nargs="?", choices=["status"], help="say what the running keeper knows, for people; needs no root and asks nobody")
    parser.add_argument("--json", action="store_true", help="status, for programs")
    parser.add_argument("--config", default=CONFIG, metavar="FILE", help=f"default: {CONFIG}")
    parser.add_argument("--once", action="store_true", help="one pass, then end")
    parser.add_argument("--dry-run", action="store_true", help="one pass that changes nothing and prints what it would do")
    found = parser.parse_args(argv)
    status = found.command == "status"
    if found.json and not status:
        parser.error("--json goes with status only")
    if status and (found.once or found.dry_run):
        parser.error("status looks at what the running keeper has written; --once and --dry-run are passes of their own")
    return Options(found.config, found.once or found.dry_run, found.dry_run, status, found.json)


def read(path: str) -> Settings:
    remedy = "Role keeper writes it: run site.yml."
    try:
        with open(path, encoding="utf-8") as stream:
            document = json.load(stream)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}. {remedy}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is no JSON ({error}). {remedy}") from error
    wrong = list(violations(SCHEMA, document))
    if not wrong and document["interval"] < 1:
        wrong = [f"interval: found {document['interval']}, expected 1 second or more"]
    if not wrong:
        low = {name: limit for name, limit in document["limits"].items() if limit is not None and limit <= 0}
        wrong = [f"limits.{name}: found {limit}, expected more, or null for no ceiling" for name, limit in low.items()]
    if wrong:
        raise SettingsError(f"{path} is not as a keeper.json must be: {'; '.join(wrong)}. {remedy}")
    fields = {name: value for name, value in document.items() if name != "schema"}
    return Settings(**{**fields, "vpn": tuple(document["vpn"]), "account": document["account"] or "", "upkeep": UpkeepSettings.of(document["upkeep"])})
