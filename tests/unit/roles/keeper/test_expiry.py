# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends when: from a control plane's files and from the VPN's authority."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import settings as settings_
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import KubeadmError, certificate_ends
from fpga_hybrid_keeper.expiry import DAY, Expiry, Files, of_authority, revocation_list, seconds

KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
END = datetime(2027, 3, 1, 12, 30, 15, tzinfo=timezone.utc)


def certificate(end: datetime = END) -> str:
    builder = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(KEY.public_key()).serial_number(7)
    made = builder.not_valid_before(end - timedelta(days=365)).not_valid_after(end).sign(KEY, hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()


WHOLE = base64.b64decode("".join(certificate().splitlines()[1:-1]))


# --- certificates -----------------------------------------------------------------------------------------------------------------------


@settings_(deadline=None, max_examples=50)
@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 12, 31), timezones=st.just(timezone.utc)))
def test_the_end_of_any_certificate_is_read(end):
    end = end.replace(microsecond=0)
    builder = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(KEY.public_key()).serial_number(7)
    made = builder.not_valid_before(min(end, datetime(1970, 1, 1, tzinfo=timezone.utc))).not_valid_after(end).sign(KEY, hashes.SHA256())
    assert certificate_ends(made.public_bytes(Encoding.PEM).decode()) == [end.timestamp()]


def test_openssl_reads_the_same_end(tmp_path):
    (tmp_path / "one.crt").write_text(certificate())
    done = subprocess.run(["openssl", "x509", "-in", tmp_path / "one.crt", "-noout", "-enddate"], capture_output=True, text=True, check=True)
    said = datetime.strptime(done.stdout.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=timezone.utc)
    assert certificate_ends(certificate()) == [said.timestamp()]


def test_each_certificate_of_a_file_is_read_and_its_key_is_passed_over():
    later = END + timedelta(days=1)
    assert certificate_ends(certificate() + "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n" + certificate(later)) == [
        END.timestamp(),
        later.timestamp(),
    ]


@settings_(deadline=None, max_examples=200)
@given(st.data())
def test_a_damaged_certificate_is_said_to_be_one_or_read_and_nothing_else(data):
    cut = WHOLE[: data.draw(st.integers(0, len(WHOLE)))]
    position = data.draw(st.integers(0, max(0, len(cut) - 1)))
    damaged = cut[:position] + bytes([data.draw(st.integers(0, 255))]) + cut[position + 1 :]
    with contextlib.suppress(KubeadmError):
        (end,) = certificate_ends(f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(damaged).decode()}\n-----END CERTIFICATE-----\n")
        assert isinstance(end, float)


@pytest.mark.parametrize("text", ["", "nothing", "-----BEGIN CERTIFICATE-----\n"])
def test_a_file_without_a_certificate_has_no_end(text):
    assert certificate_ends(text) == []


# --- the control plane's files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pki" / "etcd").mkdir(parents=True)
    for number, name in enumerate(("pki/apiserver.crt", "pki/ca.crt", "pki/etcd/ca.crt", "pki/etcd/server.crt", "pki/front-proxy-ca.crt")):
        (tmp_path / name).write_text(certificate(END + timedelta(days=number)))
    (tmp_path / "pki" / "ca.key").write_text("secret")
    data = base64.b64encode(certificate(END + timedelta(days=9)).encode()).decode()
    (tmp_path / "admin.conf").write_text(f"users:\n- name: admin\n  user:\n    client-certificate-data: {data}\n    client-key-data: c2VjcmV0\n")
    (tmp_path / "kubelet.conf").write_text("users:\n- user:\n    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem\n")
    (tmp_path / "kubelet.pem").write_text(certificate(END + timedelta(days=10)))
    return tmp_path


def files(folder) -> Files:
    return Files(str(folder), str(folder / "kubelet.pem"))


def test_every_certificate_of_a_control_plane_is_found(folder):
    found, trouble = files(folder).read()
    assert trouble == ""
    assert {one.name: one.ends for one in found} == {
        "apiserver": END.timestamp(),
        "ca": END.timestamp() + DAY,
        "etcd/ca": END.timestamp() + 2 * DAY,
        "etcd/server": END.timestamp() + 3 * DAY,
        "front-proxy-ca": END.timestamp() + 4 * DAY,
        "admin.conf": END.timestamp() + 9 * DAY,
        "kubelet": END.timestamp() + 10 * DAY,
    }


def test_what_is_to_be_done_differs_by_what_ends(folder):
    remedies = {one.name: one.remedy for one in files(folder).read()[0]}
    assert "kubeadm certs renew all" in remedies["apiserver"]
    assert "kubeadm certs renew all" in remedies["admin.conf"]
    assert "by hand" in remedies["ca"] == remedies["etcd/ca"] == remedies["front-proxy-ca"]
    assert "journalctl -u kubelet" in remedies["kubelet"]


def test_one_that_is_damaged_is_named_and_the_others_are_read(folder):
    (folder / "pki" / "apiserver.crt").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    found, trouble = files(folder).read()
    assert len(found) == 6
    assert trouble == f"{folder}/pki/apiserver.crt: The certificate is cut off or no X.509 certificate."


def test_a_renewed_certificate_is_noticed(folder):
    before = files(folder).fingerprint()
    assert files(folder).fingerprint() == before
    (folder / "new").write_text(certificate(END + timedelta(days=365)))
    os.replace(folder / "new", folder / "pki" / "apiserver.crt")
    assert files(folder).fingerprint() != before


def test_a_host_without_a_cluster_has_nothing_that_ends(tmp_path):
    assert Files(str(tmp_path / "none"), str(tmp_path / "none.pem")).read() == ([], "")


# --- warnings ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "sentence"),
    [
        (31 * DAY, ""),
        (30 * DAY + 1, ""),
        (30 * DAY, "The VPN's CA ends on 2027-03-01 12:30 UTC. Plan it."),
        (1, "The VPN's CA ends on 2027-03-01 12:30 UTC. Plan it."),
        (0, "The VPN's CA has ended (2027-03-01 12:30 UTC). Plan it."),
        (-DAY, "The VPN's CA has ended (2027-03-01 12:30 UTC). Plan it."),
    ],
)
def test_it_warns_thirty_days_before_and_says_when_it_has_ended(left, sentence):
    assert Expiry("vpn/ca", "The VPN's CA", END.timestamp(), "Plan it.").warning(END.timestamp() - left, 30) == sentence


# --- the VPN's authority ----------------------------------------------------------------------------------------------------------------


LIST = {
    "clients": [
        {"name": "worker1", "not_after": "2027-03-01T12:30:15Z", "revoked": None},
        {"name": "i-0123456789abcdef0", "not_after": "2027-03-02T12:30:15Z", "revoked": None},
        {"name": "i-0123456789abcdef1", "not_after": "2027-03-02T12:30:15Z", "revoked": "2026-11-26T10:00:00Z"},
        {"name": "moved", "not_after": None, "revoked": None},
    ],
    "ca_not_after": "2035-01-01T00:00:00Z",
    "server_not_after": "2028-01-01T00:00:00Z",
    "crl_next_update": "2027-05-01T00:00:00Z",
}


def test_what_the_authority_has_is_known_but_not_what_is_revoked():
    found = {one.name: one for one in of_authority(LIST)}
    assert set(found) == {"vpn/ca", "vpn/server", "vpn/clients/worker1", "vpn/clients/i-0123456789abcdef0"}
    assert found["vpn/clients/worker1"].ends == END.timestamp()
    assert "site.yml" in found["vpn/clients/worker1"].remedy
    assert "End that instance" in found["vpn/clients/i-0123456789abcdef0"].remedy
    assert revocation_list(LIST).ends == seconds("2027-05-01T00:00:00Z") == 1809129600


def test_access_server_says_nothing_of_its_own_dates():
    answer = {**LIST, "clients": [], "ca_not_after": None, "server_not_after": None, "crl_next_update": None}
    assert of_authority(answer) == []
    assert revocation_list(answer) is None
