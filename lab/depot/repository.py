"""Signed apt repositories, by Debian's own tools."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.depot.base import Cache, run
from lab.files import write_atomically

SIGNER = "fpga.hybrid lab depot"
#: For gpg-agent to end when it is told to.
AGENT_SECONDS = 5


def architecture() -> str:
    return run(["dpkg", "--print-architecture"]).strip()


@dataclass(frozen=True)
class Signer:
    """The depot's own PGP key, made once and kept in the cache."""

    home: Path

    def _gpg(self, *arguments: str | Path, stdin: str | None = None) -> str:
        try:
            return run(["gpg", "--homedir", self.home, "--batch", "--yes", "--no-tty", *arguments], stdin=stdin)
        finally:
            self._end_agent()

    def _end_agent(self) -> None:
        """It would outlive us; and it says that it ends before it does, so that whoever asks next may find one that answers no more."""
        run(["gpgconf", "--homedir", self.home, "--kill", "all"])
        socket = Path(run(["gpgconf", "--homedir", self.home, "--list-dirs", "agent-socket"]).strip())
        deadline = time.monotonic() + AGENT_SECONDS
        while socket.exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def fingerprint(self) -> str:
        for line in self._gpg("--list-secret-keys", "--with-colons").splitlines():
            if line.startswith("fpr:"):
                return line.split(":")[9]
        raise LookupError(f"no key in {self.home}")

    def ensure(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self.fingerprint()
        except LookupError:
            self._gpg("--passphrase", "", "--quick-generate-key", SIGNER, "rsa3072", "sign", "never")

    def public_key(self) -> str:
        return self._gpg("--armor", "--export")

    def sign(self, release: Path) -> None:
        """Write Release.gpg and InRelease beside Release."""
        for name, options in (("Release.gpg", ["--armor", "--detach-sign"]), ("InRelease", ["--clearsign"])):
            temporary = release.with_name(f".{name}.{os.getpid()}")
            self._gpg("--output", temporary, *options, release)
            temporary.replace(release.with_name(name))


def signer(cache: Cache) -> Signer:
    return Signer(cache.depot / "gnupg")


def same_content(a: Path, b: Path) -> bool:
    return b.exists() and a.stat().st_size == b.stat().st_size and (a.stat().st_ino == b.stat().st_ino or a.read_bytes() == b.read_bytes())


def place(source: Path, target: Path) -> None:
    """Have the source's content at target; a hard link where the file system allows it."""
    if same_content(source, target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copy2(source, temporary)
    temporary.replace(target)


def write_indices(root: Path, index: Path, pool: str, release: Path, fields: Mapping[str, str], key: Signer) -> None:
    """Write Packages of `pool` into the folder `index`, and a signed Release into `release`; paths in Packages are relative to root."""
    index.mkdir(parents=True, exist_ok=True)
    packages = run(["apt-ftparchive", "packages", pool], cwd=root)
    write_atomically(index / "Packages", packages)
    write_atomically(index / "Packages.gz", gzip.compress(packages.encode(), mtime=0))
    # A signature of an older Release must not be listed in the new one.
    options = [f"-oAPT::FTPArchive::Release::{name}={value}" for name, value in fields.items()]
    content = run(["apt-ftparchive", *options, "-oAPT::FTPArchive::Release::Patterns::=Packages*", "release", "."], cwd=release)
    write_atomically(release / "Release", content)
    key.sign(release / "Release")


def publish_suite(root: Path, suite: str, component: str, files: Mapping[str, Path], key: Signer, *, pool: str, version: str = "") -> None:
    """Make `files` (name in the pool -> file) the whole content of a suite."""
    arch = architecture()
    for name, source in files.items():
        place(source, root / pool / name)
    for stale in (root / pool).iterdir():
        if stale.name not in files:
            stale.unlink()
    release = root / "dists" / suite
    fields = {
        "Origin": SIGNER,
        "Label": SIGNER,
        "Suite": suite,
        "Codename": suite,
        "Architectures": arch,
        "Components": component,
        **({"Version": version} if version else {}),
    }
    write_indices(root, release / component / f"binary-{arch}", pool, release, fields, key)


def publish_flat(root: Path, files: Mapping[str, Path], key: Signer, *, label: str) -> None:
    """A flat repository as pkgs.k8s.io has them: packages in a folder per architecture, indices beside it."""
    arch = architecture()
    for name, source in files.items():
        place(source, root / arch / name)
    for stale in (root / arch).iterdir():
        if stale.name not in files:
            stale.unlink()
    write_indices(root, root, arch, root, {"Origin": SIGNER, "Label": label, "Architectures": arch}, key)
    write_atomically(root / "Release.key", key.public_key())
