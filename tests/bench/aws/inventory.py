# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga.hybrid.cluster against amazon.aws.aws_ec2: the same replayed answers, run by run in turn, Ansible's own programs, CPU and memory of each.

Only the ratio within one run is worth anything: the same command has taken 80 s of CPU on one day and 35 s on another.
Ansible imports every plugin in ANSIBLE_INVENTORY_ENABLED, whatever file it is given, so only the one under test is enabled.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.bench.aws.programs import ROOT, measured
from tests.bench.aws.table import Row, Samples, at_least, at_most

TITLE = "Inventory: fpga.hybrid.cluster against amazon.aws.aws_ec2"
LIST, HOSTS = ("ansible-inventory", "--list"), ("ansible", "all", "--list-hosts")
OURS, PEER = "fpga.hybrid.cluster", "amazon.aws.aws_ec2"
SIZES = (1000, 5000)
GROWTH = (0, 100, 1000, 5000, 20000)
LATENCY = 0.15

#: The six rules of everybody's inventory, as Jinja: three groups by value, two variables, one condition.
RULES = {
    "keyed_groups": [
        {"prefix": "role", "key": "tags.role | default('none')"},
        {"prefix": "type", "key": "instance_type"},
        {"prefix": "az", "key": "placement.availability_zone"},
    ],
    "compose": {"ansible_host": "private_ip_address", "k8s_provider_id": "'aws:///' ~ placement.availability_zone ~ '/' ~ instance_id"},
    "groups": {"fpga": "instance_type.startswith('f1') or instance_type.startswith('f2')"},
}
#: The same without Jinja. provider_id and the group fpga are always there.
NATIVE = {
    "vars": {"ansible_host": "private_ip_address"},
    "group_by": [
        {"key": "tag:role", "prefix": "role", "default_value": "none"},
        {"key": "instance_type", "prefix": "type"},
        {"key": "availability_zone", "prefix": "az"},
    ],
}


@dataclass(frozen=True)
class Contender:
    name: str
    plugin: str
    aws: tuple[tuple[str, Any], ...] = ()
    rules: bool = True

    def content(self, url: str, regions: Sequence[str]) -> dict[str, Any]:
        access = {"endpoint_url": url, "access_key": "test", "secret_key": "test", "hostnames": ["tag:Name"], "regions": list(regions)}
        rules = RULES if self.rules else {}
        if self.plugin == PEER:
            return {"plugin": PEER, **access, **rules}
        return {"plugin": OURS, "aws": {"select": "all", **access, **dict(self.aws)}, **rules}


AWS_EC2 = Contender("aws_ec2", PEER)
GROUP_BY = Contender("group_by", OURS, tuple(NATIVE.items()), rules=False)
JINJA = Contender("the same Jinja", OURS)
FULL = Contender("full: true, the same Jinja", OURS, (("full", True),))
CONTENDERS = (AWS_EC2, GROUP_BY, JINJA, FULL)


@contextmanager
def replaying(instances: int, delay: float = 0) -> Iterator[str]:
    """The URL of a replay server in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.aws.replay", str(instances), "--delay", str(delay)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        ready = server.stdout.readline()
        if not ready.startswith("ready: "):
            sys.exit(f"{' '.join(command)} said {ready!r} instead of ready")
        yield ready.split()[1]
    finally:
        server.terminate()
        server.wait()


class Bench:
    """Inventories, caches and what the programs said, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples: dict[str, Samples] = {}

    def inventory(self, contender: Contender, size: int, url: str, regions: Sequence[str] = ("us-east-1",), *, cached: bool = False) -> Path:
        suffix = "aws_ec2.yml" if contender.plugin == PEER else "hybrid.yml"
        path = self.folder / f"{contender.name.replace(' ', '-').replace(':', '')}-{size}-{'hit' if cached else 'cold'}.{suffix}"
        content = contender.content(url, regions)
        if cached:
            content |= {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(self.folder / "cache" / path.stem), "cache_timeout": 0}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    def run(self, program: Sequence[str], inventory: Path, output: Path | None = None) -> dict[str, float]:
        """Wall and CPU seconds and peak memory (MB) of one run; ends the benchmark when it fails."""
        plugin = PEER if inventory.name.endswith("aws_ec2.yml") else OURS
        enabled = {"ANSIBLE_INVENTORY_ENABLED": plugin, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true"}
        return measured([program[0], "-i", str(inventory), *program[1:]], self.folder, enabled, output)

    def measure(self, name: str, program: Sequence[str], inventory: Path) -> None:
        took = self.run(program, inventory)
        self.samples.setdefault(name, Samples()).add(**took)
        print(f"  {name:<60} wall {took['wall']:7.2f} s   CPU {took['cpu']:7.2f} s   {took['memory']:6.0f} MB", file=sys.stderr, flush=True)

    def listed(self, inventory: Path) -> dict[str, Any]:
        output = self.folder / "listed.json"
        self.run(LIST, inventory, output)
        return dict(json.loads(output.read_bytes()))


def same_members(peer: dict[str, Any], ours: dict[str, Any]) -> str:
    """ "" when each group of the peer's has the same hosts in ours, else the difference."""
    for group in set(peer) - {"_meta", "all"}:
        theirs = set(peer[group]["hosts"])
        mine = set(ours.get("aws" if group == "aws_ec2" else group, {}).get("hosts", []))
        if theirs != mine:
            return f"group {group}: {len(theirs)} hosts in the peer, {len(mine)} in ours, {len(theirs ^ mine)} differ"
    return ""


def variables(listed: dict[str, Any]) -> int:
    return len(next(iter(listed["_meta"]["hostvars"].values()), {}))


def prepare(bench: Bench, size: int, url: str) -> str:
    """Warms every cache, and compares what is in the groups before anything is timed. Returns the variables of a host, by contender."""
    peer = bench.listed(bench.inventory(AWS_EC2, size, url))
    bench.run(LIST, bench.inventory(AWS_EC2, size, url, cached=True))
    told = [f"{AWS_EC2.name} {variables(peer)}"]
    for contender in (GROUP_BY, JINJA, FULL):
        listed = bench.listed(bench.inventory(contender, size, url))
        difference = same_members(peer, listed)
        cached = bench.inventory(contender, size, url, cached=True)
        bench.run(LIST, cached)
        difference = difference or same_members(peer, bench.listed(cached))
        if difference:
            sys.exit(f"{contender.name}, {size} instances: {difference}. Times of different answers are worth nothing.")
        told.append(f"{contender.name} {variables(listed)}")
    return ", ".join(told)


def rounds_of(bench: Bench, size: int, url: str) -> None:
    """One round: every contender once in each discipline, the peer's runs between ours."""
    for program, word in ((LIST, "--list"), (HOSTS, "--list-hosts")):
        for cached in (False, True):
            for contender in CONTENDERS:
                if contender in (JINJA, FULL) and (program is HOSTS or cached):
                    continue
                kind = "hit" if cached else "cold"
                bench.measure(f"{size} {word} {kind} {contender.name}", program, bench.inventory(contender, size, url, cached=cached))


def rows_of(bench: Bench, size: int) -> list[Row]:
    goals = size == 5000

    def median(word: str, kind: str, contender: Contender, what: str = "cpu") -> float:
        return bench.samples[f"{size} {word} {kind} {contender.name}"].median(what)

    def cpu(figure: str, word: str, kind: str, contender: Contender, goal: float | None, stretch: float | None = None) -> Row:
        ours, peer = median(word, kind, contender), median(word, kind, AWS_EC2)
        return at_least(f"{size}, {figure}, CPU", ours, peer, goal if goals else None, stretch=stretch if goals else None)

    rows = [
        cpu("--list cold, group_by", "--list", "cold", GROUP_BY, 8, 12),
        cpu("--list cold, identical Jinja", "--list", "cold", JINJA, 4),
        cpu("--list cold, full: true", "--list", "cold", FULL, 2.5),
        cpu("--list cache hit", "--list", "hit", GROUP_BY, 10),
        cpu("--list-hosts cold", "--list-hosts", "cold", GROUP_BY, None),
        cpu("--list-hosts cache hit", "--list-hosts", "hit", GROUP_BY, None),
    ]
    for word, kind, figure in (
        ("--list", "cold", "cold"),
        ("--list", "hit", "cache hit"),
        ("--list-hosts", "cold", "cold"),
        ("--list-hosts", "hit", "cache hit"),
    ):
        rows.append(at_least(f"{size}, {word} {figure}, wall", median(word, kind, GROUP_BY, "wall"), median(word, kind, AWS_EC2, "wall"), None))
    for figure, contender in (("group_by", GROUP_BY), ("identical Jinja", JINJA), ("full: true", FULL)):
        ours, peer = median("--list", "cold", contender, "memory"), median("--list", "cold", AWS_EC2, "memory")
        rows.append(at_most(f"{size}, --list cold, {figure}, peak memory", ours, peer, 0.35 if goals and contender is not FULL else None))
    return rows


def growth_rows(bench: Bench) -> list[Row]:
    cpu = {size: bench.samples[f"growth {size}"].median("cpu") for size in GROWTH}
    start = cpu[0]
    rows = [Row("growth: 0 instances (start-up), CPU", f"{start:.2f} s")]
    rows += [Row(f"growth: {size} instances, CPU", f"{cpu[size]:.2f} s, {(cpu[size] - start) / size * 1000:.2f} ms each") for size in GROWTH[1:]]
    factor = (cpu[20000] - start) / (cpu[5000] - start) / 4
    rows.append(Row("growth: 20000 against 5000, CPU of an instance", f"{factor:.2f}", "1", goal="<= 1.15", met=factor <= 1.15, missed_by=factor / 1.15 - 1))
    return rows


def run(rounds: int) -> tuple[list[Row], dict[str, Samples], dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="bench-aws-"))
    bench, notes = Bench(folder), {}
    try:
        with ExitStack() as stack:
            servers = {size: stack.enter_context(replaying(size)) for size in sorted({*SIZES, *GROWTH})}
            slow = stack.enter_context(replaying(0, LATENCY))
            for size in SIZES:
                notes[f"variables of a host, {size} instances"] = prepare(bench, size, servers[size])
            regions = sorted(_regions(slow))
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                for size in SIZES:
                    rounds_of(bench, size, servers[size])
                for size in GROWTH:
                    bench.measure(f"growth {size}", LIST, bench.inventory(GROUP_BY, size, servers[size]))
                for contender in (AWS_EC2, GROUP_BY):
                    bench.measure(f"regions {contender.name}", LIST, bench.inventory(contender, -1, slow, regions))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    rows = [row for size in SIZES for row in rows_of(bench, size)] + growth_rows(bench)
    wall = [bench.samples[f"regions {contender.name}"].median("wall") for contender in (GROUP_BY, AWS_EC2)]
    rows.append(at_least(f"{len(regions)} regions without instances, {LATENCY * 1000:.0f} ms an answer, --list, wall", *wall, None))
    return rows, bench.samples, notes


def _regions(url: str) -> list[str]:
    request = urllib.request.Request(url, b"Action=DescribeRegions")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return [part.partition("<")[0] for part in answer.read().decode().split("<regionName>")[1:]]
