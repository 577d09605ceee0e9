# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubectl_apply where there is no API to ask: a check of a fresh host says what would come, a run says what is missing."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins.modules.calling import Call

SPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fpga"}}
CHART = {"release": "r", "name": "autoscaler", "version": "1.0.0", "repository": "https://charts.example.org"}


@pytest.fixture
def apply(call: Call, tmp_path: Path) -> Call:
    return functools.partial(call, "kubectl_apply", kubeconfig=str(tmp_path / "admin.conf"))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"definition": [SPACE]}, ["v1 Namespace fpga"]),
        ({"definition": SPACE, "charts": [CHART]}, ["v1 Namespace fpga", "chart"]),
        ({"src": "/no/such.yml"}, ["/no/such.yml"]),
    ],
)
def test_a_check_of_a_fresh_host_names_what_would_be_made(apply: Call, options: dict[str, Any], names: list[str]) -> None:
    checked = apply(check=True, **options)
    assert (checked["changed"], checked["updated"]) == (True, [])
    assert len(checked["created"]) == len(names)
    assert all(found.startswith(name) for found, name in zip(checked["created"], names))
    assert checked["diff"]["after"].splitlines() == checked["created"]


def test_a_file_that_is_not_there_is_told(apply: Call) -> None:
    assert "/no/such.yml" in apply(src="/no/such.yml")["msg"]


def test_an_api_server_that_does_not_answer_is_told(apply: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kubectl").write_text("#!/bin/sh\necho 'connection refused' >&2; exit 1\n")
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert "connection refused" in apply(definition=SPACE)["msg"]
