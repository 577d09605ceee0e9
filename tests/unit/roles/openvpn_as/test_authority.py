# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga-hybrid-vpn over a double of Access Server: the whole program against a temporary folder, and keeper's enrolment with it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import fpga_hybrid_vpn_as as program
import pytest

import fpga_hybrid_vpn as vpn
from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_as as access_server
from fpga_hybrid import vpn as bootstraps
from fpga_hybrid_keeper.authority import Authority as KeepersAuthority
from fpga_hybrid_keeper.authority import AuthorityError
from lab.openvpn_as import access_server_double
from lab.openvpn_as.access_server_double import AccessServer, RefusedError
from tests.unit.roles.test_openvpn_authority import SETTINGS, part

READS = ("UserPropGet", "VPNStatus")


@dataclass
class House:
    """The VPN server's host."""

    folder: Path
    server: AccessServer

    def run(self, *words: str) -> tuple[int, str]:
        """In this process, because a process of its own costs most of a test's time."""
        out, umask = io.StringIO(), os.umask(0o022)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
                code = program.main(["--folder", str(self.folder), *words])
        except SystemExit as usage:
            code = int(usage.code or 0)
        finally:
            os.umask(umask)
        return code, out.getvalue()

    def call(self, *words: str, expect: int = 0) -> dict[str, Any]:
        code, out = self.run(*words)
        assert code == expect, out
        return dict(json.loads(out))

    def registry(self) -> vpn.Registry:
        return vpn.Registry.from_json((self.folder / "registry.json").read_text())

    def written(self) -> list[str]:
        return [verb for verb in self.server.verbs() if verb not in READS]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    server = AccessServer(tmp_path / "as")
    server.install()
    for key, value in {**access_server.networks("172.27.224.0/20", "172.27.224.1"), "vpn.server.daemon.enable": "false"}.items():
        server.run(["sacli", "--key", key, "--value", value, "ConfigPut"])
    server.run(["sacli", "start"])
    server.run(["sacli", "--value", "double-of-a-subscription-9", "LoadSubscription"])
    server.forget_calls()
    folder = tmp_path / "vpn"
    (folder / "issued").mkdir(parents=True)
    (folder / "authority.json").write_text(json.dumps({**SETTINGS, "management": "", "status": ""}))
    monkeypatch.setattr(access_server._command, "run", lambda argv, **_options: server.run(["sacli", *argv[1:]]))
    return House(folder, server)


def test_a_node_is_a_user_with_an_address_of_its_own_and_a_profile_without_a_password(house):
    answer = house.call("issue", "worker1", "172.27.224.12")
    assert house.server.users["worker1"] == {"type": "user_connect", "prop_autologin": "true", "conn_ip": "172.27.224.12"}
    assert house.server.connect("worker1") == answer["address"] == "172.27.224.12"
    assert answer["changes"] == [
        "user worker1: type unset -> user_connect",
        "user worker1: prop_autologin unset -> true",
        "user worker1: conn_ip unset -> 172.27.224.12",
        "certificate issued",
    ]
    assert "start" not in house.server.verbs()


def test_its_profile_is_one_that_our_unit_and_bootstrap_can_run(house):
    profile = house.call("issue", "worker1", "172.27.224.12")["profile"]
    assert bootstraps.facts(profile) == bootstraps.Facts("vpn.example.org", 1194, "udp", "tun0", "172.27.224.12")
    options = [line.split()[0] for line in profile.partition("<ca>")[0].splitlines() if line.strip() and not line.startswith("#")]
    assert {word for word in options if options.count(word) > 1} == {"setenv", "pull-filter"}
    assert {"ifconfig-noexec", "management", "remote-cert-tls", "tls-version-min", "reneg-sec"} <= set(options)
    assert not {"auth-user-pass", "server-poll-timeout"} & set(options)
    for tag in ("ca", "cert", "key", "tls-crypt"):
        assert part(profile, tag).startswith("-----BEGIN")
    assert "Generated on" not in profile


def test_issuing_again_gives_the_same_profile_and_writes_nothing(house):
    first = house.call("issue", "worker1", "172.27.224.12")
    house.server.forget_calls()
    again = house.call("issue", "worker1", "172.27.224.12")
    assert (again["changed"], again["profile"]) == (False, first["profile"])
    assert house.written() == []


def test_a_host_that_dials_another_endpoint_gets_it_in_its_profile_only(house):
    house.call("issue", "worker1", "172.27.224.12")
    other = house.call("issue", "worker1", "172.27.224.12", "--endpoint", "203.0.113.7", "--port", "1195")
    assert other["changed"] is False
    assert re.findall(r"^remote .*$", other["profile"], re.MULTILINE) == ["remote 203.0.113.7 1195"]


def test_instances_get_the_next_address_of_their_range(house):
    assert [house.call("issue", name)["address"] for name in ("i-1", "i-2")] == ["172.27.232.1", "172.27.232.2"]
    house.call("revoke", "i-1")
    assert house.call("issue", "i-3")["address"] == "172.27.232.3"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("172.27.224.5", "Access Server itself, which gives out 172.27.224.0/29"),
        ("172.27.224.1", "the VPN server"),
        ("172.27.225.7", "Access Server's user notebook"),
        ("172.27.224.12", "client worker1"),
        ("10.0.0.1", "outside the VPN's network"),
        ("172.27.232.9", "instances get theirs"),
    ],
)
def test_an_address_that_cannot_be_is_refused_with_who_has_it(house, address, says):
    house.server.run(["sacli", "--user", "notebook", "--key", "conn_ip", "--value", "172.27.225.7", "UserPropPut"])
    house.call("issue", "worker1", "172.27.224.12")
    house.server.forget_calls()
    assert says in house.call("issue", "worker2", address, expect=4)["error"]
    assert house.written() == []


def test_a_user_that_somebody_else_made_is_left_alone(house):
    assert "a user openvpn that this program did not make" in house.call("issue", "openvpn", "172.27.224.12", expect=4)["error"]
    assert house.server.users["openvpn"] == {"type": "user_connect", "prop_superuser": "true"}


def test_who_is_revoked_is_cut_off_and_cannot_return(house):
    house.call("issue", "worker1", "172.27.224.12")
    house.server.connect("worker1")
    answer = house.call("revoke", "worker1")
    assert (answer["changed"], answer["session"], answer["address"]) == (True, "cut", "172.27.224.12")
    with pytest.raises(RefusedError):
        house.server.connect("worker1")
    assert not (house.folder / "issued" / "worker1.ovpn").exists()
    assert house.call("revoke", "worker1")["changed"] is False
    assert house.call("issue", "worker2", "172.27.224.12")["address"] == "172.27.224.12"


def test_the_certificates_of_a_revoked_node_stay_worthless_when_its_name_returns(house):
    house.call("issue", "worker1", "172.27.224.12")
    house.call("revoke", "worker1")
    again = house.call("issue", "worker1", "172.27.224.12")
    with pytest.raises(RefusedError):
        house.server.connect("worker1")
    assert house.server.connect("worker1_2") == "172.27.224.12"
    assert house.call("issue", "worker1", "172.27.224.12")["profile"] == again["profile"]
    assert [(one["name"], one["connected"]) for one in house.call("list")["clients"]] == [("worker1", True)]
    house.call("revoke", "worker1")
    house.call("issue", "worker1", "172.27.224.12")
    assert house.server.connect("worker1_3") == "172.27.224.12"


def test_a_return_that_was_killed_half_way_admits_nobody(house):
    house.call("issue", "worker1", "172.27.224.12")
    house.call("revoke", "worker1")
    before = (house.folder / "registry.json").read_text()
    house.call("issue", "worker1", "172.27.224.12")
    (house.folder / "registry.json").write_text(before)
    house.call("renew-crl")
    for user in ("worker1", "worker1_2"):
        with pytest.raises(RefusedError):
            house.server.connect(user)


def test_a_session_that_could_not_be_cut_has_its_own_exit_code(house):
    house.call("issue", "worker1", "172.27.224.12")
    house.server.connect("worker1")
    house.server.set_faults(DisconnectUser="no such method")
    assert house.call("revoke", "worker1", expect=7)["session"] == "not cut: sacli DisconnectUser: ERROR: no such method"
    assert house.server.users["worker1"]["prop_deny"] == "true"


def test_revoking_an_unknown_name_says_which_are_known_and_makes_no_user(house):
    house.call("issue", "worker1", "172.27.224.12")
    assert "Known names: worker1" in house.call("revoke", "worker2", expect=3)["error"]
    assert "worker2" not in house.server.users


@pytest.mark.parametrize(
    ("words", "mended"),
    [
        (["--key", "conn_ip", "--value", "172.27.224.99", "UserPropPut"], "user worker1: conn_ip 172.27.224.99 -> 172.27.224.12"),
        (["--key", "prop_deny", "--value", "true", "UserPropPut"], "user worker1: prop_deny true -> false"),
        (["--key", "prop_autologin", "UserPropDel"], "user worker1: prop_autologin unset -> true"),
        (["UserPropDelAll"], "user worker1: conn_ip unset -> 172.27.224.12"),
    ],
)
def test_what_somebody_changed_of_a_node_in_access_server_is_mended(house, words, mended):
    profile = house.call("issue", "worker1", "172.27.224.12")["profile"]
    house.server.run(["sacli", "--user", "worker1", *words])
    told, did = house.call("renew-crl", "--check"), house.call("renew-crl")
    assert mended in told["changes"] == did["changes"]
    assert house.server.connect("worker1") == "172.27.224.12"
    assert house.call("issue", "worker1", "172.27.224.12")["profile"] == profile


def test_a_changed_address_keeps_the_certificate_and_cuts_the_session(house):
    first = house.call("issue", "worker1", "172.27.224.12")
    house.server.connect("worker1")
    moved = house.call("issue", "worker1", "172.27.224.13")
    assert moved["changes"] == ["address 172.27.224.12 -> 172.27.224.13", "user worker1: conn_ip 172.27.224.12 -> 172.27.224.13"]
    assert moved["serial"] == first["serial"]
    assert house.call("list")["clients"][0]["connected"] is False


def test_a_check_tells_and_writes_nothing(house):
    told = house.call("issue", "worker1", "172.27.224.12", "--check")
    assert (told["changed"], told["profile"], told["serial"]) == (True, None, None)
    assert house.written() == []
    assert not (house.folder / "registry.json").exists()


def test_a_certificate_is_renewed_in_time_and_the_former_one_cuts_nothing_off(house):
    house.server.set_faults(certificate_days=20)
    first = house.call("issue", "worker1", "172.27.224.12")
    house.server.set_faults()
    second = house.call("issue", "worker1", "172.27.224.12")
    assert second["changes"][0].startswith("certificate renewed: the former one ends")
    assert second["serial"] != first["serial"]
    assert len(house.registry().clients["worker1"].certificates) == 2


@pytest.mark.parametrize("damage", ["", "<cert>\nnonsense\n</cert>\n"])
def test_a_stored_profile_that_is_damaged_is_fetched_again(house, damage):
    house.call("issue", "worker1", "172.27.224.12")
    (house.folder / "issued" / "worker1.ovpn").write_text(damage)
    assert "certificate issued anew" in house.call("issue", "worker1", "172.27.224.12")["changes"][0]


def test_a_user_is_forgotten_when_the_last_of_its_certificates_has_ended(house, monkeypatch):
    house.server.set_faults(certificate_days=20)
    house.call("issue", "worker1", "172.27.224.12")
    house.call("revoke", "worker1")

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=21)

    monkeypatch.setattr(vpn, "datetime", Later)
    assert house.call("renew-crl")["changes"] == ["user worker1 removed: the last of its certificates has ended"]
    assert "worker1" not in house.server.users


@pytest.mark.parametrize("words", [("issue", "worker1"), ("revoke", "worker1"), ("renew-crl",), ("list",)])
def test_one_that_is_not_up_is_said_and_changes_nothing(house, words):
    house.call("issue", "worker1", "172.27.224.12")
    before = (house.folder / "registry.json").read_text()
    house.server.set_up(False)
    assert "systemctl status openvpnas" in house.call(*words, expect=5)["error"]
    assert (house.folder / "registry.json").read_text() == before


def test_a_profile_that_access_server_does_not_give_is_asked_for_again_by_the_next_run(house):
    house.server.set_faults(GetAutologin="the certificate database is locked")
    assert "the certificate database is locked" in house.call("issue", "worker1", "172.27.224.12", expect=5)["error"]
    house.server.set_faults()
    assert house.call("issue", "worker1", "172.27.224.12")["profile"]


def test_the_list_has_what_role_openvpns_has(house):
    house.call("issue", "worker1", "172.27.224.12")
    house.server.connect("worker1")
    listed = house.call("list")
    assert set(listed) == {"clients", "ca_not_after", "server_not_after", "crl_next_update"}
    (client,) = listed["clients"]
    assert (client["name"], client["address"], client["connected"], client["real_address"]) == ("worker1", "172.27.224.12", True, "198.51.100.7:40000")
    assert client["serial"] == house.registry().clients["worker1"].certificates[0].serial


def test_secrets_are_private_and_on_no_command_line(house):
    profile = house.call("issue", "worker1", "172.27.224.12")["profile"]
    for name in ("issued/worker1.ovpn", "registry.json"):
        assert stat.S_IMODE((house.folder / name).stat().st_mode) == 0o600, name
    assert part(profile, "key").splitlines()[1] not in json.dumps(house.server.calls)


def test_usage_is_said_as_by_role_openvpns_program(house):
    assert "usage" in house.call("issue", expect=2)["error"].lower()


# --- keeper ---------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def keepers(house: House) -> KeepersAuthority:
    """keeper's own edge to the authority, as it is."""

    def run(argv: Sequence[str], **_options: Any) -> tuple[int, str, str]:
        return (*house.run(*argv[1:]), "")

    return KeepersAuthority(["fpga-hybrid-vpn"], run)


def test_keeper_enrols_an_instance_once_and_takes_it_back(house, keepers):
    issued = keepers.issue("i-0123456789abcdef0")
    assert (issued.address, issued.new) == ("172.27.232.1", True)
    assert house.server.connect("i-0123456789abcdef0") == issued.address
    assert keepers.issue("i-0123456789abcdef0") == type(issued)(issued.address, issued.profile, new=False)
    assert keepers.revoke("i-0123456789abcdef0") == ""
    with pytest.raises(RefusedError):
        house.server.connect("i-0123456789abcdef0")
    assert keepers.revoke("i-never-there") == ""


def test_keeper_hears_why_it_could_not_enrol(house, keepers):
    house.server.set_up(False)
    with pytest.raises(AuthorityError, match="Access Server does not answer"):
        keepers.issue("i-0123456789abcdef0")


def test_the_program_runs_as_the_role_installs_it(house, tmp_path):
    """A process of its own, with the double as the program that it calls."""
    launcher, sacli = tmp_path / "fpga-hybrid-vpn", tmp_path / "sacli"
    sacli.write_text(f'#!/bin/sh\nLAB_OPENVPN_AS_ROOT={house.server.root} exec {sys.executable} {access_server_double.__file__} sacli "$@"\n')
    sacli.chmod(0o755)
    root = Path(__file__).parents[4]
    paths = [str(root / part) for part in ("roles/openvpn_as/files", "roles/openvpn/files", "collections")]
    launcher.write_text(f"import sys; sys.path[:0] = {paths!r}; from fpga_hybrid_vpn_as import main; sys.exit(main(sys.argv[1:]))")
    settings = json.loads((house.folder / "authority.json").read_text())
    (house.folder / "authority.json").write_text(json.dumps({**settings, "sacli": str(sacli)}))
    done = subprocess.run([sys.executable, launcher, "--folder", house.folder, "list"], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["clients"] == [], done.stderr


def test_no_moment_is_lost_between_a_profile_and_the_registry(house):
    answer = house.call("issue", "worker1", "172.27.224.12")
    assert (
        datetime.strptime(answer["not_after"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        == house.registry().clients["worker1"].certificates[0].not_after
    )
