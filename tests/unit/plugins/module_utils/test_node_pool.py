# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the declaration: what a pool means, and what is said of each mistake."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import (
    POOL_KEYS,
    Mixed,
    PoolError,
    RootVolume,
    Spot,
    is_image_id,
    parse_accelerators,
    parse_cluster,
    parse_pools,
)

POOL = {"name": "f2", "instance_type": "f2.6xlarge", "max_size": 2, "availability_zones": ["us-east-1a"]}
CLUSTER = {"name": "lab", "id": "6b1f0f5e", "kubernetes_version": "1.36.3", "region": "us-east-1"}


def parsed(**more):
    (pool,) = parse_pools([{**POOL, **more}], "lab")
    return pool


def complaint(pools):
    with pytest.raises(PoolError) as caught:
        parse_pools(pools, "lab")
    return str(caught.value)


def test_a_short_declaration_gets_the_defaults():
    pool = parsed()
    assert (pool.group_name, pool.min_size, pool.kind, pool.publish, pool.dedicated) == ("lab-f2", 0, "launch_template", None, None)
    assert (pool.root_volume, pool.memory_overhead_percent) == (RootVolume(80, "gp3"), Decimal("7.5"))
    assert pool.instance_types == ("f2.6xlarge",)


def test_numbers_may_come_as_text_from_the_command_line():
    assert (parsed(min_size="1", max_size="3").min_size, parsed(max_size="3").max_size) == (1, 3)


@pytest.mark.parametrize(
    ("declared", "spot"), [(True, Spot()), (False, None), ({"max_price": 1.25}, Spot("1.25")), ({"max_price": "0.9"}, Spot("0.9")), ({}, Spot())]
)
def test_spot_is_a_yes_or_a_price(declared, spot):
    assert parsed(spot=declared).spot == spot


def test_mixed_types_follow_the_pool_s_own_type():
    pool = parsed(mixed={"instance_types": ["f2.48xlarge", "f2.6xlarge"], "on_demand_base": 1})
    assert pool.instance_types == ("f2.6xlarge", "f2.48xlarge")
    assert pool.mixed == Mixed(("f2.48xlarge", "f2.6xlarge"), on_demand_base=1)


def test_removing_a_pool_needs_its_name_only():
    (pool,) = parse_pools([{"name": "f2", "instance_type": 4, "max_size": "many"}], "lab", names_only=True)
    assert pool.group_name == "lab-f2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_sise": 2}, "pool f2, max_sise: no such key; expected one of name, group_name,"),
        ({"max_sise": 2}, "Did you mean max_size?"),
        ({"name": "-f2"}, "pool -f2, name: found '-f2'; expected at most 63 letters"),
        ({"group_name": "a"}, "pool f2, group_name: found 'a'; expected 3 to 128 letters"),
        ({"group_name": "my group"}, "pool f2, group_name: found 'my group'"),
        ({"instance_type": None}, "pool f2, instance_type: found nothing; expected an instance type"),
        ({"instance_type": "f2"}, "pool f2, instance_type: found 'f2'"),
        ({"max_size": None}, "pool f2, max_size: found nothing"),
        ({"max_size": -1}, "pool f2, max_size: found -1; expected a whole number, 0 or more"),
        ({"max_size": "many"}, "pool f2, max_size: found 'many'"),
        ({"min_size": True}, "pool f2, min_size: found True"),
        ({"min_size": 3}, "pool f2, max_size: found 2; expected at least min_size, 3"),
        ({"labels": {"a b": "x"}}, "pool f2, labels.a b: found 'x'; expected a Kubernetes label"),
        ({"labels": {"rack": 4}}, "pool f2, labels.rack: found 4; expected a Kubernetes label"),
        ({"labels": {"rack": "x" * 64}}, "pool f2, labels.rack: found"),
        ({"labels": ["rack"]}, "pool f2, labels: found ['rack']; expected a mapping"),
        ({"labels": {"node-role.kubernetes.io/worker": ""}}, "pool f2, labels.node-role.kubernetes.io/worker: node-role.kubernetes.io/worker lies in"),
        ({"labels": {"fpga.hybrid/pool": "other"}}, "pool f2, labels.fpga.hybrid/pool: found 'other'; expected the pool's name, f2"),
        ({"taints": ["fpga"]}, "pool f2, taints: 'fpga'"),
        ({"taints": "fpga=:NoSchedule"}, "pool f2, taints: found 'fpga=:NoSchedule'; expected a list"),
        ({"taints": ["a=:NoSchedule", "a=:NoExecute"]}, "pool f2, taints: a stands there twice"),
        ({"resources": {"cpu": "4x"}}, "pool f2, resources.cpu: '4x' is no quantity"),
        ({"resources": {"memory": "-1Gi"}}, "pool f2, resources.memory: found -1Gi"),
        ({"resources": {"pods": "1.5"}}, "pool f2, resources.pods: found 1500m; expected a whole number"),
        ({"resources": {"example.org/card": "500m"}}, "pool f2, resources.example.org/card: found 500m"),
        ({"resources": {"gpu": 1}}, "pool f2, resources.gpu: no such resource"),
        ({"resources": {"kubernetes.io/gpu": 1}}, "pool f2, resources.kubernetes.io/gpu: no such resource"),
        ({"reserved": {"pods": {}}}, "pool f2, reserved.pods: no such key"),
        ({"reserved": {"kube": {"pods": 1}}}, "pool f2, reserved.kube.pods: nothing that can be reserved"),
        ({"reserved": {"kube": {"cpu": "x"}}}, "pool f2, reserved.kube.cpu: 'x' is no quantity"),
        ({"memory_overhead_percent": 100}, "pool f2, memory_overhead_percent: found 100; expected a number from 0 to less than 100"),
        ({"memory_overhead_percent": "lots"}, "pool f2, memory_overhead_percent: found 'lots'"),
        ({"subnets": ["subnet-0123456789abcdef0"]}, "pool f2, subnets: found both; expected one of subnets and availability_zones"),
        ({"availability_zones": []}, "pool f2, subnets: found neither"),
        ({"availability_zones": "us-east-1a"}, "pool f2, availability_zones: found 'us-east-1a'; expected a list of"),
        ({"availability_zones": ["us-east-1a", "us-east-1a"]}, "pool f2, availability_zones: us-east-1a stands there twice"),
        ({"subnets": ["net-1"]}, "pool f2, subnets: found 'net-1'"),
        ({"security_groups": ["default"]}, "pool f2, security_groups: found 'default'; expected ids of security groups"),
        ({"root_volume": {"size": 0}}, "pool f2, root_volume.size: found 0"),
        ({"root_volume": {"encrypted": False}}, "pool f2, root_volume.encrypted: no such key"),
        ({"root_volume": {"type": "st1"}}, "pool f2, root_volume.type: found 'st1'"),
        ({"root_volume": {"device": "sda1"}}, "pool f2, root_volume.device: found 'sda1'"),
        ({"root_volume": 80}, "pool f2, root_volume: found 80; expected a mapping"),
        ({"spot": "yes"}, "pool f2, spot: found 'yes'; expected a mapping"),
        ({"spot": {"max_price": "cheap"}}, "pool f2, spot.max_price: found 'cheap'"),
        ({"mixed": {"spot_strategy": "best"}}, "pool f2, mixed.spot_strategy: found 'best'"),
        ({"mixed": {"on_demand_percentage": 101}}, "pool f2, mixed.on_demand_percentage: found 101"),
        ({"kind": "fleet"}, "pool f2, kind: found 'fleet'; expected one of launch_template, launch_configuration"),
        ({"kind": "launch_configuration"}, "pool f2, kind: found launch_configuration for f2.6xlarge; expected launch_template"),
        ({"kind": "launch_configuration", "instance_type": "f1.2xlarge", "mixed": {}}, "pool f2, mixed: found it beside kind"),
        ({"kind": "launch_configuration", "instance_type": "f1.2xlarge", "spot": True}, "pool f2, spot: found no max_price"),
        ({"kind": "launch_configuration", "instance_type": "f1.2xlarge", "image": "resolve:ssm:/x"}, "pool f2, image: found 'resolve:ssm:/x'"),
        ({"tags": {"x" * 128: "v"}}, "a key of 128 characters; expected 1 to 127"),
        ({"tags": {"": "v"}}, "a key of 0 characters"),
        ({"tags": {"team": "x" * 257}}, "pool f2, tags.team: a value of 257 characters; expected at most 256"),
        ({"tags": {"team": 4}}, "pool f2, tags.team: found 4; expected a text"),
        ({"tags": {"team": "a\nb"}}, "pool f2, tags.team: a character that cannot be printed"),
        ({"tags": {"AWS:x": "v"}}, "pool f2, tags.AWS:x: a prefix that is AWS' own"),
        ({"tags": {"fpga.hybrid/pool": "v"}}, "pool f2, tags.fpga.hybrid/pool: a tag that is ours"),
        ({"tags": {"k8s.io/cluster-autoscaler/enabled": "no"}}, "pool f2, tags.k8s.io/cluster-autoscaler/enabled: a tag that is ours"),
        ({"dedicated": "yes"}, "pool f2, dedicated: found 'yes'; expected true or false"),
        ({"price_per_hour": -1}, "pool f2, price_per_hour: found -1"),
    ],
)
def test_a_mistake_is_told_with_pool_and_key(change, said):
    assert said in complaint([{**POOL, **change}])


def test_all_mistakes_of_all_pools_are_told_at_once():
    text = complaint([{**POOL, "max_size": -1}, {**POOL, "name": "other", "labels": {"a b": "x"}}, "f2"])
    assert [line.partition(";")[0] for line in text.splitlines()] == [
        "- pools[2]: found 'f2'",
        "- pool f2, max_size: found -1",
        "- pool other, labels.a b: found 'x'",
    ]


def test_two_pools_of_one_name_are_refused():
    assert "pool f2, name: f2 is that of another pool too" in complaint([POOL, POOL])


def test_two_pools_with_one_group_are_refused_by_both_names():
    said = complaint([POOL, {**POOL, "name": "other", "group_name": "lab-f2"}])
    assert said.startswith("pool other, group_name: lab-f2 is that of pool f2 too; expected a name of its own")


def test_a_cluster_name_that_makes_the_group_s_too_long_is_told_at_the_pool():
    with pytest.raises(PoolError, match="Give the pool a group_name"):
        parse_pools([{**POOL, "name": "x" * 63}], "y" * 66)


@pytest.mark.parametrize("declared", [None, "f2", {"f2": {}}])
def test_pools_that_are_no_list_are_refused(declared):
    assert complaint(declared).startswith("pools: found ")


def test_options_of_the_autoscaler_are_tags_that_a_user_may_give():
    key = "k8s.io/cluster-autoscaler/node-template/autoscaling-options/scaledownunneededtime"
    assert parsed(tags={key: "5m"}).tags == {key: "5m"}


junk = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.lists(st.text(max_size=3), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)


@given(st.dictionaries(st.sampled_from(POOL_KEYS), junk))
def test_no_declaration_whatever_ends_in_a_traceback(declared):
    problems = []
    try:
        parse_pools([{**POOL, **declared}], "lab")
    except PoolError as error:
        problems = error.problems
    assert all(problem.host.startswith("pool ") and problem.remedy for problem in problems)


# --- cluster and catalogue


def test_a_cluster_gets_defaults_from_its_name():
    cluster = parse_cluster(CLUSTER)
    assert (cluster.ssm_prefix, cluster.minor, cluster.owned_tag) == ("/fpga-hybrid/lab", "1.36", "k8s.io/cluster-autoscaler/lab")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": ""}, "cluster.id: found nothing; expected the cluster's id, from /etc/fpga-hybrid/cluster.json"),
        ({"region": "us-east-1a"}, "cluster.region: found 'us-east-1a'"),
        ({"kubernetes_version": "newest"}, "cluster.kubernetes_version: found 'newest'"),
        ({"vpn_mtu": 100}, "cluster.vpn_mtu: found 100"),
        ({"images": {"f2": {"us-east-1": "debian"}}}, "cluster.images.f2: found {'us-east-1': 'debian'}"),
        ({"endpoint_url": "moto"}, "cluster.endpoint_url: found 'moto'"),
        ({"ssm_prefix": "lab"}, "cluster.ssm_prefix: found 'lab'"),
        ({"orphan_timeout": {"idle": "soon", "busy": "4h"}}, "cluster.orphan_timeout.idle: found 'soon'; expected a duration"),
        ({"orphan_timeout": "1h"}, "cluster.orphan_timeout: found '1h'; expected a mapping with idle and busy"),
        ({"vpc": "x"}, "cluster.vpc: no such key"),
    ],
)
def test_a_mistake_in_the_cluster_is_told_by_its_key(change, said):
    with pytest.raises(PoolError) as caught:
        parse_cluster({**CLUSTER, **change})
    assert said in str(caught.value)


@pytest.mark.parametrize("version", ["1.36", "1.36.3", "v1.36.3"])
def test_the_minor_is_what_images_are_named_after(version):
    assert parse_cluster({**CLUSTER, "kubernetes_version": version}).minor == "1.36"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({}, "cluster_accelerators['x'].resource: found nothing"),
        ({"resource": "adder", "replicas": {"u250": 1}}, "cluster_accelerators['x'].resource: found 'adder'"),
        ({"resource": "a/b"}, "cluster_accelerators['x'].replicas: found nothing"),
        ({"resource": "a/b", "replicas": {"u250": 0}}, "cluster_accelerators['x'].replicas.u250: found 0"),
        ({"resource": "a/b", "replicas": {"u250": 1}, "images": {"u250": "agfi"}}, "cluster_accelerators['x'].images.u250: found 'agfi'"),
        ({"resource": "a/b", "replicas": {"u250": 1}, "shared": "no"}, "cluster_accelerators['x'].shared: found 'no'"),
        ({"resource": "a/b", "replicas": {"u250": 1}, "bitstream": "x"}, "cluster_accelerators['x'].bitstream: no such key"),
    ],
)
def test_a_mistake_in_the_catalogue_is_told_by_its_entry(entry, said):
    with pytest.raises(PoolError) as caught:
        parse_accelerators({"x": entry})
    assert said in str(caught.value)


def test_an_accelerator_may_not_be_called_like_a_way_of_publishing():
    with pytest.raises(PoolError, match="boards has a meaning of its own"):
        parse_accelerators({"boards": {"resource": "a/b", "replicas": {"u250": 1}}})


def test_no_catalogue_is_an_empty_one():
    assert parse_accelerators(None) == {}
    with pytest.raises(PoolError, match="expected a mapping"):
        parse_accelerators([])


@pytest.mark.parametrize(("image", "is_id"), [("ami-0123456789abcdef0", True), ("resolve:ssm:/aws/service/x", True), ("f2", False), ("ami-x", False)])
def test_images_are_ids_or_names(image, is_id):
    assert is_image_id(image) == is_id
