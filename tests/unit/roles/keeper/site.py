# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A control plane for keeper to stand on: the lab's AWS with its IAM, the real fpga-hybrid-vpn, and a double of the API server."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _command
from ansible_collections.fpga.hybrid.plugins.module_utils._iam import make_scope, policy_of
from ansible_collections.fpga.hybrid.plugins.module_utils._iam_identities import INSTANCES, KEEPER
from fpga_hybrid import bundle
from fpga_hybrid.aws import Aws
from fpga_hybrid.credentials import Credentials
from fpga_hybrid.run import Log
from fpga_hybrid_keeper.authority import Authority as KeepersAuthority
from fpga_hybrid_keeper.keeper import Keeper, edges_of
from fpga_hybrid_keeper.settings import read
from tests.unit.roles.bootstrap.doubles import Authority, Server
from tests.unit.roles.test_openvpn_authority import PROGRAM, SETTINGS, vpn

if TYPE_CHECKING:
    from lab.cloud.server import Cloud

ROOT = Path(__file__).parents[4]
ID = "5c9e8f6a-0000-4000-8000-000000000001"
BOARD = "xilinx/aws-vu47p-f2"
PREFIX = "/fpga-hybrid/lab"
TAINT = {"key": "startup-taint.cluster-autoscaler.kubernetes.io/fpga", "effect": "NoSchedule"}
PROMISE = {"cpu": "23500m", BOARD: "1"}
GROUP_TAGS = {
    "fpga.hybrid/cluster-id": ID,
    "fpga.hybrid/pool": "f2",
    "k8s.io/cluster-autoscaler/lab": "owned",
    **{f"k8s.io/cluster-autoscaler/node-template/resources/{name}": value for name, value in PROMISE.items()},
}
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
KUBECTL = """#!/bin/sh
# A double of kubectl for the one thing that keeper asks of it: a kubeconfig as JSON, which ours is already.
for word; do case "$word" in --kubeconfig=*) exec cat "${word#--kubeconfig=}" ;; esac; done
exit 1
"""


class ApiServer(Server):
    """Nodes, Secrets and events as the API server keeps them, with their versions, for an administrator's certificate.

    down: it hangs up. refuses: the certificate has expired. Secrets are kept as plain text here.
    """

    scheme = "https"
    NAME = "api.example.org"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.nodes: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.down = self.refuses = False
        self._version = 0
        self._lock = threading.Lock()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.verify_mode = ssl.CERT_OPTIONAL
        self.replace_authority("kubernetes")
        self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    def replace_authority(self, name: str) -> None:
        """For all connections from now on. A name of its own: OpenSSL takes the first one of a name."""
        self.authority = Authority(name)
        (self.folder / "apiserver.pem").write_text(self.authority.issue("kube-apiserver", "127.0.0.1"))
        (self.folder / "ca.crt").write_text(self.authority.pem)
        self._context.load_cert_chain(self.folder / "apiserver.pem")
        self._context.load_verify_locations(self.folder / "ca.crt")

    def kubeconfig(self) -> str:
        whole = self.authority.issue("kubernetes-admin", organisation="kubeadm:cluster-admins")
        certificate, key = re.findall(r"-----BEGIN.*?-----END[^-]*-----\n", whole, re.DOTALL)
        pem = {
            "certificate-authority-data": self.authority.pem,
            "client-certificate-data": certificate,
            "client-key-data": key,
        }
        data = {name: base64.b64encode(text.encode()).decode() for name, text in pem.items()}
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority-data": data.pop("certificate-authority-data")}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                "clusters": [{"name": "a", "cluster": cluster}],
                "users": [{"name": "a", "user": data}],
            }
        )

    def put_node(self, name: str, provider_id: str | None, **changes: Any) -> None:
        """As a kubelet registers it, or reports again."""
        before = self.nodes.get(name, {"spec": {"providerID": provider_id, "taints": [dict(TAINT)]}})
        given = {"cpu": "24", **changes.get("given", {})}
        status = {"conditions": [{"type": "Ready", "status": str(changes.get("ready", True))}], "allocatable": given}
        self._keep(self.nodes, name, {**before, "kind": "Node", "metadata": {"name": name}, "status": status})

    def taints(self, name: str) -> list[str]:
        return [taint["key"] for taint in self.nodes[name]["spec"].get("taints") or []]

    def tokens(self) -> set[str]:
        return {f"{one['data']['token-id']}.{one['data']['token-secret']}" for one in self.secrets.values()}

    def _keep(self, kind: dict[str, dict[str, Any]], name: str, found: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._version += 1
            kind[name] = {**found, "metadata": {**found["metadata"], "name": name, "resourceVersion": str(self._version)}}
            return kind[name]

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        method, path = request.command, request.path.partition("?")[0]
        self.asked.append(f"{method} {path}")
        if self.down:
            request.close_connection = True
            return None
        certificate = request.connection.getpeercert() if isinstance(request.connection, ssl.SSLSocket) else None
        who = next((value for part in (certificate or {}).get("subject", ()) for key, value in part if key == "organizationName"), None)
        if who != "kubeadm:cluster-admins" or self.refuses:
            return self._status(request, 401, "Unauthorized")
        document = json.loads(body) if body else {}
        if path == EVENTS:
            return self._take_event(request, document)
        folder = next(folder for folder in ("/api/v1/nodes", "/api/v1/namespaces/kube-system/secrets") if path.startswith(folder))
        kind, name = (self.nodes if folder.endswith("nodes") else self.secrets), path.removeprefix(folder).strip("/")
        if method == "POST":
            self._keep(kind, document["metadata"]["name"], {**document, "data": document.pop("stringData")})
            return self.reply(request, 201, "{}")
        if not name:
            return self.reply(request, 200, json.dumps({"kind": "List", "items": list(kind.values())}))
        if name not in kind:
            return self._status(request, 404, f'"{name}" not found')
        found = kind[name]
        wanted = (document.get("preconditions") or document.get("metadata") or {}).get("resourceVersion")
        if wanted and wanted != found["metadata"]["resourceVersion"]:
            return self._status(request, 409, "the object has been modified; please apply your changes to the latest version and try again")
        if method == "DELETE":
            del kind[name]
        elif method == "PATCH":
            taints = document["spec"]["taints"]
            spec = {key: value for key, value in {**found["spec"], "taints": taints}.items() if value is not None}
            found = self._keep(kind, name, {**found, "spec": spec})
        if kind is self.secrets:
            found = {**found, "data": {key: base64.b64encode(value.encode()).decode() for key, value in found["data"].items()}}
        return self.reply(request, 200, json.dumps(found))

    def _take_event(self, request: BaseHTTPRequestHandler, document: dict[str, Any]) -> None:
        if document["metadata"]["name"] in self.events:
            return self._status(request, 409, "events already exists")
        self.events[document["metadata"]["name"]] = document
        return self.reply(request, 201, "{}")

    def _status(self, request: BaseHTTPRequestHandler, status: int, message: str) -> None:
        self.reply(request, status, json.dumps({"kind": "Status", "status": "Failure", "message": message, "code": status}))


@dataclass
class Site:
    """The clock is the site's own: passes follow each other as fast as they can."""

    cloud: Cloud
    folder: Path
    api: ApiServer
    authority: Path
    now: float = 1_800_000_000.0
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "admin.conf").write_text(self.api.kubeconfig())
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "kubectl").write_text(KUBECTL)
        (self.folder / "bin" / "kubectl").chmod(0o755)
        shutil.copytree(self.authority, self.vpn)
        (self.vpn / "authority.json").write_text(json.dumps({**SETTINGS, "management": str(self.folder / "none"), "status": str(self.folder / "none")}))
        scope = make_scope("lab", "us-east-1", [], account="123456789012", cluster_id=ID)
        self.policy = policy_of(KEEPER, scope)
        self.signs(self.cloud.user("keeper", [self.policy]))
        iam = self.cloud.client("iam")
        self.role = iam.create_role(RoleName="lab-instance", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        iam.put_role_policy(RoleName="lab-instance", PolicyName="p", PolicyDocument=json.dumps(policy_of(INSTANCES, scope)))
        self.write_config()

    @property
    def vpn(self) -> Path:
        return self.folder / "vpn"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def config(self) -> Path:
        return self.folder / "keeper.json"

    def write_config(self, **changes: Any) -> None:
        standard = {
            "schema": 1,
            "cluster_name": "lab",
            "cluster_id": ID,
            "region": "us-east-1",
            "endpoint_url": self.cloud.url,
            "account": None,
            "ssm_prefix": PREFIX,
            "credentials": str(self.folder / "credentials"),
            "endpoint": "api.example.org:6443",
            "endpoint_address": "172.27.224.1",
            "kubeconfig": str(self.folder / "admin.conf"),
            "ca": str(self.folder / "ca.crt"),
            "vpn": [sys.executable, str(PROGRAM), "--folder", str(self.vpn)],
            "state": str(self.state),
            "interval": 5,
            "grace": 20,
            "network_told": False,
            "limits": {"instances": None, "instance_hours_per_day": None},
            "failed_joins": {"most": 3, "window": 3600},
            "keep_failed": {},
            "prices": {},
            "upkeep": {
                "node": "cp1",
                "etcd": "https://127.0.0.1:1",
                "kubernetes": str(self.folder / "kubernetes"),
                "kubelet": str(self.folder / "kubelet.pem"),
                "saved": {"kubernetes/pki": str(self.folder / "kubernetes" / "pki"), "keeper/record.json": str(self.state / "record.json")},
                "snapshots_kept": 7,
                "snapshot_command": [],
                "warning_command": [],
                "warn_days": 30,
                "metrics_file": str(self.state / "metrics.prom"),
            },
        }
        self.config.write_text(json.dumps({**standard, **changes}))

    def signs(self, keys: Mapping[str, str]) -> None:
        (self.folder / "credentials").write_text("[default]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items()))

    def keeper(self, **options: Any) -> Keeper:
        settings = read(str(self.config))
        edges = replace(edges_of(settings), authority=KeepersAuthority(settings.vpn, self.run))
        return Keeper(settings, Log(), edges, clock=lambda: self.now, **options)

    def run(self, argv: Sequence[str], **options: Any) -> tuple[int, str, str]:
        """The VPN's authority in this process, because a process of its own costs most of a test's time; anything else as it is."""
        if argv[1:2] != [str(PROGRAM)]:
            return _command.run(argv, **options)
        out, err = io.StringIO(), io.StringIO()
        umask = os.umask(0o077)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = vpn.main(argv[2:])
        finally:
            os.umask(umask)
        return code, out.getvalue(), err.getvalue()

    def after(self, keeper: Keeper, seconds: float = 6.0) -> bool:
        self.now += seconds
        return keeper.one_pass()

    def called(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), env=self.environment(), capture_output=True, text=True, check=False, timeout=60)

    def command(self, *arguments: str) -> list[str]:
        paths = [str(ROOT / part) for part in ("roles/keeper/files", "roles/bootstrap/files", "collections")]
        launcher = f"import sys; sys.path[:0] = {paths!r}; from fpga_hybrid_keeper.keeper import main; sys.exit(main())"
        return [sys.executable, "-IS", "-c", launcher, "--config", str(self.config), *arguments]

    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

    # --- what is there --------------------------------------------------------------------------------------------------------------------

    def make_group(self, name: str = "lab-f2", tags: Mapping[str, str] = GROUP_TAGS) -> None:
        data = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "f2.6xlarge"}
        self.cloud.client("ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
        self.cloud.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=name,
            LaunchTemplate={"LaunchTemplateName": name, "Version": "1"},
            MinSize=0,
            MaxSize=20,
            AvailabilityZones=["us-east-1a", "us-east-1b"],
            Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": key.startswith("fpga.hybrid/")} for key, value in tags.items()],
        )

    def scale(self, size: int, name: str = "lab-f2") -> list[str]:
        autoscaling = self.cloud.client("autoscaling")
        autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=size)
        (group,) = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        return sorted(one["InstanceId"] for one in group["Instances"])

    def start_by_hand(self, tags: Mapping[str, str]) -> str:
        specification = [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]
        made = self.cloud.client("ec2").run_instances(ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1, TagSpecifications=specification)
        return str(made["Instances"][0]["InstanceId"])

    def instance(self, name: str) -> dict[str, Any]:
        return dict(self.cloud.client("ec2").describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"][0])

    def provider_id(self, name: str) -> str:
        return f"aws:///{self.instance(name)['Placement']['AvailabilityZone']}/{name}"

    def joins(self, name: str, **changes: Any) -> None:
        self.api.put_node(name, self.provider_id(name), **changes)

    def gone_silently(self, keeper: Keeper) -> str:
        """Terminated, and its node has fallen silent: but for AWS' word, it could be cleared away."""
        (name,) = self.scale(1)
        self.after(keeper)
        self.joins(name, given={BOARD: "1"})
        self.after(keeper)
        self.scale(0)
        self.joins(name, ready=False)
        return name

    def reads(self, name: str, of: str | None = None) -> bundle.JoinBundle:
        """As bootstrap on that instance does: with the instance's own credentials, by bootstrap's client and decoder."""
        keys = self.cloud.assume(self.role, name)
        credentials = Credentials(keys["aws_access_key_id"], keys["aws_secret_access_key"], keys["aws_session_token"])
        aws = Aws("us-east-1", lambda: credentials, self.cloud.url, patience=0)
        answer = aws.call("ssm", "GetParameter", {"Name": f"{PREFIX}/nodes/{of or name}", "WithDecryption": True})
        return bundle.decode(answer["Parameter"]["Value"])

    def fails(self, name: str, kind: str = "vpn", status: int = 40, state: str = "failed", sentence: str = "The VPN does not come up.") -> None:
        """As bootstrap on that instance leaves its evidence."""
        keys = self.cloud.assume(self.role, name)
        credentials = Credentials(keys["aws_access_key_id"], keys["aws_secret_access_key"], keys["aws_session_token"])
        aws = Aws("us-east-1", lambda: credentials, self.cloud.url, patience=0)
        value = json.dumps({"schema": 1, "state": state, "failure": {"kind": kind, "status": status, "step": kind, "sentence": sentence}, "log": []})
        aws.call("ssm", "PutParameter", {"Name": f"{PREFIX}/failures/{name}", "Type": "String", "Overwrite": True, "Value": value})

    def failures(self) -> set[str]:
        found = self.cloud.client("ssm").get_parameters_by_path(Path=f"{PREFIX}/failures")["Parameters"]
        return {one["Name"].rpartition("/")[2] for one in found}

    def suspended(self, group: str = "lab-f2") -> bool:
        (found,) = self.cloud.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
        return "Launch" in {one["ProcessName"] for one in found.get("SuspendedProcesses", [])}

    def parameters(self) -> dict[str, dict[str, Any]]:
        found = self.cloud.client("ssm").get_parameters_by_path(Path=f"{PREFIX}/nodes", WithDecryption=True)["Parameters"]
        return {one["Name"].rpartition("/")[2]: one for one in found}

    def clients(self) -> dict[str, dict[str, Any]]:
        """Of the VPN's authority."""
        _code, out, _err = self.run([sys.executable, str(PROGRAM), "--folder", str(self.vpn), "list"])
        return {one["name"]: one for one in json.loads(out)["clients"]}

    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.state / "record.json").read_text())["instances"])

    def status(self) -> dict[str, Any]:
        return dict(json.loads((self.state / "status.json").read_text()))
