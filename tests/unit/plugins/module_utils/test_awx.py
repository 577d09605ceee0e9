# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ansible_collections.fpga.hybrid.plugins.module_utils._awx import Catalogue, Settings, called, exported, objects, problems

ROOT = Path(__file__).resolve().parents[4]


class Loader(yaml.SafeLoader):
    """With Ansible's tag for what is no template."""


Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))
ROLE = yaml.load((ROOT / "roles" / "awx" / "vars" / "main.yml").read_text(), Loader)
CATALOGUE = Catalogue(ROLE["__awx_credential_types"], ROLE["__awx_job_templates"], ROLE["__awx_workflows"])
SETTINGS = Settings(
    prefix="lab",
    organization="fpga-hybrid",
    make_organization=True,
    galaxy_credentials=["Ansible Galaxy"],
    project_kind="site",
    project_url="https://git.example.org/site.git",
    project_branch="",
    project_credential="",
    inventory_file="",
    image="registry.example.org/ee:1",
    image_pull="missing",
    image_credential="",
    credentials={},
    templates=[],
    results_folder="/srv/fpga-hybrid",
    approval_timeout=0,
    pools=True,
)


def steps(made, workflow):
    (found,) = [item for item in made["workflows"] if item["name"] == workflow]
    return {node["identifier"]: node.get("state") or [step["identifier"] for step in node["related"]["success_nodes"]] for node in found["workflow_nodes"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"project_url": ""}, "awx_project_url: nothing; expected the address of a git repository"),
        ({"image": ""}, "awx_image: nothing; expected the name of an execution environment's image"),
        (
            {"credentials": {"azure": {"name": "x"}}},
            "awx_credentials: azure; expected kinds out of machine, vault, controller, scm, aws, vpn, secrets, aws_image, aws_admin",
        ),
        ({"credentials": {"aws": {"inputs": {}}}}, "awx_credentials.aws: no name; expected the name of a credential"),
        ({"templates": ["sites"]}, "awx_templates: sites; expected names out of preflight, site"),
    ],
)
def test_what_is_missing_or_unknown_is_said(change, words):
    (problem,) = problems(CATALOGUE, replace(SETTINGS, **change))
    assert words in str(problem)
    assert problems(CATALOGUE, SETTINGS) == []


@pytest.mark.parametrize(
    ("kind", "source", "site", "has_init"),
    [("site", "inventory/cluster.hybrid.yml", "site.yml", False), ("collection", "cluster.hybrid.yml", "playbooks/site.yml", True)],
)
def test_playbooks_and_inventory_are_where_the_kind_of_repository_has_them(kind, source, site, has_init):
    made = objects(CATALOGUE, replace(SETTINGS, project_kind=kind))
    templates = {template["name"]: template for template in made["templates"]}
    assert made["inventory_sources"][0]["source_path"] == source
    assert templates["lab site"]["playbook"] == site
    assert ("lab init" in templates) is has_init


def test_a_cluster_without_pools_builds_without_them_and_loses_the_steps():
    made = objects(CATALOGUE, replace(SETTINGS, pools=False))
    assert steps(made, "lab build") == {"preflight": ["site"], "site": ["verify"], "verify": [], "pools": "absent"}
    assert [removal["identifier"] for removal in called(made)["removals"]] == ["pools", "cloud audit"]
    assert steps(objects(CATALOGUE, SETTINGS), "lab build") == {"preflight": ["site"], "site": ["pools"], "pools": ["verify"], "verify": []}


def test_what_takes_something_away_waits_for_an_approval_and_gets_the_answers():
    made = objects(CATALOGUE, SETTINGS)
    templates = {template["name"]: template for template in made["templates"]}
    approved = [workflow for workflow in made["workflows"] if workflow["name"].endswith("with approval")]
    removing = {name for name, template in templates.items() if template["extra_vars"].get("state") == "absent" or template["playbook"] == "reset.yml"}
    assert removing <= {workflow["name"].removesuffix(" with approval") for workflow in approved}
    for workflow in approved:
        name = workflow["name"].removesuffix(" with approval")
        assert steps(made, workflow["name"]) == {"approval": [name.removeprefix("lab ")], name.removeprefix("lab "): []}
        assert workflow["survey_spec"] == templates[name]["survey_spec"]
        assert workflow["ask_limit_on_launch"] == templates[name]["ask_limit_on_launch"], "a part of the cluster was meant, and all of it would go"


@pytest.mark.parametrize(
    ("given", "image"), [(["aws"], ["test-aws"]), (["aws", "aws_image"], ["test-aws_image"]), (["aws_image"], ["test-aws_image"]), ([], [])]
)
def test_images_are_made_with_a_key_of_their_own_or_with_the_pools(given, image):
    """One of AWS' credentials only: AWX takes no two of a type."""
    credentials = {kind: {"name": f"test-{kind}", "inputs": {"access_key": "A"}} for kind in given}
    made = objects(CATALOGUE, replace(SETTINGS, credentials=credentials))
    templates = {template["name"]: template["credentials"] for template in made["templates"]}
    assert templates[SETTINGS.name("image")] == image
    assert templates[SETTINGS.name("pools")] == [f"test-{kind}" for kind in given if kind == "aws"]
    assert {credential["credential_type"] for credential in made["credentials"]} <= {"fpga.hybrid AWS"}


@pytest.mark.parametrize("given", [[], ["aws"], ["aws", "aws_image"], ["aws", "aws_admin"], ["aws_admin"]])
def test_roles_are_made_with_an_administrators_key_and_never_with_that_of_the_pools_which_may_not(given):
    """Nor is an administrator's key with any other template. Where none is given, whoever launches gives one, and it stays nowhere."""
    credentials = {kind: {"name": f"test-{kind}", "inputs": {"access_key": "A"}} for kind in given}
    made = objects(CATALOGUE, replace(SETTINGS, credentials=credentials))
    has = {template["name"] for template in made["templates"] if "test-aws_admin" in template["credentials"]}
    templates = {template["name"]: template for template in made["templates"]}
    own = {SETTINGS.name("iam"), SETTINGS.name("remove iam")}
    assert has == (own if "aws_admin" in given else set())
    assert {credential for name in own for credential in templates[name]["credentials"]} == {f"test-{kind}" for kind in given if kind == "aws_admin"}
    assert {name for name, template in templates.items() if template["ask_credential_on_launch"]} == own
    assert {credential["credential_type"] for credential in made["credentials"]} <= {"fpga.hybrid AWS"}


def test_a_template_gets_those_of_its_credentials_that_there_are():
    made = objects(CATALOGUE, replace(SETTINGS, credentials={"aws": {"name": "keys", "inputs": {"access_key": "A"}}, "machine": {"name": "ssh"}}))
    templates = {template["name"]: template["credentials"] for template in made["templates"]}
    assert (templates["lab site"], templates["lab pools"], templates["lab artifacts"]) == (["ssh"], ["ssh", "keys"], [])
    assert [credential["name"] for credential in made["credentials"]] == ["keys"], "one without inputs is there already"
    assert made["inventory_sources"][0]["credential"] == "keys"


def test_what_is_exported_has_no_secret_and_no_template_of_ansibles():
    written = str(exported(objects(CATALOGUE, replace(SETTINGS, credentials={"aws": {"name": "keys", "inputs": {"secret_key": "hush"}}}))))
    assert "hush" not in written
    assert "{{" not in written
    assert "{  { tower.filename }}" in written


def test_every_playbook_has_a_template():
    playbooks = {path.name for path in (ROOT / "playbooks").glob("*.yml")}
    assert {f"{template['playbook']}.yml" for template in CATALOGUE.templates.values()} == playbooks
