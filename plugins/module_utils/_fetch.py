# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files from a mirror with an authority, a login and a proxy of its own, which get_url cannot be given."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.fpga.hybrid.plugins.module_utils._apt import Proxy

BLOCK = 1 << 20
#: A module's option; proxy_of reads it.
PROXY: Mapping[str, Any] = {
    "type": "dict",
    "options": {"http": {"type": "str"}, "https": {"type": "str"}, "no_proxy": {"type": "list", "elements": "str", "default": []}},
}
#: Options of modules that fetch, beside url.
MIRROR: Mapping[str, Mapping[str, Any]] = {
    "ca": {"type": "str"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "proxy": PROXY,
}


class FetchError(Exception):
    """A file could not be had, or is another one; the text names both checksums."""


def proxy_of(option: Mapping[str, Any] | None) -> Proxy:
    given = option or {}
    return Proxy(given.get("http") or None, given.get("https") or None, tuple(given.get("no_proxy") or ()))


@contextmanager
def opened(
    url: str, *, ca: str | None = None, username: str | None = None, password: str | None = None, proxy: Proxy | None = None, timeout: float = 30
) -> Iterator[Any]:
    """The answer, to be read. A login is not given to another host that the mirror may send us to. proxy: the environment's, if None."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=ssl.create_default_context(cadata=ca or None))]
    if proxy is not None:
        way = proxy.for_url(url)
        handlers.append(urllib.request.ProxyHandler({urlsplit(url).scheme: way} if way else {}))
    request = urllib.request.Request(url, headers={"User-Agent": "fpga.hybrid"})  # noqa: S310  (what the declaration names is fetched)
    if username:
        login = base64.b64encode(f"{username}:{password}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {login}")
    with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as answer:
        yield answer


@contextmanager
def _of_mirror(params: Mapping[str, Any]) -> Iterator[Any]:
    """By a module's options. Raises FetchError for whatever goes wrong, also while the answer is read."""
    proxy = proxy_of(params["proxy"]) if params["proxy"] else None
    try:
        with opened(params["url"], **{name: params[name] for name in ("ca", "username", "password")}, proxy=proxy, timeout=60) as answer:
            yield answer
    except (http.client.HTTPException, OSError, ValueError) as error:  # an answer that breaks off is none of OSError
        remedy = "Without a mirror this host needs the Internet (or cluster_proxy); with one look at cluster_mirrors.files."
        raise FetchError(f"{params['url']} cannot be fetched: {error}. {remedy}") from error


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


def read(params: Mapping[str, Any]) -> bytes:
    """params: url and MIRROR's. Raises FetchError."""
    with _of_mirror(params) as answer:
        return bytes(answer.read())


def fetch(params: Mapping[str, Any], target: Path, sha256: str) -> None:
    """params: url and MIRROR's. What is not the wanted file never stands at target. Raises FetchError."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with _of_mirror(params) as answer, unfinished.open("wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
        found = sha256_of(unfinished)
        if found != sha256:
            raise FetchError(f"{params['url']} has sha256 {found}, expected {sha256}. If the file is the right one, pin its checksum.")
        unfinished.chmod(0o644)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
