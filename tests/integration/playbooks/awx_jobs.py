# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs and inventory updates as AWX runs them, by its ansible-runner, but without the container.

What AWX hands to ansible-runner is told after awx/main/tasks/jobs.py and awx/main/models/credential: the private data directory, the environment, the files
and variables of credentials, the command line of an inventory update. AWX's /runner is the private data directory itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible_runner
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

BIN = Path(sys.executable).parent
INVENTORY_UPDATE = {
    "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
    "ANSIBLE_INVENTORY_EXPORT": "True",
    "ANSIBLE_VERBOSE_TO_STDERR": "True",
    "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
}
#: AWX's settings that begin with ANSIBLE_, and AWX_TASK_ENV.
SETTINGS = {
    "ANSIBLE_FORCE_COLOR": "True",
    "ANSIBLE_HOST_KEY_CHECKING": "False",
    "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
    "ANSIBLE_PARAMIKO_RECORD_HOST_KEYS": "False",
    "ANSIBLE_RETRY_FILES_ENABLED": "False",
}
META = {"awx_job_id": 7, "awx_job_launch_type": "manual", "awx_inventory_id": 1, "awx_user_id": 1, "awx_user_name": "maria", "awx_project_revision": "1"}
Inventory = dict[str, Any]


class _Unsafe(str):
    """What AWX lets no user of a template have evaluated."""


yaml.SafeDumper.add_representer(_Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))


def _unsafe(value: Any) -> Any:
    if isinstance(value, list):
        return [_unsafe(item) for item in value]
    return _Unsafe(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Credential:
    """A credential of one of the types that role awx makes."""

    type: Mapping[str, Any]
    inputs: Mapping[str, str]

    def inject(self, folder: Path, environment: dict[str, str], *, for_inventory: bool = False) -> list[str]:
        """Writes files below folder/env, extends the environment, and says what the command line gets: inventory updates have no extra variables."""

        class Tower:
            filename = ""

        sandbox, tower = ImmutableSandboxedEnvironment(), Tower()
        # A field without a value is none of the namespace, which is not strict here.
        namespace = {"tower": tower, **{name: value for name, value in self.inputs.items() if value}}
        injectors = self.type["injectors"]
        number = len(list((folder / "env").iterdir()))
        if template := injectors.get("file", {}).get("template"):
            path = folder / "env" / f"credential{number}"
            path.write_text(sandbox.from_string(template).render(**namespace))
            path.chmod(0o600)
            tower.filename = str(path)
        environment |= {name: sandbox.from_string(value).render(**namespace) for name, value in injectors.get("env", {}).items()}
        variables = {name: sandbox.from_string(value).render(**namespace) for name, value in injectors.get("extra_vars", {}).items()}
        if not variables or for_inventory:
            return []
        path = folder / "env" / f"variables{number}"
        path.write_text(yaml.safe_dump({name: _unsafe(value) for name, value in variables.items()}))
        path.chmod(0o400)
        return ["-e", f"@{path}"]


@dataclass(frozen=True)
class Done:
    status: str
    artifacts: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        files = sorted((self.artifacts / "job_events").glob("*.json"))
        return [json.loads(path.read_text()) for path in files]

    def named(self, *kinds: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] in kinds]

    @property
    def output(self) -> str:
        return (self.artifacts / "stdout").read_text()

    def kept(self) -> str:
        """All that AWX keeps of a job: events, output, facts."""
        return "\n".join(path.read_text() for path in self.artifacts.rglob("*") if path.is_file() and path.name != "command")


class Runner:
    """project: the folder that AWX has synchronised. environment: of the execution environment, above that of this process without AWS'."""

    def __init__(self, project: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self.project, self.folder = project, folder
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ANSIBLE_", "CONTROLLER_"))}
        self.environment = {**clean, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder), **environment}
        (self.folder / "requirements_collections").mkdir()

    def _private_data(self, name: str) -> Path:
        folder = self.folder / name
        for part in ("env", "inventory", "artifacts", "cp"):
            (folder / part).mkdir(parents=True)
        (folder / "project").symlink_to(self.project)
        return folder

    def inventory(self, source_path: str, credentials: list[Credential]) -> Inventory:
        """An inventory update, whose collections are those beside the file, or in the image."""
        folder = self._private_data("inventory_update")
        environment = {**self.environment, **SETTINGS, **INVENTORY_UPDATE}
        environment["ANSIBLE_COLLECTIONS_PATHS"] = f"{self.folder}/requirements_collections:~/.ansible/collections:/usr/share/ansible/collections"
        for credential in credentials:
            credential.inject(folder, environment, for_inventory=True)
        source, output = folder / "project" / source_path, folder / "artifacts" / "output.json"
        command = ["ansible-inventory", "--list", "--export", "-i", source, "--output", output, "--playbook-dir", source.parent]
        done = subprocess.run([str(part) for part in command], cwd=folder / "project", env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found: Inventory = json.loads(output.read_text())
        return found

    def job(
        self,
        template: Mapping[str, Any],
        inventory: Inventory,
        answers: Mapping[str, Any],
        credentials: list[Credential],
        arguments: list[str],
        environment: Mapping[str, str],
        variables: Mapping[str, Any],
    ) -> Done:
        """arguments: what a launch adds to the command line. environment: of AWX's own credential types. variables: trusted, of the template itself."""
        folder = self._private_data(template["name"].replace(" ", "_"))
        hosts = folder / "inventory" / "hosts"
        hosts.write_text(f"#! /usr/bin/env python3\n# -*- coding: utf-8 -*-\nprint({json.dumps(inventory)!r})\n")
        hosts.chmod(0o700)
        given = {**template["extra_vars"], **variables, **{name: _unsafe(value) for name, value in {**answers, **META}.items()}}
        (folder / "env" / "extravars").write_text(yaml.safe_dump(given))
        found = {
            **SETTINGS,
            **environment,
            "JOB_ID": "7",
            "INVENTORY_ID": "1",
            "PROJECT_REVISION": "1",
            "MAX_EVENT_RES": "700000",
            "AWX_HOST": "https://awx.example.org",
            "AWX_PRIVATE_DATA_DIR": str(folder),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
            # collections is the project's own collections_path, out of its ansible.cfg.
            "ANSIBLE_COLLECTIONS_PATH": f"{self.folder}/requirements_collections:collections:~/.ansible/collections:/usr/share/ansible/collections",
        }
        command = ["-u", "root", *arguments]
        for credential in credentials:
            command += credential.inject(folder, found)
        (folder / "env" / "cmdline").write_text(" ".join(command))
        before = dict(os.environ)
        try:
            os.environ.clear()
            os.environ.update(self.environment)
            run = ansible_runner.run(private_data_dir=str(folder), playbook=template["playbook"], ident="7", envvars=found, quiet=True, json_mode=False)
        finally:
            os.environ.clear()
            os.environ.update(before)
        return Done(run.status, folder / "artifacts" / "7")
