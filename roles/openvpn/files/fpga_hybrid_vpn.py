# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VPN's authority: the only writer of client certificates, client entries and the revocation list.

    fpga-hybrid-vpn issue NAME [ADDRESS]   certificate, static address and profile (one .ovpn text) of a client
    fpga-hybrid-vpn revoke NAME            take them back, cut the live session
    fpga-hybrid-vpn list                   who has what until when, and who is connected (takes no lock, writes nothing)
    fpga-hybrid-vpn renew-crl              put right whatever differs from the registry, renew the revocation list

All answers are one JSON object on stdout; a failure is {"error": SENTENCE}, with the sentence on stderr too.
The profile holds a private key: it goes to stdout only, never into a log.

Exit codes: 0 done, or nothing to do; 2 wrong usage; 3 no such name; 4 refused (name or address);
5 the authority is incomplete or damaged; 6 another run held the lock for 60 s;
7 revoked, and the client cannot return, but its live session could not be cut.

The folder (default /etc/fpga-hybrid/vpn, 0700): `authority.json` (settings), `ca.crt`, `ca.key`, `tls-crypt.key` are written by the role;
`registry.json`, `issued/NAME.pem`, `ccd/NAME`, `crl.pem` only by this program. The registry is the truth: every command that writes makes
the client entries and the revocation list agree with it, so a killed run or a stray edit is mended by the next one.

As an ssh forced command: `command="/opt/fpga-hybrid/bin/fpga-hybrid-vpn --ssh"`; the folder cannot be chosen from the other end.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import ipaddress
import json
import os
import re
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FOLDER = Path("/etc/fpga-hybrid/vpn")
LOCK_WAIT = 60.0
# A certificate that begins an hour ago is valid for a node whose clock is a little slow.
CLOCK_TOLERANCE = timedelta(hours=1)
# OpenVPN uses the name as a file name; Kubernetes as a node name. So: what Kubernetes allows (RFC 1123), as long as an X.509 common name may be.
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,62}[a-z0-9])?")
ENDPOINT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?")
# The server writes its status file every few seconds; one older than this says nothing about now.
STATUS_MAX_AGE = 60.0


class AuthorityError(Exception):
    """A failure with a sentence for a person and an exit code for a program."""

    code = 5


class UnknownNameError(AuthorityError):
    code = 3


class RefusedError(AuthorityError):
    code = 4


class LockedError(AuthorityError):
    code = 6


# --- Plain data and rules: nothing here touches a file -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What the role decided, read from authority.json."""

    cluster_name: str
    network: IPv4Network
    server_address: IPv4Address
    instance_range: IPv4Network
    server_name: str
    endpoint: str
    port: int
    protocol: str
    mtu: int
    device: str
    certificate_days: int
    renew_days: int
    crl_days: int
    management: str
    status: str

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Raises ValueError, TypeError or KeyError when a field is missing or of the wrong form."""
        data = json.loads(text)
        return cls(
            cluster_name=str(data["cluster_name"]),
            network=IPv4Network(data["network"]),
            server_address=IPv4Address(data["server_address"]),
            instance_range=IPv4Network(data["instance_range"]),
            server_name=str(data["server_name"]),
            endpoint=str(data["endpoint"]),
            port=int(data["port"]),
            protocol=str(data["protocol"]),
            mtu=int(data["mtu"]),
            device=str(data["device"]),
            certificate_days=int(data["certificate_days"]),
            renew_days=int(data["renew_days"]),
            crl_days=int(data["crl_days"]),
            management=str(data["management"]),
            status=str(data["status"]),
        )


@dataclass(frozen=True)
class Certificate:
    serial: str
    not_after: datetime


@dataclass(frozen=True)
class Client:
    """certificates: all that may still be valid, newest last. A renewal leaves the older ones good until they expire, so that it cuts nothing off."""

    address: IPv4Address
    certificates: tuple[Certificate, ...]
    revoked: datetime | None = None

    @property
    def newest(self) -> Certificate | None:
        return self.certificates[-1] if self.certificates else None


@dataclass(frozen=True)
class Revocation:
    serial: str
    name: str
    not_after: datetime
    revoked: datetime


@dataclass(frozen=True)
class Registry:
    clients: Mapping[str, Client] = field(default_factory=dict)
    revocations: tuple[Revocation, ...] = ()
    crl_number: int = 0
    last_allocated: IPv4Address | None = None

    @property
    def valid(self) -> dict[str, Client]:
        return {name: client for name, client in self.clients.items() if client.revoked is None}

    def with_client(self, name: str, client: Client) -> Registry:
        return dataclasses.replace(self, clients={**self.clients, name: client})

    def revoke(self, name: str, now: datetime) -> Registry:
        """The registry without the client's certificates; the address is free again."""
        client = self.clients[name]
        taken_back = tuple(Revocation(c.serial, name, c.not_after, now) for c in client.certificates)
        emptied = dataclasses.replace(client, certificates=(), revoked=client.revoked or now)
        return dataclasses.replace(self.with_client(name, emptied), revocations=self.revocations + taken_back)

    def without_expired(self, now: datetime) -> Registry:
        """An expired certificate needs no revocation, and a client that was revoked with it needs no line."""
        revocations = tuple(r for r in self.revocations if r.not_after > now)
        remembered = {r.name for r in revocations}
        clients = {
            name: dataclasses.replace(client, certificates=tuple(c for c in client.certificates if c.not_after > now))
            for name, client in self.clients.items()
            if client.revoked is None or name in remembered
        }
        return dataclasses.replace(self, clients=clients, revocations=revocations)

    def to_json(self) -> str:
        data = {
            "schema": 1,
            "crl_number": self.crl_number,
            "last_allocated": str(self.last_allocated) if self.last_allocated else None,
            "clients": {
                name: {
                    "address": str(client.address),
                    "certificates": [{"serial": c.serial, "not_after": when(c.not_after)} for c in client.certificates],
                    "revoked": when(client.revoked) if client.revoked else None,
                }
                for name, client in sorted(self.clients.items())
            },
            "revocations": [{"serial": r.serial, "name": r.name, "not_after": when(r.not_after), "revoked": when(r.revoked)} for r in self.revocations],
        }
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Registry:
        data = json.loads(text)
        if data["schema"] != 1:
            raise ValueError(f"schema {data['schema']} is not one that this program knows (1)")
        return cls(
            clients={
                name: Client(
                    address=IPv4Address(entry["address"]),
                    certificates=tuple(Certificate(c["serial"], moment(c["not_after"])) for c in entry["certificates"]),
                    revoked=moment(entry["revoked"]) if entry["revoked"] else None,
                )
                for name, entry in data["clients"].items()
            },
            revocations=tuple(Revocation(r["serial"], r["name"], moment(r["not_after"]), moment(r["revoked"])) for r in data["revocations"]),
            crl_number=int(data["crl_number"]),
            last_allocated=IPv4Address(data["last_allocated"]) if data["last_allocated"] else None,
        )


def when(moment_: datetime) -> str:
    return moment_.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def check_name(name: str, settings: Settings) -> str:
    if not NAME.fullmatch(name):
        raise RefusedError(f"{name!r} cannot name a VPN client: use lower-case letters, digits, '-' and '.', at most 64, as for a Kubernetes node.")
    if name == settings.server_name:
        raise RefusedError(f"{name!r} is the VPN server's own name: choose another.")
    return name


def taken_addresses(registry: Registry, settings: Settings, besides: str) -> dict[IPv4Address, str]:
    """Address -> who has it, in words."""
    taken = {client.address: f"client {name}" for name, client in registry.valid.items() if name != besides}
    taken[settings.network.network_address] = "the network itself"
    taken[settings.network.broadcast_address] = "the network's broadcast"
    taken[settings.server_address] = "the VPN server"
    return taken


def allocate(pool: IPv4Network, taken: Iterable[IPv4Address], last: IPv4Address | None) -> IPv4Address:
    """The next free address after the one given out last, so that an address just freed rests as long as possible.

    Node objects, connection tracking and caches may still know the former owner. Addresses that end in 0 or 255 are left out: legal here, but
    taken for a network's by careless software. Raises RefusedError when the pool is full.
    """
    used = set(taken)
    size = pool.num_addresses
    first = int(pool.network_address)
    start = int(last) + 1 - first if last is not None and last in pool else 0
    for step in range(size):
        candidate = IPv4Address(first + (start + step) % size)
        if candidate not in used and int(candidate) % 256 not in (0, 255):
            return candidate
    raise RefusedError(f"No address is free in {pool}. Revoke clients that are gone, or widen cluster_vpn_instance_range.")


def choose_address(
    registry: Registry, settings: Settings, name: str, wanted: IPv4Address | None, others: Mapping[IPv4Address, str] | None = None
) -> IPv4Address:
    """The address that `name` is to have. Raises RefusedError with what is wrong about the wanted one. others: who else has one, in words."""
    client = registry.clients.get(name)
    taken = {**(others or {}), **taken_addresses(registry, settings, besides=name)}
    if wanted is None:
        if client is not None and client.address not in taken and client.address in settings.network:
            return client.address
        return allocate(settings.instance_range, taken, registry.last_allocated)
    if wanted not in settings.network:
        raise RefusedError(f"{name}: address {wanted} is outside the VPN's network {settings.network}. Choose vpn_address inside it.")
    if wanted in taken:
        raise RefusedError(f"{name}: address {wanted} belongs to {taken[wanted]}. Choose another vpn_address, or revoke that client first.")
    if wanted in settings.instance_range and (client is None or client.address != wanted):
        raise RefusedError(
            f"{name}: address {wanted} lies in {settings.instance_range}, from which instances get theirs by themselves. "
            f"Choose vpn_address outside it, or move cluster_vpn_instance_range."
        )
    return wanted


def needs_certificate(client: Client | None, stored_serial: str | None, now: datetime, renew_days: int) -> str | None:
    """Why a new certificate is due, or None."""
    if client is None or client.newest is None:
        return "certificate issued"
    if client.newest.serial != stored_serial:
        return "certificate issued anew: the stored one was missing or not the newest"
    if client.newest.not_after - now < timedelta(days=renew_days):
        return f"certificate renewed: the former one ends {when(client.newest.not_after)}"
    return None


def entry_text(client: Client, network: IPv4Network) -> str:
    return f"ifconfig-push {client.address} {network.netmask}\n"


@dataclass(frozen=True)
class Session:
    name: str
    real_address: str
    address: str
    since: str


def parse_status(text: str) -> list[Session]:
    """Sessions of an OpenVPN status file, version 2 or 3, found by the names in its header."""
    sessions = []
    columns: list[str] = []
    for line in text.splitlines():
        fields = line.split("\t" if "\t" in line else ",")
        if fields[:2] == ["HEADER", "CLIENT_LIST"]:
            columns = fields[2:]
        elif fields[0] == "CLIENT_LIST" and columns:
            row = dict(zip(columns, fields[1:]))
            sessions.append(Session(row["Common Name"], row["Real Address"], row["Virtual Address"], row["Connected Since"]))
    return sessions


def inline(tag: str, pem: str) -> str:
    return f"<{tag}>\n{pem.strip()}\n</{tag}>\n"


def client_lines(settings: Settings, name: str, client: Client, endpoint: str, port: int, security: Sequence[str]) -> list[str]:
    """What our unit needs to run a client. security: what its server wants of it."""
    udp = settings.protocol == "udp"
    return [
        f"# VPN profile of {name}, cluster {settings.cluster_name}, made by fpga-hybrid-vpn. Secret: it holds the private key.",
        "client",
        f"dev {settings.device}",
        "dev-type tun",
        f"proto {'udp' if udp else 'tcp-client'}",
        f"remote {endpoint} {port}",
        "nobind",
        "resolv-retry infinite",
        "# Back within seconds of the server, however long it was away (the default waits up to 5 minutes)",
        "connect-timeout 10",
        "connect-retry 1 10",
        "hand-window 20",
        "# The device and its address are made by fpga-hybrid-tunnel, outlive OpenVPN and are not touched by it",
        f"setenv-safe address {client.address}/{settings.network.prefixlen}",
        "ifconfig-noexec",
        "persist-tun",
        "# The outer packet stays below 1500 bytes: no fragments. TCP is told so too",
        f"tun-mtu {settings.mtu}",
        f"mssfix {settings.mtu + 24}",
        "# client-to-client and ifconfig-noexec need OpenVPN's own data path; older versions do not know the word",
        "ignore-unknown-option disable-dco",
        "disable-dco",
        *security,
        "# Whatever a server may push: no default route and no name server comes from the VPN",
        'pull-filter ignore "redirect-gateway"',
        'pull-filter ignore "dhcp-option"',
        "management /run/openvpn-client/fpga-hybrid.sock unix",
        "management-client-user root",
        "verb 3",
        *(["explicit-exit-notify 1"] if udp else []),
    ]


def profile_text(settings: Settings, name: str, client: Client, endpoint: str, port: int, ca: str, certificate: str, key: str, tls_crypt: str) -> str:
    """The client's whole configuration. The same input gives the same text, so that a converged node is not written again."""
    security = [
        "tls-version-min 1.2",
        "data-ciphers AES-256-GCM:CHACHA20-POLY1305",
        "remote-cert-tls server",
        f"verify-x509-name {settings.server_name} name",
    ]
    lines = client_lines(settings, name, client, endpoint, port, security)
    return "\n".join(lines) + "\n" + inline("ca", ca) + inline("cert", certificate) + inline("key", key) + inline("tls-crypt", tls_crypt)


# --- Certificates ------------------------------------------------------------------------------------------------------------------------


def not_after(certificate: x509.Certificate) -> datetime:
    """Works with python3-cryptography before and after 42, which renamed this."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=timezone.utc)


def next_update(crl: x509.CertificateRevocationList) -> datetime:
    value = crl.next_update_utc if hasattr(crl, "next_update_utc") else crl.next_update
    if value is None:
        return datetime.fromtimestamp(0, timezone.utc)
    return value.replace(tzinfo=timezone.utc)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True)
class Issuer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.certificate.public_key())  # type: ignore[arg-type]

    def issue(self, name: str, now: datetime, days: int) -> tuple[Certificate, str]:
        """A new key and its certificate: the registry's line, and both as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        end = (now + timedelta(days=days)).replace(microsecond=0)
        end = min(end, not_after(self.certificate))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_TOLERANCE)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=False,
                    crl_sign=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(self.key_identifier, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        return Certificate(f"{certificate.serial_number:x}", end), key_pem + pem(certificate)

    def revocation_list(self, registry: Registry, now: datetime, days: int) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - CLOCK_TOLERANCE)
            .next_update(now + timedelta(days=days))
            .add_extension(x509.CRLNumber(registry.crl_number), critical=False)
            .add_extension(self.key_identifier, critical=False)
        )
        for revocation in registry.revocations:
            revoked = x509.RevokedCertificateBuilder().serial_number(int(revocation.serial, 16)).revocation_date(revocation.revoked).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def why_new_list(found: bytes | None, issuer: Issuer, registry: Registry, now: datetime, days: int) -> str | None:
    """Why the revocation list is to be written, or None."""
    if found is None:
        return "revocation list written"
    try:
        crl = x509.load_pem_x509_crl(found)
        ours = crl.is_signature_valid(issuer.certificate.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return "revocation list written anew: it was damaged"
    if not ours:
        return "revocation list written anew: it was not signed by this authority"
    if {revoked.serial_number for revoked in crl} != {int(r.serial, 16) for r in registry.revocations}:
        return "revocation list brought up to date"
    if next_update(crl) - now < timedelta(days=days) / 2:
        return f"revocation list renewed: the former one ended {when(next_update(crl))}"
    return None


# --- Files, lock, management socket ----------------------------------------------------------------------------------------------------


def write(path: Path, content: str | bytes) -> None:
    """All or nothing, 0600 from the first byte on, and on the disk when this returns."""
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def locked(path: Path, wait: float = LOCK_WAIT) -> Iterator[None]:
    with path.open("a") as stream:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockedError(f"Another fpga-hybrid-vpn has held {path} for {wait:.0f} s. Wait for it, or see what it does: fuser -v {path}") from None
                time.sleep(0.05)
        yield


def cut_session(path: str, name: str, timeout: float = 5.0) -> str:
    """Ends the client's live session by the server's management socket: "cut", "none" or "server not running"; raises OSError or AuthorityError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return "server not running"
        with connection.makefile("rw", encoding="utf-8", newline="\n") as stream:
            stream.write(f"kill {name}\n")
            stream.flush()
            for line in stream:
                if line.startswith("SUCCESS:"):
                    return "cut"
                if line.startswith("ERROR:"):
                    if "not found" in line:
                        return "none"
                    raise AuthorityError(f"The VPN server did not cut the session of {name}: {line.strip()}")
    raise AuthorityError("The VPN server closed its management socket without an answer.")


class Authority:
    """The folder, and what may be done to it. With check=True nothing is written and `changes` says what would be."""

    def __init__(self, folder: Path, check: bool = False) -> None:
        self.folder = folder
        self.check = check
        self.now = datetime.now(timezone.utc)
        self.changes: list[str] = []
        try:
            self.settings = Settings.from_json((folder / "authority.json").read_text())
        except FileNotFoundError:
            raise AuthorityError(f"{folder}/authority.json is missing: this is not the VPN server, or its role has not run yet. Run site.yml.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise AuthorityError(f"{folder}/authority.json cannot be used: {error!r}. Run site.yml, which writes it.") from None
        self.registry = self._read_registry()

    def _read_registry(self) -> Registry:
        text = read(self.folder / "registry.json")
        if text is None:
            return Registry()
        try:
            return Registry.from_json(text.decode())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AuthorityError(
                f"{self.folder}/registry.json is damaged ({error!r}). Restore it from a backup: it says which certificates were revoked. Nothing was changed."
            ) from None

    def issuer(self) -> Issuer:
        try:
            certificate = x509.load_pem_x509_certificate((self.folder / "ca.crt").read_bytes())
            key = serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise AuthorityError(f"The authority's certificate or key in {self.folder} cannot be read: {error}. Run site.yml, or restore them.") from None
        numbers = certificate.public_key().public_numbers()  # type: ignore[union-attr]
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key().public_numbers() != numbers:
            raise AuthorityError(f"{self.folder}/ca.key is not the key of {self.folder}/ca.crt. Restore the pair that belongs together.")
        return Issuer(certificate, key)

    def stored(self, name: str, issuer: Issuer) -> tuple[str, str, str] | None:
        """(serial, certificate, key) of the file that was issued for this name, or None where it is missing, damaged or of another authority."""
        data = read(self.folder / "issued" / f"{name}.pem")
        if data is None:
            return None
        try:
            certificate = x509.load_pem_x509_certificate(data)
            key = serialization.load_pem_private_key(data, None)
        except (ValueError, TypeError):
            return None
        identifiers = [e.value for e in certificate.extensions if isinstance(e.value, x509.AuthorityKeyIdentifier)]
        same_key = key.public_key().public_numbers() == certificate.public_key().public_numbers()  # type: ignore[union-attr]
        if identifiers != [issuer.key_identifier] or certificate.issuer != issuer.certificate.subject or not same_key:
            return None
        key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        return f"{certificate.serial_number:x}", pem(certificate), key_pem

    def _write(self, path: Path, content: str | bytes) -> None:
        if not self.check:
            write(path, content)

    def _save(self, registry: Registry) -> None:
        self.registry = registry
        self._write(self.folder / "registry.json", registry.to_json())

    def _reconcile(self, issuer: Issuer) -> list[str]:
        """Makes client entries and revocation list agree with the registry. Returns the clients whose entry was written."""
        pruned = self.registry.without_expired(self.now)
        if pruned != self.registry:
            self._save(pruned)
        written = []
        entries = {name: entry_text(client, self.settings.network) for name, client in self.registry.valid.items()}
        folder = self.folder / "ccd"
        found = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        for name in sorted(found - set(entries)):
            self.changes.append(f"client entry {name} removed")
            if not self.check:
                (folder / name).unlink()
        for name, text in sorted(entries.items()):
            if read(folder / name) != text.encode():
                self.changes.append(f"client entry {name}: {text.strip()}")
                self._write(folder / name, text)
                written.append(name)
        reason = why_new_list(read(self.folder / "crl.pem"), issuer, self.registry, self.now, self.settings.crl_days)
        if reason:
            self.changes.append(reason)
            self._save(dataclasses.replace(self.registry, crl_number=self.registry.crl_number + 1))
            self._write(self.folder / "crl.pem", issuer.revocation_list(self.registry, self.now, self.settings.crl_days))
        return written

    def issue(self, name: str, wanted: IPv4Address | None, endpoint: str | None, port: int | None) -> dict[str, Any]:
        settings = self.settings
        check_name(name, settings)
        issuer = self.issuer()
        old = self.registry.clients.get(name)
        address = choose_address(self.registry, settings, name, wanted)
        stored = self.stored(name, issuer)
        due = needs_certificate(old, stored[0] if stored else None, self.now, settings.renew_days)
        client = Client(address, old.certificates if old else ())
        registry = self.registry
        if address in settings.instance_range and (old is None or old.address != address):
            registry = dataclasses.replace(registry, last_allocated=address)
        if old is not None and old.address != address:
            self.changes.append(f"address {old.address} -> {address}")
        if due:
            self.changes.append(due)
            certificate, text = issuer.issue(name, self.now, settings.certificate_days)
            client = dataclasses.replace(client, certificates=(*client.certificates, certificate))
        registry = registry.with_client(name, client)
        if registry != self.registry:
            # The registry goes first: a certificate that it does not know could never be revoked.
            self._save(registry)
        if due:
            self._write(self.folder / "issued" / f"{name}.pem", text)
            stored = None if self.check else self.stored(name, issuer)
        moved = name in self._reconcile(issuer) and old is not None
        result: dict[str, Any] = {
            "name": name,
            "address": str(address),
            "serial": client.newest.serial if client.newest and not (self.check and due) else None,
            "not_after": when(client.newest.not_after) if client.newest else None,
            "profile": None,
        }
        if moved and not self.check:
            # A live session keeps the address that it got when it connected.
            with contextlib.suppress(OSError, AuthorityError):
                cut_session(settings.management, name)
        if stored:
            tls_crypt = read(self.folder / "tls-crypt.key")
            if tls_crypt is None:
                raise AuthorityError(f"{self.folder}/tls-crypt.key is missing. Run site.yml, which makes it.")
            result["profile"] = profile_text(
                settings, name, client, endpoint or settings.endpoint, port or settings.port, pem(issuer.certificate), stored[1], stored[2], tls_crypt.decode()
            )
        return result

    def known(self, name: str) -> Client:
        client = self.registry.clients.get(name)
        if client is None:
            known = ", ".join(sorted(self.registry.clients)) or "none"
            raise UnknownNameError(f"No certificate was ever issued for {name!r}, so nothing was revoked. Known names: {known}.")
        return client

    def revoke(self, name: str) -> dict[str, Any]:
        client = self.known(name)
        issuer = self.issuer()
        if client.revoked is None:
            self.changes.append(f"{name} revoked")
            self._save(self.registry.revoke(name, self.now))
        self._reconcile(issuer)
        result: dict[str, Any] = {"name": name, "address": str(client.address), "session": None}
        if not self.check:
            with contextlib.suppress(FileNotFoundError):
                (self.folder / "issued" / f"{name}.pem").unlink()
            try:
                result["session"] = cut_session(self.settings.management, name)
            except (OSError, AuthorityError) as error:
                result["session"] = f"not cut: {error}"
        return result

    def renew(self) -> dict[str, Any]:
        self._reconcile(self.issuer())
        return {"valid_clients": len(self.registry.valid), "crl_number": self.registry.crl_number}

    def overview(self) -> dict[str, Any]:
        sessions = self.sessions()
        issuer = self.issuer()
        crl = read(self.folder / "crl.pem")
        server = read(self.folder / "server.crt")
        return {
            "clients": [self._line(name, client, sessions) for name, client in sorted(self.registry.clients.items())],
            "ca_not_after": when(not_after(issuer.certificate)),
            "server_not_after": when(not_after(x509.load_pem_x509_certificate(server))) if server else None,
            "crl_next_update": when(next_update(x509.load_pem_x509_crl(crl))) if crl else None,
        }

    @staticmethod
    def _line(name: str, client: Client, sessions: Mapping[str, Session] | None) -> dict[str, Any]:
        session = sessions.get(name) if sessions is not None else None
        return {
            "name": name,
            "address": str(client.address),
            "serial": client.newest.serial if client.newest else None,
            "not_after": when(client.newest.not_after) if client.newest else None,
            "revoked": when(client.revoked) if client.revoked else None,
            "connected": None if sessions is None else session is not None,
            "real_address": session.real_address if session else None,
            "connected_since": session.since if session else None,
        }

    def sessions(self) -> dict[str, Session] | None:
        """Who is connected by the server's status file; None when that is missing or stale, that is, when nobody can say."""
        path = Path(self.settings.status)
        try:
            age = time.time() - path.stat().st_mtime
            text = path.read_text()
        except OSError:
            return None
        return {session.name: session for session in parse_status(text)} if age < STATUS_MAX_AGE else None


# --- Command line ------------------------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Says usage errors in JSON too, so that a caller has one kind of answer to read."""

    def error(self, message: str) -> NoReturn:
        answer({"error": f"{message}. Usage: {self.format_usage().strip()}"})
        sys.stderr.write(f"{message}\n{self.format_usage()}")
        raise SystemExit(2)


def endpoint(text: str) -> str:
    if not ENDPOINT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a name nor an address")
    return text


def port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (1 to 65535)")
    return int(text)


def address(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ipaddress.AddressValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no IPv4 address: {error}") from None


def commands() -> Parser:
    parser = Parser(prog="fpga-hybrid-vpn", description="The VPN's authority. Answers in JSON.", epilog=str(__doc__).split("\n\n", 1)[1])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="issue|revoke|list|renew-crl")
    issue = verbs.add_parser("issue", help="certificate, address and profile of a client")
    issue.add_argument("name")
    issue.add_argument("address", nargs="?", type=address, help="default: the recorded one, else the next free one for instances")
    issue.add_argument("--endpoint", type=endpoint, help="name or address that this client dials (default: the cluster's)")
    issue.add_argument("--port", type=port, help="port that this client dials (default: the cluster's)")
    issue.add_argument("--without-profile", action="store_true", help="leave the secret out of the answer")
    revoke = verbs.add_parser("revoke", help="take certificate and address back, cut the live session")
    revoke.add_argument("name")
    verbs.add_parser("list", help="who has what, and who is connected")
    renew = verbs.add_parser("renew-crl", help="mend what differs from the registry, renew the revocation list")
    for writer in (issue, revoke, renew):
        writer.add_argument("--check", action="store_true", help="say what would change, write nothing")
    return parser


def answer(data: Mapping[str, Any]) -> None:
    print(json.dumps(data, indent=2))


def run(arguments: argparse.Namespace, folder: Path, kind: type[Authority]) -> int:
    if arguments.verb == "list":
        answer(kind(folder).overview())
        return 0
    if not folder.is_dir():
        raise AuthorityError(f"{folder} does not exist: this is not the VPN server, or its role has not run yet. Run site.yml.")
    with locked(folder / "lock"):
        authority = kind(folder, check=arguments.check)
        if arguments.verb == "issue":
            result = authority.issue(arguments.name, arguments.address, arguments.endpoint, arguments.port)
            if arguments.without_profile:
                del result["profile"]
        elif arguments.verb == "revoke":
            result = authority.revoke(arguments.name)
        else:
            result = authority.renew()
    answer({"changed": bool(authority.changes), "changes": authority.changes, **result})
    return 7 if str(result.get("session")).startswith("not cut") else 0


def main(argv: Sequence[str], kind: type[Authority] = Authority) -> int:
    """kind: Access Server's has a class of its own (role openvpn_as)."""
    os.umask(0o077)
    folder = FOLDER
    words = list(argv)
    if words == ["--ssh"]:
        words = shlex.split(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
        # The caller may write the program's name or leave it out; it has no say in the folder.
        if words and os.path.basename(words[0]) == "fpga-hybrid-vpn":
            words = words[1:]
    elif words[:1] == ["--folder"] and len(words) > 1:
        folder = Path(words[1])
        words = words[2:]
    arguments = commands().parse_args(words)
    try:
        return run(arguments, folder, kind)
    except AuthorityError as error:
        sentence, code = str(error), error.code
    except OSError as error:
        sentence, code = f"{error}. This program runs as root on the VPN server.", AuthorityError.code
    answer({"error": sentence})
    sys.stderr.write(sentence + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
