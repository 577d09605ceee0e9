# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps each mishap from doing harm, switched off: a scenario that passes all the same proves nothing.

`tests/run.py faults_unprotected` plays every scenario without its protection, and expects each to fail.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.run import wait_until
from lab.settings import LabError
from tests.lab.jobs import RESOURCE, all_gone, kubectl
from tests.lab.scenario import GONE_SECONDS, KEEPER_UNIT, VPN_SERVER, alive, clear_jobs, groups, nothing_left, on, paused, resume, set_desired
from tests.lab.site import ROOT

if TYPE_CHECKING:
    from lab.evaluate import Site

    Switch = Callable[[Site], AbstractContextManager[object]]
    Scenario = Callable[[Site], None]

#: Every scenario is played without what makes it pass, so that it must fail.
UNPROTECTED = os.environ.get("FPGA_HYBRID_UNPROTECTED") == "1"

LIBRARY = "/opt/fpga-hybrid/lib"
#: Run on an instance until what comes after it succeeds, too: the file may have been edited then.
EDIT = """
import sys
path, old, new = sys.argv[1:]
text = open(path).read()
assert text.count(old) == 1 or (new in text and old not in text)
open(path, "w").write(text.replace(old, new))
"""


@dataclass(frozen=True)
class Protection:
    """what: in words; seen: those of the failure that its lack brings about."""

    what: str
    switches: Sequence[Switch]
    seen: str


def protected_by(what: str, *switches: Switch, seen: str) -> Callable[[Scenario], Scenario]:
    """Of a scenario: what makes it pass. More than one: it needs each of them. Whatever fails, the next scenario finds nothing of it."""
    protection = Protection(what, switches, seen)

    def decorate(decorated: Scenario) -> Scenario:
        scenario: Scenario = getattr(decorated, "__wrapped__", decorated)
        protections = (protection, *getattr(decorated, "protections", ()))

        @functools.wraps(scenario)
        def play(site: Site) -> None:
            if UNPROTECTED:
                for one in protections:
                    _must_fail(scenario, site, one)
                return
            try:
                scenario(site)
            except (Exception, pytest.fail.Exception):
                put_right(site)
                raise

        play.protections = protections  # type: ignore[attr-defined]
        return play

    return decorate


def _must_fail(scenario: Scenario, site: Site, protection: Protection) -> None:
    failure: Exception | None = None
    off = ExitStack()
    try:
        for switch in protection.switches:
            off.enter_context(switch(site))
        scenario(site)
    except (AssertionError, LabError, pytest.fail.Exception) as error:
        failure = error
    finally:
        try:
            off.close()
            put_right(site)
        except Exception as error:
            # Everything that comes would fail, and seem to do so for its own reason.
            pytest.exit(f"{scenario.__name__}: {protection.what}: could not be switched on again: {error}")
    if failure is None:
        pytest.fail(f"it passed without its protection: {protection.what}")
    said = str(failure)
    assert protection.seen in said, f"without its protection ({protection.what}) it failed, but not as it should: {protection.seen!r} is not in {said!r}"
    print(f"{scenario.__name__} without its protection ({protection.what}): {said.splitlines()[0][:200]}")


def replaced(text: str, old: str, new: str, where: object) -> str:
    if text.count(old) != 1:
        raise LabError(f"{where}: found {text.count(old)} times what is to be switched off; expected once: {old}")
    return text.replace(old, new)


@dataclass(frozen=True)
class Edit:
    """source: where it stands in this checkout, which is what a playbook runs."""

    source: str
    old: str
    new: str

    @contextmanager
    def __call__(self, site: Site) -> Iterator[None]:
        kept = self.read(site)
        self.write(site, replaced(kept, self.old, self.new, self.source))
        try:
            yield
        finally:
            self.write(site, kept)

    def read(self, _site: Site) -> str:
        return (ROOT / self.source).read_text(encoding="utf-8")

    def write(self, _site: Site, text: str) -> None:
        (ROOT / self.source).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class ControlPlaneEdit(Edit):
    """path: of the installed file; then: the command after which it counts."""

    path: str
    then: tuple[str, ...] = ()

    def read(self, site: Site) -> str:
        return site.control_plane("cat", self.path)

    def write(self, site: Site, text: str) -> None:
        site.control_plane("sh", "-ec", f"cat > {self.path}.new; chmod --reference={self.path} {self.path}.new; mv {self.path}.new {self.path}", stdin=text)
        if self.then:
            site.control_plane(*self.then)


@dataclass(frozen=True)
class InstanceEdit(Edit):
    """On each instance as it starts. unit: what is started anew."""

    unit: str

    @contextmanager
    def __call__(self, site: Site) -> Iterator[None]:
        path = f"{LIBRARY}/fpga_hybrid/{Path(self.source).name}"
        command = shlex.join(("python3", "-c", EDIT, path, self.old, self.new))
        with on_each_instance(site, f"{command} && systemctl restart --no-block {self.unit}"):
            yield


def of_keeper(module: str, old: str, new: str) -> Edit:
    """It starts itself anew when one of its files is another."""
    return ControlPlaneEdit(f"roles/keeper/files/fpga_hybrid_keeper/{module}.py", old, new, f"{LIBRARY}/fpga_hybrid_keeper/{module}.py")


def of_bootstrap(module: str, old: str, new: str) -> Edit:
    return InstanceEdit(f"roles/bootstrap/files/fpga_hybrid/{module}.py", old, new, "fpga-hybrid-bootstrap")


def of_watch(old: str, new: str) -> Edit:
    return InstanceEdit("roles/bootstrap/files/fpga_hybrid/watch.py", old, new, "fpga-hybrid-watch")


def by_commands(off: tuple[str, ...], again: tuple[str, ...]) -> Switch:
    """Commands of the control plane's host."""

    @contextmanager
    def switch(site: Site) -> Iterator[None]:
        site.control_plane(*off)
        try:
            yield
        finally:
            site.control_plane(*again)

    return switch


@contextmanager
def on_each_instance(site: Site, script: str) -> Iterator[None]:
    """A shell command, as soon as an instance runs: it waits for keeper then, and not long. Again, until it has succeeded."""
    ended = threading.Event()

    def watch() -> None:
        done: set[str] = set()
        while not ended.wait(0.1):
            for instance in set(site.cars.hosts()) - done:
                with suppress(LabError, KeyError):
                    on(site, instance, script)
                    done.add(instance)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def without_pods_policy(site: Site) -> Iterator[None]:
    """What says by itself what a pod with FPGAs needs: how long it bears an outage, that nobody moves it, that it may go to AWS."""
    policy = "mutatingadmissionpolicybinding/fpga-hybrid-pods"
    kept: dict[str, Any] = json.loads(kubectl(site, "get", policy, "-o", "json"))
    kept["metadata"] = {key: kept["metadata"].get(key) for key in ("name", "labels", "annotations")}
    pod = json.dumps({"spec": {"containers": [{"name": "x", "image": "x", "resources": {"limits": {RESOURCE: "1"}}}]}})
    try:
        kubectl(site, "delete", policy)
        wait_until(
            lambda: "safe-to-evict" not in kubectl(site, "run", "--dry-run=server", "--image=x", "x", "-o", "yaml", f"--overrides={pod}"),
            seconds=20,
            what="the policy's end",
            every=1,
        )
        yield
    finally:
        kubectl(site, "create", "-f", "-", stdin=json.dumps(kept))


@contextmanager
def suspended(site: Site, pool: str) -> Iterator[None]:
    """Launches of a pool, by hand."""
    asg, group = site.cloud.own_client("autoscaling"), f"lab-{pool}"
    asg.suspend_processes(AutoScalingGroupName=group, ScalingProcesses=["Launch"])
    try:
        yield
    finally:
        asg.resume_processes(AutoScalingGroupName=group, ScalingProcesses=["Launch"])


def put_right(site: Site) -> None:
    """After a scenario that failed: nothing of it is left for the next one."""
    site.cloud.lift()
    site.control_plane("systemctl", "start", KEEPER_UNIT, VPN_SERVER)
    clear_jobs(site)
    asg = site.cloud.own_client("autoscaling")
    for pool in groups(site):
        set_desired(site, pool, 0)
        asg.resume_processes(AutoScalingGroupName=f"lab-{pool}", ScalingProcesses=["Launch"])
    if instances := alive(site):
        site.cloud.own_client("ec2").terminate_instances(InstanceIds=instances)
    site.ansible("ansible-playbook", "playbooks/pools.yml", credentials=site.users["pools"])
    all_gone(site)
    nothing_left(site, seconds=2 * GONE_SECONDS)  # what a broken keeper left is for the mended one
    for pool in paused(site):  # which brakes for what it found, after launches were resumed above
        resume(site, pool)
