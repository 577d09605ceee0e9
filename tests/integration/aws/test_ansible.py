# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules as ansible-playbook runs them: packed, in processes of their own, with the documentation's examples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from tests.integration.aws.conftest import COLLECTIONS
from tests.integration.aws.server import REGION

BIN = Path(sys.executable).parent
CLUSTER = {"name": "InAccel", "id": "6b1f0f5e", "kubernetes_version": "1.36", "images": {"1.36": {REGION: "ami-0d0d0d0d0d0d0d0d1"}}}
POOL = {"name": "f2", "instance_type": "f2.6xlarge", "max_size": 2, "availability_zones": ["us-east-1a", "us-east-1b"]}


@pytest.fixture
def ansible(moto, tmp_path):
    """Starts a playbook of these tasks on this machine."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_URL": moto.url,
    }

    def start(tasks, *options, **more):
        playbook = tmp_path / f"{len(list(tmp_path.glob('*.yml')))}.yml"
        playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks, **more}]))
        command = [BIN / "ansible-playbook", "-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", playbook, *options]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def results(process):
    """Of each task, its result."""
    output, errors = process.communicate(timeout=110)
    assert output.startswith("{"), errors
    return [task["hosts"]["localhost"] for play in json.loads(output)["plays"] for task in play["tasks"]]


def succeeded(process):
    found = results(process)
    assert process.returncode == 0, [result.get("msg") for result in found]
    return found


def examples(module):
    return yaml.safe_load(import_module(f"ansible_collections.fpga.hybrid.plugins.modules.{module}").EXAMPLES)


def test_the_examples_run_as_they_are_written(ansible, moto):
    made, fewer, none = examples("node_pool")
    found = succeeded(ansible([*examples("node_template_info"), made, *examples("node_pool_info"), fewer, none]))
    assert found[1]["result.templates[0].resources"]["xilinx/aws-vu47p-f2"] == "2"
    assert found[4]["msg"] == ["f2-12xlarge", "f2-6xlarge"]
    assert [[pool["state"] for pool in result["pools"]] for result in (found[2], found[5], found[6])] == [
        ["created", "created"],
        ["unchanged", "removed"],
        ["removed"],
    ]
    assert moto.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"] == []


def test_defaults_for_the_action_group_reach_our_modules_and_amazon_s(ansible):
    tasks = [
        {"fpga.hybrid.node_pool": {"cluster": CLUSTER, "pools": [POOL]}},
        {"amazon.aws.autoscaling_group_info": {"name": "InAccel-f2"}},
    ]
    found = succeeded(ansible(tasks, module_defaults={"group/fpga.hybrid.aws": {"region": REGION}}))
    assert found[1]["results"][0]["auto_scaling_group_name"] == "InAccel-f2"


def test_two_playbooks_at_the_same_time_both_end_well(ansible, moto):
    pools = [{**POOL, "name": f"f2-{number}"} for number in range(4)]
    task = {"fpga.hybrid.node_pool": {"region": REGION, "cluster": CLUSTER, "pools": pools}}
    both = [ansible([task]), ansible([task])]
    (first,), (second,) = (succeeded(process) for process in both)
    assert first["changed"] or second["changed"]
    groups = moto.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert sorted((group["AutoScalingGroupName"], len(group["Tags"])) for group in groups) == [(f"InAccel-f2-{number}", 13) for number in range(4)]
    moto.forget()
    assert not succeeded(ansible([task]))[0]["changed"]
    assert moto.writes == []


def test_check_and_diff_show_a_change_and_write_nothing(ansible, moto):
    task = {"fpga.hybrid.node_pool": {"region": REGION, "cluster": CLUSTER, "pools": [POOL]}}
    (result,) = succeeded(ansible([task], "--check", "--diff"))
    assert (result["changed"], result["diff"][0]["before"], moto.writes) == (True, "", [])
    assert '"group": "InAccel-f2"' in result["diff"][0]["after"]


def test_a_mistake_in_the_pools_is_what_the_user_reads(ansible):
    process = ansible([{"fpga.hybrid.node_pool": {"region": REGION, "cluster": CLUSTER, "pools": [{**POOL, "max_sise": 3}]}}])
    (result,) = results(process)
    assert process.returncode != 0
    assert result["msg"].startswith("pool f2, max_sise: no such key; expected one of name, group_name,")
