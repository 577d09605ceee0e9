# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What site.yml promises on a cluster that stands: nothing to do, nothing restarted, few tasks, a truthful check mode."""

from __future__ import annotations

import json

import pytest

from lab import podman, settings
from lab.hosts import container
from tests.lab.site import on, playbook

pytestmark = pytest.mark.lab

KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
MEMORY_GOAL = 3 * 2**30
HOSTS = ("cp1", "worker1", "worker2", "worker3")
SERVICES = "containerd kubelet openvpn-server@fpga-hybrid openvpn-client@fpga-hybrid fpga-hybrid-device-plugin"
SECOND_RUN_TASKS = 25


def starts() -> dict[str, str]:
    """Host -> when each of our services was started last."""
    return {host: on(host, f"systemctl show --property=Id,ExecMainStartTimestampMonotonic {SERVICES}") for host in HOSTS}


def test_a_second_run_changes_nothing_and_restarts_nothing():
    before = starts()
    run = playbook("site").check()
    assert run.changed() == {}
    assert starts() == before
    assert {worker: run.started(worker) for worker in HOSTS[1:] if run.started(worker) > SECOND_RUN_TASKS} == {}


def test_check_mode_on_a_converged_cluster_predicts_nothing():
    run = playbook("site", "--check", "--diff").check()
    assert run.changed() == {}


def test_a_deployment_at_one_site_answers_a_pod_at_the_other_through_its_service():
    """worker1 stands on-prem, worker2 at the second site; only the VPN is between them."""
    image, kubectl = "lab.fpga-hybrid.test/probe:1", f"{KUBECTL} -n workload"
    on_worker1 = '{"spec": {"template": {"spec": {"nodeName": "worker1"}}}}'
    asks = '--restart=Never --overrides=\'{"spec": {"nodeName": "worker2"}}\' --command -- /probe get http://web.workload.svc.cluster.local/'
    try:
        on("cp1", f"{KUBECTL} create namespace workload && {kubectl} create deployment web --image={image} --port=8080 -- /probe serve :8080")
        on("cp1", f"{kubectl} patch deployment web -p '{on_worker1}' && {kubectl} expose deployment web --port=80 --target-port=8080")
        on("cp1", f"{kubectl} rollout status deployment web --timeout=90s && {kubectl} run asks --image={image} {asks}")
        on("cp1", f"{kubectl} wait --for=jsonpath='{{.status.phase}}'=Succeeded pod/asks --timeout=60s")
        answer = on("cp1", f"{kubectl} logs asks")
    finally:
        on("cp1", f"{KUBECTL} delete namespace workload --wait=false", check=False)
    assert "pod=web-" in answer
    assert "status=200" in answer


@pytest.mark.parametrize("host", HOSTS)
def test_no_share_of_the_machines_disk_that_others_may_take_decides_about_pods(host):
    """A kubelet's defaults evict when 15 % are left, and all hosts have one disk, that of whoever runs the lab."""
    kubelet = json.loads(on("cp1", f"{KUBECTL} get --raw /api/v1/nodes/{host}/proxy/configz"))["kubeletconfig"]
    assert {name: kubelet["evictionHard"][name] for name in ("nodefs.available", "imagefs.available")} == {
        "nodefs.available": "1Gi",
        "imagefs.available": "1Gi",
    }
    assert kubelet["imageGCHighThresholdPercent"] == 100


def test_nodes_have_their_vpn_addresses():
    addresses = on(
        "cp1", f"{KUBECTL} get nodes -o jsonpath='{{range .items[*]}}{{.metadata.name}}={{.status.addresses[?(@.type==\"InternalIP\")].address}} {{end}}'"
    )
    assert addresses.split() == ["cp1=172.27.224.1", "worker1=172.27.224.12", "worker2=172.27.224.13", "worker3=172.27.224.14"]


def test_the_lab_s_four_hosts_stay_below_3_gib_of_memory():
    found = podman.inspect_containers(*(host.container for host in settings.HOSTS))
    used = {state["Name"]: container.memory(state) for state in found}
    assert sum(used.values()) <= MEMORY_GOAL, used
