# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools environment: what its lock says, and nothing else, is installed by pip itself."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile

import pytest

from lab import tools


def wheel(folder, name, version, *metadata):
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", "\n".join(("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata, "")))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def venv(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    return tmp_path / "venv"


def versions(venv):
    return {path.name.split(".dist-info")[0] for path in tools.site_packages(venv).glob("*.dist-info") if not path.name.startswith(("pip", "setuptools"))}


def test_a_newer_release_of_a_locked_package_changes_nothing(venv, tmp_path):
    """Also of one that another package wants with an extra, which the lock's line does not have."""
    lock = [wheel(tmp_path, "wants", "1.0", "Requires-Dist: wanted[extra]>=1"), wheel(tmp_path, "wanted", "1.0", "Provides-Extra: extra")]
    wheel(tmp_path, "wanted", "2.0", "Provides-Extra: extra")
    (tmp_path / "lock.txt").write_text("\n".join(lock))
    tools.install(venv, tmp_path / "lock.txt")
    assert versions(venv) == {"wants-1.0", "wanted-1.0"}


@pytest.mark.parametrize("fault", ["another hash", "a package less"])
def test_a_lock_that_is_not_right_is_refused(venv, tmp_path, fault):
    wants, wanted = wheel(tmp_path, "wants", "1.0", "Requires-Dist: wanted"), wheel(tmp_path, "wanted", "1.0")
    (tmp_path / "lock.txt").write_text(wants if fault == "a package less" else f"{wants}\n{wanted[:-4]}0000")
    with pytest.raises(subprocess.CalledProcessError):
        tools.install(venv, tmp_path / "lock.txt")
