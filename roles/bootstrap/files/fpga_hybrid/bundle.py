# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The join bundle: what a node gets to join its cluster. Secret as a whole.

In AWS it is gzip and base64 of a JSON object in a parameter of type SecureString; on-prem the same JSON object in a file.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import ipaddress
import json
import re
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = 1
#: AWS Systems Manager, "Managing parameter tiers": the value's size in each.
STANDARD_LIMIT, ADVANCED_LIMIT = 4096, 8192
#: What 8 KB can hold unpacked, many times over; a bundle that unpacks to more is none.
UNPACKED_LIMIT = 1 << 20

TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}", re.ASCII)
CA_CERT_HASH = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
ENDPOINT = re.compile(r"(?P<name>[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):(?P<port>[0-9]{1,5})", re.ASCII)


class BundleError(Exception):
    """It cannot be used. The message quotes none of its secrets."""


class CutShortError(BundleError):
    """It begins as a bundle and its end is missing."""


class TooLargeError(BundleError):
    """It fits in no parameter."""


class RefusedError(BundleError):
    """Whoever makes bundles has answered, instead of one, why this node gets none."""


@dataclass(frozen=True)
class JoinBundle:
    """node: name of the node that it was made for. endpoint: name and port of the API server; endpoint_address: where that name leads.

    vpn_profile: one .ovpn text, None where the VPN is up by other means or the node needs none. node_address: None means vpn_address.
    """

    node: str
    endpoint: str
    endpoint_address: str | None
    token: str = field(repr=False)
    ca_cert_hashes: tuple[str, ...]
    vpn_profile: str | None = field(default=None, repr=False)
    vpn_address: str | None = None
    node_address: str | None = None

    @property
    def address(self) -> str | None:
        """What becomes the node's InternalIP."""
        return self.node_address or self.vpn_address

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must appear in no log."""
        keys = re.findall(r"-----BEGIN [^-]*(?:PRIVATE KEY|Static key)[^-]*-----.+?-----END", self.vpn_profile or "", re.DOTALL)
        lines = [line for key in keys for line in key.splitlines()[1:-1] if line.strip()]
        return (self.token, self.token.rpartition(".")[2], *lines)

    def document(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self), "ca_cert_hashes": list(self.ca_cert_hashes)}


@dataclass(frozen=True)
class Encoded:
    text: str

    @property
    def tier(self) -> str:
        """Of the parameter that holds it."""
        return "Standard" if len(self.text) <= STANDARD_LIMIT else "Advanced"


def encode(bundle: JoinBundle) -> Encoded:
    """The same text for the same bundle. Raises TooLargeError over 8 KB."""
    return _packed(bundle.document())


def encode_refusal(sentence: str) -> Encoded:
    """For a node that gets no bundle and is told why instead."""
    return _packed({"schema": SCHEMA, "refused": sentence})


def _packed(document: dict[str, Any]) -> Encoded:
    data = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    encoded = Encoded(base64.b64encode(gzip.compress(data, mtime=0)).decode())
    if len(encoded.text) > ADVANCED_LIMIT:
        raise TooLargeError(
            f"The join bundle has {len(encoded.text)} characters, a parameter holds at most {ADVANCED_LIMIT}. Shorten the VPN profile (its certificates)."
        )
    return encoded


def decode(text: str) -> JoinBundle:
    """Either form. Raises BundleError."""
    text = text.strip()
    if not text:
        raise CutShortError("the join bundle is empty")
    document = _json(text.encode(), "") if text.startswith("{") else _json(_unpacked(text), " inside its packing")
    if document.get("schema") != SCHEMA:
        raise BundleError(f"the join bundle has schema {document.get('schema')!r}, expected {SCHEMA}: it was made by another version of the collection")
    if document.get("refused"):
        raise RefusedError(str(document["refused"]))
    wrong = [name for name, is_right in _FIELDS.items() if not is_right(document.get(name))]
    unknown = sorted(set(document) - set(_FIELDS) - {"schema"})
    if wrong or unknown:
        raise BundleError("the join bundle has " + " and ".join([f"no usable {name}" for name in wrong] + [f"an unknown {name}" for name in unknown]))
    fields: dict[str, Any] = {name: document.get(name) for name in _FIELDS}
    return JoinBundle(**{**fields, "ca_cert_hashes": tuple(document["ca_cert_hashes"])})


def _unpacked(text: str) -> bytes:
    try:
        packed = base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        # Without its last characters, base64 is not filled up to four any more.
        if re.fullmatch(r"[A-Za-z0-9+/\s]+=?", text) and text.startswith("H4sI"):
            raise CutShortError(f"the join bundle is cut short after {len(text)} characters") from error
        raise BundleError("the join bundle is no base64") from error
    try:
        stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
        data = stream.decompress(packed, UNPACKED_LIMIT)
    except zlib.error as error:
        raise BundleError(f"the join bundle is no gzip, or damaged ({error})") from error
    if stream.unconsumed_tail:
        raise BundleError(f"the join bundle unpacks to more than {UNPACKED_LIMIT} bytes")
    if not stream.eof:
        raise CutShortError(f"the join bundle is cut short after {len(text)} characters")
    return data


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        if not data.rstrip().endswith(b"}"):
            raise CutShortError(f"the join bundle is cut short after {len(data)} characters{where}") from error
        raise BundleError(f"the join bundle is no JSON{where} (line {error.lineno}, column {error.colno})") from error
    except UnicodeDecodeError as error:
        raise BundleError(f"the join bundle is no text{where}") from error
    if not isinstance(document, dict):
        raise BundleError(f"the join bundle is no JSON object{where}")
    return document


def is_endpoint(value: object) -> bool:
    match = ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    return match is not None and 0 < int(match["port"]) < 65536


def _is_address(value: object) -> bool:
    try:
        ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


_FIELDS: dict[str, Any] = {
    "node": lambda value: isinstance(value, str) and bool(value),
    "endpoint": is_endpoint,
    "endpoint_address": lambda value: value is None or _is_address(value),
    "token": lambda value: isinstance(value, str) and bool(TOKEN.fullmatch(value)),
    "ca_cert_hashes": lambda value: isinstance(value, list) and bool(value) and all(isinstance(pin, str) and CA_CERT_HASH.fullmatch(pin) for pin in value),
    "vpn_profile": lambda value: value is None or (isinstance(value, str) and "remote " in value),
    "vpn_address": lambda value: value is None or _is_address(value),
    "node_address": lambda value: value is None or _is_address(value),
}
