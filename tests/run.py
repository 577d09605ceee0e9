# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the collection's tests as named steps, prints the time of each, and closes with `N passed, N failed`.

tests/run.py quick            what `make test` is: every step that takes less than two minutes warm
tests/run.py all              also the slow tests, on the running lab
tests/run.py lint             the static steps only
tests/run.py STEP [STEP ...]  these steps
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv" / "bin"
CACHE = Path(os.environ.get("FPGA_HYBRID_LAB_CACHE") or Path.home() / ".cache" / "fpga-hybrid-lab")
#: ansible-test, ansible-lint and molecule leave things in HOME that would hide a missing set-up step: they get one of their own.
HOME = CACHE / "test-home"
#: Where the collection stands under its real path: ansible-test does not follow symbolic links.
COPY = CACHE / "test-copy" / "ansible_collections" / "fpga" / "hybrid"
#: What is in no tarball; ruff, mypy and pytest look after it.
NOT_SHIPPED = ("collections/", "lab/", "molecule/", "tests/bench/", "tests/callback_plugins/", "tests/lab/", "tests/unit/")
SLOW_SCENARIOS = ("fpga_device_plugin", "kubeadm", "openvpn")
NEWEST_ROOT = CACHE / "debian-13-root"


class StepError(Exception):
    """A step failed; the text says why."""


def run(*command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> None:
    merged = {**os.environ, "PATH": f"{VENV}:{os.environ['PATH']}", "HOME": str(HOME), "FPGA_HYBRID_LAB_CACHE": str(CACHE), **(environment or {})}
    merged.pop("ANSIBLE_CONFIG", None)
    if subprocess.run([str(part) for part in command], cwd=cwd, env=merged, check=False).returncode:
        raise StepError(" ".join(str(part) for part in command))


def copy_collection() -> None:
    """The files that git knows (or would take), laid out as ansible-test wants them."""
    files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True).stdout
    shutil.rmtree(COPY, ignore_errors=True)
    for name in filter(None, files.decode().split("\0")):
        source = ROOT / name
        if name.startswith(NOT_SHIPPED) or not source.exists():
            continue
        target = COPY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


def lay_get_pip(home: Path, internal: Path) -> None:
    """Puts our get-pip.py where ansible-test looks for the one that it has downloaded (its name carries pip's version)."""
    (version,) = re.findall(r"pip='(\d+)\.(\d+)", (internal / "python_requirements.py").read_text())[:1]
    folder = home / ".ansible" / "test" / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "tests" / "sanity" / "get_pip.py", folder / f"get_pip_{'_'.join(version)}.py")


# ---- the steps


def ruff() -> None:
    run("ruff", "check", ".")
    run("ruff", "format", "--check", ".")


def mypy() -> None:
    run("mypy", "-p", "lab")
    run("mypy", "-p", "ansible_collections.fpga.hybrid.plugins", cwd=ROOT / "collections")
    # The oldest Python that it runs on, Ubuntu 22.04's.
    run("mypy", "--config-file", ROOT / "pyproject.toml", "--python-version", "3.10", "-p", "fpga_device_plugin", cwd=ROOT / "roles/fpga_device_plugin/files")


def yamllint() -> None:
    run("yamllint", "--strict", ".")


def ansible_lint() -> None:
    run("ansible-lint", "--offline", "--profile", "production", environment={"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")})


def documentation() -> None:
    """Collection docs: markup, references, role and plugin pages; the changelog's fragments."""
    copy_collection()
    run(
        "antsibull-docs",
        "lint-collection-docs",
        "--plugin-docs",
        "--validate-collection-refs=self",
        COPY,
        environment={"ANSIBLE_COLLECTIONS_PATH": str(COPY.parents[2])},
    )
    run("antsibull-changelog", "lint")


def unit() -> None:
    run("pytest", "tests/unit", "-q", "-n", "2")


def sanity() -> None:
    """ansible-test on the oldest core that we support."""
    copy_collection()
    lay_get_pip(HOME, next(VENV.parent.resolve().glob("lib/python3*/site-packages/ansible_test/_internal")))
    interpreter = f"{sys.version_info.major}.{sys.version_info.minor}"
    # Only real interpreters may be on PATH: ansible-test takes the shims of version managers for interpreters and fails on them.
    path = os.pathsep.join([str(VENV.resolve()), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    run("ansible-test", "sanity", "--local", "--python", interpreter, "--color", "no", cwd=COPY, environment={"PATH": path})


def sanity_newest() -> None:
    """ansible-test on the newest core, which needs a newer Python than Debian 12 has: in a Debian 13 root."""
    copy_collection()
    run(sys.executable, ROOT / "tests" / "sanity" / "debian13.py", NEWEST_ROOT, COPY)


def scenarios(wanted: Callable[[str], bool]) -> None:
    failed = []
    for scenario in sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")):
        if not wanted(scenario):
            continue
        started = time.monotonic()
        try:
            run("molecule", "test", "--scenario-name", scenario)
        except StepError:
            failed.append(scenario)
        print(f"molecule {scenario}: {time.monotonic() - started:.0f} s{' FAILED' if scenario in failed else ''}", flush=True)
    if failed:
        raise StepError(f"scenarios {', '.join(failed)}")


def molecule() -> None:
    print(f"in `make test-all` only, because they take more than two minutes: {', '.join(SLOW_SCENARIOS)}")
    scenarios(lambda name: name not in SLOW_SCENARIOS)


def molecule_slow() -> None:
    scenarios(SLOW_SCENARIOS.__contains__)


def lab_hosts() -> None:
    """The lab's hosts without a cluster; what an earlier lab left is removed first. Builds the depot where the cache lacks it."""
    run("lab/lab", "reset")
    run("lab/lab", "up")


def check_fresh() -> None:
    """`--check --diff` where nothing is installed."""
    run("ansible-playbook", "site.yml", "--check", "--diff")


def make_lab() -> None:
    run("make", "lab")


def lab_tests() -> None:
    run("pytest", "tests/lab", "-q", "-m", "lab and not slow and not machine_clean")


def lab_tests_slow() -> None:
    run("pytest", "tests/lab", "-q", "-m", "lab and slow and not machine_clean")


@dataclass(frozen=True)
class Result:
    name: str
    seconds: float
    error: str


LINT: tuple[Callable[[], None], ...] = (ruff, mypy, yamllint, ansible_lint, documentation)
QUICK = (*LINT, unit, sanity, sanity_newest, molecule)
LAB = (lab_hosts, check_fresh, make_lab, lab_tests)
CI = (*LAB, *QUICK)
ALL = (*CI, molecule_slow, lab_tests_slow)
STEPS = {step.__name__: step for step in ALL}


def perform(steps: Sequence[Callable[[], None]]) -> list[Result]:
    results = []
    for step in steps:
        print(f"\n==== {step.__name__}", flush=True)
        started, error = time.monotonic(), ""
        try:
            step()
        except (StepError, OSError, subprocess.CalledProcessError) as caught:
            error = str(caught)
        results.append(Result(step.__name__, time.monotonic() - started, error))
    return results


def main() -> int:
    wanted = sys.argv[1:] or ["quick"]
    groups = {"lint": LINT, "quick": QUICK, "ci": CI, "all": ALL}
    unknown = [name for name in wanted if name not in groups and name not in STEPS]
    if unknown:
        print(f"Unknown: {', '.join(unknown)}. There are: {', '.join([*groups, *STEPS])}.", file=sys.stderr)
        return 2
    HOME.mkdir(parents=True, exist_ok=True)
    results = perform([step for name in wanted for step in groups.get(name, (STEPS.get(name),))])
    print("\n==== summary")
    for result in results:
        print(f"{result.seconds:7.1f} s  {result.name:<15} {'FAILED: ' + result.error if result.error else 'passed'}")
    failed = sum(bool(result.error) for result in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
