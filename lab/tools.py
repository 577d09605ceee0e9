# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools environment: one venv with hashed packages and the collections that we depend on.

It stands in the lab's cache under the hash of everything that defines it, so that a clean clone with a warm cache
needs no download, and a changed lock file never mixes with an old environment. `.venv` in the checkout points at it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINIMUM_PYTHON = (3, 11)
COLLECTIONS = (
    "amazon/aws",
    "ansible/posix",
    "ansible/utils",
    "awx/awx",
    "community/aws",
    "community/crypto",
    "community/general",
    "community/library_inventory_filtering_v1",
    "containers/podman",
    "kubernetes/core",
)


def cache_folder() -> Path:
    """Where everything that may be kept between runs stands (CONTRACTS section 10)."""
    return Path(os.environ.get("FPGA_HYBRID_LAB_CACHE") or Path.home() / ".cache" / "fpga-hybrid-lab")


def environment_id(*inputs: Path) -> str:
    """Hash of the lock files, of the collections taken, and of the interpreter."""
    digest = hashlib.sha256(f"{sys.version}\n{COLLECTIONS}\n".encode())
    for path in inputs:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def site_packages(venv: Path) -> Path:
    return venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def unpack_collections(venv: Path, lock: Path, downloads: Path) -> None:
    """Unpack COLLECTIONS from the pinned `ansible` wheel into site-packages, where ansible-core finds them."""
    subprocess.run(
        [venv / "bin" / "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "-d", downloads, "-r", lock],
        check=True,
    )
    (wheel,) = downloads.glob("ansible-*.whl")
    prefixes = tuple(f"ansible_collections/{name}/" for name in COLLECTIONS)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site_packages(venv), [name for name in archive.namelist() if name.startswith(prefixes)])
    shutil.rmtree(downloads)


def install(venv: Path, packages: Path) -> None:
    """The lock is complete: nothing is resolved. pip would refuse the lock as soon as a package that another one wants with an extra has a newer release."""
    pip = (venv / "bin" / "pip", "--quiet", "--disable-pip-version-check")
    subprocess.run([*pip, "install", "--no-deps", "--require-hashes", "-r", packages], check=True)
    subprocess.run([*pip, "check"], check=True)


def build(venv: Path, packages: Path, collections: Path) -> None:
    """Make the environment in place; the marker comes last, so that what a killed run left is made anew."""
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    install(venv, packages)
    unpack_collections(venv, collections, venv / "downloads")
    (venv / ".complete").touch()


def main() -> None:
    if sys.version_info < MINIMUM_PYTHON:
        sys.exit(
            f"Python {sys.version.split()[0]} found, at least {'.'.join(map(str, MINIMUM_PYTHON))} expected: call make with PYTHON=python3.x of a newer one."
        )
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, default=ROOT / "requirements" / "tools.txt")
    parser.add_argument("--collections", type=Path, default=ROOT / "requirements" / "collections.txt")
    parser.add_argument("--link", type=Path, default=ROOT / ".venv", help="symbolic link to set to the environment")
    options = parser.parse_args()
    venv = cache_folder() / "venv" / environment_id(options.packages, options.collections)
    if not (venv / ".complete").exists():
        print(f"Making the tools environment (about a minute): {venv}", flush=True)
        build(venv, options.packages, options.collections)
    temporary = options.link.with_name(options.link.name + ".new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(venv)
    temporary.replace(options.link)


if __name__ == "__main__":
    main()
