# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples in the documentation of the modules that the cloud's playbooks use, run as they are written."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import yaml

from tests.integration.playbooks.controller import Site


def examples(module: str) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = yaml.safe_load(import_module(f"ansible_collections.fpga.hybrid.plugins.modules.{module}").EXAMPLES)
    return tasks


def test_they_do_what_they_say(site: Site) -> None:
    claim, give_back = examples("ssm_prefix")
    done = site.tasks([*examples("pools_preflight"), claim, *examples("cloud_audit"), *examples("cloud_audit_report"), give_back, *examples("cloud_audit")])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 in all, none of them orphaned." in done.stdout
    assert "ok=8    changed=2" in done.stdout
    assert site.cloud.client("ssm").describe_parameters()["Parameters"] == []


def test_a_leftover_fails_the_audits_example(site: Site) -> None:
    audit, fail = examples("cloud_audit")
    tags = [{"Key": "fpga.hybrid/cluster-id", "Value": audit["fpga.hybrid.cloud_audit"]["cluster_id"]}]
    specified = [{"ResourceType": "volume", "Tags": tags}]
    site.cloud.client("ec2").create_volume(AvailabilityZone="us-east-1a", Size=8, TagSpecifications=specified)
    assert site.tasks([audit, fail]).returncode == 2


def test_policies_are_written_without_asking_aws(site: Site) -> None:
    done = site.tasks(examples("iam_policies"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.cloud.calls() == []
    written = {path.name: json.loads(path.read_text()) for path in (site.folder / "iam").glob("*.json")}
    assert sorted(written) == [
        f"{identity}.{kind}.json" for identity in ("autoscaler", "image", "instance", "inventory", "keeper", "pools") for kind in ("cloudformation", "policy")
    ]
    assert written["pools.policy.json"]["Version"] == "2012-10-17"
