# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd is told (sd_notify(3)); without systemd, nobody."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


def notify(**facts: str) -> None:
    """As READY="1" or STATUS="3 boards"."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    message = "\n".join(f"{name}={value}" for name, value in facts.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
            connection.sendall(message.encode())
    except OSError as error:
        log.warning("systemd cannot be told (%s)", error)
