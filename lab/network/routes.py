"""Unreachable routes: what belongs inside the lab never leaves by the machine's default route, not even while the lab's bridges are down."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Any

from lab.run import run
from lab.settings import INNER_NETWORKS, NETWORKS

#: The worst there is: a real route to the same network (a bridge that is up) always wins.
METRIC = 4278198272

DESTINATIONS = (*INNER_NETWORKS.values(), *(network.subnet for network in NETWORKS.values()))


def table() -> list[dict[str, Any]]:
    routes: list[dict[str, Any]] = json.loads(run("ip", "-json", "-4", "-details", "route", "show", "table", "main") or "[]")
    return routes


def is_ours(route: dict[str, Any]) -> bool:
    return route.get("type") == "unreachable" and route.get("metric") == METRIC and route["dst"] != "default" and IPv4Network(route["dst"]) in DESTINATIONS


def ensure() -> None:
    present = {IPv4Network(route["dst"]) for route in table() if is_ours(route)}
    for network in DESTINATIONS:
        if network not in present:
            run("ip", "route", "add", "unreachable", str(network), "metric", str(METRIC))


def remove() -> None:
    for route in table():
        if is_ours(route):
            run("ip", "route", "del", "unreachable", route["dst"], "metric", str(METRIC))
