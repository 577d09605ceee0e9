# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of AWX's API, as much of it as makes and lists what role awx makes. Runs no job.

It refuses what AWX refuses, in AWX's words (awx/main/fields.py, awx/api/serializers.py and awx/api/views of 24.6.1): required fields, names that are taken,
references to nothing, credential types, surveys, playbooks that the project does not have, two credentials of one type. What is no field of an object it
ignores, as AWX does. It answers with secrets in no place.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

USER, PASSWORD, TOKEN = "admin", "double-password-of-admin", "double-token"
ENCRYPTED = "$encrypted$"
VARIABLE = re.compile(r"[a-zA-Z_]+[a-zA-Z0-9_]*")
FIELD_KEYS = {"type", "format", "choices", "id", "label", "help_text", "multiline", "secret", "ask_at_runtime", "default"}
SURVEY_TYPES = {"text": str, "textarea": str, "password": str, "multiplechoice": str, "multiselect": str, "integer": int, "float": (float, int)}
#: What AWX lets no credential set, beside ANSIBLE_* (awx/main/constants.py).
ENV_BLOCKLIST = {"VIRTUAL_ENV", "PATH", "PYTHONPATH", "JOB_ID", "INVENTORY_ID", "INVENTORY_SOURCE_ID", "INVENTORY_UPDATE_ID", "AD_HOC_COMMAND_ID"}
KINDS_OF_JOBS = ("ssh", "vault", "cloud", "net", "kubernetes")


class Refused(Exception):
    """400, with AWX's body."""


@dataclass(frozen=True)
class Resource:
    """required: fields that must be given and not be blank. unique: fields that together are taken once. defaults: the others. references: to what."""

    required: tuple[str, ...]
    unique: tuple[str, ...]
    defaults: dict[str, Any]
    references: dict[str, str] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)


PROMPTS = {f"ask_{name}_on_launch": False for name in ("limit", "job_type", "variables", "inventory", "credential", "tags", "scm_branch")}
SURVEYED = {"survey_enabled": False, "allow_simultaneous": False, "extra_vars": "", "limit": "", **PROMPTS}
OWNER = {"organization": "organizations"}
NODES = {f"{when}_nodes": "workflow_job_template_nodes" for when in ("success", "failure", "always")}
API = {
    "organizations": Resource(("name",), ("name",), {"description": ""}, lists={"galaxy_credentials": "credentials"}),
    "credential_types": Resource(("name", "kind"), ("name", "kind"), {"description": "", "inputs": {}, "injectors": {}, "managed": False}),
    "credentials": Resource(
        ("name", "credential_type"),
        ("organization", "name", "credential_type"),
        {"description": "", "inputs": {}, "organization": None},
        {"credential_type": "credential_types", **OWNER},
    ),
    "execution_environments": Resource(
        ("name", "image"),
        ("name",),
        {"description": "", "pull": "", "organization": None, "credential": None},
        {**OWNER, "credential": "credentials"},
    ),
    "projects": Resource(
        ("name", "organization"),
        ("organization", "name"),
        {
            **dict.fromkeys(("description", "scm_type", "scm_url", "scm_branch"), ""),
            "credential": None,
            "scm_update_on_launch": False,
            "default_environment": None,
            "allow_override": False,
            "timeout": 0,
        },
        {"credential": "credentials", "default_environment": "execution_environments", **OWNER},
    ),
    "inventories": Resource(("name", "organization"), ("organization", "name"), {"description": "", "kind": "", "host_filter": None, "variables": ""}, OWNER),
    "inventory_sources": Resource(
        ("name", "inventory"),
        ("inventory", "name"),
        {
            **dict.fromkeys(("description", "source", "source_path", "source_vars"), ""),
            **dict.fromkeys(("overwrite", "overwrite_vars", "update_on_launch"), False),
            **dict.fromkeys(("credential", "execution_environment", "source_project")),
        },
        {"inventory": "inventories", "source_project": "projects", "credential": "credentials", "execution_environment": "execution_environments"},
    ),
    "job_templates": Resource(
        ("name", "playbook", "project"),
        ("organization", "name"),
        {"description": "", "job_type": "run", "inventory": None, "execution_environment": None, "use_fact_cache": False, **SURVEYED},
        {"inventory": "inventories", "project": "projects", "execution_environment": "execution_environments"},
        {"credentials": "credentials"},
    ),
    "workflow_job_templates": Resource(
        ("name",), ("organization", "name"), {"description": "", "inventory": None, "organization": None, **SURVEYED}, {"inventory": "inventories", **OWNER}
    ),
    "workflow_job_template_nodes": Resource(
        ("workflow_job_template",),
        ("workflow_job_template", "identifier"),
        {"identifier": "", "unified_job_template": None, "limit": None, "extra_data": {}},
        {"workflow_job_template": "workflow_job_templates", "unified_job_template": "unified_job_templates"},
        NODES,
    ),
    "workflow_approval_templates": Resource(("name",), (), {"description": "", "timeout": 0}),
}
TYPES = {name: name.removesuffix("s") for name in API} | {"inventories": "inventory"}


class Awx:
    """with Awx(playbooks=[...]) as awx: awx.url; awx.named("job_templates"); awx.writes"""

    def __init__(self, playbooks: list[str], version: str = "24.6.1") -> None:
        self.playbooks, self.version = playbooks, version
        self.objects: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in API}
        self.lists: dict[tuple[str, int, str], list[int]] = {}
        self.surveys: dict[tuple[str, int], dict[str, Any]] = {}
        #: Every request that changed something, or would have: method and path.
        self.writes: list[str] = []
        #: Projects whose first synchronisation nobody has waited for.
        self._updating: set[int] = set()
        self._last_id = 0
        self._lock = threading.Lock()
        self._preload()

    def _preload(self) -> None:
        """What a new AWX brings (awx-manage create_preload_data)."""
        self._store("organizations", {"name": "Default"})
        for name, kind, secrets in (
            ("Machine", "ssh", ["password", "ssh_key_data", "become_password"]),
            ("Vault", "vault", ["vault_password"]),
            ("Source Control", "scm", ["password", "ssh_key_data"]),
            ("Red Hat Ansible Automation Platform", "cloud", ["password", "oauth_token"]),
            ("Ansible Galaxy/Automation Hub API Token", "galaxy", ["token"]),
        ):
            plain = [{"id": name, "type": "string", "label": name} for name in ("username", "host", "url", "vault_id")]
            hidden = [{"id": name, "type": "string", "label": name, "secret": True} for name in secrets]
            made = self._store("credential_types", {"name": name, "kind": kind, "managed": True, "inputs": {"fields": plain + hidden}})
        self._store("credentials", {"name": "Ansible Galaxy", "credential_type": made["id"], "inputs": {"url": "https://galaxy.ansible.com/"}})

    # --- what a test asks

    def __enter__(self) -> Awx:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"awx": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        return {"CONTROLLER_HOST": self.url, "CONTROLLER_USERNAME": USER, "CONTROLLER_PASSWORD": PASSWORD, "no_proxy": "127.0.0.1"}

    def named(self, resource: str) -> dict[str, dict[str, Any]]:
        return {item["name"]: item for item in self.objects[resource].values()}

    def steps(self, workflow: str) -> dict[str, list[str]]:
        """The steps of a workflow by identifier, and which follow when each succeeds."""
        workflow_id = self.named("workflow_job_templates")[workflow]["id"]
        nodes = {key: node for key, node in self.objects["workflow_job_template_nodes"].items() if node["workflow_job_template"] == workflow_id}
        follow = {key: self.lists.get(("workflow_job_template_nodes", key, "success_nodes"), []) for key in nodes}
        return {node["identifier"]: [nodes[follower]["identifier"] for follower in follow[key]] for key, node in nodes.items()}

    # --- the API

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        with self._lock:
            parts = path.removeprefix("/api/v2/").strip("/").split("/")
            if parts == ["ping"]:
                return 200, {"version": self.version, "ha": False, "active_node": "double"}
            if parts[0] == "tokens":
                return (201, {"id": 1, "token": TOKEN}) if method == "POST" else (204, None)
            if method != "GET":
                self.writes.append(f"{method} {path}")
            try:
                return self._route(method, parts, query, body)
            except Refused as refused:
                return 400, refused.args[0]
            except KeyError:
                return 404, {"detail": "Not found."}

    def _route(self, method: str, parts: list[str], query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        resource = parts[0]
        if resource == "project_updates":
            self._updating.discard(int(parts[1]))
            done = {"status": "successful", "finished": "now", "failed": False, "event_processing_finished": True}
            return 200, {"id": int(parts[1]), "scm_revision": "1", **done}
        if resource == "unified_job_templates":
            found = [self._show(name, item) for name in ("job_templates", "projects", "inventory_sources") for item in self.objects[name].values()]
            return 200, self._page([item for item in found if self._matches(item, query)])
        if len(parts) == 1:
            if method == "POST":
                return 201, self._show(resource, self._create(resource, body))
            shown = [self._show(resource, item) for item in self.objects[resource].values()]
            return 200, self._page([item for item in shown if self._matches(item, query)])
        key = int(parts[1])
        item = self.objects[resource][key]
        if len(parts) == 2:
            return self._one(method, resource, item, body)
        return self._below(method, resource, item, parts[2], body)

    def _one(self, method: str, resource: str, item: dict[str, Any], body: dict[str, Any]) -> tuple[int, Any]:
        if method == "DELETE":
            del self.objects[resource][item["id"]]
            for members in self.lists.values():
                members[:] = [member for member in members if member != item["id"]]
            return 204, None
        if method == "PATCH":
            changed = {**item, **self._fields(resource, body, item)}
            self._check(resource, changed, item)
            item.update(changed)
        return 200, self._show(resource, item)

    def _below(self, method: str, resource: str, item: dict[str, Any], what: str, body: dict[str, Any]) -> tuple[int, Any]:
        key = item["id"]
        if what == "survey_spec":
            if method == "POST":
                check_survey(body)
                self.surveys[resource, key] = body
                return 200, {}
            return 200, self.surveys.get((resource, key), {})
        if what == "update" and resource == "projects":
            return 202, {"id": key, "url": f"/api/v2/project_updates/{key}/"}
        if what == "create_approval_template" and resource == "workflow_job_template_nodes":
            approval = self._create("workflow_approval_templates", body)
            item["unified_job_template"] = approval["id"]
            return 201, self._show("workflow_approval_templates", approval)
        members = self.lists.setdefault((resource, key, what), [])
        target = API[resource].lists[what]
        if method == "GET":
            return 200, self._page([self._show(target, self.objects[target][member]) for member in members])
        if body.get("disassociate"):
            members.remove(body["id"])
        else:
            self._check_member(resource, what, members, self.objects[target][body["id"]])
            members.append(body["id"])
        return 204, None

    # --- the rules

    def _create(self, resource: str, body: dict[str, Any]) -> dict[str, Any]:
        fields = {**API[resource].defaults, **self._fields(resource, body, {})}
        if missing := {name: ["This field is required."] for name in API[resource].required if fields.get(name) is None}:
            raise Refused(missing)
        self._check(resource, fields, {})
        return self._store(resource, fields)

    def _store(self, resource: str, fields: dict[str, Any]) -> dict[str, Any]:
        self._last_id += 1
        item = {**API[resource].defaults, **fields, "id": self._last_id}
        self.objects[resource][self._last_id] = item
        if resource == "projects":
            self._updating.add(self._last_id)
        return item

    def _fields(self, resource: str, body: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        known = {*API[resource].required, *API[resource].defaults}
        fields = {name: value for name, value in body.items() if name in known}
        if resource == "job_templates" and (project := fields.get("project", before.get("project"))):
            fields["organization"] = self._find("projects", project, "project")["organization"]  # read-only: the project's
        if resource == "credentials" and "inputs" in fields:
            old = before.get("inputs", {})
            fields["inputs"] = {name: old.get(name) if value == ENCRYPTED else value for name, value in fields["inputs"].items()}
        return fields

    def _find(self, resource: str, key: Any, name: str) -> dict[str, Any]:
        tables = ("job_templates", "projects", "inventory_sources") if resource == "unified_job_templates" else (resource,)
        for table in tables:
            if key in self.objects[table]:
                return self.objects[table][key]
        raise Refused({name: [f'Invalid pk "{key}" - object does not exist.']})

    def _check(self, resource: str, fields: dict[str, Any], before: dict[str, Any]) -> None:
        for name in API[resource].required:
            if fields.get(name) == "":
                raise Refused({name: ["This field may not be blank."]})
        if len(fields.get("name", "")) > 512:
            raise Refused({"name": ["Ensure this field has no more than 512 characters."]})
        for name, target in API[resource].references.items():
            if fields.get(name) is not None:
                self._find(target, fields[name], name)
        unique = API[resource].unique
        for other in self.objects[resource].values():
            if unique and other is not before and all(other.get(name) == fields.get(name) for name in unique):
                raise Refused({"__all__": [f"{TYPES[resource]} with this ({', '.join(unique)}) combination already exists."]})
        if resource == "credential_types":
            check_inputs(fields["inputs"])
            check_injectors(fields["injectors"], fields["inputs"])
        elif resource == "credentials":
            self._check_credential(fields)
        elif resource == "job_templates":
            self._check_job_template(fields)
        elif resource == "inventory_sources":
            self._check_source(fields)
        elif resource == "projects" and fields["scm_type"] and not fields["scm_url"]:
            raise Refused({"scm_url": ["SCM URL is required."]})

    def _check_credential(self, fields: dict[str, Any]) -> None:
        inputs = self.objects["credential_types"][fields["credential_type"]]["inputs"]
        known = {entry["id"] for entry in inputs["fields"]}
        if extra := sorted(set(fields["inputs"]) - known):
            raise Refused({"inputs": [f"Additional properties are not allowed ({', '.join(map(repr, extra))} was unexpected)"]})
        if missing := [name for name in inputs.get("required", []) if not fields["inputs"].get(name)]:
            raise Refused({"inputs": {name: [f"required for {name}"] for name in missing}})

    def _check_job_template(self, fields: dict[str, Any]) -> None:
        if fields["playbook"] not in self.playbooks and not self.objects["projects"][fields["project"]]["allow_override"]:
            raise Refused({"playbook": ["Playbook not found for project."]})
        if fields["inventory"] is None and not fields["ask_inventory_on_launch"]:
            raise Refused({"inventory": ["Must either set a default value or ask to prompt on launch."]})
        if fields["job_type"] not in ("run", "check"):
            raise Refused({"job_type": [f'"{fields["job_type"]}" is not a valid choice.']})
        check_extra_vars(fields["extra_vars"])

    def _check_source(self, fields: dict[str, Any]) -> None:
        if fields["source"] == "scm" and fields["source_project"] is None:
            raise Refused({"source_project": ["Project required for scm type sources."]})
        if fields["credential"] is not None:
            kind = self._kind(self.objects["credentials"][fields["credential"]])
            if kind in ("ssh", "scm", "insights", "vault"):
                raise Refused({"credential": ["Credentials of type machine, source control, insights and vault are disallowed for custom inventory sources."]})

    def _check_member(self, resource: str, what: str, members: list[int], new: dict[str, Any]) -> None:
        if (resource, what) == ("job_templates", "credentials"):
            if (kind := self._kind(new)) not in KINDS_OF_JOBS:
                raise Refused({"error": f"Cannot assign a Credential of kind `{kind}`."})
            types = [self.objects["credentials"][member]["credential_type"] for member in members]
            if kind != "vault" and new["credential_type"] in types:
                name = self.objects["credential_types"][new["credential_type"]]["name"]
                raise Refused({"error": f"Cannot assign multiple {name} credentials."})
        if (resource, what) == ("organizations", "galaxy_credentials") and self._kind(new) != "galaxy":
            raise Refused({"msg": f"Credential must be a Galaxy credential, not {self._kind(new)}."})

    def _kind(self, credential: dict[str, Any]) -> str:
        return str(self.objects["credential_types"][credential["credential_type"]]["kind"])

    # --- how it is shown

    def _show(self, resource: str, item: dict[str, Any]) -> dict[str, Any]:
        url = f"/api/v2/{resource}/{item['id']}/"
        related = {what: f"{url}{what}/" for what in ("survey_spec", "update", *API[resource].lists)}
        if resource == "workflow_job_template_nodes" and item["unified_job_template"] in self.objects["workflow_approval_templates"]:
            related["unified_job_template"] = f"/api/v2/workflow_approval_templates/{item['unified_job_template']}/"
        shown = {**item, "type": TYPES[resource], "url": url, "related": related, "summary_fields": {}, "scm_revision": "1"}
        if item["id"] in self._updating:
            shown["summary_fields"] = {"current_update": {"id": item["id"]}}
        if resource == "credentials":
            fields = self.objects["credential_types"][item["credential_type"]]["inputs"]["fields"]
            secret = {entry["id"] for entry in fields if entry.get("secret")}
            shown["inputs"] = {name: ENCRYPTED if name in secret else value for name, value in item["inputs"].items()}
        return shown

    @staticmethod
    def _page(items: list[dict[str, Any]]) -> dict[str, Any]:
        return {"count": len(items), "next": None, "previous": None, "results": items}

    @staticmethod
    def _matches(item: dict[str, Any], query: dict[str, str]) -> bool:
        alternatives = {name.removeprefix("or__"): value for name, value in query.items() if name.startswith("or__")}
        required = {name: value for name, value in query.items() if not name.startswith(("or__", "page"))}
        equal = {name: str(item.get(name)) == value for name, value in {**required, **alternatives}.items()}
        return all(equal[name] for name in required) and (not alternatives or any(equal[name] for name in alternatives))


def check_extra_vars(text: str) -> None:
    if text and not isinstance(json.loads(text), dict):
        raise Refused({"extra_vars": ["Cannot parse as JSON (error: not an object)."]})


def check_inputs(inputs: dict[str, Any]) -> None:
    """CredentialTypeInputField. AWX adds a type to a field that has none, so what was sent and what is there would differ."""
    if unknown := sorted(set(inputs) - {"fields", "required"}):
        raise Refused({"inputs": [f"Additional properties are not allowed ({', '.join(map(repr, unknown))} was unexpected)"]})
    seen = set()
    for entry in inputs.get("fields", []):
        if unknown := sorted(set(entry) - FIELD_KEYS):
            raise Refused({"inputs": [f"Additional properties are not allowed ({', '.join(map(repr, unknown))} was unexpected)"]})
        for name in ("id", "label"):
            if name not in entry:
                raise Refused({"inputs": [f"'{name}' is a required property"]})
        kind = entry.setdefault("type", "string")
        if kind not in ("string", "boolean") or entry.get("format", "url") not in ("ssh_private_key", "url"):
            raise Refused({"inputs": [f"'{kind}' is not one of ['string', 'boolean']"]})
        if not VARIABLE.fullmatch(entry["id"]):
            raise Refused({"inputs": [f"{entry['id']} is an invalid variable name"]})
        if entry["id"] == "tower":
            raise Refused({"inputs": ['"tower" is a reserved field name']})
        if entry["id"] in seen:
            raise Refused({"inputs": [f"field IDs must be unique ({entry['id']})"]})
        seen.add(entry["id"])
        for name in ("choices", "multiline", "format", "secret"):
            if name in entry and kind != "string":
                raise Refused({"inputs": [f"{name} not allowed for {kind} type ({entry['id']})"]})


class _Unnamed:
    def __str__(self) -> str:
        raise UndefinedError("Must define unnamed file injector in order to reference `tower.filename`.")


class _Tower:
    def __init__(self) -> None:
        self.filename: Any = _Unnamed()

    def __str__(self) -> str:
        raise UndefinedError("Cannot directly reference reserved `tower` namespace container.")


def check_injectors(injectors: dict[str, Any], inputs: dict[str, Any]) -> None:
    """CredentialTypeInjectorField: templates are rendered with an example of each field, and nothing else may be in them."""
    if unknown := sorted(set(injectors) - {"file", "env", "extra_vars"}):
        raise Refused({"injectors": [f"Additional properties are not allowed ({', '.join(map(repr, unknown))} was unexpected)"]})
    namespace: dict[str, Any] = {entry["id"]: "EXAMPLE" for entry in inputs.get("fields", [])}
    tower = namespace["tower"] = _Tower()
    files = list(injectors.get("file", {}))
    if "template" in files:
        tower.filename = "EXAMPLE_FILENAME"
        if len(files) > 1:
            raise Refused({"injectors": ["Must use multi-file syntax when injecting multiple files"]})
    for name in files:
        if not re.fullmatch(rf"template(\.{VARIABLE.pattern})?", name):
            raise Refused({"injectors": [f"'{name}' does not match any of the regexes"]})
        if name != "template":
            setattr(tower.filename, name.partition(".")[2], "EXAMPLE_FILENAME")
    for name in injectors.get("env", {}):
        if name.startswith("ANSIBLE_"):
            raise Refused({"injectors": [f"Environment variable {name} may affect Ansible configuration so its use is not allowed in credentials."]})
        if name in ENV_BLOCKLIST:
            raise Refused({"injectors": [f"Environment variable {name} is not allowed to be used in credentials."]})
    for kind, templates in injectors.items():
        for name, template in templates.items():
            if kind != "file" and not VARIABLE.fullmatch(name):
                raise Refused({"injectors": [f"'{name}' does not match any of the regexes"]})
            if not isinstance(template, str):
                raise Refused({"injectors": [f"{template!r} is not of type 'string'"]})
            try:
                ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(template).render(namespace)
            except UndefinedError as error:
                raise Refused({"injectors": [f"{name} uses an undefined field ({error})"]}) from error
            except SecurityError as error:
                raise Refused({"injectors": [f"Encountered unsafe code execution: {error}"]}) from error
            except TemplateSyntaxError as error:
                raise Refused({"injectors": [f"Syntax error rendering template for {name} inside of {kind} ({error})"]}) from error


def check_survey(spec: dict[str, Any]) -> None:
    for name, kind in (("name", str), ("description", str), ("spec", list)):
        if name not in spec:
            raise Refused({"error": f"Field '{name}' is missing from survey spec."})
        if not isinstance(spec[name], kind):
            raise Refused({"error": f"Expected {kind.__name__} for field '{name}', received {type(spec[name]).__name__} type."})
    if not spec["spec"]:
        raise Refused({"error": "'spec' doesn't contain any items."})
    seen: set[str] = set()
    for index, question in enumerate(spec["spec"]):
        _check_question(index, question, seen)


def _check_question(index: int, question: dict[str, Any], seen: set[str]) -> None:
    for name in ("type", "question_name", "variable", "required"):
        if name not in question:
            raise Refused({"error": f"'{name}' missing from survey question {index}"})
        if not isinstance(question[name], bool if name == "required" else str):
            raise Refused({"error": f"'{name}' in survey question {index} expected to be {'boolean' if name == 'required' else 'string'}."})
    if question["variable"] in seen:
        raise Refused({"error": f"'variable' '{question['variable']}' duplicated in survey question {index}."})
    seen.add(question["variable"])
    kind = question["type"]
    if kind not in SURVEY_TYPES:
        raise Refused({"error": f"'{kind}' in survey question {index} is not one of '{', '.join(SURVEY_TYPES)}' allowed question types."})
    default = question.get("default", "")
    if default != "" and not isinstance(default, SURVEY_TYPES[kind]):
        raise Refused({"error": f"Default value in survey question {index} expected to be {kind if kind in ('integer', 'float') else 'string'}."})
    for name in ("min", "max"):
        if question.get(name) is not None and not isinstance(question[name], int):
            raise Refused({"error": f"The {name} limit in survey question {index} expected to be integer."})
    if kind in ("multiplechoice", "multiselect"):
        if "choices" not in question:
            raise Refused({"error": f"Survey question {index} of type {kind} must specify choices."})
        if isinstance(question["choices"], list):
            question["choices"] = "\n".join(question["choices"])
        defaults = default.splitlines()
        if kind == "multiplechoice" and len(defaults) > 1:
            raise Refused({"error": "Multiple Choice (Single Select) can only have one default value."})
        if set(defaults) - set(question["choices"].splitlines()):
            raise Refused({"error": "Default choice must be answered from the choices listed."})


def answer_problems(question: dict[str, Any], answers: dict[str, Any]) -> list[str]:
    """What AWX says of a survey's answers at a launch (SurveyJobTemplateMixin._survey_element_validation)."""
    name, kind = question["variable"], question["type"]
    if name not in answers:
        return [f"'{name}' value missing"] if question["required"] else []
    value = answers[name]
    if kind in ("text", "textarea", "password"):
        if not isinstance(value, str):
            return [f"Value {value} for '{name}' expected to be a string."]
        short = [f"'{name}' value {value} is too small (length is {len(value)} must be at least {question['min']})."] if len(value) < question["min"] else []
        return short + ([f"'{name}' value {value} is too large (must be no more than {question['max']})."] if len(value) > question["max"] else [])
    if kind == "integer":
        if type(value) is not int:
            return [f"Value {value} for '{name}' expected to be an integer."]
        small = [f"'{name}' value {value} is too small (must be at least {question['min']})."] if value < question["min"] else []
        return small + ([f"'{name}' value {value} is too large (must be no more than {question['max']})."] if value > question["max"] else [])
    choices = question["choices"].splitlines()
    if kind == "multiselect":
        if not isinstance(value, list):
            return [f"'{name}' value is expected to be a list."]
        return [f"Value {chosen} for '{name}' expected to be one of {choices}." for chosen in value if chosen not in choices]
    return [] if value in choices else [f"Value {value} for '{name}' expected to be one of {choices}."]


class _Handler(BaseHTTPRequestHandler):
    awx: Awx
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go in two pieces: the second would wait 40 ms for the first one's acknowledgement

    def _serve(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        status, answer = (401, {"detail": "Authentication credentials were not provided."})
        if url.path == "/api/v2/ping/" or self._known():
            status, answer = self.awx.answer(self.command, url.path, dict(parse_qsl(url.query)), body if isinstance(body, dict) else {})
        content = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", self.awx.version)
        self.end_headers()
        self.wfile.write(content)

    def _known(self) -> bool:
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return self.headers.get("Authorization") in (f"Basic {basic}", f"Bearer {TOKEN}")

    do_GET = do_POST = do_PATCH = do_DELETE = _serve

    def log_message(self, *_arguments: object) -> None:
        pass
