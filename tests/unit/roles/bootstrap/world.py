# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host in a folder, with doubles of the programs that bootstrap calls and of everybody it talks to; bootstrap itself is the real program."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpga_hybrid.bundle import JoinBundle, encode
from tests.unit.roles.bootstrap.doubles import TOKEN, ApiServer, Authority, FailingAws, MetadataService, node_object

ROOT = Path(__file__).parents[4]
LIBRARY = ROOT / "roles" / "bootstrap" / "files"
GOLDEN = Path(__file__).parent / "golden"

#: The program looks again, and tries again, a tenth of its time later; how long it goes on is as ever.
BRISK = "import sys, time; nap = time.sleep; time.sleep = lambda seconds: nap(seconds / 10)"
INSTANCE = "i-0123456789abcdef0"
PROVIDER_ID = f"aws:///us-east-1a/{INSTANCE}"
ADDRESS = "172.27.232.1"
PROFILE = f"""# VPN profile of {INSTANCE}
client
dev tun0
dev-type tun
proto udp
remote vpn.example.org 1194
setenv-safe address {ADDRESS}/20
ifconfig-noexec
management /run/openvpn-client/fpga-hybrid.sock unix
<key>
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgthisisthekey0000
-----END PRIVATE KEY-----
</key>
"""
SECRETS = (TOKEN, TOKEN.rpartition(".")[2], "thisisthekey", "imds-secret")

KUBEADM = """#!{python} -IS
'''A double of kubeadm: checks what it is given as far as we rely on it, writes the files that the real one writes, in its order.'''
import json, os, pathlib, re, sys, time
doubles, root, arguments = pathlib.Path({doubles!r}), pathlib.Path({root!r}), sys.argv[1:]
with (doubles / "calls").open("a") as calls:
    print("kubeadm", *arguments, file=calls)
config = pathlib.Path(arguments[arguments.index("--config") + 1]) if "--config" in arguments else None
if config:
    if config.stat().st_mode & 0o077:
        sys.exit("error: others can read " + str(config))
    (document,) = [json.loads(part) for part in config.read_text().split("---\\n") if part]
    (doubles / "join.json").write_text(json.dumps(document))
    if not document["nodeRegistration"]["kubeletExtraArgs"]:
        sys.exit("error: nodeRegistration: no address")
steps = [
    ("etc/kubernetes/bootstrap-kubelet.conf", "bootstrap"),
    ("etc/kubernetes/pki/ca.crt", (doubles / "ca.pem").read_text()),
    ("var/lib/kubelet/config.yaml", "kind: KubeletConfiguration"),
    ("var/lib/kubelet/kubeadm-flags.env", None),
    ("var/lib/kubelet/pki/kubelet-client-current.pem", (doubles / "kubelet.pem").read_text()),
    ("etc/kubernetes/kubelet.conf", None),
]
if arguments[0] == "reset":
    for name, _text in steps:
        (root / name).unlink(missing_ok=True)
if arguments[0] == "join":
    patch = pathlib.Path(document["patches"]["directory"]) / "kubeletconfiguration+merge.json"
    (doubles / "kubelet.json").write_text(patch.read_text())
    if (doubles / "kubeadm.fails").exists():
        sys.exit((doubles / "kubeadm.fails").read_text())
    stop = int((doubles / "kubeadm.hangs").read_text()) if (doubles / "kubeadm.hangs").exists() else len(steps)
    flags = " ".join(f"--{{flag['name']}}={{flag['value']}}" for flag in document["nodeRegistration"]["kubeletExtraArgs"])
    server = "https://" + document["discovery"]["bootstrapToken"]["apiServerEndpoint"]
    texts = {{"kubeadm-flags.env": f'KUBELET_KUBEADM_ARGS="{{flags}}"\\n', "kubelet.conf": f"clusters:\\n- cluster:\\n    server: {{server}}\\n"}}
    for number, (name, text) in enumerate(steps):
        if number == stop:
            (doubles / "kubeadm.at_work").touch()
            time.sleep(60)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(texts.get(os.path.basename(name), text))
"""

SYSTEMCTL = """#!/bin/sh
# A double of systemctl: notes what it is asked, and "starts" OpenVPN, whose double then answers.
echo "systemctl $*" >> {doubles}/calls
case "$*" in
  "enable --now openvpn-client@"*|"restart openvpn-client@"*) touch {doubles}/vpn.started ;;
  "disable --now openvpn-client@"*) rm -f {doubles}/vpn.started ;;
esac
"""
JOURNALCTL = """#!/bin/sh
cat {doubles}/openvpn.log 2>/dev/null
"""


class OpenVpn:
    """A double of OpenVPN's management socket. Nobody answers before the unit was started."""

    def __init__(self, path: Path, started: Path) -> None:
        self.state = "CONNECTED,SUCCESS"
        self.address = ADDRESS
        self._started = started
        path.parent.mkdir(parents=True, exist_ok=True)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                if self._started.exists():
                    connection.sendall(b">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info\r\n")
                    connection.recv(100)
                    remote = "10.0.0.10,1194" if self.state.startswith("CONNECTED") else ","
                    address = self.address if self.state.startswith("CONNECTED") else ""
                    connection.sendall(f"1764000000,{self.state},{address},{remote},,\r\nEND\r\n".encode())
                    connection.recv(100)

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True)
class Result:
    status: int
    output: str
    log: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.output)

    @property
    def failure(self) -> dict[str, Any]:
        return self.document["failure"]


class World:
    def __init__(self, authority: Authority) -> None:
        # Short, because a socket's path is.
        self.folder = Path(tempfile.mkdtemp(prefix="fh-"))
        self.root, self.doubles, self.bin = self.folder / "root", self.folder / "doubles", self.folder / "bin"
        for folder in (self.root / "etc", self.root / "proc", self.root / "dev", self.root / "var/lib/kubelet", self.doubles, self.bin):
            folder.mkdir(parents=True)
        self.has(cpus=48, memory_kib=528_280_000)
        self.write("etc/hosts", "127.0.0.1 localhost\n")
        self.write("dev/console", "")
        values = {"python": sys.executable, "doubles": str(self.doubles), "root": str(self.root)}
        self.program("kubeadm", KUBEADM.format(**values))
        self.program("systemctl", SYSTEMCTL.format(**values))
        self.program("journalctl", JOURNALCTL.format(**values))
        for name in ("kubelet", "openvpn"):
            self.program(name, "#!/bin/sh\n")
        self.api = ApiServer(self.doubles, authority).__enter__()
        self.api.on_ask = self._kubelet
        self.imds: MetadataService | None = MetadataService(INSTANCE).__enter__()
        self.aws = FailingAws().__enter__()
        self.vpn = OpenVpn(self.root / "run/openvpn-client/fpga-hybrid.sock", self.doubles / "vpn.started")
        (self.doubles / "ca.pem").write_text(authority.pem)
        self.is_node(INSTANCE)
        self.ready_after = 1

    def close(self) -> None:
        for server in filter(None, (self.api, self.imds, self.aws)):
            server.__exit__()
        self.vpn.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- the host's state -----------------------------------------------------------------------------------------------------------------

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def has(self, cpus: int, memory_kib: int) -> None:
        self.write("proc/cpuinfo", "".join(f"processor\t: {number}\nmodel name\t: x\n\n" for number in range(cpus)))
        self.write("proc/meminfo", f"MemTotal:       {memory_kib} kB\nMemFree:        1 kB\nHugetlb:               0 kB\n")

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def is_node(self, name: str) -> None:
        """The certificate that the kubelet will get."""
        (self.doubles / "kubelet.pem").write_text(self.api.authority.issue(f"system:node:{name}", organisation="system:nodes"))

    def declare(self, node: Mapping[str, Any]) -> None:
        self.write("etc/fpga-hybrid/node.json", json.dumps(node, indent=2))

    def bundle(self, **changes: Any) -> JoinBundle:
        whole = {
            "node": INSTANCE,
            "endpoint": self.api.endpoint,
            "endpoint_address": "127.0.0.1",
            "token": TOKEN,
            "ca_cert_hashes": (self.api.authority.pin,),
            "vpn_profile": PROFILE,
            "vpn_address": ADDRESS,
            **changes,
        }
        return JoinBundle(**whole)

    def parameter(self, value: str | None = None) -> str:
        """What SSM answers from now on: the bundle, and to a PutParameter that it was done."""
        text = encode(self.bundle()).text if value is None else value
        answer = json.dumps({"Parameter": {"Name": f"/fpga-hybrid/c/nodes/{INSTANCE}", "Type": "SecureString", "Value": text, "Version": 1}})
        self.aws.answer(200, answer)
        self.aws.puts = '{"Tier": "Standard", "Version": 1}'
        return text

    def vpn_is_up(self) -> None:
        (self.doubles / "vpn.started").touch()

    def _kubelet(self, _path: str) -> None:
        """What the kubelet does beside: registers as kubeadm was told, and is Ready after it was asked for a while."""
        if not (self.root / "etc/kubernetes/kubelet.conf").exists() or not (self.doubles / "join.json").exists():
            return
        registration = json.loads((self.doubles / "join.json").read_text())["nodeRegistration"]
        flags = {flag["name"]: flag["value"] for flag in registration["kubeletExtraArgs"]}
        self.ready_after -= 1
        provider_id = self.api.nodes.get(registration["name"], {}).get("spec", {}).get("providerID", flags.get("provider-id"))
        self.api.nodes[registration["name"]] = node_object(registration["name"], provider_id, self.ready_after < 0, flags["node-ip"])

    # --- runs -----------------------------------------------------------------------------------------------------------------------------

    def command(self, *arguments: str) -> list[str]:
        launcher = f"{BRISK}; sys.path[:0] = [{str(LIBRARY)!r}, {str(ROOT / 'collections')!r}]; from fpga_hybrid.bootstrap import main; sys.exit(main())"
        return [sys.executable, "-IS", "-c", launcher, "--root", str(self.root), *arguments]

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url if self.imds else "http://127.0.0.1:9",
            "LC_ALL": "C.UTF-8",
        }

    def run(self, *arguments: str, timeout: int = 60) -> Result:
        done = subprocess.run(self.command(*arguments), env=self.environment(), capture_output=True, text=True, timeout=timeout, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(*arguments), env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def join(self, *arguments: str) -> Result:
        """As the unit does, with less patience."""
        return self.run("--config", "/etc/fpga-hybrid/node.json", "--bundle", "ssm", "--timeout", "20", *arguments)

    def calls(self) -> list[str]:
        path = self.doubles / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def evidence(self) -> dict[str, Any] | None:
        """What was written to the parameter store."""
        puts = [request for request in self.aws.requests if request.get("X-Amz-Target", request.get("X-amz-target")) == "AmazonSSM.PutParameter"]
        return json.loads(puts[-1]["body"]) if puts else None

    def snapshot(self) -> dict[str, tuple[int, int, bytes]]:
        """Every file with its mode, its time and its content."""
        found = {}
        for folder, _folders, files in os.walk(self.root):
            for name in files:
                path = Path(folder) / name
                status = path.lstat()
                if not path.is_socket() and name != "bootstrap.lock":
                    found[str(path.relative_to(self.root))] = (status.st_mode, status.st_mtime_ns, path.read_bytes())
        return found

    def plain(self, text: str) -> str:
        """Without what differs from run to run."""
        text = text.replace(self.api.authority.pin, "sha256:<pin>").replace(str(self.api.port), "6443").replace(str(self.root), "")
        text = re.sub(r"api\.example\.org:\d+", "api.example.org:6443", text)
        text = text.replace(self.aws.url, "http://<aws>").replace(self.imds.url if self.imds else "http://127.0.0.1:9", "http://<imds>")
        text = re.sub(r"(\d{4}-\d\d-\d\dT[\d:.]+Z)", "<time>", text)
        text = re.sub(r"clock is \d+ s", "clock is N s", text)
        text = re.sub(r'"seconds": [\d.]+', '"seconds": 0', text)
        text = re.sub(r" \(waited \d+ s\)", "", re.sub(r"after \d+ s", "after N s", text))
        text = re.sub(r"kubeadm-patches-\w+", "kubeadm-patches-x", text)
        return re.sub(r"sha256:[0-9a-f]{64}", "sha256:<other>", text)
