# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all steps work with: the time they have, what is known so far, and the one place through which the host is changed."""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from ansible_collections.fpga.hybrid.plugins.module_utils import _command
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host, Paths
from fpga_hybrid import failure
from fpga_hybrid.bundle import JoinBundle
from fpga_hybrid.failure import Failure, Kind
from fpga_hybrid.kube import Server
from fpga_hybrid.node import Node
from fpga_hybrid.options import Options

T = TypeVar("T")
MASK = "********"
#: Certificates are good from five minutes before they are made, and AWS takes signatures within five minutes.
CLOCK_LIMIT = 240.0
#: A time service that has just started sets the clock within this time.
CLOCK_PATIENCE = 30.0


class Deadline:
    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def within(self, seconds: float) -> Deadline:
        return Deadline(min(seconds, self.left))


class PendingError(Exception):
    """Not yet. The failure is what it will be when it stays so."""

    def __init__(self, kind: Kind, sentence: str) -> None:
        super().__init__(sentence)
        self.failure = Failure(kind, sentence)


class Log:
    """Lines to standard error, which is the journal. What is secret is masked in each; the last ones are kept as evidence."""

    KEPT = 40

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._secrets: list[str] = []

    def hide(self, *secrets: str) -> None:
        self._secrets += [secret for secret in secrets if secret]

    @contextmanager
    def hiding(self, *secrets: str) -> Iterator[None]:
        """Masks them for a while: in a program that goes on, they would become more and more."""
        before = self._secrets
        self._secrets = [*before, *filter(None, secrets)]
        try:
            yield
        finally:
            self._secrets = before

    def masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def say(self, text: str) -> None:
        line = self.masked(text)
        self.lines = [*self.lines[-self.KEPT + 1 :], line]
        # Whoever reads may have gone (a play that was killed); that is no reason to stop.
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


class Endpoint(NamedTuple):
    """The API server as nodes name it, C(name:port), and the address that the name leads to; None where a name server knows."""

    name: str
    address: str | None

    @property
    def server(self) -> Server:
        return Server.of(self.name, self.address)


def _found(value: T | None, step: str) -> T:
    if value is None:
        raise RuntimeError(f"step {step} comes first")
    return value


@dataclass
class Run:
    """One run of bootstrap. Each step reads what former ones have found and adds its own."""

    options: Options
    log: Log
    total: Deadline
    deadline: Deadline
    changes: list[str] = field(default_factory=list)
    declared: dict[str, Any] | None = None
    joined: bool = False
    _node: Node | None = None
    _bundle: JoinBundle | None = None
    endpoint: Endpoint | None = None
    address: str | None = None
    kubelet: dict[str, Any] = field(default_factory=dict)
    documents: list[dict[str, Any]] = field(default_factory=list)
    vpn_is_up: bool = True

    def __post_init__(self) -> None:
        self.host = Host(self.execute, Paths(self.options.root))

    @property
    def node(self) -> Node:
        assert self._node is not None, "step identify comes first"
        return self._node

    @node.setter
    def node(self, node: Node) -> None:
        self._node = node

    @property
    def knows_itself(self) -> bool:
        return self._node is not None

    @property
    def bundle(self) -> JoinBundle:
        assert self._bundle is not None, "step bundle comes first"
        return self._bundle

    @bundle.setter
    def bundle(self, bundle: JoinBundle) -> None:
        self._bundle = bundle
        self.log.hide(*bundle.secrets)

    @property
    def server(self) -> Server:
        assert self.endpoint is not None, "step bundle comes first"
        return self.endpoint.server

    # --- the host -------------------------------------------------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        return os.path.join(self.options.root, name)

    def given(self, path: str) -> str:
        """A path of the command line."""
        return path if self.options.root == "/" else self.path(path.lstrip("/"))

    def may(self, change: str) -> bool:
        """Says what is about to be changed; False in a dry run, which only notes it."""
        self.changes.append(self.log.masked(change))
        if self.options.dry_run:
            return False
        self.log.say(change)
        return True

    def execute(self, argv: Sequence[str], data: str | None = None, pass_fds: Sequence[int] = ()) -> tuple[int, str, str]:
        """A program, for no longer than its step may take."""
        return _command.run(argv, data or "", pass_fds, timeout=max(1.0, self.deadline.left))

    def systemctl(self, kind: Kind, *arguments: str) -> None:
        code, answer = self.host.systemctl(*arguments)
        if code != 0:
            unit = arguments[-1]
            raise Failure(kind, f"systemctl {' '.join(arguments)} failed: {answer}. Look at systemctl status {unit}, journalctl -u {unit} -n 50.")

    # --- waiting --------------------------------------------------------------------------------------------------------------------------

    def wait(self, look: Callable[[], T], pause: float = 0.5, patience: float | None = None) -> T:
        """What look gives, asked again while it raises PendingError; its failure when the step's time, or patience, is over. A dry run asks once."""
        deadline = self.deadline if patience is None else self.deadline.within(patience)
        started, said = time.monotonic(), ""
        while True:
            try:
                return look()
            except PendingError as pending:
                sentence = str(pending)
                if sentence != said:
                    said = sentence
                    self.log.say(f"waiting: {sentence}")
                if self.options.dry_run or deadline.left <= pause:
                    waited = time.monotonic() - started
                    raise Failure(pending.failure.kind, sentence.rstrip(".") + (f" (waited {waited:.0f} s)." if waited >= 1 else ".")) from None
            time.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - so that instances that start together do not ask together

    def check_clock(self, offset: float | None, whose: str) -> None:
        """offset: seconds that this host's clock is behind. Waits a moment for a time service to set it."""
        if offset is None or abs(offset) <= CLOCK_LIMIT:
            return
        right = time.time() + offset - time.monotonic()

        def look() -> None:
            off = right + time.monotonic() - time.time()
            if abs(off) > CLOCK_LIMIT:
                raise PendingError(
                    failure.CLOCK,
                    f"this host's clock is {abs(off):.0f} s {'behind' if off > 0 else 'ahead of'} {whose}; certificates and signatures bear {CLOCK_LIMIT:.0f}. "
                    "Set it (chronyc makestep), and see why its time service did not: chronyc tracking, timedatectl.",
                )

        self.wait(look, pause=1.0, patience=CLOCK_PATIENCE)

    def source_address(self) -> str:
        """The address from which this host reaches the endpoint."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.connect((self.server.address or self.server.host, self.server.port))
            return str(line.getsockname()[0])
