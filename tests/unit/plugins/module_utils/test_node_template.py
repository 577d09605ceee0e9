# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node template and its four renderings.

The renderings are read back by models of those who read them in earnest: the autoscaler's parsing of tags (aws_manager.go), cloud-init's of user-data,
the kubelet's sums (GetNodeAllocatableReservation).
"""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import Device, InstanceType, shipped_types
from ansible_collections.fpga.hybrid.plugins.module_utils._node import (
    NODE_FILE,
    TemplateError,
    eviction_reservation,
    kubelet_arguments,
    kubelet_configuration,
    node_violations,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import PoolError, parse_accelerators, parse_cluster, parse_pools
from ansible_collections.fpga.hybrid.plugins.module_utils._quantity import Quantity
from ansible_collections.fpga.hybrid.plugins.module_utils.node_template import EVICTION_HARD, USER_DATA_LIMIT, kube_reserved, make_template

TYPES = shipped_types()
CLUSTER = {"name": "InAccel", "id": "6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b", "kubernetes_version": "1.36", "region": "us-east-1"}
POOL = {"name": "f2", "instance_type": "f2.12xlarge", "max_size": 2, "availability_zones": ["us-east-1a", "us-east-1b"]}
XGBOOST = {
    "com.inaccel.xgboost.exact": {
        "resource": "inaccel.com/xgboost.exact",
        "replicas": {"u250": 4, "aws-vu9p-f1": 2, "aws-vu47p-f2": 2},
        "images": {"aws-vu47p-f2": {"us-east-1": "agfi-0123456789abcdef0", "eu-west-2": "agfi-1"}},
    }
}


def template(pool=None, cluster=None, accelerators=None, types=None, **more):
    known = parse_cluster({**CLUSTER, **(cluster or {})})
    (parsed,) = parse_pools([{**POOL, **(pool or {}), **more}], known.name)
    return make_template(parsed, known, types or TYPES, parse_accelerators(XGBOOST if accelerators is None else accelerators))


def complaint(*arguments, **more):
    with pytest.raises(PoolError) as caught:
        template(*arguments, **more)
    return str(caught.value)


# --- models of the readers


def autoscaler_reads(tags):
    """Labels, taints and resources as cluster-autoscaler takes them out of a group's tags; what it cannot parse it skips without a word."""
    labels, taints, resources = {}, set(), {}
    for key, value in tags.items():
        prefix = "k8s.io/cluster-autoscaler/node-template/"
        if key.startswith(f"{prefix}label/"):
            labels[key.removeprefix(f"{prefix}label/")] = value
        elif key.startswith(f"{prefix}taint/") and re.search(r"(.*):(?:NoSchedule|NoExecute|PreferNoSchedule)", value):
            text, _colon, effect = value.partition(":")
            taints.add((key.removeprefix(f"{prefix}taint/"), text, effect))
        elif key.startswith(f"{prefix}resources/"):
            resources[key.removeprefix(f"{prefix}resources/")] = Quantity.parse(value)
    return labels, taints, resources


def cloud_init_reads(user_data):
    """The files and commands of a cloud-config."""
    assert user_data.startswith("#cloud-config\n")
    config = yaml.safe_load(user_data)
    assert set(config) == {"write_files", "runcmd"}
    return {entry["path"]: entry["content"] for entry in config["write_files"]}, config["runcmd"]


def kubelet_reports(node, capacity, devices):
    """Labels, taints and allocatable of a kubelet with the settings that follow from node.json, on a host of this capacity."""
    configuration, arguments = kubelet_configuration(node, capacity), kubelet_arguments(node)
    labels = dict(pair.split("=", 1) for pair in arguments["node-labels"].split(","))
    allocatable = {"pods": Quantity.of(configuration["maxPods"]), **devices}
    for name in ("cpu", "memory", "ephemeral-storage"):
        evicted = eviction_reservation(name, configuration["evictionHard"], capacity[name])
        held = Quantity.parse(configuration["systemReserved"][name]) + Quantity.parse(configuration["kubeReserved"][name]) + evicted
        assert held <= capacity[name], "the kubelet would not start"
        allocatable[name] = capacity[name] - held
    return labels, {(taint["key"], taint["value"], taint["effect"]) for taint in configuration["registerWithTaints"]}, allocatable


def devices_of(made):
    return {name: quantity for name, quantity in made.resources.items() if "/" in name}


def capacity_of(one, root_gib, memory_share=Decimal("0.925")):
    return {
        "cpu": Quantity.of(one.vcpus),
        "memory": Quantity.mebibytes(int(one.memory * memory_share)),
        "ephemeral-storage": Quantity.mebibytes((root_gib - 1) * 1024 * 97 // 100),
    }


# --- what a node will be


@pytest.mark.parametrize(
    ("instance_type", "resource", "count"),
    [
        ("f2.6xlarge", "xilinx/aws-vu47p-f2", 1),
        ("f2.12xlarge", "xilinx/aws-vu47p-f2", 2),
        ("f2.48xlarge", "xilinx/aws-vu47p-f2", 8),
        ("f1.4xlarge", "xilinx/aws-vu9p-f1", 2),
        ("vt1.24xlarge", "xilinx/u30", 8),
    ],
)
def test_boards_are_what_aws_says_that_the_type_has(instance_type, resource, count):
    made = template(instance_type=instance_type, allow_retired=True)
    assert devices_of(made) == {resource: Quantity.of(count)}
    assert [str(taint) for taint in made.startup_taints] == ["startup-taint.cluster-autoscaler.kubernetes.io/fpga=:NoSchedule"]


def test_a_board_is_published_as_the_accelerator_alone():
    made = template(publish="com.inaccel.xgboost.exact")
    assert devices_of(made) == {"inaccel.com/xgboost.exact": Quantity.of(4)}
    assert made.node()["fpga"] == {
        "stack": "fpga_device_plugin",
        "publish": {"aws-vu47p-f2": "com.inaccel.xgboost.exact"},
        "resources": {"com.inaccel.xgboost.exact": "inaccel.com/xgboost.exact"},
        "replicas": {"com.inaccel.xgboost.exact": {"aws-vu47p-f2": 2}},
        "images": {"com.inaccel.xgboost.exact": {"aws-vu47p-f2": "agfi-0123456789abcdef0"}},
        "shared": {"com.inaccel.xgboost.exact": True},
    }


def test_four_copies_fit_two_boards_but_not_one():
    """What makes the autoscaler start f2.12xlarge for the second job, and not f2.6xlarge."""
    copies = [
        template(instance_type=name, publish="com.inaccel.xgboost.exact").resources["inaccel.com/xgboost.exact"].value for name in ("f2.6xlarge", "f2.12xlarge")
    ]
    assert copies == [2, 4]


@pytest.mark.parametrize("more", [{"instance_type": "m5.large"}, {"publish": "none"}])
def test_a_pool_that_publishes_nothing_is_an_ordinary_one(more):
    made = template(**more)
    assert (devices_of(made), made.taints, made.startup_taints, made.node()["fpga"]) == ({}, (), (), None)


def test_dedicated_is_the_default_where_something_is_published_and_can_be_changed():
    assert [str(taint) for taint in template().taints] == ["fpga.hybrid/fpga=:NoSchedule"]
    assert template(dedicated=False).taints == ()
    assert [str(taint) for taint in template(instance_type="m5.large", dedicated=True, taints=["a=b:NoExecute"]).taints] == [
        "fpga.hybrid/fpga=:NoSchedule",
        "a=b:NoExecute",
    ]


@pytest.mark.parametrize(
    ("more", "labels"),
    [
        ({}, {"node.kubernetes.io/instance-type": "f2.12xlarge"}),
        ({"availability_zones": ["us-east-1c"]}, {"node.kubernetes.io/instance-type": "f2.12xlarge", "topology.kubernetes.io/zone": "us-east-1c"}),
        ({"instance_type": "m5.large", "mixed": {"instance_types": ["m6i.large"]}}, {}),
        ({"labels": {"inaccel/fpga": "enabled"}}, {"node.kubernetes.io/instance-type": "f2.12xlarge", "inaccel/fpga": "enabled"}),
    ],
)
def test_a_label_is_promised_only_if_every_node_of_the_pool_has_it(more, labels):
    assert template(**more).labels == {"fpga.hybrid/pool": "f2", "topology.kubernetes.io/region": "us-east-1", **labels}


def test_mixed_types_promise_what_the_smallest_has():
    small, large = TYPES["m5.large"], TYPES["m5.xlarge"]
    mixed = template(instance_type=large.name, mixed={"instance_types": [small.name]})
    assert mixed.resources == template(instance_type=small.name).resources


def test_memory_is_less_than_aws_sells_by_overhead_and_reservations():
    """f2.12xlarge: 524288 MiB less 7.5 %, less (11 x 110 + 255) + 256 + 100 MiB."""
    assert str(template().resources["memory"]) == "483145Mi"
    assert str(template(memory_overhead_percent=0, reserved={"kube": {"memory": 0}, "system": {"memory": 0}}).resources["memory"]) == "524188Mi"


def test_storage_comes_from_the_root_volume():
    """80 GiB less 1 GiB of partitions, less 3 % for the file system, less 10 % for eviction, less 2 GiB reserved."""
    assert abs(template().resources["ephemeral-storage"].value / 2**20 - (79 * 1024 * 0.97 * 0.9 - 2048)) < 2
    assert template(root_volume={"size": 200}).resources["ephemeral-storage"] > template().resources["ephemeral-storage"]


@pytest.mark.parametrize(("vcpus", "millicores"), [(1, 60), (2, 70), (4, 80), (8, 90), (24, 130), (48, 190), (96, 310)])
def test_the_kubelet_s_share_of_cpu_follows_the_published_table(vcpus, millicores):
    assert kube_reserved(vcpus, 110)["cpu"] == Quantity.milli(millicores)


def test_a_declared_resource_replaces_the_computed_one():
    made = template(resources={"cpu": 4, "memory": "8Gi", "pods": 30, "ephemeral-storage": "10Gi", "example.org/card": 1})
    assert {name: str(quantity) for name, quantity in made.resources.items()} == {
        "cpu": "4",
        "memory": "8Gi",
        "pods": "30",
        "ephemeral-storage": "10Gi",
        "xilinx/aws-vu47p-f2": "2",
        "example.org/card": "1",
    }
    assert made.reserved["kube"]["memory"] == "585Mi", "the reservation follows the number of pods"


# --- bad input


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"instance_type": "f9.large"}, "pool f2, instance_type: found f9.large, which AWS doesn't know in us-east-1"),
        ({"instance_type": "f1.2xlarge"}, "pool f2, instance_type: found f1.2xlarge, which AWS ended on 2025-12-20"),
        ({"mixed": {"instance_types": ["f9.large"]}}, "pool f2, mixed.instance_types: found f9.large"),
        ({"mixed": {"instance_types": ["f2.6xlarge"]}}, "pool f2, mixed.instance_types: found f2.12xlarge (x86_64, 2 x Virtex UltraScale+ (VU47P))"),
        ({"instance_type": "m5.large", "publish": "boards"}, "pool f2, publish: found boards, but m5.large has no FPGA"),
        ({"instance_type": "m5.large", "publish": "com.inaccel.xgboost.exact"}, "but m5.large has no FPGA"),
        ({"publish": "com.inaccel.adder"}, "pool f2, publish: found 'com.inaccel.adder'; expected one of boards, none, com.inaccel.xgboost.exact"),
        ({"instance_type": "vt1.3xlarge", "publish": "com.inaccel.xgboost.exact"}, "accelerator com.inaccel.xgboost.exact fits no u30, which vt1.3xlarge has"),
        (
            {"cluster": {"region": "us-west-2"}, "availability_zones": ["us-west-2a"], "publish": "com.inaccel.xgboost.exact"},
            "pool f2, publish: accelerator com.inaccel.xgboost.exact has no image for us-west-2 (it has: us-east-1, eu-west-2)",
        ),
        (
            {"cluster": {"region": "us-west-2"}, "availability_zones": ["us-west-2a"], "publish": "com.inaccel.xgboost.exact"},
            "Add cluster_accelerators['com.inaccel.xgboost.exact'].images['aws-vu47p-f2']['us-west-2'], or take us-west-2 out of the pool.",
        ),
        ({"resources": {"memory": "512Gi"}}, "pool f2, resources.memory: found 512Gi; expected at most 522467Mi"),
        ({"resources": {"cpu": 48}}, "pool f2, resources.cpu: found 48; expected at most 47710m"),
        ({"resources": {"ephemeral-storage": "80Gi"}}, "pool f2, resources.ephemeral-storage: found 80Gi; expected at most"),
        ({"resources": {"xilinx/aws-vu47p-f2": 1}}, "pool f2, resources.xilinx/aws-vu47p-f2: found 1, but f2.12xlarge gives 2"),
        ({"root_volume": {"size": 3}}, "pool f2, root_volume.size: found 3 GiB, all reserved"),
        ({"instance_type": "t3.nano"}, "pool f2, instance_type: memory of t3.nano is all reserved"),
        (
            {"taints": ["fpga.hybrid/fpga=x:NoSchedule"]},
            "pool f2, taints: found fpga.hybrid/fpga=x:NoSchedule; expected none of the taints that are set anyway",
        ),
        ({"taints": ["startup-taint.cluster-autoscaler.kubernetes.io/fpga=:NoSchedule"]}, "expected none of the taints that are set anyway"),
        ({"resources": {f"{'x' * 40}.{'y' * 40}.org/card": 1}}, "it makes the tag k8s.io/cluster-autoscaler/node-template/resources/"),
        ({"labels": {f"{'x' * 60}.org/{'y' * 40}": ""}}, f"pool f2, labels.{'x' * 60}.org/{'y' * 40}: it makes the tag"),
        ({"tags": {f"cost-{number}": "x" for number in range(37)}}, "pool f2, tags: 51 tags in all, 14 of them beside the pool's own; expected at most 50"),
        ({"labels": {f"l{number}": "x" * 63 for number in range(300)}}, "pool f2, labels: user-data of "),
    ],
)
def test_what_cannot_be_is_told_with_pool_and_key(more, said):
    assert said in complaint(**more)


def test_fifty_tags_are_the_most_and_still_taken():
    assert len(template(tags={f"cost-{number}": "x" for number in range(36)}).group_tags(propagate_own=False)) == 50


def test_a_device_that_has_no_board_is_told_with_a_way_on():
    types = {"f3.large": InstanceType("f3.large", 48, 524288, "x86_64", (Device("Versal", 1),))}
    said = complaint(instance_type="f3.large", types=types)
    assert said.startswith("pool f2, publish: f3.large has Versal, for which there is no board; expected one of Virtex UltraScale (VU9P),")
    assert devices_of(template(instance_type="f3.large", types=types, publish="none", resources={"amd.com/versal": 1})) == {"amd.com/versal": Quantity.of(1)}


def test_an_image_is_not_asked_of_a_card_that_loads_none_from_aws():
    catalogue = {"coder": {"resource": "example.org/coder", "replicas": {"u30": 4}}}
    assert devices_of(template(instance_type="vt1.6xlarge", publish="coder", accelerators=catalogue)) == {"example.org/coder": Quantity.of(8)}


# --- the renderings


def test_the_tutorial_s_groups_have_the_tutorial_s_tags():
    for instance_type, boards in (("f1.2xlarge", "1"), ("f1.4xlarge", "2")):
        made = template(name="f1", instance_type=instance_type, allow_retired=True, dedicated=False, propagate_template_tags=True)
        tags = {tag.key: (tag.value, tag.propagate) for tag in made.group_tags(propagate_own=False)}
        assert {
            "k8s.io/cluster-autoscaler/enabled": ("true", True),
            "k8s.io/cluster-autoscaler/InAccel": ("owned", True),
            "k8s.io/cluster-autoscaler/node-template/label/node.kubernetes.io/instance-type": (instance_type, True),
            "k8s.io/cluster-autoscaler/node-template/resources/xilinx/aws-vu9p-f1": (boards, True),
        }.items() <= tags.items()


def test_the_group_is_known_as_ours_first_and_to_the_autoscaler_last():
    keys = [tag.key for tag in template(tags={"team": "x"}).group_tags(propagate_own=False)]
    assert keys[:5] == ["fpga.hybrid/cluster-id", "fpga.hybrid/pool", "fpga.hybrid/declared-tags", "k8s.io/cluster-autoscaler/InAccel", "team"]
    assert keys[-1] == "k8s.io/cluster-autoscaler/enabled"


def test_the_startup_taint_is_never_in_the_tags():
    assert not any("startup-taint" in tag.key for tag in template().group_tags(propagate_own=True))


def test_tags_go_on_to_instances_only_where_somebody_reads_them():
    made = template(tags={"team": "x"})
    assert [tag.key for tag in made.group_tags(propagate_own=False) if tag.propagate] == ["fpga.hybrid/cluster-id", "fpga.hybrid/pool"]
    assert [tag.key for tag in made.group_tags(propagate_own=True) if tag.propagate] == ["fpga.hybrid/cluster-id", "fpga.hybrid/pool", "team"]
    assert made.instance_tags() == {"fpga.hybrid/cluster-id": CLUSTER["id"], "fpga.hybrid/pool": "f2", "team": "x"}


def test_the_marks_of_all_tags_that_a_group_has_room_for_fit_into_one():
    made = template(tags={f"cost-{number}": "x" for number in range(36)})
    (marks,) = [tag.value for tag in made.group_tags(propagate_own=False) if tag.key == "fpga.hybrid/declared-tags"]
    assert len(marks) == 36 * 6 <= 256


def test_user_data_writes_node_json_and_starts_bootstrap_and_nothing_else():
    made = template(cluster={"endpoint_url": "http://10.0.0.2:5000", "ignore_preflight": ["SystemVerification"]})
    files, commands = cloud_init_reads(made.user_data())
    assert list(files) == [NODE_FILE]
    assert json.loads(files[NODE_FILE]) == made.node()
    assert commands == [["systemctl", "start", "--no-block", "fpga-hybrid-bootstrap.service"]]
    assert node_violations(made.node()) == []


@pytest.mark.parametrize("word", ["token", "password", "secret", "key", "BEGIN"])
def test_user_data_has_no_secret(word):
    assert word not in template(publish="com.inaccel.xgboost.exact", key_name="admin").user_data()


fpga_types = st.sampled_from([name for name in TYPES if name.startswith(("f1.", "f2.", "vt1."))])
general_types = st.sampled_from([name for name, one in TYPES.items() if one.memory >= 8192])
label_keys = st.from_regex(r"\A[a-z]{1,8}(\.org)?/[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?\Z")
label_values = st.from_regex(r"\A([A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?)?\Z")
pools = st.fixed_dictionaries(
    {
        "instance_type": fpga_types | general_types,
        "labels": st.dictionaries(label_keys, label_values, max_size=4),
        "taints": st.dictionaries(label_keys, st.tuples(label_values, st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"])), max_size=3).map(
            lambda taints: [f"{key}={value}:{effect}" for key, (value, effect) in taints.items()]
        ),
        "tags": st.dictionaries(st.text("abc-_ ", min_size=1, max_size=127), st.text("abc /:", max_size=256), max_size=20),
        "root_volume": st.fixed_dictionaries({"size": st.integers(8, 2000)}),
        "dedicated": st.none() | st.booleans(),
        "allow_retired": st.just(True),
        "memory_overhead_percent": st.integers(0, 20),
    },
    optional={"resources": st.fixed_dictionaries({}, optional={"cpu": st.just("500m"), "memory": st.just("1Gi"), "pods": st.integers(10, 120)})},
)


@given(pools)
def test_the_four_renderings_agree(declared):
    made = template(declared)
    expected = made.expected()
    promised = {name: Quantity.parse(value) for name, value in expected["resources"].items()}
    taints = {tuple(re.fullmatch(r"(.*)=(.*):(.*)", taint).groups()) for taint in expected["taints"]}
    # (a) what the autoscaler thinks
    assert autoscaler_reads(made.autoscaling_tags()) == (expected["labels"], taints, promised)
    # (b) what the instance gets
    files, _commands = cloud_init_reads(made.user_data())
    node = json.loads(files[NODE_FILE])
    assert node == made.node()
    assert node_violations(node) == []
    # (c) and (d) what its kubelet then reports
    capacity = capacity_of(TYPES[declared["instance_type"]], declared["root_volume"]["size"], 1 - Decimal(declared["memory_overhead_percent"]) / 100)
    labels, registered, allocatable = kubelet_reports(node, capacity, devices_of(made))
    assert (labels, allocatable) == (expected["labels"], promised)
    startup = {("startup-taint.cluster-autoscaler.kubernetes.io/fpga", "", "NoSchedule")}
    assert registered == taints | (startup if devices_of(made) else set())


@given(pools)
def test_tags_and_user_data_stay_within_aws_limits(declared):
    made = template(declared)
    tags = made.group_tags(propagate_own=False)
    assert len({tag.key for tag in tags}) == len(tags) <= 50
    assert all(0 < len(tag.key) <= 127 and len(tag.value) <= 256 for tag in tags)
    assert len(made.user_data().encode()) <= USER_DATA_LIMIT


@given(pools, st.integers(0, 64 * 1024))
def test_a_pod_one_mebibyte_too_big_fits_neither_the_template_nor_the_node(declared, more_memory):
    """However much more memory the instance turns out to have, allocatable is what was promised, so it never changes."""
    made = template(declared)
    one = TYPES[declared["instance_type"]]
    capacity = capacity_of(one, declared["root_volume"]["size"], 1 - Decimal(declared["memory_overhead_percent"]) / 100)
    capacity["memory"] = capacity["memory"] + Quantity.mebibytes(more_memory)
    _labels, _taints, allocatable = kubelet_reports(made.node(), capacity, devices_of(made))
    too_big = made.resources["memory"] + Quantity.mebibytes(1)
    assert allocatable["memory"] < too_big
    assert allocatable["memory"] == made.resources["memory"] < Quantity.mebibytes(one.memory)


# --- the kubelet


def test_a_node_with_less_than_promised_fails_with_both_figures():
    made = template()
    capacity = {**capacity_of(TYPES["f2.12xlarge"], 80), "memory": Quantity.mebibytes(480000)}
    with pytest.raises(TemplateError) as caught:
        kubelet_configuration(made.node(), capacity)
    assert "pool f2 promises. memory: 480000Mi found, 484966Mi needed for the 483145Mi that the template promises." in str(caught.value)


def test_the_declared_reservation_is_never_undercut():
    made = template(reserved={"system": {"memory": "2Gi"}})
    exact = capacity_of(TYPES["f2.12xlarge"], 80)
    assert kubelet_configuration(made.node(), exact)["systemReserved"]["memory"] == "2Gi"
    with pytest.raises(TemplateError, match="memory: "):
        kubelet_configuration(made.node(), {**exact, "memory": exact["memory"] - Quantity.bytes(1)})


def test_on_prem_nothing_is_promised_and_only_taints_are_set():
    node = {"labels": {}, "taints": ["a=b:NoExecute"], "startup_taints": [], "resources": {}, "reserved": {}, "pool": None}
    assert kubelet_configuration(node, {}) == {"registerWithTaints": [{"key": "a", "value": "b", "effect": "NoExecute"}]}
    assert kubelet_arguments(node) == {}


def test_eviction_by_percent_is_reckoned_in_single_precision_as_the_kubelet_does():
    assert eviction_reservation("ephemeral-storage", EVICTION_HARD, Quantity.bytes(84012367872)).value == int(84012367872 * 0.10000000149011612)
    assert eviction_reservation("memory", EVICTION_HARD, Quantity.bytes(1)) == Quantity.parse("100Mi")
    assert eviction_reservation("cpu", EVICTION_HARD, Quantity.of(4)).nanos == 0


def test_a_node_is_told_how_long_it_waits_for_its_cluster_only_where_that_is_not_the_default():
    """Images from before the key was known refuse it; and pools that say nothing keep their launch templates as they are."""
    assert "orphan_timeout" not in template().node()["aws"]
    assert "orphan_timeout" not in template(cluster={"orphan_timeout": {"idle": "60m", "busy": "4h"}}).node()["aws"]
    node = template(cluster={"orphan_timeout": {"idle": "40s", "busy": "1h30m"}}).node()
    assert node["aws"]["orphan_timeout"] == {"idle": 40, "busy": 5400}
    assert node_violations(node) == []
    node["aws"]["orphan_timeout"]["idle"] = "40s"
    assert node_violations(node) == ["aws.orphan_timeout.idle: found '40s', expected integer"]
