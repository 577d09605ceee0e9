# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shared virtual environment: what is wanted, what is there, what follows."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _venv
from ansible_collections.fpga.hybrid.plugins.module_utils._venv import Installed, Requirement, VenvError

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
