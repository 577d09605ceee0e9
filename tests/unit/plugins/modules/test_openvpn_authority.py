# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""openvpn_authority, called as Ansible calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins.modules.calling import Call


@pytest.fixture
def program(tmp_path: Path) -> Callable[[int, Any], str]:
    """A stand-in for fpga-hybrid-vpn that writes down how it was called."""

    def make(code: int, answer: Any) -> str:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/called\ncat <<'END'\n{json.dumps(answer)}\nEND\nexit {code}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_the_program_is_called_with_what_is_wanted(call: Call, program: Callable[[int, Any], str], tmp_path: Path) -> None:
    path = program(0, {"changed": True, "changes": ["certificate issued"], "profile": "text"})
    result = call("openvpn_authority", verb="issue", name="w", address="172.27.224.9", endpoint="vpn.example.org", port=1195, program=path)
    assert (tmp_path / "called").read_text() == "issue w 172.27.224.9 --endpoint vpn.example.org --port 1195\n"
    assert result["changed"] is True
    assert result["profile"] == "text"


@pytest.mark.parametrize(
    ("verb", "words"), [("issue", "issue w --check"), ("revoke", "revoke w --check"), ("renew-crl", "renew-crl --check"), ("list", "list")]
)
def test_a_check_lets_the_program_predict(call: Call, program: Callable[[int, Any], str], tmp_path: Path, verb: str, words: str) -> None:
    call("openvpn_authority", check=True, verb=verb, name="w", program=program(0, {}))
    assert (tmp_path / "called").read_text().strip() == words


def test_a_refusal_is_the_program_s_own_sentence(call: Call, program: Callable[[int, Any], str]) -> None:
    result = call("openvpn_authority", verb="issue", name="w", program=program(4, {"error": "w: address taken"}))
    assert result["failed"]
    assert result["msg"] == "w: address taken"


def test_a_session_that_could_not_be_cut_is_a_failure(call: Call, program: Callable[[int, Any], str]) -> None:
    result = call("openvpn_authority", verb="revoke", name="w", program=program(7, {"changed": True, "session": "not cut: timed out"}))
    assert result["failed"]
    assert "not cut" in result["msg"]


@pytest.mark.parametrize("code", [3, 5])
def test_taking_out_a_host_that_was_never_in_is_no_failure_only_when_asked_so(call: Call, program: Callable[[int, Any], str], code: int) -> None:
    path = program(code, {"error": "no such name"})
    assert call("openvpn_authority", verb="revoke", name="w", missing_ok=True, program=path)["changed"] is False
    assert call("openvpn_authority", verb="revoke", name="w", program=path)["failed"]


def test_without_an_authority_a_check_predicts_and_a_run_says_where_it_comes_from(call: Call, tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    assert call("openvpn_authority", check=True, verb="issue", name="w", program=path)["changed"] is True
    assert "site.yml" in call("openvpn_authority", verb="issue", name="w", program=path)["msg"]
    assert call("openvpn_authority", verb="revoke", name="w", missing_ok=True, program=path)["changed"] is False


def test_a_program_that_breaks_down_is_not_taken_for_an_answer(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_text("#!/bin/sh\necho Traceback >&2\nexit 1\n")
    path.chmod(0o755)
    assert "Traceback" in call("openvpn_authority", verb="list", program=str(path))["msg"]
