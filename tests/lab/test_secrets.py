# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Known secrets never appear in the output of a run at -vvv, plain or in base64."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import pytest

from tests.lab.site import on, playbook

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CACHE = Path(os.environ.get("FPGA_HYBRID_LAB_CACHE") or Path.home() / ".cache" / "fpga-hybrid-lab")
PROFILE = "/etc/openvpn/client/fpga-hybrid.conf"


def key_lines(text: str) -> list[str]:
    """The lines of the private keys in a text: those between BEGIN ... KEY and END, long enough to be nobody else's."""
    lines, inside = [], False
    for line in text.splitlines():
        if "-----" in line:
            inside = "BEGIN" in line and ("PRIVATE KEY" in line or "OpenVPN" in line)
        elif inside and len(line) > 20:
            lines.append(line.strip())
    return lines


def planted() -> dict[str, str]:
    """What nobody may see, by name: the mirrors' password, the keys of the VPN, the administrator's key."""
    secrets = {"mirror password": (CACHE / "depot" / "password").read_text().strip()}
    keys = key_lines(on("worker1", f"cat {PROFILE}")) + key_lines(on("cp1", "cat /etc/fpga-hybrid/vpn/*.key"))
    (encoded,) = re.findall(r"client-key-data: (\S+)", on("cp1", "cat /etc/kubernetes/admin.conf"))
    keys += key_lines(base64.b64decode(encoded).decode())
    for number, line in enumerate(keys):
        secrets[f"key line {number}"] = line
    assert len(secrets) > 12, "the planted secrets are not where this test looks for them"
    return secrets


def appearances(secret: str) -> list[str]:
    """The secret itself, and what of its base64 is the same whatever stands before and behind it, at each of the three alignments."""
    found = [secret]
    for before in range(3):
        text = base64.b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        found.append(text[-(-before * 8 // 6) : len(text) - 1])
    return found


def shown(secrets: dict[str, str], output: str) -> list[str]:
    return [name for name, secret in secrets.items() if any(text in output for text in appearances(secret))]


def test_a_secret_is_found_whatever_it_is_packed_in():
    for before in ("", "x", "xy", "xyz"):
        assert shown({"it": "s3cret-password"}, base64.b64encode(f"{before}s3cret-password and more".encode()).decode()) == ["it"]
    assert shown({"it": "s3cret-password"}, base64.b64encode(b"something else").decode()) == []


def test_no_secret_in_the_loudest_output():
    """worker1 leaves the cluster first, so that the run issues and writes its profile, makes a token and joins it."""
    secrets = planted()
    playbook("reset", "-e", "confirm=lab", "--limit", "worker1").check()
    run = playbook("site", "-vvv", "--diff").check()
    assert any("Write the profile" in task for task in run.changed()["worker1"])
    assert any("Join the cluster" in task for task in run.changed()["worker1"])
    tokens = on("cp1", "kubeadm --kubeconfig /etc/kubernetes/admin.conf token list -o jsonpath='{.token}{\"\\n\"}'").split()
    assert tokens, "the token that worker1 joined with should still be there"
    secrets |= {f"token {token[:6]}": token.partition(".")[2] for token in tokens}
    secrets |= {f"new key line {number}": line for number, line in enumerate(key_lines(on("worker1", f"cat {PROFILE}")))}
    assert shown(secrets, run.output) == []


@pytest.mark.parametrize("name", ["artifacts", "preflight", "verify"])
def test_no_secret_in_what_the_other_playbooks_say(name):
    assert shown(planted(), playbook(name, "-vvv").check().output) == []
