# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper's edge to the VPN's authority, the program fpga-hybrid-vpn: on this host, or on the VPN server over ssh."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _command

#: The program itself waits 60 s for its lock.
TIMEOUT = 90.0
#: Its exit codes (fpga-hybrid-vpn --help).
UNKNOWN_NAME, NOT_CUT = 3, 7


class AuthorityError(Exception):
    """It did not do what was asked; the message is its own sentence."""


@dataclass(frozen=True)
class Issued:
    """new: whether a certificate was made, and none of this name was there before."""

    address: str
    profile: str = field(repr=False)
    new: bool


class Authority:
    """run: how a program is called (module_utils/_command)."""

    def __init__(self, command: Sequence[str], run: Callable[..., tuple[int, str, str]] = _command.run) -> None:
        self._command, self._run = tuple(command), run

    def issue(self, name: str) -> Issued:
        """Certificate, address and profile; for a name that has them, the same again."""
        answer = self._ask("issue", name)
        try:
            return Issued(str(answer["address"]), str(answer["profile"] or ""), bool(answer["changed"]))
        except KeyError as error:
            raise AuthorityError(f"{self._command[0]} issue {name}: the answer has no {error}") from None

    def revoke(self, name: str) -> str:
        """Takes back what there is. Returns what is to be known about it, mostly nothing."""
        answer = self._ask("revoke", name, accepted=(0, UNKNOWN_NAME, NOT_CUT))
        session = str(answer.get("session") or "")
        return f"{name} cannot return to the VPN, but its session could not be cut ({session})" if session.startswith("not cut") else ""

    def renew(self) -> list[str]:
        """Renews the revocation list when half of its days are over, and mends what differs from the registry. Returns what was changed."""
        return [str(change) for change in self._ask("renew-crl").get("changes") or []]

    def overview(self) -> dict[str, Any]:
        """Who has what until when, and when the authority's own ends."""
        return self._ask("list")

    def _ask(self, verb: str, name: str = "", accepted: Sequence[int] = (0,)) -> dict[str, Any]:
        asked = f"{self._command[0]} {verb} {name}".rstrip()
        code, out, err = self._run([*self._command, verb, *filter(None, [name])], timeout=TIMEOUT)
        try:
            answer = json.loads(out)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            # Not what it printed: that may be a profile that was cut short.
            words = err.strip().rpartition("\n")[2] or "it said nothing"
            raise AuthorityError(f"{asked} gave no answer (exit code {code}): {words}")
        if code not in accepted:
            raise AuthorityError(f"{asked}: {answer.get('error') or f'exit code {code}'}")
        return answer
