# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role cni has helm render, with and without a mirror of charts; and whose Calico it takes out."""

from __future__ import annotations

import base64
import json

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.unit.site import ROOT, play

PLAY = {
    "hosts": "cp1",
    "connection": "local",
    "gather_facts": False,
    "vars_files": [str(ROOT / "roles" / role / folder / "main.yml") for role in ("helm", "cni") for folder in ("defaults", "vars")],
    "roles": ["fpga.hybrid.cluster"],
    "tasks": [{"ansible.builtin.copy": {"content": "{{ __cni_charts }}", "dest": "{{ seen }}", "mode": "0600"}}],
}
UPSTREAM = "https://docs.tigera.io/calico/charts"
SECRET = {"url": "https://depot/charts", "username": "lab", "password": "planted-secret"}


@pytest.mark.parametrize(
    ("kubernetes", "calico", "mirror", "names", "repository"),
    [
        ("1.36", "v3.32.1", {}, ["crd.projectcalico.org.v1", "tigera-operator"], UPSTREAM),
        ("1.36", "v3.32.1", {"charts": SECRET}, ["fpga-hybrid/crd.projectcalico.org.v1", "fpga-hybrid/tigera-operator"], None),
        ("1.35", "v3.31.7", {}, ["tigera-operator"], UPSTREAM),
    ],
)
def test_the_definitions_of_the_same_release_come_first(kubernetes, calico, mirror, names, repository, tmp_path):
    (tmp_path / "play.yml").write_text(yaml.safe_dump([PLAY]))
    declared = {"cluster_kubernetes_version": kubernetes, "cluster_calico_version": calico, "cluster_mirrors": mirror, "cluster_state_folder": str(tmp_path)}
    done = play(tmp_path, tmp_path / "play.yml", {**declared, "seen": str(tmp_path / "charts.json")})
    assert done.returncode == 0, done.stdout + done.stderr
    charts = json.loads((tmp_path / "charts.json").read_text())
    assert [chart["name"] for chart in charts] == names
    assert {(chart["version"], chart["namespace"], chart.get("repository")) for chart in charts} == {(calico, "tigera-operator", repository)}
    assert charts[-1]["values"]["installation"]["calicoNetwork"]["mtu"] == 1350
    assert "planted-secret" not in json.dumps(charts)


# --- reset

RESET = ROOT / "roles" / "cni" / "tasks" / "reset.yml"
NODE = {"schema": 1, "kubeadm": {"node": True}}


@pytest.mark.parametrize(
    ("record", "cni", "removed"),
    [
        (NODE, "calico", True),
        (NODE, "none", False),  # the site's own network, which may be Calico too
        ({"schema": 1, "apt": {}}, "calico", False),  # a host that only serves the VPN, with a k3s of somebody else
        (None, "calico", False),
    ],
)
def test_calicos_files_go_only_where_we_made_a_node(record, cni, removed):
    (task,) = [task for task in yaml.safe_load(RESET.read_text()) if task["name"] == "Remove Calico's files"]
    content = {} if record is None else {"content": base64.b64encode(json.dumps(record).encode()).decode()}
    templar = Templar(loader=DataLoader(), variables={"cluster_cni": cni, "__cni_record": content})
    assert all(templar.evaluate_conditional(trust_as_template(condition)) for condition in task["when"]) == removed
