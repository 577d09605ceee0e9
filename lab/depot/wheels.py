"""Python wheels of which images have files: libraries that are neither a program of the depot's nor Debian's."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from lab.depot import files, golang
from lab.depot.base import HERE, Cache, DepotError, Stamp, digest_of, file_digest, lock, say, scratch

REQUIREMENTS = HERE / "images" / "wheels.txt"
#: What pip is told; none of them is of one Python only.
PYTHON = files.PYTHONS[0]
#: Part of the stamp: raise it when this program lays out something else from the same wheels.
FORMAT = "1"


def _folder(cache: Cache) -> Path:
    return cache.depot / "wheels"


def _stamp(cache: Cache) -> Stamp:
    return Stamp(cache.depot / "wheels.stamp")


def digest(cache: Cache, name: str) -> str:
    """Of the wheel itself: one of those in wheels.txt, this machine's."""
    found = _stamp(cache).read().get("sha256", {}).get(name)
    if found is None:
        raise DepotError(f"wheel {name} is not in {_folder(cache)}. Name it in {REQUIREMENTS.name} with its hash, and build the depot.")
    return str(found)


def contents(cache: Cache, reference: str) -> dict[str, Path]:
    """NAME/path in the wheel: a file, as {"": file}, or all of a folder by their paths in it."""
    name, _, inside = reference.partition("/")
    digest(cache, name)
    source = _folder(cache) / reference
    if source.is_file():
        return {"": source}
    found = {str(path.relative_to(source)): path for path in sorted(source.rglob("*")) if path.is_file()}
    if not found:
        raise DepotError(f"wheel {name} has no {inside!r}: look at what is in {_folder(cache) / name}.")
    return found


def build(cache: Cache) -> None:
    """Fetch and unpack what wheels.txt names, if it changed; pip checks the hashes."""
    inputs = digest_of(FORMAT, REQUIREMENTS, PYTHON, *files.PLATFORMS)
    stamp, target = _stamp(cache), _folder(cache)
    if stamp.is_current(inputs, target):
        return
    with lock(cache, "wheels"), scratch(cache) as folder:
        fetched, unpacked = folder / "fetched", folder / "unpacked"
        golang.pip(cache, *files.download_arguments(PYTHON, REQUIREMENTS, fetched))
        digests = {}
        for wheel in fetched.glob("*.whl"):
            name = files.normalised(wheel.name.split("-")[0])
            digests[name] = file_digest(wheel)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked / name)
        shutil.rmtree(target, ignore_errors=True)
        unpacked.replace(target)
        stamp.write(inputs, sha256=digests)
        say(f"depot: wheels of images fetched ({', '.join(sorted(digests))})")
