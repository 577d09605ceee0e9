# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels, taints and names of resources: what Kubernetes takes, and what a kubelet may say about its own node.

Sources: k8s.io/apimachinery pkg/util/validation; k8s.io/kubelet pkg/apis/well_known_labels.go and the admission plugin NodeRestriction;
k8s.io/kubernetes pkg/apis/core/v1/helper (IsExtendedResourceName).
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
#: The part before the slash.
PREFIX = re.compile(rf"(?=.{{1,253}}$){_DNS_LABEL}(\.{_DNS_LABEL})*", re.ASCII)
#: The part after the slash, and a label's value, which may also be empty.
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")

#: What a kubelet may set in the namespaces that are Kubernetes' own.
_KUBELET_LABELS = (
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
)
_KUBELET_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_OWN_NAMESPACES = ("kubernetes.io", "k8s.io")


def is_key(key: object) -> bool:
    """Whether it can be the key of a label or a taint."""
    if not isinstance(key, str):
        return False
    prefix, slash, name = key.rpartition("/")
    return bool(NAME.fullmatch(name)) and (not slash or bool(PREFIX.fullmatch(prefix)))


def is_value(value: object) -> bool:
    return isinstance(value, str) and (value == "" or bool(NAME.fullmatch(value)))


def kubelet_may_set(key: str) -> bool:
    """NodeRestriction: a kubelet that registers with another label of Kubernetes' own namespaces is refused as a whole."""
    namespace = key.rpartition("/")[0]
    if not _is_within(namespace, _OWN_NAMESPACES):
        return True
    return key in _KUBELET_LABELS or _is_within(namespace, _KUBELET_NAMESPACES)


def is_extended_resource(name: object) -> bool:
    """A device plugin's resource: its name has a prefix that is not Kubernetes' own."""
    if not isinstance(name, str) or "/" not in name or "kubernetes.io/" in name or name.startswith("requests."):
        return False
    return is_key(f"requests.{name}")


def _is_within(namespace: str, parents: tuple[str, ...]) -> bool:
    return any(namespace == parent or namespace.endswith(f".{parent}") for parent in parents)


class TaintError(ValueError):
    """The taint is none; the message quotes it."""


@dataclass(frozen=True, order=True)
class Taint:
    key: str
    value: str
    effect: str

    @classmethod
    def parse(cls, declared: object) -> Taint:
        """kubectl's C(key=value:effect), or a dictionary with key, effect and perhaps value."""
        if isinstance(declared, Mapping):
            value = "" if declared.get("value") is None else declared["value"]
            return cls._checked(declared, declared.get("key"), value, declared.get("effect"), set(declared) - {"key", "value", "effect"})
        if not isinstance(declared, str):
            raise TaintError(f"{declared!r} is no taint such as example.org/key=value:NoSchedule")
        name, _colon, effect = declared.rpartition(":")
        key, _sign, value = name.partition("=")
        return cls._checked(declared, key, value, effect, set())

    @classmethod
    def _checked(cls, declared: object, key: Any, value: Any, effect: Any, unknown: set[Any]) -> Taint:
        if unknown or not is_key(key) or not is_value(value):
            raise TaintError(f"{declared!r} is no taint such as example.org/key=value:NoSchedule")
        if effect not in EFFECTS:
            raise TaintError(f"{declared!r} has the effect {effect!r}, which is none of {', '.join(EFFECTS)}")
        return cls(str(key), str(value), str(effect))

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}"

    @property
    def name(self) -> str:
        """What tells the taints of one node apart."""
        return f"{self.key}:{self.effect}"

    def as_object(self) -> dict[str, str]:
        """As the API gives it back: without an empty value."""
        return {"key": self.key, **({"value": self.value} if self.value else {}), "effect": self.effect}
