# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint, TaintError, is_key, is_value
from fpga_hybrid import failure
from fpga_hybrid.bundle import CA_CERT_HASH, TOKEN, is_endpoint
from fpga_hybrid.failure import Failure

PROGRAM = "fpga-hybrid-bootstrap"
#: The autoscaler gives up an instance after 15 minutes; its evidence is to be there by then.
TIMEOUT = 600
#: RFC 1123, as Kubernetes wants it for a Node.
NODE_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
JOINED, READY = "joined", "ready"
SSM = "ssm"

EPILOG = f"""
A secret is given as @FILE, the file that holds it. A literal token is taken, as the tutorial's bootstrap.sh did, with a warning: everybody on the
host can read a command line.

With --bundle, endpoint, hash, token and VPN come with the bundle; else they are given one by one. The file of a bundle is removed.
Running it again on a node changes nothing; after a failure or a reboot it goes on where it was.

exit status:
{failure.table()}

What it did, step by step, stands in /var/lib/fpga-hybrid/bootstrap.json, and is printed to standard output at the end.
"""


@dataclass(frozen=True)
class Options:
    """What was asked for, with @files read. bundle: SSM or a file; None where its parts were given one by one."""

    config: str | None
    bundle: str | None
    endpoint: str | None
    ca_cert_hashes: tuple[str, ...]
    token: str | None
    openvpn_config: str | None
    openvpn_login: str | None
    labels: dict[str, str]
    taints: tuple[Taint, ...]
    node_name: str | None
    timeout: int
    until: str
    dry_run: bool
    root: str
    warnings: tuple[str, ...]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Failure(failure.USAGE, f"{message}. {PROGRAM} --help lists the options.")


def parser() -> argparse.ArgumentParser:
    result = _Parser(
        prog=PROGRAM,
        description="Makes this host a node of a hybrid Kubernetes cluster.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("--config", metavar="FILE", help="what this node is: node.json")
    add("--bundle", metavar="FILE|ssm", help="how it joins: a file with the join bundle, or the parameter that keeper writes for this instance")
    add("--apiserver-endpoint", metavar="NAME:PORT", help="the API server endpoint")
    hint = "validate that the root CA public key matches this hash (sha256:<hex>); may be given again"
    add("--discovery-token-ca-cert-hash", metavar="HASH", action="append", default=[], help=hint)
    add("--token", metavar="@FILE|TOKEN", help="use this token for both discovery-token and tls-bootstrap-token")
    add("--openvpn-config", metavar="FILE", help="read OpenVPN configuration options from this file")
    add("--openvpn-login", metavar="FILE", help="authenticate with the OpenVPN server by the user name and password in this file, one a line")
    add("--labels", metavar="KEY=VALUE,...", default="", help="labels to add when registering the node in the cluster")
    add("--taints", metavar="KEY=VALUE:EFFECT,...", default="", help="taints to add when registering the node in the cluster")
    add("--node-name", metavar="NAME", help="name of the node (default: the instance id in EC2, elsewhere the host's name)")
    add("--timeout", metavar="SECONDS", default=str(TIMEOUT), help=f"for all of it (default {TIMEOUT})")
    add("--until", choices=[JOINED, READY], default=READY, help="end when the Node is registered, or when it is Ready (default)")
    add("--dry-run", action="store_true", help="look and say what would be done; change nothing")
    add("--root", default="/", help=argparse.SUPPRESS)  # a folder in front of all files, for tests
    return result


def parse(argv: Sequence[str]) -> Options:
    found = parser().parse_args(argv)
    given = {
        "--apiserver-endpoint": found.apiserver_endpoint,
        "--discovery-token-ca-cert-hash": found.discovery_token_ca_cert_hash,
        "--token": found.token,
        "--openvpn-config": found.openvpn_config,
        "--openvpn-login": found.openvpn_login,
    }
    if found.bundle:
        beside = [name for name, value in given.items() if value]
        if beside:
            raise _usage(f"{', '.join(beside)}: comes with the bundle. Leave it out, or leave --bundle out")
    else:
        missing = [name for name in list(given)[:3] if not given[name]]
        if missing:
            raise _usage(f"{', '.join(missing)}: missing. Give it, or all of them at once with --bundle")
    if found.bundle == SSM and not found.config:
        raise _usage("--bundle ssm needs --config, which says where the parameter is")
    if found.openvpn_login and not found.openvpn_config:
        raise _usage("--openvpn-login needs --openvpn-config")
    warnings: list[str] = []
    return Options(
        config=found.config,
        bundle=found.bundle,
        endpoint=_checked("--apiserver-endpoint", found.apiserver_endpoint, is_endpoint, "name:port"),
        ca_cert_hashes=tuple(_hash(value) for value in found.discovery_token_ca_cert_hash),
        token=_token(found.token, warnings) if found.token else None,
        openvpn_config=_file("--openvpn-config", found.openvpn_config) if found.openvpn_config else None,
        openvpn_login=_login(found.openvpn_login) if found.openvpn_login else None,
        labels=_labels(found.labels),
        taints=tuple(_taint(text) for text in found.taints.split(",") if text),
        node_name=_checked("--node-name", found.node_name, NODE_NAME.fullmatch, "lower-case letters, digits, '-' and '.', at most 253"),
        timeout=int(_checked("--timeout", found.timeout, re.compile("[1-9][0-9]{0,5}", re.ASCII).fullmatch, "seconds, at least 1") or 0),
        until=found.until,
        dry_run=found.dry_run,
        root=found.root,
        warnings=tuple(warnings),
    )


def _usage(sentence: str) -> Failure:
    return Failure(failure.USAGE, f"{sentence}. {PROGRAM} --help lists the options.")


def _checked(option: str, value: str | None, is_right: object, expected: str) -> str | None:
    if value is not None and not (callable(is_right) and is_right(value)):
        raise _usage(f"{option} {value!r}: expected {expected}")
    return value


def _hash(value: str) -> str:
    if not CA_CERT_HASH.fullmatch(value):
        raise _usage(
            f"--discovery-token-ca-cert-hash {value!r}: expected sha256: and 64 hexadecimal digits, as kubeadm token create --print-join-command shows"
        )
    return value


def _token(value: str, warnings: list[str]) -> str:
    """Never quoted, also where it is wrong."""
    if value.startswith("@"):
        text = _file("--token", value).strip()
    else:
        warnings.append(
            "--token: a literal on the command line can be read by everybody on this host while it runs. Write it to a file of mode 0600: --token @FILE"
        )
        text = value
    if not TOKEN.fullmatch(text):
        raise _usage("--token: expected six and sixteen characters with a dot between, as kubeadm token create prints, or @FILE with it")
    return text


def _login(value: str) -> str:
    text = _file("--openvpn-login", value)
    if len(text.split("\n")) < 2 or not all(text.split("\n")[:2]):
        raise _usage(f"--openvpn-login {value}: expected a user name on its first line and a password on its second")
    return text if text.endswith("\n") else f"{text}\n"


def _file(option: str, value: str) -> str:
    """@FILE and FILE are the same where only a file makes sense."""
    path = value.removeprefix("@")
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise _usage(f"{option}: {path} cannot be read: {reason}") from None


def _labels(text: str) -> dict[str, str]:
    labels = {}
    for pair in filter(None, text.split(",")):
        key, _sign, value = pair.partition("=")
        if not is_key(key) or not is_value(value):
            raise Failure(failure.LABEL, f"--labels: {pair!r} is no label that Kubernetes takes. {LABEL_RULE}")
        labels[key] = value
    return labels


LABEL_RULE = (
    "Expected key=value; the key may have a domain in front (example.org/key), both parts have at most 63 letters, digits, '-', '_' and '.', "
    "a letter or digit at each end."
)


def _taint(text: str) -> Taint:
    try:
        return Taint.parse(text)
    except TaintError as error:
        raise Failure(failure.LABEL, f"--taints: {error}. Expected key=value:effect, the effect NoSchedule, PreferNoSchedule or NoExecute.") from None
