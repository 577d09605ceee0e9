"""`make evaluate`: the tutorial's story on the running lab, whose AWS stands for as long as it is told.

An account is made with what a site's own would have, the cluster gets keeper, autoscaler and node pools by the collection's playbooks, the story is told by
playbook evaluate.yml, and all of it is taken away again.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from lab import leftovers, lifecycle
from lab.ansible import ansible
from lab.cloud import image
from lab.cloud.account import Account, key_file
from lab.cloud.server import Cloud
from lab.cloud.sidecar import SideCar
from lab.depot import archives
from lab.depot.base import Cache
from lab.run import say, wait_until
from lab.settings import CLOUD_PORT, FAMILIES, ONPREM, LabError, cache

#: The machine itself, as all networks of the lab see it; inventories/lab_cloud says the same.
ADDRESS: IPv4Address = ONPREM.gateway
JOB_IMAGE = "lab.fpga-hybrid.test/xgboost-fit:1"
#: The first job works until the instance has surely come, the second, which begins later, as long.
SECONDS = (75, 75)
#: Seconds to wait for an instance to come, or to go.
PATIENCE = 180
#: As inventories/lab_cloud has it; and what instances may take beyond.
UNNEEDED_SECONDS, GONE_SECONDS = 20, 30
#: From a job that finds no place to that job running.
RUNNING_SECONDS = 45
CONSOLE_LINES = 15
#: Made by the first site.yml; policies are for its id.
RECORD = "/etc/fpga-hybrid/cluster.json"
UPSTREAM_AUTOSCALER = "registry.k8s.io/autoscaling/cluster-autoscaler"


@dataclass(frozen=True)
class Figures:
    """Seconds from the second job to its first, from its end to the instance's termination, and to the last trace of it gone."""

    instance: str
    running: float
    terminated: float
    gone: float

    def __str__(self) -> str:
        return (
            f"from a job that finds no place to that job running: {self.running:.0f} s ({goal(self.running, RUNNING_SECONDS)})\n"
            f"from idle to the instance's termination: {self.terminated:.0f} s ({goal(self.terminated, UNNEEDED_SECONDS + GONE_SECONDS)})\n"
            f"from idle to Node object and certificate gone, too: {self.gone:.0f} s (of which the control plane takes 50 to believe that a node is lost)"
        )


def goal(seconds: float, most: int) -> str:
    """Told, and no failure: machines are noisy."""
    return f"goal: at most {most}{', MISSED' if seconds > most else ''}"


@dataclass
class Site:
    """The lab's cluster with its AWS."""

    cloud: Cloud
    cars: SideCar
    family: str
    folder: Path
    account: Account
    users: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    def ansible(self, *command: str, credentials: Mapping[str, str] | None = None, shown: bool = False, **variables: Any) -> str:
        """What lab.ansible has, with what only this run knows; and says how long it took."""
        file = self.folder / "variables.json"
        file.write_text(json.dumps({**self.account.variables(), **autoscaler(), "family": self.family, **variables}))
        environment = {**self.cloud.environment(credentials), "no_proxy": str(ADDRESS)}
        started = time.monotonic()
        output = ansible(*command, "-e", f"@{file}", environment=environment, shown=shown)
        say(f"{' '.join(command[:2])}: {time.monotonic() - started:.0f} s")
        return output

    def prepare(self, **variables: Any) -> None:
        """Everything that stands before a job waits: policies, users with their keys, node pools, keeper, autoscaler."""
        if not leftovers.has_file(RECORD):
            self.ansible("ansible-playbook", "site.yml", cluster_node_pools=[])
        cluster = json.loads(self.control_plane("cat", RECORD))["cluster_id"]
        policies = self.folder / "iam"
        self.ansible("ansible-playbook", "playbooks/iam.yml", dest=str(policies), cluster_id=cluster, aws_iam="create")
        self.users = {identity: self.account.user(identity, policies) for identity in ("pools", *leftovers.KEYS)}
        for identity, path in leftovers.KEYS.items():
            self.put(path, key_file(self.users[identity]))
        self.ansible("ansible-playbook", "playbooks/pools.yml", credentials=self.users["pools"], **variables)
        self.ansible("ansible-playbook", "site.yml", **variables)

    def tell(self, *, shown: bool = True) -> tuple[Figures, str]:
        """The story's figures, and what the run printed if it is not shown."""
        report = self.folder / "story.json"
        options: dict[str, Any] = {"evaluation_image": JOB_IMAGE, "evaluation_arguments": ["--seconds=$(EVALUATION_SECONDS)"]}
        times: dict[str, Any] = {"evaluation_seconds": SECONDS, "evaluation_patience": PATIENCE}
        output = self.ansible("ansible-playbook", "playbooks/evaluate.yml", shown=shown, evaluation_report=str(report), **options, **times)
        story = json.loads(report.read_text())
        waited = story["pods"]["job-2"]["started"] - story["times"]["job-2 made"]
        idle, ended = story["pods"]["job-2"]["finished"], self.ended(story["node"])
        return Figures(story["node"], waited, ended - idle, story["times"]["gone"] - idle), output

    def take_away(self) -> None:
        """Jobs and autoscaler first, lest they start others; then the instances; keeper when it has cleared away what is left of them."""
        leftovers.in_turn(
            (
                leftovers.JOBS_GO,
                leftovers.AUTOSCALER_GOES,
                ("pools", lambda: self.ansible("ansible-playbook", "playbooks/pools.yml", credentials=self.users.get("pools"), state="absent", force=True)),
                ("keeper's work", self._let_keeper_end),
                leftovers.KEEPER_GOES,
                leftovers.NODES_GO,
            )
        )

    def _let_keeper_end(self) -> None:
        """Of instances that were there when they had to go."""
        if self.launched():
            wait_until(lambda: not leftovers.nodes(), seconds=PATIENCE, what="the instances' nodes gone", every=2)

    # --- what is known of it

    def launched(self) -> list[dict[str, Any]]:
        """Every instance there ever was, the ended ones, too."""
        pages = self.cloud.client("ec2").get_paginator("describe_instances").paginate()
        return [one for page in pages for reservation in page["Reservations"] for one in reservation["Instances"]]

    def ended(self, instance: str) -> float:
        """When somebody had AWS terminate it, in seconds since the epoch."""
        (found,) = [one for one in self.launched() if one["InstanceId"] == instance]
        said = re.search(r"\((.*) (?:GMT|UTC)\)", found["StateTransitionReason"])
        if not said:
            raise LabError(f"{instance}: found {found['State']['Name']} ({found['StateTransitionReason']!r}); expected that it was terminated")
        return datetime.fromisoformat(said[1]).replace(tzinfo=timezone.utc).timestamp()

    def evidence(self) -> str:
        """Of the jobs what the API server says, of each instance the last of its serial console, where bootstrap says why it failed."""
        ec2 = self.cloud.client("ec2")
        said = {one["InstanceId"]: ec2.get_console_output(InstanceId=one["InstanceId"]).get("Output", "") for one in self.launched()}
        jobs = self.control_plane(*leftovers.KUBECTL, "describe", "pods", "--namespace", leftovers.JOBS)
        return jobs + "\n".join(f"{instance}:\n" + "\n".join(f"    {line}" for line in text.splitlines()[-CONSOLE_LINES:]) for instance, text in said.items())

    control_plane = staticmethod(leftovers.control_plane)

    def put(self, path: str, text: str) -> None:
        """A file that only root may read."""
        self.control_plane("sh", "-c", f"umask 077; cat > {path}.new && mv {path}.new {path}", stdin=text)


def autoscaler() -> dict[str, str]:
    """Upstream's image, where somebody has dropped it into the lab's cache, and its tag; else nothing: the inventory names the stand-in."""
    found = [reference.rpartition(":") for reference in archives.references(Cache(cache()))]
    return next(({"autoscaler_image": image, "autoscaler_version": tag} for image, _colon, tag in found if image == UPSTREAM_AUTOSCALER), {})


@contextmanager
def site(family: str = FAMILIES[0]) -> Iterator[Site]:
    """The lab with its AWS, as long as the context lasts. Its hosts must run (lab/lab up)."""
    lifecycle.require_root()
    if family not in FAMILIES:
        raise LabError(f"family: found {family!r}; expected {' or '.join(FAMILIES)}")
    reference = image.ensure()
    with ExitStack() as stack:
        try:
            cloud = stack.enter_context(Cloud(str(ADDRESS), CLOUD_PORT))
        except OSError as error:
            raise LabError(f"cannot listen on {ADDRESS}:{CLOUD_PORT} ({error.strerror}): `lab/lab cloud` or another evaluation runs; end it first") from error
        cars = stack.enter_context(SideCar(cloud, reference))
        leftovers.clear()
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=leftovers.FOLDERS.rstrip("*"), dir=cache()))
        yield Site(cloud, cars, family, Path(folder), Account(cloud))


def evaluate(family: str) -> None:
    started = time.monotonic()
    with site(family) as found:
        try:
            found.prepare()
            figures, _output = found.tell()
            launched = [f"{one['InstanceId']} ({one['InstanceType']})" for one in found.launched()]
            if len(launched) != 1:
                raise LabError(f"instances launched in the whole run: {', '.join(launched)}; expected one")
        except Exception as error:
            # At once, since taking it away may fail, too.
            say(f"error: {error}")
            with suppress(Exception):
                say(f"what is to be seen of it:\n{found.evidence()}")
            raise
        finally:
            found.take_away()
    print(figures)
    say(f"evaluated with {family} in {time.monotonic() - started:.0f} s: one instance in the whole run, {launched[0]}, and it has gone")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.evaluate", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--family", choices=FAMILIES, default=FAMILIES[0])
    # So that what was made is taken away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        evaluate(parser.parse_args().family)
    except LabError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
