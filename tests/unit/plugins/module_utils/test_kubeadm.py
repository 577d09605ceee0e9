# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _kubeadm as k
from ansible_collections.fpga.hybrid.plugins.module_utils._labels import EFFECTS, Taint
from ansible_collections.fpga.hybrid.plugins.modules import kubeadm_cluster, kubeadm_node

CLUSTER = k.ClusterConfig(
    name="InAccel",
    kubernetes_version="1.36.3",
    endpoint="api.example.org:6443",
    pod_network="10.244.0.0/16",
    service_network="10.96.0.0/12",
    dns_domain="cluster.local",
    cert_sans=("cp1", "172.27.224.1", "10.0.0.10"),
    kubelet={"maxPods": 200, "authentication": {"anonymous": {"enabled": False}}},
    kube_proxy={"conntrack": {"min": 0}},
)
NODE = k.NodeConfig(
    name="cp1",
    address="172.27.224.1",
    cri_socket="unix:///run/containerd/containerd.sock",
    provider_id="fpga-hybrid:///InAccel/cp1",
    extra_args={"v": 2},
)
PIN = "sha256:" + "0" * 64


# --- what kubeadm is told -----------------------------------------------------------------------------------------------------------------------


def documents(text):
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_every_module_that_takes_a_cluster_takes_the_same_options_and_documents_them():
    for module in (kubeadm_node, kubeadm_cluster):
        documented = yaml.safe_load(module.DOCUMENTATION)["options"]["cluster"]["suboptions"]
        assert {name: {key: value for key, value in option.items() if key != "description"} for name, option in documented.items()} == k.ClusterConfig.OPTIONS


def test_a_cluster_is_what_a_module_was_told():
    own = ("endpoint", "kubelet", "kube_proxy")
    cluster = {name: value for name, value in vars(CLUSTER).items() if name not in own}
    told = {"cluster": {**cluster, "cert_sans": list(CLUSTER.cert_sans)}, "endpoint": CLUSTER.endpoint}
    assert k.ClusterConfig.of({**told, "kubelet_configuration": CLUSTER.kubelet, "kube_proxy_configuration": CLUSTER.kube_proxy}) == CLUSTER
    assert set(cluster) == set(k.ClusterConfig.OPTIONS)


def test_init_tells_kubeadm_the_whole_declaration():
    written = documents(k.render(k.init_documents(CLUSTER, NODE, "20m0s")))
    assert written == {
        "InitConfiguration": {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "bootstrapTokens": [{"description": k.TOKEN_DESCRIPTION, "ttl": "20m0s"}],
            "localAPIEndpoint": {"advertiseAddress": "172.27.224.1", "bindPort": 6443},
            "nodeRegistration": {
                "name": "cp1",
                "criSocket": "unix:///run/containerd/containerd.sock",
                "imagePullPolicy": "IfNotPresent",
                "imagePullSerial": False,
                "kubeletExtraArgs": [
                    {"name": "node-ip", "value": "172.27.224.1"},
                    {"name": "provider-id", "value": "fpga-hybrid:///InAccel/cp1"},
                    {"name": "v", "value": "2"},
                ],
                "taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}],
            },
        },
        "ClusterConfiguration": {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "clusterName": "InAccel",
            "kubernetesVersion": "v1.36.3",
            "controlPlaneEndpoint": "api.example.org:6443",
            "networking": {"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/12", "dnsDomain": "cluster.local"},
            "apiServer": {"certSANs": ["10.0.0.10", "172.27.224.1", "api.example.org", "cp1"]},
        },
        "KubeletConfiguration": {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": "systemd",
            "maxPods": 200,
            "authentication": {"anonymous": {"enabled": False}},
        },
        "KubeProxyConfiguration": {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "conntrack": {"min": 0},
        },
    }


def test_the_port_of_the_endpoint_is_the_port_that_is_bound():
    cluster = k.ClusterConfig(**{**vars(CLUSTER), "endpoint": "api.example.org:8443"})
    assert k.init_documents(cluster, NODE, "20m0s")[0]["localAPIEndpoint"]["bindPort"] == 8443


def test_taints_of_the_host_come_beside_the_control_planes_own():
    node = k.NodeConfig(**{**vars(NODE), "taints": ({"key": "a", "effect": "NoExecute"},)})
    assert [taint["key"] for taint in node.registration(control_plane=True)["taints"]] == ["node-role.kubernetes.io/control-plane", "a"]
    assert [taint["key"] for taint in node.registration(control_plane=False)["taints"]] == ["a"]


def test_a_worker_without_taints_or_provider_id_registers_without_them():
    node = k.NodeConfig(name="w", address="10.0.0.2", cri_socket="unix:///x")
    registration = node.registration(control_plane=False)
    assert "taints" not in registration
    assert registration["kubeletExtraArgs"] == [{"name": "node-ip", "value": "10.0.0.2"}]


def test_extra_flags_cannot_take_the_node_ip_away():
    assert k.NodeConfig(name="w", address="10.0.0.2", cri_socket="x", extra_args={"node-ip": "1.2.3.4"}).kubelet_args() == {"node-ip": "10.0.0.2"}


def test_join_pins_the_ca_and_never_skips_it():
    (document,) = k.join_documents(NODE, "api.example.org:6443", "abcdef.0123456789abcdef", [PIN], "/run/patches", 120)
    assert document["discovery"] == {
        "bootstrapToken": {"apiServerEndpoint": "api.example.org:6443", "token": "abcdef.0123456789abcdef", "caCertHashes": [PIN]},
    }
    assert document["timeouts"] == {"discovery": "120s", "tlsBootstrap": "120s"}
    assert document["patches"] == {"directory": "/run/patches"}
    assert "unsafeSkipCAVerification" not in k.render([document])


@pytest.mark.parametrize("pins", [[], ["sha256:12"], [PIN, "md5:0"]])
def test_a_join_without_a_valid_pin_is_refused(pins):
    with pytest.raises(k.KubeadmError, match="cp1: no valid hash"):
        k.join_documents(NODE, "api:6443", "t", pins, None, 1)


def test_an_endpoint_without_a_port_is_refused():
    with pytest.raises(k.KubeadmError, match="cluster_control_plane_endpoint 'api': expected name:port"):
        k.ClusterConfig(**{**vars(CLUSTER), "endpoint": "api"}).documents()


def test_the_same_declaration_gives_the_same_bytes():
    shuffled = k.ClusterConfig(**{**vars(CLUSTER), "cert_sans": tuple(reversed(CLUSTER.cert_sans)), "kubelet": dict(reversed(CLUSTER.kubelet.items()))})
    assert k.render(k.init_documents(CLUSTER, NODE, "20m")) == k.render(k.init_documents(shuffled, NODE, "20m"))


@pytest.mark.parametrize(("text", "parts"), [("v1.36.3", (1, 36, 3)), ("1.37", (1, 37, 0)), ("v1.35.9-gke.1", (1, 35, 9))])
def test_versions_are_compared_as_numbers(text, parts):
    assert k.version(text) == parts


def test_what_is_no_version_is_refused():
    with pytest.raises(k.KubeadmError, match="'stable' is no Kubernetes version"):
        k.version("stable")


# --- merging and comparing ----------------------------------------------------------------------------------------------------------------------

PLAIN = st.recursive(st.integers() | st.booleans() | st.text(max_size=3), lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=3), max_leaves=8)
DICTIONARY = st.dictionaries(st.text(max_size=2), PLAIN, max_size=4)


@given(DICTIONARY, DICTIONARY)
def test_after_a_merge_nothing_declared_differs(base, over):
    merged = k.merge(base, over)
    assert k.differences(over, merged) == []
    assert k.merge(merged, over) == merged


@given(DICTIONARY, DICTIONARY)
def test_a_merge_leaves_its_arguments_alone(base, over):
    before = json.dumps([base, over])
    merged = k.merge(base, over)
    merged["new"] = 1
    assert json.dumps([base, over]) == before


def test_a_difference_names_path_and_both_values():
    assert k.differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}}) == ["a.b: found 3, expected 1", "c: found nothing, expected 2"]


def test_a_kubelets_file_is_the_clusters_with_the_hosts_own_keys_and_the_declaration_on_top():
    cluster = {"kind": "KubeletConfiguration", "apiVersion": k.KUBELET_API_VERSION, "maxPods": 110, "cgroupDriver": "systemd", "containerRuntimeEndpoint": ""}
    live = {**cluster, "maxPods": 3, "stray": 1, "containerRuntimeEndpoint": "unix:///x", "resolvConf": "/run/r"}
    assert k.kubelet_config(cluster, live, {"maxPods": 200}) == {
        "kind": "KubeletConfiguration",
        "apiVersion": k.KUBELET_API_VERSION,
        "maxPods": 200,
        "cgroupDriver": "systemd",
        "containerRuntimeEndpoint": "unix:///x",
        "resolvConf": "/run/r",
    }


def test_while_the_api_is_silent_only_declared_keys_are_compared():
    live = {"kind": "KubeletConfiguration", "apiVersion": k.KUBELET_API_VERSION, "cgroupDriver": "cgroupfs", "stray": 1}
    assert k.kubelet_config(None, live, {}) == {**live, "cgroupDriver": "systemd"}


def test_without_the_file_and_without_the_api_there_is_nothing_to_go_by():
    with pytest.raises(k.KubeadmError, match="bring the API up"):
        k.kubelet_config(None, None, {})


# --- kubeadm-flags.env --------------------------------------------------------------------------------------------------------------------------


def test_flags_are_read_as_kubeadm_writes_them():
    text = 'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///x --node-ip 10.0.0.1 --register-with-taints=a=b:NoSchedule"\n'
    assert k.parse_flags(text) == {"container-runtime-endpoint": "unix:///x", "node-ip": "10.0.0.1", "register-with-taints": "a=b:NoSchedule"}


def test_other_variables_of_the_file_are_no_flags():
    assert k.parse_flags("OTHER=--x=1\n") == {}


FLAG = st.text(alphabet="abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8).filter(lambda name: not name.startswith("-"))
VALUE = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789:/.=,", min_size=1, max_size=12)


@given(st.dictionaries(FLAG, VALUE, max_size=5))
def test_flags_survive_being_written_and_read(flags):
    assert k.parse_flags(k.render_flags(flags)) == flags


# --- the CA's hash ------------------------------------------------------------------------------------------------------------------------------

# A throw-away CA, made once; the hash is what openssl x509 -pubkey | openssl pkey -pubin -outform der | sha256sum says.
KNOWN_CA = """-----BEGIN CERTIFICATE-----
MIIDCzCCAfOgAwIBAgIUENXogGrqv0+MqsXa8IyeVXQBH8UwDQYJKoZIhvcNAQEL
BQAwFTETMBEGA1UEAwwKa3ViZXJuZXRlczAeFw0yNjExMjMxNjI3MzNaFw0zNjEx
MjAxNjI3MzNaMBUxEzARBgNVBAMMCmt1YmVybmV0ZXMwggEiMA0GCSqGSIb3DQEB
AQUAA4IBDwAwggEKAoIBAQCyEs9JR4GxdhglwGhGBS4iuvVoPuMVXZRkbsRIkpEt
Bcp1Hytm4b5K9EmcABxLIEU/7cuTmM90JjQhq04jWq35wb5qnINlIPxqojYlcrVh
cTSOaBLeyXhWc8u/K71WNp42qfAT6nyLgCYUWGx6vttOcydCJJIRdu/RRrpaY4Wb
rLUm5Oafv09xpM5VjrfheUo5ShDD8mWN0VFuOgVUkIxWVqvlSsSlsteEVRNvXyPN
AOhbtB760f6Owu3Vue4zFgRL3QBfRu6360HlTYcecNcMbnVHQm7sSCZ/pvqhJ4JB
PNEJ04aQGP594tFJaqxEc073iDjljvYWANzjlSFCBq0vAgMBAAGjUzBRMB0GA1Ud
DgQWBBTSNWWAWfXM8Jzs/4fYgJLK6bPc3TAfBgNVHSMEGDAWgBTSNWWAWfXM8Jzs
/4fYgJLK6bPc3TAPBgNVHRMBAf8EBTADAQH/MA0GCSqGSIb3DQEBCwUAA4IBAQCl
X9+H7P8NuJ+RDHduFpaJGtc0IDwfKD+q0dnFiXwEvtNlrWGHHW0GMWb4nQlVllKR
zkW8P08ScqZPav/hJqOHndYTKn2no/6eHS7d70xl4t/NlDpC3wJVTzfvCnx15sDz
MLE6ifQOjoqEb95ZTcIMKb2mZAZ1KbzqqbK552U2Ie1WSUGNVbd0RD9H5s4hzOSy
TDpEhXiOOTR15Vp7YOFI1eRI3fyHvvJ2nN9RZ7IY1wFaEkIz+7bjBkyWDNZ0YA8V
w3L/QFXWC43lqWT20xXwnEI0c9v+6C6OeFgaUEDzfXqvS8ItGyJBwgraFsoIi0QS
3yDKH/1nIbZxhjUEXvd4
-----END CERTIFICATE-----
"""
KNOWN_HASH = "sha256:12d75fc2c5a412c2557958cba2509cec106c577f5a6f7fe51b8946064a0afbb3"


def certificate(key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.datetime(2026, 1, 1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(5)
    return builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())


def pem(key):
    return certificate(key).public_bytes(serialization.Encoding.PEM).decode()


def expected(key):
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def test_hash_of_a_known_ca():
    assert k.ca_cert_hashes(KNOWN_CA) == [KNOWN_HASH]


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)], ids=["EC", "RSA"])
def test_hash_is_the_one_of_the_public_key(key):
    assert k.ca_cert_hashes("some text before\n" + pem(key)) == [expected(key)]


def test_each_certificate_of_a_bundle_is_pinned():
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    assert k.ca_cert_hashes("".join(map(pem, keys))) == [expected(key) for key in keys]


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(text):
    with pytest.raises(k.KubeadmError):
        k.ca_cert_hashes(text)


# --- names in a certificate ---------------------------------------------------------------------------------------------------------------------


def named(key, *alternatives):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    now = datetime.datetime(2026, 1, 1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(5)
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).add_extension(x509.BasicConstraints(False, None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName(list(alternatives)), critical=False) if alternatives else builder
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)], ids=["EC", "RSA"])
def test_a_certificate_s_names_and_addresses_are_read(key):
    many = [f"host-{number}.example.org" for number in range(300)]  # lengths of two bytes
    alternatives = [*map(x509.DNSName, ["API.example.org", "*.w.example", *many]), x509.RFC822Name("a@b.c")]
    addresses = [x509.IPAddress(ipaddress.ip_address(text)) for text in ("10.0.0.7", "fd00::7")]
    expected = {"api.example.org", "*.w.example", *many, "10.0.0.7", "fd00::7"}
    assert k.certificate_names(named(key, *alternatives, *addresses)) == expected


def test_a_certificate_without_names_and_a_file_without_a_certificate_hold_for_nothing():
    assert k.certificate_names(named(ec.generate_private_key(ec.SECP256R1()))) == set()
    assert k.certificate_names(certificate(ec.generate_private_key(ec.SECP256R1())).public_bytes(serialization.Encoding.PEM).decode()) == set()
    assert k.certificate_names("") == set()
    assert k.certificate_names("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n") == set()
    assert k.certificate_names("-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n") == set()


@pytest.mark.parametrize(("name", "plain"), [("API.Example.org", "api.example.org"), ("fd00:0:0::7", "fd00::7"), ("10.0.0.7", "10.0.0.7")])
def test_names_have_one_form_in_which_they_are_compared(name, plain):
    assert k.plain_name(name) == plain


# --- half-made state ----------------------------------------------------------------------------------------------------------------------------

ALL = (*k.CONTROL_PLANE_FILES, *k.NODE_FILES)
PKI = ("pki/ca.key", "pki/ca.crt")
JOURNAL = {"action": "init", "cluster_id": "x"}


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (k.Found(), k.FRESH),
        (k.Found(journal=JOURNAL), k.FRESH),  # killed before kubeadm wrote anything
        (k.Found(files=PKI, journal=JOURNAL), k.CLEAN),  # killed among the certificates
        (k.Found(files=ALL, journal=JOURNAL, api="down"), k.CLEAN),  # killed after the manifests, before etcd
        (k.Found(files=ALL, etcd_data=True, journal=JOURNAL, api="down"), k.RESUME),  # killed while waiting for the API
        (k.Found(files=ALL, etcd_data=True, journal=JOURNAL, api="healthy", missing=("kubeadm-config",)), k.RESUME),
        (k.Found(files=ALL, etcd_data=True, journal=JOURNAL, api="healthy", missing=("coredns", "kube-proxy")), k.RESUME),
        (k.Found(files=ALL, etcd_data=True, journal=JOURNAL, api="healthy"), k.JOINED),  # killed after kubeadm's last step
        (k.Found(etcd_data=True, journal=JOURNAL), k.RESUME),  # everything lost but the data
        (k.Found(files=ALL, etcd_data=True, api="healthy"), k.JOINED),
        (k.Found(files=ALL, etcd_data=True, api="healthy", missing=("kube-proxy",)), k.JOINED),  # replaced on purpose: not ours to judge
        (k.Found(files=ALL, etcd_data=True, api="healthy", missing=("kubeadm-config",)), k.REFUSED),
        (k.Found(files=ALL, etcd_data=True, api="down"), k.DOWN),
        (k.Found(files=PKI), k.REFUSED),  # a CA that somebody put there
        (k.Found(files=("pki/ca.crt", "kubelet.conf", "config.yaml")), k.REFUSED),  # a worker
        (k.Found(etcd_data=True), k.REFUSED),
        (k.Found(files=ALL, etcd_data=True, api="healthy", foreign="not ours"), k.REFUSED),
        (k.Found(files=ALL, etcd_data=True, api="down", foreign="not ours"), k.REFUSED),
    ],
)
def test_what_is_to_be_done_about_a_control_plane(found, state):
    assert k.control_plane_situation(found).state == state


@given(st.sets(st.sampled_from(ALL)), st.booleans(), st.sampled_from(["healthy", "down", "absent"]), st.sets(st.sampled_from(["kubeadm-config", "coredns"])))
def test_data_of_etcd_are_never_cleaned_away(files, journal, api, missing):
    found = k.Found(files=tuple(files), etcd_data=True, journal=JOURNAL if journal else None, api=api, missing=tuple(missing))
    assert k.control_plane_situation(found).state not in (k.CLEAN, k.FRESH)
    assert k.worker_situation(found).state == k.REFUSED


@given(st.sets(st.sampled_from(ALL), min_size=1), st.booleans(), st.sampled_from(["healthy", "down", "absent"]), st.sets(st.sampled_from(["coredns"])))
def test_a_control_plane_that_we_did_not_make_is_never_kept_as_declared(files, etcd, api, missing):
    found = k.Found(files=tuple(files), etcd_data=etcd, api=api, missing=tuple(missing), foreign="not ours")
    assert k.control_plane_situation(found) == k.Situation(k.REFUSED, "not ours")


@pytest.mark.parametrize(
    ("maker", "cluster_id", "words"),
    [
        ("id-1", "id-1", ""),
        (None, "id-1", "we did not make"),
        (None, "", "we did not make"),
        ("id-2", "id-1", "the cluster with id id-2, and this one is id-1"),
        ("id-2", "", "the cluster with id id-2, and this one is not made yet"),
    ],
)
def test_a_control_plane_is_ours_by_the_id_that_it_was_made_for(maker, cluster_id, words):
    said = k.foreign_control_plane(maker, cluster_id)
    assert words in said
    assert bool(words) == bool(said)


@pytest.mark.parametrize(
    ("node", "cluster_id", "words"),
    [
        (None, "id-1", ""),
        ({}, "id-1", ""),
        ({"cluster_id": "id-1", "cluster_name": "lab"}, "id-1", ""),
        ({"cluster_id": "id-1", "cluster_name": "lab"}, "", ""),  # the control plane was reset before, or is gone
        ({"cluster_id": "id-1", "cluster_name": "other"}, "", "belongs to cluster other (id id-1), this run is for lab (id none any more)"),
        ({"cluster_id": "id-1", "cluster_name": "other"}, "id-2", "run reset.yml in that cluster's repository."),
        ({"cluster_id": "id-1", "cluster_name": "lab"}, "id-2", "-e reset_former_id=id-1"),  # missed the reset of a cluster that was built anew
    ],
)
def test_a_node_is_taken_out_by_its_clusters_id_or_where_none_is_recorded_by_its_name(node, cluster_id, words):
    said = k.reset_refusal("w1", node, cluster_id, "lab")
    assert words in said
    assert bool(words) == bool(said)


@given(st.sets(st.sampled_from(ALL)), st.booleans(), st.sampled_from(["healthy", "down", "absent"]))
def test_without_our_journal_nothing_is_cleaned_or_resumed(files, etcd, api):
    found = k.Found(files=tuple(files), etcd_data=etcd, api=api)
    assert k.control_plane_situation(found).state not in (k.CLEAN, k.RESUME)
    assert k.worker_situation(found).state not in (k.CLEAN, k.RESUME)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (k.Found(), k.FRESH),
        (k.Found(files=("pki/ca.crt", "bootstrap-kubelet.conf"), journal=JOURNAL), k.CLEAN),
        (k.Found(files=("pki/ca.crt", "config.yaml"), journal=JOURNAL), k.CLEAN),
        (k.Found(files=("pki/ca.crt", "kubelet.conf", "config.yaml")), k.JOINED),
        (k.Found(files=("pki/ca.crt", "kubelet.conf", "bootstrap-kubelet.conf", "config.yaml"), journal=JOURNAL), k.JOINED),
        (k.Found(files=("config.yaml",)), k.REFUSED),  # a kubelet that somebody runs alone
        (k.Found(files=("pki/ca.crt",)), k.REFUSED),
        (k.Found(files=ALL, etcd_data=True), k.REFUSED),
    ],
)
def test_what_is_to_be_done_about_a_worker(found, state):
    assert k.worker_situation(found).state == state


def test_a_refusal_says_what_it_found():
    assert "pki/ca.key" in k.control_plane_situation(k.Found(files=PKI)).reason
    assert "missing: coredns" in k.control_plane_situation(k.Found(files=ALL, journal=JOURNAL, api="healthy", missing=("coredns",))).reason


def test_what_a_living_cluster_cannot_become_is_named_by_its_variable():
    live = {
        "clusterName": "InAccel",
        "controlPlaneEndpoint": "api.example.org:6443",
        "networking": {"podSubnet": "10.10.0.0/16", "serviceSubnet": "10.96.0.0/12", "dnsDomain": "cluster.local"},
    }
    assert k.immutable_differences(CLUSTER, live) == [("cluster_pod_network", "10.244.0.0/16", "10.10.0.0/16")]


def test_failed_preflight_says_each_check_with_its_remedy_and_that_nothing_happened():
    output = "[preflight] Some fatal errors occurred:\n\t[ERROR Swap]: running with swap on is not supported\n\t[ERROR Port-10250]: Port 10250 is in use\n"
    text = k.failure("join", "worker1", output)
    assert "worker1: kubeadm join did not start" in text
    assert "Swap: running with swap on is not supported (role swap" in text
    assert "Port-10250: Port 10250 is in use (another program" in text
    assert "nothing has been changed" in text


def test_any_other_failure_says_kubeadms_last_word_and_where_to_look():
    noise = "\x1b[0;37mCGROUPS_CPU\x1b[0m: enabled\n" * 30
    text = k.failure("init", "cp1", noise + "error: could not initialize\nTo see the stack trace of this error execute with --v=5 or higher\n")
    assert text.splitlines()[:2] == ["cp1: kubeadm init failed:", "  error: could not initialize"]
    assert "CGROUPS" not in text
    assert "stack trace" not in text
    assert "journalctl -u kubelet" in text


def test_without_a_last_word_the_end_of_the_output_is_shown():
    assert k.failure("reset", "cp1", "one\n" * 30).count("one") == 12


# --- labels and taints --------------------------------------------------------------------------------------------------------------------------


def node(labels=None, taints=None, ours=None, provider_id=None):
    annotations = {k.DECLARED_ANNOTATION: json.dumps(ours, sort_keys=True)} if ours else {}
    spec = {**({"taints": taints} if taints else {}), **({"providerID": provider_id} if provider_id else {})}
    return {"metadata": {"name": "w1", "labels": labels or {}, "annotations": annotations}, "spec": spec}


DECLARED = Taint("slow", "yes", "NoSchedule")
SLOW = {"key": "slow", "value": "yes", "effect": "NoSchedule"}
FOREIGN = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}


def apply(live, patch):
    """What the API does with a merge patch."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in live.items()}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = apply(result.get(key, {}), value)
        else:
            result[key] = value
    return result


def test_a_node_as_declared_needs_no_patch():
    live = node({"rack": "a1", "other": "x"}, [FOREIGN, SLOW], {"labels": ["rack"], "taints": ["slow:NoSchedule"]}, "p")
    assert k.node_patch(live, {"rack": "a1"}, [DECLARED], "p") == {}


def test_nothing_declared_touches_nothing():
    assert k.node_patch(node({"other": "x"}, [FOREIGN]), {}, [], None) == {}


def test_only_the_label_that_drifted_is_patched():
    live = node({"rack": "b7", "row": "1"}, ours={"labels": ["rack", "row"], "taints": []})
    assert k.node_patch(live, {"rack": "a1", "row": "1"}, [], None) == {"metadata": {"labels": {"rack": "a1"}}}


def test_a_label_that_is_no_longer_declared_goes_and_those_of_others_stay():
    live = node({"rack": "a1", "other": "x"}, ours={"labels": ["rack"], "taints": []})
    after = apply(live, k.node_patch(live, {}, [], None))
    assert after["metadata"]["labels"] == {"other": "x"}
    assert k.node_patch(after, {}, [], None) == {}


def test_taints_of_others_keep_their_place_and_their_time():
    live = node(taints=[FOREIGN])
    assert k.node_patch(live, {}, [DECLARED], None)["spec"]["taints"] == [FOREIGN, SLOW]


def test_a_taint_with_another_value_is_mended():
    live = node(taints=[{**SLOW, "value": "no"}, FOREIGN], ours={"labels": [], "taints": ["slow:NoSchedule"]})
    assert k.node_patch(live, {}, [DECLARED], None) == {"spec": {"taints": [SLOW, FOREIGN]}}


def test_a_provider_id_is_set_where_there_is_none_and_another_one_is_refused():
    assert k.node_patch(node(), {}, [], "fpga-hybrid:///c/w1") == {"spec": {"providerID": "fpga-hybrid:///c/w1"}}
    with pytest.raises(k.KubeadmError, match="w1 is registered with provider ID aws:///a/i-1, expected fpga-hybrid:///c/w1"):
        k.node_patch(node(provider_id="aws:///a/i-1"), {}, [], "fpga-hybrid:///c/w1")


TAINTS = st.lists(
    st.builds(Taint, st.sampled_from("abc"), st.sampled_from(["1", "2", ""]), st.sampled_from(EFFECTS)), unique_by=lambda taint: taint.name, max_size=4
)
LABELS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"), max_size=4)


@given(LABELS, TAINTS, LABELS, TAINTS, LABELS, TAINTS)
def test_whatever_was_declared_before_one_patch_is_enough(foreign, foreign_taints, first, first_taints, labels, taints):
    live = node(foreign, [taint.as_object() for taint in foreign_taints])
    once = apply(live, k.node_patch(live, first, first_taints, None))
    after = apply(once, k.node_patch(once, labels, taints, None))
    assert k.node_patch(after, labels, taints, None) == {}
    assert labels.items() <= after["metadata"]["labels"].items()
    untouched = {name: value for name, value in foreign.items() if name not in first and name not in labels}
    assert untouched.items() <= after["metadata"]["labels"].items()
    assert all(taint.as_object() in after["spec"].get("taints", []) for taint in taints)
