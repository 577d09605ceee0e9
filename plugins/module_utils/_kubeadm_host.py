# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files and programs of kubeadm on one host: the edge between C(_kubeadm)'s pure functions and the world."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import datetime
import fcntl
import glob
import json
import os
import shutil
import tempfile
import time
import typing as t
from contextlib import contextmanager, suppress

from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import (
    CONTROL_PLANE_FILES,
    DOWN,
    NODE_FILES,
    Found,
    KubeadmError,
    Object,
    Situation,
    ca_cert_hashes,
    control_plane_situation,
    failure,
    foreign_control_plane,
    has_api_server,
    kubelet_document,
    redact,
    refusal,
    render,
    worker_situation,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import (
    ADMIN_KUBECONFIG,
    KUBELET_KUBECONFIG,
    Kubectl,
    KubeError,
    Run,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record

# Section of the record. C(init): for which cluster kubeadm init ran here, from before it starts until after its reset.
# C(node): that the host was made a node of a cluster, by init or join, until the whole record goes.
RECORD = "kubeadm"

# What `kubeadm init` leaves in the cluster at its end, by namespace, so that two questions are enough.
_ESSENTIALS = {
    "kube-system": ("configmap/kubeadm-config", "configmap/kubelet-config", "deployment/coredns", "daemonset/kube-proxy"),
    "kube-public": ("configmap/cluster-info",),
}


DROP_IN = """# Written by the collection fpga.hybrid.
# After= and Wants=, not Requires=: a kubelet whose VPN restarts keeps its pods.
[Unit]
After={units}
Wants={units}
"""


class Paths:
    """Where things are; tests put a folder in front."""

    def __init__(self, root: str = "/") -> None:
        def at(path: str) -> str:
            return os.path.join(root, path)

        self.kubernetes = at("etc/kubernetes")
        self.kubelet = at("var/lib/kubelet")
        self.kubelet_config = at("var/lib/kubelet/config.yaml")
        self.kubelet_flags = at("var/lib/kubelet/kubeadm-flags.env")
        self.kubelet_instance = at("var/lib/kubelet/instance-config.yaml")
        self.etcd_member = at("var/lib/etcd/member")
        self.pki = at("etc/kubernetes/pki")
        self.ca = at("etc/kubernetes/pki/ca.crt")
        self.admin = at(ADMIN_KUBECONFIG[1:])
        self.kubelet_kubeconfig = at(KUBELET_KUBECONFIG[1:])
        self.node = at("etc/fpga-hybrid/node.json")
        self.record = at("etc/fpga-hybrid/record.json")
        self.journal = at("var/lib/fpga-hybrid/kubeadm.json")
        self.run = at("run/fpga-hybrid")
        self.lock = at("run/fpga-hybrid/kubeadm.lock")
        self.cni = at("etc/cni/net.d")
        self.drop_in = at("etc/systemd/system/kubelet.service.d/20-fpga-hybrid.conf")


class Host:
    def __init__(self, run: Run, paths: Paths | None = None) -> None:
        self.run = run
        self.paths = paths or Paths()

    # --- files --------------------------------------------------------------------------------------------------------------------------------

    def read(self, path: str) -> str | None:
        try:
            with open(path, encoding="utf-8") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def read_json(self, path: str) -> Object | None:
        text = self.read(path)
        if text is None:
            return None
        try:
            value = json.loads(text)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def write(self, path: str, text: str, mode: int) -> None:
        _files.write(path, _files.File(text, mode))

    def remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(path)

    # --- one kubeadm at a time ------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, timeout: int) -> t.Iterator[int]:
        """Held by us and by the kubeadm that we start: when a play is killed, its kubeadm goes on, and the next play waits for it here."""
        os.makedirs(self.paths.run, mode=0o700, exist_ok=True)
        handle = os.open(self.paths.lock, os.O_RDWR | os.O_CREAT, 0o600)
        os.set_inheritable(handle, True)
        try:
            end = time.monotonic() + timeout
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= end:
                        raise KubeadmError(
                            f"Another kubeadm run holds {self.paths.lock} for more than {timeout} s. Look who: fuser -v {self.paths.lock}; "
                            "wait for it, or end it, then run again."
                        ) from error
                    time.sleep(1)
            yield handle
        finally:
            os.close(handle)

    # --- what is there ------------------------------------------------------------------------------------------------------------------------

    def files(self) -> tuple[str, ...]:
        found = [name for name in (*CONTROL_PLANE_FILES, *NODE_FILES[:-1]) if os.path.exists(os.path.join(self.paths.kubernetes, name))]
        if os.path.exists(self.paths.kubelet_config):
            found.append("config.yaml")
        return tuple(found)

    def journal(self) -> Object | None:
        return self.read_json(self.paths.journal)

    def record(self) -> Record:
        return Record.load(self.paths.record)

    def maker(self) -> str | None:
        """Id of the cluster for which we made the control plane of this host; None when nothing says that we did.

        Our record knows it from before kubeadm starts. Where that is lost, the cluster itself does, once a run for it has come to its end.
        """
        made = self.record().get(RECORD, "init") or self.journal() or {}
        if made.get("cluster_id"):
            return str(made["cluster_id"])
        try:
            found = Kubectl(self.run, self.paths.admin, request_timeout=5).get("-n", "kube-system", "configmap/fpga-hybrid")
        except KubeError:
            return None
        return ((found or {}).get("data") or {}).get("cluster_id")

    def begin(self, action: str, cluster_id: str | None) -> None:
        """Says, until C(end), that what kubeadm leaves half made is ours."""
        started = datetime.datetime.now(tz=datetime.timezone.utc).isoformat(timespec="seconds")
        self.write(self.paths.journal, json.dumps({"action": action, "cluster_id": cluster_id, "started": started}) + "\n", 0o600)

    def end(self) -> None:
        self.remove(self.paths.journal)

    def ca_hashes(self) -> list[str]:
        pem = self.read(self.paths.ca)
        return ca_cert_hashes(pem) if pem else []

    def versions(self) -> Object:
        """Installed programs with their versions, None for one that is not there."""
        commands = {
            "kubeadm": ["kubeadm", "version", "-o", "short"],
            "kubelet": ["kubelet", "--version"],
            "kubectl": ["kubectl", "version", "--client", "-o", "json"],
        }
        result: Object = {}
        for name, argv in commands.items():
            if not any(os.access(os.path.join(folder, name), os.X_OK) for folder in os.environ.get("PATH", "/usr/bin").split(os.pathsep)):
                result[name] = None
                continue
            code, out, _err = self.run(argv)
            text = json.loads(out).get("clientVersion", {}).get("gitVersion", "") if code == 0 and name == "kubectl" else out.strip().rpartition(" ")[2]
            result[name] = text.lstrip("v") if code == 0 else None
        return result

    def server(self, kubeconfig: str) -> str | None:
        """The API server's URL in a kubeconfig file, None when the file is not readable."""
        code, out, _err = self.run(["kubectl", "config", "view", "--kubeconfig", kubeconfig, "-o", "jsonpath={.clusters[0].cluster.server}"])
        return out.strip() or None if code == 0 else None

    def api(self, timeout: int) -> tuple[str, str]:
        """(healthy | down | absent, last answer), asked again until it is healthy or the time is over."""
        if not os.path.exists(self.paths.admin):
            return "absent", ""
        kubectl = Kubectl(self.run, self.paths.admin, request_timeout=5)
        end = time.monotonic() + timeout
        while True:
            code, out, err = kubectl.try_call("get", "--raw", "/readyz")
            if code == 0 and out.strip() == "ok":
                return "healthy", "ok"
            if time.monotonic() >= end:
                return "down", (err or out).strip()[-500:]
            time.sleep(1)

    def missing_essentials(self) -> tuple[str, ...]:
        kubectl = Kubectl(self.run, self.paths.admin)
        missing: list[str] = []
        for namespace, objects in _ESSENTIALS.items():
            code, out, err = kubectl.try_call("-n", namespace, "get", *objects, "-o", "name", "--ignore-not-found")
            if code != 0:
                raise KubeError(f"kubectl -n {namespace} get {' '.join(objects)}: {err.strip()}")
            there = {line.rpartition("/")[2] for line in out.split()}
            missing += [name for name in (value.partition("/")[2] for value in objects) if name not in there]
        return tuple(missing)

    def found(self, api_timeout: int, cluster_id: str) -> Found:
        files, journal = self.files(), self.journal()
        # An API of ours that never came up need not be waited for: the journal says that its init did not get to its end.
        api, _answer = self.api(0 if journal is not None else api_timeout) if "admin.conf" in files else ("absent", "")
        return Found(
            files=files,
            etcd_data=os.path.isdir(self.paths.etcd_member),
            journal=journal,
            api=api,
            missing=self.missing_essentials() if api == "healthy" else (),
            foreign=foreign_control_plane(self.maker(), cluster_id) if has_api_server(files) and journal is None else "",
        )

    def situation(self, role: str, api_timeout: int = 0, cluster_id: str = "") -> tuple[Found, Situation]:
        """cluster_id: of the cluster whose control plane the host is to be. A worker needs none."""
        found = self.found(api_timeout, cluster_id)
        return found, control_plane_situation(found) if role == "control_plane" else worker_situation(found)

    def cni_configurations(self) -> list[Object]:
        """What a runtime would take as the pod network, in its order (by file name)."""
        result: list[Object] = []
        try:
            names = sorted(os.listdir(self.paths.cni))
        except FileNotFoundError:
            return result
        for name in names:
            if not name.endswith((".conf", ".conflist", ".json")):
                continue
            content = self.read_json(os.path.join(self.paths.cni, name)) or {}
            plugins = content.get("plugins") or [content]
            result.append({"file": name, "network": content.get("name"), "types": [plugin.get("type") for plugin in plugins if isinstance(plugin, dict)]})
        return result

    # --- programs -----------------------------------------------------------------------------------------------------------------------------

    def systemctl(self, *arguments: str) -> tuple[int, str]:
        code, out, err = self.run(["systemctl", *arguments])
        return code, (out or err).strip()


class Kubeadm:
    """kubeadm with the lock's file descriptor handed on, so that the lock lives as long as kubeadm does."""

    def __init__(self, host: Host, name: str, handle: int) -> None:
        self._host = host
        self._name = name
        self._handle = handle
        for left in glob.glob(os.path.join(host.paths.run, "kubeadm-*", "")):
            shutil.rmtree(left, ignore_errors=True)

    def configure(self, action: str, documents: list[Object], ignore: list[str], secret: str = "") -> None:
        folder = tempfile.mkdtemp(prefix="kubeadm-", dir=self._host.paths.run)
        try:
            path = os.path.join(folder, "config.yaml")
            self._host.write(path, render(documents), 0o600)
            self._run("config validate", ["kubeadm", "config", "validate", "--config", path], secret)
            argv = ["kubeadm", action, "--config", path]
            argv += [f"--ignore-preflight-errors={','.join(ignore)}"] if ignore else []
            argv += ["--skip-token-print"] if action == "init" else []
            self._run(action, argv, secret)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def reset(self, cri_socket: str) -> None:
        self._run("reset", ["kubeadm", "reset", "--force", "--cri-socket", cri_socket])

    def patches(self, declared: Object) -> str:
        """A folder that lays what the host declares over the cluster's kubelet configuration, so that a join is right from its first start."""
        folder = tempfile.mkdtemp(prefix="kubeadm-patches-", dir=self._host.paths.run)
        self._host.write(os.path.join(folder, "kubeletconfiguration+merge.json"), json.dumps(kubelet_document(declared)), 0o600)
        return folder

    def _run(self, action: str, argv: list[str], secret: str = "") -> None:
        code, out, err = self._host.run(argv, pass_fds=[self._handle])
        if code != 0:
            raise KubeadmError(redact(failure(action, self._name, f"{out}\n{err}"), secret))


def refuse_foreign_networks(host: Host, name: str, allowed: t.Sequence[str] | None) -> None:
    """allowed: names of the files that may be in /etc/cni/net.d, None means any."""
    if allowed is None:
        return
    foreign = [found for found in host.cni_configurations() if found["file"] not in allowed]
    if foreign:
        raise KubeadmError(
            f"{name} has a CNI configuration of somebody else, and the container runtime would give that network to pods:\n"
            + "\n".join(f"  {host.paths.cni}/{found['file']}: network {found['network']}, plugins {', '.join(map(str, found['types']))}" for found in foreign)
            + f"\nExpected there: nothing, or {', '.join(allowed)}. Move it away if nothing uses it, "
            "or name the file in kubeadm_cni_tolerated if its name sorts behind ours."
        )


def refuse_situation(name: str, role: str, situation: Situation, waited: int = 0) -> None:
    """KubeadmError for a host that cannot become what it is to be. waited: seconds that its API was given."""
    refused = refusal(name, role, situation)
    if refused:
        raise KubeadmError(refused)
    if situation.state == DOWN:
        raise KubeadmError(
            f"{name}: {situation.reason}, also after {waited} s. Nothing was changed. "
            f"Look on {name} at: journalctl -u kubelet -n 100, systemctl status containerd, and the logs below /var/log/pods/kube-system_kube-apiserver-* "
            "and kube-system_etcd-*."
        )
