# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a declaration needs from outside: for a mirror that has no way to the Internet.

PRIVATE to the collection. Each role says what it takes in a variable `<role>_artifacts`, made of the same variables that its tasks use:

    packages: [{source: see M(fpga.hybrid.apt_packages), or none for the host's own, packages: [{name, version}]}]
    images: [reference]    charts: [{name, version, repository}]    files: [{url, checksum}]    wheels: {index, packages: [(name, version)]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

KINDS = ("package", "key", "image", "chart", "file", "wheel")
OWN_SOURCES = "the host's own package sources"
DEFAULT_REGISTRY = "docker.io"


@dataclass(frozen=True)
class Artifact:
    """One thing to have in the mirror.

    origin is upstream's place; source the place that this declaration takes it from (the same without a mirror).
    version is what is asked for, for a package an apt pin expression; "" means whatever is current there.
    checksum is "" where nobody has said or looked it up.
    """

    kind: str
    name: str
    version: str
    origin: str
    source: str
    checksum: str = ""
    note: str = ""
    systems: tuple[str, ...] = field(default=())

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.kind, self.origin, self.name, self.version)


def repository(source: Mapping[str, Any] | None) -> str:
    """As in a line of sources.list: URL, suite, components."""
    if not source:
        return OWN_SOURCES
    return " ".join([str(source["url"]), str(source["suite"]), *source.get("components", [])])


def split_image(reference: str) -> tuple[str, str, str]:
    """(registry, repository, tag) of an image's name."""
    name, _colon, tag = reference.rpartition(":")
    if not name or "/" in tag:
        name, tag = reference, "latest"
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest, tag
    return DEFAULT_REGISTRY, name if slash else f"library/{name}", tag


def list_artifacts(upstream: Mapping[str, Any], here: Mapping[str, Any], image_mirror: str, system: str) -> list[Artifact]:
    """What one role needs on one system. upstream, here: its `<role>_artifacts` without and with the declared mirrors."""
    found = []
    for origin, used in zip(upstream.get("packages", []), here.get("packages", [])):
        names = (repository(origin["source"]), repository(used["source"]))
        if origin["source"] and origin["source"].get("key_url"):
            given = "" if used["source"].get("key_url") else "given in the declaration"
            found.append(
                Artifact("key", "", "", origin["source"]["key_url"], used["source"].get("key_url") or "cluster_mirrors", note=given, systems=(system,))
            )
        note = "and what it depends on" if origin["source"] is None else ""
        found += [
            Artifact("package", package["name"], str(package.get("version") or ""), *names, note=note, systems=(system,)) for package in origin["packages"]
        ]
    for reference in upstream.get("images", []):
        registry, name, tag = split_image(reference)
        found.append(Artifact("image", name, tag, registry, f"{image_mirror.rstrip('/')}/{registry}" if image_mirror else registry))
    for origin, used in zip(upstream.get("charts", []), here.get("charts", [])):
        found.append(Artifact("chart", origin["name"], str(origin["version"]), origin["repository"], used["repository"]))
    for origin, used in zip(upstream.get("files", []), here.get("files", [])):
        found.append(Artifact("file", origin["url"].rpartition("/")[2], "", origin["url"], used["url"], checksum=origin.get("checksum", "")))
    wheels = upstream.get("wheels", {"packages": []})
    note = "for the hosts' Python, with its hash in the role's requirements.txt"
    found += [Artifact("wheel", name, version, wheels["index"], here["wheels"]["index"], note=note) for name, version in wheels["packages"]]
    found += [Artifact(note["kind"], note["name"], "", "", "", note=note["note"]) for note in upstream.get("unknown", [])]
    return found


def merge(artifacts: Iterable[Artifact]) -> list[Artifact]:
    """Each once, with all systems that need it; in the order of kind, place, name."""
    merged: dict[tuple[str, str, str, str], Artifact] = {}
    for artifact in artifacts:
        known = merged.get(artifact.key)
        if known:
            systems = tuple(dict.fromkeys([*known.systems, *artifact.systems]))
            merged[artifact.key] = replace(known, systems=systems, checksum=known.checksum or artifact.checksum)
        else:
            merged[artifact.key] = artifact
    return sorted(merged.values(), key=lambda artifact: (KINDS.index(artifact.kind), artifact.origin, artifact.name, artifact.version))


def render_json(title: str, artifacts: Sequence[Artifact]) -> str:
    return json.dumps({"title": title, "artifacts": [asdict(artifact) for artifact in artifacts]}, indent=2) + "\n"


def render_text(title: str, artifacts: Sequence[Artifact]) -> str:
    rows = [("kind", "name", "version", "from", "checksum")]
    rows += [
        (found.kind, found.name, found.version or "current", found.origin, found.checksum or (f"({found.note})" if found.note else "-")) for found in artifacts
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip() for row in rows]
    return "\n".join([title, "", *lines])


# --- looking things up: what the answers mean ---------------------------------------------------------------------


def parse_packages(text: str) -> list[dict[str, str]]:
    """The stanzas of a repository's Packages file, one dictionary each (fields of one line only)."""
    stanzas = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(" "))
        if "Package" in fields:
            stanzas.append(fields)
    return stanzas


def index_urls(source: Mapping[str, Any], architecture: str = "amd64") -> list[str]:
    """Where the Packages files of an apt source are; flat sources (suite ending in /) have one beside the packages."""
    base, suite = str(source["url"]).rstrip("/"), str(source["suite"])
    if suite.endswith("/"):
        return [f"{base}/{suite.lstrip('/')}Packages"]
    return [f"{base}/dists/{suite}/{component}/binary-{architecture}/Packages" for component in source.get("components", [])]


def chart_digest(index: Mapping[str, Any], name: str, version: str) -> str:
    """From a chart repository's index.yaml. As for helm, a leading v says nothing. Raises ValueError where it has no such chart."""
    offered = {str(entry["version"]): str(entry.get("digest") or "") for entry in (index.get("entries") or {}).get(name, [])}
    for found, digest in offered.items():
        if found.removeprefix("v") == version.removeprefix("v"):
            return f"sha256:{digest}" if digest else ""
    raise ValueError(
        f"its repository has no version {version} (it has: {', '.join(list(offered)[:5])})" if offered else "its repository has no chart of this name"
    )


def parse_challenge(header: str) -> dict[str, str]:
    """The parameters of `WWW-Authenticate: Bearer realm="...",service="...",scope="..."`."""
    _scheme, _space, rest = header.partition(" ")
    pairs = (part.partition("=") for part in rest.split(","))
    return {name.strip(): value.strip().strip('"') for name, _equals, value in pairs}
