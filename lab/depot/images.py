"""Images made of the depot's programs, pushed to its registry."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tomllib

from lab.depot import container, golang, oci, rootfs, tls, wheels
from lab.depot.base import HERE, Cache, DepotError, Stamp, digest_of, lock, say
from lab.depot.registry import Registry
from lab.depot.repository import architecture

FOLDER = HERE / "images"
TABLE = FOLDER / "images.toml"
PORT = 5000
#: Part of every stamp: raise it when this program writes something else from the same inputs.
FORMAT = "1"


@dataclass(frozen=True)
class Spec:
    """One entry of images.toml."""

    name: str
    reference: str
    files: Mapping[str, str]
    base: bool = False
    directories: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    path: str = ""
    user: str = ""

    def resolved(self, table: golang.Table) -> oci.Reference:
        return oci.Reference.parse(self.reference.format(**{name: table.version(name) for name in table.versions}))


def read_specs(path: Path = TABLE) -> tuple[Spec, ...]:
    return tuple(Spec(name=name, **entry) for name, entry in tomllib.loads(path.read_text())["image"].items())


def connect(cache: Cache) -> Registry:
    return Registry(str(container.HOME.depot), PORT, container.context(cache), tls.USER, tls.password(cache))


@dataclass
class Pusher:
    cache: Cache
    table: golang.Table
    registry: Registry
    _base: tuple[oci.Layer, str] | None = field(default=None)

    def _entries(self, spec: Spec) -> dict[str, oci.Entry]:
        entries = {path: oci.Entry() for path in spec.directories}
        for path, reference in spec.files.items():
            kind, _, rest = reference.partition(":")
            if kind == "program":
                entries[path] = oci.Entry(self.table.program(rest).path(self.cache))
            elif kind == "text":
                source = FOLDER / rest
                entries[path] = oci.Entry(source, mode=0o755 if source.read_bytes().startswith(b"#!") else 0o644)
            elif kind == "link":
                entries[path] = oci.Entry(link=rest)
            elif kind == "wheel":
                found = wheels.contents(self.cache, rest)
                entries |= {f"{path}/{name}".rstrip("/"): oci.Entry(source, mode=0o644) for name, source in found.items()}
            else:
                raise DepotError(f"{TABLE.name}: {reference!r} is neither program:, text:, wheel: nor link:")
        return entries

    def _inputs(self, spec: Spec) -> str:
        parts: list[str | Path] = [FORMAT, architecture(), repr(spec), str(spec.resolved(self.table))]
        for path, reference in sorted(spec.files.items()):
            kind, _, rest = reference.partition(":")
            parts.append(path)
            if kind == "program":
                parts.append(str(self.table.program(rest).stamp(self.cache).read().get("sha256")))
            elif kind == "text":
                parts.append(FOLDER / rest)
            elif kind == "wheel":
                parts.append(wheels.digest(self.cache, rest.partition("/")[0]))
        if spec.base:
            parts.append(rootfs.image_base_stamp(self.cache).path)
        return digest_of(*parts)

    def _base_layer(self, repository: str) -> oci.Layer:
        """Compressed and sent once; other repositories take it from the first."""
        if self._base is None:
            with rootfs.image_base(self.cache).open("rb") as source:
                layer = self._send(repository, lambda target: oci.compress_layer(source, target))
            self._base = layer, repository
        layer, first = self._base
        if first != repository and not self.registry.has_blob(repository, layer.descriptor.digest):
            self.registry.mount_blob(repository, layer.descriptor.digest, first)
        return layer

    def _send(self, repository: str, write) -> oci.Layer:  # type: ignore[no-untyped-def]
        with tempfile.TemporaryFile(dir=self.cache.depot) as temporary:
            layer: oci.Layer = write(temporary)
            temporary.seek(0)
            self.registry.push_blob(repository, layer.descriptor, temporary)
        return layer

    def push(self, spec: Spec) -> None:
        """Have the image in the registry; one that is there from the same inputs is not made again."""
        reference = spec.resolved(self.table)
        repository = reference.mirrored
        stamp = Stamp(self.cache.depot / "images" / f"{spec.name}.json")
        inputs = self._inputs(spec)
        known = stamp.read()
        if known.get("inputs") == inputs and self.registry.manifest_digest(repository, reference.tag) == known.get("digest"):
            return
        layers = [self._base_layer(repository)] if spec.base else []
        layers.append(self._send(repository, lambda target: oci.write_layer(self._entries(spec), target)))
        config = oci.config(layers, architecture(), path=spec.path, entrypoint=spec.entrypoint, command=spec.command, user=spec.user)
        self.registry.push_blob(repository, oci.Descriptor.of(config, oci.CONFIG), config)
        content = oci.manifest(config, [layer.descriptor for layer in layers])
        digest = self.registry.push_manifest(repository, reference.tag, content, oci.MANIFEST)
        size = sum(layer.descriptor.size for layer in layers)
        stamp.write(inputs, reference=str(reference), digest=digest, size=size)
        say(f"depot: image {reference} ({size >> 20} MiB)")


def push_all(cache: Cache) -> None:
    with lock(cache, "images"), connect(cache) as registry:
        pusher = Pusher(cache, golang.read_table(), registry)
        for spec in read_specs():
            pusher.push(spec)
