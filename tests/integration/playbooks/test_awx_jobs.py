# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every job template as AWX runs it: its playbook, its survey's answers, its credentials, by ansible-runner. docs/awx.md says how far each is run here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.integration.playbooks.awx_double import Awx, answer_problems, check_injectors, check_inputs, check_survey
from tests.integration.playbooks.awx_jobs import Credential, Done, Inventory, Runner
from tests.unit.playbook_site import HASTE

if TYPE_CHECKING:
    from lab.cloud.server import Cloud

ROOT = Path(__file__).resolve().parents[3]
ID = "5c9e8f6a-0000-4000-8000-000000000007"
SECRETS = {
    "aws": {"secret_key": "not-a-real-secret-key-31aa"},
    "aws_image": {"secret_key": "not-a-real-secret-key-8d05"},
    "aws_admin": {"secret_key": "not-a-real-secret-key-e4b7"},
    "secrets": {"mirror_password": "not-a-real-password-7c10", "become_password": "not-a-real-password-99f2"},
    "vpn": {"ssh_key": "not-a-real-key-5be4"},
}
INPUTS = {
    "aws": {"access_key": "AKIAFPGAHYBRID", **SECRETS["aws"]},
    "aws_image": {"access_key": "AKIAFPGAHYBRIDIMAGE", **SECRETS["aws_image"]},
    "aws_admin": {"access_key": "AKIAFPGAHYBRIDADMIN", **SECRETS["aws_admin"]},
    "secrets": SECRETS["secrets"],
    "vpn": {"server": "vpn.example.org", "username": "jump", **SECRETS["vpn"]},
}
#: Answers to what has to be answered and has no default.
ANSWERS = {"evaluation_image": "registry.example.org/fit:1", "confirm": "awx", "xrt_flash_serials": "21770202700VA", "image_ssh_from": "203.0.113.7/32"}
GATE = ["--tags", "gate"]  # a tag that nothing has: what remains is what every run does, arguments, the cluster's gate and preflight
#: What a launch adds, by template.
LAUNCHED = {
    "preflight": [],
    "site": ["--check", *GATE],
    "docker": ["--check", *GATE],
    "fpga": ["--check", *GATE],
    "flash cards": ["--check", *GATE],
    "fpga selftest": GATE,
    "pools": [],
    "purge pools": [],
    "remove pools": [],
    "cloud audit": [],
    "verify": ["--limit", "cp1", *GATE],
    "evaluate": GATE,
    "artifacts": [],
    "iam": [],
    "remove iam": [],
    "image": ["--check"],  # from here on it would be an instance's turn: test_image.py
    "init": [],
    "reset": ["--limit", "cp1", *GATE],
    "awx": [],  # of a part; all of it in test_awx.py
}
#: These stop where a host has to be one: whatever this machine is, it has not the memory that the declaration wants.
STOPPED, BY = ("preflight", "site", "docker", "fpga", "flash cards"), "Report all problems of all hosts"
MEMORY = 1_000_000_000
POOL = {"name": "f2-6xlarge", "instance_type": "f2.6xlarge", "max_size": 2, "availability_zones": ["us-east-1a", "us-east-1b"]}


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Role awx's objects for this repository as a project, as the playbook writes them down."""
    folder = tmp_path_factory.mktemp("declared")
    variables = {
        "cluster_name": "awx",
        "cluster_control_plane_endpoint": "api.test.example:6443",
        "cluster_on_prem_addresses": "vpn",
        "cluster_vpn_endpoint": "192.0.2.1",
        "awx_project_kind": "collection",
        "awx_project_url": "https://git.example.org/fpga.hybrid.git",
        "awx_image": "registry.example.org/fpga-hybrid:1",
        "awx_credentials": {kind: {"name": f"awx {kind}"} for kind in ("machine", "controller", *INPUTS)},
        "awx_results_folder": str(folder / "results"),
        "cluster_node_pools": [POOL],
        "cluster_aws_region": "us-east-1",
        "awx_export": "objects.yml",
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-e", json.dumps(variables), "playbooks/awx.yml"]
    environment = {**os.environ, "PWD": str(folder), "CONTROLLER_HOST": "http://127.0.0.1:1"}  # nobody's
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "results").mkdir()
    objects: dict[str, Any] = yaml.safe_load((folder / "objects.yml").read_text().replace("{  {", "{{"))  # as infra.aap_configuration takes it
    return objects


@pytest.fixture(scope="module")
def templates(declared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {template["name"].removeprefix("awx "): template for template in declared["controller_templates"]}


@pytest.fixture(scope="module")
def credentials(declared: dict[str, Any]) -> dict[str, Credential]:
    types = {kind["name"]: kind for kind in declared["controller_credential_types"]}
    names = {**dict.fromkeys(("aws", "aws_image", "aws_admin"), "fpga.hybrid AWS"), "vpn": "fpga.hybrid VPN", "secrets": "fpga.hybrid vault"}
    return {kind: Credential(types[name], INPUTS[kind]) for kind, name in names.items()}


@pytest.fixture(scope="module")
def awx() -> Iterator[Awx]:
    with Awx([f"playbooks/{path.name}" for path in (ROOT / "playbooks").glob("*.yml")]) as running:
        yield running


@pytest.fixture(scope="module")
def runner(cloud_process: Cloud, awx: Awx, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """This repository as AWX's project, with a site's hosts in the root's inventory file: this machine, as it needs no other for what is run."""
    cloud_process.reset()
    image = cloud_process.client("ec2").register_image(Name="fpga-hybrid-1.36", RootDeviceName="/dev/xvda", Architecture="x86_64")["ImageId"]
    project = tmp_path_factory.mktemp("project")
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name != "cluster.hybrid.yml":
            (project / path.name).symlink_to(path)
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_remote_tmp": str(project / "tmp")}
    plugin = {"plugin": "fpga.hybrid.cluster", "cluster_name": "awx", "vars_file": "variables.yml"}
    worker = {"roles": ["worker"], "vars": {**local, "vpn_address": "172.27.224.12"}}
    hosts = {"cp1": {"roles": ["control_plane", "vpn_server"], "vars": local}, "worker1": worker}
    aws = {"regions": ["us-east-1"], "endpoint_url": cloud_process.url, "required": True}
    (project / "cluster.hybrid.yml").write_text(yaml.safe_dump({**plugin, "hosts": hosts, "aws": aws}))
    variables = {
        "cluster_control_plane_endpoint": "api.test.example:6443",
        "cluster_on_prem_addresses": "vpn",
        "cluster_vpn_endpoint": "192.0.2.1",
        "cluster_kubernetes_version": "1.36.3",
        "cluster_aws_account_id": "123456789012",
        "cluster_aws_endpoint_url": cloud_process.url,
        "cluster_aws_images": {"1.36": {"us-east-1": image}},
        "cluster_node_pools": [POOL],
        "awx_project_kind": "collection",
        "awx_project_url": "https://git.example.org/fpga.hybrid.git",
        "awx_image": "registry.example.org/fpga-hybrid:1",
        "awx_templates": ["verify"],
        "image_base": image,  # Debian has none in this AWS
        "preflight_minimum": {"cpus": 1, "memory": MEMORY, "disk": 1},
        "cluster_mirrors": {"debian": {"url": "https://mirror.example.org/debian", "username": "site", "password": "{{ vault_mirror_password }}"}},
    }
    (project / "variables.yml").write_text(yaml.safe_dump(variables))
    return Runner(project, tmp_path_factory.mktemp("runner"), {"no_proxy": "127.0.0.1", **HASTE})


@pytest.fixture(scope="module")
def inventory(runner: Runner, declared: dict[str, Any], credentials: dict[str, Credential]) -> Inventory:
    (source,) = declared["controller_inventory_sources"]
    assert source["credential"] == "awx aws"
    return runner.inventory(source["source_path"], [credentials["aws"]])


def answers(template: dict[str, Any], *, empty: bool) -> dict[str, Any]:
    """As a user gives them who changes nothing. AWX sends what was left empty as an empty text, or not at all."""
    given: dict[str, Any] = {}
    for question in template["survey_spec"]["spec"]:
        value = ANSWERS.get(question["variable"], question.get("default", ""))
        if value != "" or empty:
            given[question["variable"]] = value.splitlines() if question["type"] == "multiselect" else value
    return given


def test_every_playbook_has_a_template_and_each_is_launched_here(templates: dict[str, dict[str, Any]]) -> None:
    playbooks = {f"playbooks/{path.name}" for path in (ROOT / "playbooks").glob("*.yml")}
    assert {template["playbook"] for template in templates.values()} == playbooks
    assert set(LAUNCHED) == set(templates)


def test_the_inventory_comes_with_its_hosts_groups_and_variables(inventory: Inventory) -> None:
    assert inventory["control_plane"]["hosts"] == ["cp1"]
    assert inventory["workers"]["hosts"] == ["worker1"]
    assert "us-east-1" in str(inventory["all"]["vars"]["cluster_aws_region"])
    assert "vault_mirror_password" in json.dumps(inventory["all"]["vars"]["cluster_mirrors"]), "a secret of the credential, which a job looks up"


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_template_runs_as_awx_runs_it(
    name: str, runner: Runner, inventory: Inventory, templates: dict[str, dict[str, Any]], credentials: dict[str, Credential], awx: Awx, tmp_path: Path
) -> None:
    template = templates[name]
    given = answers(template, empty=True)
    assert [problem for question in template["survey_spec"]["spec"] for problem in answer_problems(question, given)] == []
    (tmp_path / "cluster.json").write_text(json.dumps({"schema": 1, "cluster_name": "awx", "cluster_id": ID, "versions": {}}))
    kinds = [credential.removeprefix("awx ") for credential in template["credentials"]]
    assert ("aws_image" in kinds) == (name == "image")
    assert ("aws_admin" in kinds) == template["ask_credential_on_launch"] == (name in ("iam", "remove iam"))
    environment = awx.environment() if "controller" in kinds else {}
    # What of the machine's is the host's, and no answer of the survey: AWX has it in the template's own variables, which may hold templates.
    host = {"cluster_state_folder": str(tmp_path)}
    if name == "artifacts":
        given["artifacts_resolve"] = "false"  # would ask the Internet
    done = runner.job(template, inventory, given, [credentials[kind] for kind in kinds if kind in credentials], LAUNCHED[name], environment, host)
    failed = [event["event_data"]["task"] for event in done.named("runner_on_failed", "runner_on_unreachable", "runner_item_on_failed", "error")]
    assert (done.status, failed) == (("failed", [BY]) if name in STOPPED else ("successful", [])), done.output
    assert (f"{MEMORY} MiB" in " ".join(done.output.split())) == (name in STOPPED), done.output
    assert len(done.named("playbook_on_stats")) == 1
    assert [secret for secrets in SECRETS.values() for secret in secrets.values() if secret in done.kept()] == []
    if name != "init":
        assert passed_the_gate(done), "nothing was run"


@pytest.mark.parametrize(("name", "words"), [("iam", ""), ("remove iam", "Unable to locate credentials")])
def test_without_an_administrators_credential_policies_are_written_and_roles_are_not_touched(
    name: str, words: str, runner: Runner, inventory: Inventory, templates: dict[str, dict[str, Any]], credentials: dict[str, Credential], tmp_path: Path
) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps({"schema": 1, "cluster_name": "awx", "cluster_id": ID, "versions": {}}))
    template = {**templates[name], "name": f"awx {name} without"}
    nobody = {"AWS_EC2_METADATA_DISABLED": "true"}
    host = {"cluster_state_folder": str(tmp_path)}
    done = runner.job(template, inventory, answers(template, empty=True), [credentials["secrets"]], [], nobody, host)
    assert done.status == ("failed" if words else "successful"), done.output
    assert words in " ".join(done.output.split())


def passed_the_gate(done: Done) -> bool:
    return any(event["event_data"].get("task_action") == "fpga.hybrid.cluster_gate" for event in done.named("runner_on_ok"))


def test_what_jobs_write_is_where_the_survey_said(declared: dict[str, Any], templates: dict[str, dict[str, Any]]) -> None:
    """Each result has a folder that AWX can show to jobs: a container's own is lost with it."""
    defaults = [str(question.get("default", "")) for template in templates.values() for question in template["survey_spec"]["spec"]]
    assert {Path(result).name for result in defaults if "/results/" in result} == {"fpga-selftest.md", "artifacts.json", "iam", "image", "site"}


def test_awx_takes_every_credential_type_and_survey(declared: dict[str, Any]) -> None:
    for kind in declared["controller_credential_types"]:
        check_inputs(kind["inputs"])
        check_injectors(kind["injectors"], kind["inputs"])
    for item in [*declared["controller_templates"], *declared["controller_workflows"]]:
        if item["survey_enabled"]:
            check_survey(item["survey_spec"])


def test_a_question_that_has_to_be_answered_cannot_be_left_empty(templates: dict[str, dict[str, Any]]) -> None:
    """AWX takes an empty text for an answer to a required question that asks for no length."""
    required = [question for template in templates.values() for question in template["survey_spec"]["spec"] if question["required"]]
    assert {question["variable"] for question in required} >= {"dest", "confirm", "evaluation_image"}
    for question in required:
        assert answer_problems(question, {question["variable"]: ""}) != []
        assert answer_problems(question, {}) == [f"'{question['variable']}' value missing"]


def test_what_is_asked_and_injected_is_what_a_playbook_or_role_knows(declared: dict[str, Any]) -> None:
    specs = [yaml.safe_load(path.read_text())["argument_specs"] for path in (ROOT / "roles").glob("*/meta/argument_specs.yml")]
    known = {option for spec in specs for entry in spec.values() for option in entry.get("options") or {}}
    text = "\n".join(path.read_text() for pattern in ("playbooks/*.yml", "roles/*/tasks/*.yml") for path in ROOT.glob(pattern))
    vault = (ROOT / "roles" / "site_repository" / "templates" / "vault.yml.j2").read_text()
    known |= set(re.findall(r"\{\{ (\w+) \| default\(", text)) | set(re.findall(r"^(\w+):", vault, re.MULTILINE)) | {"ansible_ssh_common_args"}
    asked = {question["variable"] for item in declared["controller_templates"] for question in item["survey_spec"]["spec"]}
    fixed = {name for item in declared["controller_templates"] for name in item["extra_vars"]}
    injected = {name for kind in declared["controller_credential_types"] for name in kind["injectors"].get("extra_vars", {})}
    assert sorted((asked | fixed | injected) - known) == []
