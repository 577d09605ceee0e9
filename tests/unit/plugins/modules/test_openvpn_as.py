# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""openvpn_as_config, openvpn_as_user and openvpn_as_licence, called as Ansible calls them, against a double of Access Server."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _command
from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_as as access_server
from lab.openvpn_as.access_server_double import AccessServer, statics
from tests.unit.plugins.modules.calling import Call

BUNDLE = "double-of-a-subscription-25"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AccessServer:
    """In this process, because a process of its own costs most of a test's time. What its program is called with is all that it learns."""
    double = AccessServer(tmp_path / "as")
    double.install()
    double.forget_calls()
    (tmp_path / "sacli").touch()

    def run(argv: Sequence[str], **options: Any) -> tuple[int, str, str]:
        if argv[0] != str(tmp_path / "sacli"):
            return _command.run(argv, **options)
        return double.run(["sacli", *argv[1:]])

    monkeypatch.setattr(access_server._command, "run", run)
    monkeypatch.setattr(access_server.time, "sleep", lambda _seconds: None)
    return double


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {"program": str(tmp_path / "sacli"), "wait": 0}


@pytest.fixture
def pending(tmp_path: Path) -> Path:
    return tmp_path / "vpn" / "restart-due"


def written(server: AccessServer) -> list[list[str]]:
    return [words[1:] for words in server.calls if words[-1] not in ("status", "ConfigQuery", "UserPropGet", "SubscriptionStatus", "VPNStatus")]


# --- Settings -----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def configure(call: Call, options: dict[str, Any], pending: Path) -> Call:
    def run(check: bool = False, **more: Any) -> dict[str, Any]:
        return call("openvpn_as_config", check=check, pending=str(pending), **options, **more)

    return run


def test_only_what_differs_is_written_and_one_restart_applies_it(server, configure):
    result = configure(settings={"vpn.daemon.0.listen.port": 1194, "vpn.server.daemon.enable": False, "host.name": "vpn.example.org"})
    assert written(server) == [
        ["--key", "vpn.daemon.0.listen.port", "--value", "1194", "ConfigPut"],
        ["--key", "vpn.server.daemon.enable", "--value", "false", "ConfigPut"],
        ["start"],
    ]
    assert server.verbs().count("ConfigQuery") == 1
    assert server.applied["vpn.daemon.0.listen.port"] == "1194"
    assert result["changed_keys"] == ["vpn.daemon.0.listen.port", "vpn.server.daemon.enable"]
    assert result["diff"] == {
        "before": "vpn.daemon.0.listen.port=443\nvpn.server.daemon.enable=true\n",
        "after": "vpn.daemon.0.listen.port=1194\nvpn.server.daemon.enable=false\n",
    }


def test_a_second_run_writes_and_restarts_nothing(server, configure):
    configure(settings={"vpn.daemon.0.listen.port": 1194})
    server.forget_calls()
    assert configure(settings={"vpn.daemon.0.listen.port": "1194"})["changed"] is False
    assert server.verbs() == ["status", "ConfigQuery"]


def test_a_check_tells_what_a_run_then_does_and_writes_nothing(server, configure, pending):
    settings = {"vpn.daemon.0.listen.protocol": "udp", "cs.https.port": 943}
    told = configure(check=True, settings=settings)
    assert (written(server), pending.exists(), pending.parent.exists()) == ([], False, False)
    did = configure(settings=settings)
    assert {key: told[key] for key in ("changed", "restarted", "changed_keys", "diff")} == {
        key: did[key] for key in ("changed", "restarted", "changed_keys", "diff")
    }
    assert told["changed"] is True


def test_a_check_of_a_host_without_access_server_tells_all(call, tmp_path):
    result = call("openvpn_as_config", check=True, settings={"cs.https.port": 943}, program=str(tmp_path / "nowhere"), pending=str(tmp_path / "p"))
    assert (result["changed"], result["changed_keys"]) == (True, ["cs.https.port"])


def test_a_key_that_is_null_and_those_of_a_family_that_nobody_wants_go(server, configure):
    result = configure(
        settings={"vpn.server.routing.private_network.1": "10.1.0.0/16", "cs.https.port": None}, exclusive=["vpn.server.routing.private_network."]
    )
    assert result["changed_keys"] == ["vpn.server.routing.private_network.1", "cs.https.port", "vpn.server.routing.private_network.0"]
    assert "vpn.server.routing.private_network.0" not in server.applied
    assert "cs.https.port" not in server.applied


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("vpn.server.routing.private_acces", "route", "Nearest: vpn.server.routing.private_access"),
        ("vpn.daemon.0.listen.prot", 1194, "vpn.daemon.0.listen.port"),
        ("vpn.server.static.3.netwrk", "10.0.0.0", "Nearest: vpn.server.static.3.network"),
        ("perhaps", "x", "None is near."),
        ("vpn.server.routing.private_access", "true", "vpn.server.routing.private_access: found 'true', expected no or nat or route."),
        ("vpn.daemon.0.listen.port", 70000, "expected a port from 1 to 65535"),
        ("vpn.server.daemon.enable", "yes", "expected true or false"),
        ("host.name", ["a"], "host.name: found ['a'], expected a text, a number, true or false"),
    ],
)
def test_what_access_server_would_take_and_never_read_is_refused(server, configure, key, value, says):
    result = configure(settings={"cs.https.port": 944, key: value})
    assert result["failed"]
    assert says in result["msg"]
    assert "nothing was changed" in result["msg"]
    assert written(server) == []


def test_a_key_that_the_server_has_or_the_user_answers_for_is_taken(server, configure):
    assert configure(settings={"vpn.brand.new": "1"}, unknown_keys=["vpn.brand.new"])["changed"] is True
    assert configure(settings={"vpn.brand.new": "1"})["changed"] is False


@pytest.mark.parametrize("broken", ["ConfigPut", "start"])
def test_what_was_written_and_not_applied_is_applied_by_the_next_run(server, configure, pending, broken):
    server.set_faults(**{broken: "the disk is full"})
    failed = configure(settings={"cs.https.port": 944})
    assert failed["msg"] == f"sacli {broken}: ERROR: the disk is full"
    server.set_faults()
    again = configure(settings={"cs.https.port": 944})
    assert (again["changed"], again["restarted"], server.applied["cs.https.port"], pending.exists()) == (True, True, "944", False)
    assert configure(settings={"cs.https.port": 944})["changed"] is False


def test_one_that_comes_up_late_is_waited_for(server, configure, options):
    server.set_faults(up_after=3)
    options["wait"] = 60
    assert configure(settings={"cs.https.port": 944})["changed"] is True


def test_one_that_is_not_up_is_said_with_where_to_look(server, configure):
    server.set_up(False)
    message = configure(settings={"cs.https.port": 944})["msg"]
    assert "Access Server does not answer: ERROR: Could not connect to UNIX socket" in message
    assert "systemctl status openvpnas" in message
    assert "(waited 0 s)" in message


def test_one_that_is_not_installed_is_said(call, tmp_path):
    result = call("openvpn_as_config", settings={}, program=str(tmp_path / "nowhere"), wait=60)
    assert "Access Server is not installed on this host. Run site.yml" in result["msg"]


def test_a_secret_is_not_in_the_diff(server, configure):
    result = configure(settings={"auth.ldap.0.bind_pw": "hunter2"}, unknown_keys=["auth.ldap.0.bind_pw"])
    assert result["diff"]["after"] == "auth.ldap.0.bind_pw=<secret after>\n"


@given(st.integers(min_value=8, max_value=28), st.integers(min_value=0, max_value=2**28 - 1))
def test_a_network_is_parted_into_the_servers_own_and_the_nodes(prefix, start):
    whole = IPv4Network((start << 4, prefix), strict=False)
    settings = access_server.networks(str(whole), str(whole[1]))
    own = IPv4Network(f"{settings['vpn.daemon.0.client.network']}/{settings['vpn.daemon.0.client.netmask_bits']}")
    parts = [own, *statics(settings)]
    assert whole[1] in own
    assert sum(part.num_addresses for part in parts) == whole.num_addresses
    assert all(part.subnet_of(whole) for part in parts)
    assert not any(one.overlaps(other) for index, one in enumerate(parts) for other in parts[:index])
    assert len(access_server.checked(settings, {})) == len(settings)


@pytest.mark.parametrize(("network", "address"), [("172.27.224.0/20", "172.27.224.2"), ("172.27.224.0/20", "172.27.240.1"), ("10.0.0.0/29", "10.0.0.1")])
def test_a_server_address_that_access_server_would_not_take_is_refused(network, address):
    with pytest.raises(access_server.AccessServerError, match="expected"):
        access_server.networks(network, address)


# --- Users ----------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def user(call: Call, options: dict[str, Any]) -> Call:
    def run(check: bool = False, **more: Any) -> dict[str, Any]:
        return call("openvpn_as_user", check=check, **options, **more)

    return run


def test_a_user_gets_an_address_and_a_profile_and_no_second_run_writes(server, user):
    first = user(name="notebook", address="172.27.225.9", profile="autologin")
    assert server.users["notebook"] == {"type": "user_connect", "prop_autologin": "true", "conn_ip": "172.27.225.9"}
    assert "<key>" in first["profile"]
    assert first["diff"]["after"] == "conn_ip=172.27.225.9\nprop_autologin=true\ntype=user_connect\n"
    server.forget_calls()
    assert user(name="notebook", address="172.27.225.9")["changed"] is False
    assert written(server) == []


def test_nothing_of_a_user_restarts_access_server(server, user):
    user(name="notebook")
    user(name="notebook", state="absent")
    assert "start" not in server.verbs()


def test_who_is_taken_out_is_denied_cut_off_and_without_an_address(server, user):
    user(name="notebook", properties={"access_to.0": "+ROUTE:10.0.0.0/8"})
    server.connect("notebook")
    result = user(name="notebook", state="absent")
    assert (result["changed"], result["session"], result["changed_keys"]) == (True, "cut", ["prop_deny", "prop_autologin"])
    assert server.users["notebook"]["prop_deny"] == "true"
    assert user(name="notebook", state="absent")["changed"] is False


def test_a_session_that_stays_is_a_failure_and_the_user_is_denied_all_the_same(server, user):
    user(name="notebook")
    server.connect("notebook")
    server.set_faults(DisconnectUser="no such method")
    assert "denied and cannot return" in user(name="notebook", state="absent")["msg"]
    assert server.users["notebook"]["prop_deny"] == "true"


def test_taking_out_an_unknown_user_does_not_make_one(server, user):
    assert user(name="nobody", state="absent")["changed"] is False
    assert "nobody" not in server.users


def test_a_check_makes_no_user_and_fetches_no_profile(server, user):
    result = user(check=True, name="notebook", profile="autologin")
    assert (result["changed"], result["profile"]) == (True, None)
    assert server.verbs() == ["status", "UserPropGet"]


@pytest.mark.parametrize(
    ("options_", "says"),
    [
        ({"address": "172.27.225"}, "Expected 4 octets"),
        ({"properties": {"access_to.0": ["a"]}}, "expected a text"),
        ({"profile": "autologin", "autologin": False}, "Set autologin: true"),
    ],
)
def test_properties_that_access_server_would_not_understand_are_refused(server, user, options_, says):
    assert says in user(name="notebook", **options_)["msg"]
    assert written(server) == []


def test_there_is_no_option_for_a_password_since_sacli_takes_it_on_its_command_line_only(user):
    assert "Unsupported parameters" in user(name="notebook", password="x")["msg"]


# --- Licence --------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def licence(call: Call, options: dict[str, Any], tmp_path: Path) -> Call:
    def run(check: bool = False, **more: Any) -> dict[str, Any]:
        return call("openvpn_as_licence", check=check, remembered=str(tmp_path / "vpn" / "licence.sha256"), **options, **more)

    return run


def test_a_licence_is_loaded_once_and_never_on_a_command_line(server, licence, tmp_path):
    first = licence(licence=BUNDLE, nodes=3, instances=8)
    assert (first["changed"], first["connections"]) == (True, 25)
    assert BUNDLE not in json.dumps(server.calls)
    remembered = tmp_path / "vpn" / "licence.sha256"
    assert BUNDLE not in remembered.read_text()
    assert stat.S_IMODE(remembered.stat().st_mode) == 0o600
    (path,) = [words[2] for words in server.calls if words[-1] == "LoadSubscription"]
    assert not Path(path).exists()
    assert licence(licence=BUNDLE)["changed"] is False


def test_another_licence_and_one_that_got_lost_are_loaded(server, licence):
    licence(licence=BUNDLE)
    assert licence(licence="double-of-a-subscription-50")["connections"] == 50
    server.install()
    assert licence(licence="double-of-a-subscription-50")["changed"] is True


@pytest.mark.parametrize(("nodes", "instances", "enough"), [(2, 0, True), (2, 1, False), (0, 3, False)])
def test_more_nodes_than_the_licence_has_connections_are_refused(server, licence, nodes, instances, enough):
    result = licence(nodes=nodes, instances=instances)
    assert result.get("failed", False) is not enough
    if not enough:
        assert "openvpn_as_licence: 2 connections (Access Server's own word); expected at least 3" in result["msg"]
        assert "cluster_vpn_backend: openvpn" in result["msg"]


def test_a_licence_that_access_server_refuses_is_its_own_sentence(server, licence):
    assert licence(licence="nonsense")["msg"] == "sacli LoadSubscription: ERROR: invalid subscription bundle"


def test_before_access_server_is_there_the_order_is_believed(call, tmp_path):
    def report(**more: Any) -> list[dict[str, str]]:
        result = call("openvpn_as_licence", report=True, host="cp1", nodes=2, instances=4, program=str(tmp_path / "nowhere"), **more)
        assert result["changed"] is False
        return list(result["problems"])

    assert not report(expected=6, licence=BUNDLE)
    (problem,) = report()
    assert (problem["host"], problem["variable"]) == ("cp1", "openvpn_as_licence")
    assert "openvpn_as_connections" in problem["found"]


def test_a_check_says_that_a_licence_would_be_loaded(server, licence):
    assert licence(check=True, licence=BUNDLE)["changed"] is True
    assert written(server) == []


def test_the_dynamic_part_is_the_servers_own():
    assert IPv4Address("172.27.224.7") in access_server.dynamic_network("172.27.224.1")
    assert IPv4Address("172.27.224.8") not in access_server.dynamic_network("172.27.224.1")
