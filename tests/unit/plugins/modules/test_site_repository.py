# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site_repository, called as Ansible calls it: what it wrote it may write again, what a person has changed it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.fpga.hybrid.plugins.modules import site_repository

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def write(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    def run(check: bool = False, version: str = "1", dest: str = str(tmp_path / "site"), trees: dict[str, str] | None = None, **files: str) -> dict[str, Any]:
        with (
            patch_module_args({"dest": dest, "version": version, "files": files, "trees": trees or {}, "_ansible_check_mode": check}),
            pytest.raises(SystemExit),
        ):
            site_repository.main()
        return dict(json.loads(capsys.readouterr().out))

    return run


def test_a_repository_is_predicted_made_and_then_left_alone(write: Call, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "b").write_text("2\n")
    trees = {"inventory": str(tmp_path / "tree")}
    checked = write(check=True, trees=trees, a="1\n")
    assert (checked["changed"], checked["created"], (tmp_path / "site").exists()) == (True, ["a", "inventory/b"], False)
    assert write(trees=trees, a="1\n")["diff"] == checked["diff"]
    assert (tmp_path / "site" / "inventory" / "b").read_text() == "2\n"
    assert not write(trees=trees, a="1\n")["changed"]


def test_a_newer_version_replaces_its_own_and_nothing_that_a_person_wrote(write: Call, tmp_path: Path) -> None:
    write(a="1\n", b="1\n", c="1\n")
    (tmp_path / "site" / "b").write_text("mine\n")
    (tmp_path / "site" / "c").unlink()
    newer = write(version="2", a="2\n", b="2\n", c="2\n")
    assert (newer["updated"], newer["edited"], newer["removed"]) == (["a"], ["b"], ["c"])
    assert [(tmp_path / "site" / name).read_text() for name in ("a", "b")] == ["2\n", "mine\n"]
    assert not (tmp_path / "site" / "c").exists()


def test_a_folder_by_no_absolute_path_is_refused(write: Call) -> None:
    assert "dest is 'here', expected an absolute path" in write(dest="here", a="1\n")["msg"]
