"""A double of OpenVPN Access Server's command line, `sacli` and `ovpn-init`. It is not OpenVPN Inc.'s program, carries no packet and knows no other user.

No Access Server was at hand: words, keys and failures are those of its documentation, of the vendor's Puppet module, of published ConfigQuery dumps and
scripts. What it does as theirs does:

- it validates nothing: any key takes any text, and a property that is put on an unknown user creates that user;
- what ConfigPut writes is stored at once and holds only after `start` (the warm restart), which cuts every session;
- while its service is not up nothing answers, with exit status 1 and a sentence on stderr;
- ConfigQuery and UserPropGet print JSON of texts, SubscriptionStatus prints Python's own notation;
- without a subscription two connections are admitted, whatever was configured, and the third is refused;
- each GetAutologin makes another certificate and dates the file, and wants the user to have prop_autologin;
- ovpn-init makes up the administrator's password and prints it.

Called as theirs are, by scripts: `access_server_double.py sacli --key K --value V ConfigPut`; `openvpnas` is the service, which is up until it is told to
end. The depot's package openvpn-as has it so. Below the root (LAB_OPENVPN_AS_ROOT, else /run/lab-openvpn-as): config.db, what it knows; calls.log, each
call's words as a list; faults.json, what shall go wrong: {"ConfigPut": "the sentence"}, {"up_after": 3} (calls until it is up), each but the latter until it
is taken out.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

FREE_CONNECTIONS = 2
#: Named as theirs, by which one sees that it was initialised.
STATE = "config.db"
NOT_UP = "ERROR: Could not connect to UNIX socket /usr/local/openvpn_as/etc/sock/sagent: No such file or directory"
#: What a new installation has, as far as it matters here.
DEFAULTS = {
    "admin_ui.https.ip_address": "all",
    "admin_ui.https.port": "943",
    "auth.module.type": "local",
    "cs.https.ip_address": "all",
    "cs.https.port": "943",
    "cs.tls_version_min": "1.2",
    "host.name": "127.0.0.1",
    "vpn.client.routing.inter_client": "false",
    "vpn.client.routing.reroute_dns": "true",
    "vpn.client.routing.reroute_gw": "true",
    "vpn.daemon.0.client.netmask_bits": "20",
    "vpn.daemon.0.client.network": "172.27.224.0",
    "vpn.daemon.0.listen.ip_address": "all",
    "vpn.daemon.0.listen.port": "443",
    "vpn.daemon.0.listen.protocol": "tcp",
    "vpn.server.daemon.enable": "true",
    "vpn.server.daemon.tcp.port": "443",
    "vpn.server.daemon.udp.port": "1194",
    "vpn.server.group_pool.0": "172.27.240.0/20",
    "vpn.server.port_share.enable": "true",
    "vpn.server.routing.gateway_access": "true",
    "vpn.server.routing.private_access": "nat",
    "vpn.server.routing.private_network.0": "10.0.0.0/8",
    "vpn.server.tls_cc_security": "tls-crypt",
    "xmlrpc.relay_level": "1",
}
HEADER = ("Common Name", "Real Address", "Virtual Address", "Bytes Received", "Bytes Sent", "Connected Since", "Connected Since (time_t)", "Username")


class SacliError(Exception):
    """What sacli says on stderr before it ends with exit status 1."""


class RefusedError(Exception):
    """Why a client is not let in."""


@dataclass
class AccessServer:
    """root: the folder that holds all it knows, so that each call may be a process of its own."""

    root: Path

    # --- what it knows ------------------------------------------------------------------------------------------------------------------------

    def read(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.root / name).read_text())
        except FileNotFoundError:
            return {}
        return content

    def write(self, name: str, content: object) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        unfinished = self.root / f".{name}.{os.getpid()}"
        unfinished.write_text(json.dumps(content))
        unfinished.replace(self.root / name)

    @contextmanager
    def state(self) -> Iterator[dict[str, Any]]:
        state = self.read(STATE)
        yield state
        self.write(STATE, state)

    @property
    def config(self) -> dict[str, str]:
        """What is stored."""
        return dict(self.read(STATE).get("config", {}))

    @property
    def applied(self) -> dict[str, str]:
        """What the daemons run with, since the last start."""
        return dict(self.read(STATE).get("applied", {}))

    @property
    def users(self) -> dict[str, dict[str, str]]:
        return dict(self.read(STATE).get("users", {}))

    @property
    def calls(self) -> list[list[str]]:
        try:
            return [json.loads(line) for line in (self.root / "calls.log").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def verbs(self) -> list[str]:
        """The last word of each call, in order."""
        return [words[-1] for words in self.calls]

    def forget_calls(self) -> None:
        (self.root / "calls.log").unlink(missing_ok=True)

    def set_faults(self, **faults: Any) -> None:
        self.write("faults.json", faults)

    # --- as a host and its clients see it -------------------------------------------------------------------------------------------------------

    def install(self, host: str = "vpn.example.org") -> None:
        """As after the package's installation and ovpn-init: up, with its defaults and its administrator."""
        self._initialise(host)
        with self.state() as state:
            state["up"] = True

    def set_up(self, up: bool) -> None:
        """As systemctl start and stop of openvpnas.service do."""
        with self.state() as state:
            state["up"] = up
            state["applied"] = dict(state.get("config", {})) if up else {}
            state["sessions"] = {}

    def connect(self, user: str, real_address: str = "198.51.100.7:40000") -> str:
        """A client of this user dials in with a profile without a password. Returns its address. Raises RefusedError."""
        with self.state() as state:
            properties = state.get("users", {}).get(user, {})
            if not state.get("up"):
                raise RefusedError("nothing listens")
            if properties.get("prop_deny") == "true" or properties.get("prop_autologin") != "true":
                raise RefusedError("AUTH_FAILED")
            others = {name: session for name, session in state["sessions"].items() if name != user}
            if len(others) >= self._limit(state):
                raise RefusedError("AUTH_FAILED,LICENSE: Access Server license failure: maximum concurrent connections exceeded")
            address = properties.get("conn_ip") or self._dynamic(state["applied"], {session["address"] for session in others.values()})
            if properties.get("conn_ip") and not any(IPv4Address(address) in network for network in statics(state["applied"])):
                raise RefusedError(f"AUTH_FAILED: {address} is in no static network")
            state["sessions"] = {**others, user: {"real": real_address, "address": address, "since": int(time.time())}}
        return address

    @staticmethod
    def _limit(state: dict[str, Any]) -> int:
        return max(int(state.get("subscription", 0)), FREE_CONNECTIONS)

    @staticmethod
    def _dynamic(applied: dict[str, str], taken: set[str]) -> str:
        network = IPv4Network(f"{applied['vpn.daemon.0.client.network']}/{applied['vpn.daemon.0.client.netmask_bits']}")
        return next(str(address) for address in list(network.hosts())[1:] if str(address) not in taken)

    def _initialise(self, host: str) -> None:
        self.write(
            STATE,
            {
                "up": False,
                "config": {**DEFAULTS, "host.name": host},
                "applied": {**DEFAULTS, "host.name": host},
                "users": {"openvpn": {"type": "user_connect", "prop_superuser": "true"}, "__DEFAULT__": {"def_deny": "false", "prop_autologin": "false"}},
                "sessions": {},
                "subscription": 0,
                "restarted": 0,
                "serial": 0,
            },
        )

    # --- as root calls it -----------------------------------------------------------------------------------------------------------------------

    def run(self, words: Sequence[str]) -> tuple[int, str, str]:
        """(exit status, stdout, stderr) of a call; the first word is the program's name."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "calls.log").open("a") as log:
            log.write(json.dumps(list(words)) + "\n")
        program, *arguments = words
        try:
            return 0, (self.ovpn_init if program == "ovpn-init" else self.sacli)(arguments), ""
        except SacliError as error:
            return 1, "", f"{error}\n"

    def ovpn_init(self, arguments: Sequence[str]) -> str:
        parser = argparse.ArgumentParser(prog="ovpn-init")
        for flag in ("--batch", "--force", "--ec2"):
            parser.add_argument(flag, action="store_true")
        parser.add_argument("--host", default="127.0.0.1")
        given = parser.parse_args(arguments)
        if self.read(STATE) and not given.force:
            raise SacliError("Detected an existing OpenVPN-AS configuration. Continuing will delete this configuration and restart from scratch.")
        self._initialise(given.host)
        return f'Initializing OpenVPN...\nTo login please use the "openvpn" account with "{secrets.token_urlsafe(9)}" password.\n'

    def sacli(self, arguments: Sequence[str]) -> str:
        parser = argparse.ArgumentParser(prog="sacli")
        for long, short in (("user", "u"), ("key", "k"), ("value", "v"), ("value_file", "f"), ("new_pass", "p")):
            parser.add_argument(f"--{long}", f"-{short}")
        parser.add_argument("verb")
        given = parser.parse_args(arguments)
        if given.value_file is not None:
            given.value = Path(given.value_file).read_text()
        faults = self.read("faults.json")
        if faults.get("up_after"):
            self.set_faults(**{**faults, "up_after": faults["up_after"] - 1})
            raise SacliError(NOT_UP)
        if not self.read(STATE).get("up"):
            raise SacliError(NOT_UP)
        if given.verb in faults:
            raise SacliError(f"ERROR: {faults[given.verb]}")
        action = getattr(self, f"_{given.verb}", None)
        if action is None:
            raise SacliError(f"ERROR: unknown command: {given.verb}")
        with self.state() as state:
            answer: str = action(state, given)
        return answer

    def _ConfigQuery(self, state: dict[str, Any], _given: argparse.Namespace) -> str:  # noqa: N802 (sacli's verbs)
        return json.dumps(state["config"], indent=2, sort_keys=True) + "\n"

    def _ConfigPut(self, state: dict[str, Any], given: argparse.Namespace) -> str:  # noqa: N802
        state["config"][given.key] = given.value
        return ""

    def _ConfigDel(self, state: dict[str, Any], given: argparse.Namespace) -> str:  # noqa: N802
        state["config"].pop(given.key, None)
        return ""

    def _start(self, state: dict[str, Any], given: argparse.Namespace) -> str:
        state.update(applied=dict(state["config"]), sessions={}, restarted=state["restarted"] + 1)
        return self._status(state, given)

    def _status(self, state: dict[str, Any], _given: argparse.Namespace) -> str:
        names = ("api", "auth", "client_query", "license", "log", "openvpn_0", "subscription", "user", "web")
        return json.dumps({"errors": {}, "last_restarted": "Thu Nov 26 08:00:00 2026", "service_status": dict.fromkeys(names, "on")}) + "\n"

    def _UserPropGet(self, state: dict[str, Any], given: argparse.Namespace) -> str:  # noqa: N802
        users = state["users"]
        return json.dumps(users if given.user is None else {name: value for name, value in users.items() if name == given.user}) + "\n"

    def _UserPropPut(self, state: dict[str, Any], given: argparse.Namespace) -> str:  # noqa: N802
        state["users"].setdefault(given.user, {"type": "user_connect"})[given.key] = given.value
        return ""

    def _UserPropDel(self, state: dict[str, Any], given: argparse.Namespace) -> str:  # noqa: N802
        state["users"].get(given.user, {}).pop(given.key, None)
        return ""

    def _UserPropDelAll(self, state: dict[str, Any], given: argparse.Namespace) -> str:  # noqa: N802
        state["users"].pop(given.user, None)
        return ""

    def _SetLocalPassword(self, state: dict[str, Any], given: argparse.Namespace) -> str:  # noqa: N802
        state["users"].setdefault(given.user, {"type": "user_connect"})["pvt_password_digest"] = "of the password"
        return ""

    def _GetAutologin(self, state: dict[str, Any], given: argparse.Namespace) -> str:  # noqa: N802
        if state["users"].get(given.user, {}).get("prop_autologin") != "true":
            raise SacliError(f"ERROR: autologin profile not enabled for user {given.user}")
        return self._profile(state, given.user, "")

    def _GetUserlogin(self, state: dict[str, Any], given: argparse.Namespace) -> str:  # noqa: N802
        return self._profile(state, given.user, "auth-user-pass\n")

    def _DisconnectUser(self, state: dict[str, Any], given: argparse.Namespace) -> str:  # noqa: N802
        state["sessions"].pop(given.user, None)
        return ""

    def _VPNStatus(self, state: dict[str, Any], _given: argparse.Namespace) -> str:  # noqa: N802
        rows = []
        for user, session in sorted(state["sessions"].items()):
            since = datetime.fromtimestamp(session["since"], timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
            rows.append([user, session["real"], session["address"], "4217", "4069", since, str(session["since"]), user])
        daemon = {"client_list": rows, "client_list_header": {name: index for index, name in enumerate(HEADER)}, "title": "OpenVPN"}
        return json.dumps({"openvpn_0": daemon}) + "\n"

    def _LicUsage(self, state: dict[str, Any], _given: argparse.Namespace) -> str:  # noqa: N802
        return json.dumps([len(state["sessions"]), self._limit(state)], indent=2) + "\n"

    def _SubscriptionStatus(self, state: dict[str, Any], _given: argparse.Namespace) -> str:  # noqa: N802
        subscribed = bool(state["subscription"])
        status = {
            "agent_disabled": False,
            "cc_limit": self._limit(state),
            "current_cc": len(state["sessions"]),
            "error": None,
            "fallback_cc": FREE_CONNECTIONS,
            "max_cc": self._limit(state),
            "name": "Subscription 1" if subscribed else None,
            "state": "SUBSCRIPTION_OK" if subscribed else "NO_SUBSCRIPTION",
        }
        return f"{status}\n"

    def _LoadSubscription(self, state: dict[str, Any], given: argparse.Namespace) -> str:  # noqa: N802
        """The double's bundles say how many connections they are for: `double-of-a-subscription-25`."""
        name, _dash, number = (given.value or "").strip().rpartition("-")
        if name != "double-of-a-subscription" or not number.isdigit():
            raise SacliError("ERROR: invalid subscription bundle")
        state["subscription"] = int(number)
        return ""

    def _profile(self, state: dict[str, Any], user: str, authentication: str) -> str:
        state["serial"] += 1
        config, now = state["applied"], datetime.now(timezone.utc)
        single = config.get("vpn.server.daemon.enable") != "true"
        port = config["vpn.daemon.0.listen.port"] if single else config["vpn.server.daemon.udp.port"]
        protocol = config["vpn.daemon.0.listen.protocol"] if single else "udp"
        ca, certificate, key = self._certificate(user, state["serial"], now)
        return (
            "# Automatically generated OpenVPN client config file\n"
            f"# Generated on {now:%a %b %d %H:%M:%S.%f %Y} by double\n"
            "# Note: this config file contains inline private keys\n"
            f"#       Certificate serial: {state['serial']}, certificate common name: {user}\n"
            f"# OVPN_ACCESS_SERVER_USERNAME={user}\n"
            "# OVPN_ACCESS_SERVER_WEB_CA_BUNDLE_START\n"
            "# -----BEGIN CERTIFICATE-----\n"
            "# -----END CERTIFICATE-----\n"
            "# OVPN_ACCESS_SERVER_WEB_CA_BUNDLE_STOP\n"
            "setenv FORWARD_COMPATIBLE 1\n"
            "client\n"
            "server-poll-timeout 4\n"
            "nobind\n"
            f"remote {config['host.name']} {port} {protocol}\n"
            f"remote {config['host.name']} {port} {protocol}\n"
            "dev tun\n"
            "dev-type tun\n"
            "remote-cert-tls server\n"
            "tls-version-min 1.2\n"
            "reneg-sec 604800\n"
            f"{authentication}"
            "verb 3\n"
            "setenv PUSH_PEER_INFO\n\n"
            f"<ca>\n{ca}</ca>\n<cert>\n{certificate}</cert>\n<key>\n{key}</key>\n"
            "<tls-crypt>\n-----BEGIN OpenVPN Static key V1-----\n0123\n-----END OpenVPN Static key V1-----\n</tls-crypt>\n"
            "## -----BEGIN RSA SIGNATURE-----\n## DIGEST:sha256\n## -----END RSA SIGNATURE-----\n"
        )

    def _certificate(self, name: str, serial: int, now: datetime) -> tuple[str, str, str]:
        """(CA, certificate, key) as PEM. Here, because only who asks for a profile waits for this library."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        days = int(self.read("faults.json").get("certificate_days", 3650))
        plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

        def signed(subject: str, issuer: str, public: Any, by: ec.EllipticCurvePrivateKey, number: int) -> str:
            names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (subject, issuer)]
            builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(public).serial_number(number)
            builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=days))
            return builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

        key_file = self.root / "ca.key"
        if not key_file.exists():
            key_file.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*plain))
        authority = serialization.load_pem_private_key(key_file.read_bytes(), None)
        assert isinstance(authority, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        ca = signed("OpenVPN CA", "OpenVPN CA", authority.public_key(), authority, 1)
        return ca, signed(name, "OpenVPN CA", key.public_key(), authority, serial + 1), key.private_bytes(*plain).decode()


def statics(config: dict[str, str]) -> list[IPv4Network]:
    """The networks of which users may have an address of their own."""
    found = []
    for number in range(64):
        network, bits = config.get(f"vpn.server.static.{number}.network"), config.get(f"vpn.server.static.{number}.netmask_bits")
        if network and bits:
            found.append(IPv4Network(f"{network}/{bits}"))
    return found


def serve(server: AccessServer) -> int:
    """The service: up until SIGTERM."""
    if not server.read(STATE):
        sys.stderr.write(f"{server.root / STATE} does not exist: run ovpn-init first\n")
        return 1
    server.set_up(True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.set_up(False)
    return 0


def main() -> int:
    server = AccessServer(Path(os.environ.get("LAB_OPENVPN_AS_ROOT", "/run/lab-openvpn-as")))
    if sys.argv[1:2] == ["openvpnas"]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        return serve(server)
    code, out, err = server.run(sys.argv[1:])
    sys.stdout.write(out)
    sys.stderr.write(err)
    return code


if __name__ == "__main__":
    sys.exit(main())
