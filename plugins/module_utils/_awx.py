# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects that AWX gets for a cluster, out of role awx's catalogue and variables. Pure.

Each object is what a module of awx.awx takes, and what infra.aap_configuration has in its variables. References are by name, as there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

#: Kinds of credentials whose types AWX brings (awx/main/models/credential).
BUILT_IN_TYPES = {"machine": "Machine", "vault": "Vault", "controller": "Red Hat Ansible Automation Platform", "scm": "Source Control"}
#: A kind of the same type as another, with other rights -> that other one.
SAME_TYPE = {"aws_image": "aws", "aws_admin": "aws"}
#: Those of them for which the other one does where they are not given. Not for an administrator's: the pools' may make no roles.
INSTEAD = {"aws_image": "aws"}
#: Where a project of each kind has its playbooks and its inventory file. The root's is the one beside which AWX finds collections/.
PLAYBOOK_FOLDERS = {"site": "", "collection": "playbooks/"}
INVENTORY_FILES = {"site": "inventory/cluster.hybrid.yml", "collection": "cluster.hybrid.yml"}
#: The longest answer that a text question takes.
LONGEST_ANSWER = 1024

Item = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Role awx's variables, without the prefix. prefix begins the name of every object that is the cluster's own."""

    prefix: str
    organization: str
    make_organization: bool
    galaxy_credentials: list[str]
    project_kind: str
    project_url: str
    project_branch: str
    project_credential: str
    inventory_file: str
    image: str
    image_pull: str
    image_credential: str
    credentials: Mapping[str, Mapping[str, Any]]
    templates: list[str]
    results_folder: str
    approval_timeout: int
    pools: bool

    def name(self, what: str) -> str:
        return f"{self.prefix} {what}"


@dataclass(frozen=True)
class Catalogue:
    """What stands in the role's vars: credential types by kind, job templates and workflows by what follows the prefix in their names."""

    credential_types: Mapping[str, Mapping[str, Any]]
    templates: Mapping[str, Mapping[str, Any]]
    workflows: Mapping[str, Mapping[str, Any]]

    def type_name(self, kind: str) -> str:
        return BUILT_IN_TYPES.get(kind) or str(self.credential_types[SAME_TYPE.get(kind, kind)]["name"])


def problems(catalogue: Catalogue, settings: Settings) -> list[Problem]:
    found = [
        Problem("", f"awx_{name}", "nothing", expected, remedy)
        for name, expected, remedy in (
            (
                "project_url",
                "the address of a git repository",
                "Playbook init makes a repository of the site's own.",
            ),
            ("image", "the name of an execution environment's image", "docs/awx.md builds one."),
        )
        if not getattr(settings, name)
    ]
    known = [*BUILT_IN_TYPES, *catalogue.credential_types, *SAME_TYPE]
    for kind, credential in settings.credentials.items():
        if kind not in known:
            found.append(Problem("", "awx_credentials", f"{kind}", f"kinds out of {', '.join(known)}", "Mend its name."))
        elif not credential.get("name"):
            found.append(Problem("", f"awx_credentials.{kind}", "no name", "the name of a credential", "Give it one."))
    if unknown := sorted(set(settings.templates) - set(catalogue.templates)):
        found.append(Problem("", "awx_templates", ", ".join(unknown), f"names out of {', '.join(catalogue.templates)}", "Mend it; empty means all."))
    return found


def objects(catalogue: Catalogue, settings: Settings) -> dict[str, list[Item]]:
    """Lists of objects by kind, each after what it refers to."""
    organization = settings.organization
    names = [name for name in catalogue.templates if is_made(name, catalogue.templates[name], settings)]
    workflows = [*_chains(catalogue, settings, names), *_approvals(catalogue, settings, names)]
    own = {"image": settings.name("execution environment"), "project": settings.name("project"), "inventory": settings.prefix}
    given = {kind: credential["name"] for kind, credential in settings.credentials.items()}
    credentials = {**{kind: given[other] for kind, other in INSTEAD.items() if other in given}, **given}
    return {
        "organizations": [{"name": organization, "galaxy_credentials": settings.galaxy_credentials}] if settings.make_organization else [],
        "credential_types": [dict(kind) for kind in catalogue.credential_types.values()],
        "credentials": [
            {"kind": kind, "name": credential["name"], "organization": organization, "credential_type": catalogue.type_name(kind)}
            for kind, credential in settings.credentials.items()
            if credential.get("inputs")
        ],
        "execution_environments": [
            _given(name=own["image"], image=settings.image, pull=settings.image_pull, organization=organization, credential=settings.image_credential)
        ],
        "projects": [
            _given(
                name=own["project"],
                organization=organization,
                scm_type="git",
                scm_url=settings.project_url,
                scm_branch=settings.project_branch,
                credential=settings.project_credential or credentials.get("scm", ""),
                scm_update_on_launch=True,
                default_environment=own["image"],
            )
        ],
        "inventories": [{"name": own["inventory"], "organization": organization}],
        "inventory_sources": [
            _given(
                name=settings.name("hosts"),
                inventory=own["inventory"],
                organization=organization,
                source="scm",
                source_project=own["project"],
                source_path=settings.inventory_file or INVENTORY_FILES[settings.project_kind],
                credential=credentials.get("aws", ""),
                execution_environment=own["image"],
                overwrite=True,
                overwrite_vars=True,
                update_on_launch=True,
            )
        ],
        "templates": [_template(name, catalogue.templates[name], settings, own, credentials) for name in names],
        "workflows": workflows,
    }


def is_made(name: str, template: Mapping[str, Any], settings: Settings) -> bool:
    """A site's repository has no playbook that makes one."""
    return (not settings.templates or name in settings.templates) and settings.project_kind in template.get("projects", PLAYBOOK_FOLDERS)


def _given(**fields: Any) -> Item:
    return {name: value for name, value in fields.items() if value != ""}


def _template(name: str, template: Mapping[str, Any], settings: Settings, names: Mapping[str, str], credentials: Mapping[str, str]) -> Item:
    prompts = template.get("prompts", [])
    return {
        "name": settings.name(name),
        "description": template["description"],
        "organization": settings.organization,
        "job_type": "run",
        "inventory": names["inventory"],
        "project": names["project"],
        "playbook": f"{PLAYBOOK_FOLDERS[settings.project_kind]}{template['playbook']}.yml",
        "execution_environment": names["image"],
        "credentials": [credentials[kind] for kind in template.get("credentials", []) if kind in credentials],
        "extra_vars": dict(template.get("extra_vars", {})),
        "ask_limit_on_launch": "limit" in prompts,
        "ask_job_type_on_launch": "check" in prompts,
        "ask_credential_on_launch": "credential" in prompts,
        "allow_simultaneous": False,
        "use_fact_cache": False,
        "survey_enabled": True,
        "survey_spec": survey(template["survey"], settings.results_folder),
    }


def survey(questions: Iterable[Mapping[str, Any]], results_folder: str) -> Item:
    """A survey as AWX stores it, so that what was sent compares equal with what is there."""
    return {"name": "", "description": "", "spec": [_question(question, results_folder) for question in questions]}


def _question(question: Mapping[str, Any], results_folder: str) -> Item:
    kind, required = question["type"], bool(question.get("required", False))
    asked: Item = {
        "question_name": question["question"],
        "question_description": question.get("help", ""),
        "variable": question["variable"],
        "type": kind,
        "required": required,
    }
    if kind in ("multiplechoice", "multiselect"):
        asked["choices"] = "\n".join(question["choices"])
    elif kind in ("text", "textarea", "password"):
        # AWX takes an empty text for an answer, unless it has to have a length.
        asked |= {"min": 1 if required else 0, "max": LONGEST_ANSWER}
    else:
        asked |= {limit: question[limit] for limit in ("min", "max")}
    if "result" in question:
        asked["default"] = f"{results_folder}/{question['result']}"
    elif "default" in question:
        default = question["default"]
        asked["default"] = "\n".join(default) if isinstance(default, list) else default
    return asked


def _job_node(identifier: str, settings: Settings, after: Iterable[str] = ()) -> Item:
    template = {"name": settings.name(identifier), "type": "job_template", "organization": {"name": settings.organization}}
    return {"identifier": identifier, "unified_job_template": template, "related": {"success_nodes": [{"identifier": name} for name in after]}}


def _workflow(name: str, description: str, settings: Settings, nodes: list[Item], **more: Any) -> Item:
    fields = {"name": settings.name(name), "description": description, "organization": settings.organization, "inventory": settings.prefix}
    return {**fields, "allow_simultaneous": False, "survey_enabled": False, **more, "workflow_nodes": nodes}


def _chains(catalogue: Catalogue, settings: Settings, names: list[str]) -> list[Item]:
    """One job after the other, as long as each succeeds. What this cluster has no use for is left out, and taken out where it was."""
    workflows = []
    for name, workflow in catalogue.workflows.items():
        wanted = [step for step in workflow["steps"] if step in names and (settings.pools or step not in workflow.get("pools", []))]
        nodes = [_job_node(step, settings, [follower]) for step, follower in zip(wanted, wanted[1:], strict=False)]
        nodes += [_job_node(step, settings) for step in wanted[-1:]]
        nodes += [{"identifier": step, "unified_job_template": None, "state": "absent"} for step in workflow["steps"] if step not in wanted]
        if wanted:
            workflows.append(_workflow(name, workflow["description"], settings, nodes))
    return workflows


def _approvals(catalogue: Catalogue, settings: Settings, names: list[str]) -> list[Item]:
    """For each template that destroys something, the workflow by which it is to be started: somebody approves, then it runs with the answers given."""
    workflows = []
    for name in names:
        template = catalogue.templates[name]
        if "approval" not in template:
            continue
        asked = {"description": template["approval"], "timeout": settings.approval_timeout}
        approval = {"name": settings.name(f"{name} approval"), "type": "workflow_approval", **asked}
        follower = {"success_nodes": [{"identifier": name}]}
        nodes = [{"identifier": "approval", "unified_job_template": approval, "related": follower}, _job_node(name, settings)]
        questions = survey(template["survey"], settings.results_folder)
        prompts = {"survey_enabled": True, "survey_spec": questions, "ask_limit_on_launch": "limit" in template.get("prompts", [])}
        workflows.append(_workflow(f"{name} with approval", template["description"], settings, nodes, **prompts))
    return workflows


def _called(workflow: Mapping[str, Any]) -> Item:
    """A workflow for awx.awx.workflow_job_template, which says of an approval that it changed whenever it sees one: the step is made empty, and filled later.

    Steps to be taken out are left to awx.awx.workflow_job_template_node too, since it ends where it has removed one, before it joins the others.
    """
    empty = {"name": None, "type": "job_template"}
    present = [node for node in workflow["workflow_nodes"] if node.get("state") != "absent"]
    nodes = [{**node, "unified_job_template": empty} if is_approval(node) else node for node in present]
    return {**workflow, "workflow_nodes": nodes}


def is_approval(node: Mapping[str, Any]) -> bool:
    return bool(node["unified_job_template"]) and node["unified_job_template"]["type"] == "workflow_approval"


def _approval_calls(workflow: Mapping[str, Any]) -> list[Item]:
    where = {"workflow": workflow["name"], "organization": workflow["organization"]}
    details = ("name", "description", "timeout")
    return [
        {**where, "identifier": node["identifier"], "approval": {name: node["unified_job_template"][name] for name in details}}
        for node in workflow["workflow_nodes"]
        if is_approval(node)
    ]


def _removals(workflow: Mapping[str, Any]) -> list[Item]:
    where = {"workflow": workflow["name"], "organization": workflow["organization"]}
    return [{**where, "identifier": node["identifier"]} for node in workflow["workflow_nodes"] if node.get("state") == "absent"]


def called(made: Mapping[str, list[Item]]) -> dict[str, list[Item]]:
    """The same objects as arguments of the modules of awx.awx, each module being asked what it can do."""
    workflows = made["workflows"]
    return {
        **made,
        "workflows": [_called(workflow) for workflow in workflows],
        "approvals": [call for workflow in workflows for call in _approval_calls(workflow)],
        "removals": [call for workflow in workflows for call in _removals(workflow)],
    }


def exported(made: Mapping[str, list[Item]]) -> dict[str, list[Item]]:
    """The same objects as variables of infra.aap_configuration. Credentials without their inputs, which belong into no file."""
    credentials = [{name: value for name, value in credential.items() if name != "kind"} for credential in made["credentials"]]
    types = [{**kind, "injectors": _harmless(kind["injectors"])} for kind in made["credential_types"]]
    return {f"controller_{name}": items for name, items in {**made, "credentials": credentials, "credential_types": types}.items()}


def _harmless(value: Any) -> Any:
    """Templates that are AWX's to render: infra.aap_configuration has them written with blanks between the braces, and takes those out."""
    if isinstance(value, Mapping):
        return {name: _harmless(inner) for name, inner in value.items()}
    return value.replace("{{", "{  {") if isinstance(value, str) else value
