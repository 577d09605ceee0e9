"""The lab's networks: one podman bridge each, without podman's resolver."""

from __future__ import annotations

import json
from typing import Any

from lab import podman
from lab.run import run, succeeds
from lab.settings import NETWORKS, LabError, Network


def ensure() -> None:
    for network in NETWORKS.values():
        if not succeeds("podman", "network", "exists", network.podman):
            run(
                "podman", "network", "create", "--driver", "bridge", "--disable-dns", "--subnet", str(network.subnet), "--gateway", str(network.gateway),
                *podman.label_arguments({}), network.podman,
            )  # fmt: skip
        elif (subnet := inspect(network)["subnets"][0]["subnet"]) != str(network.subnet):
            raise LabError(f"podman network {network.podman} has subnet {subnet}, the lab's is {network.subnet}: `lab/lab clean`, then again")


def inspect(network: Network) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("podman", "network", "inspect", network.podman))[0]
    return found


def interfaces() -> dict[str, str]:
    """The bridge of each network by the network's name. podman makes the interface when the first host starts."""
    return {network.name: inspect(network)["network_interface"] for network in NETWORKS.values()}


def remove() -> None:
    for name in podman.lab_networks():
        run("podman", "network", "rm", "--force", name)
