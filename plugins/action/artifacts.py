# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fnmatch
import gzip
import hashlib
import json
import os
import tempfile
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.urls import open_url
from ansible.plugins.action import ActionBase

from ansible_collections.fpga.hybrid.plugins.module_utils import _artifacts as artifacts
from ansible_collections.fpga.hybrid.plugins.module_utils._apt import newest_first
from ansible_collections.fpga.hybrid.plugins.module_utils._artifacts import Artifact

ROLES = Path(__file__).resolve().parents[2] / "roles"
MANIFESTS = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)
# The name in an image's reference is not the name of the server, for one registry only.
REGISTRY_SERVERS = {"docker.io": "registry-1.docker.io"}
SECONDS = 10


class Place:
    """Somebody to ask: upstream, or a mirror with its CA and credentials. silent: who gave no answer at all, and why; they are not waited for again."""

    def __init__(self, mirror: Mapping[str, Any], ca_file: str | None, silent: dict[str, str]) -> None:
        self._silent = silent
        self._plain: dict[str, Any] = {"timeout": SECONDS, "ca_path": ca_file}
        self._options = dict(self._plain)
        if mirror.get("username"):
            self._options.update(url_username=mirror["username"], url_password=mirror.get("password", ""), force_basic_auth=True)

    def _open(self, url: str, **options: Any) -> Any:
        server = urlsplit(url).netloc
        if server in self._silent:
            raise OSError(self._silent[server])
        try:
            return open_url(url, **options)
        except urllib.error.HTTPError:
            raise
        except OSError as error:
            self._silent[server] = f"{server}: {error}"
            raise OSError(self._silent[server]) from None

    def get(self, url: str) -> bytes:
        return bytes(self._open(url, **self._options).read())

    def image_digest(self, url: str) -> str:
        """What a registry says a tag is now. A public one wants an anonymous token first."""
        headers = {"Accept": MANIFESTS}
        try:
            answer = self._open(url, method="HEAD", headers=headers, **self._options)
        except urllib.error.HTTPError as error:
            challenge = artifacts.parse_challenge(error.headers.get("WWW-Authenticate", ""))
            if error.code != 401 or "realm" not in challenge:
                raise
            query = f"{challenge['realm']}?service={challenge.get('service', '')}&scope={challenge.get('scope', '')}"
            token = json.loads(self._open(query, **self._plain).read())["token"]
            answer = self._open(url, method="HEAD", headers={**headers, "Authorization": f"Bearer {token}"}, **self._plain)
        return str(answer.headers["Docker-Content-Digest"])


class Lookup:
    """Fills in what the mirrors, or upstream, say about each artifact; remembers who could not be asked and why."""

    def __init__(self, mirrors: Mapping[str, Mapping[str, Any]], folder: str) -> None:
        self._mirrors, self._folder = mirrors, folder
        self._indexes: dict[str, list[dict[str, str]]] = {}
        self._charts: dict[str, Mapping[str, Any]] = {}
        self._silent: dict[str, str] = {}
        self.problems: list[str] = []

    def place(self, url: str) -> Place:
        """Whose credentials belong to a URL: the longest mirror URL that it begins with."""
        named = [(mirror["url"], name) for name, mirror in self._mirrors.items() if mirror.get("url") and url.startswith(mirror["url"].rstrip("/"))]
        name = max(named)[1] if named else ""
        mirror = self._mirrors.get(name, {})
        ca_file = None
        if mirror.get("ca"):
            ca_file = os.path.join(self._folder, f"{name}.pem")
            Path(ca_file).write_text(mirror["ca"], encoding="utf-8")
        return Place(mirror, ca_file, self._silent)

    def resolve(self, artifact: Artifact) -> Artifact:
        ways: dict[str, Callable[[Artifact], Artifact]] = {
            "package": self._package,
            "image": self._image,
            "chart": self._chart,
            "file": self._file,
            "key": self._file,
        }
        way = ways.get(artifact.kind)
        if way is None or artifact.source in {"", artifacts.OWN_SOURCES, "cluster_mirrors"}:
            return artifact
        try:
            return way(artifact)
        except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
            self.problems.append(f"{artifact.kind} {artifact.name or artifact.source}: {error}")
            return artifact

    def _file(self, artifact: Artifact) -> Artifact:
        found = "sha256:" + hashlib.sha256(self.place(artifact.source).get(artifact.source)).hexdigest()
        if artifact.checksum and artifact.checksum != found:
            raise ValueError(f"found {found}, expected {artifact.checksum}: what {artifact.source} serves is not what the roles accept")
        return replace(artifact, checksum=found)

    def _image(self, artifact: Artifact) -> Artifact:
        scheme, separator, rest = artifact.source.rpartition("://")
        base, _slash, registry = rest.rpartition("/")
        # a mirror serves each registry below a folder of its name; upstream's servers have none
        server = f"{base}/v2/{registry}" if base else f"{REGISTRY_SERVERS.get(registry, registry)}/v2"
        url = f"{scheme or 'https'}{separator or '://'}{server}/{artifact.name}/manifests/{artifact.version}"
        return replace(artifact, checksum=self.place(artifact.source).image_digest(url))

    def _chart(self, artifact: Artifact) -> Artifact:
        if artifact.source not in self._charts:
            self._charts[artifact.source] = yaml.safe_load(self.place(artifact.source).get(f"{artifact.source.rstrip('/')}/index.yaml")) or {}
        return replace(artifact, checksum=artifacts.chart_digest(self._charts[artifact.source], artifact.name, artifact.version))

    def _package(self, artifact: Artifact) -> Artifact:
        url, suite, *components = artifact.source.split(" ")
        if artifact.source not in self._indexes:
            stanzas = []
            for index in artifacts.index_urls({"url": url, "suite": suite, "components": components}):
                stanzas += artifacts.parse_packages(self._index(index))
            self._indexes[artifact.source] = stanzas
        offered = {entry["Version"]: entry for entry in self._indexes[artifact.source] if entry["Package"] == artifact.name}
        fitting = newest_first(version for version in offered if fnmatch.fnmatchcase(version, artifact.version or "*"))
        if not fitting:
            raise ValueError(f"{artifact.source} has no version {artifact.version or 'at all'} (it has: {', '.join(newest_first(offered)) or 'none'})")
        return replace(artifact, checksum=f"sha256:{offered[fitting[0]]['SHA256']}", note=f"now {fitting[0]}")

    def _index(self, url: str) -> str:
        place = self.place(url)
        try:
            return gzip.decompress(place.get(f"{url}.gz")).decode("utf-8")
        except urllib.error.HTTPError:
            return place.get(url).decode("utf-8")


class ActionModule(ActionBase):
    """Evaluates each role's `<role>_artifacts` for each system, without a host and without running the role."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "title": {"type": "str", "required": True},
                "roles": {"type": "list", "elements": "str", "required": True},
                "systems": {"type": "dict", "required": True},
                "image_mirror": {"type": "str", "default": ""},
                "resolve": {"type": "bool", "default": False},
                "dest": {"type": "str", "default": ""},
            }
        )
        found = artifacts.merge(
            artifact
            for system, facts in options["systems"].items()
            for role in options["roles"]
            for artifact in artifacts.list_artifacts(
                self._needs(role, facts, {}, task_vars or {}), self._needs(role, facts, None, task_vars or {}), options["image_mirror"], system
            )
        )
        problems: list[str] = []
        if options["resolve"]:
            with tempfile.TemporaryDirectory() as folder:
                lookup = Lookup(self._templar.template((task_vars or {}).get("cluster_mirrors")) or {}, folder)
                found = [lookup.resolve(artifact) for artifact in found]
                problems = lookup.problems
        self._display.display(f"\n{artifacts.render_text(options['title'], found)}\n")
        if options["dest"] and not self._task.check_mode:
            try:
                Path(os.path.expanduser(options["dest"])).write_text(artifacts.render_json(options["title"], found), encoding="utf-8")
            except OSError as error:
                raise AnsibleActionFail(f"dest: the list could not be written ({error}). Say a file in a folder that is there.") from error
        result = {"changed": False, "artifacts": [asdict(artifact) for artifact in found], "msg": f"{len(found)} artifacts"}
        return {**result, "unresolved": problems} if options["resolve"] else result

    def _needs(self, role: str, facts: Mapping[str, Any], mirrors: Mapping[str, Any] | None, task_vars: Mapping[str, Any]) -> dict[str, Any]:
        """The value of `<role>_artifacts` as if the role ran on such a system; with the declared mirrors, or with those given."""
        variables = {**self._load(role, "defaults"), **task_vars, **self._load(role, "vars"), "ansible_facts": {**facts}, "role_path": str(ROLES / role)}
        if mirrors is not None:
            variables["cluster_mirrors"] = {**mirrors}
        name = f"{role}_artifacts"
        if name not in variables:
            raise AnsibleActionFail(f"role {role} does not say what it needs: its vars/main.yml has no {name}")
        try:
            value: dict[str, Any] = self._templar.copy_with_new_env(available_variables=variables).template(variables[name])
        except AnsibleError as error:
            raise AnsibleActionFail(f"{name}: {error.message}") from error
        return value

    def _load(self, role: str, folder: str) -> dict[str, Any]:
        path = ROLES / role / folder / "main.yml"
        return dict(self._loader.load_from_file(str(path), cache="none", trusted_as_template=True) or {}) if path.exists() else {}
