# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Section fpga of an on-prem host's node.json, out of what the host and the catalogue declare. Pure, and without a look at the host: which boards it has is
for its device plugin to find."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import board_resource
from ansible_collections.fpga.hybrid.plugins.module_utils._node import FPGA_STACK
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import BOARDS, NOTHING, Accelerator, PoolError
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem
from ansible_collections.fpga.hybrid.plugins.module_utils.node_template import fpga_section

#: What the device plugin knows (roles/fpga_device_plugin/files/fpga_device_plugin/boards.py); a test compares them.
KNOWN_BOARDS = ("u200", "u250", "u280", "u50", "u55c", "aws-vu9p-f1", "aws-vu47p-f2")
BOTH, NO_STACK = "both", "none"
#: Who publishes a host's boards. The latter two publish under names of their own, and are told nothing by us.
STACKS = (FPGA_STACK, "inaccel", "amd", NO_STACK)
#: Labels that make a stack run on a node. Role kubeadm gives them by C(fpga_stack), and who writes one himself has a second stack there.
STACK_LABEL = "fpga.hybrid/stack"
INACCEL_LABEL, INACCEL_ENABLED = "inaccel/fpga", "enabled"


def stack_label_problems(host: str, labels: object, stack: object) -> Iterator[Problem]:
    """A second stack that comes with C(node_labels). A label that says what C(fpga_stack) says is none."""
    if not isinstance(labels, Mapping):
        return
    chosen = {STACK_LABEL: labels.get(STACK_LABEL), INACCEL_LABEL: "inaccel" if labels.get(INACCEL_LABEL) == INACCEL_ENABLED else None}
    for label, brought in chosen.items():
        if brought not in (None, stack):
            found = f"found {labels[label]} beside fpga_stack: {stack}, which would be two stacks on one node"
            remedy = "Take the label out, or say which of the two the host has by fpga_stack."
            yield Problem(host, f"node_labels.{label}", found, "exactly one stack a node, whose labels follow from fpga_stack", remedy)


def on_prem_fpga(host: str, publish: object, stack: object, accelerators: Mapping[str, Accelerator]) -> dict[str, Any] | None:
    """The section, None where nothing publishes. Raises PoolError with everything that speaks against it.

    publish: board -> boards, both, none, or an accelerator (C(fpga_publish)). A board that is not named is published as the accelerator that fits it, else as
    itself; a host may name boards that it does not have.
    """
    problems = list(_problems(host, publish, stack, accelerators))
    if problems:
        raise PoolError(problems)
    if stack == NO_STACK:
        return None
    if stack != FPGA_STACK:
        return {**fpga_section({}, {}), "stack": stack}
    declared = publish if isinstance(publish, Mapping) else {}
    chosen = {board: str(declared[board]) if board in declared else next(iter(fitting(board, accelerators)), BOARDS) for board in KNOWN_BOARDS}
    chosen = {board: choice for board, choice in chosen.items() if choice != NOTHING}
    used = {name for board, choice in chosen.items() for name in (fitting(board, accelerators) if choice == BOTH else [choice] if choice != BOARDS else [])}
    own = {name: accelerators[name] for name in accelerators if name in used}
    return fpga_section(
        chosen,
        {
            **{board: board_resource(board) for board, choice in chosen.items() if choice in (BOARDS, BOTH)},
            **{name: accelerator.resource for name, accelerator in own.items()},
        },
        replicas={name: dict(accelerator.replicas) for name, accelerator in own.items()},
        images={name: {} for name in own},
        shared={name: accelerator.shared for name, accelerator in own.items()},
    )


def fitting(board: str, accelerators: Mapping[str, Accelerator]) -> list[str]:
    return [name for name, accelerator in accelerators.items() if board in accelerator.replicas]


def published(section: Mapping[str, Any] | None, boards: Mapping[str, int]) -> dict[str, int]:
    """What a node with these boards gives, by resource: the allocatable of its extended resources. section: node.json's, of a pool or on-prem."""
    resources: dict[str, int] = {}
    for board, count in boards.items() if section and section["stack"] == FPGA_STACK else ():
        choice = section["publish"].get(board) if section else None
        copies = {board: 1} if choice in (BOARDS, BOTH) else {}
        for name, replicas in section["replicas"].items() if section else ():
            if board in replicas and choice in (BOTH, name):
                copies[name] = replicas[board]
        for what, number in copies.items():
            resource = section["resources"][what] if section else ""
            resources[resource] = resources.get(resource, 0) + number * count
    return resources


def _problems(host: str, publish: object, stack: object, accelerators: Mapping[str, Accelerator]) -> Iterator[Problem]:
    if stack not in STACKS:
        yield Problem(host, "fpga_stack", f"found {stack!r}", f"one of {', '.join(STACKS)}", "Mend the value; a host has exactly one.")
        return
    if not isinstance(publish, Mapping):
        yield Problem(host, "fpga_publish", f"found {publish!r}", "a mapping", f"Write fpga_publish: {{u250: {BOARDS}}}.")
        return
    if stack != FPGA_STACK:
        if publish:
            found = f"found {', '.join(map(str, publish))} beside fpga_stack: {stack}"
            yield Problem(host, "fpga_publish", found, f"fpga_stack: {FPGA_STACK}, which alone heeds it", "Take one of the two out.")
        return
    for board, choice in publish.items():
        if board not in KNOWN_BOARDS:
            yield Problem(host, f"fpga_publish.{board}", "no such board", f"one of {', '.join(KNOWN_BOARDS)}", "Mend the name.")
        elif choice == BOTH and not fitting(board, accelerators):
            yield Problem(host, f"fpga_publish.{board}", f"found {BOTH}, and no accelerator fits {board}", "one that does", f"Write {BOARDS}.")
        elif choice not in (BOARDS, BOTH, NOTHING):
            yield from _accelerator(host, board, choice, accelerators)
    for board in KNOWN_BOARDS:
        several = fitting(board, accelerators)
        if len(several) > 1 and board not in publish:
            found = f"{len(several)} accelerators fit {board}: {', '.join(several)}"
            remedy = (
                f"Write fpga_publish: {{{board}: {several[0]}}} or another of them, for all hosts in group_vars; {NOTHING} leaves the board alone; "
                f"without boards fpga_stack: {NO_STACK}."
            )
            yield Problem(host, "fpga_publish", found, "one of them named, since a board is published as one", remedy)


def _accelerator(host: str, board: str, choice: object, accelerators: Mapping[str, Accelerator]) -> Iterator[Problem]:
    entry = accelerators.get(choice) if isinstance(choice, str) else None
    if entry is None:
        expected = f"one of {', '.join([BOARDS, BOTH, NOTHING, *fitting(board, accelerators)])}"
        yield Problem(host, f"fpga_publish.{board}", f"found {choice!r}", expected, "Mend the name, or add it to cluster_accelerators.")
    elif board not in entry.replicas:
        found = f"accelerator {choice} fits no {board} (it fits: {', '.join(entry.replicas)})"
        remedy = f"Add cluster_accelerators['{choice}'].replicas['{board}'], or publish something else."
        yield Problem(host, f"fpga_publish.{board}", found, "an accelerator for the board", remedy)
