# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubeadm is told, what it left behind, and what follows from it: pure functions over plain data.

Sources: kubeadm's v1beta4 types (k8s.io/kubernetes cmd/kubeadm/app/apis/kubeadm/v1beta4) and its phases (cmd/kubeadm/app/cmd/phases/{init,join}).
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import base64
import binascii
import copy
import datetime
import hashlib
import ipaddress
import json
import re
import shlex
import typing as t
from dataclasses import dataclass, field

from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint

Object = dict[str, t.Any]

API_VERSION = "kubeadm.k8s.io/v1beta4"
KUBELET_API_VERSION = "kubelet.config.k8s.io/v1beta1"
KUBE_PROXY_API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
CONTROL_PLANE_TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
TOKEN_DESCRIPTION = "fpga-hybrid join"  # noqa: S105 - what the token is called, not the token


class KubeadmError(Exception):
    """The message says what was found, what was expected, and what to do."""


# --- versions -----------------------------------------------------------------------------------------------------------------------------------


def version(text: str) -> tuple[int, int, int]:
    """C(v1.36.3), C(1.36.3), C(v1.36.3-gke.1) as (1, 36, 3)."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
    if not found:
        raise KubeadmError(f"{text!r} is no Kubernetes version; expected something like 1.36.3.")
    return int(found.group(1)), int(found.group(2)), int(found.group(3) or 0)


# --- what kubeadm is told -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClusterConfig:
    """The cluster as declared. Endpoint is C(name:port); version has no leading C(v)."""

    name: str
    kubernetes_version: str
    endpoint: str
    pod_network: str
    service_network: str
    dns_domain: str
    cert_sans: tuple[str, ...] = ()
    kubelet: Object = field(default_factory=dict)
    kube_proxy: Object = field(default_factory=dict)

    #: Option C(cluster) of the modules that take one, beside C(endpoint), C(kubelet_configuration) and C(kube_proxy_configuration).
    OPTIONS: t.ClassVar[Object] = {
        **{name: {"type": "str", "required": True} for name in ("name", "kubernetes_version", "pod_network", "service_network", "dns_domain")},
        "cert_sans": {"type": "list", "elements": "str", "default": []},
    }

    @classmethod
    def of(cls, params: Object) -> ClusterConfig:
        """What a module was told."""
        declared = params["cluster"]
        return cls(
            **{**declared, "cert_sans": tuple(declared["cert_sans"])},
            endpoint=params["endpoint"],
            kubelet=params["kubelet_configuration"],
            kube_proxy=params["kube_proxy_configuration"],
        )

    def documents(self) -> list[Object]:
        endpoint_host, _sep, port = self.endpoint.rpartition(":")
        if not endpoint_host or not port.isdigit():
            raise KubeadmError(f"cluster_control_plane_endpoint {self.endpoint!r}: expected name:port.")
        return [
            {
                "apiVersion": API_VERSION,
                "kind": "ClusterConfiguration",
                "clusterName": self.name,
                "kubernetesVersion": "v{}.{}.{}".format(*version(self.kubernetes_version)),
                "controlPlaneEndpoint": self.endpoint,
                "networking": {"podSubnet": self.pod_network, "serviceSubnet": self.service_network, "dnsDomain": self.dns_domain},
                "apiServer": {"certSANs": sorted({*self.cert_sans, endpoint_host} - {""})},
            },
            self.kubelet_document(),
            self.kube_proxy_document(),
        ]

    def kubelet_document(self) -> Object:
        return kubelet_document(self.kubelet)

    def kube_proxy_document(self) -> Object:
        return merge({"apiVersion": KUBE_PROXY_API_VERSION, "kind": "KubeProxyConfiguration"}, self.kube_proxy)


def kubelet_document(declared: Object) -> Object:
    """Only what we decide: kubeadm fills in the rest. The driver is the one that role containerd sets."""
    return merge({"apiVersion": KUBELET_API_VERSION, "kind": "KubeletConfiguration", "cgroupDriver": "systemd"}, declared)


@dataclass(frozen=True)
class NodeConfig:
    """A node as it registers. Address becomes its InternalIP; the provider id can never be changed afterwards."""

    name: str
    address: str
    cri_socket: str
    provider_id: str | None = None
    taints: tuple[Object, ...] = ()
    extra_args: Object = field(default_factory=dict)

    def kubelet_args(self) -> dict[str, str]:
        """Flags of this node alone. Without node-ip the kubelet takes the interface of the default route, which the VPN never is."""
        own = {"node-ip": self.address, **({"provider-id": self.provider_id} if self.provider_id else {})}
        return {**{name: str(value) for name, value in self.extra_args.items()}, **own}

    def registration(self, *, control_plane: bool) -> Object:
        # A list of taints replaces kubeadm's own, so the control plane's must be in it.
        taints = [*([CONTROL_PLANE_TAINT] if control_plane else []), *self.taints]
        return {
            "name": self.name,
            "criSocket": self.cri_socket,
            "imagePullPolicy": "IfNotPresent",
            "imagePullSerial": False,
            "kubeletExtraArgs": [{"name": name, "value": value} for name, value in sorted(self.kubelet_args().items())],
            **({"taints": taints} if taints else {}),
        }


def init_documents(cluster: ClusterConfig, node: NodeConfig, token_ttl: str) -> list[Object]:
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "InitConfiguration",
            # One is made in any case: this one has our name and our short life, so that the joins of this very run use it.
            "bootstrapTokens": [{"description": TOKEN_DESCRIPTION, "ttl": token_ttl}],
            "localAPIEndpoint": {"advertiseAddress": node.address, "bindPort": int(cluster.endpoint.rpartition(":")[2] or 6443)},
            "nodeRegistration": node.registration(control_plane=True),
        },
        *cluster.documents(),
    ]


def join_documents(node: NodeConfig, endpoint: str, token: str, ca_cert_hashes: list[str], patches: str | None, timeout: int) -> list[Object]:
    """The CA is pinned: with an empty list of hashes kubeadm would trust whoever answers."""
    if not ca_cert_hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", pin) for pin in ca_cert_hashes):
        raise KubeadmError(f"{node.name}: no valid hash of the cluster's CA to pin (got {ca_cert_hashes}); refused to join an unknown cluster.")
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "JoinConfiguration",
            "discovery": {"bootstrapToken": {"apiServerEndpoint": endpoint, "token": token, "caCertHashes": sorted(ca_cert_hashes)}},
            "nodeRegistration": node.registration(control_plane=False),
            "timeouts": {"discovery": f"{timeout}s", "tlsBootstrap": f"{timeout}s"},
            **({"patches": {"directory": patches}} if patches else {}),
        }
    ]


def render(documents: list[Object]) -> str:
    """JSON is YAML: a file that needs no YAML library to write, the same bytes for the same declaration."""
    return "".join(f"---\n{json.dumps(document, indent=2, sort_keys=True)}\n" for document in documents)


# --- merging and comparing ----------------------------------------------------------------------------------------------------------------------


def merge(base: Object, over: Object) -> Object:
    """C(over) wins, dictionaries are merged at every depth, lists are replaced."""
    result = copy.deepcopy(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def differences(wanted: Object, live: Object, path: str = "") -> list[str]:
    """Each declared value that is not what is there, as C(path: found X, expected Y)."""
    lines: list[str] = []
    for key in sorted(wanted):
        name = f"{path}{key}"
        if isinstance(wanted[key], dict) and isinstance(live.get(key), dict):
            lines += differences(wanted[key], live[key], f"{name}.")
        elif wanted[key] != live.get(key):
            found = json.dumps(live[key]) if key in live else "nothing"
            lines.append(f"{name}: found {found}, expected {json.dumps(wanted[key])}")
    return lines


# Keys of /var/lib/kubelet/config.yaml that kubeadm decides on each node and that the cluster's ConfigMap therefore does not carry.
_KUBELET_KEYS_OF_THE_HOST = ("containerRuntimeEndpoint", "resolvConf")


def kubelet_config(cluster: Object | None, live: Object | None, declared: Object) -> Object:
    """What a node's /var/lib/kubelet/config.yaml has to be: the cluster's, with the host's own two keys, with what is declared on top.

    Without the cluster's (the API cannot be asked) the live file is the base, so that a key added by hand is left alone until the API answers.
    """
    if cluster is None and live is None:
        raise KubeadmError("/var/lib/kubelet/config.yaml cannot be read and the API cannot be asked for the cluster's: bring the API up, then run again.")
    base = cluster if cluster is not None else t.cast("Object", live)
    host = {key: live[key] for key in _KUBELET_KEYS_OF_THE_HOST if live and key in live}
    return merge(merge(base, host), kubelet_document(declared))


# --- /var/lib/kubelet/kubeadm-flags.env ---------------------------------------------------------------------------------------------------------

_FLAGS_VARIABLE = "KUBELET_KUBEADM_ARGS"


def parse_flags(text: str) -> dict[str, str]:
    """C(KUBELET_KUBEADM_ARGS="--a=b --c d") as {a: b, c: d}, in the file's order."""
    words: list[str] = []
    for line in text.splitlines():
        name, _sep, value = line.strip().partition("=")
        if name == _FLAGS_VARIABLE:
            words = [word for part in shlex.split(value) for word in part.split()]
    flags: dict[str, str] = {}
    last = ""
    for word in words:
        if word.startswith("--"):
            name, sep, value = word[2:].partition("=")
            flags[name] = value if sep else ""
            last = "" if sep else name
        elif last:
            flags[last], last = word, ""
    return flags


def render_flags(flags: dict[str, str]) -> str:
    return '{}="{}"\n'.format(_FLAGS_VARIABLE, " ".join(f"--{name}={value}" for name, value in flags.items()))


# --- the CA's hash ------------------------------------------------------------------------------------------------------------------------------


def ca_cert_hashes(pem: str) -> list[str]:
    """C(sha256:<hex>) of the public key (SubjectPublicKeyInfo) of each certificate: what C(--discovery-token-ca-cert-hash) pins (RFC 7469)."""
    certificates = _certificates(pem)
    if not certificates:
        raise KubeadmError("The CA file carries no certificate in PEM form.")
    return [f"sha256:{hashlib.sha256(_field(certificate, _PUBLIC_KEY)).hexdigest()}" for certificate in certificates]


def certificate_ends(pem: str) -> list[float]:
    """Until when each certificate is good, in seconds since 1970. Raises KubeadmError where one is damaged."""
    ends = []
    for certificate in _certificates(pem):
        validity = _field(certificate, _VALIDITY)
        times = list(_der_children(validity, *_content(validity, 0)))
        if len(times) != len(("notBefore", "notAfter")):
            raise KubeadmError("The certificate is cut off or no X.509 certificate.")
        tag, start, end = times[-1]
        text = validity[start:end].decode("ascii", "replace")
        # UTCTime has two digits of the year, until 2049 (RFC 5280, 4.1.2.5).
        century = ("20" if text < "50" else "19") if tag == _UTC_TIME else ""
        try:
            ends.append(datetime.datetime.strptime(f"{century}{text}", "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.timezone.utc).timestamp())
        except ValueError as error:
            raise KubeadmError(f"The certificate's end is no moment: {text!r}.") from error
    return ends


def _certificates(pem: str) -> list[bytes]:
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", pem, re.DOTALL)
    try:
        return [base64.b64decode("".join(block.split())) for block in blocks]
    except binascii.Error as error:
        raise KubeadmError("The certificate is cut off or no X.509 certificate.") from error


#: Certificate ::= SEQUENCE {tbs SEQUENCE {[0] version, serial, signature, issuer, validity, subject, subjectPublicKeyInfo, ...}, ...} (RFC 5280).
_VALIDITY, _PUBLIC_KEY = 3, 5
_UTC_TIME = 0x17


def _field(certificate: bytes, number: int) -> bytes:
    """Of what is signed, counted from the serial number, as it stands there."""
    _tag, start, _end = _der(certificate, 0)
    _tag, position, _end = _der(certificate, start)
    tag, _start, end = _der(certificate, position)
    if tag == 0xA0:  # the version is explicit in version 3 certificates
        position = end
    for _number in range(number):
        _tag, _start, position = _der(certificate, position)
    _tag, _start, end = _der(certificate, position)
    return certificate[position:end]


def _der(data: bytes, position: int) -> tuple[int, int, int]:
    """(tag, first byte of the content, first byte after it) of the element at C(position)."""
    try:
        tag, length = data[position], data[position + 1]
        start = position + 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[start : start + size], "big")
            start += size
    except IndexError as error:
        raise KubeadmError("The certificate is cut off or no X.509 certificate.") from error
    if start + length > len(data):
        raise KubeadmError("The certificate is cut off or no X.509 certificate.")
    return tag, start, start + length


# --- names in a certificate ---------------------------------------------------------------------------------------------------------------------

_SUBJECT_ALT_NAME = bytes.fromhex("551d11")  # 2.5.29.17
_EXTENSIONS, _DNS_NAME, _IP_ADDRESS = 0xA3, 0x82, 0x87


def certificate_names(pem: str) -> set[str]:
    """DNS names and addresses that the first certificate of a file holds for, as C(plain_name) writes them. A file that is damaged holds for none."""
    block = re.search(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", pem, re.DOTALL)
    try:
        return set(_alternative_names(base64.b64decode("".join(block.group(1).split())))) if block else set()
    except (KubeadmError, ValueError):
        return set()


def _alternative_names(certificate: bytes) -> t.Iterator[str]:
    """The subjectAltName (RFC 5280, 4.2.1.6): Certificate > tbsCertificate > extensions > Extension > GeneralNames."""
    for tag, start, _end in _der_children(certificate, *_content(certificate, _content(certificate, 0)[0])):
        if tag != _EXTENSIONS:
            continue
        for _tag, extension, extension_end in _der_children(certificate, *_content(certificate, start)):
            fields = list(_der_children(certificate, extension, extension_end))
            if certificate[fields[0][1] : fields[0][2]] != _SUBJECT_ALT_NAME:
                continue
            for kind, first, last in _der_children(certificate, *_content(certificate, fields[-1][1])):
                if kind == _DNS_NAME:
                    yield plain_name(certificate[first:last].decode("ascii", "replace"))
                elif kind == _IP_ADDRESS:
                    yield str(ipaddress.ip_address(certificate[first:last]))


def plain_name(name: str) -> str:
    """A DNS name or an address in the one form in which such are compared."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def _der_children(data: bytes, start: int, end: int) -> t.Iterator[tuple[int, int, int]]:
    """(tag, start, end) of the elements that lie between two places, one after the other."""
    while start < end:
        tag, first, last = _der(data, start)
        yield tag, first, last
        start = last


def _content(data: bytes, position: int) -> tuple[int, int]:
    """Where the content of the element at C(position) is."""
    _tag, first, last = _der(data, position)
    return first, last


# --- what is there, and what follows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What kubeadm, or a run of it that was killed, left on a host.

    C(journal) is what we write before we start kubeadm and remove when it is done: it says that half-made state is ours, never that something
    may be skipped. C(foreign) says why a control plane is not one that we made for this cluster, see C(foreign_control_plane).
    """

    files: tuple[str, ...] = ()
    etcd_data: bool = False
    journal: Object | None = None
    api: str = "absent"
    missing: tuple[str, ...] = ()
    foreign: str = ""

    def has(self, name: str) -> bool:
        return name in self.files


# Names are relative to /etc/kubernetes, but for the last one, which is in /var/lib/kubelet.
CONTROL_PLANE_FILES = (
    "manifests/etcd.yaml",
    "manifests/kube-apiserver.yaml",
    "manifests/kube-controller-manager.yaml",
    "manifests/kube-scheduler.yaml",
    "pki/ca.key",
    "admin.conf",
    "super-admin.conf",
    "controller-manager.conf",
    "scheduler.conf",
)
NODE_FILES = ("pki/ca.crt", "kubelet.conf", "bootstrap-kubelet.conf", "config.yaml")

# Any of these says that there is, or was, an API server; the CA alone may have been put there for one that is to come.
_API_SERVER_FILES = ("manifests/kube-apiserver.yaml", "admin.conf")

FRESH, JOINED, RESUME, CLEAN, DOWN, REFUSED = "fresh", "joined", "resume", "clean", "down", "refused"


@dataclass(frozen=True)
class Situation:
    """C(state): fresh | joined | resume (run kubeadm init again over what is there) | clean (reset, then start) | down | refused."""

    state: str
    reason: str = ""


def has_api_server(files: t.Iterable[str]) -> bool:
    return any(name in files for name in _API_SERVER_FILES)


def foreign_control_plane(maker: str | None, cluster_id: str) -> str:
    """Why a control plane is not this cluster's, or "". maker: id of the cluster for which we made it, None when nothing says that we did."""
    if maker is None:
        return (
            "it is a control plane that we did not make: /etc/fpga-hybrid/record.json knows of no init, "
            "and no ConfigMap kube-system/fpga-hybrid could be read there that says otherwise"
        )
    return "" if maker == cluster_id else f"it is the control plane of the cluster with id {maker}, and this one is {cluster_id or 'not made yet'}"


def control_plane_situation(found: Found) -> Situation:  # noqa: PLR0911 - a decision table, one line a return
    """What to do on a host that is to be the control plane.

    One that we did not make is refused, whatever its name and addresses: to keep it as declared would be to take it over.
    Data of etcd are never deleted here: with them, an unfinished init is resumed, which kubeadm's phases allow (they keep certificates,
    kubeconfigs and data that are there). Only a run of ours that was killed before etcd wrote anything is cleaned away.
    """
    present = [name for name in (*CONTROL_PLANE_FILES, *NODE_FILES) if found.has(name)]
    if not present and not found.etcd_data:
        return Situation(FRESH)
    if found.foreign and found.journal is None:
        return Situation(REFUSED, found.foreign)
    if found.api == "healthy":
        if not found.missing or (found.journal is None and "kubeadm-config" not in found.missing):
            return Situation(JOINED)
        if found.journal is not None:
            return Situation(RESUME, f"an init of ours did not get to its end (missing: {', '.join(found.missing)})")
        return Situation(REFUSED, f"its API answers, but an init that is not ours has left it unfinished (missing: {', '.join(found.missing)})")
    if found.journal is not None:
        if found.etcd_data:
            return Situation(RESUME, "an init of ours did not get to its end")
        return Situation(CLEAN, "an init of ours was broken off before etcd wrote anything")
    if not any(found.has(name) for name in CONTROL_PLANE_FILES):
        return Situation(REFUSED, f"it is a worker, or was one ({', '.join(present) or 'etcd data'} are there)")
    if found.etcd_data:
        return Situation(DOWN, "it is a control plane whose API does not answer")
    return Situation(REFUSED, f"files that we did not make are there ({', '.join(present)}), and no etcd data")


def worker_situation(found: Found) -> Situation:
    """What to do on a host that is to be a worker. It holds nothing of the cluster's, so a join of ours that was broken off starts afresh."""
    foreign = [name for name in CONTROL_PLANE_FILES if found.has(name)]
    if foreign or found.etcd_data:
        return Situation(REFUSED, f"it is a control plane, or was one ({', '.join(foreign) or 'etcd data'} are there)")
    if found.has("kubelet.conf"):
        return Situation(JOINED)
    left = [name for name in NODE_FILES if found.has(name)]
    if not left:
        return Situation(FRESH)
    if found.journal is not None:
        return Situation(CLEAN, "a join of ours did not get to its end")
    return Situation(REFUSED, f"files that we did not make are there ({', '.join(left)}), and no kubelet.conf")


def refusal(name: str, role: str, situation: Situation) -> str:
    """What to tell somebody who wants to make such a host a control plane or a worker; "" for a host that can become one."""
    if situation.state != REFUSED:
        return ""
    return (
        f"{name} cannot be made a {role.replace('_', ' ')}: {situation.reason}. "
        "Take it out of the cluster it belongs to (reset.yml there), or run kubeadm reset on it when nobody needs that, or leave it out of this inventory."
    )


def reset_refusal(name: str, node: Object | None, cluster_id: str, cluster_name: str) -> str:
    """Why a node is not this cluster's to take out, or "".

    Where no cluster is recorded any more (cluster_id "": the control plane was reset before, or is gone), the name is what is left to compare.
    """
    found = (node or {}).get("cluster_id")
    found_name = (node or {}).get("cluster_name")
    if found in (None, cluster_id) or (not cluster_id and found_name == cluster_name):
        return ""
    same_name = f", or if {name} has missed the reset of a former cluster of this name: -e reset_former_id={found}" if found_name == cluster_name else ""
    return (
        f"{name} belongs to cluster {found_name} (id {found}), this run is for {cluster_name} (id {cluster_id or 'none any more'}). "
        f"It was left as it is: run reset.yml in that cluster's repository{same_name}."
    )


# Checks of kubeadm's that fail over an init of ours that is only to be continued.
RESUME_IGNORES = (
    "FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml",
    "FileAvailable--etc-kubernetes-manifests-etcd.yaml",
    "DirAvailable--var-lib-etcd",
    "Port-2379",
    "Port-2380",
    "Port-10250",
    "Port-10257",
    "Port-10259",
)


def immutable_differences(cluster: ClusterConfig, live: Object) -> list[tuple[str, str, t.Any]]:
    """What the living cluster is and can no longer become: (variable, what it says, what the cluster has)."""
    networking = live.get("networking") or {}
    pairs = (
        ("cluster_name", cluster.name, live.get("clusterName")),
        ("cluster_control_plane_endpoint", cluster.endpoint, live.get("controlPlaneEndpoint")),
        ("cluster_pod_network", cluster.pod_network, networking.get("podSubnet")),
        ("cluster_service_network", cluster.service_network, networking.get("serviceSubnet")),
        ("cluster_dns_domain", cluster.dns_domain, networking.get("dnsDomain")),
    )
    return [(name, wanted, there) for name, wanted, there in pairs if wanted != there]


# --- what kubeadm says when it fails ------------------------------------------------------------------------------------------------------------

_REMEDIES = (
    ("CRI", "is the container runtime running? systemctl status containerd; role containerd sets it up"),
    ("Swap", "role swap turns it off, or sets up the kubelet for it"),
    ("Port-", "another program holds that port: ss -ltnp"),
    ("FileAvailable", "something of Kubernetes is there already: see kubeadm reset, if nobody needs it"),
    ("DirAvailable", "something of Kubernetes is there already: see kubeadm reset, if nobody needs it"),
    ("ImagePull", "can this host reach the registry, or cluster_mirrors.images if that is set?"),
    ("SystemVerification", "the kernel lacks something that the kubelet needs; kubeadm_ignore_preflight_errors takes it, if you know better"),
)


def failure(action: str, host: str, output: str) -> str:
    """kubeadm's own words, the essential ones, and where to go on."""
    errors = re.findall(r"\[ERROR ([^\]]+)\]: (.+)", output)
    if errors:
        lines = []
        for check, text in errors:
            remedy = next((f" ({words})" for start, words in _REMEDIES if check.startswith(start)), "")
            lines.append(f"  {check}: {text.strip()}{remedy}")
        return f"{host}: kubeadm {action} did not start, because:\n" + "\n".join(lines) + "\nMend that and run again; nothing has been changed."
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in output.splitlines()]
    lines = [line for line in lines if line.strip() and not line.startswith(("\t- ", "To see the stack trace"))]
    # Its own last word begins with "error:"; what it printed about the host's kernel would bury it.
    tail = [line for line in lines if line.startswith("error:")] or lines[-12:]
    return (
        f"{host}: kubeadm {action} failed:\n"
        + "\n".join(f"  {line}" for line in tail)
        + f"\nLook on {host} at: journalctl -u kubelet -n 100, and the logs below /var/log/pods (kube-system_*). Then run again: it goes on from there."
    )


def redact(text: str, *secrets: str) -> str:
    for secret in secrets:
        if secret:
            text = text.replace(secret, "********")
    return text


# --- labels and taints of a node ----------------------------------------------------------------------------------------------------------------

DECLARED_ANNOTATION = "fpga.hybrid/declared"
"""On the Node object: which labels and taints are ours, so that one that is no longer declared goes, and nobody else's does."""


def taint_name(taint: Object) -> str:
    """C(Taint.name) of a live taint, which may have more to it than we know."""
    return f"{taint['key']}:{taint['effect']}"


def node_patch(node: Object, labels: dict[str, str], taints: t.Sequence[Taint], provider_id: str | None) -> Object:
    """The merge patch that makes a Node what is declared; empty when it is. Labels and taints of others stay."""
    metadata, spec = node["metadata"], node.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    try:
        ours = json.loads(annotations.get(DECLARED_ANNOTATION) or "{}")
    except ValueError:
        ours = {}
    live_labels = metadata.get("labels") or {}
    label_patch: Object = {key: value for key, value in labels.items() if live_labels.get(key) != value}
    label_patch.update({key: None for key in ours.get("labels", []) if key not in labels and key in live_labels})

    live_taints: list[Object] = spec.get("taints") or []
    wanted = {taint.name: taint.as_object() for taint in taints}
    kept = [
        wanted.pop(taint_name(taint)) if taint_name(taint) in wanted else taint
        for taint in live_taints
        if taint_name(taint) in wanted or taint_name(taint) not in ours.get("taints", [])
    ]
    new_taints = [*kept, *wanted.values()]

    if provider_id and spec.get("providerID") not in (None, "", provider_id):
        raise KubeadmError(
            f"{metadata['name']} is registered with provider ID {spec['providerID']}, expected {provider_id}. It cannot be changed on a Node that exists: "
            f"kubectl delete node {metadata['name']}, then restart its kubelet."
        )
    declared = json.dumps({"labels": sorted(labels), "taints": sorted(taint.name for taint in taints)}, sort_keys=True)
    patch: Object = {}
    if label_patch:
        patch.setdefault("metadata", {})["labels"] = label_patch
    if annotations.get(DECLARED_ANNOTATION) != declared and (labels or taints or ours):
        patch.setdefault("metadata", {})["annotations"] = {DECLARED_ANNOTATION: declared}
    if [_plain(taint) for taint in live_taints] != [_plain(taint) for taint in new_taints]:
        patch.setdefault("spec", {})["taints"] = new_taints
    if provider_id and not spec.get("providerID"):
        patch.setdefault("spec", {})["providerID"] = provider_id
    return patch


def _plain(taint: Object) -> tuple[str, str, str]:
    """Without C(timeAdded), which the control plane adds to NoExecute taints."""
    return str(taint.get("key")), str(taint.get("value") or ""), str(taint.get("effect"))
