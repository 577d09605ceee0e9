# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mishap on the lab, watched every second, and what must be true after each of them: no instance too many, no job lost or doubled, nothing left behind."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from fpga_hybrid_keeper.cluster import secret_name
from lab.run import CommandError, run, wait_until
from lab.settings import LabError
from tests.lab.jobs import NAMESPACE, all_gone, instances, job_of, kubectl, occupy, run_somewhere, where

if TYPE_CHECKING:
    from lab.evaluate import Site

LIVE = ("pending", "running")
STATUS, RECORD = "/var/lib/fpga-hybrid/keeper/status.json", "/var/lib/fpga-hybrid/keeper/record.json"
PARAMETERS = "/fpga-hybrid/lab"
#: Holds the on-prem board for as long as scenarios are played, so that every other job needs an instance.
OCCUPANT = "on-prem"
#: Units of the control plane's host.
KEEPER_UNIT, VPN_SERVER = "fpga-hybrid-keeper.service", "openvpn-server@fpga-hybrid.service"
#: So that a scenario needs minutes where a site's cluster takes its time; the order of all times is that of the defaults.
QUICK = {
    "bootstrap_timeout": 140,
    "autoscaler_max_node_provision_time": "150s",
    "autoscaler_extra_args": {"initial-node-group-backoff-duration": "20s", "max-node-group-backoff-duration": "40s"},
}
#: Seconds from an instance's end to the last trace of it gone: Node object, certificate, token, parameters.
GONE_SECONDS = 120


@contextmanager
def occupied_site() -> Iterator[Site]:
    """The lab with its AWS and node pools, whose only board on-prem is taken."""
    from lab import evaluate

    with evaluate.site() as found:
        try:
            found.prepare(**QUICK)
            kubectl(found, "delete", "jobs", "--all", "-n", NAMESPACE)  # of a run that was killed
            wait_until(lambda: not kubectl(found, "get", "pods", "-n", NAMESPACE, "-o", "name"), seconds=120, what="their pods gone", every=1)
            occupy(found, OCCUPANT)
            assert run_somewhere(found, OCCUPANT)[OCCUPANT] not in instances(), "the board on-prem is not free"
            all_gone(found)  # what pods of a killed run have had started
            yield found
        finally:
            found.take_away()


class Watch:
    """What there was: instances sampled every second, and every pod of a job that was ever bound to a node."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.most = 0
        self.samples = 0
        self.last_alive = 0.0
        self.pods: dict[str, set[str]] = {}
        self.failure: Exception | None = None
        self._ec2 = site.cloud.own_client("ec2")
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=(look,), daemon=True) for look in (self._count_instances, self._count_pods)]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, look: Callable[[], None]) -> None:
        try:
            while not self._ended.wait(1):
                look()
        except Exception as error:  # of a thread: the scenario's end tells it
            self.failure = error

    def _count_instances(self) -> None:
        if count := len(alive(self.site, self._ec2)):
            self.last_alive = time.monotonic()
        self.most = max(self.most, count)
        self.samples += 1

    def _count_pods(self) -> None:
        with suppress(CommandError):  # the control plane may be what the scenario takes away
            for pod in json.loads(kubectl(self.site, "--request-timeout=5s", "get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]:
                if pod["spec"].get("nodeName"):
                    self.pods.setdefault(job_of(pod), set()).add(pod["metadata"]["uid"])


def alive(site: Site, ec2: Any = None) -> list[str]:
    found = (ec2 or site.cloud.own_client("ec2")).describe_instances(Filters=[{"Name": "instance-state-name", "Values": list(LIVE)}])
    return [one["InstanceId"] for reservation in found["Reservations"] for one in reservation["Instances"]]


@contextmanager
def scenario(site: Site, *, launches: int, most: int = 1, again: tuple[str, ...] = ()) -> Iterator[Watch]:
    """launches: instances that AWS may start at all; most: that may live at the same time; again: jobs that lose a pod with its host."""
    forget_failures(site)
    before, started = len(site.launched()), time.monotonic()
    with Watch(site) as watch:
        try:
            yield watch
        finally:
            ended = time.monotonic()
            clear_jobs(site)
        all_gone(site)
        nothing_left(site)
        cleared = time.monotonic() - max(watch.last_alive, ended)
    if watch.failure:
        raise watch.failure
    launched = [one["InstanceId"] for one in site.launched()[before:]]
    print(
        f"{ended - started:.0f} s; of the last instance nothing was left after {cleared:.0f} s; instances launched: {len(launched)}, "
        f"at the same time: {watch.most} in {watch.samples} samples"
    )
    assert cleared <= GONE_SECONDS, f"found the last trace of an instance {cleared:.0f} s after its end; expected at most {GONE_SECONDS}"
    assert watch.samples > 5
    assert watch.most <= most, f"found {watch.most} instances at the same time; expected at most {most}"
    assert len(launched) <= launches, f"found {len(launched)} launches; expected at most {launches}: {', '.join(launched)}"
    doubled = {job: uids for job, uids in watch.pods.items() if len(uids) > 1 + again.count(job)}
    assert not doubled, f"jobs that were started more often than their hosts failed: {doubled}"
    assert where(site, OCCUPANT), "the job on-prem was lost"
    healthy(site)


def nothing_left(site: Site, seconds: float = GONE_SECONDS) -> None:
    try:
        wait_until(lambda: not traces(site), seconds=seconds, what="every trace of the instances gone", every=2)
    except LabError as error:
        raise LabError(f"{error}: {', '.join(traces(site))}") from None


def forget_failures(site: Site) -> None:
    """Failed joins of former scenarios would count in this one."""
    with without_unit(site, KEEPER_UNIT):
        record = json.loads(site.control_plane("cat", RECORD))
        site.put(RECORD, json.dumps({**record, "failed": {}}))


def clear_jobs(site: Site) -> None:
    names = kubectl(site, "get", "jobs", "-n", NAMESPACE, "-o", "name").split()
    if others := [name for name in names if name != f"job.batch/{OCCUPANT}"]:
        kubectl(site, "delete", "-n", NAMESPACE, *others)


def traces(site: Site) -> list[str]:
    """Of instances: what is still there of them in AWS and in the VPN."""
    found = [f"instance {name}" for name in alive(site)]
    ssm = site.cloud.own_client("ssm")
    for folder in ("nodes", "failures"):
        pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=f"{PARAMETERS}/{folder}", Recursive=True)
        found += [f"parameter {parameter['Name']}" for page in pages for parameter in page["Parameters"]]
    clients = json.loads(site.control_plane("/opt/fpga-hybrid/bin/fpga-hybrid-vpn", "list"))["clients"]
    found += [f"certificate of {client['name']}" for client in clients if client["name"].startswith("i-") and not client["revoked"]]
    # Not the tokens of on-prem hosts, which site.yml lets lapse.
    ours = {f"secret/{secret_name(one['InstanceId'])}" for one in site.launched()}
    found += ours & set(kubectl(site, "get", "secrets", "-n", "kube-system", "-o", "name").split())
    return found + [f"node {name}" for name in instances()]


def keeper_status(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(site.control_plane("cat", STATUS))
    return found


def paused(site: Site) -> dict[str, str]:
    """Pools that are paused until a person resumes them, or somebody else's hand does, and the kind of brake."""
    return {name: pool["paused"]["kind"] for name, pool in keeper_status(site)["pools"].items() if pool["paused"] and pool["paused"]["firm"]}


def resume(site: Site, pool: str) -> None:
    site.ansible("ansible-playbook", "playbooks/pools.yml", credentials=site.users["pools"], resume=pool)
    wait_until(lambda: pool not in paused(site), seconds=60, what=f"pool {pool} resumed", every=1)


def groups(site: Site) -> dict[str, dict[str, Any]]:
    found = site.cloud.own_client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    return {group["AutoScalingGroupName"].removeprefix("lab-"): group for group in found}


def set_desired(site: Site, pool: str, count: int) -> None:
    """By hand: how many instances a pool's group wants."""
    site.cloud.own_client("autoscaling").set_desired_capacity(AutoScalingGroupName=f"lab-{pool}", DesiredCapacity=count)


def answers(site: Site) -> str:
    try:
        return kubectl(site, "get", "--raw", "/readyz")
    except CommandError:
        return ""


def healthy(site: Site) -> None:
    """All nodes Ready, keeper content, no group that wants what it doesn't have."""

    def complaints() -> list[str]:
        nodes = json.loads(kubectl(site, "get", "nodes", "-o", "json"))["items"]
        conditions = {node["metadata"]["name"]: {one["type"]: one["status"] for one in node["status"]["conditions"]} for node in nodes}
        found = [f"node {name} is not Ready" for name, condition in conditions.items() if condition["Ready"] != "True"]
        found += [f"keeper: {trouble}" for trouble in keeper_status(site)["troubles"].values()]
        return found + [f"group {name} wants {group['DesiredCapacity']} instances" for name, group in groups(site).items() if group["DesiredCapacity"]]

    wait_until(lambda: not complaints(), seconds=120, what="everything healthy again", every=2)


def on(site: Site, instance: str, script: str) -> str:
    """A shell command on an instance's host."""
    return run("podman", "exec", site.cars.hosts()[instance].container, "sh", "-c", script, timeout=120)


def reboot(site: Site, instance: str) -> None:
    """At once, as after a power cut; the host's disks stay. Until it runs again."""

    def boots() -> int:
        return sum(event.instance == instance and "boots with" in event.text for event in list(site.cars.events))

    before = boots()
    with suppress(CommandError):  # the command dies with its host
        on(site, instance, "systemctl reboot --force --force")
    wait_until(lambda: boots() > before and instance in site.cars.hosts(), seconds=60, what=f"{instance} running again", every=0.2)


def first_instance(site: Site, seconds: float = 90) -> str:
    """The one that a job has had started."""
    wait_until(lambda: bool(site.cars.hosts()), seconds=seconds, what="an instance", every=0.2)
    return next(iter(site.cars.hosts()))


def phase_of(site: Site, instance: str) -> str:
    return str(keeper_status(site)["instances"].get(instance, {}).get("phase", ""))


def bring_keeper(site: Site, verb: str) -> None:
    site.control_plane("systemctl", verb, KEEPER_UNIT)


@contextmanager
def without_unit(site: Site, unit: str) -> Iterator[None]:
    """A unit of the control plane's host, stopped for a while."""
    site.control_plane("systemctl", "stop", unit)
    try:
        yield
    finally:
        site.control_plane("systemctl", "start", unit)
