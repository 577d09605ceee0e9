# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a control plane is made again from: etcd's data, the cluster's keys, the VPN's authority and keeper's record, as one archive with its checksum.

snapshots/<moment>/<cluster>-<moment>.tar.gz and .sha256 beside it. A folder of that name is whole: it gets its name when everything is on the disk.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import ssl
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

#: Seconds that etcd may be silent, and that all of it may take.
SILENCE, LONGEST = 30.0, 600.0
#: etcd sends its database in pieces of 32 KiB (server/etcdserver/api/v3rpc/maintenance.go), each a line of JSON.
LONGEST_LINE = 1 << 20
#: Bytes that stay free on the disk, for etcd itself. Keys and certificates are a few hundred KB.
RESERVE = 256 << 20
DIGEST = hashlib.sha256().digest_size
UNFINISHED = ".unfinished-"
MOMENT = "%Y-%m-%dT%H%M%SZ"


class SnapshotError(Exception):
    """There is no new snapshot; the message says why."""


# --- etcd -------------------------------------------------------------------------------------------------------------------------------


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Database:
    """size: bytes of what content gives, which is the file that `etcdctl snapshot save` writes: the database, and its SHA-256 behind it."""

    size: int
    content: Readable


class Etcd:
    """etcd's own way over HTTP and JSON (its gRPC gateway, which is on unless somebody has switched it off), as the API server's user.

    ca, certificate, key: files, read at each call, because kubeadm renews them.
    """

    def __init__(self, url: str, ca: str, certificate: str, key: str, silence: float = SILENCE) -> None:
        self._url, self._ca, self._certificate, self._key, self._silence = url, ca, certificate, key, silence

    @classmethod
    def of_kubeadm(cls, url: str, pki: str) -> Etcd:
        client = os.path.join(pki, "apiserver-etcd-client")
        return cls(url, os.path.join(pki, "etcd", "ca.crt"), f"{client}.crt", f"{client}.key")

    def snapshot(self, take: Callable[[Database], None]) -> None:
        """Gives its database to take while it comes. Raises SnapshotError where it does not come whole."""
        address = urlsplit(self._url)
        try:
            context = ssl.create_default_context(cafile=self._ca)
            context.load_cert_chain(self._certificate, self._key)
            connection = http.client.HTTPSConnection(address.hostname or "", address.port, timeout=self._silence, context=context)
        except (OSError, ssl.SSLError) as error:
            raise SnapshotError(f"etcd's certificates cannot be used ({error}): {self._ca}, {self._certificate}") from error
        with closing(connection):
            try:
                connection.request("POST", "/v3/maintenance/snapshot", "{}", {"Content-Type": "application/json"})
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise SnapshotError(f"etcd at {self._url} gives no answer ({error or type(error).__name__})") from error
            if answer.status != http.HTTPStatus.OK:
                said = answer.read(200).decode("utf-8", "replace").strip()
                raise SnapshotError(f"etcd at {self._url} gives no snapshot: HTTP status {answer.status}, {said or 'nothing more'}")
            blobs = self._blobs(answer)
            try:
                first, left = next(blobs)
            except StopIteration:
                raise SnapshotError(f"etcd at {self._url} sent nothing") from None
            size = len(first) + left + DIGEST
            stream = _Stream(first, blobs, size - DIGEST)
            take(Database(size, stream))
            stream.check()

    def _blobs(self, answer: http.client.HTTPResponse) -> Iterator[tuple[bytes, int]]:
        """Pieces, and the bytes of the database that come after each."""
        end = time.monotonic() + LONGEST
        waiting = b""
        while True:
            if time.monotonic() > end:
                raise SnapshotError(f"etcd at {self._url} has not sent all of it within {LONGEST:.0f} s")
            try:
                data = answer.read1(1 << 16)
            except (OSError, http.client.HTTPException) as error:
                raise SnapshotError(f"etcd at {self._url} broke off ({error or type(error).__name__})") from error
            *lines, waiting = (waiting + data).split(b"\n")
            for line in filter(None, lines):
                yield self._read(line)
            if len(waiting) > LONGEST_LINE:
                raise SnapshotError(f"etcd at {self._url} sends something else than a snapshot")
            if not data:
                if waiting:
                    yield self._read(waiting)
                return

    def _read(self, line: bytes) -> tuple[bytes, int]:
        try:
            message = json.loads(line)
            if "error" in message:
                raise SnapshotError(f"etcd at {self._url} gives no snapshot: {message['error'].get('message') or message['error']}")
            result = message["result"]
            return base64.b64decode(result.get("blob") or "", validate=True), int(result.get("remaining_bytes") or 0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SnapshotError(f"etcd at {self._url} sends something else than a snapshot: {line[:80]!r}") from error


class _Stream:
    """Pieces as one file that is read from its beginning, and that knows at its end whether it was what etcd had."""

    def __init__(self, first: bytes, blobs: Iterator[tuple[bytes, int]], size: int) -> None:
        self._waiting, self._blobs, self._left = bytearray(first), blobs, size
        self._hash = hashlib.sha256()
        self._digest = b""

    def read(self, size: int = -1, /) -> bytes:
        while len(self._waiting) < size:
            piece = next(self._blobs, None)
            if piece is None:
                raise SnapshotError("etcd's snapshot did not come whole: it ends too early")
            self._waiting += piece[0]
        data = bytes(self._waiting[:size])
        del self._waiting[:size]
        database = data[: self._left]
        self._hash.update(database)
        self._left -= len(database)
        self._digest += data[len(database) :]
        return data

    def check(self) -> None:
        if self._waiting or next(self._blobs, None) or self._digest != self._hash.digest():
            raise SnapshotError("etcd's snapshot did not come whole: its checksum is not that of what came")


# --- the archives -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """A snapshot that is whole. path: the archive."""

    moment: float
    path: Path

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def copied(self) -> Path:
        """There when the command that takes it elsewhere has done so."""
        return self.folder / "copied"


def _moment(name: str) -> float | None:
    """Of a folder's name; None of what is none of ours."""
    try:
        return datetime.strptime(name, MOMENT).replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None


class Snapshots:
    """name: what the archives are called, before the moment. sources: what is saved beside etcd, {name in the archive: file or folder here}."""

    def __init__(self, folder: str, name: str, sources: Mapping[str, str], kept: int) -> None:
        self._folder, self._name, self._sources, self._most = Path(folder), re.sub(r"[^A-Za-z0-9._-]", "-", name), sources, kept

    def all(self) -> list[Kept]:
        """Oldest first."""
        try:
            names = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return []
        found = [(name, next((self._folder / name).glob("*.tar.gz"), None)) for name in names]
        return [Kept(moment, path) for name, path in found if path and (moment := _moment(name)) is not None]

    def newest(self, now: float) -> Kept | None:
        """One from the future, made while the clock was wrong, says nothing of today."""
        return next((one for one in reversed(self.all()) if one.moment <= now), None)

    def take(self, etcd: Etcd, about: Mapping[str, Any], now: float) -> Kept:
        """Makes one, and removes those that are more than are kept. Nothing is removed, and nothing is left behind, where it fails."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for unfinished in self._folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(unfinished)  # of one that was killed
        moment = datetime.fromtimestamp(now, timezone.utc).strftime(MOMENT)
        archive = f"{self._name}-{moment}.tar.gz"
        folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self._folder))
        try:
            digest = self._write(folder / archive, etcd, {**about, "made": moment}, now)
            _write(folder / f"{archive}.sha256", f"{digest}  {archive}\n".encode())
            _sync(folder)
            os.rename(folder, self._folder / moment)
            _sync(self._folder)
        except BaseException:
            with suppress(OSError):
                shutil.rmtree(folder)
            raise
        made = Kept(now, self._folder / moment / archive)
        self._prune(made, now)
        return made

    def _write(self, path: Path, etcd: Etcd, about: Mapping[str, Any], now: float) -> str:
        """Returns the archive's SHA-256."""
        files = [(name, Path(source)) for name, folder in self._sources.items() for name, source in _files_of(name, folder)]
        with open(path, "xb", opener=_private) as raw:
            hashed = _Hashing(raw)
            # Level 1: half the size for a second of one core.
            with gzip.GzipFile("", "wb", 1, hashed, now) as packed, tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive:

                def add(name: str, size: int, content: Readable, mode: int = 0o600) -> None:
                    member = tarfile.TarInfo(name)
                    member.size, member.mode, member.mtime = size, mode, int(now)
                    archive.addfile(member, content)

                def add_database(database: Database) -> None:
                    _check_room(path, database.size)
                    add("etcd.db", database.size, database.content)

                etcd.snapshot(add_database)
                for name, source in files:
                    with suppress(FileNotFoundError):  # revoked meanwhile
                        data = source.read_bytes()
                        add(name, len(data), io.BytesIO(data), source.stat().st_mode & 0o777)
                text = json.dumps(about, indent=1, sort_keys=True).encode() + b"\n"
                add("about.json", len(text), io.BytesIO(text))
            raw.flush()
            os.fsync(raw.fileno())
            return hashed.digest()

    def _prune(self, made: Kept, now: float) -> None:
        """What is from the future goes first: its age is not known."""
        others = [one for one in self.all() if one.folder != made.folder]
        by_age = [*(one for one in others if one.moment > now), *(one for one in others if one.moment <= now)]
        for one in by_age[: max(0, len(by_age) + 1 - self._most)]:
            # By a rename first, so that no half of it has the name of a whole one.
            going = self._folder / f"{UNFINISHED}{one.folder.name}"
            os.rename(one.folder, going)
            shutil.rmtree(going)


class _Hashing(io.RawIOBase):
    """A file that is written once, from its beginning."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file, self._hash = file, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def digest(self) -> str:
        return self._hash.hexdigest()


def _check_room(path: Path, size: int) -> None:
    found = os.statvfs(path.parent)
    free = found.f_bavail * found.f_frsize
    if free < size + RESERVE:
        there, wanted = free >> 20, (size + RESERVE) >> 20
        raise SnapshotError(f"{path.parent.parent} has {there} MiB left, expected {wanted}. Make room, or lower keeper_snapshots_kept and remove the oldest")


def _files_of(name: str, source: str) -> Sequence[tuple[str, Path]]:
    """The files of a folder, or the one file; nothing where there is nothing."""
    path = Path(source)
    if path.is_dir():
        return [(f"{name}/{one.relative_to(path)}", one) for one in sorted(path.rglob("*")) if one.is_file()]
    return [(name, path)] if path.is_file() else []


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(path: Path, data: bytes) -> None:
    with open(path, "xb", opener=_private) as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    """Names, too, are on the disk only when their folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
