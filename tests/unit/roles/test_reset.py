# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reset.yml decides: who goes, who is drained, and when it does without a control plane. Roles take nothing out here, since their list is empty."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.fpga.hybrid.plugins.module_utils._cluster_state import ClusterState
from tests.unit.playbook_site import LOCAL, ROOT, UNREACHABLE, Site

PLAYS = yaml.safe_load((ROOT / "playbooks" / "reset.yml").read_text())
#: Enough where only the decision counts, or only what goes before the first host.
DECIDES, OUT_OF_THE_CLUSTER = PLAYS[:1], PLAYS[:2]
SHOW = [
    {"hosts": "on_prem", "gather_facts": False, "tasks": [{"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} stays {{ __reset_cluster_stays }}"}}]}
]
IN_CLUSTER = yaml.safe_load((ROOT / "roles" / "reset" / "vars" / "main.yml").read_text())["__reset_in_cluster"]
CLUSTER = "3b9d4e6b-fe0d-4945-bba3-114c6a4a81cb"
# Knows worker1 and worker2; what it is asked is written down. A pod on worker1 does not leave.
KUBECTL = """#!/bin/sh
echo "$*" >> {folder}/kubectl.log
case "$*" in
*"get configmap fpga-hybrid"*) cat {folder}/cluster-id ;;
*"get node"*) echo node/asked ;;
*" delete "*) [ ! -e {folder}/hangs ] || exec sleep 60; [ ! -e {folder}/refuses ] || {{ echo "Error from server (Forbidden): not you" >&2; exit 1; }} ;;
*"drain worker1"*) echo "error when evicting pods: PodDisruptionBudget web" >&2; exit 1 ;;
esac
"""


class Reset:
    """A site whose cluster stands (kubeconfig, record) until a test takes that away."""

    def __init__(self, folder):
        self.site = Site(folder)
        self.kubeconfig = folder / "admin.conf"
        self.kubeconfig.write_text("x")
        self.site.state.mkdir()
        (self.site.state / "cluster.json").write_text(ClusterState(CLUSTER, "lab").text())
        (folder / "cluster-id").write_text(CLUSTER)
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "kubectl").write_text(KUBECTL.format(folder=folder))
        (self.bin / "kubectl").chmod(0o755)

    def gone(self):
        """As after a full reset of the control plane."""
        self.kubeconfig.unlink()
        (self.site.state / "cluster.json").unlink()
        self.site.state.rmdir()
        (self.bin / "kubectl").unlink()

    def run(self, *options, plays=PLAYS, **variables):
        # The last play removes the folders.
        here = {f"cluster_{name}_folder": str(self.site.folder / name) for name in ("data", "program")}
        here.update(confirm="lab", __reset_roles=[], __reset_kubeconfig=str(self.kubeconfig))
        # One after the other: all "hosts" have the same folders, which each of them removes.
        return self.site.run([*plays[:1], *SHOW, *plays[1:]], "--forks=1", *options, path=self.bin, **{**here, **variables})

    def asked(self):
        log = self.site.folder / "kubectl.log"
        return [line.partition(" ")[2] for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def reset(tmp_path):
    return Reset(tmp_path)


def removed(reset):
    return [word for line in reset.asked() if " delete " in f" {line}" for word in line.split() if "/" in word]


def stays(done):
    """Host -> what it knows of its cluster."""
    return dict(re.findall(r"(\w+) stays (True|False)", done.stdout))


def test_a_whole_cluster_goes_without_anybody_being_drained_and_before_any_worker_what_runs_in_it(reset):
    """worker1 could not be drained; it need not be."""
    done = reset.run(__reset_roles=IN_CLUSTER)
    assert done.returncode == 0, done.stdout
    assert stays(done) == {"cp1": "False", "worker1": "False", "worker2": "False"}
    assert [line for line in reset.asked() if "delete" not in line.split() and "configmap" not in line.split()] == []
    assert removed(reset).count("deployment/cluster-autoscaler") == 1
    assert done.stdout.index("TASK [fpga.hybrid.autoscaler : Remove the Cluster Autoscaler]") < done.stdout.index("PLAY [Take the workers out]")


def test_one_worker_that_cannot_be_drained_stops_it_unless_disruption_is_allowed(reset):
    done = reset.run("--limit", "worker1")
    assert done.returncode != 0
    assert stays(done) == {"worker1": "True"}
    assert "worker1 is not drained: error when evicting pods: PodDisruptionBudget web" in " ".join(done.stdout.split())
    # As a text, the way a command line hands it over.
    done = reset.run("--limit", "worker1", "-e", "allow_disruption=true", __reset_roles=IN_CLUSTER)
    assert done.returncode == 0, done.stdout
    assert any("drain worker1" in line for line in reset.asked())
    assert removed(reset) == [], "a worker that leaves takes nothing out of the cluster"
    assert not reset.site.lock.path.exists(), "the lock was not given back to the cluster that stays"


def test_a_worker_whose_control_plane_was_reset_before_has_nobody_to_ask(reset):
    """It missed the full reset, and kubectl is no longer on the control plane."""
    reset.gone()
    done = reset.run("--limit", "worker1")
    assert done.returncode == 0, done.stdout
    assert stays(done) == {"worker1": "False"}
    assert not reset.site.state.exists(), "the lock made the folder anew"


def test_a_worker_can_go_without_a_control_plane_that_is_gone_when_that_is_said(reset):
    reset.site.write_inventory(cp1=UNREACHABLE)
    done = reset.run("--limit", "worker1,worker2")
    assert "-e reset_gone=cp1" in done.stdout
    assert stays(done) == {}
    done = reset.run("--limit", "worker1", "-e", "reset_gone=cp1")
    assert done.returncode == 0, done.stdout
    assert stays(done) == {"worker1": "False"}
    assert reset.asked() == []


@pytest.mark.parametrize("gone", ["cp1", "elsewhere"])
def test_only_a_host_of_the_inventory_outside_of_the_run_can_be_gone(reset, gone):
    done = reset.run("-e", f"reset_gone={gone}")
    assert done.returncode != 0
    assert f"reset_gone says {gone}; expected hosts of this inventory" in " ".join(done.stdout.split())
    assert stays(done) == {}


def test_the_vpn_server_of_a_cluster_that_stays_is_not_taken_out(reset):
    hosts = {
        "cp1": {"roles": ["control_plane"], "vars": {**LOCAL, "vpn_address": "172.27.224.11"}},
        "gate": {"roles": ["vpn_server"], "vars": LOCAL},
        "worker1": {"roles": ["worker"], "vars": {**LOCAL, "vpn_address": "172.27.224.12"}},
    }
    (reset.site.folder / "lab.hybrid.yml").write_text(json.dumps({"plugin": "fpga.hybrid.cluster", "cluster_name": "lab", "hosts": hosts}))
    done = reset.run("--limit", "gate,worker1")
    assert done.returncode != 0
    assert "gate carries the VPN of cluster lab, which stays" in " ".join(done.stdout.split())
    assert not reset.site.lock.path.exists()
    reset.gone()
    assert reset.run("--limit", "gate,worker1", plays=DECIDES).returncode == 0


def test_no_driver_is_taken_from_under_pods():
    """kubeadm's reset ends them. The device plugin goes before it: it only gives boards out, and would make its folder in the kubelet's anew."""
    order = yaml.safe_load((ROOT / "roles" / "reset" / "vars" / "main.yml").read_text())["__reset_roles"]
    assert order.index("fpga_device_plugin") < order.index("kubeadm") < min(order.index("xrt"), order.index("aws_fpga"))


def test_what_runs_in_the_cluster_only_is_taken_out_of_it(reset):
    done = reset.run("--limit", "cp1", plays=OUT_OF_THE_CLUSTER, __reset_roles=IN_CLUSTER, cluster_aws_credentials={"autoscaler": "/root/autoscaler.aws"})
    assert done.returncode == 0, done.stdout
    assert removed(reset).count("deployment/cluster-autoscaler") == 1
    assert "secret/cluster-autoscaler-aws" in removed(reset)
    assert any(name.startswith("validatingadmissionpolicy/") for name in removed(reset))


def test_a_secret_that_somebody_else_made_stays(reset):
    assert reset.run("--limit", "cp1", plays=OUT_OF_THE_CLUSTER, __reset_roles=IN_CLUSTER).returncode == 0
    assert [name for name in removed(reset) if name.startswith("secret/")] == []


def test_nothing_is_taken_out_of_another_cluster(reset):
    (reset.site.folder / "cluster-id").write_text("6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b")
    assert reset.run("--limit", "cp1", plays=OUT_OF_THE_CLUSTER, __reset_roles=IN_CLUSTER).returncode == 0
    assert removed(reset) == []


def test_a_control_plane_that_does_not_answer_is_taken_out_all_the_same(reset):
    (reset.site.folder / "cluster-id").unlink()
    assert reset.run("--limit", "cp1", plays=OUT_OF_THE_CLUSTER, __reset_roles=IN_CLUSTER).returncode == 0
    assert removed(reset) == []


@pytest.mark.parametrize(("how", "reason"), [("refuses", "Error from server (Forbidden): not you"), ("hangs", "no answer in time")])
def test_an_api_server_that_removes_nothing_does_not_keep_the_cluster(reset, how, reason):
    (reset.site.folder / how).touch()
    done = reset.run("--limit", "cp1", __reset_roles=IN_CLUSTER, __autoscaler_reset_timeout=0.3, __fpga_policy_absent_timeout=0.3)
    assert done.returncode == 0, done.stdout
    said = " ".join(done.stdout.split())
    for role in IN_CLUSTER:
        assert f"WARNING: what role {role} has put into the cluster stays until the cluster itself goes: {reason}." in said
    assert said.count("Instances that it starts until then are ended by playbook pools.") == 1
    assert not reset.site.state.exists()


def brought(tasks):
    """Roles of a list of tasks, in order, also in blocks."""
    for task in tasks:
        yield from brought(task.get("block", []))
        if "ansible.builtin.include_role" in task:
            yield task["ansible.builtin.include_role"]["name"]


def test_all_that_site_brings_is_taken_out_and_the_cluster_s_own_in_the_reverse_order():
    plays = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text())
    names = [role if isinstance(role, str) else role["role"] for play in plays for role in play.get("roles", [])]
    names += [name for play in plays for name in brought(play.get("tasks", []))]
    order = [name for name in dict.fromkeys(name.removeprefix("fpga.hybrid.") for name in names) if (ROOT / "roles" / name / "tasks" / "reset.yml").exists()]
    listed = yaml.safe_load((ROOT / "roles" / "reset" / "vars" / "main.yml").read_text())["__reset_roles"]
    assert set(order) <= set(listed)
    assert [name for name in order if name in IN_CLUSTER] == [name for name in listed if name in IN_CLUSTER][::-1]
    assert listed.index("autoscaler") < listed.index("keeper"), "nobody would clear away what it still buys"


def test_what_needs_the_control_plane_is_brought_there_only():
    plays = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text())
    blocks = [task for play in plays for task in play.get("tasks", []) if set(brought([task])) & {f"fpga.hybrid.{name}" for name in IN_CLUSTER}]
    (block,) = blocks
    assert block["when"] == "inventory_hostname in groups.control_plane"


def looped(name, **variables):
    """What the one loop of these tasks goes over."""
    (step,) = [task for task in yaml.safe_load((ROOT / "roles/reset/tasks" / name).read_text()) if "loop" in task]
    told = yaml.safe_load((ROOT / "roles/reset/vars/main.yml").read_text()) | variables
    return Templar(loader=DataLoader(), variables=told).template(trust_as_template(step["loop"]))


@pytest.mark.parametrize("answers", [True, False])
def test_roles_go_in_the_order_of_the_list_and_each_once(answers):
    """Ansible's `difference` keeps none: containerd went before the pods that ran in it."""
    order = yaml.safe_load((ROOT / "roles/reset/vars/main.yml").read_text())["__reset_roles"]
    assert looped("cluster.yml", __reset_answers=answers) == ([role for role in order if role in IN_CLUSTER] if answers else [])
    assert looped("host.yml") == [role for role in order if role not in IN_CLUSTER]
    assert order.index("kubeadm") < order.index("containerd")
