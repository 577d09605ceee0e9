# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs `ansible-test sanity` on the newest ansible-core, which needs a newer Python than Debian 12 has, in a Debian 13 root.

debian13.py ROOT COPY     ROOT is made when it is not there, and kept; COPY is the collection under .../ansible_collections/fpga/hybrid
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from lab.hosts.image import machine_apt_options, mirror  # noqa: E402

PACKAGES = ("python3", "python3-venv", "ca-certificates", "shellcheck")
LOCK = CHECKOUT / "requirements" / "core-newest.txt"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def definition() -> str:
    return hashlib.sha256(LOCK.read_bytes() + " ".join(PACKAGES).encode()).hexdigest()


ENTER = """
mount --make-rprivate /
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
cp -L /etc/resolv.conf "$1/etc/resolv.conf"
root=$1
shift
exec chroot "$root" "$@"
"""
ENVIRONMENT = (f"PIP_CERT={CERTIFICATES}", "HOME=/root", "PATH=/venv/bin:/usr/bin:/bin:/usr/sbin:/sbin")


def in_root(root: Path, *command: str) -> None:
    """Runs a command in the root, in a mount namespace of its own, so that nothing stays mounted whatever happens."""
    subprocess.run(["unshare", "--mount", "--pid", "--fork", "sh", "-ec", ENTER, "sh", root, "env", *ENVIRONMENT, *command], check=True)


def make(root: Path) -> None:
    """A minimal Debian 13 with the locked ansible-core in /venv; the marker comes last."""
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    options = [f"--aptopt={option}" for option in machine_apt_options()]
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", *options, "trixie", root, mirror()], check=True)
    if CERTIFICATES.exists():
        shutil.copy(CERTIFICATES, root / str(CERTIFICATES).lstrip("/"))
    shutil.copy(LOCK, root / "lock.txt")
    in_root(root, "python3", "-m", "venv", "/venv")
    in_root(root, "/venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r", "/lock.txt")
    (root / ".complete").write_text(definition())


def main() -> None:
    root, copy = Path(sys.argv[1]), Path(sys.argv[2])
    marker = root / ".complete"
    if not marker.exists() or marker.read_text() != definition():
        print("Making a Debian 13 root for the newest ansible-core (about two minutes)", flush=True)
        make(root)
    (internal,) = (root / "venv" / "lib").glob("python3*/site-packages/ansible_test/_internal")
    (version,) = re.findall(r"pip='(\d+)\.(\d+)", (internal / "python_requirements.py").read_text())[:1]
    cache = root / "root" / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    shutil.copy(CHECKOUT / "tests" / "sanity" / "get_pip.py", cache / f"get_pip_{'_'.join(version)}.py")
    # With the collections that stand beside it, because ours imports from them.
    inside = root / "ansible_collections"
    shutil.rmtree(inside, ignore_errors=True)
    shutil.copytree(copy.parents[1], inside, symlinks=True)
    in_root(root, "sh", "-c", "cd /ansible_collections/fpga/hybrid && exec ansible-test sanity --local --python 3.13 --color no")


if __name__ == "__main__":
    main()
