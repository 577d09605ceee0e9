# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The join bundle: what goes in comes out, and every damage has its word."""

from __future__ import annotations

import base64
import gzip
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga_hybrid import bundle
from fpga_hybrid.bundle import JoinBundle

PIN = "sha256:" + "0" * 64
PROFILE = "client\nremote 10.0.0.10 1194\n<key>\n-----BEGIN PRIVATE KEY-----\nMIGHAgEAsecretsecret\nAwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----\n</key>\n"
BUNDLE = JoinBundle(
    node="i-0123456789abcdef0",
    endpoint="api.example.org:6443",
    endpoint_address="172.27.224.1",
    token="abcdef.fedcba9876543210",
    ca_cert_hashes=(PIN,),
    vpn_profile=PROFILE,
    vpn_address="172.27.232.1",
)


def document(**changes) -> str:
    return json.dumps({key: value for key, value in {**BUNDLE.document(), **changes}.items() if value != "MISSING"})


def test_what_goes_in_comes_out():
    assert bundle.decode(bundle.encode(BUNDLE).text) == BUNDLE
    assert bundle.decode(document()) == BUNDLE


def test_the_same_bundle_is_the_same_text():
    assert bundle.encode(BUNDLE) == bundle.encode(BUNDLE)


NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1, max_size=30)


@given(
    st.builds(
        JoinBundle,
        node=NAMES,
        endpoint=st.builds("{}:{}".format, st.text("abcdefgh0123456789", min_size=1), st.integers(1, 65535)),
        endpoint_address=st.none() | st.ip_addresses(v=4).map(str),
        token=st.from_regex(bundle.TOKEN, fullmatch=True),
        ca_cert_hashes=st.lists(st.from_regex(bundle.CA_CERT_HASH, fullmatch=True), min_size=1, max_size=3).map(tuple),
        vpn_profile=st.none() | st.text(max_size=300).map(lambda text: f"remote x 1\n{text}"),
        vpn_address=st.none() | st.ip_addresses(v=4).map(str),
        node_address=st.none() | st.ip_addresses().map(str),
    )
)
def test_any_bundle_survives_its_packing(one):
    assert bundle.decode(bundle.encode(one).text) == one


def test_a_real_profile_fits_a_standard_parameter_and_a_long_one_needs_the_advanced_tier():
    noise = base64.b64encode(random.Random(1).randbytes(1500)).decode()
    assert bundle.encode(JoinBundle(**{**vars(BUNDLE), "vpn_profile": PROFILE + noise})).tier == "Standard"
    noise = base64.b64encode(random.Random(1).randbytes(4500)).decode()
    assert bundle.encode(JoinBundle(**{**vars(BUNDLE), "vpn_profile": PROFILE + noise})).tier == "Advanced"


def test_what_no_parameter_can_hold_is_refused():
    noise = base64.b64encode(random.Random(1).randbytes(9000)).decode()
    with pytest.raises(bundle.TooLargeError, match=r"has \d+ characters, a parameter holds at most 8192"):
        bundle.encode(JoinBundle(**{**vars(BUNDLE), "vpn_profile": PROFILE + noise}))


@given(st.data())
def test_a_bundle_that_is_cut_short_anywhere_is_never_taken(data):
    """Behind the gzip header it says cut short; before that nobody can tell what it was."""
    text = bundle.encode(BUNDLE).text
    length = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(bundle.BundleError) as caught:
        bundle.decode(text[:length])
    if length == 0 or length >= 16:
        assert isinstance(caught.value, bundle.CutShortError)


def test_a_file_that_is_cut_short_is_told_apart():
    with pytest.raises(bundle.CutShortError, match="cut short after 40 characters"):
        bundle.decode(document()[:40])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no base64!", "no base64"),
        (base64.b64encode(b"no gzip at all").decode(), "no gzip"),
        (base64.b64encode(gzip.compress(b"no json}", mtime=0)).decode(), "no JSON inside its packing"),
        (base64.b64encode(gzip.compress(b"[]}", mtime=0)).decode(), "no JSON inside"),
        (base64.b64encode(gzip.compress(b"\xff}", mtime=0)).decode(), "no text inside"),
        (base64.b64encode(gzip.compress(b"[1]", mtime=0)).decode(), "no JSON object|cut short"),
        (base64.b64encode(gzip.compress(b"{" + b" " * (2 << 20) + b"}", mtime=0)).decode(), "unpacks to more than"),
        (document(schema=2), "has schema 2, expected 1"),
        (document(token="short"), "no usable token"),
        (document(ca_cert_hashes=[]), "no usable ca_cert_hashes"),
        (document(ca_cert_hashes=["sha256:xyz"]), "no usable ca_cert_hashes"),
        (document(endpoint="api"), "no usable endpoint"),
        (document(endpoint="api:99999"), "no usable endpoint"),
        (document(endpoint_address="api"), "no usable endpoint_address"),
        (document(vpn_profile="client"), "no usable vpn_profile"),
        (document(node="MISSING"), "no usable node"),
        (document(extra=1), "an unknown extra"),
    ],
)
def test_what_is_no_bundle_is_told_in_words_that_hold_no_secret(text, words):
    with pytest.raises(bundle.BundleError, match=words) as caught:
        bundle.decode(text)
    assert not any(secret in str(caught.value) for secret in BUNDLE.secrets)


def test_a_damaged_byte_is_found():
    data = bytearray(base64.b64decode(bundle.encode(BUNDLE).text))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(bundle.BundleError):
        bundle.decode(base64.b64encode(bytes(data)).decode())


def test_a_refusal_comes_through_as_its_sentence():
    text = bundle.encode_refusal("i-1 was enrolled before.").text
    with pytest.raises(bundle.RefusedError, match=r"^i-1 was enrolled before\.$"):
        bundle.decode(text)


def test_its_secrets_are_the_token_and_the_lines_of_its_keys():
    assert set(BUNDLE.secrets) == {"abcdef.fedcba9876543210", "fedcba9876543210", "MIGHAgEAsecretsecret", "AwEHBG0wawIBAQQg"}
    assert not any(secret in repr(BUNDLE) for secret in BUNDLE.secrets)
