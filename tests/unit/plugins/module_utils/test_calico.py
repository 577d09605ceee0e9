# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import hashlib
import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.fpga.hybrid.plugins.filter.calico_chart_values import calico_chart_values
from ansible_collections.fpga.hybrid.plugins.module_utils._calico import CONFIGURATION_ANNOTATION, READINESS, CalicoError, Network, check_digest, patch

NETWORK = Network("10.244.0.0/16", 1350)
SINCE_3_30 = {"assignmentMode": "Automatic", "disableNewAllocations": False}


def from_config(name, key):
    return {"name": name, "valueFrom": {"configMapKeyRef": {"name": "calico-config", "key": key}}}


@pytest.fixture
def manifest():
    """The shape of Calico's manifest, with the keys that matter here."""
    node = {
        "name": "calico-node",
        "image": "docker.io/calico/node:v3",
        "env": [
            from_config("CALICO_NETWORKING_BACKEND", "calico_backend"),
            {"name": "CLUSTER_TYPE", "value": "k8s,bgp"},
            {"name": "IP", "value": "autodetect"},
            {"name": "CALICO_IPV4POOL_IPIP", "value": "Always"},
            {"name": "CALICO_IPV4POOL_VXLAN", "value": "CrossSubnet"},
            from_config("FELIX_VXLANMTU", "veth_mtu"),
            {"name": "FELIX_HEALTHENABLED", "value": "true"},
        ],
        "livenessProbe": {"exec": {"command": ["/bin/calico-node", "-felix-live", "-bird-live"]}},
        "readinessProbe": {"exec": {"command": ["/bin/calico-node", "-felix-ready", "-bird-ready"]}},
    }
    template = {
        "metadata": {"labels": {"k8s-app": "calico-node"}},
        "spec": {"initContainers": [{"name": "install-cni", "env": [from_config("CNI_MTU", "veth_mtu")]}], "containers": [node]},
    }
    return [
        {"kind": "CustomResourceDefinition", "metadata": {"name": "ippools.crd.projectcalico.org"}},
        {
            "kind": "ConfigMap",
            "metadata": {"name": "calico-config", "namespace": "kube-system"},
            "data": {"veth_mtu": "0", "calico_backend": "bird", "typha_service_name": "none"},
        },
        {"kind": "DaemonSet", "metadata": {"name": "calico-node", "namespace": "kube-system"}, "spec": {"template": template}},
    ]


def environment(objects):
    container = objects[2]["spec"]["template"]["spec"]["containers"][0]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def test_calico_is_made_fit_for_a_tunnel(manifest):
    result = patch(manifest, NETWORK)
    assert result[1]["data"] == {"veth_mtu": "1350", "calico_backend": "vxlan", "typha_service_name": "none"}
    assert environment(result) == {
        "CALICO_NETWORKING_BACKEND": None,
        "CLUSTER_TYPE": "k8s",
        "IP": "autodetect",
        "CALICO_IPV4POOL_IPIP": "Never",
        "CALICO_IPV4POOL_VXLAN": "Always",
        "FELIX_VXLANMTU": None,
        "FELIX_HEALTHENABLED": "true",
        "CALICO_IPV4POOL_CIDR": "10.244.0.0/16",
        "IP_AUTODETECTION_METHOD": "kubernetes-internal-ip",
    }
    container = result[2]["spec"]["template"]["spec"]["containers"][0]
    assert container["livenessProbe"]["exec"]["command"] == ["/bin/calico-node", "-felix-live"]
    assert container["readinessProbe"] == READINESS
    assert container["image"] == "docker.io/calico/node:v3"


def test_the_pool_is_an_object_so_that_its_drift_is_mended(manifest):
    pool = patch(manifest, NETWORK)[-1]
    assert (pool["kind"], pool["metadata"]["name"]) == ("IPPool", "default-ipv4-ippool")
    assert pool["spec"]["cidr"] == "10.244.0.0/16"
    assert (pool["spec"]["vxlanMode"], pool["spec"]["ipipMode"], pool["spec"]["natOutgoing"]) == ("Always", "Never", True)


def annotation(objects):
    return objects[2]["spec"]["template"]["metadata"]["annotations"][CONFIGURATION_ANNOTATION]


def test_the_pods_start_anew_exactly_when_their_configuration_changes(manifest):
    assert annotation(patch(manifest, NETWORK)) == annotation(patch(manifest, NETWORK))
    assert annotation(patch(manifest, NETWORK)) != annotation(patch(manifest, Network("10.244.0.0/16", 1400)))


def test_upstreams_objects_are_left_as_they_were(manifest):
    before = copy.deepcopy(manifest)
    patch(manifest, NETWORK)
    assert manifest == before


@pytest.mark.parametrize("name", ["CALICO_IPV4POOL_VXLAN", "CALICO_IPV4POOL_IPIP", "CLUSTER_TYPE", "FELIX_VXLANMTU", "CALICO_NETWORKING_BACKEND", "IP"])
def test_a_variable_that_upstream_has_renamed_is_refused_by_its_name(manifest, name):
    for entry in manifest[2]["spec"]["template"]["spec"]["containers"][0]["env"]:
        if entry["name"] == name:
            entry["name"] = f"{name}_V2"
    with pytest.raises(CalicoError, match=f"calico-node has no environment variable {name} any more"):
        patch(manifest, NETWORK)


@pytest.mark.parametrize("key", ["veth_mtu", "calico_backend", "typha_service_name"])
def test_a_key_of_the_configuration_that_upstream_has_renamed_is_refused_by_its_name(manifest, key):
    manifest[1]["data"]["new"] = manifest[1]["data"].pop(key)
    with pytest.raises(CalicoError, match=f"calico-config has no key {key} any more"):
        patch(manifest, NETWORK)


def test_a_readiness_that_is_asked_in_another_way_is_refused(manifest):
    manifest[2]["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {"grpc": {"port": 1}}
    with pytest.raises(CalicoError, match="readinessProbe"):
        patch(manifest, NETWORK)


def test_an_mtu_that_no_longer_comes_from_the_configuration_is_refused(manifest):
    manifest[2]["spec"]["template"]["spec"]["initContainers"][0]["env"] = [{"name": "CNI_MTU", "value": "0"}]
    with pytest.raises(CalicoError, match="CNI_MTU of container install-cni"):
        patch(manifest, NETWORK)


@pytest.mark.parametrize(("index", "message"), [(0, "no CustomResourceDefinition ippools"), (1, "no ConfigMap calico-config"), (2, "no DaemonSet calico-node")])
def test_a_manifest_of_something_else_is_refused(manifest, index, message):
    del manifest[index]
    with pytest.raises(CalicoError, match=message):
        patch(manifest, NETWORK)


@pytest.mark.parametrize(("release", "later"), [("v3.28.5", {}), ("v3.30.7", SINCE_3_30), ("v3.32.1", SINCE_3_30)])
def test_the_operator_is_told_the_same_with_all_that_it_would_add_to_the_pool(release, later):
    values = calico_chart_values("10.244.0.0/16", "1350", release)
    assert {name: value for name, value in values.items() if name != "installation"} == {
        key: {"enabled": False} for key in ("apiServer", "goldmane", "whisker")
    }
    assert values["installation"] == {
        "enabled": True,
        "cni": {"type": "Calico"},
        "calicoNetwork": {
            "bgp": "Disabled",
            "mtu": 1350,
            "nodeAddressAutodetectionV4": {"kubernetes": "NodeInternalIP"},
            "ipPools": [
                {
                    "name": "default-ipv4-ippool",
                    "cidr": "10.244.0.0/16",
                    "encapsulation": "VXLAN",
                    "natOutgoing": "Enabled",
                    "nodeSelector": "all()",
                    "blockSize": 26,
                    "allowedUses": ["Workload", "Tunnel"],
                    "disableBGPExport": False,
                    **later,
                }
            ],
        },
    }


def test_the_role_knows_every_release_of_the_table_of_versions():
    roles = Path(__file__).parents[4] / "roles"
    table = yaml.safe_load((roles / "cluster" / "vars" / "versions.yml").read_text())["cluster_known_versions"]["calico"]
    releases = yaml.safe_load((roles / "cni" / "vars" / "main.yml").read_text())["__cni_releases"]
    assert list(releases) == [row["version"] for row in table]
    for release in releases.values():
        assert set(release) - {"manifest_registry"} == {"manifest", "operator", "crd_chart", "registry", "images"}
        assert re.fullmatch("sha256:[0-9a-f]{64}", release["manifest"])
        assert {"cni", "kube-controllers", "node"} <= set(release["images"])


def test_a_manifest_with_another_checksum_is_refused_with_both():
    good = f"sha256:{hashlib.sha256(b'x').hexdigest()}"
    check_digest(b"x", good, "https://depot/x")
    with pytest.raises(CalicoError, match=rf"https://depot/x has checksum sha256:.*, expected {good}"):
        check_digest(b"y", good, "https://depot/x")
