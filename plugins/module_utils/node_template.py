# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node template: what a node of a pool will be to the scheduler, before any exists.

One function, make_template, turns a pool into it. From it, and from nothing else, come the group's tags, the user-data with node.json, the kubelet's
arguments and reservations, and what verify expects of the live node. Pure: no AWS, no host.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import BOARDS as BOARDS_OF_DEVICES
from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import InstanceType, UnknownDeviceError, board_resource
from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint
from ansible_collections.fpga.hybrid.plugins.module_utils._node import FPGA_STACK, NODE_FILE, ORPHAN_TIMEOUT, RESERVABLE, eviction_reservation
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import (
    AUTOSCALER_TAG_PREFIX,
    BOARDS,
    CLUSTER_ID_TAG,
    DECLARED_TAG,
    NATIVE_RESOURCES,
    NOTHING,
    POOL_LABEL,
    POOL_TAG,
    TAG_KEY_LENGTH,
    TAG_VALUE_LENGTH,
    TAGS_PER_GROUP,
    Accelerator,
    Cluster,
    Pool,
    PoolError,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem
from ansible_collections.fpga.hybrid.plugins.module_utils._quantity import BINARY, Quantity

#: cluster-autoscaler/cloudprovider/aws/README.md, "Auto-Discovery Setup".
TEMPLATE_TAG_PREFIX = f"{AUTOSCALER_TAG_PREFIX}node-template/"
ENABLED_TAG = f"{AUTOSCALER_TAG_PREFIX}enabled"

DEDICATED_TAINT = Taint("fpga.hybrid/fpga", "", "NoSchedule")
#: Known to the kubelet only. The autoscaler takes nodes with a taint of this prefix for not ready yet, without being told (its FAQ);
#: in a group's tags it would keep every pod from ever fitting.
STARTUP_TAINT = Taint("startup-taint.cluster-autoscaler.kubernetes.io/fpga", "", "NoSchedule")

INSTANCE_TYPE_LABEL = "node.kubernetes.io/instance-type"
REGION_LABEL, ZONE_LABEL = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"

#: The kubelet's own default, and the autoscaler's for every AWS node.
PODS = 110
#: The kubelet's own (pkg/kubelet/eviction/defaults_linux.go), written out because a node's allocatable depends on the first two.
EVICTION_HARD = {"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%", "imagefs.available": "15%", "imagefs.inodesFree": "5%"}
#: Of a root volume, the partitions beside the root (Ubuntu's /boot and EFI take just under 1 GiB), and what ext4 keeps for itself: its tables and
#: journal take 2.1 to 2.8 % of 8 to 200 GiB (mke2fs 1.47, defaults).
BOOT_PARTITIONS_MIB, FILESYSTEM_PERCENT = 1024, 3
#: For sshd, the container runtime, the VPN client, the device plugin. What is left of the promise goes here as well (kubelet_configuration).
SYSTEM_RESERVED = {"cpu": Quantity.milli(100), "memory": Quantity.mebibytes(256), "ephemeral-storage": Quantity.mebibytes(1024)}

BOOTSTRAP_UNIT = "fpga-hybrid-bootstrap.service"
#: EC2: 16 KB before base64.
USER_DATA_LIMIT = 16384
#: 256 characters hold 42, more than the user's own that a group of ours has room for.
TAG_MARK_LENGTH = 6


@dataclass(frozen=True)
class GroupTag:
    key: str
    value: str
    propagate: bool


@dataclass(frozen=True)
class NodeTemplate:
    """What a node of a pool will look like to the scheduler.

    resources are *allocatable* quantities as the kubelet will report them. reserved: kube and system (quantities) and eviction_hard (thresholds).
    fpga: what the device plugin is told, None where nothing is published. tags: the pool's own.
    """

    pool: str
    cluster: Cluster
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    startup_taints: tuple[Taint, ...]
    resources: Mapping[str, Quantity]
    reserved: Mapping[str, Mapping[str, str]]
    fpga: Mapping[str, Any] | None
    tags: Mapping[str, str]
    propagate_template_tags: bool = False

    def autoscaling_tags(self) -> dict[str, str]:
        """Tags from which the Cluster Autoscaler finds the group and builds its template."""
        return {
            self.cluster.owned_tag: "owned",
            **{f"{TEMPLATE_TAG_PREFIX}label/{key}": value for key, value in self.labels.items()},
            **{f"{TEMPLATE_TAG_PREFIX}taint/{taint.key}": f"{taint.value}:{taint.effect}" for taint in self.taints},
            **{f"{TEMPLATE_TAG_PREFIX}resources/{name}": str(quantity) for name, quantity in self.resources.items()},
            ENABLED_TAG: "true",
        }

    def group_tags(self, *, propagate_own: bool) -> tuple[GroupTag, ...]:
        """All tags of the group. Whose it is comes first, what makes the autoscaler look at it last: a group with many tags is not made at once.

        propagate_own: instances get the pool's own tags from the group, because their launch configuration cannot give them.
        """
        autoscaler = {key: GroupTag(key, value, self.propagate_template_tags) for key, value in self.autoscaling_tags().items()}
        identity = [GroupTag(CLUSTER_ID_TAG, self.cluster.id, propagate=True), GroupTag(POOL_TAG, self.pool, propagate=True)]
        own = [GroupTag(key, value, propagate_own) for key, value in self.tags.items()]
        if own:
            identity.append(GroupTag(DECLARED_TAG, "".join(map(tag_mark, self.tags)), propagate=False))
        return (*identity, autoscaler.pop(self.cluster.owned_tag), *own, *autoscaler.values())

    def instance_tags(self) -> dict[str, str]:
        """Of instances, volumes and network interfaces: whose they are, and what the user tells the bill by."""
        return {CLUSTER_ID_TAG: self.cluster.id, POOL_TAG: self.pool, **self.tags}

    def node(self) -> dict[str, Any]:
        """Content of node.json."""
        return {
            "schema": 1,
            "cluster_name": self.cluster.name,
            "cluster_id": self.cluster.id,
            "pool": self.pool,
            "labels": dict(self.labels),
            "taints": [str(taint) for taint in self.taints],
            "startup_taints": [str(taint) for taint in self.startup_taints],
            "resources": {name: str(quantity) for name, quantity in self.resources.items()},
            "reserved": {kind: dict(values) for kind, values in self.reserved.items()},
            "provider_id": None,
            "vpn": {"backend": self.cluster.vpn_backend, "mtu": self.cluster.vpn_mtu},
            "aws": {
                "region": self.cluster.region,
                "ssm_prefix": self.cluster.ssm_prefix,
                "endpoint_url": self.cluster.endpoint_url,
                **({"orphan_timeout": dict(self.cluster.orphan_timeout)} if self.cluster.orphan_timeout != ORPHAN_TIMEOUT else {}),
            },
            "ignore_preflight": list(self.cluster.ignore_preflight),
            "fpga": dict(self.fpga) if self.fpga else None,
        }

    def user_data(self) -> str:
        """cloud-init writes node.json and starts bootstrap. Names where secrets will be, and holds none."""
        document = json.dumps(self.node(), indent=2, sort_keys=True).replace("\n", "\n      ")
        return (
            "#cloud-config\n"
            "write_files:\n"
            f"  - path: {NODE_FILE}\n"
            "    owner: root:root\n"
            '    permissions: "0644"\n'
            "    content: |\n"
            f"      {document}\n"
            "runcmd:\n"
            f"  - [systemctl, start, --no-block, {BOOTSTRAP_UNIT}]\n"
        )

    def expected(self) -> dict[str, Any]:
        """What the live node has to show, once its startup taints are gone. Extended resources exactly, the others at least."""
        return {
            "labels": dict(self.labels),
            "taints": [str(taint) for taint in self.taints],
            "resources": {name: str(quantity) for name, quantity in self.resources.items()},
        }


def tag_mark(key: str) -> str:
    """A tag's key in DECLARED_TAG: the names themselves would not find room, marks of as many as a group can have do."""
    return hashlib.sha256(key.encode()).hexdigest()[:TAG_MARK_LENGTH]


# --- from the pool to the template ----------------------------------------------------------------------------------------------------------------


def make_template(pool: Pool, cluster: Cluster, types: Mapping[str, InstanceType], accelerators: Mapping[str, Accelerator]) -> NodeTemplate:
    """The template of a pool, or PoolError with everything that speaks against it. types: those of the pool, by name."""
    problems = list(_type_problems(pool, cluster, types))
    if problems:
        raise PoolError(problems)
    own = [types[name] for name in pool.instance_types]
    published, fpga = _published(pool, cluster, own, accelerators, problems)
    reserved = _reserved(pool, min(one.vcpus for one in own))
    template = NodeTemplate(
        pool=pool.name,
        cluster=cluster,
        labels=_labels(pool, cluster),
        taints=_taints(pool, bool(fpga), problems),
        startup_taints=(STARTUP_TAINT,) if fpga else (),
        resources={**_native(pool, own, reserved, problems), **published, **_further(pool, published, problems)},
        reserved={**{kind: {name: str(value) for name, value in values.items()} for kind, values in reserved.items()}, "eviction_hard": EVICTION_HARD},
        fpga=fpga,
        tags=pool.tags,
        propagate_template_tags=pool.propagate_template_tags,
    )
    problems += _limit_problems(pool, template)
    if problems:
        raise PoolError(problems)
    return template


def _type_problems(pool: Pool, cluster: Cluster, types: Mapping[str, InstanceType]) -> Iterator[Problem]:
    for name in pool.instance_types:
        variable = "instance_type" if name == pool.instance_type else "mixed.instance_types"
        one = types.get(name)
        if one is None:
            yield pool.problem(variable, f"found {name}, which AWS doesn't know in {cluster.region}", "an instance type of that region", "Mend the name.")
        elif one.retired and not pool.allow_retired:
            yield pool.problem(
                variable,
                f"found {name}, which AWS ended on {one.retired}",
                "a type that can be started",
                "Take its successor, or set allow_retired: true to have the group all the same.",
            )
    known = [types[name] for name in pool.instance_types if name in types]
    if len({(one.architecture, one.devices) for one in known}) > 1:
        kinds = (f"{one.name} ({', '.join([one.architecture, *(f'{d.count} x {d.name}' for d in one.devices)])})" for one in known)
        expected = "the same FPGAs and architecture in all, since a group has one template and one image"
        yield pool.problem("mixed.instance_types", f"found {', '.join(kinds)}", expected, "Make a pool for each.")


def _labels(pool: Pool, cluster: Cluster) -> dict[str, str]:
    """Zone and type where all nodes have the same; else each node finds its own."""
    same_type = {INSTANCE_TYPE_LABEL: pool.instance_type} if len(pool.instance_types) == 1 else {}
    same_zone = {ZONE_LABEL: pool.availability_zones[0]} if len(pool.availability_zones) == 1 else {}
    return {POOL_LABEL: pool.name, **same_type, REGION_LABEL: cluster.region, **same_zone, **pool.labels}


def _taints(pool: Pool, publishes: bool, problems: list[Problem]) -> tuple[Taint, ...]:
    dedicated = publishes if pool.dedicated is None else pool.dedicated
    set_anyway = (STARTUP_TAINT.key, *((DEDICATED_TAINT.key,) if dedicated else ()))
    problems += [
        pool.problem("taints", f"found {taint}", "none of the taints that are set anyway", "Take it out.") for taint in pool.taints if taint.key in set_anyway
    ]
    return (*((DEDICATED_TAINT,) if dedicated else ()), *pool.taints)


def _published(
    pool: Pool, cluster: Cluster, types: Sequence[InstanceType], accelerators: Mapping[str, Accelerator], problems: list[Problem]
) -> tuple[dict[str, Quantity], dict[str, Any] | None]:
    """Extended resources of a node, and what its device plugin is told. All types have the same boards."""
    first = types[0]
    try:
        boards = {} if pool.publish == NOTHING else first.boards()
    except UnknownDeviceError as error:
        found = f"{first.name} has {error}, for which there is no board"
        remedy = f"Set publish: {NOTHING} and let a device plugin of yours publish it."
        problems.append(pool.problem("publish", found, f"one of {', '.join(BOARDS_OF_DEVICES)}", remedy))
        return {}, None
    publish = pool.publish or (BOARDS if boards else NOTHING)
    if publish == NOTHING:
        return {}, None
    if not boards:
        problems.append(
            pool.problem("publish", f"found {publish}, but {first.name} has no FPGA", "a type with FPGAs", "Take another type, or take publish out.")
        )
        return {}, None
    if publish == BOARDS:
        resources = {board_resource(board): Quantity.of(count) for board, count in boards.items()}
        return resources, fpga_section(dict.fromkeys(boards, BOARDS), {board: board_resource(board) for board in boards})
    accelerator = accelerators.get(publish)
    if accelerator is None:
        known = ", ".join([BOARDS, NOTHING, *accelerators])
        problems.append(pool.problem("publish", f"found {publish!r}", f"one of {known}", "Mend the name, or add it to cluster_accelerators."))
        return {}, None
    return _accelerator(pool, cluster, accelerator, boards, problems)


def _accelerator(
    pool: Pool, cluster: Cluster, accelerator: Accelerator, boards: Mapping[str, int], problems: list[Problem]
) -> tuple[dict[str, Quantity], dict[str, Any] | None]:
    name, entry = accelerator.name, f"cluster_accelerators['{accelerator.name}']"
    images: dict[str, str] = {}
    for board in boards:
        if board not in accelerator.replicas:
            found = f"accelerator {name} fits no {board}, which {pool.instance_type} has (it fits: {', '.join(accelerator.replicas)})"
            problems.append(pool.problem("publish", found, "an accelerator for the board", f"Add {entry}.replicas['{board}'], or publish something else."))
            continue
        offered = accelerator.images.get(board, {})
        if cluster.region in offered:
            images[board] = offered[cluster.region]
        elif board.startswith("aws-"):
            found = f"accelerator {name} has no image for {cluster.region} (it has: {', '.join(offered) or 'none'})"
            remedy = f"Add {entry}.images['{board}']['{cluster.region}'], or take {cluster.region} out of the pool."
            problems.append(pool.problem("publish", found, f"an image that can be loaded on {board} there", remedy))
    copies = sum(accelerator.replicas.get(board, 0) * count for board, count in boards.items())
    return {accelerator.resource: Quantity.of(copies)}, fpga_section(
        dict.fromkeys(boards, name),
        {name: accelerator.resource},
        replicas={name: {board: accelerator.replicas[board] for board in boards if board in accelerator.replicas}},
        images={name: images},
        shared={name: accelerator.shared},
    )


def fpga_section(publish: Mapping[str, str], resources: Mapping[str, str], **accelerators: Mapping[str, Any]) -> dict[str, Any]:
    """Section fpga of node.json: board -> what it is published as; that (board or accelerator) -> resource name; accelerator -> the rest."""
    return {"stack": FPGA_STACK, "publish": publish, "resources": resources, "replicas": {}, "images": {}, "shared": {}, **accelerators}


# --- resources ----------------------------------------------------------------------------------------------------------------------------------


def kube_reserved(vcpus: int, pods: int) -> dict[str, Quantity]:
    """What kubelet and runtime need. Source: EKS' nodeadm (internal/kubelet/config.go): CPU by GKE's table, memory by the number of pods."""
    millicores = sum(share * max(0, min(vcpus, upto) - above) for above, upto, share in ((0, 1, 60), (1, 2, 10), (2, 4, 5), (4, vcpus, 2.5)))
    return {"cpu": Quantity.milli(int(-(-millicores // 1))), "memory": Quantity.mebibytes(11 * pods + 255), "ephemeral-storage": Quantity.mebibytes(1024)}


def _reserved(pool: Pool, vcpus: int) -> dict[str, dict[str, Quantity]]:
    pods = pool.resources.get("pods", Quantity.of(PODS)).value
    return {
        "kube": {**kube_reserved(vcpus, pods), **pool.reserved.get("kube", {})},
        "system": {**SYSTEM_RESERVED, **pool.reserved.get("system", {})},
    }


def _native(pool: Pool, types: Sequence[InstanceType], reserved: Mapping[str, Mapping[str, Quantity]], problems: list[Problem]) -> dict[str, Quantity]:
    """cpu, memory, pods and ephemeral-storage that the smallest of the types can surely give.

    memory_overhead_percent: of the memory that AWS names, an instance's hypervisor, firmware and kernel keep a share that AWS does not publish.
    7.5 % is what Karpenter takes as the share that no known type and image exceeds (its VM_MEMORY_OVERHEAD_PERCENT;
    https://github.com/aws/karpenter-provider-aws/issues/7929). What a node turns out to have more goes into its system reservation.
    """
    memory, cores = min(one.memory for one in types), min(one.vcpus for one in types)
    volume = pool.root_volume.size * 1024
    root = max(0, volume - BOOT_PARTITIONS_MIB) * (100 - FILESYSTEM_PERCENT) // 100
    usable = int(memory * (100 - pool.memory_overhead_percent) / Decimal(100))
    computed, most = {}, {}
    for name, likely, largest in (
        ("cpu", Quantity.of(cores), Quantity.of(cores)),
        ("memory", Quantity.mebibytes(usable), Quantity.mebibytes(memory)),
        ("ephemeral-storage", Quantity.mebibytes(root), Quantity.mebibytes(volume)),
    ):
        computed[name], most[name] = (_down(each - _held(name, each, reserved)) for each in (likely, largest))
    resources = {**computed, "pods": Quantity.of(PODS), **{name: value for name, value in pool.resources.items() if name in NATIVE_RESOURCES}}
    for name in RESERVABLE:
        if name in pool.resources and resources[name] > most[name]:
            found = f"found {resources[name]}"
            problems.append(pool.problem(f"resources.{name}", found, f"at most {most[name]}: what there is, less what is reserved", "Lower it."))
        elif resources[name].nanos <= 0:
            variable = "root_volume.size" if name == "ephemeral-storage" else "instance_type"
            found = f"{name} of {pool.instance_type} is all reserved" if variable == "instance_type" else f"found {pool.root_volume.size} GiB, all reserved"
            problems.append(pool.problem(variable, found, "something left for pods", "Take more, or reserve less (reserved)."))
    return resources


def _held(name: str, capacity: Quantity, reserved: Mapping[str, Mapping[str, Quantity]]) -> Quantity:
    return reserved["kube"][name] + reserved["system"][name] + eviction_reservation(name, EVICTION_HARD, capacity)


def _down(quantity: Quantity) -> Quantity:
    """Bytes in whole MiB, which people can read."""
    return Quantity.mebibytes(quantity.value // 2**20) if quantity.notation == BINARY else quantity


def _further(pool: Pool, published: Mapping[str, Quantity], problems: list[Problem]) -> dict[str, Quantity]:
    """Resources of device plugins that are not ours."""
    further = {name: value for name, value in pool.resources.items() if name not in NATIVE_RESOURCES}
    for name, quantity in published.items():
        if further.get(name, quantity) != quantity:
            found = f"found {further[name]}, but {pool.instance_type} gives {quantity}"
            problems.append(pool.problem(f"resources.{name}", found, "what the device plugin will report", "Take it out: it is computed."))
    return further


# --- limits -------------------------------------------------------------------------------------------------------------------------------------


def _limit_problems(pool: Pool, template: NodeTemplate) -> Iterator[Problem]:
    tags = template.group_tags(propagate_own=False)
    for tag in tags:
        variable = _variable(tag.key)
        if len(tag.key) > TAG_KEY_LENGTH:
            found = f"it makes the tag {tag.key}, {len(tag.key)} characters"
            yield pool.problem(variable, found, f"at most {TAG_KEY_LENGTH}, AWS' limit for a tag's key", "Shorten the name.")
        if len(tag.value) > TAG_VALUE_LENGTH:
            yield pool.problem(variable, f"a value of {len(tag.value)} characters", f"at most {TAG_VALUE_LENGTH}", "Shorten it.")
    if len(tags) > TAGS_PER_GROUP:
        found = f"{len(tags)} tags in all, {len(tags) - len(template.tags)} of them beside the pool's own"
        yield pool.problem("tags", found, f"at most {TAGS_PER_GROUP}, AWS' limit for a group", "Have fewer tags, labels or taints.")
    size = len(template.user_data().encode())
    if size > USER_DATA_LIMIT:
        yield pool.problem("labels", f"user-data of {size} bytes", f"at most {USER_DATA_LIMIT}, EC2's limit", "Have fewer labels or taints.")


def _variable(tag: str) -> str:
    for kind, variable in (("label", "labels"), ("taint", "taints"), ("resources", "resources")):
        prefix = f"{TEMPLATE_TAG_PREFIX}{kind}/"
        if tag.startswith(prefix):
            return f"{variable}.{tag[len(prefix) :]}"
    return f"tags.{tag}"
