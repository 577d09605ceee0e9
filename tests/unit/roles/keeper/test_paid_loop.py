# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The autoscaler's own cadence against keeper's brakes, for eight hours: one pod that waits, and pools of which none comes to be of use."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from fpga_hybrid_keeper import brakes
from fpga_hybrid_keeper import plan as plans
from fpga_hybrid_keeper.brakes import FAILED, FAILED_JOINS, Evidence
from fpga_hybrid_keeper.plan import Cloud, Group, Instance, Reap, Record, Resume, Rules, Suspend, World

ACCOUNT, REGION, ZONE, ID = "123456789012", "us-east-1", "us-east-1a", "5c9e8f6a-0000-4000-8000-000000000001"
RULES = Rules(ID, "lab", most=3, window=3600.0)
BEGIN = 1_800_000_000.0
#: Seconds between two looks of the autoscaler, and its pauses. Source: cluster-autoscaler, FAQ (--initial-node-group-backoff-duration, --max-...).
SCAN, FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0, 1800.0
MINUTES_15, MINUTES_25 = 900.0, 1500.0


@dataclass
class Launched:
    pool: str
    at: float
    state: str = "running"


@dataclass
class Story:
    """One pod that fits each pool: the autoscaler awaits one instance at a time, gives it up after provision seconds, and lets its pool wait then."""

    pools: list[str]
    provision: float
    told_after: float | None
    now: float = BEGIN
    record: Record = field(default_factory=lambda: Record(ACCOUNT, REGION))
    launched: dict[str, Launched] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    pauses: dict[str, tuple[float, float]] = field(default_factory=dict)
    awaited: tuple[str, str, float] | None = None

    def passes(self) -> None:
        while self.now < BEGIN + 8 * 3600:
            self.now += SCAN
            self.autoscaler()
            self.keeper()

    def autoscaler(self) -> None:
        if self.awaited is None:
            ready = [pool for pool in self.pools if self.pauses.get(pool, (0.0, 0.0))[0] <= self.now]
            if ready:
                name = f"i-{len(self.launched) + 1:017x}"
                if ready[0] not in self.suspended:
                    self.launched[name] = Launched(ready[0], self.now)
                self.awaited = (ready[0], name, self.now)
        elif self.now - self.awaited[2] > self.provision:
            pool, name, _since = self.awaited
            if name in self.launched:
                self.launched[name].state = "terminated"
            pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self.pauses.get(pool, (0.0, 0.0))[1]))
            self.pauses[pool], self.awaited = (self.now + pause, pause), None

    def look(self) -> Cloud:
        groups = {}
        for pool in self.pools:
            members = frozenset(name for name, one in self.launched.items() if (one.pool, one.state) == (pool, "running"))
            groups[f"lab-{pool}"] = Group(f"lab-{pool}", pool, owned=True, instances=members, suspended=pool in self.suspended)
        # EC2 tells of one that has gone for an hour.
        seen = {
            name: Instance(name, one.state, ZONE, f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{name}", f"lab-{one.pool}", ID, one.at)
            for name, one in self.launched.items()
            if self.now - one.at < self.provision + 3600
        }
        return Cloud(ACCOUNT, REGION, groups, seen, frozenset(self.launched))

    def keeper(self) -> None:
        seen = self.look()
        made = plans.make_plan(World(seen, {}), self.record, RULES, self.now)
        evidence = {}
        if self.told_after is not None:
            asked = brakes.of_interest(made.record, seen, RULES, self.now)
            evidence = {name: Evidence(FAILED, "ca", 51, "Another CA.") for name in asked if self.now - self.launched[name].at >= self.told_after}
        braking = brakes.make_plan(seen, {}, evidence, made.record, RULES, self.now)
        self.record = braking.record
        for step in braking.steps:
            self.record = brakes.begun(self.record, step)
            if isinstance(step, Suspend):
                self.suspended.add(step.brake.pool)
            elif isinstance(step, Resume):
                self.suspended.discard(step.pool)
            self.record = brakes.done(self.record, step, self.now)
        for action in made.actions:
            self.record = plans.done(plans.begun(self.record, action, self.now), action, self.now, "" if isinstance(action, Reap) else "172.27.232.1")


@pytest.mark.parametrize("told_after", [150.0, 600.0, None], ids=["told at once", "told after 10 minutes", "without a word"])
@pytest.mark.parametrize("provision", [MINUTES_15, MINUTES_25], ids=["15 minutes", "25 minutes"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_fault_of_all_pools_costs_three_launches_of_each_however_far_apart_they_are(count, provision, told_after):
    """With a pause that grows to half an hour, and other pools in between, three failures of a pool never are of one hour."""
    story = Story([f"f{number}" for number in range(count)], provision, told_after)
    story.passes()
    pools = [one.pool for one in story.launched.values()]
    assert {pool: pools.count(pool) for pool in story.pools} == dict.fromkeys(story.pools, 3)
    assert {name: (one.kind, one.firm) for name, one in story.record.brakes.items()} == {f"lab-{pool}": (FAILED_JOINS, True) for pool in story.pools}
