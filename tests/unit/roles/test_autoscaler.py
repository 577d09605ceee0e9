# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role autoscaler makes of a declaration and of its Secret, in real runs of its variables."""

from __future__ import annotations

import json

import pytest
import tomllib
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.unit.site import ROOT, play

POOL = {"name": "f2-6xlarge", "instance_type": "f2.6xlarge", "max_size": 3, "availability_zones": ["us-east-1a"]}
DECLARED = {
    "cluster_aws_region": "us-east-1",
    "cluster_aws_endpoint_url": "http://10.203.20.2:5000",
    "cluster_node_pools": [POOL],
    "cluster_id": "6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b",
}
MIRROR = {"url": "https://depot/charts", "username": "lab", "password": "planted-secret"}
SEEN = {
    "arguments": "{{ __autoscaler_settings | fpga.hybrid.autoscaler_arguments }}",
    "objects": "{{ __autoscaler_settings | fpga.hybrid.autoscaler_objects('manifest') }}",
    "chart": "{{ __autoscaler_chart }}",
    "artifacts": "{{ autoscaler_artifacts }}",
}
KEYS = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]


def test_the_declaration_becomes_command_line_chart_and_list_of_artifacts(tmp_path):
    files = [str(ROOT / "roles" / role / folder / "main.yml") for role in ("helm", "autoscaler") for folder in ("defaults", "vars")]
    tasks = [{"ansible.builtin.copy": {"content": SEEN, "dest": str(tmp_path / "seen.json"), "mode": "0600"}}]
    content = {"hosts": "cp1", "connection": "local", "gather_facts": False, "vars_files": files, "roles": ["fpga.hybrid.cluster"], "tasks": tasks}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([content]))
    secret = {"rc": 0, "stdout": f"uid.7 {' '.join(KEYS)}", "stderr": "", "changed": False}
    variables = {"cluster_state_folder": str(tmp_path), "cluster_mirrors": {"charts": MIRROR}, "__autoscaler_secret": secret, **DECLARED}
    done = play(tmp_path, tmp_path / "play.yml", variables)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert "--max-nodes-total=5" in seen["arguments"], "cp1 and worker1, and three instances"
    assert "--cloud-config=/etc/cluster-autoscaler/cloud.conf" in seen["arguments"]
    assert seen["objects"][0]["kind"] == "ConfigMap"
    assert seen["objects"][-1]["spec"]["template"]["metadata"]["annotations"]["fpga.hybrid/secret"] == "uid.7"
    assert (seen["chart"]["name"], seen["chart"].get("repository")) == ("fpga-hybrid/cluster-autoscaler", None)
    assert seen["chart"]["values"]["image"]["tag"] == "v1.36.1"
    assert seen["artifacts"]["images"] == ["registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.1"]
    assert seen["artifacts"]["charts"] == [{"name": "cluster-autoscaler", "version": "9.59.0", "repository": "https://depot/charts"}]
    assert "planted-secret" not in json.dumps(seen)


NOT_FOUND = {"rc": 1, "stdout": "", "stderr": 'Error from server (NotFound): secrets "cluster-autoscaler-aws" not found'}
NONE = {"revision": "", "keys": None}


@pytest.mark.parametrize(
    ("answer", "check", "file", "found"),
    [
        ({"rc": 0, "stdout": f"uid.7 {' '.join(KEYS)}", "stderr": ""}, False, "", {"revision": "uid.7", "keys": KEYS}),
        ({"rc": 0, "stdout": "uid.7", "stderr": ""}, False, "", {"revision": "uid.7", "keys": []}),
        (NOT_FOUND, False, "", NONE),
        (NOT_FOUND, True, "", NONE),
        (NOT_FOUND, False, "/root/autoscaler.aws", NONE),
        (NOT_FOUND, True, "/root/autoscaler.aws", None),  # the run would make it
        ({"rc": 2, "msg": "No such file or directory: kubectl"}, True, "", None),  # a host without a cluster
        ({"skipped": True, "changed": False}, False, "", None),
    ],
)
def test_what_is_known_of_the_secret(answer, check, file, found):
    defined = yaml.safe_load((ROOT / "roles" / "autoscaler" / "vars" / "main.yml").read_text())["__autoscaler_secret_found"]
    variables = {"__autoscaler_secret": answer, "ansible_check_mode": check, "__autoscaler_key_file": file}
    assert Templar(loader=DataLoader(), variables=variables).template(trust_as_template(defined)) == found


@pytest.mark.parametrize(
    ("declared", "kind", "file"),
    [
        ({"autoscaler": "/root/autoscaler.aws", "keeper": "/root/keeper.aws"}, "secret", "/root/autoscaler.aws"),
        ({"keeper": "/root/keeper.aws"}, "secret", ""),
        ({}, "secret", ""),
        ({"autoscaler": "/root/autoscaler.aws"}, "roles_anywhere", ""),  # whose Secret holds a certificate
        ({"autoscaler": "/root/autoscaler.aws"}, "none", ""),
    ],
)
def test_the_key_is_where_the_declaration_says(declared, kind, file):
    defined = yaml.safe_load((ROOT / "roles" / "autoscaler" / "vars" / "main.yml").read_text())["__autoscaler_key_file"]
    variables = {"cluster_aws_credentials": declared, "autoscaler_credentials": kind}
    assert Templar(loader=DataLoader(), variables=variables).template(trust_as_template(defined)) == file


def test_the_labs_stand_in_has_the_version_that_the_role_wants():
    images = tomllib.loads((ROOT / "lab" / "depot" / "images" / "images.toml").read_text())["image"]
    reference = images["cluster-autoscaler-stand-in"]["reference"]
    versions = yaml.safe_load((ROOT / "roles" / "cluster" / "vars" / "versions.yml").read_text())["cluster_known_versions"]["autoscaler"]
    assert reference.rpartition(":")[2] in [row["version"] for row in versions if "1.36" in row["kubernetes"]]
