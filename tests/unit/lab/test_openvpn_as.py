# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The double of Access Server fails where Access Server does."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.openvpn_as import access_server_double
from lab.openvpn_as.access_server_double import AccessServer, RefusedError


@pytest.fixture
def server(tmp_path: Path) -> AccessServer:
    double = AccessServer(tmp_path)
    double.install()
    return double


def sacli(server: AccessServer, *words: str) -> str:
    code, out, err = server.run(["sacli", *words])
    assert code == 0, err
    return out


def admit(server: AccessServer, user: str, **properties: str) -> None:
    for key, value in {"prop_autologin": "true", **properties}.items():
        sacli(server, "--user", user, "--key", key, "--value", value, "UserPropPut")


def test_it_validates_nothing_and_a_property_makes_a_user(server):
    sacli(server, "--key", "vpn.servr.routing", "--value", "perhaps", "ConfigPut")
    assert json.loads(sacli(server, "ConfigQuery"))["vpn.servr.routing"] == "perhaps"
    admit(server, "worker1")
    assert json.loads(sacli(server, "--user", "worker1", "UserPropGet")) == {"worker1": {"type": "user_connect", "prop_autologin": "true"}}


def test_a_setting_holds_only_after_a_restart_which_cuts_every_session(server):
    for key, value in (("network", "172.27.232.0"), ("netmask_bits", "21")):
        sacli(server, "--key", f"vpn.server.static.0.{key}", "--value", value, "ConfigPut")
    admit(server, "worker1", conn_ip="172.27.232.9")
    with pytest.raises(RefusedError, match="static"):
        server.connect("worker1")
    sacli(server, "start")
    assert server.connect("worker1") == "172.27.232.9"
    sacli(server, "start")
    assert not json.loads(sacli(server, "VPNStatus"))["openvpn_0"]["client_list"]


def test_nothing_answers_while_it_is_not_up(server):
    server.set_up(False)
    assert server.run(["sacli", "status"]) == (1, "", access_server_double.NOT_UP + "\n")


def test_two_connections_are_free_and_a_subscription_gives_more(server):
    for name in ("a", "b", "c"):
        admit(server, name)
    assert [server.connect(name) for name in ("a", "b")] == ["172.27.224.2", "172.27.224.3"]
    with pytest.raises(RefusedError, match="LICENSE"):
        server.connect("c")
    sacli(server, "--value", "double-of-a-subscription-3", "LoadSubscription")
    assert ast.literal_eval(sacli(server, "SubscriptionStatus"))["max_cc"] == 3
    server.connect("c")


@pytest.mark.parametrize("properties", [{"prop_deny": "true"}, {"prop_autologin": "false"}])
def test_who_is_denied_or_has_no_profile_without_password_is_not_let_in(server, properties):
    admit(server, "worker1", **properties)
    with pytest.raises(RefusedError):
        server.connect("worker1")


def test_each_profile_is_another_one_and_wants_the_property(server):
    assert server.run(["sacli", "--user", "worker1", "GetAutologin"])[0] == 1
    admit(server, "worker1")
    assert sacli(server, "--user", "worker1", "GetAutologin") != sacli(server, "--user", "worker1", "GetAutologin")


def test_it_is_called_as_a_program_and_writes_down_how(tmp_path):
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "LAB_OPENVPN_AS_ROOT": str(tmp_path)}
        return subprocess.run([sys.executable, access_server_double.__file__, *words], env=environment, capture_output=True, text=True, check=False)

    assert call("ovpn-init", "--batch", "--force", "--host=vpn.example.org").returncode == 0
    again = call("ovpn-init", "--batch")
    assert (again.returncode, "delete this configuration" in again.stderr) == (1, True)
    assert AccessServer(tmp_path).verbs() == ["--host=vpn.example.org", "--batch"]


def test_its_service_is_up_until_it_is_told_to_end_and_wants_a_configuration(tmp_path):
    command = [sys.executable, access_server_double.__file__, "openvpnas", "--nodaemon"]
    environment, server = {**os.environ, "LAB_OPENVPN_AS_ROOT": str(tmp_path)}, AccessServer(tmp_path)
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, "run ovpn-init first" in refused.stderr) == (1, True)
    server.run(["ovpn-init", "--batch"])
    with subprocess.Popen(command, env=environment) as service:
        end = time.monotonic() + 20
        while server.run(["sacli", "status"])[0] and time.monotonic() < end:
            time.sleep(0.02)
        assert server.run(["sacli", "status"])[0] == 0
        service.send_signal(signal.SIGTERM)
        assert service.wait(20) == 0
    assert server.run(["sacli", "status"])[0] == 1


def test_the_administrators_password_is_printed_and_another_one_each_time(server):
    assert len({server.run(["ovpn-init", "--batch", "--force"])[1] for _ in range(3)}) == 3
