# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs on the lab's cluster that want FPGAs, and what they bring about in its AWS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ansible_collections.fpga.hybrid.plugins.module_utils._verify_cluster import PAUSE
from lab import leftovers
from lab.run import wait_until

if TYPE_CHECKING:
    from lab.evaluate import Site

RESOURCE = "inaccel.com/xgboost.exact"
NAMESPACE = "default"
#: Of the taint of the pools' nodes.
TOLERATION = {"key": "fpga.hybrid/fpga", "operator": "Exists", "effect": "NoSchedule"}


def kubectl(site: Site, *arguments: str, stdin: str | None = None) -> str:
    return site.control_plane(*leftovers.KUBECTL, *arguments, stdin=stdin)


def submit(site: Site, name: str, seconds: int, limits: dict[str, str] | None = None, *, retries: int = 0, **spec: Any) -> None:
    """A job that works for so long on the tutorial's accelerator, or whatever limits say. retries: pods that it may have after the first one."""
    from lab.evaluate import JOB_IMAGE

    create(site, name, {"image": JOB_IMAGE, "args": [f"--seconds={seconds}"]}, {RESOURCE: "4"} if limits is None else limits, retries, spec)


def occupy(site: Site, name: str) -> None:
    """A job that has boards, does nothing and never ends."""
    create(site, name, {"image": PAUSE}, {RESOURCE: "4"}, 0, {})


def create(site: Site, name: str, what: dict[str, Any], limits: dict[str, str], retries: int, spec: dict[str, Any]) -> None:
    resources = {"requests": {"cpu": "50m", "memory": "64Mi", **{key: value for key, value in limits.items() if "/" not in key}}}
    resources["limits"] = {key: value for key, value in limits.items() if "/" in key}
    container = {"name": "main", "resources": resources, **what}
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container], **spec}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"backoffLimit": retries, "template": {"spec": pod}}}
    kubectl(site, "create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(job))


def pods(site: Site, *names: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        kubectl(site, "get", "pods", "-n", NAMESPACE, "-l", f"batch.kubernetes.io/job-name in ({','.join(names)})", "-o", "json")
    )["items"]
    return found


def job_of(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"]["batch.kubernetes.io/job-name"])


def where(site: Site, *names: str) -> dict[str, str]:
    """Node of each job that runs."""
    return {job_of(pod): pod["spec"]["nodeName"] for pod in pods(site, *names) if pod["status"]["phase"] == "Running"}


def run_somewhere(site: Site, *names: str, seconds: float = 180) -> dict[str, str]:
    found: dict[str, str] = {}

    def all_run() -> bool:
        nonlocal found
        found = where(site, *names)
        return len(found) == len(names)

    wait_until(all_run, seconds=seconds, what=f"{', '.join(names)} running", every=1)
    return found


def succeed(site: Site, *names: str, seconds: float = 180) -> None:
    def all_done() -> bool:
        jobs = json.loads(kubectl(site, "get", "jobs", "-n", NAMESPACE, *names, "-o", "json"))
        return all(job["status"].get("succeeded") == 1 for job in jobs.get("items", [jobs]))

    wait_until(all_done, seconds=seconds, what=f"{', '.join(names)} done", every=1)


def instances() -> list[str]:
    """Nodes of the pools."""
    return [name.removeprefix("node/") for name in leftovers.nodes()]


def all_gone(site: Site) -> None:
    wait_until(lambda: not instances() and not site.cars.hosts(), seconds=420, what="every instance and its node gone", every=2)
