# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-builder makes of our execution environment. Its image is built by no test: that takes a registry."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BUILDER = Path(sys.executable).parent / "ansible-builder"
DEFINITION = ROOT / "roles" / "awx" / "files" / "execution-environment.yml"


def create(folder: Path, definition: Path) -> subprocess.CompletedProcess[str]:
    command = [str(BUILDER), "create", "--file", str(definition), "--context", str(folder / "context")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def definition(tmp_path):
    """Beside the tarball, as docs/awx.md has it. What is in that is no matter here."""
    (tmp_path / "fpga-hybrid.tar.gz").write_bytes(b"")
    return Path(shutil.copy(DEFINITION, tmp_path))


def test_ansible_builder_takes_the_definition(definition, tmp_path):
    done = create(tmp_path, definition)
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = yaml.safe_load((tmp_path / "context" / "_build" / "requirements.yml").read_text())["collections"]
    assert [entry["name"] for entry in wanted] == ["configs/fpga-hybrid.tar.gz", "awx.awx"]
    for entry in wanted:
        if entry.get("type") == "file":
            assert (tmp_path / "context" / "_build" / entry["name"]).exists(), "the build would not find it"


def test_what_the_collection_itself_says_is_a_definition_too(tmp_path):
    """meta/execution-environment.yml names its files from the collection's root, as the builder asks collections; from there it can be built alone."""
    for path in (ROOT / "meta").glob("*"):
        (tmp_path / "meta").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "meta")
    done = create(tmp_path, Path(shutil.copy(ROOT / "meta" / "execution-environment.yml", tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "context" / "_build" / "bindep.txt").read_text() == (ROOT / "meta" / "ee-bindep.txt").read_text()
    assert (tmp_path / "context" / "_build" / "requirements.txt").read_text() == (ROOT / "meta" / "ee-requirements.txt").read_text()


def test_its_core_is_one_that_the_collection_takes():
    assert yaml.safe_load(DEFINITION.read_text())["dependencies"]["ansible_core"]["package_pip"].startswith("ansible-core>=2.19,")


def test_a_definition_that_is_none_is_refused(tmp_path):
    (tmp_path / "wrong.yml").write_text("---\nversion: 3\ndependencies: {pyhton: x}\n")
    assert create(tmp_path, tmp_path / "wrong.yml").returncode != 0
