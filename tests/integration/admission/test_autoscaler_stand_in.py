# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's stand-in for the Cluster Autoscaler as a process, between a real API server and the lab's AWS: told what role autoscaler tells upstream's, under
the rights that the role gives it. Nodes and what the scheduler says are the test's own. That this is not upstream's, its README says."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler import parse_settings
from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler_objects import manifest
from ansible_collections.fpga.hybrid.plugins.module_utils._iam import make_scope, policy_of
from ansible_collections.fpga.hybrid.plugins.module_utils._iam_identities import AUTOSCALER
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import ServerSideApply
from ansible_collections.fpga.hybrid.plugins.module_utils._node_template_inputs import template_of
from lab.cloud.server import Cloud
from lab.depot import golang
from lab.depot.base import Cache
from tests.integration.admission.server import ApiServer, RefusedError, end, free_ports, program, wait_for
from tests.unit.plugins.module_utils.test_autoscaler import declared

Object = dict[str, Any]

PROGRAM = "cluster-autoscaler-stand-in"
CLUSTER = {"name": "InAccel", "id": "6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b", "kubernetes_version": "1.36", "region": "us-east-1"}
EXACT = "inaccel.com/xgboost.exact"
CATALOGUE = {"com.inaccel.xgboost.exact": {"resource": EXACT, "replicas": {"u250": 4, "aws-vu47p-f2": 2}, "images": {"aws-vu47p-f2": {"us-east-1": "agfi-0"}}}}
POOLS = [
    {"name": name, "instance_type": name.replace("-", "."), "max_size": 2, "availability_zones": ["us-east-1a"], "publish": "com.inaccel.xgboost.exact"}
    for name in ("f2-6xlarge", "f2-12xlarge")
]
QUICK = {"scan_interval": "1s", "scale_down_unneeded_time": "2s"}


def named(pool: str) -> str:
    """Its group."""
    return f"{CLUSTER['name']}-{pool}"


@pytest.fixture
def groups(cloud: Cloud) -> Callable[[], dict[str, Any]]:
    """The pools as node_pool makes their groups: name -> what AWS says of it."""
    ec2, scaling = cloud.client("ec2"), cloud.client("autoscaling")
    for pool in POOLS:
        ec2.create_launch_template(LaunchTemplateName=pool["name"], LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": pool["instance_type"]})
        tags = template_of(pool, CLUSTER, CATALOGUE).group_tags(propagate_own=False)
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=named(pool["name"]),
            LaunchTemplate={"LaunchTemplateName": pool["name"], "Version": "1"},
            MinSize=0,
            MaxSize=pool["max_size"],
            AvailabilityZones=pool["availability_zones"],
            Tags=[
                {"ResourceId": named(pool["name"]), "ResourceType": "auto-scaling-group", "Key": tag.key, "Value": tag.value, "PropagateAtLaunch": False}
                for tag in tags
            ],
        )
    return lambda: {group["AutoScalingGroupName"].removeprefix(named("")): group for group in scaling.describe_auto_scaling_groups()["AutoScalingGroups"]}


def sizes(groups: Callable[[], dict[str, Any]]) -> dict[str, int]:
    return {name: group["DesiredCapacity"] for name, group in groups().items()}


class StandIn:
    """The process, as the role's Deployment would start it, but for where it listens and who it is."""

    def __init__(self, folder: Path, api: ApiServer, aws: Cloud) -> None:
        self.folder, self.aws = folder, aws
        scope = make_scope(CLUSTER["name"], CLUSTER["region"], POOLS, cluster_id=CLUSTER["id"])
        self.keys = aws.user("autoscaler", policy_of(AUTOSCALER, scope))
        kubeconfig = json.loads(api.kubeconfig.read_text())
        # The rights of the role's own service account, and no others.
        kubeconfig["users"][0]["user"]["as"] = "system:serviceaccount:kube-system:cluster-autoscaler"
        (folder / "kubeconfig").write_text(json.dumps(kubeconfig))
        (folder / "kubeconfig").chmod(0o600)
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *more: str, **changes: Any) -> list[str]:
        told = parse_settings(declared(**{**QUICK, "pools": POOLS, "endpoints": {"ec2": self.aws.url, "autoscaling": self.aws.url}, **changes}))
        (self.folder / "cloud.conf").write_text(told.cloud_config())
        words = [word for word in told.command_line() if not word.startswith("--cloud-config=")]
        (port,) = free_ports(1)
        own = [f"--cloud-config={self.folder}/cloud.conf", f"--kubeconfig={self.folder}/kubeconfig", f"--address=127.0.0.1:{port}", *more]
        return [str(program(PROGRAM)), *words, *own]

    def environment(self) -> dict[str, str]:
        """A user with the policy that iam.yml writes. An endpoint in the environment must have no effect, as with upstream."""
        return {**self.aws.environment(self.keys), "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}

    def said(self) -> str:
        return self.log.read_text()


@pytest.fixture
def stand_in(api: ApiServer, cloud: Cloud, tmp_path: Path) -> Iterator[StandIn]:
    if not program(PROGRAM).exists():
        pytest.skip(f"the lab has not built {PROGRAM} yet: `make lab` does")
    apply = ServerSideApply(api.kubectl())
    rights = [value for value in manifest(parse_settings(declared())) if value["kind"] != "Deployment"]
    apply.apply(rights, apply.plan(rights))
    with contextlib.suppress(RefusedError):  # what a former test's process held
        api.ask("DELETE", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/cluster-autoscaler")
    made = StandIn(tmp_path, api, cloud)
    yield made
    if made.process is not None:
        end(made.process)


@pytest.fixture
def running(stand_in: StandIn, groups: Callable[[], dict[str, Any]]) -> StandIn:
    with stand_in.log.open("wb") as log:
        stand_in.process = subprocess.Popen(stand_in.command(), env=stand_in.environment(), stdout=log, stderr=subprocess.STDOUT)
    return stand_in


class Nodes:
    """Nodes and pods of a test; they go with it."""

    def __init__(self, api: ApiServer) -> None:
        self.api, self.made = api, list[str]()

    def add(self, name: str, provider: str, allocatable: Object, **spec: Any) -> None:
        made = self.api.ask("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"providerID": provider}})[0]
        self.made.append(f"/api/v1/nodes/{name}")
        # Admission has added the taint of a node that is not ready; nobody here would take it away.
        made["spec"].pop("taints", None)
        made = self.api.ask("PUT", f"/api/v1/nodes/{name}", {**made, "spec": {**made["spec"], **spec}})[0]
        ready = {"type": "Ready", "status": "True", "reason": "Test", "message": "", "lastTransitionTime": made["metadata"]["creationTimestamp"]}
        made["status"] = {"capacity": allocatable, "allocatable": allocatable, "conditions": [ready]}
        self.api.ask("PUT", f"/api/v1/nodes/{name}/status", made)

    def node(self, name: str) -> Object:
        return self.api.ask("GET", f"/api/v1/nodes/{name}")[0]

    def taints(self, name: str) -> list[str]:
        return [taint["key"] for taint in self.node(name)["spec"].get("taints", [])]

    def pod(self, name: str, limits: Object, **metadata: Any) -> str:
        """One for which there is no place."""
        container = {"name": "main", "image": "x.example/x:1", "resources": {"limits": limits, "requests": limits}}
        toleration = {"key": "fpga.hybrid/fpga", "operator": "Exists"}
        spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container], "tolerations": [toleration]}
        made = self.api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": spec})
        path = f"/api/v1/namespaces/default/pods/{name}"
        self.made.append(path)
        made["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
        self.api.ask("PUT", f"{path}/status", made)
        return path

    def bind(self, pod: str, node: str) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        name = pod.rpartition("/")[2]
        self.api.ask("POST", f"{pod}/binding", {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target})

    def remove(self, path: str) -> None:
        with contextlib.suppress(RefusedError):
            self.api.ask("DELETE", f"{path}?gracePeriodSeconds=0")

    def events(self, name: str) -> list[Object]:
        selector = f"fieldSelector=involvedObject.name={name}"
        return [*self.api.ask("GET", f"/api/v1/namespaces/default/events?{selector}")[0]["items"]]


@pytest.fixture
def nodes(api: ApiServer) -> Iterator[Nodes]:
    made = Nodes(api)
    made.add("worker1", "fpga-hybrid:///InAccel/worker1", {"cpu": "8", "memory": "16Gi", "pods": "110", EXACT: "4"})
    yield made
    for path in reversed(made.made):
        made.remove(path)


def looks(running: StandIn) -> int:
    return len(running.aws.calls("DescribeAutoScalingGroups"))


def wait_for_looks(running: StandIn, count: int) -> None:
    """So many whole looks more."""
    begun = looks(running)
    wait_for(lambda: looks(running) > begun + count, f"{count} looks")


def join(nodes: Nodes, groups: Callable[[], dict[str, Any]], group: str, **spec: Any) -> str:
    """The group's instance as the node that its template promises."""
    (instance,) = groups()[group]["Instances"]
    pool = next(pool for pool in POOLS if pool["name"] == group)
    template = template_of(pool, CLUSTER, CATALOGUE)
    name = instance["InstanceId"]
    nodes.add(name, f"aws:///{instance['AvailabilityZone']}/{name}", {key: str(value) for key, value in template.resources.items()}, **spec)
    return name


def test_a_job_starts_the_instance_with_two_boards_and_once_idle_it_goes(running, nodes, groups, api):
    first, second = nodes.pod("first", {EXACT: "4"}), nodes.pod("second", {EXACT: "4"})
    nodes.bind(first, "worker1")
    wait_for(lambda: sizes(groups)["f2-12xlarge"] == 1, f"an instance, see {running.log}")
    wait_for(lambda: nodes.events("second") != [], "an event")
    (event,) = nodes.events("second")
    assert (event["reason"], event["source"]["component"]) == ("TriggeredScaleUp", PROGRAM)
    # Its boards come late, and the startup taint says so: no second one is bought.
    taint = {"key": "startup-taint.cluster-autoscaler.kubernetes.io/fpga", "effect": "NoSchedule"}
    instance = join(nodes, groups, "f2-12xlarge", taints=[taint])
    wait_for_looks(running, 2)
    assert sizes(groups) == {"f2-6xlarge": 0, "f2-12xlarge": 1}
    found = nodes.node(instance)
    found["spec"]["taints"] = []
    api.ask("PUT", f"/api/v1/nodes/{instance}", found)
    nodes.bind(second, instance)
    nodes.remove(first)
    nodes.remove(second)
    wait_for(lambda: sizes(groups)["f2-12xlarge"] == 0, f"the end of an idle instance, see {running.log}")
    assert [call["action"] for call in running.aws.calls(writes=True, service="autoscaling")][-2:] == [
        "SetDesiredCapacity",
        "TerminateInstanceInAutoScalingGroup",
    ]
    assert nodes.taints(instance) == ["ToBeDeletedByClusterAutoscaler"], "the Node object is keeper's to remove"
    assert nodes.taints("worker1") == []
    assert [call for call in running.aws.calls() if call["identity"].endswith("user/autoscaler") and call["status"] == 403] == []
    assert "stand-in, not upstream's cluster-autoscaler" in running.said().splitlines()[0]
    status = api.ask("GET", "/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status")[0]["data"]["status"]
    assert status.startswith("autoscaler: stand-in, not upstream's cluster-autoscaler\n")


def test_a_pod_that_can_move_is_evicted_before_its_instance_ends(running, nodes, groups, api):
    wait_for(lambda: looks(running) > 0, "the first look")
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": "00000000-0000-0000-0000-000000000001", "controller": True}
    pod = nodes.pod("mover", {EXACT: "2"}, ownerReferences=[owner], annotations={"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"})
    running.aws.client("autoscaling").set_desired_capacity(AutoScalingGroupName=named("f2-6xlarge"), DesiredCapacity=1)
    instance = join(nodes, groups, "f2-6xlarge")
    nodes.bind(pod, instance)
    wait_for(lambda: "deletionTimestamp" in api.ask("GET", pod)[0]["metadata"], f"an eviction, see {running.log}")
    assert nodes.taints(instance) == ["ToBeDeletedByClusterAutoscaler"]
    wait_for_looks(running, 2)
    assert sizes(groups)["f2-6xlarge"] == 1, "its instance ended before the pod had gone"
    nodes.remove(pod)  # as its kubelet would
    wait_for(lambda: sizes(groups)["f2-6xlarge"] == 0, f"the end of the instance, see {running.log}")


def test_what_aws_cannot_launch_is_given_up_and_the_pod_is_told(running, nodes, groups):
    running.aws.fault("no_capacity", instance_type="f2.12xlarge")
    nodes.pod("wants", {EXACT: "4", "cpu": "1"})
    other = nodes.pod("other", {EXACT: "4"})
    nodes.bind(other, "worker1")
    wait_for(lambda: len(running.aws.calls("SetDesiredCapacity")) == 2, f"its giving up, see {running.log}")
    assert sizes(groups) == {"f2-6xlarge": 0, "f2-12xlarge": 0}
    wait_for(lambda: any(event["reason"] == "NotTriggerScaleUp" for event in nodes.events("wants")), "an event")
    (event,) = [event for event in nodes.events("wants") if event["reason"] == "NotTriggerScaleUp"]
    assert "1 in backoff after failed scale-up" in event["message"]
    assert f"1 Insufficient {EXACT}" in event["message"]


def ended(stand_in: StandIn, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(stand_in.command(*more), env=stand_in.environment(), capture_output=True, text=True, check=False, timeout=60)


def test_it_ends_when_aws_denies_its_first_call(stand_in, cloud):
    cloud.fault("deny", action="DescribeAutoScalingGroups")
    done = ended(stand_in)
    assert done.returncode == 1
    assert "cannot read the groups" in done.stderr


def test_a_flag_that_it_does_not_know_ends_it_with_2(stand_in):
    done = ended(stand_in, "--scan-intervall=5s")
    assert done.returncode == 2
    assert "unknown flag: --scan-intervall" in done.stderr


def test_its_own_tests_pass(stand_in):
    """By the depot's Go, whose cache has everything that it was built of."""
    table, cache = golang.read_table(), Cache.default()
    folder = golang.COMPONENTS / table.program(PROGRAM).component
    go = golang.toolchain_root(cache, table) / "bin" / "go"
    command = ["nice", str(go), "test", "./..."]
    done = subprocess.run(command, cwd=folder, env=golang.environment(cache, go.parents[1]), capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
