# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kind of policies a cluster gets."""

from __future__ import annotations

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.unit.site import ROOT

WORKERS = {"control_plane": ["cp1"], "on_prem": ["cp1", "worker1", "worker2"], "workers": ["worker1", "worker2", "i-0123456789abcdef0"]}


@pytest.mark.parametrize(
    ("pools", "hosts", "has"),
    [
        ([], {}, False),
        ([{"name": "f2"}], {}, True),
        ([], {"worker2": {"fpga_publish": {"u250": "boards"}}}, True),
        ([], {"worker2": {"fpga_device_plugin_slots": {"0000:3b:00": "u250"}}}, True),
        ([], {"worker2": {"__preflight": {"boards": {"0000:3b:00": "u250"}}}}, True),
        ([], {"worker2": {"__preflight": {"boards": {}}}, "worker1": {"__preflight": {"skipped": True}}}, False),
        ([], {"i-0123456789abcdef0": {"fpga_publish": {}}}, False),  # of a pool, which would be declared
    ],
)
def test_a_cluster_has_fpgas_by_its_pools_or_by_a_worker_that_publishes_boards(pools, hosts, has):
    told = yaml.safe_load((ROOT / "roles" / "cluster" / "vars" / "main.yml").read_text())
    follows = {name: trust_as_template(told[name]) for name in ("cluster_has_fpgas", "__cluster_on_prem_workers")}
    hostvars = {name: hosts.get(name, {}) for names in WORKERS.values() for name in names}
    templar = Templar(loader=DataLoader(), variables={"cluster_node_pools": pools, "groups": WORKERS, "hostvars": hostvars, **follows})
    assert templar.template(follows["cluster_has_fpgas"]) is has


def steps(tasks, *conditions):
    """Roles that tasks bring, also in blocks, each with all conditions above it."""
    for task in tasks:
        stands = (*conditions, *([task["when"]] if "when" in task else []))
        yield from steps(task.get("block", []), *stands)
        if "ansible.builtin.include_role" in task:
            yield task["ansible.builtin.include_role"]["name"].removeprefix("fpga.hybrid."), stands


def test_site_brings_the_policies_to_every_cluster_with_fpgas_and_before_what_would_end_jobs():
    plays = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text())
    found = dict(step for play in plays for step in steps(play.get("tasks", [])))
    there = "inventory_hostname in groups.control_plane"
    pools = "cluster_node_pools | length > 0"
    assert [(name, found[name]) for name in found if name in ("fpga_policy", "keeper", "autoscaler")] == [
        ("fpga_policy", (there, "cluster_has_fpgas")),
        ("keeper", (there, pools)),
        ("autoscaler", (there, pools)),
    ]


@pytest.mark.parametrize(("minor", "kind"), [("1.35", "validating"), ("1.36", "mutating"), ("1.37", "mutating"), ("1.100", "mutating")])
def test_policies_that_change_pods_come_with_the_minor_that_serves_them(minor, kind):
    defaults = yaml.safe_load((ROOT / "roles" / "fpga_policy" / "defaults" / "main.yml").read_text())
    templar = Templar(loader=DataLoader(), variables={"cluster_minor": minor})
    assert templar.template(trust_as_template(defaults["fpga_policy_kind"])) == kind
