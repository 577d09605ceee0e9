# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga.hybrid.node_pool against amazon.aws' ec2_launch_template and autoscaling_group: the same six pools, run by run in turn, on moto.

The peer's tasks hold what ours computed (user-data, tags), so that both leave the same groups and templates behind; that is compared before
anything is timed. The answers come from moto behind the lab's proxy, which counts the calls. They come without a network's latency: at AWS
each call costs both sides 30 to 150 ms more, and ours makes fewer.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.bench.aws.programs import ROOT, measured
from tests.bench.aws.table import Row, Samples, at_least

if TYPE_CHECKING:
    from lab.cloud.server import Control

TITLE = "Pools: fpga.hybrid.node_pool against amazon.aws.ec2_launch_template and autoscaling_group"
OURS, PEER = "node_pool", "amazon.aws"
REGION = "us-east-1"
ZONES = ["us-east-1a", "us-east-1b"]
TYPES = ("f2.6xlarge", "f2.12xlarge", "f2.48xlarge", "m5.large", "m5.xlarge", "c5.2xlarge")
POOLS = [{"name": name.replace(".", "-"), "instance_type": name, "max_size": 2, "availability_zones": ZONES, "tags": {"team": "research"}} for name in TYPES]
#: What a person changes most: how many there may be.
CHANGED = [{**POOLS[0], "max_size": 5}, *POOLS[1:]]
#: In this order, each in the state that the one before left.
STEPS = ("create", "no-op", "check of one change", "one change")


def our_tasks(pools: Sequence[dict[str, Any]], image: str) -> list[dict[str, Any]]:
    cluster = {"name": "bench", "id": "5c9e8f6a-0000-4000-8000-000000000001", "kubernetes_version": "1.36", "images": {"1.36": {REGION: image}}}
    return [{"fpga.hybrid.node_pool": {"region": REGION, "cluster": cluster, "pools": list(pools)}}]


@dataclass(frozen=True)
class Made:
    """What one pool is in AWS: its group, and the content of the launch template's version that the group names."""

    group: dict[str, Any]
    template: dict[str, Any]

    def peer_template(self) -> dict[str, Any]:
        """The task of ec2_launch_template that makes the same."""
        volume = self.template["BlockDeviceMappings"][0]
        return {
            "template_name": self.group["AutoScalingGroupName"],
            "image_id": self.template["ImageId"],
            "instance_type": self.template["InstanceType"],
            "user_data": self.template["UserData"],
            "block_device_mappings": [{"device_name": volume["DeviceName"], "ebs": snake(volume["Ebs"])}],
            "metadata_options": snake(self.template["MetadataOptions"]),
            "tag_specifications": [
                {"resource_type": one["ResourceType"], "tags": {tag["Key"]: tag["Value"] for tag in one["Tags"]}} for one in self.template["TagSpecifications"]
            ],
            "region": REGION,
        }

    def peer_group(self) -> dict[str, Any]:
        """The task of autoscaling_group that makes the same."""
        return {
            "name": self.group["AutoScalingGroupName"],
            "launch_template": {"launch_template_name": self.group["AutoScalingGroupName"]},
            "min_size": self.group["MinSize"],
            "max_size": self.group["MaxSize"],
            "availability_zones": self.group["AvailabilityZones"],
            "suspend_processes": [one["ProcessName"] for one in self.group["SuspendedProcesses"]],
            "tags": [{tag["Key"]: tag["Value"], "propagate_at_launch": tag["PropagateAtLaunch"]} for tag in self.group["Tags"]],
            # moto has no DisableMetricsCollection, which is what the default sends.
            "metrics_collection": True,
            "region": REGION,
        }


def snake(content: dict[str, Any]) -> dict[str, Any]:
    return {"".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key).lstrip("_"): value for key, value in content.items()}


def peer_tasks(made: Sequence[Made], larger: dict[str, int] | None = None) -> list[dict[str, Any]]:
    """As its users write it: a task for all templates, a task for all groups. larger: another maximum, by group."""
    templates = [one.peer_template() for one in made]
    groups = [{**one.peer_group(), "max_size": (larger or {}).get(one.group["AutoScalingGroupName"], one.group["MaxSize"])} for one in made]
    shown = {"loop_control": {"label": "{{ item.name | default(item.template_name) }}"}}

    def task(module: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        keys = {key: f"{{{{ item.{key} }}}}" for item in items for key in item}
        return {f"amazon.aws.{module}": keys, "loop": items, **shown}

    return [task("ec2_launch_template", templates), task("autoscaling_group", groups)]


@contextmanager
def cloud() -> Iterator[Control]:
    """The lab's AWS in a process of its own, so that its work is not counted with ours."""
    from lab.cloud.server import Control  # takes seconds

    command = [sys.executable, "-m", "lab.cloud", "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        ready = server.stdout.readline()
        if not ready.startswith("ready "):
            sys.exit(f"{' '.join(command)} said {ready!r} instead of ready")
        yield Control(ready.split()[1])
    finally:
        server.terminate()
        server.wait()


@dataclass
class Bench:
    cloud: Control
    folder: Path
    samples: dict[str, Samples] = field(default_factory=dict)

    def empty(self) -> str:
        """An empty account but for one image; its id, always another."""
        self.cloud.reset()
        image: str = self.cloud.client("ec2").register_image(Name="node", RootDeviceName="/dev/xvda", Architecture="x86_64")["ImageId"]
        return image

    def play(self, name: str, tasks: list[dict[str, Any]], *options: str) -> dict[str, float]:
        playbook = self.folder / f"{name}.yml"
        interpreter = {"ansible_python_interpreter": sys.executable}
        playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": interpreter, "tasks": tasks}]))
        self.cloud.forget_calls()
        took = measured(["ansible-playbook", "-i", "localhost,", str(playbook), *options], self.folder, self.cloud.environment())
        calls = self.cloud.calls()
        return {**took, "calls": len(calls), "writes": sum(call["write"] for call in calls)}

    def measure(self, contender: str, step: str, tasks: list[dict[str, Any]]) -> None:
        took = self.play(f"{contender}-{step}".replace(" ", "-"), tasks, *(["--check", "--diff"] if step.startswith("check") else []))
        self.samples.setdefault(f"{step} {contender}", Samples()).add(**took)
        figures = f"wall {took['wall']:6.2f} s   CPU {took['cpu']:6.2f} s   {took['calls']:3.0f} calls, {took['writes']:2.0f} writes"
        print(f"  {step:<22}{contender:<12} {figures}", file=sys.stderr, flush=True)

    def made(self) -> list[Made]:
        """All groups, each with the version that it names."""
        found = []
        for group in self.cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]:
            named = group["LaunchTemplate"]
            (version,) = self.cloud.client("ec2").describe_launch_template_versions(LaunchTemplateId=named["LaunchTemplateId"], Versions=[named["Version"]])[
                "LaunchTemplateVersions"
            ]
            found.append(Made(group, version["LaunchTemplateData"]))
        return found


def comparable(made: Sequence[Made]) -> dict[str, Any]:
    """What has to be the same whoever made it; the order of tags and moto's additions do not matter."""
    keys = ("MinSize", "MaxSize", "AvailabilityZones")
    content = {}
    for one in made:
        template = {key: one.template[key] for key in ("ImageId", "InstanceType", "BlockDeviceMappings", "MetadataOptions")}
        # AWS' default, which the peer's module sends and ours does not.
        template["MetadataOptions"] = {"HttpProtocolIpv6": "disabled", **template["MetadataOptions"]}
        template["UserData"] = base64.b64decode(one.template["UserData"]).decode()
        for specification in one.template["TagSpecifications"]:
            template[specification["ResourceType"]] = {tag["Key"]: tag["Value"] for tag in specification["Tags"]}
        template.pop("launch-template", None)
        tags = {tag["Key"]: (tag["Value"], tag["PropagateAtLaunch"]) for tag in one.group["Tags"]}
        suspended = [process["ProcessName"] for process in one.group["SuspendedProcesses"]]
        content[one.group["AutoScalingGroupName"]] = {**{key: one.group[key] for key in keys}, "tags": tags, "suspended": suspended, **template}
    return content


def difference(ours: dict[str, Any], peer: dict[str, Any]) -> str:
    """ "" where both made the same, else what differs first."""
    for group in sorted({*ours, *peer}):
        mine, theirs = ours.get(group, {}), peer.get(group, {})
        for key in sorted({*mine, *theirs}):
            if mine.get(key) != theirs.get(key):
                return f"group {group}, {key}: {json.dumps(mine.get(key))} by ours, {json.dumps(theirs.get(key))} by the peer"
    return ""


def model(bench: Bench, image: str) -> list[Made]:
    """What ours makes, and then removes: the peer's tasks are written after it."""
    bench.play("model", our_tasks(POOLS, image))
    made = bench.made()
    for one in made:
        bench.cloud.client("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=one.group["AutoScalingGroupName"])
        bench.cloud.client("ec2").delete_launch_template(LaunchTemplateName=one.group["AutoScalingGroupName"])
    return made


def steps_of(bench: Bench, contender: str) -> list[list[dict[str, Any]]]:
    """The tasks of each step, on an account without groups."""
    image = bench.empty()
    if contender == OURS:
        usual, changed = our_tasks(POOLS, image), our_tasks(CHANGED, image)
    else:
        made = model(bench, image)
        usual, changed = peer_tasks(made), peer_tasks(made, {f"bench-{CHANGED[0]['name']}": CHANGED[0]["max_size"]})
    return [usual, usual, changed, changed]


def prepare(bench: Bench) -> None:
    """Both make the pools once; ends the benchmark where the outcomes differ."""
    made = model(bench, bench.empty())
    bench.play("peer", peer_tasks(made))
    if differs := difference(comparable(made), comparable(bench.made())):
        sys.exit(f"The two made different pools: {differs}. Times of different work are worth nothing.")


def rows_of(samples: dict[str, Samples]) -> list[Row]:
    rows = []
    for what, name in (("wall", "wall"), ("cpu", "CPU")):
        for step in STEPS:
            ours, peer = (samples[f"{step} {contender}"].median(what) for contender in (OURS, PEER))
            rows.append(at_least(f"{len(POOLS)} pools, {step}, {name}", ours, peer, 5 if what == "wall" and step in ("create", "no-op") else None))
    limits = {("no-op", "calls"): 2 + len(POOLS), ("no-op", "writes"): 0, ("check of one change", "writes"): 0}
    for what in ("calls", "writes"):
        for step in STEPS:
            ours, peer = (samples[f"{step} {contender}"].median(what) for contender in (OURS, PEER))
            limit = limits.get((step, what))
            goal, met = ("", None) if limit is None else (f"<= {limit}", ours <= limit)
            rows.append(Row(f"{len(POOLS)} pools, {step}, {'API calls' if what == 'calls' else what}", f"{ours:.0f}", f"{peer:.0f}", goal=goal, met=met))
    return rows


def run(rounds: int) -> tuple[list[Row], dict[str, Samples], dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="bench-aws-"))
    try:
        with cloud() as running:
            bench = Bench(running, folder)
            prepare(bench)
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                for contender in (OURS, PEER):
                    for step, tasks in zip(STEPS, steps_of(bench, contender)):
                        bench.measure(contender, step, tasks)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows_of(bench.samples), bench.samples, {}
