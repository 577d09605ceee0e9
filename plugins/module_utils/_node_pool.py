# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The declaration of node pools and of what they share: cluster and accelerator catalogue. Read and checked here, without asking AWS anything."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _duration
from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint, TaintError, is_extended_resource, is_key, is_value, kubelet_may_set
from ansible_collections.fpga.hybrid.plugins.module_utils._node import ORPHAN_TIMEOUT, RESERVABLE
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem, listing
from ansible_collections.fpga.hybrid.plugins.module_utils._quantity import Quantity, QuantityError

#: Limits of AWS. Tags: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-tagging.html and EC2's own page, which says 127.
TAG_KEY_LENGTH, TAG_VALUE_LENGTH, TAGS_PER_GROUP, TAGS_PER_CALL = 127, 256, 50, 25
#: LaunchTemplateName in EC2's API; a group's own name may be longer, but both are one.
GROUP_NAME = re.compile(r"[A-Za-z0-9().\-/_]{3,128}", re.ASCII)
#: Launch configurations take no instance type released after 2022 (AWS, "Auto Scaling launch configurations").
TOO_NEW_FOR_LAUNCH_CONFIGURATIONS = ("f2",)

#: Ours on groups and instances (CONTRACTS section 1).
CLUSTER_ID_TAG, POOL_TAG = "fpga.hybrid/cluster-id", "fpga.hybrid/pool"
#: On groups: which of the user's tags were declared, so that one that no longer is goes, and nobody else's does.
DECLARED_TAG = "fpga.hybrid/declared-tags"
OWN_TAG_PREFIX = "fpga.hybrid/"
POOL_LABEL = "fpga.hybrid/pool"
AUTOSCALER_TAG_PREFIX = "k8s.io/cluster-autoscaler/"
#: The one kind of the autoscaler's tags that is the user's to give: it says how to treat the group, not what its nodes are.
AUTOSCALER_OPTION_PREFIX = f"{AUTOSCALER_TAG_PREFIX}node-template/autoscaling-options/"

NATIVE_RESOURCES = ("cpu", "memory", "pods", "ephemeral-storage")
#: Seconds. Whoever restarts the control plane is not to lose an instance by it.
SHORTEST_ORPHAN_TIMEOUT = 30
LAUNCH_TEMPLATE, LAUNCH_CONFIGURATION = "launch_template", "launch_configuration"
BOARDS, NOTHING = "boards", "none"

_INSTANCE_TYPE = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+", re.ASCII)
_IMAGE_ID = re.compile(r"ami-[0-9a-f]{8,17}|resolve:ssm:[\w.:/-]+", re.ASCII)
_SUBNET = re.compile(r"subnet-[0-9a-f]{8,17}", re.ASCII)
_SECURITY_GROUP = re.compile(r"sg-[0-9a-f]{8,17}", re.ASCII)
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]+", re.ASCII)
_DEVICE = re.compile(r"/dev/[a-z0-9/]+", re.ASCII)
_CLUSTER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_MINOR = re.compile(r"v?(1\.[0-9]+)(\.[0-9]+)?", re.ASCII)
_SSM_PREFIX = re.compile(r"(/[A-Za-z0-9._-]+)+", re.ASCII)


#: What was found, what was expected, what to do.
Complaint = tuple[str, str, str]


class PoolError(Exception):
    """Everything that is wrong with the declaration, each with the pool and the field."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__(str(self.problems[0]) if len(self.problems) == 1 else listing(self.problems))


def pool_problem(pool: str, variable: str, found: str, expected: str, remedy: str) -> Problem:
    return Problem(f"pool {pool}", variable, found, expected, remedy)


@dataclass(frozen=True)
class RootVolume:
    """size in GiB. device: what the image calls its root; None means that the image is asked. Always encrypted."""

    size: int = 80
    type: str = "gp3"
    iops: int | None = None
    throughput: int | None = None
    kms_key: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class Spot:
    """max_price in dollars an hour; None means up to the on-demand price."""

    max_price: str | None = None


@dataclass(frozen=True)
class Mixed:
    """Further instance types of a group, which must have the same boards as the pool's own. percentage: of on-demand above base."""

    instance_types: tuple[str, ...] = ()
    on_demand_base: int = 0
    on_demand_percentage: int | None = None
    spot_strategy: str = "price-capacity-optimized"


@dataclass(frozen=True)
class Pool:
    """A node pool as declared. publish None: boards, if the instance type has any. dedicated None: if it publishes something."""

    name: str
    group_name: str
    instance_type: str = ""
    min_size: int = 0
    max_size: int = 0
    publish: str | None = None
    dedicated: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    resources: Mapping[str, Quantity] = field(default_factory=dict)
    reserved: Mapping[str, Mapping[str, Quantity]] = field(default_factory=dict)
    memory_overhead_percent: Decimal = Decimal("7.5")
    subnets: tuple[str, ...] = ()
    availability_zones: tuple[str, ...] = ()
    image: str | None = None
    key_name: str | None = None
    root_volume: RootVolume = RootVolume()
    security_groups: tuple[str, ...] = ()
    instance_profile: str | None = None
    spot: Spot | None = None
    mixed: Mixed | None = None
    kind: str = LAUNCH_TEMPLATE
    tags: Mapping[str, str] = field(default_factory=dict)
    propagate_template_tags: bool = False
    price_per_hour: Decimal | None = None
    keep_failed: int = 0
    allow_retired: bool = False

    @property
    def instance_types(self) -> tuple[str, ...]:
        """The pool's own first, as the autoscaler takes the first for its template."""
        return tuple(dict.fromkeys((self.instance_type, *(self.mixed.instance_types if self.mixed else ()))))

    def problem(self, variable: str, found: str, expected: str, remedy: str) -> Problem:
        return pool_problem(self.name, variable, found, expected, remedy)


@dataclass(frozen=True)
class Cluster:
    """What every node of the cluster is told. endpoint_url: where instances reach AWS, None for AWS itself. images: name -> region -> AMI.

    orphan_timeout: seconds, C(idle) and C(busy).
    """

    name: str
    id: str
    kubernetes_version: str
    region: str
    ssm_prefix: str
    vpn_backend: str = "openvpn"
    vpn_mtu: int = 1400
    endpoint_url: str | None = None
    ignore_preflight: tuple[str, ...] = ()
    images: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    orphan_timeout: Mapping[str, int] = field(default_factory=lambda: dict(ORPHAN_TIMEOUT))

    @property
    def minor(self) -> str:
        match = _MINOR.fullmatch(self.kubernetes_version)
        return match[1] if match else self.kubernetes_version

    @property
    def owned_tag(self) -> str:
        return f"{AUTOSCALER_TAG_PREFIX}{self.name}"


@dataclass(frozen=True)
class Accelerator:
    """An entry of C(cluster_accelerators). replicas: board -> copies that fit on one. images: board -> region -> what is loaded."""

    name: str
    resource: str
    replicas: Mapping[str, int]
    images: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    shared: bool = True


POOL_KEYS = (
    "name",
    "group_name",
    "instance_type",
    "min_size",
    "max_size",
    "publish",
    "dedicated",
    "labels",
    "taints",
    "resources",
    "reserved",
    "memory_overhead_percent",
    "subnets",
    "availability_zones",
    "image",
    "key_name",
    "root_volume",
    "security_groups",
    "instance_profile",
    "spot",
    "mixed",
    "kind",
    "tags",
    "propagate_template_tags",
    "price_per_hour",
    "keep_failed",
    "allow_retired",
)


class _Reader:
    """Takes a mapping apart key by key. What is wrong goes to problems, and the default comes back instead."""

    def __init__(self, where: str, declared: object, keys: Sequence[str], problems: list[Problem], path: str = "") -> None:
        self.where, self.path, self._problems = where, path, problems
        self._declared: Mapping[Any, Any] = declared if isinstance(declared, Mapping) else {}
        if declared is not None and not isinstance(declared, Mapping):
            self.wrong("", f"found {declared!r}", f"a mapping with keys out of {', '.join(keys)}", "Write it as one.")
        for key in self._declared:
            if key not in keys:
                near = difflib.get_close_matches(str(key), keys, 1)
                remedy = f"Did you mean {near[0]}?" if near else "Take it out."
                self.wrong(str(key), "no such key", f"one of {', '.join(keys)}", remedy)

    def variable(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path and key else self.path or key

    def wrong(self, key: str, found: str, expected: str, remedy: str) -> None:
        self._problems.append(Problem(self.where, self.variable(key), found, expected, remedy))

    def nested(self, key: str, keys: Sequence[str]) -> _Reader:
        return _Reader(self.where, self._declared.get(key), keys, self._problems, self.variable(key))

    def raw(self, key: str) -> Any:
        return self._declared.get(key)

    def text(self, key: str, pattern: re.Pattern[str] | None, expected: str, *, required: bool = False) -> str | None:
        value = self._declared.get(key)
        if value is None and not required:
            return None
        if not isinstance(value, str) or not value or (pattern and not pattern.fullmatch(value)):
            self.wrong(key, "found nothing" if value in (None, "") else f"found {value!r}", expected, "Mend it." if value else "Say which.")
            return None
        return str(value)

    def integer(self, key: str, default: int | None, smallest: int = 0, largest: int | None = None) -> int | None:
        value = self._declared.get(key)
        if value is None:
            return default
        number = _whole(value)
        if number is None or number < smallest or (largest is not None and number > largest):
            self.wrong(key, f"found {value!r}", f"a whole number, {smallest} to {largest}" if largest else f"a whole number, {smallest} or more", "Mend it.")
            return default
        return number

    def decimal(self, key: str, default: Decimal | None, largest: int | None = None) -> Decimal | None:
        value = self._declared.get(key)
        if value is None:
            return default
        try:
            number = None if isinstance(value, bool) else Decimal(str(value))
        except InvalidOperation:
            number = None
        if number is None or not number.is_finite() or number < 0 or (largest is not None and number >= largest):
            self.wrong(key, f"found {value!r}", f"a number from 0 to less than {largest}" if largest else "a number, 0 or more", "Mend it.")
            return default
        return number

    def boolean(self, key: str, default: bool | None) -> bool | None:
        value = self._declared.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(key, f"found {value!r}", "true or false", "Write it without quotes.")
            return default
        return value

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        value = self._declared.get(key)
        if value is None:
            return default
        if value not in choices:
            self.wrong(key, f"found {value!r}", f"one of {', '.join(choices)}", "Mend it.")
            return default
        return str(value)

    def texts(self, key: str, pattern: re.Pattern[str] | None, expected: str) -> tuple[str, ...]:
        value = self._declared.get(key)
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            self.wrong(key, f"found {value!r}", f"a list of {expected}", f"Write {key}: [...].")
            return ()
        for entry in value:
            if not isinstance(entry, str) or not entry or (pattern and not pattern.fullmatch(entry)):
                self.wrong(key, f"found {entry!r}", expected, "Mend it.")
            elif list(value).count(entry) > 1:
                self.wrong(key, f"{entry} stands there twice", "each once", "Take one out.")
        return tuple(str(entry) for entry in value)

    def mapping(self, key: str, check: Callable[[str, Any], Complaint | None]) -> dict[str, Any]:
        """The entries for which check has no complaint (found, expected, remedy)."""
        value = self._declared.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.wrong(key, f"found {value!r}", "a mapping", f"Write {key}: {{...}}.")
            return {}
        sound = {}
        for name, entry in value.items():
            complaint = check(str(name), entry)
            if complaint:
                self.wrong(f"{key}.{name}", *complaint)
            else:
                sound[str(name)] = entry
        return sound


# --- pools --------------------------------------------------------------------------------------------------------------------------------------


def parse_pools(declared: object, cluster_name: str, *, names_only: bool = False) -> list[Pool]:
    """All pools, or PoolError with everything that is wrong with any. names_only: enough to remove them."""
    if not isinstance(declared, (list, tuple)):
        raise PoolError([Problem("", "pools", f"found {declared!r}", "a list of pools", "Write pools: [{name: ..., instance_type: ..., max_size: ...}].")])
    problems: list[Problem] = []
    pools = [_pool(number, one, cluster_name, problems, names_only=names_only) for number, one in enumerate(declared, 1)]
    problems += _clashes(pools)
    if problems:
        raise PoolError(problems)
    return pools


def _clashes(pools: Sequence[Pool]) -> Iterable[Problem]:
    for variable in ("name", "group_name"):
        owners: dict[str, str] = {}
        for pool in pools:
            value = getattr(pool, variable)
            if value in owners and (variable == "name" or owners[value] != pool.name):
                found = f"{value} is that of another pool too" if variable == "name" else f"{value} is that of pool {owners[value]} too"
                yield pool.problem(variable, found, "a name of its own", "Rename one of the two.")
            owners.setdefault(value, pool.name)


def _pool(number: int, declared: object, cluster_name: str, problems: list[Problem], *, names_only: bool) -> Pool:
    if not isinstance(declared, Mapping):
        problems.append(Problem("", f"pools[{number - 1}]", f"found {declared!r}", "a mapping", "Write {name: ..., instance_type: ..., max_size: ...}."))
        return Pool(f"number {number}", f"number {number}")
    name = declared.get("name")
    read = _Reader(f"pool {name}" if isinstance(name, str) and name else f"pool number {number}", declared, POOL_KEYS, problems)
    name = read.text("name", _CLUSTER_NAME, "at most 63 letters, digits, '.', '_' and '-', since it becomes a label", required=True) or f"number {number}"
    group_name = read.text("group_name", GROUP_NAME, "3 to 128 letters, digits, and ( ) . - / _, which a launch template's name may have")
    if group_name is None:
        group_name = f"{cluster_name}-{name}"
        if read.raw("group_name") is None and read.raw("name") and not GROUP_NAME.fullmatch(group_name):
            read.wrong("name", f"the group would be called {group_name}", "3 to 128 letters, digits, and ( ) . - / _", "Give the pool a group_name.")
    if names_only:
        return Pool(name, group_name)
    minimum, maximum = read.integer("min_size", 0) or 0, read.integer("max_size", None)
    if maximum is None and read.raw("max_size") is None:
        read.wrong("max_size", "found nothing", "how many instances there may be at most", "Set it; it limits what the pool can cost.")
    if maximum is not None and maximum < minimum:
        read.wrong("max_size", f"found {maximum}", f"at least min_size, {minimum}", "Raise max_size or lower min_size.")
    pool = Pool(
        name=name,
        group_name=group_name,
        instance_type=read.text("instance_type", _INSTANCE_TYPE, "an instance type as f2.6xlarge", required=True) or "",
        min_size=minimum,
        max_size=maximum or 0,
        publish=read.text("publish", None, f"{BOARDS}, {NOTHING}, or the name of an accelerator"),
        dedicated=read.boolean("dedicated", None),
        labels=read.mapping("labels", _label),
        taints=_taints(read),
        resources={key: Quantity.parse(value) for key, value in read.mapping("resources", _resource).items()},
        reserved=_reserved(read),
        memory_overhead_percent=read.decimal("memory_overhead_percent", Pool.memory_overhead_percent, 100) or Decimal(0),
        subnets=read.texts("subnets", _SUBNET, "ids of subnets as subnet-0123456789abcdef0"),
        availability_zones=read.texts("availability_zones", None, "names of availability zones as us-east-1a"),
        image=read.text("image", None, "an AMI's id, or a name in the cluster's images"),
        key_name=read.text("key_name", None, "the name of a key pair"),
        root_volume=_root_volume(read),
        security_groups=read.texts("security_groups", _SECURITY_GROUP, "ids of security groups as sg-0123456789abcdef0"),
        instance_profile=read.text("instance_profile", None, "the name or ARN of an instance profile"),
        spot=_spot(read),
        mixed=_mixed(read),
        kind=read.choice("kind", (LAUNCH_TEMPLATE, LAUNCH_CONFIGURATION), LAUNCH_TEMPLATE),
        tags=read.mapping("tags", _tag),
        propagate_template_tags=bool(read.boolean("propagate_template_tags", False)),
        price_per_hour=read.decimal("price_per_hour", None),
        keep_failed=read.integer("keep_failed", 0, largest=1) or 0,
        allow_retired=bool(read.boolean("allow_retired", False)),
    )
    if pool.labels.get(POOL_LABEL, name) != name:
        read.wrong(f"labels.{POOL_LABEL}", f"found {pool.labels[POOL_LABEL]!r}", f"the pool's name, {name}", "Take it out: every node of the pool has it.")
    if bool(pool.subnets) == bool(pool.availability_zones):
        found = "both" if pool.subnets else "neither subnets nor availability_zones"
        read.wrong("subnets", f"found {found}", "one of subnets and availability_zones", "Say in one way where instances may run.")
    if pool.kind == LAUNCH_CONFIGURATION:
        _launch_configuration(pool, read)
    return pool


def _launch_configuration(pool: Pool, read: _Reader) -> None:
    if pool.instance_type.partition(".")[0] in TOO_NEW_FOR_LAUNCH_CONFIGURATIONS:
        read.wrong(
            "kind",
            f"found {pool.kind} for {pool.instance_type}",
            f"{LAUNCH_TEMPLATE}, because AWS takes no type released after 2022 in launch configurations",
            "Take kind out.",
        )
    if pool.mixed:
        read.wrong("mixed", f"found it beside kind: {pool.kind}", f"kind: {LAUNCH_TEMPLATE}, which mixed instances need", "Take one of the two out.")
    if pool.spot and not pool.spot.max_price:
        read.wrong("spot", "found no max_price", "one, which a launch configuration cannot do without", "Write spot: {max_price: ...}.")
    if pool.image and pool.image.startswith("resolve:"):
        read.wrong("image", f"found {pool.image!r}", "an AMI's id, since launch configurations resolve nothing", "Name the AMI.")


def _label(key: str, value: object) -> Complaint | None:
    if not is_key(key) or not is_value(value):
        return (
            f"found {value!r}",
            "a Kubernetes label: letters, digits, '.', '_' and '-', at most 63; the value a text",
            "Mend it; put a number or a yes in quotes.",
        )
    if not kubelet_may_set(key):
        return (
            f"{key} lies in a namespace of Kubernetes' own",
            "a label that a kubelet may give its own node (admission plugin NodeRestriction)",
            "Take a prefix of yours, or node.kubernetes.io.",
        )
    return None


def _taints(read: _Reader) -> tuple[Taint, ...]:
    taints: list[Taint] = []
    declared = read.raw("taints") or []
    if not isinstance(declared, (list, tuple)):
        read.wrong("taints", f"found {declared!r}", "a list", "Write taints: [example.org/key=value:NoSchedule].")
        return ()
    for entry in declared:
        try:
            taint = Taint.parse(entry)
        except TaintError as error:
            read.wrong("taints", str(error), "key=value:effect in a list", "Mend it.")
            continue
        # A group's tag is named after the key alone.
        if any(taint.key == other.key for other in taints):
            read.wrong("taints", f"{taint.key} stands there twice", "each key once: the autoscaler can be told of one only", "Take one out.")
        taints.append(taint)
    return tuple(taints)


def _resource(name: str, value: object) -> Complaint | None:
    if name not in NATIVE_RESOURCES and not is_extended_resource(name):
        return "no such resource", f"one of {', '.join(NATIVE_RESOURCES)}, or a device plugin's as example.org/card", "Mend the name."
    try:
        quantity = Quantity.parse(value)
    except QuantityError as error:
        return str(error), "a quantity", "Mend it."
    if quantity.nanos < 0 or (name not in RESERVABLE and not quantity.is_whole):
        return f"found {quantity}", "a whole number, 0 or more" if name not in RESERVABLE else "0 or more", "Mend it."
    return None


def _reserved(read: _Reader) -> dict[str, dict[str, Quantity]]:
    nested = read.nested("reserved", ("kube", "system"))

    def check(name: str, value: object) -> Complaint | None:
        if name not in RESERVABLE:
            return "nothing that can be reserved", f"one of {', '.join(RESERVABLE)}", "Take it out."
        return _resource(name, value)

    return {kind: {name: Quantity.parse(value) for name, value in nested.mapping(kind, check).items()} for kind in ("kube", "system")}


def _root_volume(read: _Reader) -> RootVolume:
    nested = read.nested("root_volume", ("size", "type", "iops", "throughput", "kms_key", "device"))
    return RootVolume(
        size=nested.integer("size", RootVolume.size, 1, 16384) or RootVolume.size,
        type=nested.choice("type", ("gp2", "gp3", "io1", "io2"), RootVolume.type),
        iops=nested.integer("iops", None, 100),
        throughput=nested.integer("throughput", None, 125),
        kms_key=nested.text("kms_key", None, "a key's id, alias or ARN"),
        device=nested.text("device", _DEVICE, "the image's root device as /dev/xvda"),
    )


def _spot(read: _Reader) -> Spot | None:
    declared = read.raw("spot")
    if declared is None or isinstance(declared, bool):
        return Spot() if declared else None
    nested = read.nested("spot", ("max_price",))
    price = nested.decimal("max_price", None)
    return Spot(None if price is None else str(price))


def _mixed(read: _Reader) -> Mixed | None:
    if read.raw("mixed") is None:
        return None
    nested = read.nested("mixed", ("instance_types", "on_demand_base", "on_demand_percentage", "spot_strategy"))
    return Mixed(
        instance_types=nested.texts("instance_types", _INSTANCE_TYPE, "instance types as f2.6xlarge"),
        on_demand_base=nested.integer("on_demand_base", 0) or 0,
        on_demand_percentage=nested.integer("on_demand_percentage", None, 0, 100),
        spot_strategy=nested.choice("spot_strategy", ("price-capacity-optimized", "capacity-optimized", "lowest-price"), Mixed.spot_strategy),
    )


def _tag(key: str, value: object) -> Complaint | None:
    ours = key.startswith((OWN_TAG_PREFIX, AUTOSCALER_TAG_PREFIX)) and not key.startswith(AUTOSCALER_OPTION_PREFIX)
    complaints: tuple[tuple[bool, Complaint], ...] = (
        (ours, ("a tag that is ours", "labels, taints and resources in their own keys", "Take it out.")),
        (key.lower().startswith("aws:"), ("a prefix that is AWS' own", "another", "Rename it.")),
        (not 0 < len(key) <= TAG_KEY_LENGTH, (f"a key of {len(key)} characters", f"1 to {TAG_KEY_LENGTH}", "Shorten it.")),
        (not isinstance(value, str), (f"found {value!r}", "a text", "Put it in quotes.")),
        (len(str(value)) > TAG_VALUE_LENGTH, (f"a value of {len(str(value))} characters", f"at most {TAG_VALUE_LENGTH}", "Shorten it.")),
        (not f"{key}{value}".isprintable(), ("a character that cannot be printed", "printable ones", "Take it out.")),
    )
    return next((complaint for wrong, complaint in complaints if wrong), None)


def _whole(value: object) -> int | None:
    """A number, also as text, which is how extra variables of the command line arrive."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        return int(value)
    except ValueError:
        return None


# --- cluster and accelerators -------------------------------------------------------------------------------------------------------------------

CLUSTER_KEYS = (
    *("name", "id", "kubernetes_version", "region", "ssm_prefix", "vpn_backend", "vpn_mtu", "endpoint_url", "ignore_preflight", "images"),
    "orphan_timeout",
)


def parse_cluster(declared: Mapping[str, Any]) -> Cluster:
    problems: list[Problem] = []
    read = _Reader("", declared, CLUSTER_KEYS, problems, "cluster")
    name = read.text("name", _CLUSTER_NAME, "at most 63 letters, digits, '.', '_' and '-'", required=True) or ""
    cluster = Cluster(
        name=name,
        id=read.text("id", re.compile(r"[\x21-\x7e]{1,64}"), "the cluster's id, from /etc/fpga-hybrid/cluster.json on the control plane", required=True) or "",
        kubernetes_version=read.text("kubernetes_version", _MINOR, "a version as 1.36 or 1.36.3", required=True) or "",
        region=read.text("region", _REGION, "an AWS region as us-east-1", required=True) or "",
        ssm_prefix=read.text("ssm_prefix", _SSM_PREFIX, "a path as /fpga-hybrid/lab") or f"/fpga-hybrid/{name}",
        vpn_backend=read.choice("vpn_backend", ("openvpn", "openvpn_as"), Cluster.vpn_backend),
        vpn_mtu=read.integer("vpn_mtu", Cluster.vpn_mtu, 1280) or Cluster.vpn_mtu,
        endpoint_url=read.text("endpoint_url", re.compile(r"https?://[^\s]+"), "an URL as https://ec2.example.org"),
        ignore_preflight=read.texts("ignore_preflight", None, "names of kubeadm's preflight checks"),
        images=read.mapping("images", _image),
        orphan_timeout=_orphan_timeout(read.raw("orphan_timeout"), problems),
    )
    if problems:
        raise PoolError(problems)
    return cluster


def _orphan_timeout(declared: object, problems: list[Problem]) -> Mapping[str, int]:
    if declared is None:
        return ORPHAN_TIMEOUT
    found = list(orphan_timeout_problems(declared, "cluster.orphan_timeout"))
    problems += found
    return ORPHAN_TIMEOUT if found or not isinstance(declared, Mapping) else {key: _duration.seconds(declared[key]) for key in ORPHAN_TIMEOUT}


def orphan_timeout_problems(declared: object, variable: str) -> Iterator[Problem]:
    if not isinstance(declared, Mapping) or set(declared) != set(ORPHAN_TIMEOUT):
        yield Problem("", variable, f"found {declared!r}", f"a mapping with {' and '.join(ORPHAN_TIMEOUT)}", "Write {idle: 1h, busy: 4h}.")
        return
    found: dict[str, int] = {}
    for key in ORPHAN_TIMEOUT:
        try:
            found[key] = _duration.seconds(declared[key])
        except _duration.DurationError as error:
            yield Problem("", f"{variable}.{key}", str(error), _duration.EXAMPLE, "Write a unit with each number.")
            continue
        if found[key] < SHORTEST_ORPHAN_TIMEOUT:
            expected = f"at least {_duration.duration(SHORTEST_ORPHAN_TIMEOUT)}, in which an API server starts anew"
            yield Problem("", f"{variable}.{key}", f"found {declared[key]}", expected, "Raise it.")
    if len(found) == len(ORPHAN_TIMEOUT) and found["busy"] < found["idle"]:
        expected = f"at least what an idle one waits, {declared['idle']}"
        yield Problem("", f"{variable}.busy", f"found {declared['busy']}", expected, "Raise it, or lower idle: an instance with a job is worth more.")


def _image(_name: str, value: object) -> Complaint | None:
    if not isinstance(value, Mapping) or not all(isinstance(image, str) and _IMAGE_ID.fullmatch(image) for image in value.values()):
        return f"found {value!r}", "region: ami-..., for each region", "Mend it."
    return None


def is_image_id(image: str) -> bool:
    return bool(_IMAGE_ID.fullmatch(image))


def parse_accelerators(declared: object) -> dict[str, Accelerator]:
    """The catalogue; an empty or missing one is none."""
    problems: list[Problem] = []
    if declared is not None and not isinstance(declared, Mapping):
        raise PoolError(
            [Problem("", "cluster_accelerators", f"found {declared!r}", "a mapping", "Write cluster_accelerators: {name: {resource: ..., replicas: ...}}.")]
        )
    catalogue = {str(name): _accelerator(str(name), entry, problems) for name, entry in (declared or {}).items()}
    if problems:
        raise PoolError(problems)
    return catalogue


def _accelerator(name: str, declared: object, problems: list[Problem]) -> Accelerator:
    read = _Reader("", declared, ("resource", "replicas", "images", "shared"), problems, f"cluster_accelerators['{name}']")
    if name in (BOARDS, NOTHING, "both"):
        read.wrong("", f"{name} has a meaning of its own where boards are published", "another name", "Rename it.")
    resource = read.text("resource", None, "the name of the resource as example.org/adder", required=True) or ""
    if resource and not is_extended_resource(resource):
        read.wrong("resource", f"found {resource!r}", "a device plugin's resource as example.org/adder", "Mend it.")

    def replicas(_board: str, value: object) -> Complaint | None:
        number = _whole(value)
        return None if number and number > 0 else (f"found {value!r}", "how many copies fit on one board, 1 or more", "Mend it.")

    def images(_board: str, value: object) -> Complaint | None:
        sound = isinstance(value, Mapping) and all(isinstance(image, str) and image for image in value.values())
        return None if sound else (f"found {value!r}", "region: image, for each region", "Mend it.")

    if not read.raw("replicas"):
        read.wrong("replicas", "found nothing", "board: copies that fit on it", "Say on which boards it runs.")
    return Accelerator(
        name=name,
        resource=resource,
        replicas={board: int(count) for board, count in read.mapping("replicas", replicas).items()},
        images=read.mapping("images", images),
        shared=bool(read.boolean("shared", True)),
    )
