"""Root file systems made of Debian packages: the depot's container's own, and the base of images that need more than one program."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from lab.depot.base import EPOCH, Cache, Stamp, digest_of, lock, run, scratch, step
from lab.depot.debian import apt_root, machine_mirror

SERVER_PACKAGES = ("nginx", "docker-registry", "python3", "ca-certificates")
IMAGE_BASE_PACKAGES = ("bash", "iptables", "nftables", "conntrack", "ipset", "iproute2", "kmod", "ca-certificates")
SUITE = "bookworm"
SERVER = "server"
IMAGE_BASE = "image-base.tar"
#: Raise it when other options make another root file system of the same packages.
FORMAT = "1"

#: What nobody reads in a container.
DROPPED = ("doc", "man", "locale", "info", "lintian", "bug")


def _mmdebstrap(cache: Cache, target: Path, packages: Sequence[str]) -> None:
    root = apt_root(cache, SUITE)
    root.prepare(machine_mirror())
    command: list[str | Path] = ["mmdebstrap", "--mode=root", "--skip=output/dev", "--variant=minbase", f"--include={','.join(packages)}"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in DROPPED]
    command += ["--aptopt=Apt::Install-Recommends false", '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/log/*']
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "LC_ALL": "C"}
    run([*command, SUITE, target, root.sources], env=environment, log=cache.log / f"rootfs-{target.name}.log")


def _stamp(cache: Cache, name: str) -> Stamp:
    return Stamp(cache.depot / "rootfs" / f".{name}.stamp")


def _make(cache: Cache, name: str, packages: Sequence[str]) -> Path:
    target = cache.depot / "rootfs" / name
    stamp = _stamp(cache, name)
    inputs = digest_of(FORMAT, SUITE, *packages, *DROPPED)
    if stamp.is_current(inputs, target):
        return target
    with lock(cache, f"rootfs-{name}"):
        if stamp.is_current(inputs, target):
            return target
        with step(f"root file system {name}"):
            with scratch(cache) as folder:
                # mmdebstrap decides by the name's ending whether it writes a folder or a tar.
                _mmdebstrap(cache, folder / name, packages)
                target.parent.mkdir(parents=True, exist_ok=True)
                remove(target)
                (folder / name).replace(target)
            # when: what Debian had that day is part of what it is
            stamp.write(inputs, made=int(time.time()))
    return target


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def server(cache: Cache) -> Path:
    """A folder: podman runs the container straight from it."""
    return _make(cache, SERVER, SERVER_PACKAGES)


def image_base(cache: Cache) -> Path:
    """A tar: the first layer of images."""
    return _make(cache, IMAGE_BASE, IMAGE_BASE_PACKAGES)


def server_stamp(cache: Cache) -> Stamp:
    return _stamp(cache, SERVER)


def image_base_stamp(cache: Cache) -> Stamp:
    return _stamp(cache, IMAGE_BASE)
