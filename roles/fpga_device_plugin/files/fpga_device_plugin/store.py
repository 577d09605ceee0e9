# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must survive a restart of this program: who has which board."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpga_device_plugin.ownership import Ownership

log = logging.getLogger(__name__)
FORMAT = 1


@dataclass
class Store:
    """A file with the owners. Written before a board is given out, so that what is lost in a crash was never given out."""

    path: Path
    _written: dict[str, Any] | None = None

    def load(self, ownership: Ownership) -> None:
        """A file that is missing or damaged means that it is not known who has what, until the kubelet tells."""
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            if kept["format"] != FORMAT:
                raise ValueError(f"found format {kept['format']!r}, expected {FORMAT}")
            ownership.restore(kept)
        except FileNotFoundError:
            log.info("%s is not there: the kubelet will tell who has which board", self.path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is of no use (%s): the kubelet will tell who has which board", self.path, error)

    def save(self, ownership: Ownership) -> None:
        """Raises OSError.

        Not forced onto the disk (measured: 17 to 45 ms on a busy one, of the 50 that an Allocate may take): after a loss of power the kubelet tells from its
        own checkpoint, as for any file that is damaged.
        """
        state = ownership.as_dict()
        if state == self._written:
            return
        unfinished = self.path.with_suffix(".new")
        unfinished.write_text(json.dumps({"format": FORMAT, **state}, indent=1, sort_keys=True), encoding="utf-8")
        os.replace(unfinished, self.path)
        self._written = state
