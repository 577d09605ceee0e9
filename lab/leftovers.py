"""What an evaluation that was killed has left in the lab's cluster: taken away by the next one, and by `lab up`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence

from lab import podman
from lab.ansible import ansible
from lab.hosts import container
from lab.run import run, say, succeeds
from lab.settings import PREFIX, LabError, cache

CONTROL_PLANE = "cp1"
KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
#: The namespace in which role evaluation has its jobs.
JOBS = "fpga-hybrid-evaluation"
POOL_LABEL = "fpga.hybrid/pool"
#: Files with keys of AWS, by whose they are: the first thing that an evaluation puts into the cluster, and the last that it takes away.
KEYS = {identity: f"/etc/fpga-hybrid/{identity}.aws" for identity in ("autoscaler", "keeper")}
FOLDERS = "evaluate-*"


def control_plane(*command: str, stdin: str | None = None) -> str:
    return run("podman", "exec", "--interactive", container.by_name(CONTROL_PLANE).container, *command, stdin=stdin)


def reset_role(role: str) -> None:
    """As the gate tells users who have no pools any more."""
    ansible("ansible", "control_plane", "-m", "include_role", "-a", f"name=fpga.hybrid.{role} tasks_from=reset")


def nodes() -> list[str]:
    """Of the pools, as kubectl names them."""
    return control_plane(*KUBECTL, "get", "nodes", "-l", POOL_LABEL, "-o", "name").split()


def remove_nodes() -> None:
    """Nodes of instances that are no more, and their way into the VPN: what keeper does, where it had no time to."""
    if names := nodes():
        control_plane(*KUBECTL, "delete", *names)
    clients = json.loads(control_plane("/opt/fpga-hybrid/bin/fpga-hybrid-vpn", "list"))["clients"]
    for client in clients:
        if client["name"].startswith("i-") and not client["revoked"]:
            control_plane("/opt/fpga-hybrid/bin/fpga-hybrid-vpn", "revoke", client["name"])


def in_turn(steps: Sequence[tuple[str, Callable[[], object]]]) -> None:
    """All of them, also after one that fails; the keys only if none has, because by them the next run knows that there is something to take away.

    Raises LabError with what could not be done.
    """
    failed = []
    for what, step in steps:
        try:
            step()
        except Exception as error:
            failed.append(f"{what}: {error}")
    if failed:
        raise LabError("not all of the evaluation could be taken away. " + "; ".join(failed))
    control_plane("rm", "-f", *KEYS.values())


#: Jobs before the autoscaler, lest one that waits starts an instance.
JOBS_GO = ("the jobs", lambda: control_plane(*KUBECTL, "delete", "namespace", JOBS, "--ignore-not-found"))
AUTOSCALER_GOES = ("the autoscaler", lambda: reset_role("autoscaler"))
KEEPER_GOES = ("keeper", lambda: reset_role("keeper"))
NODES_GO = ("nodes of instances", remove_nodes)


def has_file(*paths: str) -> bool:
    """Whether the control plane runs and has one of them."""
    name = f"{PREFIX}{CONTROL_PLANE}"
    return podman.container_exists(name) and succeeds("podman", "exec", name, "sh", "-c", " || ".join(f"test -e {path}" for path in paths))


def clear() -> None:
    """Nobody's evaluation may be at work."""
    for folder in cache().glob(FOLDERS):
        shutil.rmtree(folder, ignore_errors=True)
    if has_file(*KEYS.values()):
        say("taking away what an evaluation that was killed has left in the cluster")
        in_turn((JOBS_GO, AUTOSCALER_GOES, KEEPER_GOES, NODES_GO))
