# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""What EC2 says of its instances, as plain dictionaries, and how to name a piece of it.

A record has the names that amazon.aws.aws_ec2 gives (snake_case of the API's members), tags as a dictionary, times as text.
Its names and types come from the service model of the installed botocore, so they never differ from the peer's. Only the parser
is another one: botocore's takes three times the CPU of everything else here together, half of it for dates that nobody reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any
from xml.etree import ElementTree

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict

Record = dict[str, Any]
#: Where a value stands in a record: the keys on the way down. A list on the way is passed through, item by item.
Path = tuple[str, ...]
Element = ElementTree.Element

#: In every record: what selection, groups and the variables that are always published need.
ALWAYS = frozenset({"instance_id", "instance_type", "placement", "state", "tags"})
#: Of the reservation, which wraps its instances.
RESERVATION = {"OwnerId": "owner_id", "RequesterId": "requester_id", "ReservationId": "reservation_id"}

#: Names of our own for what stands elsewhere in a record.
ALIASES: dict[str, Path] = {
    "autoscaling_group": ("tags", "aws:autoscaling:groupName"),
    "availability_zone": ("placement", "availability_zone"),
    "ec2_tags": ("tags",),
    "lifecycle_state": ("state", "name"),
    "pool": ("tags", "fpga.hybrid/pool"),
    "region": ("placement", "region"),
    "vpn_address": ("tags", "fpga.hybrid/vpn-address"),
}
#: EC2's filter names, by which aws_ec2 calls attributes in `hostnames`, where the name is not the attribute's own with hyphens.
FILTER_NAMES: dict[str, Path] = {
    "affinity": ("placement", "affinity"),
    "dns-name": ("public_dns_name",),
    "group-id": ("security_groups", "group_id"),
    "group-name": ("security_groups", "group_name"),
    "host-id": ("placement", "host_id"),
    "instance-state-code": ("state", "code"),
    "instance-state-name": ("state", "name"),
    "instance.group-id": ("security_groups", "group_id"),
    "instance.group-name": ("security_groups", "group_name"),
    "ip-address": ("public_ip_address",),
    "launch-index": ("ami_launch_index",),
    "monitoring-state": ("monitoring", "state"),
    "placement-group-name": ("placement", "group_name"),
    "reason": ("state_transition_reason",),
    "state-reason-code": ("state_reason", "code"),
    "state-reason-message": ("state_reason", "message"),
    "tenancy": ("placement", "tenancy"),
}


def path_of(name: str) -> Path:
    """Where `name` stands: ``tag:KEY``, one of our names, a filter name of EC2, or a variable's name, deeper ones with dots."""
    if name.startswith("tag:"):
        return "tags", name[len("tag:") :]
    plain = name.replace("-", "_")
    return FILTER_NAMES.get(name) or ALIASES.get(plain) or tuple(plain.split("."))


def value_at(record: Mapping[str, Any], path: Path) -> Any:
    """The value, a list of values where a list stands on the way, None where there is none."""
    found: Any = record
    for key in path:
        if isinstance(found, Mapping):
            found = found.get(key)
        elif isinstance(found, list):
            found = [value for item in found if isinstance(item, Mapping) and (value := item.get(key)) is not None]
        else:
            return None
    return found


@cache
def snake_case(name: str) -> str:
    """As aws_ec2 spells it, which asks the same function."""
    return str(next(iter(camel_dict_to_snake_dict({name: None}))))


def _text(element: Element) -> str:
    return element.text or ""


def _number(element: Element) -> int:
    return int(element.text or 0)


def _yes_or_no(element: Element) -> bool:
    return element.text == "true"


def _time(element: Element) -> str:
    """As JSON shows aws_ec2's: 2026-01-01T00:00:00+00:00."""
    try:
        return datetime.fromisoformat(element.text or "").isoformat()
    except ValueError:
        return element.text or ""


SCALARS = {
    "boolean": _yes_or_no,
    "integer": _number,
    "long": _number,
    "timestamp": _time,
}


Reader = Callable[[Element], Any]


def _members(structure: Any, namespace: str, wanted: Container[str] | None = None) -> dict[str, tuple[str, Reader]]:
    """By an element's tag: the name in the record, and the function that reads it."""
    return {
        f"{namespace}{shape.serialization.get('name', name)}": (snake_case(name), _reader(shape, namespace))
        for name, shape in structure.members.items()
        if wanted is None or snake_case(name) in wanted
    }


def _reader(shape: Any, namespace: str) -> Reader:
    """A function from an element to its value; `shape` is botocore's."""
    if shape.type_name == "structure":
        members = _members(shape, namespace)
        return lambda element: {found[0]: found[1](child) for child in element if (found := members.get(child.tag))}
    if shape.type_name == "list":
        if shape.name == "TagList":
            key, value = f"{namespace}key", f"{namespace}value"
            return lambda element: {tag.findtext(key, ""): tag.findtext(value, "") for tag in element}
        item = _reader(shape.member, namespace)
        return lambda element: [item(child) for child in element]
    return SCALARS.get(shape.type_name, _text)


class RecordReader:
    """Reads answers to DescribeInstances, whose output shape it is given; of each instance only what is `wanted`, None being everything."""

    def __init__(self, output: Any, wanted: Iterable[str] | None = None) -> None:
        self._reservation = output.members["Reservations"].member
        self._instance = self._reservation.members["Instances"].member
        self.attributes = frozenset({*map(snake_case, self._instance.members), *RESERVATION.values()})
        self._wanted = None if wanted is None else ALWAYS | frozenset(wanted)
        self._members: dict[str, dict[str, tuple[str, Reader]]] = {}

    def read(self, body: bytes, region: str) -> tuple[list[Record], str]:
        """The records of one page and the token of the next, "" after the last. Raises ElementTree.ParseError for what is no XML."""
        # EC2's answer over TLS, not a stranger's document; expat refuses entity bombs.
        root = ElementTree.fromstring(body)  # noqa: S314
        namespace = re.match(r"(\{.*\})?", root.tag)[0]  # type: ignore[index]
        members = self._members_of(namespace)
        records = []
        for reservation in root.iterfind(f"{namespace}reservationSet/{namespace}item"):
            wrapper = self._read_reservation(reservation, namespace)
            for element in reservation.iterfind(f"{namespace}instancesSet/{namespace}item"):
                record: Record = {found[0]: found[1](child) for child in element if (found := members.get(child.tag))}
                record.update(wrapper)
                record.setdefault("tags", {})
                record.setdefault("placement", {})["region"] = region
                records.append(record)
        return records, root.findtext(f"{namespace}nextToken") or ""

    def _members_of(self, namespace: str) -> dict[str, tuple[str, Reader]]:
        if namespace not in self._members:
            self._members[namespace] = _members(self._instance, namespace, self._wanted)
        return self._members[namespace]

    def _read_reservation(self, reservation: Element, namespace: str) -> Record:
        return {
            name: reservation.findtext(f"{namespace}{self._reservation.members[member].serialization['name']}", "")
            for member, name in RESERVATION.items()
            if self._wanted is None or name in self._wanted
        }
