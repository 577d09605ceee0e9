# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the depot's container serves: time, files, TLS."""

from __future__ import annotations

import argparse
import ipaddress
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import depot, settings
from lab.depot import container, files, tls
from lab.depot.base import Cache
from lab.depot.server import ntp


def request(version: int = 4, mode: int = 3, transmit: tuple[int, int] = (111, 222)) -> bytes:
    return struct.pack("!BBbb11I", version << 3 | mode, 0, 6, 0, 0, 0, 0, *[0] * 6, *transmit)


def test_the_answer_names_the_request_it_answers() -> None:
    reply = ntp.answer(request(), received=1000.25, sent=1000.5)
    assert reply is not None
    fields = ntp.FORMAT.unpack(reply)
    leap, version, mode = fields[0] >> 6, fields[0] >> 3 & 7, fields[0] & 7
    assert (leap, version, mode) == (0, 4, 4)
    assert fields[9:11] == (111, 222)
    assert fields[11:13] == (1000 + ntp.NTP_EPOCH, 1 << 30)
    assert fields[13:15] == (1000 + ntp.NTP_EPOCH, 1 << 31)


@pytest.mark.parametrize("bad", [request(mode=4), request(mode=6), request(version=0), request(version=5), request()[:47], b""])
def test_what_is_no_clients_request_gets_no_answer(bad: bytes) -> None:
    assert ntp.answer(bad, 0.0, 0.0) is None


@given(st.floats(min_value=-1e6, max_value=4e9))
def test_a_timestamp_is_right_to_the_microsecond(seconds: float) -> None:
    whole, fraction = ntp.timestamp(seconds)
    assert 0 <= whole < 2**32
    assert 0 <= fraction < 2**32
    # NTP's seconds wrap in 2036.
    off = (whole + fraction / 2**32 - seconds - ntp.NTP_EPOCH) % 2**32
    assert min(off, 2**32 - off) < 1e-5


@pytest.mark.parametrize(("content", "offset"), [("3600", 3600.0), ("-0.5\n", -0.5), ("soon", 0.0), ("", 0.0)])
def test_the_clock_lies_by_what_the_file_says(tmp_path: Path, content: str, offset: float) -> None:
    (tmp_path / "offset").write_text(content)
    assert ntp.offset(tmp_path / "offset") == offset


def test_without_a_file_the_clock_is_honest(tmp_path: Path) -> None:
    assert ntp.offset(tmp_path / "offset") == 0.0


def test_wheels_are_indexed_by_their_normalised_names(tmp_path: Path) -> None:
    """PEP 503: names in lower case with dashes, files with their checksums."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "Foo_Bar-1.0-py3-none-any.whl").write_bytes(b"wheel")
    simple = tmp_path / "simple"
    files.write_simple_index(packages.glob("*.whl"), simple)
    assert '<a href="foo-bar/">foo-bar</a>' in (simple / "index.html").read_text()
    page = (simple / "foo-bar" / "index.html").read_text()
    link = "../../packages/Foo_Bar-1.0-py3-none-any.whl#sha256=d0e8edb4f76a1af21e7ec61d4ef56b53c1c7fbc7b81dd5e4ac4f94dd2e8ea4ae"
    assert page.count("<a href=") == 1
    assert link.split("#", maxsplit=1)[0] in page
    assert (simple / "foo-bar" / link.split("#", maxsplit=1)[0]).resolve().exists()
    files.write_simple_index([], simple)
    assert not (simple / "foo-bar").exists()


def test_the_index_has_what_roles_install_for_both_of_the_hosts_pythons(tmp_path: Path) -> None:
    (device_plugin,) = (path for path in files.requirements() if path.parts[-3] == "fpga_device_plugin")
    for python in files.PYTHONS:
        words = [str(word) for word in files.download_arguments(python, device_plugin, tmp_path)]
        assert words[-1] == str(device_plugin)
        assert words[words.index("--python-version") + 1] == python
        assert {"--require-hashes", "--only-binary"} <= set(words)


def test_manifests_are_served_with_sums_that_sha256sum_takes(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    (source / "crds.yaml").write_text("kind: X\n")
    (source / "notes.md").write_text("no")
    files.publish_manifests(source, target)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=target, check=True, capture_output=True)
    assert sorted(path.name for path in target.iterdir()) == ["SHA256SUMS", "crds.yaml"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    container.configure(cache)
    return cache


def test_the_certificate_is_for_the_depot_on_every_network(cache: Cache) -> None:
    text = subprocess.run(
        ["openssl", "x509", "-in", cache.tls / "server.crt", "-noout", "-ext", "subjectAltName"], capture_output=True, text=True, check=True
    ).stdout
    assert "DNS:depot" in text
    for network in settings.NETWORKS.values():
        assert f"IP Address:{network.depot}" in text
    subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", tls.ca(cache), cache.tls / "server.crt"], check=True, capture_output=True
    )


def test_configuring_again_changes_nothing(cache: Cache) -> None:
    before = {path.name: path.read_bytes() for path in container.configuration(cache).iterdir()}
    assert container.configure(cache) == container.configure(cache)
    assert {path.name: path.read_bytes() for path in container.configuration(cache).iterdir()} == before


def test_a_new_address_gets_a_new_certificate_from_the_same_authority(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    tls.ensure(cache, ["DNS:depot"])
    authority, server = tls.ca(cache).read_bytes(), (cache.tls / "server.crt").read_bytes()
    tls.ensure(cache, ["DNS:depot"])
    assert (cache.tls / "server.crt").read_bytes() == server
    tls.ensure(cache, ["DNS:depot", "IP:192.0.2.1"])
    assert (cache.tls / "server.crt").read_bytes() != server
    assert tls.ca(cache).read_bytes() == authority


def test_secrets_are_for_their_owner_only(cache: Cache) -> None:
    for path in (cache.tls / "ca.key", cache.tls / "server.key", tls.password_file(cache), container.configuration(cache) / "server.key"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_password_is_kept_as_a_hash_beside_the_server(cache: Cache) -> None:
    line = (container.configuration(cache) / "htpasswd").read_text()
    assert line.startswith("lab:$6$")
    assert tls.password(cache) not in line
    salt = line.split("$")[2]
    again = subprocess.run(["openssl", "passwd", "-6", "-salt", salt, "-stdin"], input=tls.password(cache), capture_output=True, text=True, check=True).stdout
    assert f"lab:{again.strip()}" == line.strip()


def test_only_the_machine_may_write_to_the_registry(cache: Cache) -> None:
    text = (container.configuration(cache) / "nginx.conf").read_text()
    assert f"allow {settings.ONPREM.gateway};" in text
    assert "@" not in text


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_an_address_has_one_hardware_address_that_is_locally_administered(value: int) -> None:
    text = container.mac(ipaddress.IPv4Address(value))
    parts = [int(part, 16) for part in text.split(":")]
    assert len(parts) == 6
    assert parts[0] & 0b11 == 0b10
    assert int.from_bytes(bytes(parts[2:]), "big") == value


ACCESS_LOG = """\
2026-11-23T16:02:19+00:00 10.203.10.1 5000 200 HEAD /v2/docker.io/calico/node/manifests/v3.28.5 0 "-"
2026-11-23T16:03:00+00:00 10.203.10.11 443 200 GET /kubernetes/core:/stable:/v1.36/deb/amd64/kubelet_1.36.3-1.1_amd64.deb 23119916 "Debian APT-HTTP/1.3 (2.6.1)"
2026-11-23T16:03:01+00:00 10.203.10.11 443 404 GET /debian/none 0 "-"
2026-11-23T16:03:02+00:00 10.203.20.13 443 200 GET /debian/pool/bookworm/libaudit1_3.0.9-1%2bb1_amd64.deb 10 "Debian APT-HTTP/1.3 (2.6.1)"
2026-11-23T16:03:03+00:00 10.203.10.11 443 200 GE"""


def test_the_access_log_tells_what_hosts_got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FPGA_HYBRID_LAB_CACHE", str(tmp_path))
    assert depot.served() == []
    log = container.access_log(Cache.default())
    log.parent.mkdir(parents=True)
    log.write_text(ACCESS_LOG)
    kubelet, library = depot.served()
    assert (kubelet.client, kubelet.port, kubelet.size) == ("10.203.10.11", 443, 23119916)
    assert library.path == "/debian/pool/bookworm/libaudit1_3.0.9-1+b1_amd64.deb"
    assert depot.served(since=library.time) == [library]


def test_the_server_writes_the_log_that_is_read(cache: Cache) -> None:
    """The order of nginx's fields is the order of Served's."""
    text = (container.configuration(cache) / "nginx.conf").read_text()
    assert "'$time_iso8601 $remote_addr $server_port $status $request_method $request_uri $body_bytes_sent " in text


@pytest.mark.parametrize("words", [["build"], ["build", "--refresh"], ["up"], ["remove"], ["status"], ["list"], ["clock", "-1.5"]], ids=" ".join)
def test_each_verb_of_the_command_line_calls_its_own_function(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    called: list[tuple[str, object]] = []
    for name in ("up", "remove"):
        monkeypatch.setattr(depot, name, lambda name=name: called.append((name, None)))
    monkeypatch.setattr(depot, "build", lambda refresh: called.append(("build", refresh)))
    monkeypatch.setattr(depot, "set_time_offset", lambda seconds: called.append(("clock", seconds)))

    def text(name: str) -> str:
        called.append((name, None))
        return ""

    monkeypatch.setattr(depot, "status", lambda: text("status"))
    monkeypatch.setattr(depot, "listing", lambda: text("list"))
    parser = argparse.ArgumentParser()
    depot.add_verbs(parser)
    options = parser.parse_args(words)
    options.action(options)
    argument = {"build": "--refresh" in words, "clock": -1.5}.get(words[0])
    assert called == [(words[0], argument)]
