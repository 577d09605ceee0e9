# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What apt's programs print, versions, keys, files: the pure part."""

from __future__ import annotations

import base64
import shutil
import subprocess
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _apt as apt
from ansible_collections.fpga.hybrid.plugins.module_utils._apt import AptError, Circumstances, Offer, Package, Proxy, Source, State

SOURCE = Source("https://depot/docker/linux/debian", "bookworm", ("stable",), key_url="https://depot/docker/linux/debian/gpg")

POLICY = """containerd.io:
  Installed: (none)
  Candidate: 2.4.2-1
  Package pin: 2.4.2-1
  Version table:
     3.0.0-1 500
        500 https://depot/docker/linux/debian bookworm/stable amd64 Packages
     2.4.2-1 1000
        500 https://depot/docker/linux/debian bookworm/stable amd64 Packages
     1.7.20-1 500
        500 https://depot/docker/linux/debian bookworm/stable amd64 Packages
        500 https://other/debian bookworm/main amd64 Packages
bash:
  Installed: 5.2-1
  Candidate: 5.2-2
  Version table:
     5.2-2 500
        500 http://deb.example.org/debian bookworm/main amd64 Packages
 *** 5.2-1 100
        100 /var/lib/dpkg/status
blocked:
  Installed: (none)
  Candidate: (none)
  Version table:
     1 -1
        500 http://deb.example.org/debian bookworm/main amd64 Packages
"""


# Versions

upstream = st.text("0123456789abAB.+~-", min_size=1, max_size=8).map(lambda text: "1" + text.strip("-"))
version = st.builds(lambda epoch, up, rev: f"{epoch}{up}{rev}", st.sampled_from(["", "0:", "1:"]), upstream, st.sampled_from(["", "-0", "-1", "-1~deb12u1"]))


@pytest.mark.skipif(not shutil.which("dpkg"), reason="needs dpkg to compare with")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(version, version)
@example("1.0~rc1", "1.0")
@example("1.0-1", "1.0-1~deb12u1")
@example("1.10", "1.9")
@example("1:0.1", "9.9")
def test_order_of_versions_is_dpkgs(one, other):
    ours = apt.compare_versions(one, other)
    word = "lt" if ours < 0 else "gt" if ours > 0 else "eq"
    assert subprocess.run(["dpkg", "--compare-versions", one, word, other], check=False).returncode == 0, (one, word, other)


@given(st.lists(version, max_size=6))
def test_newest_first_is_sorted(versions):
    order = apt.newest_first(versions)
    assert all(apt.compare_versions(a, b) > 0 or a != b for a, b in zip(order, order[1:]))
    assert set(order) == set(versions)


@pytest.mark.parametrize(
    ("pattern", "found", "fits"),
    [("2.*", "2.4.2-1", True), ("2.*", "20.1", False), ("1.36.3-1.1", "1.36.3-1.1", True), ("1.36.3", "1.36.3-1.1", False), (None, "0", True)],
)
def test_patterns_are_those_of_apts_preferences(pattern, found, fits):
    assert Package("x", pattern).accepts(found) is fits


# What programs print


def test_dpkg_query_tells_installed_held_and_unfinished_packages():
    text = "a\tii \t1\nb\thi \t2\nc\trc \t3\nd\tiU \t4\ne\tiHR\t5\nf\tun \t\ng\tiW \t6\n"
    assert apt.parse_dpkg_query(text) == {
        "a": State("1"),
        "b": State("2", held=True),
        "c": State(None),
        "d": State("4", unfinished="unpacked"),
        "e": State(None, unfinished="half-installed"),
        "f": State(None),
        "g": State("6"),
    }


@pytest.mark.parametrize("lines", [["x\tii \t1", "x\tun \t"], ["x\tun \t", "x\tii \t1"]])
def test_of_two_architectures_the_installed_one_counts(lines):
    assert apt.parse_dpkg_query("\n".join(lines)) == {"x": State("1")}


@given(st.text())
def test_any_output_of_dpkg_query_can_be_read(text):
    apt.parse_dpkg_query(text)


def test_policy_tells_candidates_and_where_versions_come_from():
    offers = apt.parse_policy(POLICY)
    assert offers["containerd.io"].candidate == "2.4.2-1"
    assert list(offers["containerd.io"].versions) == ["3.0.0-1", "2.4.2-1", "1.7.20-1"]
    assert len(offers["containerd.io"].versions["1.7.20-1"]) == 2
    assert list(offers["bash"].versions) == ["5.2-2"]  # what is only installed cannot be had
    assert offers["blocked"].candidate is None


@given(st.text())
def test_any_output_of_policy_can_be_read(text):
    apt.parse_policy(text)


def test_removals_are_found():
    text = "The following packages will be REMOVED:\n  docker.io containerd*\n  runc\nThe following NEW packages will be installed:\n  x\n"
    assert apt.removals(text) == ["docker.io", "containerd", "runc"]


# What has to be done


def step(package, state=apt.ABSENT, ours=None):
    return apt.plan_package(package, state, ours)


def test_a_fitting_package_needs_nothing():
    plan = step(Package("x", "2.*", hold=True), State("2.1", held=True), {"hold": True})
    assert (plan.install, plan.hold, plan.unhold) == (False, False, False)


def test_an_older_version_that_fits_is_not_upgraded():
    assert not step(Package("x", "2.*"), State("2.0")).install


def test_a_hold_that_was_removed_is_set_again():
    plan = step(Package("x", hold=True), State("1"), {"hold": True, "hold_was": False})
    assert plan.hold
    assert not plan.install


def test_only_our_own_hold_is_ever_lifted():
    assert step(Package("x"), State("1", held=True), {"hold": True, "hold_was": False}).unhold
    assert not step(Package("x"), State("1", held=True), {"hold": True, "hold_was": True}).unhold
    assert not step(Package("x"), State("1", held=True), None).unhold


def test_somebody_elses_hold_at_another_version_is_respected():
    with pytest.raises(AptError, match="somebody holds it there") as error:
        step(Package("x", "2.*"), State("1.7", held=True))
    assert "apt-mark unhold x" in str(error.value)


@pytest.mark.parametrize(
    ("state", "ours", "why"),
    [
        (apt.ABSENT, None, ""),
        (apt.ABSENT, {}, "it had been removed"),
        (State("1.7"), None, "it was 1.7"),
        (State("2.1", unfinished="unpacked"), None, "its installation had not ended: it was unpacked"),
    ],
)
def test_why_a_package_is_installed(state, ours, why):
    plan = step(Package("x", "2.*"), state, ours)
    assert plan.install
    assert plan.why == why


def test_the_newest_version_that_fits_is_chosen():
    offer = apt.parse_policy(POLICY)["containerd.io"]
    assert apt.choose(step(Package("containerd.io", "2.*")), offer, SOURCE) == "2.4.2-1"
    assert apt.choose(step(Package("containerd.io", "*")), offer, SOURCE) == "3.0.0-1"


def test_without_a_version_apts_candidate_is_chosen():
    offer = Offer("1", {"2": ("http://x",), "1": ("http://x",)})
    assert apt.choose(step(Package("x")), offer, None) == "1"


def test_own_source_wins_over_others():
    offer = Offer("9", {"9": ("https://other bookworm",), "2.1": ("https://depot/docker/linux/debian bookworm/stable",)})
    assert apt.choose(step(Package("x")), offer, SOURCE) == "2.1"


def test_a_version_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(AptError) as error:
        apt.choose(step(Package("containerd.io", "1.6.*")), apt.parse_policy(POLICY)["containerd.io"], SOURCE)
    assert error.value.kind == "version"
    assert str(error.value) == ("containerd.io 1.6.* is not in https://depot/docker/linux/debian bookworm stable; there is 3.0.0-1, 2.4.2-1, 1.7.20-1.")


def test_a_downgrade_is_refused():
    with pytest.raises(AptError, match=r"3\.0\.0-1 is installed.*downgrade to 2\.4\.2-1, which is not done by itself"):
        apt.choose(step(Package("containerd.io", "2.*"), State("3.0.0-1")), apt.parse_policy(POLICY)["containerd.io"], SOURCE)


@pytest.mark.parametrize("offer", [None, Offer(None, {})])
def test_a_package_that_is_nowhere(offer):
    with pytest.raises(AptError, match="x is in none of the lists of this host's own apt sources"):
        apt.choose(step(Package("x")), offer, None)


# Files


def test_all_files_of_a_source():
    source = Source("https://depot:8443/kubernetes/core:/stable:/v1.36/deb/", "/", (), key="k", ca="CA\n", username="lab", password="secret")
    files = {file.what: file for file in apt.wanted_files("kubernetes", source, "KEY\n", [Package("kubelet", "1.36.3-1.1")], Proxy())}
    assert "Suites: /\nSigned-By: /etc/apt/keyrings/fpga-hybrid-kubernetes.asc\n" in files["source"].content
    assert "Components" not in files["source"].content
    assert 'Acquire::https::depot::CaInfo "/etc/apt/keyrings/fpga-hybrid-kubernetes-ca.crt";' in files["apt setting"].content
    assert files["credentials"].content == "machine https://depot:8443/kubernetes/core:/stable:/v1.36/deb/ login lab password secret\n"
    assert files["credentials"].mode == 0o600
    assert files["credentials"].secret
    assert "Package: kubelet\nPin: version 1.36.3-1.1\nPin-Priority: 1000\n" in files["version pin"].content
    assert [file.what for file in apt.wanted_files("x", source, "KEY\n", [], Proxy())][-1] == "source"


def test_without_a_source_there_is_only_the_pin():
    files = apt.wanted_files("x", None, None, [Package("a", "1.*"), Package("b")], Proxy())
    assert [file.what for file in files if file.content is not None] == ["version pin"]


def test_secrets_stand_in_no_file_that_everybody_can_read():
    source = Source("https://depot/x", "/", (), username="lab", password="hunter2")
    assert all("hunter2" not in (file.content or "") or file.mode == 0o600 for file in apt.wanted_files("x", source, None, [], Proxy()))


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://pkgs.example.com/x", "http://proxy:3128"),
        ("https://depot/x", None),
        ("https://a.lab.test/x", None),
        ("https://10.1.2.3/x", None),
        ("https://10.2.2.3/x", "http://proxy:3128"),
        ("http://pkgs.example.com/x", None),
    ],
)
def test_what_goes_through_the_proxy(url, proxy):
    assert Proxy(https="http://proxy:3128", no_proxy=("depot", ".lab.test", "10.1.0.0/16")).for_url(url) == proxy


def test_a_direct_way_is_said_aloud():
    conf = apt.render_conf("x", Source("https://depot/x", "/"), Proxy(https="http://proxy:3128", no_proxy=("depot",)))
    assert 'Acquire::https::Proxy::depot "DIRECT";' in conf


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": "ftp://x"}, "no http or https URL"),
        ({"url": "https://me:pw@depot/x"}, "must not contain a user name"),
        ({"suite": "bookworm"}, "at least one component"),
        ({"suite": "/", "components": ("main",)}, "no components"),
        ({"username": "lab"}, "belong together"),
        ({"username": "lab", "password": "a b"}, "white space"),
        ({"url": "http://depot/x", "ca": "CA"}, "not https"),
        ({"key": "k", "key_url": "https://x"}, "exclude each other"),
    ],
)
def test_contradictions_are_refused(fields, says):
    with pytest.raises(AptError, match=says):
        Source(**{"url": "https://depot/x", "suite": "/", **fields})


ONE_LINE = """# deb https://depot/docker/linux/debian bookworm stable
deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] https://depot/docker/linux/debian/ bookworm stable nightly # ours
"""
DEB822 = """# a comment

Types: deb
URIs: https://depot/a
  https://depot/docker/linux/debian
Suites: bookworm bookworm-updates
Components: stable test

Enabled: no
Types: deb
URIs: https://depot/docker/linux/debian
Suites: trixie
Components: stable
"""


@pytest.mark.parametrize(("path", "text"), [("/etc/apt/sources.list", ONE_LINE), ("x.sources", DEB822)])
def test_a_repository_that_is_configured_already_is_found(path, text):
    entries = apt.parse_sources(path, text)
    assert apt.offers(entries, SOURCE)
    assert not apt.offers(entries, Source(SOURCE.url, "trixie", ("stable",)))
    assert not apt.offers(entries, Source(SOURCE.url, "bookworm", ("edge",)))


@given(st.text())
def test_any_sources_can_be_read(text):
    apt.parse_sources("x.sources", text)
    apt.parse_sources("x.list", text)


@given(st.sampled_from(["https://depot/x", "http://h:81/y/"]), st.sampled_from([("bookworm", ("main",)), ("/", ()), ("a/b/", ())]))
def test_what_we_write_is_what_we_find(url, suite):
    source = Source(url, *suite)
    assert apt.offers(apt.parse_sources("x.sources", apt.render_source(source, None)), source)


# Keys

#: A real version 4 packet's shape with made-up content: tag 6, old format, two bytes of length.
BODY = b"\x04\x5f\x00\x00\x00\x16" + bytes(range(40))
PACKET = b"\x99" + len(BODY).to_bytes(2, "big") + BODY


def test_a_binary_key_becomes_armored_and_keeps_its_fingerprint():
    text = apt.armor(PACKET)
    assert text.startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n")
    assert apt.dearmor(text) == PACKET
    assert apt.fingerprints(text) == apt.fingerprints(apt.armor(text.encode()))
    assert len(apt.fingerprints(text)[0]) == 40


def test_crc24_of_the_rfc():
    assert apt.crc24(b"") == 0xB704CE
    assert apt.crc24(b"123456789") == 0x21CF02


@pytest.mark.skipif(not shutil.which("gpg"), reason="needs gpg to compare with")
def test_gpg_agrees_about_fingerprints(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    subprocess.run([*gpg, "--passphrase", "", "--quick-generate-key", "Test <t@example.com>", "ed25519", "sign", "never"], check=True, capture_output=True)
    listing = subprocess.run([*gpg, "--with-colons", "--list-keys"], check=True, capture_output=True, text=True).stdout
    binary = subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout
    armored = subprocess.run([*gpg, "--armor", "--export"], check=True, capture_output=True).stdout
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)
    wanted = [line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:")][:1]
    assert apt.fingerprints(apt.armor(binary)) == wanted
    assert apt.fingerprints(apt.armor(armored)) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "<html>login</html>",
        "",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!\n-----END PGP PUBLIC KEY BLOCK-----",
    ],
)
def test_what_is_no_key_is_refused(text):
    with pytest.raises(AptError):
        apt.armor(text.encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_a_key_or_refused(data):
    block = f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{base64.b64encode(data).decode()}\n-----END PGP PUBLIC KEY BLOCK-----\n"
    with suppress(AptError):
        assert apt.dearmor(apt.armor(block.encode())) == data


# Errors: what Debian 12 and 13 print, word for word, and what a user reads

OUTPUTS = {
    "connect": "E: Failed to fetch https://depot/x/dists/bookworm/InRelease  Could not connect to depot:443 (10.203.10.2). - connect (111: Connection refused)",
    "login": "E: Failed to fetch https://depot/x/dists/bookworm/InRelease  401  Unauthorized [IP: 10.203.10.2 443]",
    "tls": "E: Failed to fetch https://depot/x  Certificate verification failed: The certificate is NOT trusted. The certificate issuer is unknown.  "
    "Could not handshake: Error in the certificate verification. [IP: 10.203.10.2 443]",
    "key": "W: GPG error: https://depot/x bookworm InRelease: The following signatures couldn't be verified because the public key is not available: "
    "NO_PUBKEY 020E",
    "badsig": "W: GPG error: https://depot/x bookworm InRelease: The following signatures were invalid: BADSIG 020E93FBA6077D1A Lab",
    "checksum": "E: Failed to fetch https://depot/x/pool/y.deb  Hash Sum mismatch\n   Hashes of expected file:\n    - SHA256:1",
    "clock": "E: Release file for https://depot/x/dists/bookworm/InRelease is not valid yet (invalid for another 3h 2min 1s). "
    "Updates for this repository will not be applied.",
    "disk": "E: You don't have enough free space in /var/cache/apt/archives/.",
    "suite": "E: The repository 'https://depot/x sarge Release' does not have a Release file.",
    "gone": "E: Failed to fetch https://depot/x/pool/y.deb  404  Not Found [IP: 10.203.10.2 443]",
    "lock": "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 4711 (apt-get)",
    "remove": "The following packages will be REMOVED:\n  docker.io\nE: Packages need to be removed but remove is disabled.",
    "heldback": "E: Held packages were changed and -y was used without --allow-change-held-packages.",
    "depends": "The following packages have unmet dependencies:\n x : Depends: libnope but it is not installable\n"
    "E: Unable to correct problems, you have held broken packages.",
    "conflict": "E: Conflicting values set for option Signed-By regarding source https://depot/x/ bookworm: /a.gpg != /b.asc",
    "script": "Errors were encountered while processing:\n openvpn\nE: Sub-process /usr/bin/dpkg returned an error code (1)",
}
SQV = (
    "W: OpenPGP signature verification failed: https://depot/x trixie InRelease: Sub-process /usr/bin/sqv returned an error code (1), error message is: "
    "Missing key 4C41, which is needed to verify signature.\nE: The repository 'https://depot/x trixie InRelease' is not signed."
)


@pytest.mark.parametrize(("kind", "output"), [*OUTPUTS.items(), ("key", SQV)])
def test_kinds_of_errors(kind, output):
    assert apt.kind_of(output) == kind


def test_unmet_dependencies_are_named():
    error = apt.explain(OUTPUTS["depends"], "installing x", Circumstances("host1"))
    assert "x : Depends: libnope but it is not installable" in str(error)
    assert "cluster_mirrors.debian" in str(error)


def test_packages_that_exclude_one_another_are_told_as_that():
    output = (
        "The following packages have unmet dependencies:\n containerd.io : Conflicts: containerd\nE: Unable to correct problems, you have held broken packages."
    )
    message = str(apt.explain(output, "installing containerd", Circumstances("h", SOURCE, variable="docker")))
    assert "packages exclude one another (containerd.io : Conflicts: containerd)" in message
    assert "lacks" not in message


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("connect", "url"),
        ("login", "password"),
        ("tls", "ca"),
        ("key", "key"),
        ("badsig", "url"),
        ("checksum", "url"),
        ("clock", "url"),
        ("suite", "url"),
        ("gone", "url"),
    ],
)
def test_every_error_of_a_mirror_names_host_source_and_variable(kind, option):
    message = str(apt.explain(OUTPUTS[kind], "updating the package lists", Circumstances("worker1", SOURCE, variable="docker")))
    assert message.startswith("worker1: updating the package lists failed: ")
    assert str(SOURCE) in message
    assert f"cluster_mirrors.docker.{option}" in message


def test_a_wrong_key_says_which_one_is_trusted():
    text = apt.armor(PACKET)
    message = str(apt.explain(OUTPUTS["key"], "updating", Circumstances("h", SOURCE, "/k.asc", text)))
    assert apt.fingerprints(text)[0] in message
    assert "accept_new_key" in message


def test_without_a_ca_the_package_of_them_is_mentioned():
    message = str(apt.explain("No system certificates available. Try installing ca-certificates.", "updating", Circumstances("h", SOURCE, variable="docker")))
    assert "package ca-certificates" in message


@given(st.text())
def test_any_output_gives_a_sentence(text):
    assert str(apt.explain(text, "doing", Circumstances("h", SOURCE, variable="docker"))).startswith("h: doing failed: ")
