"""Packages that the depot makes itself, built by dpkg-deb to look as upstream's do."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tomllib

from lab.depot import debian, golang
from lab.depot.base import EPOCH, HERE, Cache, DepotError, Stamp, digest_of, file_digest, lock, run, say, scratch
from lab.depot.repository import architecture, publish_flat, publish_suite, signer
from lab.files import put_in_place, write_atomically

FOLDER = HERE / "packages"
TABLE = FOLDER / "packages.toml"
MAINTAINER = "fpga.hybrid lab depot <depot@lab.fpga-hybrid.test>"
#: In front of a program in Python of the lab's own.
INTERPRETER = b"#!/usr/bin/python3\n"
#: Part of every stamp: raise it when this program writes something else from the same inputs.
FORMAT = "1"


@dataclass(frozen=True)
class Spec:
    """One entry of packages.toml."""

    name: str
    repository: str
    version: str
    section: str
    description: str
    depends: Sequence[str] = ()
    provides: Sequence[str] = ()
    conflicts: Sequence[str] = ()
    unit: str = ""
    start: bool = False
    conffiles: Sequence[str] = ()
    directories: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    #: Maintainer scripts of its own, each a file beside packages.toml.
    scripts: Mapping[str, str] = field(default_factory=dict)
    origin: str = "Built from Go modules by the lab of fpga.hybrid; not upstream's package."

    @property
    def per_suite(self) -> bool:
        return "{suite}" in self.version


def read_specs(path: Path = TABLE) -> tuple[Spec, ...]:
    return tuple(Spec(**{"name": name, **entry}) for name, entry in tomllib.loads(path.read_text())["package"].items())


def version_of(spec: Spec, table: golang.Table, suite: str = "", release: str = "") -> str:
    return spec.version.format(**{name: table.version(name) for name in table.versions}, suite=suite, release=release)


def control(spec: Spec, version: str, arch: str, installed_kib: int) -> str:
    """The control file; relations as deb-control(5) has them, with those left out that are empty."""
    fields = {
        "Package": spec.name,
        "Version": version,
        "Architecture": arch,
        "Maintainer": MAINTAINER,
        "Installed-Size": str(installed_kib),
        "Depends": ", ".join(spec.depends),
        "Provides": ", ".join(spec.provides),
        "Conflicts": ", ".join(spec.conflicts),
        "Replaces": ", ".join(spec.conflicts),
        "Section": spec.section,
        "Priority": "optional",
        "Description": f"{spec.description}\n {spec.origin}",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def maintainer_scripts(spec: Spec) -> dict[str, str]:
    """What debhelper's systemd snippets do: unmask, start where upstream's package starts, stop before removal."""
    if not spec.unit:
        return {}
    unit = spec.unit
    enable = f"""    if deb-systemd-helper --quiet was-enabled {unit}; then
        deb-systemd-helper enable {unit} >/dev/null || true
    else
        deb-systemd-helper update-state {unit} >/dev/null || true
    fi
"""
    begin = f"""        if [ -n "$2" ]; then
            deb-systemd-invoke restart {unit} >/dev/null || true
        else
            deb-systemd-invoke start {unit} >/dev/null || true
        fi
"""
    return {
        "postinst": f"""#!/bin/sh
set -e
if [ "$1" = configure ] || [ "$1" = abort-upgrade ] || [ "$1" = abort-deconfigure ] || [ "$1" = abort-remove ]; then
    deb-systemd-helper unmask {unit} >/dev/null || true
{enable if spec.start else ""}    if [ -d /run/systemd/system ]; then
        systemctl --system daemon-reload >/dev/null || true
{begin if spec.start else ""}    fi
fi
""",
        "prerm": f"""#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    deb-systemd-invoke stop {unit} >/dev/null || true
fi
""",
        "postrm": f"""#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload >/dev/null || true
fi
if [ "$1" = purge ] && [ -x /usr/bin/deb-systemd-helper ]; then
    deb-systemd-helper purge {unit} >/dev/null || true
fi
""",
    }


@dataclass(frozen=True)
class Builder:
    cache: Cache
    table: golang.Table
    arch: str

    def _debian_file(self, suite: str, reference: str) -> Path:
        """A file out of one of the suite's packages, unpacked beside it."""
        package, _, path = reference.partition(":")
        archive = debian.archive(self.cache, suite, package)
        folder = self.cache.depot / "debs" / "unpacked" / archive.name
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with scratch(self.cache) as temporary:
                run(["dpkg-deb", "--extract", archive, temporary / "tree"])
                put_in_place(temporary / "tree", folder)
        return folder / path

    def source(self, reference: str, suite: str) -> Path:
        kind, _, rest = reference.partition(":")
        if kind == "program":
            return self.table.program(rest).path(self.cache)
        if kind == "debian":
            return self._debian_file(suite, rest)
        if kind in ("text", "script"):
            return FOLDER / rest
        if kind == "python":
            return HERE.parent / rest
        raise DepotError(f"{TABLE.name}: {reference!r} is neither program:, debian:, text:, script: nor python:")

    def _resolved(self, spec: Spec, suite: str) -> Spec:
        """With the versions in its relations filled in: a component's, or that of the suite's runc."""
        versions = {name: self.table.version(name) for name in self.table.versions}
        if spec.per_suite:
            versions["runc"] = debian.version(self.cache, suite, "runc")
        return dataclasses.replace(spec, provides=[relation.format(**versions) for relation in spec.provides])

    def _inputs(self, spec: Spec, version: str, suite: str) -> str:
        parts: list[str | Path] = [FORMAT, self.arch, version, repr(spec), *(FOLDER / name for name in spec.scripts.values())]
        for path, reference in sorted(spec.files.items()):
            kind, _, rest = reference.partition(":")
            if kind == "program":
                program = self.table.program(rest)
                parts += [path, str(program.stamp(self.cache).read().get("sha256"))]
            elif kind == "debian":
                parts += [path, debian.archive(self.cache, suite, rest.partition(":")[0]).name]
            else:
                parts += [path, self.source(reference, suite)]
        return digest_of(*parts)

    def build(self, spec: Spec, suite: str = "", release: str = "") -> Path:
        version = version_of(spec, self.table, suite, release)
        target = self.cache.depot / "debs" / f"{spec.name}_{version}_{self.arch}.deb"
        stamp = Stamp(target.with_name(f".{target.name}.stamp"))
        inputs = self._inputs(spec, version, suite)
        if stamp.is_current(inputs, target):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch(self.cache) as folder:
            tree = folder / "tree"
            self._fill(tree, spec, version, suite)
            temporary = folder / target.name
            environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
            run(["nice", "dpkg-deb", "--root-owner-group", "-Zzstd", "-z3", "--build", tree, temporary], env=environment)
            temporary.replace(target)
        stamp.write(inputs)
        say(f"depot: packed {target.name}")
        return target

    def _fill(self, tree: Path, spec: Spec, version: str, suite: str) -> None:
        tree.mkdir(mode=0o755)
        for name in spec.directories:
            (tree / name.lstrip("/")).mkdir(parents=True, mode=0o755)
        for name, reference in spec.files.items():
            target = tree / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.source(reference, suite), target)
            if reference.startswith("python:"):
                target.write_bytes(INTERPRETER + target.read_bytes())
            target.chmod(0o644 if reference.startswith("text:") else 0o755)
        size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
        scripts = {"control": control(self._resolved(spec, suite), version, self.arch, (size + 1023) // 1024), **maintainer_scripts(spec)}
        scripts |= {name: (FOLDER / file).read_text() for name, file in spec.scripts.items()}
        if spec.conffiles:
            scripts["conffiles"] = "".join(f"{path}\n" for path in spec.conffiles)
        for name, content in scripts.items():
            write_atomically(tree / "DEBIAN" / name, content, 0o755 if content.startswith("#!") else 0o644)
        # mkdir's mode is masked; a package's folders are not
        for folder in (tree, *(path for path in tree.rglob("*") if path.is_dir())):
            folder.chmod(0o755)


def minor(table: golang.Table) -> str:
    return ".".join(table.version("kubernetes").split(".")[:2])


def publish(cache: Cache, made: Mapping[str, Mapping[str, Sequence[Path]]]) -> None:
    """Put packages into their repositories: repository -> suite ('' for all) -> files."""
    key = signer(cache)
    suites = debian.read_list().suites
    kubernetes = {path.name: path for path in made["kubernetes"][""]}
    publish_flat(cache.www / f"kubernetes/core:/stable:/v{minor(golang.read_table())}/deb", kubernetes, key, label="isv:kubernetes:core")
    docker = cache.www / "docker/linux/debian"
    for suite, paths in made["docker"].items():
        files = {path.name: path for path in paths}
        publish_suite(docker, suite, "stable", files, key, pool=f"dists/{suite}/pool/stable/{architecture()}", version=suites[suite])
    write_atomically(docker / "gpg", key.public_key())
    publish_suite(cache.www / "helm/any", "any", "main", {path.name: path for path in made["helm"][""]}, key, pool="pool/any/main")
    # As packages.xilinx.com/artifactory has them, whose newest suite is Ubuntu's.
    publish_suite(cache.www / "xilinx/debian-packages", "jammy", "main", {path.name: path for path in made["xilinx"][""]}, key, pool="pool")
    write_atomically(cache.www / "xilinx/xilinx-master-signing-key.asc", key.public_key())
    # The same as files, for sites that fetch them by hand.
    for path in made["xilinx"][""]:
        write_atomically(cache.www / "files/xrt" / path.name, path.read_bytes())
    write_atomically(cache.www / "files/xrt/SHA256SUMS", "".join(f"{file_digest(path)}  {path.name}\n" for path in made["xilinx"][""]))
    # As InAccel's two have them: by suite since 2021, flat before.
    inaccel = cache.www / "inaccel"
    for suite in suites:
        publish_suite(inaccel / "deb/debian", suite, "main", {path.name: path for path in made["inaccel"][""]}, key, pool="pool/main")
    publish_flat(inaccel / "debian", {path.name: path for path in made["inaccel-2020"][""]}, key, label="inaccel")
    write_atomically(inaccel / "gpg", key.public_key())
    publish_suite(cache.www / "aws-fpga", "any", "main", {path.name: path for path in made["aws-fpga"][""]}, key, pool="pool/any/main")
    write_atomically(cache.www / "aws-fpga/gpgkey", key.public_key())
    # As packages.openvpn.net has it.
    for suite in suites:
        publish_suite(cache.www / "openvpn/as/debian", suite, "main", {path.name: path for path in made["openvpn-as"][""]}, key, pool="pool/main")
    write_atomically(cache.www / "openvpn/as-repo-public.asc", key.public_key())
    write_atomically(cache.www / "helm/gpgkey", key.public_key())


def build(cache: Cache) -> None:
    """Pack what changed, and publish when anything did."""
    with lock(cache, "debs"):
        builder = Builder(cache, golang.read_table(), architecture())
        suites = debian.read_list().suites
        made: dict[str, dict[str, list[Path]]] = {}
        for spec in read_specs():
            for suite, release in suites.items() if spec.per_suite else [("", "")]:
                made.setdefault(spec.repository, {}).setdefault(suite, []).append(builder.build(spec, suite, release))
        paths = sorted(path for by_suite in made.values() for files in by_suite.values() for path in files)
        stamp = Stamp(cache.depot / "debs" / ".published.stamp")
        inputs = digest_of(FORMAT, *(part for path in paths for part in (path.name, path.with_name(f".{path.name}.stamp"))))
        if stamp.is_current(inputs, cache.www / "helm/gpgkey"):
            return
        signer(cache).ensure()
        publish(cache, made)
        stamp.write(inputs)
        for stale in {*(cache.depot / "debs").glob("*.deb")} - set(paths):
            stale.unlink()
