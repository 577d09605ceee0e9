# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS' management tools for F2, out of their SDK's sources: unpacked, built as AWS builds them, put where AWS puts them.

sdk_setup.sh is not used: it upgrades all packages of the host (`yum upgrade -y`), and installs without saying what.
Source: aws-fpga, branch f2, sdk/userspace/mkall_fpga_mgmt_tools.sh and install_fpga_mgmt_tools.sh.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._fetch import sha256_of

#: Section of the record, and its only key: version and sha256 of the sources, files by path with their checksums.
SECTION, KEY = "aws_fpga", "tools"
BUILD = "sdk/userspace/mkall_fpga_mgmt_tools.sh"
TOOLS = "sdk/userspace/fpga_mgmt_tools/src"
LIBRARY = "sdk/userspace/lib/so/libfpga_mgmt.so.1.0.0"
PROGRAM = "fpga-local-cmd"
#: Names by which programs are linked with the library -> where they point.
LINKS = {"libfpga_mgmt.so.1": "libfpga_mgmt.so.1.0.0", "libfpga_mgmt.so": "libfpga_mgmt.so.1"}

#: run(argv, cwd, environment) -> (exit code, stdout, stderr)
Run = Callable[[Sequence[str], "str | None", Mapping[str, str]], "tuple[int, str, str]"]


class ToolsError(Exception):
    """Why the tools are not there; the text says what to do."""


@dataclass(frozen=True)
class Places:
    """Where AWS' own script installs, below another root only in tests."""

    root: Path = Path("/")

    @property
    def programs(self) -> Path:
        return self.root / "usr/local/bin"

    @property
    def libraries(self) -> Path:
        return self.root / "usr/local/lib"


def check_sha256(sha256: str, url: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ToolsError(
            f"aws_fpga_sha256: found {sha256!r}, expected the 64 hexadecimal digits that sha256sum prints for {url}. "
            "Fetch the file once, look at it, and pin what you have seen: sources are built and run as root, so none are taken unpinned."
        )


def drift(kept: Mapping[str, Any] | None, sha256: str, places: Places) -> str:
    """What is not as it was built, "" for nothing."""
    if not kept:
        return "the tools are not there"
    if kept["sha256"] != sha256:
        return f"they are those of {kept['version']}"
    changed = [path for path, digest in kept["files"].items() if sha256_of(places.root / path.lstrip("/")) != digest]
    changed += [f"/{(places.libraries / name).relative_to(places.root)}" for name, leads in LINKS.items() if _leads(places.libraries / name) != leads]
    return f"{', '.join(changed)} not as built" if changed else ""


def foreign(kept: Mapping[str, Any] | None, run: Run) -> str:
    """Version of tools that somebody else installed and that run, "" for none. An image of AWS' has them."""
    return "" if kept else version(run, PROGRAM)


def version(run: Run, program: str) -> str:
    """What they say to -V, which they end with an error whatever comes (fpga_local_cmd_parse.c, check_parser_completed)."""
    _status, said, _error = run([program, "DescribeFpgaImageSlots", "-V"], None, {})
    found = re.search(r"AFI Management Tools Version: (\S+)", said)
    return found[1] if found else ""


def unpack(archive: Path, url: str, target: Path) -> Path:
    """The folder of the sources. Raises ToolsError."""
    try:
        with tarfile.open(archive) as tar:
            _extract(tar, target)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ToolsError(f"{url} cannot be unpacked ({error}), expected a tar archive of AWS' SDK.") from error
    sources = next((path.parents[2] for path in sorted(target.glob(f"*/{BUILD}"))), None)
    if sources is None:
        raise ToolsError(f"{url} holds no {BUILD}, expected the sources of https://github.com/aws/aws-fpga, branch f2. Look at aws_fpga_url.")
    return sources


def _extract(tar: tarfile.TarFile, target: Path) -> None:
    if hasattr(tarfile, "data_filter"):
        tar.extractall(target, filter="data")
        return
    for member in tar:  # Python 3.10 before its security release
        if not (member.isfile() or member.isdir() or member.issym()) or ".." in Path(member.name).parts or member.name.startswith("/"):
            raise tarfile.TarError(f"{member.name} would leave the folder")
        if not member.issym():
            tar.extract(member, target)


def build(sources: Path, run: Run) -> None:
    """Raises ToolsError with the compiler's words."""
    environment = {"REPO_ROOT": str(sources), "AWS_FPGA_REPO_DIR": str(sources), "SDK_DIR": str(sources / "sdk")}
    status, said, error = run(["bash", str(sources / BUILD)], str((sources / BUILD).parent), environment)
    missing = [name for name in (f"{TOOLS}/{PROGRAM}", LIBRARY) if not (sources / name).is_file()]
    if status or missing:
        what = f"with {status}" if status else f"and made no {', '.join(missing)}"
        raise ToolsError(f"AWS' tools do not build: {BUILD} ends {what}: {(error.strip() or said.strip())[-600:]}")


def install(sources: Path, places: Places, run: Run) -> dict[str, str]:
    """Copies what was built; path -> checksum. Raises ToolsError."""
    tools = [path for path in sorted((sources / TOOLS).glob("fpga-*")) if path.is_file()]
    for name, leads in LINKS.items():
        found = _leads(places.libraries / name)
        if found not in ("", leads):
            raise ToolsError(
                f"{places.libraries / name} leads to {found}, which is somebody else's library; expected {leads}, or nothing there. "
                "Take it away if nobody needs it, then run this again."
            )
    files = {**{places.programs / path.name: path for path in tools}, places.libraries / Path(LIBRARY).name: sources / LIBRARY}
    for target, source in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.new")
        unfinished.write_bytes(source.read_bytes())
        unfinished.chmod(0o755)
        os.replace(unfinished, target)
    for name, target_name in LINKS.items():
        link = places.libraries / name
        link.unlink(missing_ok=True)
        link.symlink_to(target_name)
    run(["ldconfig"], None, {})
    if not version(run, str(places.programs / PROGRAM)):
        raise ToolsError(f"{places.programs / PROGRAM} was built and does not run. Run it by hand: fpga-describe-local-image-slots -V.")
    return {f"/{target.relative_to(places.root)}": sha256_of(target) for target in files}


def _leads(link: Path) -> str:
    """Where a link leads, "" for none; another file is said to be itself."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""
    except OSError:
        return f"{link} (a file)"


def remove(kept: Mapping[str, Any], places: Places, run: Run) -> None:
    for path in kept["files"]:
        (places.root / path.lstrip("/")).unlink(missing_ok=True)
    for name, leads in LINKS.items():
        if _leads(places.libraries / name) == leads:
            (places.libraries / name).unlink()
    run(["ldconfig"], None, {})
