# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files from a server that is real and wants a login, and from one that isn't there."""

from __future__ import annotations

import base64
import hashlib
import http.server
import threading

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._fetch import FetchError, fetch, read, sha256_of

CONTENT = bytes(range(256)) * 9000  # more than one block
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LOGIN = "Basic " + base64.b64encode(b"lab:secret").decode()


class Mirror(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        login = self.headers.get("Authorization")
        self.server.asked.append((self.path, login))
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/a.deb")
            self.end_headers()
            return
        if self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:9])
            return
        known = login == LOGIN
        self.send_response(200 if known else 401)
        self.end_headers()
        if known:
            self.wfile.write(CONTENT)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def url(server):
    server.asked.clear()
    return f"http://127.0.0.1:{server.server_port}/a.deb"


def params(url, changes=None):
    return {"url": url, "ca": None, "username": "lab", "password": "secret", "proxy": None} | (changes or {})


def test_an_answer_that_breaks_off_is_told_with_its_address(url):
    short = url.replace("/a.deb", "/short")
    with pytest.raises(FetchError, match=rf"{short} cannot be fetched: IncompleteRead"):
        read(params(short))


def test_a_file_comes_with_a_login_and_its_checksum(url, tmp_path):
    fetch(params(url), tmp_path / "a.deb", SHA256)
    assert sha256_of(tmp_path / "a.deb") == SHA256
    assert [path.name for path in tmp_path.iterdir()] == ["a.deb"]


@pytest.mark.parametrize(
    ("changes", "sha256", "said"),
    [
        ({}, "0" * 64, f"has sha256 {SHA256}, expected 0000"),
        ({"password": "wrong"}, SHA256, "cannot be fetched.*401"),
        ({"url": "http://127.0.0.1:9/a.deb"}, SHA256, "cannot be fetched.*cluster_mirrors.files"),
        ({"url": "nonsense"}, SHA256, "cannot be fetched"),
    ],
)
def test_what_is_not_the_file_leaves_the_old_one_in_place(url, tmp_path, changes, sha256, said):
    (tmp_path / "a.deb").write_text("old")
    with pytest.raises(FetchError, match=said):
        fetch(params(url, changes), tmp_path / "a.deb", sha256)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.deb", "old")]


def test_a_file_from_outside_comes_over_the_proxy(server, url):
    there = "http://mirror.invalid/a.deb"
    proxy = {"http": f"http://127.0.0.1:{server.server_port}", "https": None, "no_proxy": ["127.0.0.0/8", "example.org"]}
    assert read(params(there, {"proxy": proxy})) == CONTENT
    assert server.asked == [(there, LOGIN)]


def test_what_the_proxy_is_not_for_comes_directly(url):
    """A network is an entry of ours that the environment's no_proxy does not know."""
    assert read(params(url, {"proxy": {"http": "http://127.0.0.1:9", "no_proxy": ["127.0.0.0/8"]}})) == CONTENT
    with pytest.raises(FetchError, match="cluster_proxy"):
        read(params(url, {"proxy": {"http": "http://127.0.0.1:9"}}))


def test_without_a_proxy_of_the_clusters_the_environments_counts(url, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(FetchError):
        read(params(url))


def test_a_login_is_not_given_to_whom_the_mirror_sends_us(server, url):
    with pytest.raises(FetchError, match="401"):
        read(params(url.replace("/a.deb", "/moved/a.deb")))
    assert server.asked == [("/moved/a.deb", LOGIN), ("/a.deb", None)]


def test_a_file_that_is_not_there_has_no_checksum(tmp_path):
    assert sha256_of(tmp_path / "a") == ""
