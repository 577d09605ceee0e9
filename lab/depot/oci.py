"""Image names, layers and manifests: OCI's formats as pure functions over bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from lab.depot.base import EPOCH

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = frozenset({INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({MANIFEST, DOCKER_MANIFEST})

#: github.com/distribution/reference: what a repository's name and a tag may look like.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN = re.compile(r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*(?::[0-9]+)?")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
DEFAULT_REGISTRY = "docker.io"


class ReferenceFormatError(ValueError):
    """What was given names no image."""


@dataclass(frozen=True)
class Reference:
    """An image's full name: registry, repository in it, tag or digest."""

    registry: str
    repository: str
    tag: str = "latest"
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """As docker and containerd read it: `nginx` is docker.io/library/nginx:latest."""
        rest, _, digest = text.partition("@")
        if (digest and not _DIGEST.fullmatch(digest)) or text.endswith("@"):
            raise ReferenceFormatError(f"{text!r}: {digest!r} is no sha256 digest")
        first, slash, remainder = rest.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost"):
            registry, path = first, remainder
        else:
            registry, path = DEFAULT_REGISTRY, rest
        repository, colon, tag = path.partition(":")
        if registry == DEFAULT_REGISTRY and "/" not in repository:
            repository = f"library/{repository}"
        if not _DOMAIN.fullmatch(registry):
            raise ReferenceFormatError(f"{text!r}: {registry!r} is no registry's name")
        if not _REPOSITORY.fullmatch(repository):
            raise ReferenceFormatError(f"{text!r}: {repository!r} is no repository's name (lower case letters, digits, and . _ - between them)")
        if colon and not _TAG.fullmatch(tag):
            raise ReferenceFormatError(f"{text!r}: {tag!r} is no tag")
        return cls(registry, repository, tag if colon else "latest" if not digest else "", digest)

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}" + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def mirrored(self) -> str:
        """The repository under which the depot serves it: below a folder named as its registry."""
        if ":" in self.registry:
            raise ReferenceFormatError(f"{self}: a registry with a port cannot be a folder of the depot's registry; save the image under a name without one")
        return f"{self.registry}/{self.repository}".lower()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical(content: Mapping[str, Any]) -> bytes:
    """The same mapping gives the same bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Descriptor:
    media_type: str
    digest: str
    size: int

    def content(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Descriptor:
        return cls(media_type, digest(data), len(data))


@dataclass(frozen=True)
class Layer:
    """A layer as it lies in a registry, and the digest of what is in it uncompressed (its diff id)."""

    descriptor: Descriptor
    diff_id: str


@dataclass(frozen=True)
class Entry:
    """What one path of a layer holds: a file, a folder, or another name of a file."""

    source: Path | None = None
    link: str = ""
    mode: int = 0o755


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class _Tee(io.RawIOBase):
    """Hands on what is written, and adds it up."""

    def __init__(self, target: IO[bytes], sum_: _Hash) -> None:
        self.target, self.sum, self.size = target, sum_, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        self.sum.update(chunk)
        self.size += len(chunk)
        return self.target.write(chunk)


def _member(path: str, entry: Entry) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.mtime, member.mode = EPOCH, entry.mode
    if entry.link:
        member.type, member.linkname = tarfile.LNKTYPE, entry.link.lstrip("/")
    elif entry.source is None:
        member.type = tarfile.DIRTYPE
    else:
        member.size = entry.source.stat().st_size
    return member


def write_layer(entries: Mapping[str, Entry], target: IO[bytes]) -> Layer:
    """Write a compressed layer with these absolute paths; their folders come with them, owner and time are always the same."""
    everything = {parent: Entry() for path in entries for parent in map(str, PurePosixPath(path).parents) if parent != "/"} | dict(entries)
    # a link comes after what it names
    order = sorted(everything, key=lambda path: (bool(everything[path].link), path))

    def fill(stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as archive:
            for path in order:
                entry = everything[path]
                member = _member(path.lstrip("/"), entry)
                if entry.source is None:
                    archive.addfile(member)
                else:
                    with entry.source.open("rb") as source:
                        archive.addfile(member, source)

    return _compressed(fill, target)


def compress_layer(source: IO[bytes], target: IO[bytes]) -> Layer:
    """Make a layer of a tar."""

    def fill(stream: IO[bytes]) -> None:
        while chunk := source.read(1 << 20):
            stream.write(chunk)

    return _compressed(fill, target)


def _compressed(fill: Any, target: IO[bytes]) -> Layer:
    packed_sum, plain_sum = hashlib.sha256(), hashlib.sha256()
    packed = _Tee(target, packed_sum)
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=1, mtime=0) as stream:  # type: ignore[arg-type]
        fill(_Tee(stream, plain_sum))  # type: ignore[arg-type]
    return Layer(Descriptor(LAYER_GZIP, f"sha256:{packed_sum.hexdigest()}", packed.size), f"sha256:{plain_sum.hexdigest()}")


def config(layers: Sequence[Layer], architecture: str, *, path: str = "", entrypoint: Sequence[str] = (), command: Sequence[str] = (), user: str = "") -> bytes:
    """An image's configuration. `path` is put in front of the usual PATH."""
    usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run = {"Env": [f"PATH={path + ':' if path else ''}{usual}"], "Entrypoint": list(entrypoint), "Cmd": list(command), "User": user}
    return canonical(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {key: value for key, value in run.items() if value},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    )


def manifest(config_bytes: bytes, layers: Sequence[Descriptor]) -> bytes:
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": Descriptor.of(config_bytes, CONFIG).content(),
            "layers": [layer.content() for layer in layers],
        }
    )
