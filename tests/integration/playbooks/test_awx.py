# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`ansible-playbook playbooks/awx.yml` with the real modules of awx.awx, against a double of AWX that refuses what AWX refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.integration.playbooks.awx_double import PASSWORD, Awx, Refused, check_injectors, check_survey
from tests.unit.playbook_site import HASTE
from tests.unit.site import BIN, HOSTS, POOL, ROOT, inventory

PLAYBOOKS = [f"{folder}{path.name}" for path in sorted((ROOT / "playbooks").glob("*.yml")) for folder in ("", "playbooks/")]
SECRETS = {
    "ssh_key_data": "not-a-real-key-6d1f",
    "secret_key": "not-a-real-secret-key-88ac",
    "admin_key": "not-a-real-secret-key-51c0",
    "mirror_password": "not-a-real-password-e0b3",
}
CREDENTIALS = {
    "machine": {"name": "test machine", "inputs": {"username": "admin", "ssh_key_data": SECRETS["ssh_key_data"]}},
    "aws": {"name": "test aws", "inputs": {"access_key": "AKIATEST", "secret_key": SECRETS["secret_key"]}},
    "aws_admin": {"name": "test admin", "inputs": {"access_key": "AKIATESTADMIN", "secret_key": SECRETS["admin_key"]}},
    "secrets": {"name": "test secrets", "inputs": {"mirror_password": SECRETS["mirror_password"]}},
}
GIVEN = {
    "awx_project_url": "https://git.example.org/site.git",
    "awx_image": "registry.example.org/fpga-hybrid:1",
    "awx_credentials": CREDENTIALS,
    "cluster_node_pools": [POOL],
    "cluster_aws_region": "us-east-1",
}
#: A part, for what need not be shown of all: each call of a module takes its time.
SMALL = {"awx_templates": ["pools", "verify"], "awx_credentials": {}}


class Controller:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "site.yml").write_text(json.dumps(inventory(HOSTS)))

    def run(self, awx: Awx | None, *options: str, **variables: object) -> subprocess.CompletedProcess[str]:
        (self.folder / "vars.json").write_text(json.dumps({**GIVEN, **variables}))
        own = {"ANSIBLE_NOCOLOR": "1", "PWD": str(self.folder), **HASTE, **(awx.environment() if awx else {})}
        environment = {**{name: value for name, value in os.environ.items() if not name.startswith("CONTROLLER_")}, **own}
        command = [str(BIN / "ansible-playbook"), "-i", str(self.folder / "site.yml"), "-e", f"@{self.folder / 'vars.json'}", "playbooks/awx.yml", *options]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    def does(self, awx: Awx | None, *options: str, **variables: object) -> str:
        done = self.run(awx, *options, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def refuses(self, awx: Awx | None, **variables: object) -> str:
        done = self.run(awx, **variables)
        assert done.returncode == 2, done.stdout + done.stderr
        assert awx is None or awx.writes == []
        return " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def changes(output: str) -> int:
    (found,) = re.findall(r"changed=(\d+)", output)
    return int(found)


@pytest.mark.slow
def test_it_makes_everything_and_a_second_run_changes_nothing(controller):
    with Awx(PLAYBOOKS) as awx:
        controller.does(awx)
        templates, workflows = awx.named("job_templates"), awx.named("workflow_job_templates")
        stubs = {path.name for path in (ROOT / "playbooks").glob("*.yml")} - {"init.yml"}  # which a site's own repository has no use for
        assert {template["playbook"] for template in templates.values()} == stubs
        assert awx.steps("test build") == {"preflight": ["site"], "site": ["pools"], "pools": ["verify"], "verify": []}
        assert awx.steps("test day 2") == {"preflight": ["site"], "site": ["verify"], "verify": ["cloud audit"], "cloud audit": []}
        approved = {name.removesuffix(" with approval") for name in workflows if name.endswith(" with approval")}
        assert approved == {"test flash cards", "test purge pools", "test remove pools", "test remove iam", "test reset"}
        for name in approved:
            assert awx.steps(f"{name} with approval") == {"approval": [name.removeprefix("test ")], name.removeprefix("test "): []}
            assert awx.surveys["workflow_job_templates", workflows[f"{name} with approval"]["id"]] == awx.surveys["job_templates", templates[name]["id"]]
        assert not any(item["allow_simultaneous"] for item in [*templates.values(), *workflows.values()])
        assert set(awx.named("workflow_approval_templates")) == {f"{name} approval" for name in approved}
        assert awx.named("credentials")["test aws"]["inputs"]["secret_key"] == SECRETS["secret_key"]

        awx.writes.clear()
        again = controller.does(awx)
        assert changes(again) == 0
        project = awx.named("projects")["test project"]["id"]
        assert awx.writes == [f"POST /api/v2/projects/{project}/update/"]  # synchronised, lest a playbook be unknown
        assert [secret for secret in (*SECRETS.values(), PASSWORD) if secret in again] == []


@pytest.mark.slow
def test_an_administrators_key_is_at_the_templates_of_roles_only_as_long_as_it_is_declared(controller):
    """Also where an earlier version has given them the pools': AWX takes no two credentials of a type."""

    def attached(awx: Awx) -> list[str]:
        names = {credential["id"]: credential["name"] for credential in awx.named("credentials").values()}
        return [names[member] for member in awx.lists.get(("job_templates", awx.named("job_templates")["test iam"]["id"], "credentials"), [])]

    given = {"awx_templates": ["iam"], "awx_credentials": {kind: CREDENTIALS[kind] for kind in ("aws", "aws_admin")}}
    with Awx(PLAYBOOKS) as awx:
        controller.does(awx, **given)
        template = awx.named("job_templates")["test iam"]
        assert (attached(awx), template["ask_credential_on_launch"]) == (["test admin"], True)
        awx.lists["job_templates", template["id"], "credentials"] = [awx.named("credentials")["test aws"]["id"]]
        controller.does(awx, **given)
        assert attached(awx) == ["test admin"]
        controller.does(awx, **{**given, "awx_credentials": {"aws": CREDENTIALS["aws"]}})
        assert attached(awx) == []


@pytest.mark.slow
def test_check_mode_changes_nothing_and_foresees_what_a_run_does(controller):
    """First where nothing is there, then where the declaration has lost its pools, so that a step of a workflow has to go."""
    with Awx(PLAYBOOKS) as awx:
        fresh = controller.does(awx, "--check", **SMALL)
        assert awx.writes == []
        assert "changed: [localhost] => (item=test pools)" in fresh

        controller.does(awx, **SMALL)
        assert awx.steps("test build") == {"pools": ["verify"], "verify": []}

        awx.writes.clear()
        foreseen = controller.does(awx, "--check", cluster_node_pools=[], **SMALL)
        assert awx.writes == []
        assert re.findall(r"changed: \[localhost\] => \(item=(.*)\)", foreseen) == ["test build, pools"]

        controller.does(awx, cluster_node_pools=[], **SMALL)
        assert awx.steps("test build") == {"verify": []}


@pytest.mark.parametrize(
    ("awx_is", "variables", "words"),
    [
        ({"version": "21.14.0"}, {}, "is AWX 21.14.0; expected AWX 24.0.0 or newer"),
        ({}, {"awx_make_organization": False, "awx_organization": "Research"}, "There is no organization Research in http://"),
        ({}, {"awx_project_url": ""}, "awx_project_url: nothing; expected the address of a git repository"),
        ({}, {"awx_host": "http://127.0.0.1:1"}, "http://127.0.0.1:1 does not answer as AWX does"),
        (None, {}, "Found no CONTROLLER_HOST; expected the URL of AWX"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence_and_nothing_made(awx_is, variables, words, controller):
    if awx_is is None:
        assert words in controller.refuses(None, **variables)
        return
    with Awx(PLAYBOOKS, **awx_is) as awx:
        assert words in controller.refuses(awx, **variables)


@pytest.mark.parametrize(
    ("injectors", "words"),
    [
        ({"env": {"ANSIBLE_FOO": "{{ key }}"}}, "Environment variable ANSIBLE_FOO may affect Ansible configuration"),
        ({"extra_vars": {"x": "{{ nope }}"}}, "x uses an undefined field ('nope' is undefined)"),
        ({"env": {"X": "{{ tower.filename }}"}}, "Must define unnamed file injector"),
    ],
)
def test_the_double_refuses_injectors_in_awxs_words(injectors, words):
    """As recorded from AWX itself (controller-rejected.yml of the trials)."""
    with pytest.raises(Refused, match=re.escape(words)):
        check_injectors(injectors, {"fields": [{"id": "key", "label": "Key"}]})


def test_the_double_refuses_surveys_in_awxs_words():
    question = {"question_name": "q", "variable": "v", "type": "interger", "required": True}
    with pytest.raises(Refused, match="'interger' in survey question 0 is not one of"):
        check_survey({"name": "", "description": "", "spec": [question]})
