"""Debian packages with all their dependencies, fetched and verified by apt from where this machine gets its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tomllib

from lab.depot.base import HERE, Cache, DepotError, Stamp, digest_of, file_digest, lock, run, say, step
from lab.depot.repository import architecture, publish_suite, signer
from lab.files import write_atomically

LIST = HERE / "debian.toml"
#: Of package debian-archive-keyring on this machine; Debian 12's has Debian 13's keys since 2023.3+deb12u2.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Wanted:
    """debian.toml."""

    suites: Mapping[str, str]
    groups: Mapping[str, Sequence[str]]
    only: Mapping[str, Mapping[str, Sequence[str]]]

    def of(self, suite: str) -> list[list[str]]:
        """The suite's groups of packages that go together."""
        extra = self.only.get(suite, {})
        return [[*packages, *extra.get(name, [])] for name, packages in self.groups.items()]


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    architecture: str

    @property
    def archive_name(self) -> str:
        """As apt names it in its download folder."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    @property
    def pool_name(self) -> str:
        """As Debian names it in its pool: without the epoch."""
        return f"{self.name}_{self.version.partition(':')[2] or self.version}_{self.architecture}.deb"


def read_list(path: Path = LIST) -> Wanted:
    content = tomllib.loads(path.read_text())
    return Wanted(suites=content["suites"], groups=content["groups"], only=content.get("only", {}))


def parse_simulation(output: str) -> Iterator[Package]:
    """The packages that `apt-get --simulate install` would unpack."""
    for line in output.splitlines():
        found = re.match(r"Inst (?P<name>\S+) (?:\[[^]]*\] )?\((?P<version>\S+) .*\[(?P<architecture>[a-z0-9]+)\]\)", line)
        if found:
            yield Package(**found.groupdict())


@dataclass(frozen=True)
class Mirror:
    """Where this machine gets Debian from; read from its own apt configuration, so that nothing else is ever contacted."""

    archive: str
    security: str

    def sources(self, suite: str) -> str:
        return "".join(
            f"deb [signed-by={KEYRING}] {uri} {name} main\n"
            for uri, name in ((self.archive, suite), (self.archive, f"{suite}-updates"), (self.security, f"{suite}-security"))
        )


def parse_targets(output: str) -> Mirror:
    """Find Debian's archive and its security archive among `apt-get indextargets` lines "URI release origin"."""
    archive = security = ""
    for line in output.splitlines():
        uri, release, origin = line.split("|")
        # Before the first `apt-get update` apt cannot tell the origin.
        if origin not in {"Debian", ""} or not re.fullmatch(r"(bookworm|trixie|stable)(-updates|-security)?", release):
            continue
        if release.endswith("-security"):
            security = security or uri
        elif not release.endswith("-updates"):
            archive = archive or uri
    if not archive or not security:
        raise DepotError(
            "this machine's apt knows no Debian archive with its security archive (it needs entries for Debian 12 or 13, `main`). "
            "The lab takes Debian's packages from there: see /etc/apt/sources.list and sources.list.d."
        )
    return Mirror(archive, security)


def machine_mirror() -> Mirror:
    return parse_targets(run(["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(ORIGIN)", "Created-By: Packages"]))


def acquire_settings() -> str:
    """How this machine's apt reaches the network (proxies, time-outs), and none of its hooks."""
    lines = run(["apt-config", "dump"]).splitlines()
    ours = ("Acquire::IndexTargets", "Acquire::cdrom", "Acquire::Changelogs")
    return "".join(f"{line}\n" for line in lines if line.startswith("Acquire::") and not line.startswith(ours))


@dataclass(frozen=True)
class AptRoot:
    """An apt of our own: no package installed, one suite's sources, its own lists and downloads."""

    folder: Path
    suite: str
    architecture: str

    @property
    def archives(self) -> Path:
        return self.folder / "archives"

    @property
    def sources(self) -> Path:
        return self.folder / "sources.list"

    def prepare(self, mirror: Mirror) -> None:
        for name in ("lists/partial", "archives/partial", "empty"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        write_atomically(self.sources, mirror.sources(self.suite))
        write_atomically(
            self.folder / "apt.conf",
            acquire_settings()
            + f"""Dir::Etc::sourcelist "{self.sources}";
Dir::Etc::sourceparts "{self.folder}/empty";
Dir::Etc::parts "{self.folder}/empty";
Dir::Etc::main "{self.folder}/none";
Dir::Etc::trusted "{self.folder}/none";
Dir::Etc::trustedparts "{self.folder}/empty";
Dir::Etc::preferences "{self.folder}/none";
Dir::Etc::preferencesparts "{self.folder}/empty";
Dir::State "{self.folder}";
Dir::State::lists "{self.folder}/lists";
Dir::State::status "{self.folder}/status";
Dir::State::extended_states "{self.folder}/extended_states";
Dir::Cache "{self.folder}";
Dir::Cache::archives "{self.archives}";
APT::Architecture "{self.architecture}";
APT::Architectures "{self.architecture}";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
""",
        )

    def apt(self, *arguments: str) -> str:
        return run(["env", f"APT_CONFIG={self.folder}/apt.conf", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", *arguments])

    def update(self) -> None:
        try:
            self.apt("update", "--error-on=any")
        except DepotError as error:
            raise DepotError(
                f"Debian {self.suite} cannot be reached from this machine, or its signature does not verify "
                f"(then: apt-get install debian-archive-keyring).\n{error}"
            ) from error

    def fetch(self, packages: Sequence[str]) -> set[Package]:
        """Download packages with all they depend on; apt checks them against the signed index, and skips what is there."""
        wanted = set(parse_simulation(self.apt("--simulate", "install", *packages)))
        self.apt("--yes", "--download-only", "install", *packages)
        return wanted


def apt_root(cache: Cache, suite: str) -> AptRoot:
    return AptRoot(cache.depot / "apt" / suite, suite, architecture())


def fetch_suite(cache: Cache, wanted: Wanted, suite: str) -> None:
    root = apt_root(cache, suite)
    root.prepare(machine_mirror())
    root.update()
    packages: set[Package] = set()
    for group in wanted.of(suite):
        packages |= root.fetch(group)
    files = {package.pool_name: root.archives / package.archive_name for package in packages}
    publish_suite(cache.www / "debian", suite, "main", files, signer(cache), pool=f"pool/{suite}", version=wanted.suites[suite])
    for stale in root.archives.glob("*.deb"):
        if stale not in files.values():
            stale.unlink()
    ordered = sorted(packages, key=lambda package: package.name)
    manifest = [{**asdict(package), "sha256": file_digest(root.archives / package.archive_name)} for package in ordered]
    stamp(cache, suite).write(inputs(wanted, suite), packages=manifest)
    say(f"depot: Debian {suite}: {len(manifest)} packages, {sum(path.stat().st_size for path in files.values()) >> 20} MiB")


def inputs(wanted: Wanted, suite: str) -> str:
    return digest_of(suite, architecture(), *(package for group in wanted.of(suite) for package in (*group, ";")))


def stamp(cache: Cache, suite: str) -> Stamp:
    return Stamp(cache.depot / "apt" / f"{suite}.json")


def is_current(cache: Cache, wanted: Wanted, suite: str) -> bool:
    return stamp(cache, suite).is_current(inputs(wanted, suite), cache.www / "debian" / "dists" / suite / "InRelease", apt_root(cache, suite).sources)


def build(cache: Cache, *, refresh: bool = False) -> None:
    """Fetch what is missing; with refresh, Debian's updates too."""
    wanted = read_list()
    if not refresh and all(is_current(cache, wanted, suite) for suite in wanted.suites):
        return
    with lock(cache, "debian"):
        signer(cache).ensure()
        for suite in wanted.suites:
            if refresh or not is_current(cache, wanted, suite):
                with step(f"Debian {suite}"):
                    fetch_suite(cache, wanted, suite)


def fetched(cache: Cache, suite: str, name: str) -> Package:
    for entry in stamp(cache, suite).read().get("packages", []):
        if entry["name"] == name:
            return Package(entry["name"], entry["version"], entry["architecture"])
    raise DepotError(f"{name} is not among the Debian packages of {suite}: add it to {LIST.name}")


def archive(cache: Cache, suite: str, name: str) -> Path:
    """A fetched package's file."""
    return apt_root(cache, suite).archives / fetched(cache, suite, name).archive_name


def version(cache: Cache, suite: str, name: str) -> str:
    return fetched(cache, suite, name).version
