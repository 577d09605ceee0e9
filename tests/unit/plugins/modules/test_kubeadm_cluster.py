# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that work on the control plane with an administrator's credential, against an API of a few objects."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ansible_collections.fpga.hybrid.plugins.module_utils import _kubeadm
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host, Paths
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError
from ansible_collections.fpga.hybrid.plugins.modules import cluster_node, kubeadm_labels
from ansible_collections.fpga.hybrid.plugins.modules.kubeadm_cluster import reconcile
from ansible_collections.fpga.hybrid.plugins.modules.kubeadm_token import usable


class Api:
    """An API server of three ConfigMaps, and a kubeadm that makes certificates."""

    def __init__(self, **configs):
        self.configs = {name.replace("_", "-"): {key: yaml.safe_dump(value)} for name, (key, value) in configs.items()}
        self.patched = []
        self.told = []  # what kubeadm was told
        self.refuses = ""

    def __call__(self, argv, data=None, pass_fds=()):
        if argv[0] == "kubeadm":
            return self.kubeadm(argv, pass_fds)
        if "--local" in argv:
            value = yaml.safe_load(data)
            return 0, json.dumps(value) if "json" in argv else yaml.safe_dump(value), ""
        target = argv[-1] if "get" not in argv else argv[-3]
        name = next(word for word in argv if word.startswith(("configmap/", "daemonset/")))
        if "patch" in argv:
            patch = json.loads(data)
            self.patched.append((name, patch))
            self.configs.get(name.partition("/")[2], {}).update(patch.get("data", {}))
            return 0, "{}", ""
        content = self.configs.get(name.partition("/")[2])
        return (0, json.dumps({"data": content}), "") if content else (1, "", f"Error from server (NotFound): {target}")

    def kubeadm(self, argv, pass_fds):
        assert argv[1:5] == ["init", "phase", "certs", "apiserver"]
        assert pass_fds, "without the lock"
        node, cluster = yaml.safe_load_all(Path(argv[-1]).read_text())
        self.told.append((node, cluster))
        if self.refuses:
            return 1, "", f"{self.refuses}\nTo see the stack trace of this error execute with --v=5 or higher\n"
        folder = Path(cluster["certificatesDir"])
        assert (folder / "ca.key").read_text() == "the CA's key"
        (folder / "apiserver.crt").write_text(certificate(cluster["apiServer"]["certSANs"]))
        (folder / "apiserver.key").write_text("a key")
        return 0, "", ""


KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(names):
    """A certificate for these and for the names that kubeadm always adds."""
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    now = datetime.datetime(2026, 1, 1)
    alternatives = [x509.IPAddress(ipaddress.ip_address(name)) if name[-1].isdigit() else x509.DNSName(name) for name in ["kubernetes", "10.96.0.1", *names]]
    builder = x509.CertificateBuilder().subject_name(named).issuer_name(named).public_key(KEY.public_key()).serial_number(5)
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False).sign(KEY, SHA256()).public_bytes(Encoding.PEM).decode()


CLUSTER = {"name": "c", "kubernetes_version": "1.36.3", "pod_network": "10.244.0.0/16", "service_network": "10.96.0.0/16", "dns_domain": "cluster.local"}
LIVE = {
    "kind": "ClusterConfiguration",
    "clusterName": "c",
    "controlPlaneEndpoint": "api:6443",
    "networking": {"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/16", "dnsDomain": "cluster.local"},
    "apiServer": {"certSANs": ["api", "x.example"]},
}
KUBELET = {"apiVersion": _kubeadm.KUBELET_API_VERSION, "kind": "KubeletConfiguration", "cgroupDriver": "systemd"}
PROXY = {"apiVersion": _kubeadm.KUBE_PROXY_API_VERSION, "kind": "KubeProxyConfiguration", "conntrack": {"min": 1, "maxPerCore": 2}}


@pytest.fixture
def api():
    return Api(kubeadm_config=("ClusterConfiguration", LIVE), kubelet_config=("kubelet", KUBELET), kube_proxy=("config.conf", PROXY))


@pytest.fixture
def host(api, tmp_path):
    host = Host(api, Paths(str(tmp_path)))
    for name, text in (("ca.crt", "the CA"), ("ca.key", "the CA's key"), ("apiserver.key", "the former key"), ("apiserver.crt", certificate(NAMES))):
        host.write(f"{host.paths.pki}/{name}", text, 0o600)
    return host


NAMES = ["api", "x.example"]


def params(*names, **more):
    cluster = {**CLUSTER, "cert_sans": [*NAMES, *names]}
    node = {"node_name": "cp1", "node_address": "172.27.224.1"}
    return {"cluster": cluster, "endpoint": "api:6443", **node, "kubelet_configuration": {}, "kube_proxy_configuration": {}, **more}


def test_a_cluster_as_declared_is_not_written_to(api, host):
    assert reconcile(params(), host, check_mode=False) == []
    assert api.patched == []


def test_new_kubelet_settings_reach_the_cluster_for_later_joins(api, host):
    declared = params(kubelet_configuration={"maxPods": 7})
    assert reconcile(declared, host, check_mode=False) == ["kubelet-config maxPods: found nothing, expected 7"]
    assert [name for name, _patch in api.patched] == ["configmap/kubelet-config"]
    assert reconcile(declared, host, check_mode=False) == []


def test_kube_proxy_starts_anew_when_its_settings_change_and_keeps_the_others(api, host):
    declared = params(kube_proxy_configuration={"conntrack": {"min": 0}})
    assert reconcile(declared, host, check_mode=False) == ["kube-proxy conntrack.min: found 1, expected 0"]
    assert [name for name, _patch in api.patched] == ["configmap/kube-proxy", "daemonset/kube-proxy"]
    assert yaml.safe_load(api.configs["kube-proxy"]["config.conf"])["conntrack"] == {"min": 0, "maxPerCore": 2}


def test_check_mode_says_the_same_and_writes_nothing(api, host):
    declared = params(kubelet_configuration={"maxPods": 7})
    assert reconcile(declared, host, check_mode=True) == ["kubelet-config maxPods: found nothing, expected 7"]
    assert api.patched == []


def test_what_a_cluster_cannot_become_is_refused_before_anything_is_written(api, host):
    declared = params(cluster={**CLUSTER, "service_network": "10.97.0.0/16", "cert_sans": ["y.example"]}, kubelet_configuration={"maxPods": 7})
    with pytest.raises(_kubeadm.KubeadmError, match=r"cluster_service_network says 10.97.0.0/16, the cluster has 10.96.0.0/16"):
        reconcile(declared, host, check_mode=False)
    assert api.patched == []
    assert api.told == []


def test_a_missing_configmap_is_named_with_its_remedy(api, host):
    del api.configs["kubelet-config"]
    with pytest.raises(_kubeadm.KubeadmError, match=r"kube-system/kubelet-config is missing.*upload-config"):
        reconcile(params(), host, check_mode=False)


# --- the API server's names -----------------------------------------------------------------------------------------------------------------------


def test_a_new_name_makes_another_certificate_and_reaches_the_configmap(api, host):
    assert reconcile(params("10.0.0.7"), host, check_mode=False) == [
        'kubeadm-config apiServer.certSANs: found ["api", "x.example"], expected ["10.0.0.7", "api", "x.example"]',
        "the API server's certificate: did not hold for 10.0.0.7",
    ]
    ((node, cluster),) = api.told
    assert node["localAPIEndpoint"] == {"advertiseAddress": "172.27.224.1", "bindPort": 6443}
    assert node["nodeRegistration"]["name"] == "cp1"
    assert cluster["networking"] == LIVE["networking"], "what the cluster has stored is kept"
    assert _kubeadm.certificate_names(host.read(f"{host.paths.pki}/apiserver.crt")) == {"kubernetes", "10.96.0.1", "api", "x.example", "10.0.0.7"}
    assert host.read(f"{host.paths.pki}/apiserver.key") == "a key"
    assert os.listdir(host.paths.run) == ["kubeadm.lock"], "a link to the CA's key was left"
    assert yaml.safe_load(api.configs["kubeadm-config"]["ClusterConfiguration"])["apiServer"]["certSANs"] == ["10.0.0.7", "api", "x.example"]
    assert reconcile(params("10.0.0.7"), host, check_mode=False) == []


def test_a_name_that_is_no_longer_declared_leaves_the_certificate(api, host):
    declared = params(cluster={**CLUSTER, "cert_sans": []})
    assert reconcile(declared, host, check_mode=False) == ['kubeadm-config apiServer.certSANs: found ["api", "x.example"], expected ["api"]']
    assert "x.example" not in _kubeadm.certificate_names(host.read(f"{host.paths.pki}/apiserver.crt"))


def test_a_certificate_that_was_replaced_by_one_without_our_names_is_made_again(api, host):
    host.write(f"{host.paths.pki}/apiserver.crt", certificate(["api"]), 0o644)
    assert reconcile(params(), host, check_mode=False) == ["the API server's certificate: did not hold for x.example"]
    assert [name for name, _patch in api.patched] == []


def test_names_are_compared_as_names_not_as_texts(api, host):
    host.write(f"{host.paths.pki}/apiserver.crt", certificate(["api", "x.example", "fd00::1"]), 0o644)
    api.configs["kubeadm-config"]["ClusterConfiguration"] = yaml.safe_dump({**LIVE, "apiServer": {"certSANs": ["x.example", "fd00:0::1", "api"]}})
    assert reconcile(params("fd00:0::1"), host, check_mode=False) == []


def test_check_mode_makes_no_certificate(api, host):
    assert len(reconcile(params("10.0.0.7"), host, check_mode=True)) == 2
    assert api.told == []
    assert api.patched == []


def test_a_name_that_kubeadm_refuses_leaves_the_certificate_as_it_is(api, host):
    api.refuses = 'error: apiServer.certSANs: Invalid value: "y!"'
    with pytest.raises(_kubeadm.KubeadmError, match=r'for api, x.example, y!: error: apiServer.certSANs: Invalid value: "y!"$'):
        reconcile(params("y!"), host, check_mode=False)
    assert "y!" not in _kubeadm.certificate_names(host.read(f"{host.paths.pki}/apiserver.crt"))
    assert host.read(f"{host.paths.pki}/apiserver.key") == "the former key"
    assert api.patched == []


def test_without_the_cas_key_it_is_said_what_to_do(api, host):
    os.unlink(f"{host.paths.pki}/ca.key")
    assert reconcile(params(), host, check_mode=False) == []
    with pytest.raises(_kubeadm.KubeadmError, match=r"has to hold for 10.0.0.7, api, x.example, and .*/pki has no ca.key"):
        reconcile(params("10.0.0.7"), host, check_mode=False)


# --- tokens -------------------------------------------------------------------------------------------------------------------------------------

NOW = datetime.datetime(2026, 11, 23, 12, 0, tzinfo=datetime.timezone.utc)


def token(minutes, description=_kubeadm.TOKEN_DESCRIPTION, usages=("signing", "authentication")):
    expires = (NOW + datetime.timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"token": f"t{minutes}", "expires": expires, "description": description, "usages": list(usages)}


@pytest.mark.parametrize(
    ("tokens", "chosen"),
    [
        ([], None),
        ([token(15)], "t15"),
        ([token(11), token(15)], "t15"),
        ([token(9)], None),  # would end during the play
        ([token(60, description="somebody's")], None),
        ([token(60, usages=("signing",))], None),
        ([{**token(60), "expires": ""}], None),  # one that never ends is not one of ours
    ],
)
def test_all_joins_of_a_play_use_one_short_lived_token_of_ours(tokens, chosen):
    found = usable(tokens, NOW, 10)
    assert (found or {}).get("token") == chosen


# --- labels -------------------------------------------------------------------------------------------------------------------------------------


class Nodes:
    """An API with one node that somebody else changes as often as told."""

    def __init__(self, disturbances=0, appears_after=0):
        self.node = {"metadata": {"name": "w1", "labels": {"x": "y"}, "resourceVersion": "1"}, "spec": {}}
        self.disturbances, self.appears_after = disturbances, appears_after
        self.writes = 0

    def __call__(self, argv, data=None, pass_fds=()):
        if "get" in argv:
            self.appears_after -= 1
            if self.appears_after >= 0:
                return 1, "", 'Error from server (NotFound): nodes "w1" not found'
            return 0, json.dumps(self.node), ""
        patch = json.loads(data)
        if self.disturbances:
            self.disturbances -= 1
            self.node["metadata"]["resourceVersion"] = str(int(self.node["metadata"]["resourceVersion"]) + 1)
        if patch["metadata"]["resourceVersion"] != self.node["metadata"]["resourceVersion"]:
            return 1, "", "Error from server (Conflict): the object has been modified"
        self.writes += 1
        self.node["metadata"]["labels"].update(patch["metadata"].get("labels", {}))
        return 0, json.dumps(self.node), ""


def label_params(**more):
    return {"node_name": "w1", "labels": {"rack": 1}, "taints": [], "provider_id": None, "timeout": 5, **more}


def test_taints_are_taken_in_both_notations():
    taints = ["fpga:NoSchedule", {"key": "slow", "value": "yes", "effect": "NoExecute"}]
    patch = kubeadm_labels.mend(Kubectl(Nodes()), label_params(taints=taints), check_mode=True)[2]
    assert patch["spec"]["taints"] == [{"key": "fpga", "effect": "NoSchedule"}, {"key": "slow", "value": "yes", "effect": "NoExecute"}]


def test_another_writer_in_between_makes_us_look_again():
    api = Nodes(disturbances=2)
    kubeadm_labels.mend(Kubectl(api), label_params(), check_mode=False)
    assert api.writes == 1
    assert api.node["metadata"]["labels"] == {"x": "y", "rack": "1"}


def test_somebody_who_writes_all_the_time_is_said():
    with pytest.raises(_kubeadm.KubeadmError, match="w1: others changed the Node five times"):
        kubeadm_labels.mend(Kubectl(Nodes(disturbances=99)), label_params(), check_mode=False)


def test_labels_in_check_mode_are_compared_only():
    api = Nodes()
    assert kubeadm_labels.mend(Kubectl(api), label_params(), check_mode=True)[2]["metadata"]["labels"] == {"rack": "1"}
    assert api.writes == 0


def test_a_node_that_has_just_joined_is_waited_for(monkeypatch):
    monkeypatch.setattr(kubeadm_labels.time, "sleep", lambda seconds: None)
    api = Nodes(appears_after=2)
    kubeadm_labels.mend(Kubectl(api), label_params(), check_mode=False)
    assert api.writes == 1


def test_a_node_that_never_appears_is_said_with_what_to_look_at():
    with pytest.raises(_kubeadm.KubeadmError, match=r"knows no node w1 .*journalctl -u kubelet"):
        kubeadm_labels.mend(Kubectl(Nodes(appears_after=99)), label_params(timeout=0), check_mode=False)


# --- a node that leaves -------------------------------------------------------------------------------------------------------------------------


class Leaving:
    """An API with one node, which somebody else may be faster to remove, or that does not answer."""

    def __init__(self, there=True, faster=False, down=False):
        self.there, self.faster, self.down = there, faster, down
        self.deleted = 0

    def __call__(self, argv, data=None, pass_fds=()):
        missing = 1, "", 'Error from server (NotFound): nodes "w1" not found'
        if self.down:
            return 1, "", "connection refused"
        if "get" in argv:
            return (0, '{"kind": "Node"}', "") if self.there else missing
        self.deleted += 1
        return missing if self.faster else (0, "", "")


def test_the_object_of_a_node_that_left_goes_and_check_mode_only_looks():
    api = Leaving()
    assert cluster_node.remove(Kubectl(api), "w1", check_mode=True)
    assert api.deleted == 0
    assert cluster_node.remove(Kubectl(api), "w1", check_mode=False)
    assert api.deleted == 1


@pytest.mark.parametrize("api", [Leaving(there=False), Leaving(faster=True)])
def test_an_object_that_is_gone_already_is_no_change(api, host):
    assert not cluster_node.remove(Kubectl(api), "w1", check_mode=False)


def test_an_api_that_does_not_answer_is_told_from_a_node_that_is_gone():
    with pytest.raises(KubeError, match="connection refused"):
        cluster_node.remove(Kubectl(Leaving(down=True)), "w1", check_mode=False)
