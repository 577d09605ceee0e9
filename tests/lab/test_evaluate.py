# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's AWS under load of jobs: the story with a look for secrets, a busy node and a second one, what the policy is for, and ten instances at once.

Which autoscaler is there, upstream's or the stand-in, stands in the output of the story.
"""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.run import run, succeeds, wait_until
from tests.lab.jobs import NAMESPACE, TOLERATION, all_gone, instances, kubectl, occupy, pods, run_somewhere, submit, where
from tests.lab.protections import without_pods_policy
from tests.lab.test_secrets import CACHE, key_lines, shown

if TYPE_CHECKING:
    from lab.evaluate import Site

pytestmark = [pytest.mark.lab, pytest.mark.slow]

PLANTED = "planted-3f9c1d7be2a84605"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    from lab import evaluate

    with evaluate.site() as found:
        try:
            found.prepare()
            yield found
        finally:
            found.take_away()


@pytest.fixture(autouse=True)
def clear(site: Site) -> Iterator[None]:
    """Each test begins and ends without jobs and instances."""
    all_gone(site)
    yield
    kubectl(site, "delete", "jobs", "--all", "-n", NAMESPACE, "--wait=true")
    all_gone(site)


# --- the story, watched


class Watch:
    """Collects, while a run lasts, what it shows to others: command lines of everything on the machine (a lab's hosts are on it, too), journals, logs."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.seen: dict[str, str] = {}
        self.secrets: dict[str, str] = {PLANTED: PLANTED, "mirror password": (CACHE / "depot" / "password").read_text().strip()}
        self.secrets |= {f"key of {identity}": user["aws_secret_access_key"] for identity, user in site.users.items()}
        self._command_lines: set[str] = set()
        self._ended = threading.Event()
        self._ssm = site.cloud.own_client("ssm")
        self._threads = [
            threading.Thread(target=self._repeat, args=(work, every)) for work, every in ((self._processes, 0.1), (self._bundles, 0.3), (self._hosts, 4))
        ]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self.seen["command lines"] = "\n".join(sorted(self._command_lines))
        control_plane = self.site.control_plane
        self.seen["journal of cp1"] = control_plane("journalctl", "--no-pager", "-o", "cat")
        self.seen["the autoscaler's log"] = kubectl(self.site, "logs", "-n", "kube-system", "deployment/cluster-autoscaler")
        self.seen["keeper's files"] = control_plane("sh", "-c", "cat /etc/fpga-hybrid/keeper.json /var/lib/fpga-hybrid/keeper/*.json")
        ec2 = self.site.cloud.own_client("ec2")
        for template in ec2.describe_launch_templates()["LaunchTemplates"]:
            for version in ec2.describe_launch_template_versions(LaunchTemplateId=template["LaunchTemplateId"])["LaunchTemplateVersions"]:
                data = version["LaunchTemplateData"]
                self.seen[f"launch template {template['LaunchTemplateName']}"] = json.dumps(data)
                self.seen[f"user-data of {template['LaunchTemplateName']}"] = base64.b64decode(data["UserData"]).decode()
        for one in self.site.launched():
            self.seen[f"console of {one['InstanceId']}"] = ec2.get_console_output(InstanceId=one["InstanceId"]).get("Output", "")

    def _repeat(self, work: Any, every: float) -> None:
        while not self._ended.wait(every):
            work()

    def _processes(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                self._command_lines.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:  # it has ended
                continue

    def _bundles(self) -> None:
        """What instances get to join, as they read it."""
        for parameter in self._ssm.get_parameters_by_path(Path="/fpga-hybrid/lab/nodes", Recursive=True, WithDecryption=True)["Parameters"]:
            bundle = json.loads(gzip.decompress(base64.b64decode(parameter["Value"])))
            self.secrets["join token"] = bundle["token"].partition(".")[2]
            self.secrets |= {f"key line {number} of the profile": line for number, line in enumerate(key_lines(bundle["vpn_profile"]))}

    def _hosts(self) -> None:
        for name, host in self.site.cars.hosts().items():
            script = (
                "journalctl --no-pager -o cat; cat /var/log/cloud-init*.log /var/log/apt/*.log /var/lib/fpga-hybrid/bootstrap.json /etc/fpga-hybrid/node.json"
            )
            done = subprocess.run(["podman", "exec", host.container, "sh", "-c", script], capture_output=True, text=True, check=False)
            if len(done.stdout) > len(self.seen.get(f"journal and logs of {name}", "")):
                self.seen[f"journal and logs of {name}"] = done.stdout


def plant(site: Site) -> None:
    """The secret of somebody careless: in a command line, and in an instance's journal."""
    wait_until(lambda: bool(site.cars.hosts()), seconds=120, what="an instance", every=0.5)
    (host,) = site.cars.hosts().values()
    wait_until(lambda: succeeds("podman", "exec", host.container, "systemctl", "is-active", "kubelet"), seconds=120, what="its kubelet", every=0.5)
    run("podman", "exec", host.container, "sh", "-c", f"logger {PLANTED}; sleep 2; : {PLANTED}")


def test_the_story_is_told_and_shows_no_secret_to_anybody(site: Site) -> None:
    launched = len(site.launched())
    with Watch(site) as watch:
        careless = threading.Thread(target=plant, args=(site,))
        careless.start()
        figures, output = site.tell(shown=False)
        careless.join()
    watch.seen["output of the run"] = output
    print(figures)
    assert len(site.launched()) == launched + 1
    assert {"join token", "key of keeper", "key line 0 of the profile"} <= set(watch.secrets)
    found = {place: names for place, text in watch.seen.items() if (names := shown(watch.secrets, text))}
    assert found == {"command lines": [PLANTED], f"journal and logs of {figures.instance}": [PLANTED]}, "found more than what was planted, or not that"


# --- more than one


def test_a_second_instance_comes_while_the_first_is_busy_and_another_after_both_have_gone(site: Site) -> None:
    launched = len(site.launched())
    occupy(site, "on-prem")
    assert set(run_somewhere(site, "on-prem").values()) == {"worker1"}
    submit(site, "a", 180)
    first = run_somewhere(site, "a")["a"]
    submit(site, "b", 30)
    second = run_somewhere(site, "b")["b"]
    assert sorted(instances()) == sorted({first, second})
    assert where(site, "a") == {"a": first}, "the busy node's job was moved"
    all_gone(site)
    assert {pod["status"]["phase"] for pod in pods(site, "a", "b")} == {"Succeeded"}
    assert len(site.launched()) == launched + 2
    submit(site, "c", 10)
    assert run_somewhere(site, "c")["c"] not in (first, second, "worker1")
    assert len(site.launched()) == launched + 3


def test_a_pod_without_an_fpga_starts_no_instance_however_much_it_asks_for(site: Site) -> None:
    launched = len(site.launched())
    submit(site, "large", 10, {"cpu": "30"})
    time.sleep(30)  # six looks of the autoscaler's
    (pod,) = pods(site, "large")
    assert pod["status"]["phase"] == "Pending"
    assert "TriggeredScaleUp" not in kubectl(site, "get", "events", "-n", NAMESPACE, "--field-selector", f"involvedObject.uid={pod['metadata']['uid']}")
    assert len(site.launched()) == launched


def test_without_the_policy_the_board_that_is_free_again_costs_the_job_in_aws_its_life(site: Site) -> None:
    """What the policy is for; with it the story's second job runs on. The pod says itself what it needs to get to AWS at all."""
    submit(site, "on-prem", 60)
    run_somewhere(site, "on-prem")
    with without_pods_policy(site):
        submit(site, "lost", 300, tolerations=[TOLERATION])
        run_somewhere(site, "lost")
        failed = "{.status.conditions[?(@.type=='Failed')].reason}"
        wait_until(
            lambda: "BackoffLimitExceeded" in kubectl(site, "get", "job", "lost", "-n", NAMESPACE, "-o", f"jsonpath={failed}"),
            seconds=180,
            what="the job's loss",
            every=2,
        )


def test_ten_instances_at_once_all_join(site: Site) -> None:
    launched = len(site.launched())
    site.cloud.settings(quotas={"L-74FC7D96": 1024.0})  # vCPUs of F instances: pools.yml refuses what they do not hold
    site.ansible("ansible-playbook", "playbooks/pools.yml", credentials=site.users["pools"], lab_cloud_max=10)
    site.ansible("ansible-playbook", "site.yml", "--tags", "cluster", lab_cloud_max=10)
    occupy(site, "on-prem")
    run_somewhere(site, "on-prem")
    names = [f"many-{number}" for number in range(10)]
    for name in names:
        submit(site, name, 900)  # none ends before the last has begun, however busy the machine is
    nodes = run_somewhere(site, *names, seconds=600)
    assert len(set(nodes.values())) == 10, nodes
    assert sorted(instances()) == sorted(nodes.values())
    assert len(site.launched()) == launched + 10
    failures = site.cloud.own_client("ssm").get_parameters_by_path(Path="/fpga-hybrid/lab/failures", Recursive=True)["Parameters"]
    assert [parameter["Name"] for parameter in failures] == []
