# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shared virtual environment, made by a real pip from a real index of its own."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import platform
import sys
import threading
import zipfile

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record
from ansible_collections.fpga.hybrid.plugins.modules import python_packages

HASH = "sha256:" + "0" * 64


def digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def wheel(folder, name, version):
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for one, text in files.items():
            archive.writestr(one, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{one},sha256={digest(text)},\n" for one, text in files.items()) + f"{info}/RECORD,,\n")
    return path


@pytest.fixture
def index(tmp_path):
    """A PEP 503 index that wants a password; what was asked for stands in paths."""
    folder = tmp_path / "www"
    folder.mkdir()
    wanted = "Basic " + base64.b64encode(b"lab:se cret").decode()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self):
            if self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.end_headers()
                return
            super().do_GET()

        def log_message(self, *_arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, {"url": f"http://127.0.0.1:{server.server_port}/simple/", "username": "lab", "password": "se cret"}
    server.shutdown()


def test_an_environment_from_nothing_its_drift_and_its_end(tmp_path, index, call, monkeypatch):
    folder, mirror = index
    record = str(tmp_path / "record.json")
    load = Record.load
    monkeypatch.setattr(python_packages.Record, "load", lambda: load(record))
    requirements = ""
    for name, version in (("adder", "1.0"), ("divider", "2.0")):
        path = wheel(folder, name, version)
        (folder / "simple" / name).mkdir(parents=True)
        (folder / "simple" / name / "index.html").write_text(f'<a href="/{path.name}">{path.name}</a>')
        requirements += f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"

    def run(check=False, **options):
        answer = call("python_packages", check, **{"venv": str(tmp_path / "venv"), "python": sys.executable, "owner": "plugin", **options})
        assert "se cret" not in json.dumps(answer)
        return answer

    present = {"requirements": requirements, "index": mirror}
    assert run(check=True, **present)["changes"] == ["environment: was not there", "adder: 1.0, was not there", "divider: 2.0, was not there"]
    assert not (tmp_path / "venv").exists()
    assert run(**present)["changed"]
    module = tmp_path / "venv" / "lib" / f"python{platform.python_version().rpartition('.')[0]}" / "site-packages" / "adder.py"
    assert module.read_text() == "VERSION = '1.0'\n"
    assert run(**present)["changes"] == []
    module.write_text("VERSION = 'evil'\n")
    assert run(check=True, **present)["changes"] == ["adder: 1.0, adder.py was not as it came"]
    run(**present)
    assert module.read_text() == "VERSION = '1.0'\n"
    # another role, which shares what it can
    run(owner="keeper", requirements=requirements.splitlines()[0], index=mirror)
    assert run(state="absent")["changes"] == ["divider: nobody needs it"]
    assert module.exists()
    # a file of the same name and version with other content
    tampered = requirements.splitlines()[1][:-4] + "0000"
    refused = run(requirements=tampered, index=mirror)
    assert refused["failed"]
    assert "DO NOT MATCH THE HASHES" in refused["msg"] or "hash" in refused["msg"].lower()
    assert "lacks a wheel" in run(requirements=f"missing==1.0 --hash={HASH}", index=mirror)["msg"]
    run(state="absent")
    assert run(owner="keeper", state="absent")["changes"] == ["environment: nobody needs it"]
    assert not (tmp_path / "venv").exists()
    assert run(owner="keeper", state="absent")["changes"] == []
