# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""OpenVPN Access Server by its command line, sacli: its settings, its users, its licence.

sacli validates nothing: a misspelt key is stored and never read, and a property of an unknown user makes that user. So what goes there is checked here.
Stdlib only, since role openvpn_as installs this file for fpga-hybrid-vpn, too.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import ipaddress
import json
import os
import re
import tempfile
import time
import typing as t

from ansible_collections.fpga.hybrid.plugins.module_utils import _command
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

SACLI = "/usr/local/openvpn_as/scripts/sacli"
#: Options that every module for Access Server has (documentation fragment openvpn_as).
ARGUMENTS: dict[str, t.Any] = {"wait": {"type": "int", "default": 60}, "program": {"type": "path", "default": SACLI}}
UNIT = "openvpnas.service"
#: Connections without a subscription (the vendor's own documentation).
FREE_CONNECTIONS = 2
#: The smallest network of which Access Server makes the daemon's own, with its first address for itself.
DYNAMIC_PREFIX = 29


class AccessServerError(Exception):
    """It cannot be done: the sentence says what was found, what was expected, and what to do."""


class NotUpError(AccessServerError):
    """Access Server is not there, or does not answer."""


# --- Settings: which keys there are, and what they take -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a value must look like, as a pattern and in words."""

    pattern: str
    words: str

    def fits(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value) is not None


def _one_of(*values: str) -> Rule:
    return Rule("|".join(map(re.escape, values)), " or ".join(values))


_TRUTH = _one_of("true", "false")
_NUMBER = Rule(r"\d+", "a number")
_PORT = Rule(r"[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5]", "a port from 1 to 65535")
_ADDRESS = Rule(r"\d{1,3}(\.\d{1,3}){3}", "an IPv4 address")
_NETWORK = Rule(r"\d{1,3}(\.\d{1,3}){3}/([12]?\d|3[0-2])", "an IPv4 network as 10.0.0.0/8")
_BITS = Rule(r"[12]?\d|3[0-2]", "a prefix length from 0 to 32")
_TLS = _one_of("1.0", "1.1", "1.2", "1.3")
_TEXT = Rule(r"(?s).*", "a text")

#: Keys of Access Server 2.10 to 3.2 by published ConfigQuery dumps, the vendor's documentation and scripts; N stands for a number.
#: A key that the server itself has already is as good.
KEYS: t.Mapping[str, Rule] = {
    **dict.fromkeys(("admin_ui.https.port", "cs.https.port", "vpn.daemon.N.listen.port", "vpn.server.daemon.tcp.port", "vpn.server.daemon.udp.port"), _PORT),
    **dict.fromkeys(("admin_ui.https.ip_address", "cs.https.ip_address", "vpn.daemon.N.listen.ip_address", "vpn.daemon.N.server.ip_address"), _TEXT),
    **dict.fromkeys(("cs.tls_version_min", "vpn.server.tls_version_min"), _TLS),
    **dict.fromkeys(
        (
            "cs.cws.enable",
            "cs.prof_sign_web",
            "vpn.client.routing.inter_client",
            "vpn.client.routing.superuser_c2c_access",
            "vpn.server.daemon.enable",
            "vpn.server.daemon.ovpndco",
            "vpn.server.duplicate_cn",
            "vpn.server.enable_cipher_fallback",
            "vpn.server.google_auth.enable",
            "vpn.server.nat",
            "vpn.server.nat.masquerade",
            "vpn.server.nat6",
            "vpn.server.nat6.masquerade",
            "vpn.server.port_share.enable",
            "vpn.server.routing.allow_private_nets_to_clients",
            "vpn.server.routing.gateway_access",
            "vpn.server.routing6.allow_private_nets_to_clients",
        ),
        _TRUTH,
    ),
    **dict.fromkeys(
        (
            "vpn.general.mtu",
            "vpn.general.osi_layer",
            "vpn.server.daemon.tcp.n_daemons",
            "vpn.server.daemon.udp.n_daemons",
            "vpn.server.mssfix",
            "vpn.server.port_share.port",
            "vpn.tls_refresh.interval",
            "xmlrpc.relay_level",
        ),
        _NUMBER,
    ),
    **dict.fromkeys(("vpn.server.group_pool.N", "vpn.server.routing.private_network.N"), _NETWORK),
    **dict.fromkeys(("vpn.daemon.N.client.network", "vpn.server.static.N.network", "vpn.server.dhcp_option.dns.N"), _ADDRESS),
    **dict.fromkeys(("vpn.daemon.N.client.netmask_bits", "vpn.server.static.N.netmask_bits"), _BITS),
    **dict.fromkeys(
        (
            "auth.module.type",
            "host.name",
            "host.public_hostname",
            "sa.initial_run_groups.N",
            "vpn.client.config_text",
            "vpn.server.config_text",
            "vpn.server.data_ciphers",
            "vpn.server.dhcp_option.domain",
            "vpn.server.port_share.ip_address",
            "vpn.server.port_share.service",
        ),
        _TEXT,
    ),
    "vpn.client.routing.reroute_dns": _one_of("true", "false", "custom"),
    "vpn.client.routing.reroute_gw": _one_of("true", "false", "dual", "disable"),
    "vpn.daemon.N.listen.protocol": _one_of("udp", "tcp"),
    "vpn.server.daemon.protocols": _one_of("udp", "tcp", "both"),
    "vpn.server.routing.private_access": _one_of("no", "nat", "route"),
    "vpn.server.tls_cc_security": _one_of("none", "tls-auth", "tls-crypt", "tls-cryptv2"),
}
_NUMBERED = re.compile(r"(?<=\.)\d+(?=\.|$)")
#: Keys whose value nobody should read in a diff.
_SECRET = re.compile(r"secret|password|passwd|bind_pw|token|[._]key$|^subscription\.")

Settings = t.Mapping[str, t.Union[str, None]]


def as_text(value: object) -> str | None:
    """sacli's values are texts. None, that the key is not to be there. Raises ValueError for what is no single value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    raise ValueError(f"found {value!r}, expected a text, a number, true or false")


def checked(settings: t.Mapping[str, object], found: t.Mapping[str, str], vouched_for: t.Collection[str] = ()) -> Settings:
    """The settings as texts. Raises AccessServerError with a sentence for each that Access Server would take and not understand.

    found: what the server has. vouched_for: keys that the user answers for.
    """
    wrong: list[str] = []
    texts: dict[str, str | None] = {}
    for key, value in settings.items():
        rule = KEYS.get(_NUMBERED.sub("N", key))
        if rule is None and key not in found and key not in vouched_for:
            wrong.append(_unknown(key, found))
            continue
        try:
            text = as_text(value)
        except ValueError as error:
            wrong.append(f"{key}: {error}.")
            continue
        if rule is not None and text is not None and not rule.fits(text):
            wrong.append(f"{key}: found {text!r}, expected {rule.words}.")
        texts[key] = text
    if wrong:
        raise AccessServerError("\n".join([*wrong, "Access Server would store it and say nothing, so nothing was changed."]))
    return texts


def _unknown(key: str, found: t.Iterable[str]) -> str:
    number = (_NUMBERED.search(key) or ["0"])[0]
    known = {re.sub(r"\bN\b", number, name) for name in KEYS} | set(found)
    near = difflib.get_close_matches(key, sorted(known), n=3, cutoff=0.75)
    nearest = f"Nearest: {', '.join(near)}." if near else "None is near."
    return (
        f"{key}: neither Access Server nor this collection knows such a key. {nearest} Mend the name, "
        "or if your Access Server is newer and has it, say so in unknown_keys (openvpn_as_unknown_keys)."
    )


@dataclasses.dataclass(frozen=True)
class Change:
    """One key or property; None where it is not there."""

    key: str
    before: str | None
    after: str | None


def config_plan(found: t.Mapping[str, str], wanted: Settings, exclusive: t.Iterable[str] = ()) -> list[Change]:
    """What differs, and nothing else. exclusive: beginnings of keys of which only the wanted ones may be there."""
    beginnings = tuple(exclusive)
    surplus = {key: None for key in sorted(found) if beginnings and key.startswith(beginnings) and key not in wanted}
    return [Change(key, found.get(key), value) for key, value in {**wanted, **surplus}.items() if found.get(key) != value]


def diff(changes: t.Iterable[Change]) -> dict[str, str]:
    """For Ansible's diff: only what differs, and of a secret only that it does."""

    def side(which: str) -> str:
        lines = []
        for change in changes:
            value = getattr(change, which)
            if value is not None:
                lines.append(f"{change.key}={f'<secret {which}>' if _SECRET.search(change.key) else value}\n")
        return "".join(sorted(lines))

    changes = list(changes)
    return {"before": side("before"), "after": side("after")}


def networks(network: str, server_address: str) -> dict[str, str]:
    """Settings for one VPN network in which the server has its first address, and clients have addresses of their own.

    Access Server keeps apart what it gives out by itself and what a user may have for good (conn_ip). A node needs the latter, so the former is as small as
    can be, with the server's own address in it. Raises AccessServerError where that address is not the first.
    """
    whole = ipaddress.IPv4Network(network)
    if whole.prefixlen >= DYNAMIC_PREFIX:
        raise AccessServerError(f"cluster_vpn_network: found {whole}, expected a network larger than /{DYNAMIC_PREFIX}. Take a larger one.")
    own = dynamic_network(server_address)
    if own[1] != ipaddress.IPv4Address(server_address) or not own.subnet_of(whole):
        raise AccessServerError(
            f"cluster_vpn_server_address: found {server_address}, expected the first address of a /{DYNAMIC_PREFIX} inside {whole}, since Access Server takes "
            f"the first address of its network. Leave it out for {whole[1]}."
        )
    settings = {"vpn.daemon.0.client.network": str(own.network_address), "vpn.daemon.0.client.netmask_bits": str(own.prefixlen)}
    for number, part in enumerate(sorted(whole.address_exclude(own))):
        settings[f"vpn.server.static.{number}.network"] = str(part.network_address)
        settings[f"vpn.server.static.{number}.netmask_bits"] = str(part.prefixlen)
    return settings


def dynamic_network(server_address: str) -> ipaddress.IPv4Network:
    """What Access Server gives out by itself: no client may have an address of it for good."""
    return ipaddress.IPv4Network(f"{server_address}/{DYNAMIC_PREFIX}", strict=False)


# --- Users ---------------------------------------------------------------------------------------------------------------------------------

Properties = t.Mapping[str, str]


def admitted(address: str | None, autologin: bool) -> dict[str, str | None]:
    """The properties of a user who may connect. address: its own, or None for one that the server gives."""
    return {"type": "user_connect", "prop_autologin": as_text(autologin), "prop_deny": "false", "conn_ip": address}


#: Of one who may not. The user stays: his certificate is good for years, and a name that Access Server does not know falls under its defaults.
DENIED: t.Mapping[str, str | None] = {"prop_deny": "true", "prop_autologin": "false", "conn_ip": None}


def user_plan(found: Properties | None, wanted: t.Mapping[str, str | None]) -> list[Change]:
    """What differs. A property that nobody ever set is as good as false."""
    has = found or {}
    differing = [Change(key, has.get(key), value) for key, value in wanted.items() if has.get(key) != value]
    return [change for change in differing if (change.before, change.after) != (None, "false")]


@dataclasses.dataclass(frozen=True)
class Session:
    user: str
    real_address: str
    address: str
    since: str


def sessions(status: t.Mapping[str, t.Any]) -> list[Session]:
    """Who is connected, by VPNStatus; columns are found by their names."""
    found = []
    for daemon in status.values():
        columns = daemon.get("client_list_header", {})
        for row in daemon.get("client_list", []):
            cells = {name: str(row[int(index)]) for name, index in columns.items() if int(index) < len(row)}
            user = cells.get("Username") or cells.get("Common Name", "")
            found.append(Session(user, cells.get("Real Address", ""), cells.get("Virtual Address", ""), cells.get("Connected Since", "")))
    return found


# --- Licence -------------------------------------------------------------------------------------------------------------------------------


def connections(status: t.Mapping[str, t.Any]) -> int:
    """How many may be connected at a time, by SubscriptionStatus."""
    for key in ("max_cc", "cc_limit", "fallback_cc"):
        if isinstance(status.get(key), int):
            return int(status[key])
    return FREE_CONNECTIONS


def subscribed(status: t.Mapping[str, t.Any]) -> bool:
    return "OK" in str(status.get("state")) and connections(status) > FREE_CONNECTIONS


def too_small(host: str, have: int, nodes: int, instances: int, source: str) -> Problem | None:
    """Where not every node can be connected at a time. source: who says how many may be."""
    if nodes + instances <= have:
        return None
    return Problem(
        host,
        "openvpn_as_licence",
        f"{have} connections ({source})",
        f"at least {nodes + instances}: {nodes} on-prem hosts that dial in, and {instances} instances, the sum of the node pools' max_size",
        "A node without a connection never joins. Take a larger subscription and say so (openvpn_as_licence, openvpn_as_connections), make the pools "
        "smaller, or set cluster_vpn_backend: openvpn, which has no such limit.",
    )


# --- Talking to it ---------------------------------------------------------------------------------------------------------------------------


class Sacli:
    """Root needs no login."""

    def __init__(self, program: str = SACLI) -> None:
        self.program = program

    @property
    def installed(self) -> bool:
        return os.path.exists(self.program)

    def call(self, *words: str) -> str:
        """What it prints. The words stand in the host's list of processes, so no secret may be among them. Raises AccessServerError."""
        code, out, err = _command.run([self.program, *words], timeout=60)
        if code == 0:
            return out
        said = [line for line in (err or out).splitlines() if line.strip()]
        reason = said[-1].strip() if said else f"exit status {code}"
        if code == _command.NOT_INSTALLED:
            raise NotUpError(f"{self.program} does not exist: Access Server is not installed on this host. Run site.yml, whose role openvpn_as brings it.")
        if re.search(r"sagent|socket|[Cc]onnection refused", reason):
            raise NotUpError(
                f"Access Server does not answer: {reason}. Expected {UNIT} to be up: `systemctl status openvpnas`, `tail -n 50 /var/log/openvpnas.log`."
            )
        raise AccessServerError(f"sacli {words[-1]}: {reason}")

    def ask(self, *words: str) -> t.Any:
        """What it prints, as data: JSON, and of some verbs Python's own notation."""
        out = self.call(*words)
        try:
            return json.loads(out)
        except ValueError:
            pass
        try:
            return ast.literal_eval(out.strip())
        except (ValueError, SyntaxError):
            raise AccessServerError(f"sacli {words[-1]}: what it printed is neither JSON nor a dictionary. Is this version of Access Server known?") from None

    def wait(self, seconds: float) -> None:
        """Until it answers. Raises NotUpError with what it said last."""
        end = time.monotonic() + seconds
        while True:
            try:
                self.call("status")
            except NotUpError as error:
                if time.monotonic() >= end or not self.installed:
                    raise NotUpError(f"{error} (waited {seconds:g} s)" if self.installed else str(error)) from None
            else:
                return
            time.sleep(1)

    def config(self) -> dict[str, str]:
        return {str(key): str(value) for key, value in self.ask("ConfigQuery").items()}

    def configure(self, changes: t.Iterable[Change]) -> None:
        """Stores them; nothing holds before restart."""
        for change in changes:
            if change.after is None:
                self.call("--key", change.key, "ConfigDel")
            else:
                self.call("--key", change.key, "--value", change.after, "ConfigPut")

    def restart(self) -> None:
        """The warm restart that applies what is stored. Sessions are cut, and come back by themselves."""
        self.call("start")

    def users(self) -> dict[str, dict[str, str]]:
        return {name: {key: str(value) for key, value in found.items()} for name, found in self.ask("UserPropGet").items()}

    def change_user(self, name: str, changes: t.Iterable[Change]) -> None:
        """Holds from the user's next connection on, without a restart."""
        for change in changes:
            if change.after is None:
                self.call("--user", name, "--key", change.key, "UserPropDel")
            else:
                self.call("--user", name, "--key", change.key, "--value", change.after, "UserPropPut")

    def forget_user(self, name: str) -> None:
        self.call("--user", name, "UserPropDelAll")

    def profile(self, name: str, verb: str = "GetAutologin") -> str:
        """A whole .ovpn file with a private key. Each call may make another certificate."""
        text = self.call("--user", name, verb)
        if "<key>" not in text or "<ca>" not in text:
            raise AccessServerError(f"sacli --user {name} {verb} printed no profile with its key in it. Try it on the VPN server.")
        return text

    def sessions(self) -> list[Session]:
        return sessions(self.ask("VPNStatus"))

    def disconnect(self, name: str) -> str:
        """Ends the user's sessions: none, cut, or not cut with the reason."""
        if name not in {session.user for session in self.sessions()}:
            return "none"
        try:
            self.call("--user", name, "DisconnectUser")
        except AccessServerError as error:
            return f"not cut: {error}"
        return "not cut: it is still connected" if name in {session.user for session in self.sessions()} else "cut"

    def subscription(self) -> dict[str, t.Any]:
        return dict(self.ask("SubscriptionStatus"))

    def load_subscription(self, bundle: str) -> None:
        """By a file that only root can read, since words stand in the list of processes."""
        descriptor, path = tempfile.mkstemp(prefix="fpga-hybrid-")
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(bundle.strip() + "\n")
            self.call("--value_file", path, "LoadSubscription")
        finally:
            os.unlink(path)
