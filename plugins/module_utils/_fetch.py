# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large files from a mirror with an authority and a login of its own, which get_url cannot be given, compared with their checksum."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.urls import open_url

BLOCK = 1 << 20
#: Options of modules that fetch, beside url.
LOGIN: Mapping[str, Mapping[str, Any]] = {"ca": {"type": "str"}, "username": {"type": "str"}, "password": {"type": "str", "no_log": True}}


class FetchError(Exception):
    """A file could not be had, or is another one; the text names both checksums."""


def sha256_of(path: Path) -> str:
    """ "" for a file that isn't there."""
    total = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                total.update(block)
    except FileNotFoundError:
        return ""
    return total.hexdigest()


def fetch(params: Mapping[str, Any], target: Path, sha256: str) -> None:
    """params: url, ca, username, password. What is not the wanted file never stands at target. Raises FetchError."""
    url, unfinished = params["url"], target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as authority:
            authority.write(params["ca"] or "")
            authority.flush()
            answer = open_url(
                url,
                url_username=params["username"],
                url_password=params["password"],
                force_basic_auth=bool(params["username"]),
                ca_path=authority.name if params["ca"] else None,
                timeout=60,
            )
            with unfinished.open("wb") as file:
                while block := answer.read(BLOCK):
                    file.write(block)
        found = sha256_of(unfinished)
        if found != sha256:
            raise FetchError(f"{url} has sha256 {found}, expected {sha256}. If the file is the right one, pin its checksum.")
        unfinished.chmod(0o644)
        unfinished.replace(target)
    except (urllib.error.URLError, OSError, ValueError) as error:
        remedy = "Without a mirror this host needs the Internet (or cluster_proxy); with one look at cluster_mirrors.files."
        raise FetchError(f"{url} cannot be fetched: {error}. {remedy}") from error
    finally:
        unfinished.unlink(missing_ok=True)
