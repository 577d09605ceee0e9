# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate and the lock in real runs of ansible-playbook, whose hosts are all this machine, with a state folder of their own."""

from __future__ import annotations

import base64
import json
import os
import shlex
import signal
import subprocess
import time
from dataclasses import replace

import pytest
import yaml

from ansible_collections.fpga.hybrid.plugins.action.cluster_gate import left_over
from ansible_collections.fpga.hybrid.plugins.module_utils._controller import this_run
from ansible_collections.fpga.hybrid.plugins.module_utils._lock import LockFile
from tests.unit.playbook_site import ANSIBLE_PLAYBOOK, HOSTS, ROOT, SETTINGS, UNREACHABLE, Site
from tests.unit.site import POOL

BEGIN, GATE, RECORD = (
    [{"hosts": "on_prem", "gather_facts": False, "tasks": [{"ansible.builtin.include_role": {"name": "fpga.hybrid.cluster", "tasks_from": "begin"}}]}],
    [{"hosts": "on_prem", "gather_facts": False, "roles": ["fpga.hybrid.cluster"], "tasks": [{"ansible.builtin.debug": {"msg": "id is {{ cluster_id }}."}}]}],
    [{"hosts": "on_prem", "gather_facts": False, "tasks": [{"ansible.builtin.include_role": {"name": "fpga.hybrid.cluster", "tasks_from": "record"}}]}],
)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_the_first_run_makes_the_id_and_every_host_learns_it_also_under_limit(site):
    done = site.run([*BEGIN, *GATE, *RECORD])
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(f"id is {site.cluster_id()}.") == len(HOSTS)
    assert not site.lock.path.exists(), "the lock was not given back"

    again = site.run([*BEGIN, *GATE, *RECORD], "--limit", "worker1")
    assert again.stdout.count(f"id is {site.cluster_id()}.") == 1
    assert "changed=0" in again.stdout


def test_check_mode_leaves_no_trace(site):
    done = site.run([*BEGIN, *GATE, *RECORD], "--check", "--diff")
    assert done.returncode == 0, done.stdout
    assert "id is 00000000-0000-0000-0000-000000000000." in done.stdout
    assert not site.state.exists()


def test_a_run_is_refused_while_another_holds_the_lock_and_may_break_it_by_name(site):
    other = replace(this_run(), machine_id="another", user="ali", controller="awx", pid=7)
    site.lock.take(other, None, "")
    refused = site.run([*BEGIN, *GATE])
    assert refused.returncode != 0
    assert "-e break_lock=ali@awx:7" in refused.stdout
    assert site.lock.read().holder == other
    assert not (site.state / "cluster.json").exists()

    done = site.run([*BEGIN, *GATE, *RECORD], break_lock="ali@awx:7")
    assert done.returncode == 0, done.stdout
    assert "Broke the lock of ali@awx:7" in done.stdout + done.stderr


def test_a_killed_run_s_lock_is_taken_over_at_once(site):
    pause = [{"hosts": "on_prem", "gather_facts": False, "tasks": [{"ansible.builtin.command": "sleep 60"}]}]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")}
    with subprocess.Popen(
        site.command([*BEGIN, *pause]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=site.folder, start_new_session=True
    ) as killed:
        deadline = time.monotonic() + 60
        while not (site.state / "cluster.json").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert site.lock.read().holder.pid == killed.pid, "the holder is the long-living process"
        refused = site.run(BEGIN)
        assert refused.returncode != 0
        assert "expected no other run" in refused.stdout
        # The whole group, since its sleep would otherwise outlive the test.
        os.killpg(killed.pid, signal.SIGKILL)
    done = site.run([*BEGIN, *GATE, *RECORD])
    assert done.returncode == 0, done.stdout
    assert "that run has ended without giving it back" in done.stdout + done.stderr


@pytest.mark.parametrize("strategy", ["linear", "host_pinned"])
def test_a_run_whose_lock_was_broken_stops_on_every_host_at_its_next_play(site, strategy):
    other = replace(this_run(), machine_id="another", user="ali", controller="awx", pid=7)
    site.state.mkdir()
    (site.folder / "lock").write_text(replace_holder(site, other))
    steal = [{"hosts": "cp1", "gather_facts": False, "tasks": [{"ansible.builtin.copy": {"src": str(site.folder / "lock"), "dest": str(site.state / "lock")}}]}]
    next_play = [{**GATE[0], "strategy": strategy, "tasks": [{"ansible.builtin.debug": {"msg": "went on on {{ inventory_hostname }}"}}]}]
    done = site.run([*BEGIN, *GATE, *steal, *next_play, *next_play])
    assert done.returncode != 0
    assert "this run's lock was taken away, ali@awx has it" in done.stdout
    assert "went on" not in done.stdout
    assert "Stopped, because cp1 was" in done.stdout
    assert done.stdout.count("failed=1") == len(HOSTS)


def test_no_host_goes_on_without_the_control_plane(site):
    """Without its id a worker would be described as one of no cluster."""
    site.write_inventory(cp1=UNREACHABLE)
    done = site.run([{**GATE[0], "strategy": "host_pinned"}], "--limit", "worker1,worker2")
    assert done.stdout.count("unreachable=1") == 2
    assert "id is" not in done.stdout


def test_a_reset_may_do_without_a_control_plane_that_is_gone(site):
    site.write_inventory(cp1=UNREACHABLE)
    done = site.run([{**GATE[0], "vars": {"reset_gone": []}}], "--limit", "worker1,worker2")
    assert "The control plane cp1 cannot be reached" in done.stdout
    assert "go on without it: --limit '!cp1' -e reset_gone=cp1" in done.stdout
    done = site.run(GATE, "--limit", "worker1,worker2", reset_gone="cp1")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("id is .") == 2


def went_on(hosts, **play):
    return {
        "hosts": hosts,
        "gather_facts": False,
        "roles": ["fpga.hybrid.cluster"],
        "tasks": [{"debug": {"msg": "went on on {{ inventory_hostname }}"}}],
        **play,
    }


@pytest.mark.parametrize(("strategy", "how"), [("linear", "failed"), ("host_pinned", "failed"), ("host_pinned", "unreachable")])
def test_no_worker_goes_on_after_the_control_plane_failed_in_an_earlier_play(site, strategy, how):
    """The plays between have no host left, which Ansible takes for a reason to go on with the next one."""
    if how == "unreachable":
        site.write_inventory(cp1=UNREACHABLE)
    fails = {"hosts": "on_prem", "gather_facts": False, "tasks": [{"command": "false", "when": "inventory_hostname == 'cp1'"}]}
    done = site.run([{**fails, "strategy": strategy}, went_on("control_plane"), went_on("workers", strategy=strategy), went_on("on_prem")])
    assert done.returncode != 0
    assert "went on" not in done.stdout
    assert done.stdout.count("msg: 'Stopped, because cp1 failed earlier in this run or could not be reached") == 2, done.stdout
    assert done.stdout.count("failed=1") + done.stdout.count("unreachable=1") == len(HOSTS)


def test_who_fails_without_others_building_on_it_stops_nobody(site):
    fails = {"hosts": "on_prem", "gather_facts": False, "tasks": [{"command": "false", "when": "inventory_hostname == 'worker1'"}]}
    done = site.run([fails, went_on("on_prem")])
    assert "went on on cp1" in done.stdout
    assert "went on on worker2" in done.stdout


def test_a_failure_that_was_rescued_stops_nobody(site):
    rescued = {"block": [{"command": "false"}], "rescue": [{"debug": {"msg": "rescued"}}]}
    done = site.run([{"hosts": "on_prem", "gather_facts": False, "tasks": [rescued]}, went_on("workers")])
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("went on on worker") == 2


def replace_holder(site, holder):
    file = LockFile(site.folder / "elsewhere")
    file.take(holder, None, "")
    return file.read().text()


@pytest.mark.parametrize("tag", ["host", "vpn", "cluster"])
def test_a_run_of_one_tag_before_there_is_a_cluster_waits_for_no_node_and_gives_the_lock_back(site, tag):
    """site.yml's own plays around those that change hosts."""
    plays = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text())
    done = site.run([plays[1], plays[-1]], "--tags", tag, cluster_ready_timeout=1)
    assert done.returncode == 0, done.stdout
    assert ("Wait until every node" in done.stdout) == (tag == "cluster")
    assert (site.state / "cluster.json").exists()
    assert not site.lock.path.exists(), "the lock was not given back"


def test_everything_that_is_wrong_is_told_at_once_and_nothing_is_made(site):
    values = {"cluster_pod_network": "10.96.0.0/16", "cluster_kubernetes_version": "1.20", "cluster_admins": "{{ lookup('file', '/nowhere') }}"}
    check = yaml.safe_load((ROOT / "playbooks" / "preflight.yml").read_text())[0]
    done = site.run([check, *BEGIN], **values)
    assert done.returncode != 0
    for message in ("cluster_pod_network: 10.96.0.0/16 overlaps", "cluster_kubernetes_version: found 1.20", "cluster_admins: its template fails"):
        assert message in done.stdout
    assert not site.state.exists()


@pytest.mark.parametrize(
    ("keeper", "pools", "reset", "said"), [(True, [], False, 1), (True, [POOL], False, 0), (False, [], False, 0), (True, [], True, 0)], ids=str
)
def test_what_former_node_pools_have_left_is_said_and_how_to_take_it_out(site, keeper, pools, reset, said):
    site.state.mkdir()
    if keeper:
        (site.state / "keeper.json").write_text("{}")
    variables = {"cluster_node_pools": pools, "cluster_aws_region": "us-east-1", **({"reset_gone": []} if reset else {})}
    done = site.run(GATE * (said + 1), **variables)  # told in the first of two plays only
    assert done.returncode == 0, done.stdout
    assert " ".join((done.stdout + done.stderr).split()).count("cluster_node_pools is empty, but the Cluster Autoscaler and keeper of former pools") == said


def test_the_commands_that_it_names_take_that_out(site):
    (site.folder / "kubectl").write_text(f'#!/bin/sh\necho "$*" >> {site.folder}/asked\necho deployment.apps/cluster-autoscaler deleted\n')
    (site.folder / "kubectl").chmod(0o755)
    commands = [shlex.split(command) for command in left_over("cp1").partition("take them out: ")[2].split(" && ")]
    assert [command[0] for command in commands] == ["ansible", "ansible"]
    environment = {**os.environ, "PATH": f"{site.folder}:{os.environ['PATH']}", "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")}
    options = ["-i", site.folder / "lab.hybrid.yml", "-e", json.dumps({**SETTINGS, "cluster_state_folder": str(site.state)})]
    for command in commands:
        done = subprocess.run(
            [ANSIBLE_PLAYBOOK.with_name("ansible"), *options, *command[1:]],
            env={**environment, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "delete --ignore-not-found" in (site.folder / "asked").read_text()


def test_another_version_than_the_recorded_one_is_refused(site):
    site.state.mkdir()
    state = {"schema": 1, "cluster_id": "3b9d4e6b-fe0d-4945-bba3-114c6a4a81cb", "cluster_name": "lab", "versions": {"kubernetes": "1.36.3"}}
    (site.state / "cluster.json").write_text(json.dumps(state))
    done = site.run(GATE, cluster_kubernetes_version="1.37")
    assert done.returncode != 0
    assert "cluster_kubernetes_version: found 1.37; expected 1.36.3, which this cluster has recorded" in done.stdout


def test_no_secret_is_shown_however_much_is_asked_for(site):
    """Also where mirrors are asked: port 1 answers nobody."""
    secret = "S3CRET-planted"
    login = base64.b64encode(f"lab:{secret}".encode()).decode()
    mirrors = {"images": {"url": "https://127.0.0.1:1", "username": "lab", "password": secret}}
    (site.folder / "group_vars").mkdir()
    (site.folder / "group_vars" / "all.yml").write_text(yaml.safe_dump({"cluster_mirrors": mirrors}))
    plays = [*GATE, {"hosts": "on_prem", "gather_facts": False, "roles": ["fpga.hybrid.preflight"]}]
    done = site.run(plays, "-vvv")
    assert "cluster_mirrors.images: https://127.0.0.1:1/v2/: Connection refused" in done.stdout
    assert secret not in done.stdout + done.stderr
    assert login not in done.stdout + done.stderr
    assert base64.b64encode(secret.encode()).decode() not in done.stdout + done.stderr


def test_a_proxys_password_is_refused_before_any_host_and_not_shown(site):
    done = site.run(GATE, "-vvv", "--diff", cluster_proxy={"http": "http://user:S3CRET-of-proxy@proxy.example.org:3128"})
    assert done.returncode != 0
    assert "cluster_proxy.http: found credentials in the URL" in done.stdout
    assert "S3CRET-of-proxy" not in done.stdout + done.stderr
    assert not site.state.exists()


@pytest.mark.parametrize("tags", [(), ("--tags", "vpn")])
def test_the_last_play_of_site_yml_stops_where_the_control_plane_was_lost(site, tags):
    """Else it would wait for nodes that have no network, and say that instead."""
    last = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text())[-1]
    fails = {"hosts": "on_prem", "gather_facts": False, "tags": ["always"], "tasks": [{"command": "false", "when": "inventory_hostname == 'cp1'"}]}
    done = site.run([*BEGIN, fails, last], *tags) if not tags else site.run([fails, last], *tags)
    assert done.returncode != 0
    assert done.stdout.count("msg: 'Stopped, because cp1 failed earlier in this run or could not be reached") == 1, done.stdout
    assert "Record the exact versions" not in done.stdout
