# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""apt, as pure functions: what its programs print, what its files contain, what has to be done, what its errors mean.

Nothing here runs a program or opens a file; that is C(_apt_host.py).
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import re
import typing as t
from dataclasses import dataclass
from functools import cmp_to_key
from urllib.parse import urlsplit

MARK = "# Written by fpga.hybrid; changes here are undone by its next run."


class AptError(Exception):
    """Something went wrong with a package or a source; the message says what to do. kind: one word for tests and for retries."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


# What is wanted


@dataclass(frozen=True)
class Package:
    name: str
    version: str | None = None  # a pattern as in apt's preferences: exact, or with * ? [] wildcards
    hold: bool = False
    # A .deb on the host, instead of a repository; its dependencies come from the host's sources.
    path: str | None = None
    sha256: str | None = None

    @property
    def exact(self) -> bool:
        return self.version is not None and not re.search(r"[*?\[]", self.version)

    def accepts(self, version: str) -> bool:
        return self.version is None or fnmatch.fnmatchcase(version, self.version)

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name} {self.version}"


@dataclass(frozen=True)
class Source:
    url: str
    suite: str
    components: tuple[str, ...] = ()
    key: str | None = None
    key_url: str | None = None
    ca: str | None = None
    username: str | None = None
    password: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", self.url):
            raise AptError("option", f"source.url: {self.url!r} is no http or https URL.")
        if parts.username or parts.password:
            raise AptError(
                "option",
                "source.url must not contain a user name or password (it is written to a file that everybody can read). "
                "Use source.username and source.password.",
            )
        if self.suite.endswith("/") == bool(self.components):
            raise AptError(
                "option",
                f"source.suite {self.suite!r} with components {list(self.components)}: a flat repository has a suite that ends with a slash and no components, "
                "any other has at least one component (for example main).",
            )
        if bool(self.username) != bool(self.password):
            raise AptError("option", "source.username and source.password belong together: give both or none.")
        for name in ("username", "password"):
            if re.search(r"\s", getattr(self, name) or ""):
                raise AptError("option", f"source.{name} contains white space, which apt's auth.conf cannot express. Choose another one on the mirror.")
        if self.ca and parts.scheme == "http":
            raise AptError("option", f"source.ca is given, but {self.url} is not https. Use https, or leave the CA out.")
        if self.key and self.key_url:
            raise AptError("option", "source.key and source.key_url exclude each other: the text decides, so leave key_url out.")

    @property
    def host(self) -> str:
        return t.cast(str, urlsplit(self.url).hostname)

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    def __str__(self) -> str:
        return " ".join((self.url, self.suite, *self.components))


@dataclass(frozen=True)
class Proxy:
    """Proxies by scheme, and the names, domains and networks that are reached directly."""

    http: str | None = None
    https: str | None = None
    no_proxy: tuple[str, ...] = ()

    def for_url(self, url: str) -> str | None:
        """The proxy for a URL; None for none."""
        parts = urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        if not proxy or any(direct(parts.hostname or "", entry) for entry in self.no_proxy):
            return None
        return proxy

    def __bool__(self) -> bool:
        return bool(self.http or self.https)


def direct(host: str, entry: str) -> bool:
    """Whether an entry of no_proxy covers a host: a name, a domain with or without a leading dot, an address or a network."""
    import ipaddress

    entry = entry.strip().lower()
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        bare = entry.lstrip(".")
        return bool(bare) and (host.lower() == bare or host.lower().endswith("." + bare))


# The files of one owner


@dataclass(frozen=True)
class File:
    path: str
    what: str
    content: str | None  # None: must not be there
    mode: int = 0o644
    secret: bool = False


def paths(name: str) -> dict[str, str]:
    return {
        "source": f"/etc/apt/sources.list.d/fpga-hybrid-{name}.sources",
        "key": f"/etc/apt/keyrings/fpga-hybrid-{name}.asc",
        "ca": f"/etc/apt/keyrings/fpga-hybrid-{name}-ca.crt",
        "conf": f"/etc/apt/apt.conf.d/60fpga-hybrid-{name}.conf",
        "auth": f"/etc/apt/auth.conf.d/fpga-hybrid-{name}.conf",
        "pin": f"/etc/apt/preferences.d/fpga-hybrid-{name}.pref",
    }


def wanted_files(name: str, source: Source | None, key: str | None, packages: t.Sequence[Package], proxy: Proxy) -> list[File]:
    """Every file that this owner has, in the order in which they are written: the source last, when all that it needs is there.

    key is the armored key to trust, however it was come by; None means the host's own trusted keys.
    """
    where = paths(name)
    return [
        File(where["key"], "trusted key", key if source else None),
        File(where["ca"], "mirror's CA", as_text(source.ca) if source and source.ca else None),
        File(where["conf"], "apt setting", render_conf(name, source, proxy) if source else None),
        File(where["auth"], "credentials", render_auth(source) if source else None, mode=0o600, secret=True),
        File(where["pin"], "version pin", render_pins(packages)),
        File(where["source"], "source", render_source(source, where["key"] if key else None) if source else None),
    ]


def as_text(text: str) -> str:
    return text.strip() + "\n"


def render_source(source: Source, keyring: str | None) -> str:
    lines = [MARK, "Types: deb", f"URIs: {source.url}", f"Suites: {source.suite}"]
    if source.components:
        lines.append(f"Components: {' '.join(source.components)}")
    if keyring:
        lines.append(f"Signed-By: {keyring}")
    return "\n".join(lines) + "\n"


def render_conf(name: str, source: Source, proxy: Proxy) -> str | None:
    """How apt reaches the mirror. None when nothing has to be said."""
    lines = []
    if source.ca:
        lines.append(f'Acquire::https::{source.host}::CaInfo "{paths(name)["ca"]}";')
    lines += [f'{name} "{value}";' for name, value in way_to(source, proxy).items()]
    return "\n".join([MARK.replace("#", "//", 1), *lines]) + "\n" if lines else None


def way_to(source: Source, proxy: Proxy) -> dict[str, str]:
    """apt's setting for one server. Said even for a direct way, because a host may have a proxy for everything in its own settings."""
    return {f"Acquire::{source.scheme}::Proxy::{source.host}": proxy.for_url(source.url) or "DIRECT"} if proxy else {}


def ways(source: Source | None, proxy: Proxy) -> list[str]:
    """apt-get's options for the way to the host's own sources, too, which are asked before the host has any setting of ours."""
    general = {f"Acquire::{scheme}::Proxy": url for scheme, url in (("http", proxy.http), ("https", proxy.https)) if url}
    settings = {**general, **(way_to(source, proxy) if source else {})}
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def render_auth(source: Source) -> str | None:
    if not source.username:
        return None
    parts = urlsplit(source.url)
    return f"machine {parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/ login {source.username} password {source.password}\n"


def render_pins(packages: t.Sequence[Package]) -> str | None:
    """Priority 1000 wins over every source's newer version, and still never asks for a downgrade."""
    stanzas = [f"Package: {package.name}\nPin: version {package.version}\nPin-Priority: 1000\n" for package in packages if package.version]
    return MARK + "\n\n" + "\n".join(stanzas) if stanzas else None


# Sources that the host has already


def parse_one_line_sources(text: str) -> list[dict[str, list[str]]]:
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>[^#]*)", line)
        if match:
            found.append({"uris": [match["uri"]], "suites": [match["suite"]], "components": match["components"].split()})
    return found


def parse_deb822_sources(text: str) -> list[dict[str, list[str]]]:
    found = []
    for stanza in re.split(r"\n(?:[ \t]*\n)+", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and key:
                fields[key] += "\n" + line.strip()
            elif ":" in line:
                key, value = line.split(":", 1)
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in ("no", "false", "0", "off"):
            found.append({name: fields.get(name, "").split() for name in ("uris", "suites", "components")})
    return found


def parse_sources(path: str, text: str) -> list[dict[str, list[str]]]:
    return parse_deb822_sources(text) if path.endswith(".sources") else parse_one_line_sources(text)


def offers(entries: t.Iterable[dict[str, list[str]]], source: Source) -> bool:
    """Whether sources that are there already name this repository."""
    return any(
        source.url.rstrip("/") in [uri.rstrip("/") for uri in entry["uris"]]
        and set(source.suite.split()) <= set(entry["suites"])
        and set(source.components) <= set(entry["components"])
        for entry in entries
    )


# Keys


def armor(key: bytes) -> str:
    """A public key as apt takes it in an .asc file; refuses what is none (a login page, say)."""
    text = key.decode("latin-1")
    if "-----BEGIN PGP PUBLIC KEY BLOCK-----" in text:
        text = as_text(text[text.index("-----BEGIN PGP PUBLIC KEY BLOCK-----") :].replace("\r\n", "\n"))
        fingerprints(text)
        return text
    # RFC 4880, 4.2: a packet begins with bit 7; tag 6 is a public key, in the old format 0x98-0x9b, in the new one 0xc6.
    if key[:1] and (0x98 <= key[0] <= 0x9B or key[0] == 0xC6):
        body = base64.b64encode(key).decode()
        lines = [body[i : i + 64] for i in range(0, len(body), 64)]
        check = base64.b64encode(crc24(key).to_bytes(3, "big")).decode()
        return "\n".join(["-----BEGIN PGP PUBLIC KEY BLOCK-----", "", *lines, "=" + check, "-----END PGP PUBLIC KEY BLOCK-----", ""])
    raise AptError("key", f"no PGP public key, it begins with {text[:40].strip()!r}")


def crc24(data: bytes) -> int:
    """RFC 4880, 6.1."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _bit in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc


def dearmor(text: str) -> bytes:
    out = b""
    for block in re.findall(r"-----BEGIN PGP PUBLIC KEY BLOCK-----\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", text, re.DOTALL):
        body = re.split(r"\n[ \t]*\n", "\n" + block, maxsplit=1)[-1]
        data = "".join(line.strip() for line in body.splitlines() if not line.startswith("="))
        try:
            out += base64.b64decode(data, validate=True)
        except (ValueError, binascii.Error) as error:
            raise AptError("key", f"a damaged PGP key block ({error})") from error
    if not out:
        raise AptError("key", "no complete PGP public key block (a line of BEGIN or END is missing)")
    return out


def fingerprints(text: str) -> list[str]:
    """Fingerprints of the primary keys in an armored text (version 4 keys, RFC 4880 12.2; other versions: a hash of the packet)."""
    data, found, at = dearmor(text), [], 0
    try:
        while at < len(data):
            head = data[at]
            if head & 0x40:  # new format
                tag, first = head & 0x3F, data[at + 1]
                if first < 192:
                    length, start = first, at + 2
                elif first < 224:
                    length, start = ((first - 192) << 8) + data[at + 2] + 192, at + 3
                else:
                    length, start = int.from_bytes(data[at + 2 : at + 6], "big"), at + 6
            else:
                tag, size = (head >> 2) & 0x0F, 1 << (head & 3)
                length, start = int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size
            body = data[start : start + length]
            if tag == 6:
                if body[0] == 4:
                    found.append(hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper())  # noqa: S324  (a key's name, not a protection)
                else:
                    found.append(hashlib.sha256(body).hexdigest().upper())
            at = start + length
    except IndexError as error:
        raise AptError("key", "a PGP key block that ends too early") from error
    return found


def name_key(text: str) -> str:
    return ", ".join(fingerprints(text)) or "sha256 " + hashlib.sha256(text.encode()).hexdigest()


# Versions


def compare_versions(one: str, other: str) -> int:
    """Debian's order of versions (deb-version(7)): below, equal or above zero."""
    epoch_one, upstream_one, revision_one = split_version(one)
    epoch_other, upstream_other, revision_other = split_version(other)
    return (epoch_one - epoch_other) or compare_parts(upstream_one, upstream_other) or compare_parts(revision_one, revision_other)


def split_version(version: str) -> tuple[int, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdigit():
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return int(epoch), upstream if dash else rest, revision if dash else ""


def compare_parts(one: str, other: str) -> int:
    def rank(char: str) -> int:
        if char == "~":
            return -1
        return ord(char) if char.isalpha() else ord(char) + 256

    while one or other:
        text_one, text_other = re.match(r"\D*", one)[0], re.match(r"\D*", other)[0]  # type: ignore[index]
        for i in range(max(len(text_one), len(text_other))):
            a = rank(text_one[i]) if i < len(text_one) else 0
            b = rank(text_other[i]) if i < len(text_other) else 0
            if a != b:
                return -1 if a < b else 1
        one, other = one[len(text_one) :], other[len(text_other) :]
        digits_one, digits_other = re.match(r"\d*", one)[0], re.match(r"\d*", other)[0]  # type: ignore[index]
        number_one, number_other = int(digits_one or 0), int(digits_other or 0)
        if number_one != number_other:
            return -1 if number_one < number_other else 1
        one, other = one[len(digits_one) :], other[len(digits_other) :]
    return 0


def newest_first(versions: t.Iterable[str]) -> list[str]:
    return sorted(set(versions), key=cmp_to_key(compare_versions), reverse=True)


# What the programs say


@dataclass(frozen=True)
class State:
    """One package on the host, as dpkg-query sees it."""

    version: str | None = None  # None: not installed
    held: bool = False
    unfinished: str | None = None  # dpkg's word for an installation that did not end


ABSENT = State()
DPKG_QUERY = ("dpkg-query", "--showformat=${Package}\t${db:Status-Abbrev}\t${Version}\n", "--show")
UNFINISHED = {"H": "half-installed", "U": "unpacked", "F": "half-configured"}


def parse_dpkg_query(text: str) -> dict[str, State]:
    found: dict[str, State] = {}
    for line in text.splitlines():
        columns = line.split("\t")
        if len(columns) != 3:
            continue
        name, status, version = columns[0], columns[1].ljust(3), columns[2].strip()
        unfinished = "half-installed" if status[2] == "R" else UNFINISHED.get(status[1])
        installed = status[1] in "iWtUF"
        state = State(version=version if installed else None, held=status[0] == "h", unfinished=unfinished)
        # A package of two architectures gives two lines: the one that is installed counts.
        if name not in found or installed:
            found[name] = state
    return found


@dataclass(frozen=True)
class Offer:
    """What apt could install of one package: its candidate, and every version with where it comes from (not counting what is installed)."""

    candidate: str | None
    versions: t.Mapping[str, tuple[str, ...]]


def parse_policy(text: str) -> dict[str, Offer]:
    """The output of C(apt-cache policy NAME...)."""
    found: dict[str, Offer] = {}
    name, candidate, version = "", None, ""
    versions: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        if match := re.match(r"(\S+):$", line):
            name, candidate, version, versions = match[1].split(":")[0], None, "", {}
            found[name] = Offer(None, versions)
        elif match := re.match(r"  Candidate: (\S+)", line):
            candidate = None if match[1] == "(none)" else match[1]
            found[name] = Offer(candidate, versions)
        elif match := re.match(r" (?:\*\*\*|   ) (\S+) -?\d+", line):
            version = match[1]
        elif (match := re.match(r"        +-?\d+ (.+)$", line)) and version and not match[1].endswith("/dpkg/status"):
            versions[version] = (*versions.get(version, ()), match[1])
    return found


def removals(text: str) -> list[str]:
    """The packages that apt-get said it would have to remove."""
    match = re.search(r"^The following packages will be REMOVED:\n((?:  .*\n?)+)", text, re.MULTILINE)
    return [word.rstrip("*") for word in match[1].split()] if match else []


def parse_simulation(text: str, verb: str) -> list[str]:
    """The packages of the lines C(Inst), C(Remv) or C(Purg) of C(apt-get --simulate)."""
    return [match[1].split(":")[0] for match in re.finditer(rf"^{verb} (\S+)", text, re.MULTILINE)]


# What has to be done


@dataclass(frozen=True)
class Step:
    """What one package needs. install: it has to be installed, or brought to another version; why is a sentence for the list of changes."""

    package: Package
    state: State
    install: bool = False
    why: str = ""
    hold: bool = False
    unhold: bool = False


def plan_package(package: Package, state: State, ours: t.Mapping[str, t.Any] | None) -> Step:
    """Compare one package with the host. ours: what the record says of it, None if this is our first look."""
    again = ours is not None
    held_by_us = bool(ours and ours.get("hold") and not ours.get("hold_was"))
    hold = package.hold and not state.held
    unhold = not package.hold and state.held and held_by_us
    if state.version is None or state.unfinished:
        why = f"its installation had not ended: it was {state.unfinished}" if state.unfinished else "it had been removed" if again else ""
        return Step(package, state, install=True, why=why, hold=package.hold, unhold=False)
    if not package.accepts(state.version):
        if state.held and not held_by_us:
            raise AptError(
                "held",
                f"{package.name} {state.version} is installed and somebody holds it there (apt-mark showhold), wanted is {package.version}. "
                f"If it may change: apt-mark unhold {package.name}, then run again. Otherwise ask for this version.",
            )
        return Step(package, state, install=True, why=f"it was {state.version}", hold=package.hold)
    return Step(package, state, hold=hold, unhold=unhold)


def choose(step: Step, offer: Offer | None, source: Source | None) -> str:
    """The version to install, or an error that lists those that are there."""
    package, versions = step.package, dict(offer.versions) if offer else {}
    if source:
        own = {version: origins for version, origins in versions.items() if any(origin.startswith(source.url.rstrip("/")) for origin in origins)}
        versions = own or versions
    place = str(source) if source else "this host's own apt sources"
    if not versions:
        raise AptError("missing", f"{package.name} is in none of the lists of {place}.")
    fitting = newest_first(version for version in versions if package.accepts(version))
    if not fitting:
        there = newest_first(versions)
        shown = ", ".join(there[:10]) + (f" and {len(there) - 10} older" if len(there) > 10 else "")
        raise AptError("version", f"{package.name} {package.version} is not in {place}; there is {shown}.")
    version = fitting[0]
    if package.version is None and offer and offer.candidate in versions:
        version = offer.candidate
    was = step.state.version
    if was and not step.state.unfinished and compare_versions(version, was) < 0:
        raise AptError(
            "downgrade",
            f"{package.name} {was} is installed, wanted is {package.version}: that would be a downgrade to {version}, which is not done by itself. "
            f"Ask for {was}, or downgrade it by hand (apt-get install --allow-downgrades {package.name}={version}) when nothing uses it.",
        )
    return version


# What went wrong


@dataclass(frozen=True)
class Circumstances:
    """What an error message has to name."""

    host: str
    source: Source | None = None
    keyring: str | None = None
    trusted: str | None = None  # the armored key
    variable: str | None = None  # the key in cluster_mirrors

    def place(self) -> str:
        return f"{self.source}" if self.source else "one of this host's own apt sources"

    def option(self, field: str) -> str:
        """The variable that a user sets for a field of the source."""
        return f"cluster_mirrors.{self.variable}.{field}" if self.variable else f"source.{field}"


#: What apt prints, by kind. Order matters: the reason comes before its consequence.
SIGNS: dict[str, str] = {
    "lock": r"Could not get lock|Unable to acquire the dpkg frontend lock|Unable to lock directory",
    "disk": r"No space left on device|You don't have enough free space|Not enough free disk space|Couldn't find free space",
    "tls": r"No system certificates available|[Cc]ertificate verif|certificate is NOT trusted|Could not handshake|SSL connection failed"
    r"|certificate issuer|certificate has expired|SSL certificate problem|\[SSL",
    "login": r"\b40[17]\s+(Unauthorized|Authorization Required|Proxy Auth)|HTTP code 407",
    "denied": r"\b403\s+Forbidden",
    "checksum": r"Hash Sum mismatch|File has unexpected size|Mirror sync in progress",
    "clock": r"is not valid yet|is expired|Not live until|[Nn]ot yet valid",
    "badsig": r"BADSIG|Bad signature|[Mm]essage has been manipulated",
    "key": r"NO_PUBKEY|EXPKEYSIG|KEYEXPIRED|REVKEYSIG|ERRSIG|Missing key|is not signed|Sub-process /usr/bin/sqv|signatures couldn't be verified",
    "conflict": r"Conflicting values set for option Signed-By",
    "connect": r"Could not connect|Connection refused|Connection timed out|Could not resolve|Temporary failure|Name or service not known"
    r"|No address associated|Unable to connect|Network is unreachable|No route to host|Connection failed|Cannot initiate the connection"
    r"|Connection reset|Invalid response from proxy|timed out",
    "suite": r"does not have a Release file|No Release file",
    "gone": r"\b404\s+Not Found",
    "remove": r"Packages need to be removed but remove is disabled|packages will be REMOVED",
    "heldback": r"Held packages were changed",
    "depends": r"unmet dependencies|Unable to correct problems|Unable to satisfy dependencies",
    "missing": r"Unable to locate package|has no installation candidate|Version '.*' for '.*' was not found",
    "script": r"Sub-process /usr/bin/dpkg returned an error code|dpkg: error processing|Errors were encountered while processing",
}


def kind_of(output: str) -> str:
    return next((kind for kind, pattern in SIGNS.items() if re.search(pattern, output)), "other")


def explain(output: str, doing: str, at: Circumstances) -> AptError:
    """Turn what apt printed into a sentence with a remedy."""
    kind = kind_of(output)
    return AptError(kind, f"{at.host}: {doing} failed: {reason(kind, output, at)}")


def reason(kind: str, output: str, at: Circumstances) -> str:  # noqa: PLR0911, PLR0912  (a table of sentences)
    place, saying = at.place(), said(output, kind)
    url, key, ca, username, password = (at.option(name) for name in ("url", "key", "ca", "username", "password"))
    look_at_sources = "Check /etc/apt/sources.list(.d), or give the host a mirror by cluster_mirrors.debian."
    if kind == "lock":
        return f"another program works with packages on this host and did not end in time ({saying}). Wait for it, or end it, then run again."
    if kind == "disk":
        return f"there is no room left on the disk ({saying}). `df -h /var /boot` shows where; `apt-get clean` frees the package cache."
    if kind == "tls":
        installed = "" if at.source and at.source.ca else ", or be installed on the host (package ca-certificates)"
        return (
            f"the certificate of {place} is not accepted ({saying}). Its CA must be the text in {ca}{installed}, "
            "and the certificate must name the host of the URL and be valid today."
        )
    if kind == "login":
        return f"{place} wants a login and does not take ours ({saying}). Check {username} and {password}."
    if kind == "denied":
        return f"{place} denies access ({saying}). Check {url} and the rights of {username}."
    if kind == "checksum":
        return (
            f"what {place} delivers differs from what its index promises ({saying}). "
            "The mirror is just being changed, or it is damaged, or a proxy keeps an old copy: "
            f"nothing was installed from it. Run again in some minutes; if it stays, repair the mirror ({url})."
        )
    if kind == "clock":
        return (
            f"the index of {place} is outside its time of validity ({saying}). "
            f"Check the clock of this host (`date`), then that the mirror is still updated ({url})."
        )
    if kind == "badsig":
        return f"the signature of {place} is wrong ({saying}): its index was changed after it was signed. Nothing from it is used. Repair the mirror ({url})."
    if kind == "key":
        allow = " or set accept_new_key" if at.source and at.source.key_url else ""
        return (
            f"{place} is not signed by the key that is trusted for it ({saying}{trusted(at)}). "
            f"If the mirror has another key and you have checked it, put its text into {key}{allow}; otherwise do not use this mirror."
        )
    if kind == "conflict":
        return f"{place} is configured twice with different keys ({saying}). Remove the other entry from /etc/apt/sources.list(.d), then run again."
    if kind == "connect":
        return f"{place} cannot be reached ({saying}). Check {url}, that the mirror runs, and the way there (name, route, firewall, cluster_proxy)."
    if kind == "suite":
        return f"{place} has no such suite ({saying}). Check {url}, and whether the mirror has this release."
    if kind == "gone":
        return f"{place} names files that it does not have ({saying}). Its index and its files disagree: repair the mirror ({url})."
    if kind == "remove":
        gone = ", ".join(removals(output)) or "other packages"
        return f"that would remove {gone}, which is not done by itself. Remove them by hand if they may go, then run again."
    if kind == "heldback":
        return f"packages are held on this host that would have to change ({saying}). `apt-mark showhold` lists them; decide, unhold, run again."
    if kind == "depends":
        found = dependencies(output)
        if re.search(r"\b(Conflicts|Breaks): ", found):
            return f"packages exclude one another ({found}). Nothing is removed by itself: decide which one this host shall have, remove the other, run again."
        remedy = f"If {place} is a mirror, it lacks them." if at.source else look_at_sources
        return f"dependencies cannot be met from the sources of this host ({found}). {remedy}"
    if kind == "missing":
        return f"a package is in none of the lists of this host ({saying}). " + (f"Check what {place} offers." if at.source else look_at_sources)
    if kind == "script":
        return (
            f"dpkg did not get to its end ({failed_packages(output)}). What it printed last: {last_lines(output)}. "
            "Mend that on the host, then run again: the work is taken up from there."
        )
    return last_lines(output)


def said(output: str, kind: str) -> str:
    """The line that shows what is wrong, without apt's decoration."""
    if kind not in SIGNS:
        return ""
    line = next((line for line in output.splitlines() if re.search(SIGNS[kind], line)), "")
    return re.sub(r"^\s*([EWN]: |Err:\d+ )", "", line).strip()[:300]


def trusted(at: Circumstances) -> str:
    if at.keyring and at.trusted:
        return f"; trusted is {name_key(at.trusted)} in {at.keyring}"
    return "; trusted are the host's own keys in /etc/apt/trusted.gpg.d"


def dependencies(output: str) -> str:
    lines = re.findall(r"^ (\S+ : .*|\s+Depends: .*)$", output, re.MULTILINE)
    return "; ".join(" ".join(line.split()) for line in lines[:5]) or said(output, "depends")


def failed_packages(output: str) -> str:
    match = re.search(r"Errors were encountered while processing:\n((?: .*\n?)+)", output)
    return ", ".join(match[1].split()) if match else said(output, "script")


def last_lines(output: str, count: int = 3) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith("Errors were encountered")]
    return " | ".join(lines[-count:]) or "it printed nothing"
