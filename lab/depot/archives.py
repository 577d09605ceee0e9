"""Image archives that a user drops into the cache: `docker save`, `podman save`, `skopeo copy` to one tar, docker's format or OCI's."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from lab.depot import images, oci
from lab.depot.base import Cache, DepotError, Stamp, digest_of, lock, say
from lab.depot.registry import Registry
from lab.depot.repository import architecture

#: containerd and docker write the full name into the first; podman and skopeo have only the second, often with a bare tag in it.
NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
SMALL = 8 << 20


class ArchiveError(DepotError):
    """An archive that cannot be taken; the message names the file."""

    def __init__(self, path: Path, problem: str) -> None:
        remedy = "Save the image again (docker save, podman save, skopeo copy ... docker-archive:FILE:NAME:TAG), or take the file away"
        super().__init__(f"{path}: {problem}. {remedy}.")


class Target(Protocol):
    """What of a registry the loader needs."""

    def push_blob(self, repository: str, descriptor: oci.Descriptor, content: bytes | IO[bytes]) -> None: ...
    def push_manifest(self, repository: str, tag: str, content: bytes, media_type: str) -> str: ...


@dataclass(frozen=True)
class Image:
    """One image of an archive, ready to be sent: blobs first, then manifests, the last of which gets the tag."""

    reference: oci.Reference
    blobs: tuple[tuple[oci.Descriptor, str], ...]
    manifests: tuple[tuple[bytes, str], ...]


@dataclass
class Archive:
    path: Path
    tar: tarfile.TarFile
    members: dict[str, tarfile.TarInfo] = field(default_factory=dict)

    def fail(self, problem: str) -> ArchiveError:
        return ArchiveError(self.path, problem)

    def open(self, name: str) -> IO[bytes]:
        member = self.members.get(name)
        stream = self.tar.extractfile(member) if member is not None and (member.isfile() or member.issym() or member.islnk()) else None
        if stream is None:
            raise self.fail(f"{name} is missing in it")
        return stream

    def read(self, name: str) -> bytes:
        with self.open(name) as stream:
            content = stream.read(SMALL + 1)
        if len(content) > SMALL:
            raise self.fail(f"{name} is larger than any manifest ({SMALL >> 20} MiB)")
        return content

    def json(self, name: str) -> Any:
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise self.fail(f"{name} in it is no JSON: {error}") from error

    def describe(self, name: str, media_type: str) -> oci.Descriptor:
        """Digest and size of a file that may be large."""
        size, total = 0, hashlib.sha256()
        with self.open(name) as stream:
            while chunk := stream.read(1 << 20):
                size += len(chunk)
                total.update(chunk)
        return oci.Descriptor(media_type, f"sha256:{total.hexdigest()}", size)

    def reference(self, text: str) -> oci.Reference:
        try:
            reference = oci.Reference.parse(text)
            reference.mirrored  # noqa: B018  refuses registries with a port
        except oci.ReferenceFormatError as error:
            raise self.fail(f"the image's name in it, {error}") from error
        return reference


def read_archive(path: Path, arch: str) -> list[Image]:
    """What an archive holds for this architecture; raises ArchiveError."""
    try:
        with tarfile.open(path) as tar:
            archive = Archive(path, tar, {member.name.removeprefix("./"): member for member in tar.getmembers()})
            if "manifest.json" in archive.members:
                found = list(docker_images(archive))
            elif "index.json" in archive.members:
                found = list(oci_images(archive, arch))
            else:
                raise archive.fail("it is no image archive (neither manifest.json nor index.json in it)")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ArchiveError(path, f"it cannot be read as a tar ({str(error).splitlines()[0].rstrip(': ')})") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ArchiveError(path, f"its index is not as the format wants it ({type(error).__name__}: {error})") from error
    if not found:
        raise ArchiveError(path, "no image in it has a name (registry/repository:tag)")
    return found


def docker_images(archive: Archive) -> Iterator[Image]:
    """docker's format: manifest.json names configuration and layers. They become an OCI manifest; layers stay as they are."""
    for entry in archive.json("manifest.json"):
        config_bytes = archive.read(entry["Config"])
        diff_ids = archive.json(entry["Config"])["rootfs"]["diff_ids"]
        if len(diff_ids) != len(entry["Layers"]):
            raise archive.fail(f"it lists {len(entry['Layers'])} layers, its configuration {len(diff_ids)}")
        blobs: list[tuple[oci.Descriptor, str]] = []
        for name, diff_id in zip(entry["Layers"], diff_ids, strict=True):
            with archive.open(name) as stream:
                packed = stream.read(2) == b"\x1f\x8b"
            layer = archive.describe(name, oci.LAYER_GZIP if packed else oci.LAYER)
            if not packed and layer.digest != diff_id:
                raise archive.fail(f"layer {name} has checksum {layer.digest}, its configuration says {diff_id}: the file is damaged")
            blobs.append((layer, name))
        manifest = oci.manifest(config_bytes, [layer for layer, _name in blobs])
        blobs.append((oci.Descriptor.of(config_bytes, oci.CONFIG), entry["Config"]))
        for tag in entry.get("RepoTags") or []:
            yield Image(archive.reference(tag), tuple(blobs), ((manifest, oci.MANIFEST),))


def oci_images(archive: Archive, arch: str) -> Iterator[Image]:
    """OCI's layout: index.json names manifests or further indices, blobs lie under their digests and go as they are."""
    for entry in archive.json("index.json")["manifests"]:
        name = next((entry.get("annotations", {}).get(key, "") for key in NAME_ANNOTATIONS if "/" in entry.get("annotations", {}).get(key, "")), "")
        if not name:
            continue
        blobs: dict[str, tuple[oci.Descriptor, str]] = {}
        manifests = list(_manifests(archive, entry, arch, blobs))
        yield Image(archive.reference(name), tuple(blobs.values()), tuple(manifests))


def _blob(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"


def _checked(archive: Archive, entry: Mapping[str, Any]) -> bytes:
    content = archive.read(_blob(entry["digest"]))
    if oci.digest(content) != entry["digest"]:
        raise archive.fail(f"{_blob(entry['digest'])} does not have the checksum that is its name: the file is damaged")
    return content


def _manifests(archive: Archive, entry: Mapping[str, Any], arch: str, blobs: dict[str, tuple[oci.Descriptor, str]]) -> Iterator[tuple[bytes, str]]:
    """A manifest with its blobs; of an index, all if the archive has all, else the one for this architecture."""
    content = _checked(archive, entry)
    if entry["mediaType"] in oci.INDEXES:
        children = json.loads(content)["manifests"]
        present = [child for child in children if _blob(child["digest"]) in archive.members]
        if len(present) < len(children):
            present = [child for child in present if child.get("platform", {}).get("architecture") == arch]
            if not present:
                raise archive.fail(f"it holds no image for {arch}")
            yield from _manifests(archive, present[0], arch, blobs)
            return
        for child in present:
            yield from _manifests(archive, child, arch, blobs)
        yield content, entry["mediaType"]
    elif entry["mediaType"] in oci.MANIFESTS:
        manifest = json.loads(content)
        for blob in (manifest["config"], *manifest["layers"]):
            name = _blob(blob["digest"])
            found = archive.describe(name, blob["mediaType"])
            if found.digest != blob["digest"]:
                raise archive.fail(f"{name} does not have the checksum that is its name: the file is damaged")
            blobs[name] = (found, name)
        yield content, entry["mediaType"]
    else:
        raise archive.fail(f"{entry['mediaType']} is no image's media type")


def send(image: Image, path: Path, registry: Target) -> str:
    """Push an image of an archive; returns its digest."""
    repository = image.reference.mirrored
    with tarfile.open(path) as tar:
        archive = Archive(path, tar, {member.name.removeprefix("./"): member for member in tar.getmembers()})
        for descriptor, name in image.blobs:
            with archive.open(name) as stream:
                registry.push_blob(repository, descriptor, stream)
    digest = ""
    for position, (content, media_type) in enumerate(image.manifests, 1):
        digest = registry.push_manifest(repository, image.reference.tag if position == len(image.manifests) else "", content, media_type)
    return digest


def load(cache: Cache) -> None:
    """Have in the registry exactly the images of the archives in $CACHE/images; an archive that has not changed since is not opened."""
    cache.images.mkdir(parents=True, exist_ok=True)
    paths = {path.name: path for path in sorted(cache.images.glob("*.tar"))}
    folder = cache.depot / "archives"
    if not paths and not any(folder.glob("*.json")):
        return
    with lock(cache, "archives"), images.connect(cache) as registry:
        kept = [push(path, Stamp(folder / f"{name}.json"), registry) for name, path in paths.items()]
        present = {(image["repository"], image["digest"]) for images_of_one in kept for image in images_of_one}
        for stale in folder.glob("*.json"):
            if stale.stem not in paths:
                for image in Stamp(stale).read().get("images", []):
                    if (image["repository"], image["digest"]) not in present:
                        registry.delete_manifest(image["repository"], image["digest"])
                        say(f"depot: image {image['reference']} is gone with {stale.stem}")
                stale.unlink()


def references(cache: Cache) -> list[str]:
    """Of the archives' images, as they were when last loaded."""
    return [image["reference"] for path in sorted((cache.depot / "archives").glob("*.json")) for image in Stamp(path).read().get("images", [])]


def push(path: Path, stamp: Stamp, registry: Registry) -> list[dict[str, str]]:
    """Have an archive's images in the registry; says which."""
    state = path.stat()
    inputs = digest_of(path.name, str(state.st_size), str(state.st_mtime_ns), images.FORMAT)
    known = stamp.read()
    there: list[dict[str, str]] = known.get("images", [])
    if known.get("inputs") == inputs and all(registry.manifest_digest(image["repository"], image["tag"]) == image["digest"] for image in there):
        return there
    sent = []
    for image in read_archive(path, architecture()):
        digest = send(image, path, registry)
        sent.append({"reference": str(image.reference), "repository": image.reference.mirrored, "tag": image.reference.tag, "digest": digest})
        say(f"depot: image {image.reference} from {path.name}")
    stamp.write(inputs, images=sent)
    return sent
