"""The few things that the lab asks podman for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lab.run import CommandError, run, succeeds
from lab.settings import LABEL

#: crun refuses the hybrid cgroup layout that some machines still have; runc takes all of them.
RUNTIME = ("--runtime", "/usr/sbin/runc")


def image_exists(reference: str) -> bool:
    return succeeds("podman", "image", "exists", reference)


def container_exists(name: str) -> bool:
    return succeeds("podman", "container", "exists", name)


def inspect_containers(*names: str) -> list[dict[str, Any]]:
    return json.loads(run("podman", "container", "inspect", *names)) if names else []


def inspect_present(*names: str) -> list[dict[str, Any]]:
    """Of these, those that are there: others start and end containers meanwhile."""
    try:
        return inspect_containers(*names)
    except CommandError:
        return [found for name in names for found in _inspect_if_there(name)]


def _inspect_if_there(name: str) -> list[dict[str, Any]]:
    try:
        return inspect_containers(name)
    except CommandError:
        if container_exists(name):
            raise
        return []


def lab_containers() -> list[dict[str, Any]]:
    """Every container of the lab, running or not, as `podman ps` tells it."""
    return json.loads(run("podman", "ps", "--all", "--filter", f"label={LABEL}", "--format", "json") or "null") or []


def lab_volumes(label: str = LABEL) -> list[str]:
    return run("podman", "volume", "ls", "--quiet", "--filter", f"label={label}").split()


def lab_networks() -> list[str]:
    return run("podman", "network", "ls", "--quiet", "--filter", f"label={LABEL}").split()


def lab_images() -> list[str]:
    return run("podman", "images", "--quiet", "--no-trunc", "--filter", f"label={LABEL}").split()


def label_arguments(labels: Mapping[str, str]) -> list[str]:
    return [word for key, value in {LABEL: "1", **labels}.items() for word in ("--label", f"{key}={value}")]
