# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host publishes: section fpga of node.json, read with mistrust. What is wrong is said and left out; the rest is published all the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fpga_device_plugin.boards import KINDS

STACK = "fpga_device_plugin"
BOARDS, BOTH = "boards", "both"

_DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_PREFIX = re.compile(rf"(?=.{{1,253}}$){_DNS_LABEL}(\.{_DNS_LABEL})*", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_GLOBAL_IMAGE = re.compile(r"agfi-[0-9a-f]{17}", re.ASCII)


@dataclass(frozen=True)
class Resource:
    """One resource of the kubelet. copies: by kind of board, how many devices one gives. accelerator: its name in the catalogue, "" for whole boards.

    images: by kind of board, what is loaded before a container starts. shared: whether the copies on one board may go to several pods.
    """

    name: str
    copies: Mapping[str, int]
    accelerator: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    shared: bool = True

    def devices(self, slot: str, kind: str) -> tuple[str, ...]:
        """Ids of a board's devices, as the kubelet keeps them: the same after every restart."""
        if not self.accelerator:
            return (slot,)
        return tuple(f"{slot}/{number}" for number in range(self.copies[kind]))


def slot_of(device: str) -> str:
    return device.partition("/")[0]


@dataclass(frozen=True)
class Catalogue:
    """resources by name. problems: a sentence for each thing that was left out."""

    resources: Mapping[str, Resource] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def of(self, kind: str) -> list[Resource]:
        """Under what a kind of board is published; several only with publish: both."""
        return [resource for resource in self.resources.values() if kind in resource.copies]


def is_extended_resource(name: object) -> bool:
    """Source: k8s.io/kubernetes pkg/apis/core/v1/helper, IsExtendedResourceName."""
    if not isinstance(name, str) or "kubernetes.io/" in name or name.startswith("requests."):
        return False
    prefix, slash, rest = name.partition("/")
    return bool(slash and _PREFIX.fullmatch(f"requests.{prefix}") and _NAME.fullmatch(rest))


def load(path: Path) -> Catalogue:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Catalogue(problems=(f"{path} is not there yet: nothing is published. Role kubeadm writes it, in AWS the instance's user-data.",))
    except (OSError, ValueError) as error:
        return Catalogue(problems=(f"{path} cannot be read ({error}): nothing is published. Run site.yml again.",))
    if not isinstance(document, dict) or not isinstance(document.get("fpga"), (dict, type(None))):
        return Catalogue(problems=(f"{path}: found no section fpga, expected a mapping or null: nothing is published.",))
    return read(document.get("fpga"))


def read(section: Mapping[str, Any] | None) -> Catalogue:
    """section None, or that of another stack: nothing to publish."""
    if section is None or section.get("stack") != STACK:
        return Catalogue()
    return _Reader(section).catalogue()


class _Reader:
    def __init__(self, section: Mapping[str, Any]) -> None:
        self._section = section
        self._problems: list[str] = []

    def catalogue(self) -> Catalogue:
        published: dict[str, dict[str, int]] = {}
        for board, choice in self._mapping("publish").items():
            if board not in KINDS:
                self._wrong(f"publish.{board}", "a board that is not known", f"one of {', '.join(KINDS)}")
                continue
            for what in self._choices(board, choice):
                copies = 1 if what == board else self._copies(what, board)
                if copies and self._image_fits(what, board):
                    published.setdefault(what, {})[board] = copies
        resources = dict(self._resources(published))
        return Catalogue(resources, tuple(dict.fromkeys(self._problems)))

    def _wrong(self, where: str, found: str, expected: str) -> None:
        self._problems.append(f"fpga.{where}: found {found}, expected {expected}; it is not published. Mend cluster_accelerators or fpga_publish.")

    def _mapping(self, *path: str) -> Mapping[str, Any]:
        value: Any = self._section
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None and not isinstance(value, dict):
            self._wrong(".".join(path), repr(value), "a mapping")
        return value if isinstance(value, dict) else {}

    def _shared(self, accelerator: str) -> bool:
        return bool(self._mapping("shared").get(accelerator, True))

    def _choices(self, board: str, choice: object) -> list[str]:
        """What a board is published as: its own name, or accelerators'."""
        fitting = [name for name in self._mapping("replicas") if name not in KINDS and board in self._mapping("replicas", name)]
        if choice == BOARDS:
            return [board]
        if choice == BOTH:
            return [board, *fitting]
        if choice in fitting:
            return [str(choice)]
        self._wrong(f"publish.{board}", repr(choice), f"one of {', '.join([BOARDS, BOTH, *fitting])}")
        return []

    def _copies(self, accelerator: str, board: str) -> int:
        copies = self._mapping("replicas", accelerator)[board]
        if isinstance(copies, bool) or not isinstance(copies, int) or copies < 1:
            self._wrong(f"replicas.{accelerator}.{board}", repr(copies), "how many copies fit on one board, 1 or more")
            return 0
        if not self._shared(accelerator):
            counts = [count for count in self._mapping("replicas", accelerator).values() if isinstance(count, int) and count > 0]
            if max(counts) % copies:
                where = f"replicas.{accelerator}.{board}"
                self._wrong(
                    where, f"{copies} with shared: false", f"a divisor of its largest, {max(counts)}, so that one request takes whole boards everywhere"
                )
                return 0
        return copies

    def _image_fits(self, what: str, board: str) -> bool:
        image = self._mapping("images", what).get(board)
        if image is None or (isinstance(image, str) and _GLOBAL_IMAGE.fullmatch(image)):
            return True
        regional = isinstance(image, str) and image.startswith("afi-")
        found = f"{image!r}, the regional id that EC2's API goes by" if regional else repr(image)
        self._wrong(f"images.{what}.{board}", found, "the global id, agfi- and 17 hexadecimal digits, which is what an instance loads")
        return False

    def _resources(self, published: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, Resource]]:
        names = self._mapping("resources")
        owners: dict[str, list[str]] = {}
        for what in published:
            owners.setdefault(str(names.get(what)), []).append(what)
        for what, copies in published.items():
            name = names.get(what)
            others = [other for other in owners[str(name)] if other != what]
            if not is_extended_resource(name):
                self._wrong(f"resources.{what}", repr(name), "a resource that Kubernetes takes, as example.org/adder")
            elif others:
                self._wrong(f"resources.{what}", f"{name}, which is that of {', '.join(others)} too", "a resource of its own")
            else:
                accelerator = "" if what in KINDS else what
                images = {board: image for board, image in self._mapping("images", what).items() if board in copies}
                yield str(name), Resource(str(name), dict(copies), accelerator, images, self._shared(what))
