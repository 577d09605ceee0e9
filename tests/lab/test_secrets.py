# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Known secrets never appear in the output of a run at -vvv, plain or in base64."""

from __future__ import annotations

import base64
import os
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
    """What nobody may see, by name: the mirrors' password and the keys of the VPN."""
    secrets = {"mirror password": (CACHE / "depot" / "password").read_text().strip()}
    for number, line in enumerate(key_lines(on("worker1", f"cat {PROFILE}")) + key_lines(on("cp1", "cat /etc/fpga-hybrid/vpn/*.key"))):
        secrets[f"key line {number}"] = line
    assert len(secrets) > 8, "the planted secrets are not where this test looks for them"
    return secrets


def shown(secrets: dict[str, str], output: str) -> list[str]:
    """Names of the secrets that the output holds, plain or in base64."""
    return [name for name, secret in secrets.items() if secret in output or base64.b64encode(secret.encode()).decode().rstrip("=")[:-1] in output]


def test_no_secret_in_the_loudest_output():
    """worker1's profile is taken away first, so that the run issues and writes it, and the token is made for a join."""
    secrets = planted()
    on("worker1", f"rm {PROFILE}")
    run = playbook("site", "-vvv", "--diff").check()
    assert "Write the profile" in " ".join(run.changed()["worker1"])
    for token in on("cp1", "kubeadm --kubeconfig /etc/kubernetes/admin.conf token list -o jsonpath='{.token}' 2>/dev/null || :").split():
        secrets[f"token {token[:6]}"] = token.partition(".")[2] or token
    assert shown(secrets, run.output) == []


@pytest.mark.parametrize("name", ["artifacts", "preflight", "verify"])
def test_no_secret_in_what_the_other_playbooks_say(name):
    assert shown(planted(), playbook(name, "-vvv").check().output) == []
