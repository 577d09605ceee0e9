# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint, TaintError, is_extended_resource, is_key, is_value, kubelet_may_set


@pytest.mark.parametrize("key", ["rack", "example.org/rack", "a/B_c.d-9", "x" * 63, f"{'a' * 63}.{'b' * 63}/x"])
def test_keys_that_kubernetes_takes(key):
    assert is_key(key)


@pytest.mark.parametrize("key", ["", "/rack", "example.org/", "Example.org/rack", "a/b/c", "-x", "x-", "a b", "x" * 64, "ü", f"{'a.' * 127}/x", 4, None])
def test_keys_that_kubernetes_refuses(key):
    assert not is_key(key)


def test_values_may_be_empty_and_are_texts():
    assert is_value("")
    assert is_value("A_1.b")
    assert not any(map(is_value, ["x" * 64, "-", "a b", "a\n", True, 4, None]))


@pytest.mark.parametrize("key", ["rack", "fpga.hybrid/pool", "node.kubernetes.io/instance-type", "topology.kubernetes.io/zone", "x.node.kubernetes.io/y"])
def test_labels_that_a_kubelet_may_give_its_node(key):
    assert kubelet_may_set(key)


@pytest.mark.parametrize("key", ["node-role.kubernetes.io/worker", "kubernetes.io/x", "node-restriction.kubernetes.io/site", "k8s.io/x", "a.k8s.io/x"])
def test_labels_with_which_a_kubelet_could_not_register(key):
    assert not kubelet_may_set(key)


@pytest.mark.parametrize("name", ["xilinx/aws-vu9p-f1", "inaccel.com/xgboost.exact", "amd.com/ama_u30"])
def test_names_of_extended_resources(name):
    assert is_extended_resource(name)


@pytest.mark.parametrize("name", ["cpu", "xilinx/", "/x", "kubernetes.io/x", "a.kubernetes.io/x", "requests.example.org/x", "a b/c", f"{'a' * 249}/x", None])
def test_names_that_are_no_extended_resources(name):
    assert not is_extended_resource(name)


@pytest.mark.parametrize(
    ("declared", "written"),
    [
        ("example.org/fpga=only:NoSchedule", "example.org/fpga=only:NoSchedule"),
        ("fpga:NoExecute", "fpga=:NoExecute"),
        ("fpga=:PreferNoSchedule", "fpga=:PreferNoSchedule"),
        ({"key": "fpga", "effect": "NoSchedule"}, "fpga=:NoSchedule"),
        ({"key": "fpga", "value": "u250", "effect": "NoSchedule"}, "fpga=u250:NoSchedule"),
    ],
)
def test_taints_are_read_from_both_notations(declared, written):
    assert str(Taint.parse(declared)) == written
    assert Taint.parse(written) == Taint.parse(declared)
    assert Taint.parse(Taint.parse(declared).as_object()) == Taint.parse(declared)


@pytest.mark.parametrize(
    "declared",
    [
        "",
        "fpga",
        "fpga:Never",
        "=x:NoSchedule",
        "a b=x:NoSchedule",
        "x=a b:NoSchedule",
        {"key": "x"},
        {"key": "x", "value": False, "effect": "NoSchedule"},
        {"key": "x", "value": 1, "effect": "NoSchedule"},
        {"key": "x", "effect": "NoSchedule", "operator": "Exists"},
        4,
    ],
)
def test_what_is_no_taint_is_refused_and_quoted(declared):
    with pytest.raises(TaintError) as caught:
        Taint.parse(declared)
    assert repr(declared) in str(caught.value)
