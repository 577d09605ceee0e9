# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga-hybrid-vpn: its rules as pure functions, and the whole program against a temporary folder, judged by openssl."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from importlib.machinery import SourceFileLoader
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_
from hypothesis import strategies as st

PROGRAM = Path(__file__).parents[3] / "roles" / "openvpn" / "files" / "fpga_hybrid_vpn.py"
NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


def load() -> ModuleType:
    loader = SourceFileLoader("fpga_hybrid_vpn", str(PROGRAM))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


vpn = load()

SETTINGS = {
    "cluster_name": "test",
    "network": "172.27.224.0/20",
    "server_address": "172.27.224.1",
    "instance_range": "172.27.232.0/21",
    "server_name": "fpga-hybrid-vpn-server",
    "endpoint": "vpn.example.org",
    "port": 1194,
    "protocol": "udp",
    "mtu": 1400,
    "device": "tun0",
    "certificate_days": 825,
    "renew_days": 30,
    "crl_days": 180,
}


# --- Rules -------------------------------------------------------------------------------------------------------------------------------


def settings(**changes: Any) -> Any:
    return vpn.Settings.from_json(json.dumps({**SETTINGS, "management": "/none", "status": "/none", **changes}))


def client(address: str, *serials: str, revoked: datetime | None = None, days: int = 825) -> Any:
    return vpn.Client(IPv4Address(address), tuple(vpn.Certificate(s, NOW + timedelta(days=days)) for s in serials), revoked)


def registry(**clients: Any) -> Any:
    return vpn.Registry(clients={name.replace("_", "-"): entry for name, entry in clients.items()})


@settings_(deadline=None)
@given(
    prefix=st.integers(min_value=22, max_value=32),
    taken=st.sets(st.integers(min_value=0, max_value=1023)),
    last=st.none() | st.integers(min_value=0, max_value=1100),
)
def test_an_allocated_address_is_free_inside_the_range_and_found_whenever_there_is_one(prefix: int, taken: set[int], last: int | None) -> None:
    pool = IPv4Network(f"172.27.232.0/{prefix}")
    first = int(pool.network_address)
    used = {IPv4Address(first + offset) for offset in taken}
    free = [a for a in pool if a not in used and int(a) % 256 not in (0, 255)]
    try:
        found = vpn.allocate(pool, used, None if last is None else IPv4Address(first + last))
    except vpn.RefusedError:
        assert not free
        return
    assert found in free


@settings_(deadline=None)
@given(st.integers(min_value=1, max_value=300))
def test_an_address_just_freed_rests_as_long_as_any_other_is_left(count: int) -> None:
    pool = IPv4Network("172.27.232.0/24")
    last = None
    seen = []
    for _ in range(count):
        last = vpn.allocate(pool, set(), last)
        seen.append(last)
    assert len(set(seen)) == min(count, 254)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("10.0.0.5", "outside the VPN's network"),
        ("172.27.224.1", "the VPN server"),
        ("172.27.224.0", "the network itself"),
        ("172.27.239.255", "broadcast"),
        ("172.27.224.12", "client worker1"),
        ("172.27.232.9", "instances"),
    ],
)
def test_an_address_that_cannot_be_is_refused_with_the_reason(wanted: str, says: str) -> None:
    with pytest.raises(vpn.RefusedError, match=says):
        vpn.choose_address(registry(worker1=client("172.27.224.12", "a")), settings(), "worker2", IPv4Address(wanted))


def test_the_address_of_a_revoked_client_is_free_again() -> None:
    gone = registry(worker1=client("172.27.224.12", revoked=NOW))
    assert vpn.choose_address(gone, settings(), "worker2", IPv4Address("172.27.224.12")) == IPv4Address("172.27.224.12")


def test_an_instance_may_be_asked_for_again_with_the_address_it_got() -> None:
    known = registry(i_1=client("172.27.232.5", "a"))
    assert vpn.choose_address(known, settings(), "i-1", IPv4Address("172.27.232.5")) == IPv4Address("172.27.232.5")


def test_a_client_without_a_wanted_address_keeps_its_own_until_somebody_else_has_it() -> None:
    known = registry(i_1=client("172.27.232.5", revoked=NOW), i_2=client("172.27.232.5", "b"))
    assert vpn.choose_address(registry(i_1=client("172.27.232.5", revoked=NOW)), settings(), "i-1", None) == IPv4Address("172.27.232.5")
    assert vpn.choose_address(known, settings(), "i-1", None) != IPv4Address("172.27.232.5")


@pytest.mark.parametrize("name", ["", "Worker1", "../ca", "a/b", ".hidden", "-x", "a b", "DEFAULT", "x" * 65, "ä", "a\n", "fpga-hybrid-vpn-server"])
def test_a_name_that_could_leave_the_folder_or_confuse_openvpn_is_refused(name: str) -> None:
    with pytest.raises(vpn.RefusedError):
        vpn.check_name(name, settings())


@pytest.mark.parametrize("name", ["worker1", "i-0123456789abcdef0", "node.site.example", "0"])
def test_node_names_and_instance_ids_are_accepted(name: str) -> None:
    assert vpn.check_name(name, settings()) == name


@pytest.mark.parametrize(("days", "due"), [(29, True), (31, False)])
def test_a_certificate_is_renewed_in_time(days: int, due: bool) -> None:
    assert bool(vpn.needs_certificate(client("172.27.224.12", "a", days=days), "a", NOW, 30)) is due


def test_revoking_takes_back_every_certificate_that_is_still_good() -> None:
    after = registry(worker1=client("172.27.224.12", "old", "new")).revoke("worker1", NOW)
    assert {r.serial for r in after.revocations} == {"old", "new"}
    assert not after.valid


def test_a_revocation_is_forgotten_only_after_the_certificate_has_expired() -> None:
    after = registry(worker1=client("172.27.224.12", "a", days=10)).revoke("worker1", NOW)
    assert after.without_expired(NOW + timedelta(days=9)) == after
    assert after.without_expired(NOW + timedelta(days=11)) == vpn.Registry()


moments = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2060, 1, 1)).map(lambda m: m.replace(microsecond=0, tzinfo=timezone.utc))
certificates = st.builds(vpn.Certificate, st.text("0123456789abcdef", min_size=1), moments)
clients = st.builds(vpn.Client, st.ip_addresses(v=4), st.lists(certificates).map(tuple), st.none() | moments)
revocations = st.builds(vpn.Revocation, st.text("0123456789abcdef", min_size=1), st.from_regex(vpn.NAME, fullmatch=True), moments, moments)
registries = st.builds(
    vpn.Registry,
    st.dictionaries(st.from_regex(vpn.NAME, fullmatch=True), clients, max_size=5),
    st.lists(revocations, max_size=5).map(tuple),
    st.integers(min_value=0),
    st.none() | st.ip_addresses(v=4),
)


@settings_(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a machine under load is no failure
@given(registries)
def test_a_registry_survives_the_disk(before: Any) -> None:
    assert vpn.Registry.from_json(before.to_json()) == before


STATUS = """TITLE,OpenVPN 2.6.14 x86_64-pc-linux-gnu
TIME,2026-11-23 16:11:08,1795450268
HEADER,CLIENT_LIST,Common Name,Real Address,Virtual Address,Virtual IPv6 Address,Bytes Received,Bytes Sent,Connected Since,Connected Since (time_t)
CLIENT_LIST,worker1,10.203.10.12:46751,172.27.224.12,,4217,4069,2026-11-23 16:11:08,1795450268
HEADER,ROUTING_TABLE,Virtual Address,Common Name,Real Address,Last Ref,Last Ref (time_t)
ROUTING_TABLE,172.27.224.12,worker1,10.203.10.12:46751,2026-11-23 16:11:08,1795450268
GLOBAL_STATS,Max bcast/mcast queue length,0
END
"""


@pytest.mark.parametrize("text", [STATUS, STATUS.replace(",", "\t")], ids=["version 2", "version 3"])
def test_sessions_are_read_from_a_status_file(text: str) -> None:
    assert vpn.parse_status(text) == [vpn.Session("worker1", "10.203.10.12:46751", "172.27.224.12", "2026-11-23 16:11:08")]


# --- The whole program -------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class House:
    """An authority's folder, and the program called as root calls it."""

    folder: Path

    def call(self, *words: str, expect: int = 0) -> dict[str, Any]:
        """In this process, because a process of its own costs most of a test's time."""
        out = io.StringIO()
        previous = os.umask(0o022)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
                code = vpn.main(["--folder", str(self.folder), *words])
        except SystemExit as usage:
            code = usage.code
        finally:
            os.umask(previous)
        assert code == expect, out.getvalue()
        return dict(json.loads(out.getvalue()))

    def openssl(self, *words: str, expect: int = 0) -> str:
        done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False, cwd=self.folder)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def set(self, **changes: Any) -> None:
        path = self.folder / "authority.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def registry(self) -> Any:
        return vpn.Registry.from_json((self.folder / "registry.json").read_text())

    def files(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in sorted(self.folder.rglob("*")) if p.is_file() and p.name != "lock"}

    def entry(self, name: str) -> Path:
        return self.folder / "ccd" / name


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CA and tls-crypt key, as the role leaves them."""
    folder = tmp_path_factory.mktemp("authority")
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-subj", "/CN=fpga-hybrid VPN authority"]
    extensions = ["-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    subprocess.run(["openssl", *request, *extensions, "-keyout", "ca.key", "-out", "ca.crt"], cwd=folder, check=True, capture_output=True)
    (folder / "tls-crypt.key").write_text("-----BEGIN OpenVPN Static key V1-----\n0123\n-----END OpenVPN Static key V1-----\n")
    for name in ("ccd", "issued"):
        (folder / name).mkdir()
    return folder


@pytest.fixture
def house(authority: Path, tmp_path: Path) -> House:
    folder = tmp_path / "vpn"
    shutil.copytree(authority, folder)
    (folder / "authority.json").write_text(json.dumps({**SETTINGS, "management": str(tmp_path / "management.sock"), "status": str(tmp_path / "status")}))
    return House(folder)


def part(profile: str, tag: str) -> str:
    found = re.search(f"<{tag}>\n(.*?)</{tag}>", profile, re.DOTALL)
    assert found
    return found.group(1)


def test_a_profile_holds_a_certificate_that_openssl_accepts_for_a_client(house: House) -> None:
    profile = house.call("issue", "worker1", "172.27.224.12")["profile"]
    (house.folder / "c.crt").write_text(part(profile, "cert"))
    (house.folder / "c.key").write_text(part(profile, "key"))
    house.openssl("verify", "-CAfile", "ca.crt", "-purpose", "sslclient", "c.crt")
    house.openssl("verify", "-CAfile", "ca.crt", "-purpose", "sslserver", "c.crt", expect=2)
    text = house.openssl("x509", "-in", "c.crt", "-noout", "-text")
    assert "CN = worker1" in text or "CN=worker1" in text
    assert "NIST CURVE: P-256" in text
    assert house.openssl("x509", "-in", "c.crt", "-noout", "-pubkey") == house.openssl("pkey", "-in", "c.key", "-pubout")
    assert part(profile, "ca").strip() == house.openssl("x509", "-in", "ca.crt").strip()
    assert "remote vpn.example.org 1194\n" in profile
    assert "setenv-safe address 172.27.224.12/20\n" in profile


def test_issuing_again_gives_the_same_profile_and_writes_nothing(house: House) -> None:
    first = house.call("issue", "worker1", "172.27.224.12")
    before = house.files()
    again = house.call("issue", "worker1", "172.27.224.12")
    assert again["changed"] is False
    assert again["profile"] == first["profile"]
    assert house.files() == before


def test_a_host_that_dials_another_endpoint_gets_it_in_its_profile_only(house: House) -> None:
    house.call("issue", "worker1", "172.27.224.12")
    other = house.call("issue", "worker1", "172.27.224.12", "--endpoint", "203.0.113.7", "--port", "1195")
    assert other["changed"] is False
    assert "remote 203.0.113.7 1195\n" in other["profile"]


@pytest.mark.parametrize("endpoint", ["a b", "x\nup /bin/sh", "-x", ""])
def test_an_endpoint_cannot_bring_a_line_of_its_own_into_the_profile(house: House, endpoint: str) -> None:
    house.call("issue", "worker1", "172.27.224.12", f"--endpoint={endpoint}", expect=2)
    assert "registry.json" not in house.files()


def test_secrets_are_private_from_the_first_byte(house: House) -> None:
    house.call("issue", "worker1", "172.27.224.12")
    for name in ("issued/worker1.pem", "registry.json", "ccd/worker1", "crl.pem"):
        assert stat.S_IMODE((house.folder / name).stat().st_mode) == 0o600, name


def test_a_changed_address_changes_the_entry_and_keeps_the_certificate(house: House) -> None:
    first = house.call("issue", "worker1", "172.27.224.12")
    moved = house.call("issue", "worker1", "172.27.224.13")
    assert moved["changes"][0] == "address 172.27.224.12 -> 172.27.224.13"
    assert house.entry("worker1").read_text() == "ifconfig-push 172.27.224.13 255.255.240.0\n"
    assert moved["serial"] == first["serial"]
    assert house.call("issue", "worker2", "172.27.224.12")["changed"]


def test_a_second_name_with_the_same_address_is_refused_and_nothing_changes(house: House) -> None:
    house.call("issue", "worker1", "172.27.224.12")
    before = house.files()
    refused = house.call("issue", "worker2", "172.27.224.12", expect=4)
    assert "client worker1" in refused["error"]
    assert house.files() == before


def test_instances_get_addresses_of_their_range_by_themselves(house: House) -> None:
    addresses = [house.call("issue", f"i-{n}", "--without-profile")["address"] for n in range(3)]
    assert addresses == ["172.27.232.1", "172.27.232.2", "172.27.232.3"]
    house.call("revoke", "i-1")
    assert house.call("issue", "i-9", "--without-profile")["address"] == "172.27.232.4"


def test_a_certificate_near_its_end_is_renewed_and_the_former_one_stays_good(house: House) -> None:
    house.set(certificate_days=20)
    first = house.call("issue", "worker1", "172.27.224.12")
    house.set(certificate_days=825)
    second = house.call("issue", "worker1", "172.27.224.12")
    assert "renewed" in second["changes"][0]
    assert second["serial"] != first["serial"]
    (house.folder / "old.crt").write_text(part(first["profile"], "cert"))
    house.openssl("verify", "-CAfile", "ca.crt", "-crl_check", "-CRLfile", "crl.pem", "old.crt")
    house.call("revoke", "worker1")
    assert "revoked" in house.openssl("verify", "-CAfile", "ca.crt", "-crl_check", "-CRLfile", "crl.pem", "old.crt", expect=2)


def test_a_revoked_certificate_is_refused_by_openssl_and_a_new_one_accepted(house: House) -> None:
    old = house.call("issue", "worker1", "172.27.224.12")
    revoked = house.call("revoke", "worker1")
    assert revoked["session"] == "server not running"
    assert not house.entry("worker1").exists()
    assert "issued/worker1.pem" not in house.files()
    new = house.call("issue", "worker1", "172.27.224.12")
    assert new["serial"] != old["serial"]
    (house.folder / "old.crt").write_text(part(old["profile"], "cert"))
    (house.folder / "new.crt").write_text(part(new["profile"], "cert"))
    house.openssl("verify", "-CAfile", "ca.crt", "-crl_check", "-CRLfile", "crl.pem", "new.crt")
    assert "revoked" in house.openssl("verify", "-CAfile", "ca.crt", "-crl_check", "-CRLfile", "crl.pem", "old.crt", expect=2)


def test_revoking_twice_changes_nothing_and_an_unknown_name_is_an_error(house: House) -> None:
    house.call("issue", "worker1", "172.27.224.12")
    house.call("revoke", "worker1")
    before = house.files()
    assert house.call("revoke", "worker1")["changed"] is False
    assert house.files() == before
    assert "worker1" in house.call("revoke", "worker2", expect=3)["error"]


def test_check_says_what_a_real_run_then_does_and_writes_nothing(house: House) -> None:
    house.call("issue", "worker1", "172.27.224.12")
    house.entry("stranger").write_text("ifconfig-push 172.27.224.99 255.255.240.0\n")
    for words in (["issue", "worker2", "172.27.224.13"], ["issue", "worker1", "172.27.224.14"], ["revoke", "worker1"], ["renew-crl"]):
        before = house.files()
        predicted = house.call(*words, "--check")
        assert house.files() == before
        assert predicted["changes"] == house.call(*words)["changes"]


def break_entry(house: House) -> None:
    house.entry("worker1").write_text("ifconfig-push 172.27.224.99 255.255.240.0\n")


def remove_entry(house: House) -> None:
    house.entry("worker1").unlink()


def add_stranger(house: House) -> None:
    house.entry("stranger").write_text("ifconfig-push 172.27.224.99 255.255.240.0\n")


def remove_list(house: House) -> None:
    (house.folder / "crl.pem").unlink()


def damage_list(house: House) -> None:
    (house.folder / "crl.pem").write_text("no list")


def forge_list(house: House) -> None:
    """One of another authority, of the same name."""
    house.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "other.key")
    key = vpn.serialization.load_pem_private_key((house.folder / "other.key").read_bytes(), None)
    own = vpn.Authority(house.folder).issuer()
    forged = vpn.Issuer(own.certificate, key).revocation_list(house.registry(), datetime.now(timezone.utc), 180)
    (house.folder / "crl.pem").write_bytes(forged)
    (house.folder / "other.key").unlink()


def age_list(house: House) -> None:
    own = vpn.Authority(house.folder).issuer()
    (house.folder / "crl.pem").write_bytes(own.revocation_list(house.registry(), datetime.now(timezone.utc) - timedelta(days=100), 180))


def empty_list(house: House) -> None:
    own = vpn.Authority(house.folder).issuer()
    (house.folder / "crl.pem").write_bytes(own.revocation_list(vpn.Registry(), datetime.now(timezone.utc), 180))


@pytest.mark.parametrize("drift", [break_entry, remove_entry, add_stranger, remove_list, damage_list, forge_list, age_list, empty_list])
def test_what_drifted_is_mended_and_only_that(house: House, drift: Callable[[House], None]) -> None:
    house.call("issue", "gone", "172.27.224.20")
    house.call("revoke", "gone")
    house.call("issue", "worker1", "172.27.224.12")
    before = house.files()
    drift(house)
    mended = house.call("renew-crl")
    assert len(mended["changes"]) == 1, mended
    after = house.files()
    differing = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert differing <= {"crl.pem", "registry.json"}, "only a new revocation list, with its number, may differ"
    assert house.call("renew-crl")["changed"] is False
    house.openssl("crl", "-in", "crl.pem", "-CAfile", "ca.crt", "-noout", "-verify")
    assert "Revoked Certificates" in house.openssl("crl", "-in", "crl.pem", "-noout", "-text")


@pytest.mark.parametrize("damage", ["missing", "garbage", "of another"])
def test_a_stored_certificate_that_is_lost_is_issued_anew(house: House, damage: str) -> None:
    first = house.call("issue", "worker1", "172.27.224.12")
    house.call("issue", "worker2", "172.27.224.13")
    stored = house.folder / "issued" / "worker1.pem"
    if damage == "missing":
        stored.unlink()
    elif damage == "garbage":
        stored.write_text("x")
    else:
        shutil.copy(house.folder / "issued" / "worker2.pem", stored)
    again = house.call("issue", "worker1", "172.27.224.12")
    assert again["serial"] != first["serial"]
    assert house.call("issue", "worker1", "172.27.224.12")["changed"] is False


def test_a_damaged_registry_stops_everything_because_it_says_who_was_revoked(house: House) -> None:
    house.call("issue", "worker1", "172.27.224.12")
    (house.folder / "registry.json").write_text('{"schema": 1')
    before = house.files()
    assert "damaged" in house.call("issue", "worker2", "172.27.224.13", expect=5)["error"]
    assert house.files() == before


def test_another_authority_s_key_is_noticed(house: House) -> None:
    house.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ca.key")
    assert "is not the key of" in house.call("issue", "worker1", "172.27.224.12", expect=5)["error"]


def test_a_folder_that_is_none_says_what_to_run(tmp_path: Path) -> None:
    assert "site.yml" in House(tmp_path / "none").call("renew-crl", expect=5)["error"]
    assert "site.yml" in House(tmp_path / "none").call("list", expect=5)["error"]


def test_many_at_once_get_an_address_each(house: House) -> None:
    command = [sys.executable, str(PROGRAM), "--folder", str(house.folder)]
    running = [subprocess.Popen([*command, "issue", f"i-{n}", "--without-profile"], stdout=subprocess.PIPE) for n in range(4)]
    addresses = {json.loads(process.communicate()[0])["address"] for process in running}
    assert len(addresses) == 4
    assert len(house.registry().valid) == 4


def test_who_holds_the_lock_too_long_is_named(house: House) -> None:
    with (house.folder / "lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(vpn.LockedError, match="fuser"), vpn.locked(house.folder / "lock", wait=0.1):
            pass


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_run_killed_between_any_two_writes_is_completed_by_the_next(house: House, after: int) -> None:
    """The n-th write ends the process as kill -9 does; then the same command is given again."""
    killer = (
        "import importlib.util, os, signal, sys\n"
        "from importlib.machinery import SourceFileLoader\n"
        "loader = SourceFileLoader('fpga_hybrid_vpn', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))\n"
        "sys.modules[loader.name] = module; sys.dont_write_bytecode = True\n"
        "loader.exec_module(module)\n"
        "real, left = module.write, [int(sys.argv[2])]\n"
        "def write(path, content):\n"
        "    left[0] -= 1\n"
        "    if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(path, content)\n"
        "module.write = write\n"
        "sys.exit(module.main(sys.argv[3:]))\n"
    )
    words = ["--folder", str(house.folder), "issue", "worker1", "172.27.224.12"]
    killed = subprocess.run([sys.executable, "-c", killer, str(PROGRAM), str(after), *words], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    profile = house.call(*words[2:])["profile"]
    (house.folder / "c.crt").write_text(part(profile, "cert"))
    house.openssl("verify", "-CAfile", "ca.crt", "-crl_check", "-CRLfile", "crl.pem", "c.crt")
    assert house.entry("worker1").exists()
    serial = int(house.openssl("x509", "-in", "c.crt", "-noout", "-serial").strip().split("=")[1], 16)
    assert serial in {int(c.serial, 16) for c in house.registry().clients["worker1"].certificates}, "every certificate given out can be revoked"
    assert house.call(*words[2:])["changed"] is False


class Management:
    """OpenVPN's management socket, as far as `kill` goes."""

    def __init__(self, path: str, answer: str) -> None:
        self.commands: list[str] = []
        self.answer = answer
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(path)
        self.server.listen(1)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection, connection.makefile("rw", newline="\n") as stream:
                stream.write(">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info\r\n")
                stream.flush()
                self.commands.append(stream.readline().strip())
                stream.write(self.answer + "\r\n")

    def close(self) -> None:
        self.server.close()


@pytest.fixture
def management(tmp_path: Path) -> Iterator[Callable[[str], Management]]:
    opened: list[Management] = []

    def start(answer: str) -> Management:
        opened.append(Management(str(tmp_path / "management.sock"), answer))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.mark.parametrize(
    ("answer", "session", "code"),
    [
        ("SUCCESS: common name 'worker1' found, 1 client(s) killed", "cut", 0),
        ("ERROR: common name 'worker1' not found", "none", 0),
        ("ERROR: something else", "not cut: The VPN server did not cut the session of worker1: ERROR: something else", 7),
    ],
)
def test_revoking_cuts_the_live_session_and_says_so_if_it_could_not(
    house: House, management: Callable[[str], Management], answer: str, session: str, code: int
) -> None:
    house.call("issue", "worker1", "172.27.224.12")
    server = management(answer)
    assert house.call("revoke", "worker1", expect=code)["session"] == session
    assert server.commands == ["kill worker1"]


def test_a_moved_client_is_made_to_dial_in_anew(house: House, management: Callable[[str], Management]) -> None:
    house.call("issue", "worker1", "172.27.224.12")
    server = management("SUCCESS: common name 'worker1' found, 1 client(s) killed")
    house.call("issue", "worker1", "172.27.224.12")
    assert server.commands == []
    house.call("issue", "worker1", "172.27.224.13")
    assert server.commands == ["kill worker1"]


def test_list_says_who_is_connected_and_admits_when_nobody_knows(house: House, tmp_path: Path) -> None:
    house.call("issue", "worker1", "172.27.224.12")
    house.call("issue", "worker2", "172.27.224.13")
    house.call("revoke", "worker2")
    assert [c["connected"] for c in house.call("list")["clients"]] == [None, None]
    status = tmp_path / "status"
    status.write_text(STATUS)
    seen = {c["name"]: c for c in house.call("list")["clients"]}
    assert seen["worker1"]["connected"] is True
    assert seen["worker1"]["real_address"] == "10.203.10.12:46751"
    assert seen["worker2"]["connected"] is False
    assert seen["worker2"]["revoked"]
    os.utime(status, (time.time() - 3600, time.time() - 3600))
    assert house.call("list")["clients"][0]["connected"] is None, "a server that died an hour ago knows nothing of now"


def test_a_forced_command_obeys_the_other_end_but_not_in_the_choice_of_the_folder(house: House) -> None:
    def ssh(command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "SSH_ORIGINAL_COMMAND": command}
        return subprocess.run([sys.executable, str(PROGRAM), "--ssh"], capture_output=True, text=True, check=False, env=environment)

    assert ssh(f"--folder {house.folder} list").returncode == 2
    assert ssh(f"fpga-hybrid-vpn --folder {house.folder} list").returncode == 2
    assert ssh("list; touch /tmp/x").returncode == 2
    assert "usage" in ssh("").stdout.lower()
    assert "usage" not in ssh("fpga-hybrid-vpn list").stdout.lower()


def test_the_profile_leaves_the_program_on_stdout_only(house: House) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--folder", str(house.folder), "issue", "worker1", "172.27.224.12"], capture_output=True, text=True, check=True
    )
    assert "PRIVATE KEY" in done.stdout
    assert done.stderr == ""
    assert "PRIVATE KEY" not in json.dumps(house.call("issue", "worker1", "--without-profile"))


DEBIANS_PYTHON = Path("/usr/bin/python3")


@pytest.mark.skipif(
    subprocess.run([str(DEBIANS_PYTHON), "-c", "import cryptography"], capture_output=True, check=False).returncode != 0 if DEBIANS_PYTHON.exists() else True,
    reason="this machine has no python3-cryptography of the distribution",
)
def test_it_runs_with_the_distribution_s_own_python3_cryptography(house: House) -> None:
    """Hosts run it with an older library than the tools environment has."""
    done = subprocess.run(
        [str(DEBIANS_PYTHON), str(PROGRAM), "--folder", str(house.folder), "issue", "worker1", "172.27.224.12"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert house.call("issue", "worker1", "172.27.224.12")["changed"] is False, "and both read each other's files"
