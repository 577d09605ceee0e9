# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shared virtual environment: what is wanted, what is there, what follows. And once with a real pip and a real index."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import platform
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.fpga.hybrid.plugins.module_utils import _venv
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record
from ansible_collections.fpga.hybrid.plugins.module_utils._venv import Installed, Requirement, VenvError
from ansible_collections.fpga.hybrid.plugins.modules import python_packages

ROOT = Path(__file__).resolve().parents[4]
HASH = "sha256:" + "0" * 64
GRPC = Requirement("grpcio", "1.85.1", (HASH,))


def test_the_roles_requirements_are_read():
    found = _venv.parse((ROOT / "roles/fpga_device_plugin/files/requirements.txt").read_text())
    assert {"asyncinotify", "grpcio", "prometheus-client", "protobuf", "typing-extensions"} == set(found)
    assert len(found["grpcio"].hashes) > 10
    assert _venv.parse(_venv.requirements_file(found.values())) == found


def test_names_are_compared_as_the_index_does():
    assert list(_venv.parse(f"Prometheus_Client==1.0 --hash={HASH}  # via x\n")) == ["prometheus-client"]


@pytest.mark.parametrize(
    "line",
    [
        "grpcio==1.0",
        "grpcio>=1.0 --hash=sha256:0",
        f"grpcio --hash={HASH}",
        f'grpcio==1.0 ; python_version < "3.11" --hash={HASH}',
        "grpcio==1.0 --hash=md5:00",
        "-r other.txt",
        "--index-url https://example.org",
        "grpcio @ https://example.org/grpcio.whl",
    ],
)
def test_what_is_not_pinned_with_a_hash_is_refused(line):
    with pytest.raises(VenvError, match="expected name==version --hash=sha256:"):
        _venv.parse(line)


def test_a_package_twice_is_refused():
    with pytest.raises(VenvError, match="grpcio stands twice"):
        _venv.parse(f"grpcio==1.0 --hash={HASH}\nGRPCIO==1.1 --hash={HASH}\n")


@pytest.mark.parametrize(
    ("installed", "install"),
    [
        ([], {"grpcio": "1.85.1, was not there"}),
        ([Installed("grpcio", "1.0")], {"grpcio": "1.85.1, was 1.0"}),
        ([Installed("grpcio", "1.85.1", "grpc/x.so")], {"grpcio": "1.85.1, grpc/x.so was not as it came"}),
        ([Installed("grpcio", "1.85.1")], {}),
    ],
)
def test_what_is_missing_old_or_damaged_is_installed(installed, install):
    assert _venv.plan({"grpcio": GRPC}, [], installed, "").install == install


def test_what_nobody_needs_goes_and_what_others_need_stays():
    there = [Installed(name, "1") for name in ("pip", "setuptools", "boto3", "old")]
    assert _venv.plan({}, ["boto3"], there, "") == _venv.Plan("", {}, {"old": "nobody needs it"})


def test_two_roles_with_different_versions_are_refused_by_name():
    with pytest.raises(VenvError, match=r"keeper needs grpcio==1\.0, plugin needs grpcio==1.85.1, and they share one environment"):
        _venv.check_others("plugin", {"grpcio": GRPC}, {"keeper": {"grpcio": "1.0"}})
    _venv.check_others("plugin", {"grpcio": GRPC}, {"keeper": {"grpcio": "1.85.1", "boto3": "1"}})


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ({}, ""),
        ({"url": "https://depot/simple/"}, "[global]\nindex-url = https://depot/simple/\n"),
        ({"url": "https://depot/simple/", "username": "lab", "password": "a@b/c%"}, "[global]\nindex-url = https://lab:a%40b%2Fc%25@depot/simple/\n"),
    ],
)
def test_pips_configuration_names_the_mirror(index, text):
    assert _venv.pip_configuration(index, "") == text


def test_the_mirrors_authority_is_trusted_by_its_file():
    assert _venv.pip_configuration({"url": "https://depot/"}, "/x/ca.pem").endswith("cert = /x/ca.pem\n")


def environment(folder, version="3.11.2"):
    (folder / "bin").mkdir(parents=True)
    for name in ("python", "pip"):
        (folder / "bin" / name).touch(0o755)
    (folder / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
    return str(folder)


@pytest.mark.parametrize(("version", "why"), [("3.11.2", ""), ("3.11.9", ""), ("3.9.1", "was made by Python 3.9.1, /usr/bin/python3 is 3.11.2")])
def test_an_environment_of_another_python_is_made_anew(tmp_path, version, why):
    assert _venv.broken(environment(tmp_path / "venv", version), "/usr/bin/python3", "3.11.2") == why


@pytest.mark.parametrize(("gone", "why"), [("bin/pip", "its programs were not there"), ("pyvenv.cfg", "was made by Python of an unknown version")])
def test_half_an_environment_is_made_anew(tmp_path, gone, why):
    venv = environment(tmp_path / "venv")
    (tmp_path / "venv" / gone).unlink()
    assert _venv.broken(venv, "/usr/bin/python3", "3.11.2").startswith(why)
    assert _venv.broken(str(tmp_path / "none"), "/usr/bin/python3", "3.11.2") == "was not there"


def digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def package(folder, name="adder", content="x = 1\n"):
    (folder / f"{name}.py").write_text(content)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "RECORD").write_text(f"{name}.py,sha256={digest('x = 1' + chr(10))},6\n{name}-1.0.dist-info/RECORD,,\n")
    return info


def test_a_package_as_it_came_is_whole(tmp_path):
    package(tmp_path)
    assert list(_venv.installed(str(tmp_path))) == [Installed("adder", "1.0")]


@pytest.mark.parametrize("harm", ["changed", "removed", "no list"])
def test_damage_is_found(tmp_path, harm):
    info = package(tmp_path, content="x = 2\n" if harm == "changed" else "x = 1\n")
    if harm == "removed":
        (tmp_path / "adder.py").unlink()
    if harm == "no list":
        (info / "RECORD").unlink()
    (found,) = _venv.installed(str(tmp_path))
    assert found.damaged == ("RECORD" if harm == "no list" else "adder.py")


# --- with a real pip


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


def test_an_environment_from_nothing_its_drift_and_its_end(tmp_path, index, capsys, monkeypatch):
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
        arguments = {"venv": str(tmp_path / "venv"), "python": sys.executable, "owner": "plugin", "_ansible_check_mode": check, **options}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            python_packages.main()
        answer = json.loads(capsys.readouterr().out)
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
