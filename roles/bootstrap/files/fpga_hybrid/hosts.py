# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts file: the endpoint's name and its address, beside whatever else stands there."""

from __future__ import annotations

from ansible_collections.fpga.hybrid.plugins.module_utils import _host
from fpga_hybrid import failure
from fpga_hybrid.failure import Failure


def with_entry(text: str, name: str, address: str) -> str:
    """The file with the name in the collection's own block, which role host keeps on-prem; what else is in the block stays."""
    wrong = _host.contradictions(text, {name: address})
    if wrong:
        remedy = "Remove that line, or choose another cluster_control_plane_endpoint."
        raise Failure(failure.HOSTS, f"/etc/hosts has {wrong[0]!r}, but {name} must be {address}. {remedy}")
    block = _block(text)
    # In our own block, what names it otherwise is of yesterday.
    kept = [line for line in block if name not in _entry(line)[1:] or _entry(line)[0] == address]
    if any(_entry(line)[:1] == [address] and name in _entry(line)[1:] for line in text.splitlines()):
        return text if kept == block else _host.with_block(text, kept)
    return _host.with_block(text, [*kept, f"{address} {name}"])


def _entry(line: str) -> list[str]:
    return line.split("#", 1)[0].split()


def _block(text: str) -> list[str]:
    lines = text.splitlines()
    if _host.BEGIN not in lines or _host.END not in lines:
        return []
    return lines[lines.index(_host.BEGIN) + 1 : lines.index(_host.END)]
