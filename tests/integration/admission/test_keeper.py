# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper's snapshot of a real etcd, restored as docs/restore.md says; and its warnings as a real API server takes and kubectl shows them."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fpga_hybrid.kube import Api, ConflictError, Server
from fpga_hybrid_keeper import snapshot
from fpga_hybrid_keeper.told import EVENTS, event
from tests.integration.admission.server import etcd_options, free_ports, program, start, wait_for
from tests.unit.roles.bootstrap.doubles import Authority

TOOLS = ("etcd", "etcdutl")


class Etcd:
    """etcd as kubeadm starts it: for clients with a certificate only."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder, self.pki = folder, folder / "pki"
        (self.pki / "etcd").mkdir(parents=True, exist_ok=True)
        (self.pki / "etcd" / "ca.crt").write_text(authority.pem)
        for name, *names in (("etcd/server", "localhost", "127.0.0.1"), ("apiserver-etcd-client",)):
            certificate, key = re.findall(r"-----BEGIN.*?-----END[^-]*-----\n", authority.issue(name, *names), re.DOTALL)
            (self.pki / f"{name}.crt").write_text(certificate)
            (self.pki / f"{name}.key").write_text(key)
        self.port, self.peer = free_ports(2)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Etcd]:
        files = {"cert-file": "etcd/server.crt", "key-file": "etcd/server.key", "trusted-ca-file": "etcd/ca.crt"}
        clients = {"listen-client-urls": self.url, "advertise-client-urls": self.url}
        secured = {**clients, **{name: self.pki / path for name, path in files.items()}, "client-cert-auth": "true"}
        with contextlib.ExitStack() as stack:
            start(stack, self.folder / "etcd.log", program("etcd"), {**etcd_options(self.folder, self.port, self.peer), **secured})
            wait_for(self.answers, f"etcd, see {self.folder}/etcd.log")
            yield self

    def ask(self, what: str, **question: Any) -> Any:
        context = ssl.create_default_context(cafile=str(self.pki / "etcd" / "ca.crt"))
        context.load_cert_chain(self.pki / "apiserver-etcd-client.crt", self.pki / "apiserver-etcd-client.key")
        coded = {name: base64.b64encode(value).decode() if isinstance(value, bytes) else value for name, value in question.items()}
        request = urllib.request.Request(f"{self.url}/v3/{what}", json.dumps(coded).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return json.load(answer)

    def answers(self) -> bool:
        try:
            return bool(self.ask("maintenance/status"))
        except OSError:
            return False

    def put(self, key: bytes, value: bytes) -> None:
        self.ask("kv/put", key=key, value=value)

    def get(self, key: bytes) -> bytes | None:
        found = self.ask("kv/range", key=key).get("kvs")
        return base64.b64decode(found[0]["value"]) if found else None

    def revision(self) -> int:
        return int(self.ask("kv/range", key=b"none")["header"]["revision"])

    def taken(self, now: float) -> snapshot.Kept:
        snapshots = snapshot.Snapshots(str(self.folder / "snapshots"), "lab", {"kubernetes/pki": str(self.pki)}, 7)
        return snapshots.take(snapshot.Etcd.of_kubeadm(self.url, str(self.pki)), {}, now)


def restore(database: Path, target: Etcd) -> subprocess.CompletedProcess[str]:
    """The command of docs/restore.md, with another place."""
    peer = f"http://127.0.0.1:{target.peer}"
    options = ["--name=default", f"--initial-cluster=default={peer}", f"--initial-advertise-peer-urls={peer}", f"--data-dir={target.folder / 'etcd'}"]
    argv = [program("etcdutl"), "snapshot", "restore", database, *options, "--bump-revision=1000000000", "--mark-compacted"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def authority() -> Authority:
    if lacking := [name for name in TOOLS if not program(name).exists()]:
        pytest.skip(f"the lab has not built {', '.join(lacking)} yet: `make lab` does")
    return Authority("etcd-ca")


def test_what_etcd_had_comes_back_from_a_snapshot_and_what_came_later_does_not(authority, tmp_path):
    before, after = Etcd(tmp_path / "before", authority), Etcd(tmp_path / "after", authority)
    values = {f"/registry/{number}".encode(): bytes([number]) * 70_000 for number in range(60)}
    with before.running():
        for key, value in values.items():
            before.put(key, value)
        kept = before.taken(time.time())
        before.put(b"/registry/7", b"later")
        revision = before.revision()
    (tmp_path / "out").mkdir()
    subprocess.run(["sha256sum", "--check", "--quiet", f"{kept.path}.sha256"], cwd=kept.folder, check=True)
    subprocess.run(["tar", "--extract", "--gzip", "--file", kept.path, "--directory", tmp_path / "out"], check=True)
    assert (tmp_path / "out" / "kubernetes" / "pki" / "etcd" / "ca.crt").read_text() == authority.pem
    done = restore(tmp_path / "out" / "etcd.db", after)
    assert done.returncode == 0, done.stderr
    with after.running():
        assert {key: after.get(key) for key in values} == values
        # Whoever has watched is told to look anew, and takes no old revision for a new one.
        assert after.revision() > revision + 900_000_000


def test_etcds_own_tool_refuses_one_that_was_changed(authority, tmp_path):
    one = Etcd(tmp_path / "one", authority)
    with one.running():
        one.put(b"/registry/a", b"1")
        kept = one.taken(time.time())
    subprocess.run(["tar", "--extract", "--gzip", "--file", kept.path, "--directory", tmp_path], check=True)
    data = bytearray((tmp_path / "etcd.db").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "etcd.db").write_bytes(data)
    done = restore(tmp_path / "etcd.db", Etcd(tmp_path / "two", authority))
    assert done.returncode != 0
    assert "expected sha256" in done.stderr + done.stdout


def test_a_stranger_without_a_certificate_gets_no_snapshot(authority, tmp_path):
    one = Etcd(tmp_path, authority)
    certificate, key = re.findall(r"-----BEGIN.*?-----END[^-]*-----\n", Authority("other").issue("stranger"), re.DOTALL)
    paths = [tmp_path / "stranger.crt", tmp_path / "stranger.key"]
    paths[0].write_text(certificate)
    paths[1].write_text(key)
    with one.running(), pytest.raises(snapshot.SnapshotError, match="gives no answer"):
        snapshot.Etcd(one.url, str(one.pki / "etcd" / "ca.crt"), *map(str, paths)).snapshot(lambda _database: None)


# --- events -----------------------------------------------------------------------------------------------------------------------------


def test_a_warning_is_an_event_that_kubectl_shows_of_the_node(api):
    api.ask("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "keeper-cp1"}})
    address = urlsplit(api.url)
    cluster = json.loads(api.kubeconfig.read_text())["clusters"][0]["cluster"]
    ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
    client = Api(Server(str(address.hostname), int(address.port or 443)), ca, token=api.token)
    warning = "Certificate /etc/kubernetes/pki/apiserver.crt ends on 2026-12-20 10:00 UTC. " + "x" * 2000
    now = time.time()
    client.request("POST", EVENTS, event(warning, "keeper-cp1", now))
    with pytest.raises(ConflictError):
        client.request("POST", EVENTS, event(warning, "keeper-cp1", now + 1))
    shown = api.kubectl().call("describe", "node", "keeper-cp1")
    (line,) = [line for line in shown.splitlines() if "apiserver.crt ends on" in line]
    assert line.split()[:2] == ["Warning", "FpgaHybridWarning"]
