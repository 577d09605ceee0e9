# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's etcd and kube-apiserver as processes of one user on 127.0.0.1, with what a kubeadm cluster has switched on."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, run
from lab.depot import golang
from lab.depot.base import Cache
from tests.unit.roles.bootstrap.doubles import Authority

Object = dict[str, Any]

PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
START = 60


def program(name: str) -> Path:
    return golang.read_table().program(name).path(Cache.default())


def missing() -> list[str]:
    return [name for name in PROGRAMS if not program(name).exists()]


class RefusedError(Exception):
    """The API server's answer to a request that it did not do; the message is its own."""


@dataclass(frozen=True)
class ApiServer:
    url: str
    token: str
    context: ssl.SSLContext
    kubeconfig: Path
    certificate: Path
    authority: Authority

    def kubectl(self) -> Kubectl:
        """As the product calls it."""

        def of_the_lab(argv: list[str], **options: Any) -> tuple[int, str, str]:
            return run([str(program(argv[0])), *argv[1:]], **options)

        return Kubectl(of_the_lab, str(self.kubeconfig))

    def ask(self, method: str, path: str, value: Object | None = None) -> tuple[Object, list[str]]:
        """The answer and the warnings that came with it."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", None if value is None else json.dumps(value).encode(), headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20, context=self.context) as answer:
                return json.load(answer), answer.headers.get_all("Warning", [])
        except urllib.error.HTTPError as error:
            raise RefusedError(json.load(error).get("message", "")) from error

    def create(self, value: Object) -> Object:
        return self.create_with_warnings(value)[0]

    def create_with_warnings(self, value: Object) -> tuple[Object, list[str]]:
        place = {"Pod": "/api/v1/namespaces/default/pods", "Job": "/apis/batch/v1/namespaces/default/jobs"}[value["kind"]]
        return self.ask("POST", place, value)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[ApiServer]:
    with contextlib.ExitStack() as stack:
        etcd, peer, port = free_ports(3)
        start(stack, folder / "etcd.log", program("etcd"), etcd_options(folder, etcd, peer))
        token = secrets.token_hex(16)
        (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
        (folder / "tokens.csv").chmod(0o600)
        subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
        authority = Authority()
        (folder / "clients.crt").write_text(authority.pem)
        apiserver = start(stack, folder / "kube-apiserver.log", program("kube-apiserver"), apiserver_options(folder, etcd, port))
        certificate = folder / "tls" / "apiserver.crt"
        wait_for(lambda: certificate.exists() or apiserver.poll() is not None, f"kube-apiserver's certificate, see {folder}/kube-apiserver.log")
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(kubeconfig_of(f"https://127.0.0.1:{port}", certificate.read_text(), token)))
        kubeconfig.chmod(0o600)
        server = ApiServer(f"https://127.0.0.1:{port}", token, ssl.create_default_context(cafile=str(certificate)), kubeconfig, certificate, authority)
        wait_for(lambda: answers(server), f"kube-apiserver, see {folder}/kube-apiserver.log")
        yield server


def etcd_options(folder: Path, client: int, peer: int) -> dict[str, object]:
    clients, peers = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    return {
        "data-dir": folder / "etcd",
        "listen-client-urls": clients,
        "advertise-client-urls": clients,
        "listen-peer-urls": peers,
        "initial-advertise-peer-urls": peers,
        "initial-cluster": f"default={peers}",
        "log-level": "error",
        "unsafe-no-fsync": "true",
    }


def apiserver_options(folder: Path, etcd: int, port: int) -> dict[str, object]:
    return {
        "allow-privileged": "true",  # as kubeadm's
        "etcd-servers": f"http://127.0.0.1:{etcd}",
        "bind-address": "127.0.0.1",
        "secure-port": port,
        "cert-dir": folder / "tls",
        "token-auth-file": folder / "tokens.csv",
        "client-ca-file": folder / "clients.crt",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "service-account-key-file": folder / "sa.key",
        "service-account-signing-key-file": folder / "sa.key",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-cluster-ip-range": "10.0.0.0/24",
        "endpoint-reconciler-type": "none",
        # Nobody makes service accounts here.
        "disable-admission-plugins": "ServiceAccount",
        # The beta form of policies that change objects is not served by itself.
        "runtime-config": "admissionregistration.k8s.io/v1beta1=true",
    }


def kubeconfig_of(url: str, ca: str, token: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority-data": base64.b64encode(ca.encode()).decode()}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _number in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def start(stack: contextlib.ExitStack, log: Path, executable: Path, options: Mapping[str, object]) -> subprocess.Popen[bytes]:
    """A process that ends with the stack, its output in a file."""
    output = stack.enter_context(log.open("wb"))
    process = subprocess.Popen(
        ["nice", "-n", "10", executable, *(f"--{name}={value}" for name, value in options.items())], stdout=output, stderr=subprocess.STDOUT
    )
    stack.callback(end, process)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers(server: ApiServer) -> bool:
    try:
        server.ask("GET", "/api/v1/namespaces/default")
    except (OSError, RefusedError):
        return False
    return True


def wait_for(condition: Callable[[], bool], what: str, timeout: float = START) -> None:
    stop = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > stop:
            raise TimeoutError(f"{what} is not there after {timeout:.0f} s")
        time.sleep(0.1)
