# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boards on the lab's cluster: made-up boards, and real everything above the PCI bus. worker1 has a U250 and a U280; worker3 gets the boards of an f2.12xlarge.

Each test begins with free boards and no pods; what a pod has is read where it runs, out of its process.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import shipped_types
from ansible_collections.fpga.hybrid.plugins.module_utils._node import FPGA_STACK
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import parse_accelerators, parse_cluster, parse_pools
from ansible_collections.fpga.hybrid.plugins.module_utils._on_prem_fpga import on_prem_fpga, published
from ansible_collections.fpga.hybrid.plugins.module_utils.node_template import make_template
from tests.lab.site import CACHE, lab, on, playbook

pytestmark = [pytest.mark.lab, pytest.mark.slow]

KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
NAMESPACE = "fpga-test"
IMAGE = "lab.fpga-hybrid.test/probe:1"
UNIT = "fpga-hybrid-device-plugin"
U250, U280, XGBOOST = "xilinx/u250", "xilinx/u280", "inaccel.com/xgboost.exact"
SLOT_U250, SLOT_U280 = "0000:3b:00", "0000:43:00"
POOL_TYPE = "f2.12xlarge"
#: The one that AWS' documentation shows, which the double of its tools knows.
IMAGE_F2 = "agfi-0fedcba9876543210"
#: What site.yml says in this lab without an argument, and with the catalogue of the tutorial.
CATALOGUE = {"com.inaccel.xgboost.exact": {"resource": XGBOOST, "replicas": {"u250": 4, "aws-vu47p-f2": 2}}}
ROUNDS = 50
#: What a restart of plugin or kubelet may show as 0, CONTRACTS section 7.
GAP = 10
#: Shorter than the default, since each test waits for it; and until a board that a pod had is free again.
GRACE, FREED = 5, 30


# --- the cluster


def kubectl(arguments, document=None, *, check=True):
    words = f"{KUBECTL} -n {NAMESPACE} {arguments}"
    return on("cp1", f"{words} -f - <<'END'\n{json.dumps(document)}\nEND" if document else words, check=check)


def kubectl_json(arguments):
    return json.loads(kubectl(f"{arguments} -o json"))


def until(what, wanted, seconds=60):
    """Asks again until the answer is the wanted one; the last answer is in the failure."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found == wanted:
            return
        assert time.monotonic() < end, f"after {seconds} s: {found}, expected {wanted}"
        time.sleep(0.5)


def resources(node, of):
    """Extended resources of a node: allocatable or capacity."""
    status = json.loads(on("cp1", f"{KUBECTL} get node {node} -o json"))["status"]
    return {name: int(count) for name, count in status[of].items() if name.startswith(("xilinx/", "inaccel.com/")) and int(count)}


def allocatable(node="worker1"):
    return resources(node, "allocatable")


def publish(fpga_publish=None, catalogue=CATALOGUE, shared=True, host="worker1", **more):
    """fpga.yml with another declaration; the catalogue is the cluster's, what is published the host's."""
    catalogue = {name: {**entry, "shared": shared} for name, entry in catalogue.items()}
    variables = {"cluster_accelerators": catalogue, "fpga_publish": fpga_publish or {}, "fpga_device_plugin_grace": GRACE, **more}
    return playbook("fpga", "-e", json.dumps(variables), "--limit", f"control_plane,vpn_server,{host}").check()


def write_node(host, node):
    """In one step, as the roles write it: the plugin reads it whenever it changes."""
    on(host, f"cat > /etc/fpga-hybrid/node.json.new <<'END'\n{json.dumps(node)}\nEND\nmv /etc/fpga-hybrid/node.json.new /etc/fpga-hybrid/node.json")


def section(host):
    return json.loads(on(host, "cat /etc/fpga-hybrid/node.json"))["fpga"]


def published_as(fpga_publish):
    """fpga.yml where worker1 publishes something else."""
    wanted = on_prem_fpga("worker1", fpga_publish, FPGA_STACK, parse_accelerators(CATALOGUE))
    grace = f"--grace={GRACE} " in on("worker1", f"systemctl show --property=ExecStart {UNIT}")
    if section("worker1") != json.loads(json.dumps(wanted)) or not grace:
        publish(fpga_publish)


def boards(host):
    """Board -> how many, of what is plugged in."""
    found = {}
    for one in json.loads(on(host, "lab-fpga list")):
        found[one["board"]] = found.get(one["board"], 0) + 1
    return found


def owners():
    """Slot -> who has it, as the plugin keeps it; nobody before it has kept anything."""
    return json.loads(on("worker1", "cat /var/lib/fpga-hybrid/device-plugin/owners.json 2>/dev/null || echo '{}'")).get("owners", {})


# --- pods


@dataclass(frozen=True)
class Pod:
    """What is asked for, and on which node; sleeps until it is told to go."""

    name: str
    limits: dict = field(default_factory=dict)
    node: str = "worker1"
    labels: dict = field(default_factory=dict)

    @property
    def spec(self):
        container = {"name": "main", "image": IMAGE, "command": ["/probe", "sleep"], "resources": {"limits": {name: str(n) for name, n in self.limits.items()}}}
        return {
            # not nodeName, which would go past the scheduler
            "nodeSelector": {"kubernetes.io/hostname": self.node},
            "tolerations": [{"key": "fpga.hybrid/fpga", "operator": "Exists"}],
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
        }

    @property
    def document(self):
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name, "labels": self.labels}, "spec": {**self.spec, "restartPolicy": "Never"}}


def start(*pods):
    kubectl("create", {"apiVersion": "v1", "kind": "List", "items": [pod.document for pod in pods]})


def phase(name):
    return kubectl(f"get pod {name} -o jsonpath='{{.status.phase}}'", check=False)


def running(*pods, seconds=60):
    for pod in pods:
        until(lambda pod=pod: phase(pod.name), "Running", seconds)


def end(*names):
    kubectl(f"delete pod {' '.join(names)} --wait=true --ignore-not-found")


def failed():
    return [pod["metadata"]["name"] for pod in kubectl_json("get pods")["items"] if pod["status"]["phase"] == "Failed"]


def process(name, host="worker1"):
    """The process of a pod's container, on its node."""
    uid = kubectl(f"get pod {name} -o jsonpath='{{.metadata.uid}}'")
    found = f"grep -lE '{uid}|{uid.replace('-', '_')}' /proc/[0-9]*/cgroup 2>/dev/null | cut -d/ -f3"
    return on(host, f'for p in $({found}); do tr "\\0" " " < /proc/$p/cmdline | grep -q "^/probe" && echo $p; done; true').split()[0]


def container(pod):
    """The id of a pod's container: another one for each start."""
    return (pod["status"].get("containerStatuses") or [{}])[0].get("containerID")


def sees(name, host="worker1"):
    """(environment of a pod's program, its render nodes)."""
    number = process(name, host)
    environment = dict(line.partition("=")[::2] for line in on(host, f"tr '\\0' '\\n' < /proc/{number}/environ").splitlines())
    return environment, set(on(host, f"ls /proc/{number}/root/dev/dri 2>/dev/null; true").split())


def held():
    """Device -> pods that have it, as the kubelet itself tells, so nothing that we say about ourselves is believed."""
    found = {}
    state = json.loads(on("worker1", "cat /var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"))
    for entry in state["Data"]["PodDeviceEntries"] or []:
        for devices in entry["DeviceIDs"].values():
            for device in devices:
                found.setdefault((entry["ResourceName"], device), set()).add(entry["PodUID"])
    return found


def assert_one_owner():
    """No board is in use under two resources; no device is in two living pods."""
    alive = {pod["metadata"]["uid"] for pod in kubectl_json("get pods")["items"] if pod["status"]["phase"] in ("Pending", "Running")}
    taken = {device: pods & alive for device, pods in held().items() if pods & alive}
    assert all(len(pods) == 1 for pods in taken.values()), taken
    owners = {}
    for resource, device in taken:
        owners.setdefault(device.partition("/")[0], set()).add(resource)
    assert all(len(resources_of) == 1 for resources_of in owners.values()), owners


# --- what each test begins with


@pytest.fixture(scope="module", autouse=True)
def site():
    """worker1 with its two boards; a namespace that goes with all pods in it; the declaration without a catalogue at the end."""
    for host in ("worker1", "worker3"):
        lab("fpga", host, "list")  # brings the program as it is here
    kinds = boards("worker1")
    if kinds != {"u250": 1, "u280": 1}:
        for one in json.loads(on("worker1", "lab-fpga list")):
            on("worker1", f"lab-fpga unplug {one['slot']}")
        on("worker1", f"lab-fpga plug u250 --slot {SLOT_U250} && lab-fpga plug u280 --slot {SLOT_U280} --numa 1")
    on("cp1", f"{KUBECTL} create namespace {NAMESPACE} --dry-run=client -o yaml | {KUBECTL} apply -f -")
    yield
    on("cp1", f"{KUBECTL} delete namespace {NAMESPACE} --wait=true --timeout=120s", check=False)
    for one in json.loads(on("worker3", "lab-fpga list")):
        on("worker3", f"lab-fpga unplug {one['slot']}")
    on("worker3", f"systemctl disable --now {UNIT}", check=False)  # as it was; without boards nothing looks after it
    on("worker1", f"lab-fpga set {SLOT_U250} ready")
    playbook("fpga").check()


@pytest.fixture(autouse=True)
def empty(site):
    """No pods, and no board that a pod of an earlier test had."""
    yield
    kubectl("delete deployments,jobs,pods --all --wait=true")
    until(owners, {}, FREED)


@pytest.fixture
def accelerators():
    published_as({})
    until(allocatable, {XGBOOST: 4, U280: 1})


@pytest.fixture
def whole_boards():
    published_as({"u250": "boards"})
    until(allocatable, {U250: 1, U280: 1})


# --- a pod and its board


def test_a_pod_gets_a_u250_of_a_made_up_sysfs_tree(whole_boards):
    pod = Pod("one", {U250: 1})
    start(pod)
    running(pod)
    environment, nodes = sees("one")
    assert environment["PCIDEVICE_XILINX_U250"] == f"{SLOT_U250}.1"
    node = on("worker1", f"ls /run/lab-fpga/sys/bus/pci/devices/{SLOT_U250}.1/drm | grep renderD")
    assert nodes == {node}
    assert allocatable() == {U250: 1, U280: 1}  # taking a board changes nothing


def test_a_pod_that_asks_for_no_board_sees_none(whole_boards):
    pod = Pod("none")
    start(pod)
    running(pod)
    environment, nodes = sees("none")
    assert nodes == set()
    assert not [name for name in environment if name.startswith(("PCIDEVICE", "FPGA"))]


def test_a_board_is_never_in_two_pods(whole_boards):
    first, second = Pod("first", {U250: 1}), Pod("second", {U250: 1})
    start(first)
    running(first)
    start(second)
    until(lambda: kubectl("get pod second -o jsonpath='{.status.conditions[0].reason}'"), "Unschedulable")
    assert_one_owner()
    end("first")
    running(second)
    assert_one_owner()


# --- accelerators


def test_four_copies_land_on_one_u250_and_a_fifth_waits(accelerators):
    pods = [Pod(f"copy{number}", {XGBOOST: 1}) for number in range(4)]
    start(*pods)
    running(*pods)
    copies = [sees(pod.name)[0]["FPGA_COPIES_INACCEL_COM_XGBOOST_EXACT"] for pod in pods]
    assert sorted(copies) == [f"{SLOT_U250}.1/{number}" for number in range(4)]
    start(Pod("fifth", {XGBOOST: 1}))
    until(lambda: kubectl("get pod fifth -o jsonpath='{.status.conditions[0].reason}'"), "Unschedulable")
    assert allocatable() == {XGBOOST: 4, U280: 1}


def test_one_pod_takes_all_four_copies_of_the_idle_u250(accelerators):
    pod = Pod("all", {XGBOOST: 4})
    start(pod)
    running(pod)
    environment, nodes = sees("all")
    assert environment["PCIDEVICE_INACCEL_COM_XGBOOST_EXACT"] == f"{SLOT_U250}.1"
    assert len(nodes) == 1


def test_unshared_copies_go_to_one_pod_as_whole_boards():
    """A request of less than a board is refused by the plugin; fpga_policy says it earlier, at admission."""
    publish(shared=False)
    until(allocatable, {XGBOOST: 4, U280: 1})
    start(Pod("half", {XGBOOST: 2}))
    until(lambda: phase("half"), "Failed")
    assert "are not shared" in kubectl("get pod half -o jsonpath='{.status.message}'")
    end("half")
    pod = Pod("whole", {XGBOOST: 4})
    start(pod)
    running(pod)
    assert_one_owner()


def test_fifty_rounds_of_a_board_pod_and_an_accelerator_pod_in_one_second_leave_no_failed_pod(accelerators):
    """The default publishes each board once, so there is no race; under `both` there is, and then the second one is refused, never served."""
    for number in range(ROUNDS):
        board, copies = Pod(f"board{number}", {U280: 1}), Pod(f"copies{number}", {XGBOOST: 4})
        start(board, copies)
        running(board, copies)
        assert_one_owner()
        assert failed() == []
        end(board.name, copies.name)


def test_under_both_a_board_that_is_taken_is_healthy_under_no_other_resource():
    publish({"u250": "both"})
    until(allocatable, {U250: 1, XGBOOST: 4, U280: 1})
    pod = Pod("board", {U250: 1})
    start(pod)
    running(pod)
    until(allocatable, {U250: 1, U280: 1})
    assert resources("worker1", "capacity") == {U250: 1, XGBOOST: 4, U280: 1}
    assert_one_owner()
    end("board")
    until(allocatable, {U250: 1, XGBOOST: 4, U280: 1}, FREED)


# --- what is promised


def test_allocatable_is_what_the_shared_function_says_and_does_not_change_when_boards_are_taken(accelerators):
    promised = published(section("worker1"), boards("worker1"))
    assert allocatable() == promised
    pods = [Pod("copies", {XGBOOST: 4}), Pod("board", {U280: 1})]
    start(*pods)
    running(*pods)
    assert allocatable() == promised
    end("copies", "board")
    assert allocatable() == promised


@pytest.mark.parametrize("choice", ["boards", "com.inaccel.xgboost.exact"])
def test_a_node_with_a_pools_boards_gives_what_the_pools_tags_promise(choice):
    """worker3 gets the boards of an instance, and section fpga of the pool's template in its node.json."""
    catalogue = {name: {**entry, "images": {"aws-vu47p-f2": {"us-east-1": IMAGE_F2}}} for name, entry in CATALOGUE.items()}
    declared = {
        "name": "p",
        "instance_type": POOL_TYPE,
        "max_size": 1,
        "publish": choice,
        "availability_zones": ["us-east-1a"],
        "image": "ami-0123456789abcdef0",
    }
    (pool,) = parse_pools([declared], "lab")
    cluster = parse_cluster({"name": "lab", "id": "1", "kubernetes_version": "1.36", "region": "us-east-1"})
    template = make_template(pool, cluster, shipped_types(), parse_accelerators(catalogue))
    tags = {
        tag.rpartition("resources/")[2]: int(value)
        for tag, value in template.autoscaling_tags().items()
        if "/resources/" in tag and "/" in tag.rpartition("resources/")[2]
    }
    wanted = shipped_types()[POOL_TYPE].boards()
    for board, count in wanted.items():
        for _number in range(count - boards("worker3").get(board, 0)):
            on("worker3", f"lab-fpga plug {board}")
    publish(catalogue=catalogue, host="worker3")
    write_node("worker3", {**json.loads(on("worker3", "cat /etc/fpga-hybrid/node.json")), "fpga": template.fpga})
    until(lambda: allocatable("worker3"), tags)
    assert tags == published(template.fpga, wanted)


# --- images


def holds(slot):
    """The image that AWS' tool sees loaded in a slot, "" for none."""
    line = on("worker3", f"fpga-describe-local-image -S {slot} | grep '^AFI '")
    assert (" loaded " in line) != (" cleared " in line), line
    return line.split()[2] if " loaded " in line else ""


@pytest.fixture
def images():
    """worker3 with one F2 board, a double of AWS' tools, and a plugin that loads images, as on a pool's node."""
    catalogue = {"com.inaccel.xgboost.exact": {**CATALOGUE["com.inaccel.xgboost.exact"], "images": {"aws-vu47p-f2": {"us-east-1": IMAGE_F2}}}}
    package = next((CACHE / "depot/www/aws-fpga/pool").glob("any/main/aws-fpga_*.deb"))
    on("worker3", f"base64 -d > /tmp/aws-fpga.deb <<'END'\n{base64.encodebytes(package.read_bytes()).decode()}END\ndpkg --install /tmp/aws-fpga.deb")
    for one in json.loads(on("worker3", "lab-fpga list")):
        on("worker3", f"lab-fpga unplug {one['slot']}")
    on("worker3", "lab-fpga plug aws-vu47p-f2")
    publish(catalogue=catalogue, host="worker3", fpga_device_plugin_loads_images=True)
    node = json.loads(on("worker3", "cat /etc/fpga-hybrid/node.json"))
    node["fpga"]["images"] = {"com.inaccel.xgboost.exact": {"aws-vu47p-f2": IMAGE_F2}}  # on-prem hosts have no region, whose images those would be
    write_node("worker3", node)
    until(lambda: allocatable("worker3"), {XGBOOST: 2})
    yield
    on("worker3", "rm -f /run/lab-fpga/aws/faults.json")
    end("first", "second")
    on("worker3", "dpkg --purge aws-fpga")


def test_a_pod_starts_with_its_image_and_a_load_that_fails_stands_in_its_events(images):
    first, second = Pod("first", {XGBOOST: 2}, node="worker3"), Pod("second", {XGBOOST: 2}, node="worker3")
    start(first)
    running(first)
    assert holds(0) == IMAGE_F2
    assert sees("first", "worker3")[0]["FPGA_SLOTS_INACCEL_COM_XGBOOST_EXACT"] == "0"
    end("first")
    until(lambda: holds(0), "", FREED)
    on("worker3", """echo '{"load": "fail 14"}' > /run/lab-fpga/aws/faults.json""")
    start(second)
    until(lambda: "unspecified-error" in kubectl("get events --field-selector involvedObject.name=second"), True)
    assert phase("second") == "Pending"
    on("worker3", "rm /run/lab-fpga/aws/faults.json")
    running(second, seconds=120)
    assert holds(0) == IMAGE_F2


# --- mishaps; each ends with pods and counts


def main_process():
    return on("worker1", f"systemctl show --property=MainPID --value {UNIT}")


def registrations():
    """How often the kubelet took each resource, as the plugin's journal tells."""
    said = on("worker1", f"journalctl --unit {UNIT} --output cat").splitlines()
    return {resource: sum(line.endswith(f"the kubelet knows {resource}") for line in said) for resource in (XGBOOST, U280)}


def known_anew(before, seconds=GAP):
    """Until the kubelet has taken both resources again and told the API server, which until then shows the counts of before."""
    until(lambda: all(count > before[resource] for resource, count in registrations().items()), True, seconds)
    time.sleep(GAP + 2)  # the kubelet tells what a node has every 10 s
    assert allocatable() == {XGBOOST: 4, U280: 1}


def same_program(name, before):
    """A pod whose program was not started again."""
    assert process(name) == before
    assert phase(name) == "Running"


def test_a_restart_of_the_plugin_disturbs_no_pod_and_forgets_no_owner(accelerators):
    pod = Pod("copies", {XGBOOST: 3})
    start(pod)
    running(pod)
    number, environment, known = process("copies"), sees("copies"), registrations()
    on("worker1", f"systemctl restart {UNIT}")
    known_anew(known)
    same_program("copies", number)
    assert sees("copies") == environment
    other = Pod("last", {XGBOOST: 1})
    start(other)
    running(other)
    assert_one_owner()


def test_a_plugin_that_is_killed_comes_back_by_itself(accelerators):
    pod = Pod("copies", {XGBOOST: 4})
    start(pod)
    running(pod)
    number = process("copies")
    killed, known = main_process(), registrations()
    on("worker1", f"systemctl kill --signal=KILL {UNIT}")
    until(lambda: main_process() not in ("0", killed), True, GAP)
    until(lambda: on("worker1", f"systemctl is-active {UNIT}; true"), "active", GAP)
    known_anew(known)
    same_program("copies", number)
    assert_one_owner()


def test_a_plugin_that_has_lost_its_file_learns_the_owners_from_the_kubelet(accelerators):
    pod = Pod("copies", {XGBOOST: 4})
    start(pod)
    running(pod)
    known = registrations()
    on("worker1", f"systemctl stop {UNIT} && rm /var/lib/fpga-hybrid/device-plugin/owners.json && systemctl start {UNIT}")
    known_anew(known)
    until(lambda: owners().get(SLOT_U250, {}).get("resource"), XGBOOST, 30)
    assert_one_owner()


def test_a_restart_of_the_kubelet_disturbs_no_pod(accelerators):
    pods = [Pod("copies", {XGBOOST: 4}), Pod("board", {U280: 1})]
    start(*pods)
    running(*pods)
    numbers, known = {pod.name: process(pod.name) for pod in pods}, registrations()
    on("worker1", "systemctl restart kubelet")
    known_anew(known, 30)  # by then a pod that the kubelet refuses anew would be refused
    for name, number in numbers.items():
        same_program(name, number)
    assert failed() == []
    assert_one_owner()


def test_a_board_that_goes_while_it_is_in_use_is_unhealthy_and_comes_back(whole_boards):
    pod = Pod("one", {U250: 1})
    start(pod)
    running(pod)
    on("worker1", f"lab-fpga unplug {SLOT_U250}")
    try:
        until(allocatable, {U280: 1}, 30)
        assert resources("worker1", "capacity")[U250] == 1  # listed, and unhealthy
        assert "has gone from the PCI bus" in on("worker1", f"journalctl --unit {UNIT} --since -2min --output cat")
        assert phase("one") == "Running"
    finally:
        on("worker1", f"lab-fpga plug u250 --slot {SLOT_U250}")
    until(allocatable, {U250: 1, U280: 1}, 30)
    assert_one_owner()


@pytest.mark.parametrize("state", ["no-driver", "not-ready", "no-node", "factory"])
def test_a_board_that_is_not_ready_is_listed_with_the_reason(whole_boards, state):
    on("worker1", f"lab-fpga set {SLOT_U250} {state}")
    try:
        until(allocatable, {U280: 1}, 30)
        start(Pod("waits", {U250: 1}))
        until(lambda: kubectl("get pod waits -o jsonpath='{.status.conditions[0].reason}'"), "Unschedulable")
    finally:
        on("worker1", f"lab-fpga set {SLOT_U250} ready")
    until(allocatable, {U250: 1, U280: 1}, 30)
    until(lambda: phase("waits"), "Running")


def test_a_reboot_of_the_node_with_a_bare_pod_a_job_and_a_deployment(accelerators):
    """The bare pod stays what the kubelet makes of it, never a second owner; the Job and the Deployment run again, each with what it asked for."""
    bare = Pod("bare", {XGBOOST: 1})
    template = Pod("x", {XGBOOST: 1}, labels={"app": "deployment"})
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job"},
        "spec": {"backoffLimit": 6, "template": {"spec": {**template.spec, "restartPolicy": "Never"}}},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "deployment"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": template.labels},
            "template": {"metadata": {"labels": template.labels}, "spec": template.spec},
        },
    }
    kubectl("create", {"apiVersion": "v1", "kind": "List", "items": [bare.document, job, deployment]})
    until(lambda: sorted(pod["status"]["phase"] for pod in kubectl_json("get pods")["items"]), ["Running"] * 3, 90)
    before = on("worker1", "cat /proc/1/stat | cut -d' ' -f22")
    old = {container(pod) for pod in kubectl_json("get pods")["items"]}
    lab("host", "reboot", "worker1")
    until(lambda: on("worker1", "cat /proc/1/stat | cut -d' ' -f22", check=False) not in ("", before), True, 90)
    until(lambda: on("cp1", f"{KUBECTL} get node worker1 -o jsonpath='{{.status.conditions[?(@.type==\"Ready\")].status}}'"), "True", 120)

    def alive(selector):
        """Until the kubelet is back, the API server shows pods as they were."""
        pods = kubectl_json(f"get pods -l {selector}")["items"]
        return [pod for pod in pods if pod["status"]["phase"] == "Running" and container(pod) not in old | {None}]

    def ended_or_anew(name):
        """Not as the API server showed it before the reboot."""
        pod = kubectl_json(f"get pod {name}")
        return pod["status"]["phase"] in ("Succeeded", "Failed") or (pod["status"]["phase"] == "Running" and container(pod) not in old | {None})

    until(lambda: len(alive("batch.kubernetes.io/job-name=job")), 1, 120)
    until(lambda: len(alive("app=deployment")), 1, 120)
    until(allocatable, {XGBOOST: 4, U280: 1}, 60)
    until(lambda: ended_or_anew("bare"), True, 60)
    for pod in alive("batch.kubernetes.io/job-name=job") + alive("app=deployment"):
        environment, nodes = sees(pod["metadata"]["name"])
        assert environment["FPGA_COPIES_INACCEL_COM_XGBOOST_EXACT"].startswith(f"{SLOT_U250}.1/")
        assert len(nodes) == 1
    assert_one_owner()


# --- the playbook


def test_a_second_run_of_fpga_changes_nothing_and_restarts_nothing(accelerators):
    started = on("worker1", f"systemctl show --property=ExecMainStartTimestampMonotonic --value {UNIT}")
    assert publish().changed() == {}
    assert on("worker1", f"systemctl show --property=ExecMainStartTimestampMonotonic --value {UNIT}") == started


def test_a_host_without_boards_gets_neither_driver_nor_plugin():
    assert boards("worker2") == {}
    assert on("worker2", f"systemctl cat {UNIT} 2>/dev/null; true") == ""
