# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga-hybrid-vpn over OpenVPN Access Server: the same command line, answers and exit codes as role openvpn's, whose code this is for the most part.

Access Server has the certificates and lets in; what we have decided (names, addresses, who is out) stands in registry.json, and every command that writes
makes Access Server's users agree with it. A node is a user with an address of its own and a profile without a password.

Access Server cannot take back a certificate by its command line, only deny a user. So a name that returns after it was revoked gets another user, NAME_2,
and the former one stays denied: its certificates admit nobody.

Here `issued/NAME.ovpn` is the profile as Access Server made it, since it makes another certificate each time that it is asked; `crl_number` and the
authority's own dates are Access Server's affair, and empty.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

import fpga_hybrid_vpn as vpn
from ansible_collections.fpga.hybrid.plugins.module_utils._openvpn_as import DENIED, SACLI, AccessServerError, Sacli, admitted, dynamic_network, user_plan

#: Options of Access Server's profile in whose place ours stand, and such as would run or write something.
TAKEN_OUT = {
    *("remote", "proto", "port", "nobind", "dev", "dev-type", "dev-node", "tun-mtu", "mssfix", "verb", "persist-tun", "resolv-retry", "explicit-exit-notify"),
    *("server-poll-timeout", "connect-timeout", "connect-retry", "hand-window", "disable-dco", "redirect-gateway", "block-outside-dns"),
    *("auth-user-pass", "auth-retry", "daemon", "log", "log-append", "syslog", "status", "writepid", "cd", "chroot", "user", "group"),
    *("up", "down", "route-up", "route-pre-down", "ipchange", "tls-verify", "plugin", "script-security", "client"),
}

#: An inline file, or a choice of servers.
BLOCK = re.compile(r"^<([a-z0-9-]+)>$.*?^</\1>$", re.MULTILINE | re.DOTALL)

Users = dict[str, dict[str, str]]


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Access Server's failures with the program's exit code for them."""
    try:
        yield
    except AccessServerError as error:
        raise vpn.AuthorityError(str(error)) from None


def generations(name: str, users: Mapping[str, Any]) -> dict[int, str]:
    """The users that a name has had. Node names have no underscore, so NAME_2 is nobody else's."""
    found = {user: re.fullmatch(rf"{re.escape(name)}(?:_(\d+))?", user) for user in users}
    return {int(match[1] or 1): user for user, match in found.items() if match}


def profile_text(settings: vpn.Settings, name: str, client: vpn.Client, endpoint: str, port: int, made: str) -> str:
    """Access Server's profile, for our unit to run. The same input gives the same text."""
    blocks = [block for block in BLOCK.finditer(made) if block[1] != "connection"]
    words = [line.strip() for line in BLOCK.sub("", made).splitlines() if line.strip() and not line.lstrip().startswith(("#", ";"))]
    options = [line for line in words if line.split()[0] not in TAKEN_OUT]
    return "\n".join([*vpn.client_lines(settings, name, client, endpoint, port, options), *(block[0] for block in blocks)]) + "\n"


@dataclass(frozen=True)
class Stored:
    """A profile as Access Server made it, and what its certificate says."""

    user: str
    serial: str
    not_after: datetime
    text: str

    @classmethod
    def of(cls, text: str) -> Stored | None:
        found = re.search(r"<cert>\s*(.*?)</cert>", text, re.DOTALL)
        try:
            certificate = x509.load_pem_x509_certificate(found[1].encode()) if found else None
        except ValueError:
            certificate = None
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME) if certificate else []
        if certificate is None or not names:
            return None
        return cls(str(names[0].value), f"{certificate.serial_number:x}", vpn.not_after(certificate).replace(microsecond=0), text)


class Authority(vpn.Authority):
    """The names, addresses and refusals are role openvpn's; who lets in is Access Server."""

    def __init__(self, folder: Path, check: bool = False) -> None:
        super().__init__(folder, check)
        self.sacli = Sacli(str(json.loads((folder / "authority.json").read_text()).get("sacli", SACLI)))

    def profile_of(self, name: str) -> Stored | None:
        data = vpn.read(self.folder / "issued" / f"{name}.ovpn")
        return Stored.of(data.decode(errors="replace")) if data is not None else None

    def _user(self, name: str, users: Users) -> str:
        """The user that a valid name has now: the newest, or where somebody took it out, the one that its profile is for."""
        known = generations(name, users)
        stored = None if known else self.profile_of(name)
        return known[max(known)] if known else stored.user if stored else name

    def _others(self, name: str, users: Users) -> dict[IPv4Address, str]:
        """Addresses that Access Server itself gives out, or that users have whom this program did not make."""
        dynamic = dynamic_network(str(self.settings.server_address))
        taken = dict.fromkeys(dynamic, f"Access Server itself, which gives out {dynamic}")
        ours = {user for one in {name, *self.registry.clients} for user in generations(one, users).values()}
        for user, properties in users.items():
            with contextlib.suppress(AddressValueError):
                if user not in ours and properties.get("conn_ip"):
                    taken[IPv4Address(properties["conn_ip"])] = f"Access Server's user {user}"
        return taken

    def _change(self, users: Users, user: str, wanted: Mapping[str, str | None]) -> bool:
        """Makes one user as wanted; says whether there was something to do."""
        changes = user_plan(users.get(user), wanted)
        for change in changes:
            self.changes.append(f"user {user}: {change.key} {change.before or 'unset'} -> {change.after or 'unset'}")
        if not self.check:
            self.sacli.change_user(user, changes)
        users[user] = {**users.get(user, {}), **{change.key: change.after or "" for change in changes}}
        return bool(changes)

    def _agree(self, users: Users) -> set[str]:
        """Makes Access Server's users agree with the registry. Returns the names whose user was changed."""
        pruned = self.registry.without_expired(self.now)
        forgotten = set(self.registry.clients) - set(pruned.clients)
        if pruned != self.registry:
            self._save(pruned)
        for name in sorted(forgotten):
            for user in generations(name, users).values():
                self.changes.append(f"user {user} removed: the last of its certificates has ended")
                if not self.check:
                    self.sacli.forget_user(user)
        changed = set()
        for name, client in sorted(self.registry.clients.items()):
            current = self._user(name, users) if client.revoked is None else None
            for user in generations(name, users).values():
                if user != current and self._change(users, user, DENIED):
                    changed.add(name)
            if current is not None and self._change(users, current, admitted(str(client.address), autologin=True)):
                changed.add(name)
        return changed

    @told()
    def issue(self, name: str, wanted: IPv4Address | None, endpoint: str | None, port: int | None) -> dict[str, Any]:
        settings = self.settings
        vpn.check_name(name, settings)
        users = self.sacli.users()
        old, known = self.registry.clients.get(name), generations(name, users)
        if old is None and known:
            raise vpn.RefusedError(
                f"{name}: Access Server has a user {known[max(known)]} that this program did not make. Choose another name for the node, or take the user "
                f"out: sacli --user {known[max(known)]} UserPropDelAll. If {self.folder}/registry.json was lost, restore it from a backup first."
            )
        address = vpn.choose_address(self.registry, settings, name, wanted, self._others(name, users))
        returns = old is not None and old.revoked is not None
        if returns and known:
            # Before the registry says so: a run that is killed in between leaves a user that the next one denies, and never the former one admitted.
            self._change(users, f"{name}_{max(known) + 1}", admitted(str(address), autologin=True))
        client = vpn.Client(address, old.certificates if old else ())
        if old is not None and old.address != address:
            self.changes.append(f"address {old.address} -> {address}")
        registry = self.registry
        if address in settings.instance_range and (old is None or old.address != address):
            registry = dataclasses.replace(registry, last_allocated=address)
        self._keep(registry.with_client(name, client))
        moved = name in self._agree(users) and old is not None and not returns
        user, stored = self._user(name, users), self.profile_of(name)
        due = vpn.needs_certificate(client, stored.serial if stored and stored.user == user else None, self.now, settings.renew_days)
        if due:
            self.changes.append(due)
        if due and not self.check:
            stored = Stored.of(self.sacli.profile(user))
            if stored is None or stored.user != user:
                raise vpn.AuthorityError(
                    f"{name}: Access Server's profile has no certificate for {user}. Try it on the VPN server: sacli --user {user} GetAutologin"
                )
            client = dataclasses.replace(client, certificates=(*client.certificates, vpn.Certificate(stored.serial, stored.not_after)))
            self._keep(self.registry.with_client(name, client))
            vpn.write(self.folder / "issued" / f"{name}.ovpn", stored.text)
        if moved and not self.check:
            # A live session keeps the address that it got when it connected.
            self.sacli.disconnect(user)
        good = stored if not (self.check and due) else None
        text = profile_text(settings, name, client, endpoint or settings.endpoint, port or settings.port, good.text) if good else None
        end = vpn.when(client.newest.not_after) if client.newest else None
        return {"name": name, "address": str(address), "serial": good.serial if good else None, "not_after": end, "profile": text}

    def _keep(self, registry: vpn.Registry) -> None:
        if registry != self.registry:
            self._save(registry)

    @told()
    def revoke(self, name: str) -> dict[str, Any]:
        client = self.known(name)
        users = self.sacli.users()
        if client.revoked is None:
            self.changes.append(f"{name} revoked")
            self._save(self.registry.revoke(name, self.now))
        self._agree(users)
        result: dict[str, Any] = {"name": name, "address": str(client.address), "session": None}
        if not self.check:
            (self.folder / "issued" / f"{name}.ovpn").unlink(missing_ok=True)
            ends = [self.sacli.disconnect(user) for user in generations(name, users).values()]
            result["session"] = next((end for end in ends if end.startswith("not cut")), "cut" if "cut" in ends else "none")
        return result

    @told()
    def renew(self) -> dict[str, Any]:
        self._agree(self.sacli.users())
        return {"valid_clients": len(self.registry.valid), "crl_number": 0}

    @told()
    def overview(self) -> dict[str, Any]:
        sessions = self.sessions()
        clients = [self._line(name, client, sessions) for name, client in sorted(self.registry.clients.items())]
        return {"clients": clients, "ca_not_after": None, "server_not_after": None, "crl_next_update": None}

    def sessions(self) -> dict[str, vpn.Session] | None:
        found = [vpn.Session(re.sub(r"_\d+$", "", one.user), one.real_address, one.address, one.since) for one in self.sacli.sessions()]
        return {session.name: session for session in found}


def main(argv: list[str]) -> int:
    return vpn.main(argv, Authority)
