# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""status.json as keeper writes it, of one that has everything to tell."""

from __future__ import annotations

from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._keeper_status import moment

Object = dict[str, Any]
NOW = moment("2026-11-26T12:00:00Z")


def old() -> Object:
    """Of a keeper that does not know of brakes and upkeep."""
    return {
        "schema": 1,
        "cluster_id": "5c9e8f6a-0000-4000-8000-000000000001",
        "account": "123456789012",
        "region": "us-east-1",
        "healthy": True,
        "troubles": {},
        "instances": {
            "i-0aaaaaaaaaaaaaaaa": {"phase": "joined", "pool": "f2", "vpn_address": "172.27.232.1", "complete": True, "since": "2026-11-26T09:30:00Z"},
            "i-0bbbbbbbbbbbbbbbb": {"phase": "gone", "pool": "f2", "vpn_address": "172.27.232.2", "complete": False, "since": "2026-11-25T09:30:00Z"},
        },
        "looked": "2026-11-26T11:59:57Z",
    }


def pool(**changes: Any) -> Object:
    return {"group": "lab-f2", "running": 1, "price_per_hour": 1.98, "paused": None, "failed_joins": [], "kept": [], **changes}


def paused(kind: str, why: str = "Three instances did not join within an hour.", **changes: Any) -> Object:
    return pool(paused={"kind": kind, "why": why, "since": "2026-11-26T11:30:00Z", **changes})


def failed_join(instance: str = "i-0cccccccccccccccc", at: str = "2026-11-26T11:20:00Z", sentence: str = "Nothing answers at 203.0.113.9:1194.") -> Object:
    return {"instance": instance, "at": at, "kind": "vpn", "status": 40, "sentence": sentence}


def well() -> Object:
    return {
        **old(),
        "pools": {"f2": pool()},
        "today": {"date": "2026-11-26", "instances": 3, "hours": 4.2, "cost": 8.316},
        "limits": {"instances": 4, "instance_hours_per_day": 24},
        "upkeep": {
            "snapshot": {"last": "2026-11-26T03:00:00Z", "path": "/var/lib/fpga-hybrid/keeper/snapshots/2026-11-26T03-00-00Z.tar", "trouble": ""},
            "revocation_list": {"next_update": "2027-05-25T03:00:00Z", "trouble": ""},
            "certificates": {"first_end": "2027-11-20T08:00:00Z", "what": "Certificate /etc/kubernetes/pki/apiserver.crt", "trouble": ""},
            "telling": {"trouble": ""},
        },
        "warnings": [],
    }


def ill() -> Object:
    found = well()
    found["healthy"] = False
    found["troubles"] = {"aws": "autoscaling:DescribeAutoScalingGroups: denied.", "i-0dddddddddddddddd: enrolment": "The VPN's authority does not answer."}
    found["instances"] |= {
        "i-0cccccccccccccccc": {"phase": "enrolled", "pool": "f1", "vpn_address": "172.27.232.3", "complete": False, "since": "2026-11-26T11:15:00Z"},
        "i-0dddddddddddddddd": {
            "phase": "refused",
            "complete": False,
            "reason": "i-0dddddddddddddddd was started by no group.",
            "since": "2026-11-26T11:59:00Z",
        },
    }
    silent = {"instance": "i-0fffffffffffffffa", "at": "2026-11-26T11:10:00Z", "kind": "never-joined", "status": None, "sentence": "It left no word of why."}
    found["pools"] = {
        "f1": {
            **paused("failed_joins"),
            "group": "lab-f1",
            "price_per_hour": None,
            "failed_joins": [failed_join("i-0eeeeeeeeeeeeeeee", "2026-11-26T11:00:00Z"), silent, failed_join()],
            "kept": [{"instance": "i-0cccccccccccccccc", "until": "2026-11-26T13:20:00Z"}],
        },
        "f2": paused("hand", "Somebody has suspended Launch of lab-f2.", since=None),
        "f3": {**paused("instance_hours", "24.1 of 24 instance-hours of 2026-11-26 are used."), "group": "lab-f3", "running": 0},
        "f4": {**paused("instances", "4 of 4 instances run."), "group": "lab-f4"},
    }
    found["today"]["cost"] = None
    found["limits"] = {"instances": None, "instance_hours_per_day": 12.5}
    found["upkeep"]["snapshot"] = {"last": None, "path": "", "trouble": "etcd does not answer."}
    found["upkeep"]["revocation_list"] = {"next_update": None, "trouble": "The VPN's authority does not answer."}
    found["upkeep"]["certificates"] = {"first_end": None, "what": "", "trouble": ""}
    found["warnings"] = ["The VPN's CA ends in 12 days, on 2026-12-08."]
    return found
