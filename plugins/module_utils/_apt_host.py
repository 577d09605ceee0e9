# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge of C(_apt.py): runs apt's programs, reads and writes its files, and carries a request out."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import fcntl
import glob
import hashlib
import http.client
import os
import socket
import stat
import time
import typing as t
import urllib.error
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ansible_collections.fpga.hybrid.plugins.module_utils import _apt as apt
from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from ansible_collections.fpga.hybrid.plugins.module_utils._apt import ABSENT, AptError, Circumstances, File, Offer, Package, Proxy, Source, State, Step
from ansible_collections.fpga.hybrid.plugins.module_utils._fetch import opened
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record

Runner = t.Callable[[t.Sequence[str], t.Mapping[str, str]], tuple[int, str, str]]

ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "LANGUAGE": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "APT_LISTCHANGES_FRONTEND": "none",
    "UCF_FORCE_CONFFOLD": "1",
    # Ubuntu's needrestart would restart services of others, containers' runtimes among them.
    "NEEDRESTART_SUSPEND": "1",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
BOUNDED = ("-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20")
KEEP_CONFFILES = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")

STATE_FOLDER = "/var/lib/fpga-hybrid/apt"
#: Not in /etc/fpga-hybrid: a reset that finds nothing to remove must leave nothing behind either.
LOCK_FOLDER = "/run/fpga-hybrid"
POLICY = "/usr/sbin/policy-rc.d"
POLICY_TEXT = "#!/bin/sh\n# Written by fpga.hybrid while it installs packages; gone when it has ended.\nexit 101\n"
POLICY_KEPT = POLICY + ".fpga-hybrid-kept"


@dataclass(frozen=True)
class Request:
    name: str
    source: Source | None
    packages: tuple[Package, ...]
    proxy: Proxy = Proxy()  # noqa: RUF009  (frozen)
    valid_time: int = 3600
    start_services: bool = True
    variable: str | None = None
    accept_new_key: bool = False


@dataclass
class Result:
    changes: list[str] = field(default_factory=list)
    packages: dict[str, dict[str, t.Any]] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.changes)

    def diff(self) -> dict[str, str]:
        return {"before": "\n".join(self.before) + "\n", "after": "\n".join(self.after) + "\n"}


class Host:
    """One host's apt. root is another folder than / only in tests."""

    def __init__(self, run: Runner, root: str = "", lock_timeout: float = 120) -> None:
        self._run = run
        self.root = root
        self.lock_timeout = lock_timeout
        self.name = socket.gethostname()

    # Files

    def path(self, path: str) -> str:
        return self.root + path

    def read(self, path: str) -> str | None:
        try:
            with open(self.path(path), encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def differs(self, file: File) -> bool:
        """Content, or a mode or owner that is not the wanted one."""
        if self.read(file.path) != file.content:
            return True
        if file.content is None:
            return False
        status = os.stat(self.path(file.path))
        return stat.S_IMODE(status.st_mode) != file.mode or status.st_uid != os.geteuid()

    def write(self, file: File) -> None:
        path = self.path(file.path)
        if file.content is None:
            if os.path.lexists(path):
                os.unlink(path)
            return
        try:
            _files.write(path, _files.File(file.content, file.mode))
        except OSError as error:
            raise AptError("disk", f"{self.name}: {file.path} cannot be written ({error}). Make room there, then run again.") from error

    def foreign_source(self, source: Source, own: str) -> str | None:
        """The file of somebody else in which this repository is configured already."""
        return next((path for path in self.source_files() if path != own and apt.offers(apt.parse_sources(path, self.read(path) or ""), source)), None)

    def source_files(self) -> list[str]:
        found = [path[len(self.root) :] for pattern in ("*.list", "*.sources") for path in glob.glob(self.path(f"/etc/apt/sources.list.d/{pattern}"))]
        return ["/etc/apt/sources.list", *sorted(found)]

    # Freshness of the package lists

    def touch(self, name: str) -> None:
        os.makedirs(self.path(STATE_FOLDER), mode=0o755, exist_ok=True)
        with open(self.path(f"{STATE_FOLDER}/{name}.updated"), "w", encoding="utf-8"):
            pass

    def untouch(self, name: str) -> None:
        path = self.path(f"{STATE_FOLDER}/{name}.updated")
        if os.path.exists(path):
            os.unlink(path)

    def age(self, name: str) -> float | None:
        """Seconds since the lists of this source were updated; None for never."""
        return self._age(f"{STATE_FOLDER}/{name}.updated")

    def age_of_lists(self) -> float | None:
        """Seconds since any lists of this host were updated, by whomever."""
        stamps = [f[len(self.root) :] for f in glob.glob(self.path(f"{STATE_FOLDER}/*.updated"))]
        ages = [self._age(path) for path in (*stamps, "/var/lib/apt/periodic/update-success-stamp", "/var/lib/apt/lists")]
        return min((age for age in ages if age is not None), default=None)

    def _age(self, path: str) -> float | None:
        try:
            age = time.time() - os.stat(self.path(path)).st_mtime
        except FileNotFoundError:
            return None
        return age if age >= 0 else None  # a stamp from the future says nothing

    # Programs

    def query(self, *command: str) -> tuple[int, str]:
        status, out, _err = self._run(command, ENVIRONMENT)
        return status, out

    def states(self, names: t.Sequence[str]) -> dict[str, State]:
        found: dict[str, State] = apt.parse_dpkg_query(self.query(*apt.DPKG_QUERY, *names)[1]) if names else {}
        return found

    def installed(self) -> set[str]:
        return {name for name, state in apt.parse_dpkg_query(self.query(*apt.DPKG_QUERY)[1]).items() if state.version}

    def offers(self, names: t.Sequence[str]) -> dict[str, Offer]:
        found: dict[str, Offer] = apt.parse_policy(self.query("apt-cache", "policy", *names)[1])
        return found

    def interrupted(self) -> bool:
        """Whether dpkg was killed in the middle: it then refuses any work until `dpkg --configure -a`."""
        folder = self.path("/var/lib/dpkg/updates")
        return os.path.isdir(folder) and any(name.isdigit() for name in os.listdir(folder))

    def do(self, command: t.Sequence[str], doing: str, at: t.Callable[[str], Circumstances]) -> str:
        """Run a program that changes something; while another one holds apt's locks, try again for a bounded time."""
        end = time.monotonic() + self.lock_timeout
        while True:
            status, out, err = self._run(command, ENVIRONMENT)
            if status == 0:
                return out
            text = f"{out}\n{err}"
            # Only the lock of dpkg is waited for by apt itself (DPkg::Lock::Timeout), that of the lists and archives is not.
            if apt.kind_of(text) != "lock" or time.monotonic() >= end:
                raise apt.explain(text, doing, at(text))
            time.sleep(min(2, max(0.0, end - time.monotonic())))

    def apt_get(self, *words: str) -> list[str]:
        return ["apt-get", "-y", "-q", "-o", f"DPkg::Lock::Timeout={int(self.lock_timeout)}", *BOUNDED, *KEEP_CONFFILES, *words]

    # Services

    def mend_policy(self) -> None:
        """Take away what a killed run left of services_off."""
        if self.read(POLICY) == POLICY_TEXT:
            os.unlink(self.path(POLICY))
        if os.path.lexists(self.path(POLICY_KEPT)):
            os.replace(self.path(POLICY_KEPT), self.path(POLICY))

    @contextmanager
    def services_off(self) -> t.Iterator[None]:
        """Packages that are installed meanwhile do not start their services (invoke-rc.d and deb-systemd-invoke ask policy-rc.d)."""
        if os.path.lexists(self.path(POLICY)):
            os.replace(self.path(POLICY), self.path(POLICY_KEPT))
        self.write(File(POLICY, "policy", POLICY_TEXT, mode=0o755))
        try:
            yield
        finally:
            self.mend_policy()

    @contextmanager
    def locked(self) -> t.Iterator[None]:
        """One request at a time on a host; the lock goes with the process."""
        folder = self.path(LOCK_FOLDER)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle = os.open(f"{folder}/apt.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            end = time.monotonic() + self.lock_timeout
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= end:
                        raise AptError(
                            "lock", f"{self.name}: another run of fpga.hybrid installs packages on this host. Wait for it, then run again."
                        ) from None
                    time.sleep(0.2)
            yield
        finally:
            os.close(handle)


def fetch(url: str, source: Source, proxy: Proxy, timeout: float = 30) -> bytes:
    """Get a small file with the mirror's CA, and with its credentials if it is on the mirror's host."""
    known = urlsplit(url).netloc == urlsplit(source.url).netloc
    login = {"username": source.username, "password": source.password} if known else {}
    with opened(url, ca=source.ca, **login, proxy=proxy, timeout=timeout) as answer:
        return bytes(answer.read(1 << 20))


Fetcher = t.Callable[[str, Source, Proxy], bytes]


class Worker:
    """Brings one owner's packages and source to the wanted state, or out of the host."""

    def __init__(self, host: Host, record: Record, request: Request, check: bool, fetcher: Fetcher = fetch) -> None:
        self.host = host
        self.record = record
        self.request = request
        self.check = check
        self.fetcher = fetcher
        self.entry: dict[str, t.Any] = record.get("apt", request.name, {})
        self.result = Result()
        self.key: str | None = None
        self.updated_all = False
        self.predicted: dict[str, str | None] = {}

    def apt_get(self, *words: str) -> list[str]:
        """The command for what has to reach a source."""
        return self.host.apt_get(*apt.ways(self.request.source, self.request.proxy), *words)

    # Present

    def present(self) -> Result:
        request, host = self.request, self.host
        names = [package.name for package in request.packages]
        if not self.check:
            host.mend_policy()
        states = host.states(names)
        steps = [apt.plan_package(package, states.get(package.name, ABSENT), self.entry.get("packages", {}).get(package.name)) for package in request.packages]
        where = apt.paths(request.name)["source"]
        foreign = host.foreign_source(request.source, own=where) if request.source else None
        source = None if foreign else request.source
        self.key = self.trusted_key(source) if source else None
        files = apt.wanted_files(request.name, source, self.key, request.packages, request.proxy)
        stale_files = [file for file in files if host.differs(file)]
        interrupted = host.interrupted()
        self.describe(files, stale_files, steps)

        if interrupted:
            self.result.changes.append("dpkg was interrupted earlier: its work was brought to an end (dpkg --configure -a)")
        self.result.changes += [self.about_file(file) for file in stale_files]
        if self.check:
            self.predict(steps, surely_current=not stale_files)
            return self.finish(files, steps)

        self.remember([step for step in steps if not step.install])
        if interrupted:
            self.with_services(self.configure)
        self.write_files(files, stale_files, source)
        to_install = [step for step in steps if step.install]
        if to_install:
            self.install(to_install, source)
        self.set_holds(steps)
        return self.finish(files, steps)

    def trusted_key(self, source: Source) -> str | None:
        """The armored key; from the network only when none is here yet, when ours was edited, or when a new one is asked for."""
        if source.key:
            try:
                return str(apt.armor(source.key.encode()))
            except AptError as error:
                raise AptError(
                    "key", f"{self.circumstances('').option('key')}: {error}. It must be the armored text of the repository's public key."
                ) from error
        if not source.key_url:
            return None
        path = apt.paths(self.request.name)["key"]
        current, pinned = self.host.read(path), self.entry.get("key", {})
        intact = current is not None and pinned.get("sha256") in (None, digest(current))
        if intact and not self.request.accept_new_key:
            return current
        if self.check:
            # Nothing is fetched in check mode; what is there, or a word for what would be.
            return current if intact else f"(the key of {source.key_url})\n"
        fetched = self.fetch_key(source)
        if pinned.get("sha256") not in (None, digest(fetched)) and not self.request.accept_new_key:
            raise AptError(
                "key",
                f"{self.host.name}: the key at {source.key_url} is {apt.name_key(fetched)}, "
                f"but this host has trusted {pinned['name']} for {source} so far. "
                "If the change is genuine (ask those who run the repository), "
                f"put the new key's text into {self.circumstances('').option('key')} or set accept_new_key.",
            )
        return fetched

    def fetch_key(self, source: Source) -> str:
        at = Circumstances(self.host.name, source, variable=self.request.variable)
        url = t.cast(str, source.key_url)
        doing = f"fetching the key {url}"
        try:
            return str(apt.armor(self.fetcher(url, source, self.request.proxy)))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise AptError(
                    "key", f"{self.host.name}: there is no key at {url}. Check {at.option('url')}, or put the key's text into {at.option('key')}."
                ) from error
            raise apt.explain(f"{error.code} {error.reason}", doing, at) from error
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise apt.explain(str(getattr(error, "reason", error)), doing, at) from error
        except AptError as error:
            raise AptError("key", f"{self.host.name}: {url} holds {error}. Check {at.option('url')}, or put the key's text into {at.option('key')}.") from error

    def write_files(self, files: t.Sequence[File], stale: t.Sequence[File], source: Source | None) -> None:
        """Write what differs; when the source turns out not to work, the host gets its old files back, so that its own apt goes on working."""
        host, name = self.host, self.request.name
        before = [(file, host.read(file.path)) for file in stale]
        entry_before: dict[str, t.Any] = {key: self.entry[key] for key in ("files", "source", "key") if key in self.entry}
        if any(file.what != "version pin" for file in stale):
            host.untouch(name)
        for file in stale:
            host.write(file)
        self.entry["files"] = {file.path: digest(file.content) for file in files if file.content is not None}
        if source:
            self.entry["source"] = {
                "url": source.url,
                "suite": source.suite,
                "components": list(source.components),
                "variable": self.request.variable,
            }
            if self.key:
                self.entry["key"] = {"sha256": digest(self.key), "name": apt.name_key(self.key)}
            # A missing stamp means that this source has never worked as it is now (a killed run leaves it so, too).
            if host.age(name) is None:
                try:
                    self.update_own(source)
                except AptError:
                    for file, content in before:
                        host.write(File(file.path, file.what, content, file.mode))
                    for key in ("files", "source", "key"):
                        self.entry.pop(key, None)
                    self.entry.update(entry_before)
                    self.save()
                    raise
        self.save()

    def update_own(self, source: Source) -> None:
        """apt-get update of our source alone: strict, quick, and independent of sources that others left broken."""
        path = apt.paths(self.request.name)["source"]
        settings = [f"Dir::Etc::SourceList={path}", "Dir::Etc::SourceParts=-", "APT::Get::List-Cleanup=0", "APT::Update::Error-Mode=any"]
        if source.ca:
            # apt knows one CA a host name: another source on the same host must not lend this one its own.
            settings.append(f"Acquire::https::{source.host}::CaInfo={apt.paths(self.request.name)['ca']}")
        self.host.do(
            self.apt_get(*(word for setting in settings for word in ("-o", setting)), "update"),
            "updating the package lists",
            lambda text: Circumstances(self.host.name, source, apt.paths(self.request.name)["key"], self.key, self.request.variable),
        )
        self.host.touch(self.request.name)

    def update_all(self) -> None:
        """apt-get update of everything. A source of somebody else that does not answer only matters if a package is then missing."""
        self.updated_all = True
        self.host.do(self.apt_get("update"), "updating the package lists", self.circumstances)
        self.host.touch("all")

    def install(self, steps: t.Sequence[Step], source: Source | None) -> None:
        host = self.host
        limit, age = self.request.valid_time, host.age(self.request.name) if source else host.age_of_lists()
        if age is None or age > limit:
            if source:
                self.update_own(source)
            else:
                self.update_all()
        chosen = self.choose(steps, source)
        self.remember(steps)
        ours_held = [step.package.name for step in steps if step.state.held]
        if ours_held:
            self.mark("unhold", ours_held)
        before = host.installed()
        archives = {step.package.name: step.package.path for step in steps if step.package.path}
        what = [archives.get(name, f"{name}={version}") for name, version in chosen.items()]
        words = self.apt_get("--no-install-recommends", "--no-remove", "install", *what)
        if any(step.state.unfinished for step in steps):
            words.insert(1, "--reinstall")

        def attempt() -> str:
            return host.do(words, f"installing {', '.join(str(step.package) for step in steps)}", self.circumstances)

        def try_twice() -> None:
            try:
                attempt()
            except AptError as error:
                # Old lists name files that are gone, or lack a dependency: look again, once.
                if error.kind not in ("gone", "depends", "missing", "checksum") or self.updated_all:
                    raise
                self.update_all()
                attempt()

        try:
            self.with_services(try_twice)
        finally:
            # Also when it failed half-way: what came onto the host goes out again at reset.
            self.entry["brought"] = sorted({*self.entry.get("brought", []), *(host.installed() - before - set(chosen))})
            self.save()
        now = host.states(list(chosen))
        for step in steps:
            name = step.package.name
            version = now.get(name, ABSENT).version
            if version is None or not step.package.accepts(version):
                raise AptError(
                    "other",
                    f"{host.name}: apt-get said that it installed {step.package}, but dpkg finds {version or 'nothing'}. Look into /var/log/apt/term.log.",
                )
            self.result.changes.append(about_install(step, version))
            self.entry["packages"][name]["version"] = version
        self.save()

    def choose(self, steps: t.Sequence[Step], source: Source | None) -> dict[str, str]:
        names = [step.package.name for step in steps]
        own = self.request.source or source

        def attempt() -> dict[str, str]:
            offers = self.host.offers(names)
            return {
                step.package.name: self.version_of_archive(step.package) if step.package.path else apt.choose(step, offers.get(step.package.name), own)
                for step in steps
            }

        try:
            return attempt()
        except AptError as error:
            if error.kind not in ("missing", "version"):
                raise self.placed(error) from error
        try:
            # The lists may be older than the mirror's last change.
            if source:
                self.update_own(source)
            else:
                self.update_all()
            return attempt()
        except AptError as error:
            raise (self.placed(error) if error.kind in ("missing", "version", "downgrade") else error) from error

    def chosen(self, step: Step, offer: Offer | None) -> str:
        """As far as a check can know."""
        path = step.package.path
        if path is None:
            return str(apt.choose(step, offer, self.request.source))
        if not os.path.exists(self.host.path(path)):
            raise AptError("missing", f"{path} is not there yet")
        return self.version_of_archive(step.package)

    def version_of_archive(self, package: Package) -> str:
        """The version in a .deb, which must be what it is said to be."""
        path = t.cast(str, package.path)
        try:
            with open(self.host.path(path), "rb") as file:
                found = hashlib.sha256(file.read()).hexdigest()
        except OSError as error:
            raise AptError("archive", f"{self.host.name}: {path} cannot be read ({error}), expected the package file of {package.name}.") from error
        if package.sha256 and found != package.sha256:
            remedy = "Fetch it again, or mend the checksum if the file is the right one."
            raise AptError("archive", f"{self.host.name}: {path} has sha256 {found}, expected {package.sha256}. {remedy}")
        status, said = self.host.query("dpkg-deb", "--show", "--showformat=${Package} ${Version}", path)
        name, _space, version = said.strip().partition(" ")
        if status or name != package.name or not package.accepts(version):
            raise AptError("archive", f"{self.host.name}: {path} holds {said.strip() or 'no package'}, expected {package}. Give the file that belongs to it.")
        return version

    def placed(self, error: AptError) -> AptError:
        at = self.circumstances("")
        remedy = {
            "missing": f" Check {at.option('url')} and the suite."
            if self.request.source
            else " Check /etc/apt/sources.list(.d), or set cluster_mirrors.debian.",
            "version": " Ask for one of those"
            + (f", or have the mirror ({at.option('url')}) take in the wanted one." if self.request.source else ", or add a source that has it."),
        }.get(error.kind, "")
        return AptError(error.kind, f"{self.host.name}: {error}{remedy}")

    def configure(self) -> None:
        self.host.do(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"], "ending dpkg's interrupted work", self.circumstances)

    def with_services(self, work: t.Callable[[], None]) -> None:
        if self.request.start_services:
            work()
        else:
            with self.host.services_off():
                work()

    def set_holds(self, steps: t.Sequence[Step]) -> None:
        entries = self.entry.get("packages", {})
        hold = [step.package.name for step in steps if step.hold]
        unhold = [step.package.name for step in steps if step.unhold]
        if hold:
            self.mark("hold", hold)
        if unhold:
            self.mark("unhold", unhold)
        for step in steps:
            name = step.package.name
            # The installation itself takes a hold of ours away for a moment; that is no change to report.
            if step.hold and not step.state.held:
                self.result.changes.append(f"{name} held" + (" again: its hold had been removed" if entries[name].get("hold") else ""))
            if step.unhold:
                self.result.changes.append(f"{name} no longer held")
            entries[name]["hold"] = step.package.hold
        self.save()

    def mark(self, what: str, names: t.Sequence[str]) -> None:
        self.host.do(["apt-mark", what, *names], f"apt-mark {what}", self.circumstances)

    # The record

    def remember(self, steps: t.Sequence[Step]) -> None:
        """Before the first change: a run that is killed must not make its own work look like something that was found."""
        others = [entry for name, entry in self.record.section("apt").items() if name != self.request.name]
        packages = self.entry.setdefault("packages", {})
        for step in steps:
            name = step.package.name
            if name in packages:
                continue
            # What another role of ours brought was not there before us either.
            found = next((entry["packages"][name] for entry in others if name in entry.get("packages", {})), None)
            if found is None and any(name in entry.get("brought", []) for entry in others):
                found = {"was": None, "hold_was": False}
            packages[name] = {
                "was": found["was"] if found else step.state.version,
                "hold_was": found["hold_was"] if found else step.state.held,
                "version": step.state.version,
            }
        self.save()

    def save(self) -> None:
        self.record.put("apt", self.request.name, self.entry)
        self.record.save()

    def circumstances(self, output: str) -> Circumstances:
        """Whose source an error is about: ours, that of another owner of this collection, or one of the host's."""
        request = self.request
        urls = [word.rstrip(",:;'\"") for line in output.splitlines() if line.startswith(("E:", "Err:", "W:")) for word in line.split() if "://" in word]
        named = {request.name: (request.source, request.variable)}
        for name, entry in self.record.section("apt").items():
            if name != request.name and entry.get("source"):
                found = entry["source"]
                named[name] = (Source(found["url"], found["suite"], tuple(found["components"])), found.get("variable"))
        for source, variable in named.values():
            if source and any(url.startswith(source.url.rstrip("/")) for url in urls):
                return Circumstances(self.host.name, source, variable=variable)
        if urls:
            return Circumstances(self.host.name)
        return Circumstances(self.host.name, request.source, variable=request.variable)

    # What is told

    def about_file(self, file: File) -> str:
        written = self.entry.get("files", {}).get(file.path)
        current = self.host.read(file.path)
        if file.content is None:
            return f"{file.what} {file.path} removed"
        if current is None:
            return f"{file.what} {file.path} written" + (" again: it had been removed" if written else "")
        if current == file.content:
            return f"{file.what} {file.path}: mode or owner mended"
        edited = written is not None and digest(current) != written
        return f"{file.what} {file.path} " + ("mended: it had been edited" if edited else "brought up to date")

    def describe(self, files: t.Sequence[File], stale: t.Sequence[File], steps: t.Sequence[Step]) -> None:
        for file in files:
            current = self.host.read(file.path)
            if current is not None or file.content is not None:
                self.result.before += show_file(file, current, changed=file in stale)
        for step in steps:
            self.result.before.append(show_package(step.package.name, step.state.version, step.state.held))

    def predict(self, steps: t.Sequence[Step], surely_current: bool) -> None:
        """What a run would say about packages, from what can be known without touching anything."""
        to_install = [step for step in steps if step.install]
        offers = self.host.offers([step.package.name for step in to_install]) if to_install else {}
        for step in steps:
            name = step.package.name
            if step.install:
                version = step.package.version if step.package.exact else None
                try:
                    chosen = self.chosen(step, offers.get(name))
                    version = chosen if surely_current else version
                except AptError as error:
                    # A run would look again with new lists, which a check cannot.
                    if error.kind not in ("missing", "version"):
                        raise self.placed(error) from error
                self.result.changes.append(about_install(step, version))
                self.predicted[name] = version
            if step.hold and not step.state.held:
                self.result.changes.append(
                    f"{name} held" + (" again: its hold had been removed" if self.entry.get("packages", {}).get(name, {}).get("hold") else "")
                )
            if step.unhold:
                self.result.changes.append(f"{name} no longer held")

    def finish(self, files: t.Sequence[File], steps: t.Sequence[Step]) -> Result:
        for file in files:
            if file.content is not None:
                self.result.after += show_file(file, file.content, changed=False)
        names = [step.package.name for step in steps]
        now = {} if self.check or not any(step.install or step.hold or step.unhold for step in steps) else self.host.states(names)
        for step in steps:
            name = step.package.name
            if self.check:
                version = self.predicted.get(name) if step.install else step.state.version
                shown: str | None = version or (step.package.version or "newest")
                held = (step.state.held or step.hold) and not step.unhold
            else:
                state = now.get(name, step.state)
                shown = version = state.version
                held = state.held
            self.result.after.append(show_package(name, shown, held))
            was = self.entry.get("packages", {}).get(name, {"was": step.state.version})["was"]
            self.result.packages[name] = {"installed": version, "was": was, "held": held}
        return self.result

    # Absent

    def absent(self) -> Result:
        """Remove what the record says we brought; give holds back; leave what was there before us."""
        host, name = self.host, self.request.name
        others = {other: entry for other, entry in self.record.section("apt").items() if other != name}
        needed = {package for entry in others.values() for package in entry.get("packages", {})}
        packages: dict[str, dict[str, t.Any]] = self.entry.get("packages", {})
        states = host.states(sorted(packages))
        remove = sorted(p for p, found in packages.items() if found["was"] is None and p in states and p not in needed and states[p] != ABSENT)
        files = [File(path, what, None) for what, path in apt.paths(name).items() if host.read(path) is not None]
        for file in files:
            self.result.before.append(f"{file.path}: present")
            self.result.after.append(f"{file.path}: absent")
            self.result.changes.append(f"{file.path} removed")
        for package in sorted(packages):
            state, found = states.get(package, ABSENT), packages[package]
            gone = package in remove
            hold_back = not gone and state.version is not None and package not in needed and state.held != found["hold_was"]
            held = found["hold_was"] if hold_back else state.held
            self.result.before.append(show_package(package, state.version, state.held))
            self.result.after.append(show_package(package, None if gone else state.version, held and not gone))
            if gone:
                self.result.changes.append(f"{package} {state.version or ''} removed".replace("  ", " "))
            if hold_back:
                self.result.changes.append(f"{package} {'held again' if found['hold_was'] else 'no longer held'}, as it was before")
                if not self.check:
                    self.mark("hold" if found["hold_was"] else "unhold", [package])
            self.result.packages[package] = {"installed": None if gone else state.version, "was": found["was"], "held": held and not gone}
        if self.check:
            return self.result
        host.mend_policy()
        if host.interrupted():
            self.configure()
        if remove:
            self.remove(remove, states, needed, others)
        for file in files:
            host.write(file)
        host.untouch(name)
        self.record.forget("apt", name)
        self.record.save()
        return self.result

    def remove(self, names: t.Sequence[str], states: t.Mapping[str, State], needed: set[str], others: t.Mapping[str, t.Any]) -> None:
        host = self.host
        brought = {*self.entry.get("brought", []), *(p for entry in others.values() for p in entry.get("brought", []))}
        plan = host.do(
            host.apt_get("--simulate", "--allow-change-held-packages", "purge", *names), f"planning to remove {', '.join(names)}", self.circumstances
        )
        also = sorted({*apt.parse_simulation(plan, "Remv"), *apt.parse_simulation(plan, "Purg")} - set(names) - brought)
        if also:
            raise AptError(
                "remove",
                f"{host.name}: {', '.join(also)} needs what we installed ({', '.join(names)}) and was not installed by us. "
                "Remove it by hand if it may go, then run again; or leave our packages in place.",
            )
        held = [name for name in names if states[name].held]
        if held:
            self.mark("unhold", held)
        host.do(host.apt_get("purge", *names), f"removing {', '.join(names)}", self.circumstances)
        # apt keeps what somebody merely suggests, as python3.11 does with python3.11-venv: without us it would not be here.
        said = host.query(*host.apt_get("--simulate", "-o", "APT::AutoRemove::SuggestsImportant=false", "autoremove"))[1]
        orphans = sorted((set(apt.parse_simulation(said, "Remv")) & set(self.entry.get("brought", []))) - needed)
        if orphans:
            host.do(host.apt_get("purge", *orphans), f"removing {', '.join(orphans)}", self.circumstances)
            self.result.changes += [f"{orphan} removed: nothing needs it any more" for orphan in orphans]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def about_install(step: Step, version: str | None) -> str:
    name = step.package.name
    return f"{name} {version or step.package.version or '(newest)'} installed" + (f": {step.why}" if step.why else "")


def show_file(file: File, content: str | None, changed: bool) -> list[str]:
    if content is None:
        return [f"{file.path}: absent"]
    if file.secret:
        return [f"{file.path}: (secret)" + (", to be changed" if changed else "")]
    if content.startswith("-----BEGIN"):
        return [f"{file.path}: sha256 {digest(content)}"]
    return [f"{file.path}:", *(f"  {line}" for line in content.splitlines())]


def show_package(name: str, version: str | None, held: bool) -> str:
    return f"{name}: {version or 'absent'}{', held' if held else ''}"
