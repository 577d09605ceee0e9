# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The self-test's pods, on an API server that is a few dictionaries, and the report that the role makes of them."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.fpga.hybrid.plugins.module_utils import _fpga_selftest as selftest
from ansible_collections.fpga.hybrid.plugins.module_utils._fpga_selftest import Trial
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import parse_accelerators
from tests.unit.site import ROOT

XGBOOST = "inaccel.com/xgboost.exact"
CATALOGUE = {"com.inaccel.xgboost.exact": {"resource": XGBOOST, "replicas": {"u250": 4}, "shared": True}}
ALONE = {"com.inaccel.xgboost.exact": {**CATALOGUE["com.inaccel.xgboost.exact"], "shared": False}}
NODES = {"worker1": {"cpu": "8", XGBOOST: "4", "xilinx/u280": "1", "xilinx/u50": "0", "nvidia.com/gpu": "1"}, "worker2": {"cpu": "8"}}


def counts(catalogue=CATALOGUE):
    return selftest.askable(parse_accelerators(catalogue).values())


def node(name):
    return {"metadata": {"name": name}, "status": {"allocatable": NODES[name]}}


class Cluster(Kubectl):
    """phases: of each pod, at the first look and from the second on. refuses: what `create` says."""

    def __init__(self, phases=None, refuses=""):
        super().__init__(lambda *_arguments, **_options: (1, "", "unused"))
        self.phases, self.refuses = phases or {}, refuses
        self.made, self.left, self.looks = [], False, 0

    def try_call(self, *arguments, data=None):
        verb, rest = arguments[0], arguments[1:]
        if verb == "delete":
            self.left = False
        elif verb == "create":
            self.left, self.made = True, json.loads(data)["items"]
            return (1, "", self.refuses) if self.refuses else (0, "", "")
        elif rest[0] == "nodes":
            return 0, json.dumps({"kind": "List", "items": [node(name) for name in rest[1:-2]]}), ""
        elif rest[0] == "pods":
            self.looks += 1
            pods = [one for one in self.made if one["kind"] == "Pod"]
            return 0, json.dumps({"kind": "List", "items": [{**pod, "status": self.status(pod["metadata"]["name"])} for pod in pods]}), ""
        elif verb == "logs":
            return 0, f"PCIDEVICE_OF={rest[2]}\n", ""
        return 0, "", ""

    def status(self, name):
        found = self.phases.get(name, {"phase": "Succeeded"})
        return {"phase": "Pending"} if self.looks == 1 else found


def run(cluster, nodes=("worker1", "worker2"), seconds=60):
    return selftest.run(cluster, list(nodes), counts(), "busybox", seconds, sleep=lambda _seconds: None)


def test_each_resource_of_a_node_gets_a_pod_and_nothing_stays():
    cluster = Cluster()
    assert run(cluster) == [
        {"node": "worker1", "resource": XGBOOST, "count": 1, "phase": "Succeeded", "said": "PCIDEVICE_OF=trial-1"},
        {"node": "worker1", "resource": "xilinx/u280", "count": 1, "phase": "Succeeded", "said": "PCIDEVICE_OF=trial-2"},
    ]
    assert not cluster.left


def test_of_an_accelerator_that_is_not_shared_whole_boards_are_asked_for():
    assert selftest.trials([node("worker1")], counts(ALONE))[0] == Trial("trial-1", "worker1", XGBOOST, 4)


def test_no_pod_is_privileged_and_each_is_for_its_node_alone():
    namespace, pod = selftest.objects([Trial("trial-1", "worker1", XGBOOST, 1)], "busybox")["items"]
    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["resources"] == {"limits": {XGBOOST: "1"}}
    assert "worker1" in json.dumps(pod["spec"]["affinity"])
    assert "nodeName" not in pod["spec"]  # that would go past the scheduler


BUSY = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4 nodes: 1 Insufficient xilinx/u280."}],
}
REFUSED = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "Allocate failed due to: board 0000:3b:00 is not ready"}
WAITS = {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "RunContainerError", "message": "PreStartContainer failed: no image"}}}]}


@pytest.mark.parametrize(
    ("status", "said"),
    [(BUSY, "Insufficient xilinx/u280"), (REFUSED, "board 0000:3b:00 is not ready"), (WAITS, "RunContainerError: PreStartContainer failed")],
)
def test_a_pod_that_does_not_run_is_a_result_with_the_reason(status, said):
    cluster = Cluster({"trial-1": status})
    first, second = run(cluster, seconds=0.01)
    assert first["phase"] == status["phase"]
    assert said in first["said"]
    assert second["phase"] == "Succeeded"
    assert not cluster.left


def test_nothing_stays_where_the_pods_are_refused():
    cluster = Cluster(refuses="denied the request")
    with pytest.raises(KubeError, match="denied the request"):
        run(cluster)
    assert not cluster.left


def test_without_boards_no_pod_is_made():
    cluster = Cluster()
    assert run(cluster, ["worker2"]) == run(cluster, []) == []
    assert cluster.made == []


@pytest.mark.parametrize("opens", [True, False])
def test_the_pods_script_fails_where_a_node_cannot_be_opened(tmp_path, opens):
    script = selftest.SCRIPT.replace("/dev/dri", str(tmp_path))
    (tmp_path / "renderD128").mkdir() if not opens else (tmp_path / "renderD128").touch()
    done = subprocess.run(["sh", "-c", script], env={**os.environ, "FPGA_COPIES_X": "0000:3b:00.1/0"}, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is opens
    assert "FPGA_COPIES_X=0000:3b:00.1/0" in done.stdout


# --- the report

CARD = {"slot": "0000:3b:00", "board": "u250", "ready": True, "shell": "xilinx_u250_gen3x16_xdma_shell_4_1", "serial": "21290594G00C"}
SEEN = {"system": "ubuntu 22.04", "kernel": "5.15.0-91-generic", "driver": "2.16.204", "situation": "adopted"}
HEALTHZ = {"status": 200, "content": "ok\n"}
METRICS = {"status": 200, "content": '# HELP x\nfpga_hybrid_board_ready{board="u250"} 1.0\nprocess_x 1\n'}


def report(hosts, pods):
    template = (ROOT / "roles" / "fpga_device_plugin" / "templates" / "selftest.md.j2").read_text()
    defaults = yaml.safe_load((ROOT / "roles" / "fpga_device_plugin" / "defaults" / "main.yml").read_text())
    variables = {**defaults, "cluster_name": "lab", "ansible_play_hosts": list(hosts), "hostvars": hosts, "__fpga_device_plugin_pods": {"pods": pods}}
    return Templar(loader=DataLoader(), variables=variables).template(trust_as_template(template))


def test_the_report_has_rows_for_the_table_of_what_was_tested():
    hosts = {
        "worker1": {"__xrt": {**SEEN, "cards": [CARD]}, "__fpga_device_plugin_said": {"results": [HEALTHZ, METRICS]}},
        "worker2": {"__xrt": {**SEEN, "cards": []}, "__fpga_device_plugin_said": {"results": [{"status": -1, "msg": "refused"}, {"status": -1}]}},
    }
    hosts["worker3"] = {**hosts["worker2"], "__xrt": {"problems": [{"found": "record.json cannot be read"}]}}
    pods = [
        {"node": "worker1", "resource": "xilinx/u250", "count": 1, "phase": "Succeeded", "said": "PCIDEVICE_XILINX_U250=0000:3b:00.1"},
        {"node": "worker1", "resource": XGBOOST, "count": 1, "phase": "Pending", "said": "Unschedulable"},
    ]
    text = report(hosts, pods)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    system = "ubuntu 22.04, kernel 5.15.0-91-generic, XRT 2.16.204"
    assert f"| u250, xilinx_u250_gen3x16_xdma_shell_4_1, {system} | ran: ready |" in rows
    assert f"| a pod with 1 xilinx/u250, {system} | ran |" in rows
    assert f"| a pod with 1 {XGBOOST}, {system} | Pending: see below |" in rows
    assert "PCIDEVICE_XILINX_U250=0000:3b:00.1" in text
    assert 'fpga_hybrid_board_ready{board="u250"} 1.0' in text
    assert "process_x" not in text
    assert "refused" in text
    assert "21290594G00C" not in text  # a serial number is nobody else's business
    assert {line.count("|") for line in rows} == {3}
