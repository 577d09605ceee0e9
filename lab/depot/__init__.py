"""The lab's depot: the site's mirror, made from pinned sources with checksums.

`build` makes everything that lies in files, `up` starts the container that serves it and fills its registry. Both take
what is there as it is: what is missing, or was made from other inputs, is made; a killed run is simply continued.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from lab import settings
from lab.depot import archives, container, debian, debs, files, golang, images, rootfs, tls, wheels
from lab.depot.base import Cache, DepotError
from lab.depot.container import Served
from lab.depot.repository import signer

__all__ = ["DepotError", "Item", "Served", "add_verbs", "build", "items", "listing", "minutes", "remove", "served", "set_time_offset", "status", "up"]

#: Seconds on two cores for what is not a Go program: Debian's packages of both suites, two root file systems, packing and pushing.
OTHER_SECONDS = {"debian": 60, "rootfs": 75, "packages": 8, "images": 20}


def build(*, refresh: bool = False) -> None:
    """Build, fetch and pack whatever is missing or outdated; with refresh, fetch Debian's updates too."""
    cache = Cache.default()

    def fetch() -> None:
        debian.build(cache, refresh=refresh)
        rootfs.server(cache)
        rootfs.image_base(cache)

    with ThreadPoolExecutor(max_workers=1) as beside:
        fetched = beside.submit(fetch)
        golang.build(cache)
        fetched.result()
    if not (cache.depot / "key.asc").exists():
        files.publish_key(cache, signer(cache).public_key())
    debs.build(cache)
    files.build(cache)
    wheels.build(cache)


def up() -> None:
    """Have the depot serve all that was built, and the image archives that the user dropped into the cache."""
    cache = Cache.default()
    container.start(cache)
    images.push_all(cache)
    archives.load(cache)


def remove() -> None:
    """Take the container away; what was built stays in the cache."""
    container.remove()


def served(since: datetime | None = None) -> list[Served]:
    """What hosts have asked for and got, since a time; what the machine itself asked for is left out."""
    log = container.access_log(Cache.default())
    answers = container.parse_access_log(log.read_text()) if log.exists() else iter(())
    machine = {str(network.gateway) for network in settings.NETWORKS.values()}
    return [answer for answer in answers if answer.client not in machine and answer.status < 400 and (since is None or answer.time >= since)]


def set_time_offset(seconds: float) -> None:
    """Let the depot's time source be wrong by so many seconds; 0 makes it honest again."""
    path = container.offset_file(Cache.default())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{seconds}\n")


def minutes() -> float:
    """How long the next build takes on two cores, by the figures in components.toml."""
    cache = Cache.default()
    table = golang.read_table()
    programs = sum(program.seconds for program in golang.missing(cache, table))
    toolchain = table.toolchain_seconds if programs and not golang.toolchain_root(cache, table).exists() else 0
    wanted = debian.read_list()
    suites = sum(OTHER_SECONDS["debian"] / len(wanted.suites) for suite in wanted.suites if not debian.is_current(cache, wanted, suite))
    roots = [stamp for stamp in (rootfs.server_stamp(cache), rootfs.image_base_stamp(cache)) if not stamp.path.exists()]
    rest = OTHER_SECONDS["packages"] + OTHER_SECONDS["images"] if programs else 0
    return (programs + toolchain + suites + OTHER_SECONDS["rootfs"] / 2 * len(roots) + rest) / 60


@dataclass(frozen=True)
class Item:
    """One thing that the depot has."""

    kind: str
    name: str
    version: str
    size: int
    made: float


def items() -> Iterator[Item]:
    cache = Cache.default()
    table = golang.read_table()
    for program in table.programs:
        if program.path(cache).exists():
            state = program.path(cache).stat()
            yield Item("program", f"{program.component}/{program.name}", program.version, state.st_size, state.st_mtime)
    for path in sorted((cache.depot / "debs").glob("*.deb")):
        name, version, _rest = path.name.split("_")
        yield Item("package", name, version, path.stat().st_size, path.stat().st_mtime)
    for suite in debian.read_list().suites:
        stamp = debian.stamp(cache, suite)
        packages = stamp.read().get("packages", [])
        if packages:
            folder = cache.www / "debian" / "pool" / suite
            yield Item("debian", suite, f"{len(packages)} packages", sum(path.stat().st_size for path in folder.iterdir()), stamp.path.stat().st_mtime)
    for path in sorted((cache.depot / "images").glob("*.json")):
        image = json.loads(path.read_text())
        yield Item("image", image["reference"], image["digest"], image["size"], path.stat().st_mtime)
    for path in sorted((cache.depot / "archives").glob("*.json")):
        for image in json.loads(path.read_text())["images"]:
            yield Item("archive", image["reference"], image["digest"], (cache.images / path.stem).stat().st_size, path.stat().st_mtime)
    for path in sorted((cache.www / "charts").glob("*.tgz")):
        name, _, version = path.stem.rpartition("-")
        yield Item("chart", name, version, path.stat().st_size, path.stat().st_mtime)


def age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def listing() -> str:
    """A table of all items for people."""
    now = time.time()
    return "".join(f"{item.kind:8} {item.name:55} {item.version[:27]:28} {item.size / 2**20:8.1f} MiB {age(now - item.made):>8}\n" for item in items())


def status() -> str:
    """What is missing, and whether the depot serves."""
    cache = Cache.default()
    table = golang.read_table()
    lacking = [f"{program.component}/{program.name}" for program in golang.missing(cache, table)]
    wanted = debian.read_list()
    lacking += [f"Debian {suite}" for suite in wanted.suites if not debian.is_current(cache, wanted, suite)]
    serves = tls.ca(cache).exists() and container.responds(cache)
    lines = [
        f"built     {'everything' if not lacking else f'all but {len(lacking)}: ' + ', '.join(lacking)}",
        f"to build  about {minutes():.0f} minutes",
        f"serves    {f'yes, {container.url()}' if serves else 'no'}",
        f"archives  {cache.images}: {len(list(cache.images.glob('*.tar')))}",
    ]
    return "\n".join(lines) + "\n"


def add_verbs(parser: argparse.ArgumentParser) -> None:
    """The command line: each verb sets `action`, to be called with the parsed options."""
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    make = verbs.add_parser("build", help="build, fetch and pack what is missing")
    make.add_argument("--refresh", action="store_true", help="fetch Debian's updates too")
    make.set_defaults(action=lambda options: build(refresh=options.refresh))
    for name, action, text in (
        ("up", up, "serve it, and push the image archives of the cache"),
        ("remove", remove, "take the container away; what was built stays in the cache"),
        ("status", lambda: print(status(), end=""), "what is missing, and whether it serves"),
        ("list", lambda: print(listing(), end=""), "all that it has"),
    ):
        verbs.add_parser(name, help=text).set_defaults(action=lambda _options, action=action: action())
    clock = verbs.add_parser("clock", help="let its time source be wrong by so many seconds; 0 makes it honest again")
    clock.add_argument("seconds", type=float)
    clock.set_defaults(action=lambda options: set_time_offset(options.seconds))
