# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AMD's device plugin: what the role would apply, where it would run, and what it refuses; in real runs of its files."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.unit.site import ROOT, play

ROLE = ROOT / "roles" / "fpga_amd"
DIGEST = "public.ecr.aws/xilinx_dcg/k8s-device-plugin@sha256:" + "0123456789abcdef" * 4


def rendered(expression: str, role: str = "fpga_amd", **variables: Any) -> Any:
    """What an expression is with a role's variables, and with these above them."""
    known: dict[str, Any] = {"inventory_hostname": "worker1", "groups": {"on_prem": ["cp1", "worker1"], "control_plane": ["cp1"], "workers": ["worker1"]}}
    loader = DataLoader()
    for part in ("defaults", "vars"):
        known |= loader.load_from_file(str(ROOT / "roles" / role / part / "main.yml"), trusted_as_template=True)
    return Templar(loader=loader, variables=known | variables).template(trust_as_template(expression))


def pod() -> dict[str, Any]:
    return rendered("{{ __fpga_amd_daemonset }}")["spec"]["template"]["spec"]


def test_one_container_runs_and_it_can_flash_nothing():
    spec = pod()
    (container,) = spec["containers"]
    assert "initContainers" not in spec
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "privileged": False, "capabilities": {"drop": ["ALL"]}}
    assert [volume["hostPath"]["path"] for volume in spec["volumes"]] == ["/var/lib/kubelet/device-plugins"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(spec)
    assert spec["automountServiceAccountToken"] is False


def test_it_runs_where_the_host_says_so_also_if_that_is_tainted_and_nowhere_else():
    spec = pod()
    labels = rendered("{{ __kubeadm_labels }}", role="kubeadm", fpga_stack="amd", node_labels={"example.org/rack": "4"})
    assert labels == {"example.org/rack": "4", **spec["nodeSelector"]}
    assert spec["tolerations"] == [{"operator": "Exists"}]


@pytest.mark.parametrize(
    ("variables", "labels"),
    [({}, {}), ({"fpga_stack": "none"}, {}), ({"fpga_stack": "inaccel"}, {"fpga.hybrid/stack": "inaccel", "inaccel/fpga": "enabled"})],
)
def test_a_node_of_another_stack_lacks_its_label(variables, labels):
    assert rendered("{{ __kubeadm_labels }}", role="kubeadm", **variables) == labels


@pytest.mark.parametrize("image", ["public.ecr.aws/xilinx_dcg/k8s-device-plugin:1.3.0", DIGEST])
def test_the_image_is_the_declared_one_and_in_the_list_of_artifacts(image):
    seen = rendered("{{ [__fpga_amd_daemonset, fpga_amd_artifacts] }}", fpga_amd_image=image, fpga_amd_environment={"U30AllocUnit": "Device"})
    (container,) = seen[0]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == image
    assert container["env"] == [{"name": "U30AllocUnit", "value": "Device"}]
    assert seen[1] == {"images": [image]}


CONDITIONS = yaml.safe_load((ROLE / "tasks" / "main.yml").read_text())[0]["ansible.builtin.assert"]["that"]


@pytest.mark.parametrize(
    ("variables", "refused"),
    [
        ({}, False),
        ({"fpga_amd_image": DIGEST}, False),
        ({"fpga_amd_image": "registry.example.org:5000/k8s-device-plugin"}, True),
        ({"fpga_amd_image": "registry.example.org:5000/k8s-device-plugin:1.3.0"}, False),
        ({"fpga_amd_image": "k8s-device-plugin:latest"}, True),
        ({"fpga_amd_image": "k8s-device-plugin@sha256:0123"}, True),
        ({"fpga_amd_environment": {"VirtualDev": "True"}}, True),
    ],
)
def test_what_cannot_be_repeated_or_shares_cards_is_refused(variables, refused):
    assert refused is not all(rendered("{{ " + condition + " }}", **variables) for condition in CONDITIONS)


def test_a_refusal_says_what_was_found_and_what_to_write(tmp_path):
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "cp1", "connection": "local", "gather_facts": False, "roles": ["fpga.hybrid.fpga_amd"]}]))
    done = play(tmp_path, tmp_path / "play.yml", {"cluster_state_folder": str(tmp_path), "fpga_amd_image": "k8s-device-plugin:latest"}, "--check")
    assert done.returncode != 0
    assert "fpga_amd_image: found k8s-device-plugin:latest" in done.stdout
    assert "Expected an image with a tag other than latest, or a digest" in done.stdout


@pytest.mark.parametrize(
    ("stack", "deployed"),
    [({"fpga_stack": "amd"}, ["amd"]), ({"fpga_stack": "none"}, ["none"]), ({}, [])],
)
def test_the_control_plane_deploys_what_its_workers_name(stack, deployed):
    assert rendered("{{ __cluster_stacks }}", role="cluster", hostvars={"cp1": {"fpga_stack": "inaccel"}, "worker1": stack}) == deployed
