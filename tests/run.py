# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the collection's tests as named steps, prints the time of each, and closes with `N passed, N failed`.

tests/run.py quick            what `make test` is: every step that takes less than two minutes warm
tests/run.py all              also the slow tests, on the running lab; writes what came out into docs/test-all.md
tests/run.py lint             the static steps only
tests/run.py STEP [STEP ...]  these steps; STEP:WORD runs those tests, or scenarios, of a step whose name holds WORD
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lab import check
from tests import results

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv" / "bin"
CACHE = Path(os.environ.get("FPGA_HYBRID_LAB_CACHE") or Path.home() / ".cache" / "fpga-hybrid-lab")
#: ansible-test, ansible-lint and molecule leave things in HOME that would hide a missing set-up step: they get one of their own.
HOME = CACHE / "test-home"
#: Where the collection stands under its real path: ansible-test does not follow symbolic links.
COPY = CACHE / "test-copy" / "ansible_collections" / "fpga" / "hybrid"
#: What is in no tarball; ruff, mypy and pytest look after it.
NOT_SHIPPED = (
    "collections/",
    "lab/",
    "molecule/",
    "tests/bench/",
    "tests/callback_plugins/",
    "tests/docsite/",
    "tests/integration/",
    "tests/lab/",
    "tests/tools/",
    "tests/unit/",
)
#: The unit tests that ansible-test runs too, folders of all: those of the AWS plugins. Others want more of the machine than it shows them.
UNITS = (
    *("inventory/", "plugin_utils/", "modules/test_node_pool_modules.py", "test_node_template_filters.py"),
    *(f"module_utils/test_{name}.py" for name in ("aws_declaration", "cloud_audit", "iam", "instance_types", "labels", "node_pool", "node_pool_cloud")),
    *(f"module_utils/test_{name}.py" for name in ("node_pool_run", "node_template", "pools_preflight", "quantity")),
)
#: What takes minutes, and aws_fpga, whose installation the instances' image of `make evaluate` goes through anyway.
SLOW_SCENARIOS = ("aws_fpga", "fpga_device_plugin", "inaccel", "kubeadm", "openvpn", "openvpn_as", "xrt")
NEWEST_ROOT = CACHE / "debian-13-root"
#: The steps that measure coverage, and the least that they have to reach together, in percent.
MEASURED, COVERAGE = ("unit", "aws", "playbooks_aws"), 90
#: Where pytest leaves what it found, for the table of results.
JUNIT = CACHE / "test-results"
RESULTS = ROOT / "docs" / "test-all.md"


class StepError(Exception):
    """A step failed; the text says why."""


class Output(threading.local):
    """Where a thread's programs write: None for where this one does."""

    file: IO[str] | None = None


OUTPUT = Output()
#: What runs beside something that is waited for must not hold it up.
NICE = ("nice", "-n", "10")


def run(*command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> None:
    merged = {**os.environ, "PATH": f"{VENV}:{os.environ['PATH']}", "HOME": str(HOME), "FPGA_HYBRID_LAB_CACHE": str(CACHE), **(environment or {})}
    merged.pop("ANSIBLE_CONFIG", None)
    words = [*(NICE if OUTPUT.file else ()), *(str(part) for part in command)]
    if subprocess.run(words, cwd=cwd, env=merged, check=False, stdout=OUTPUT.file, stderr=OUTPUT.file).returncode:
        raise StepError(" ".join(str(part) for part in command))


def copy_collection(*more: str) -> None:
    """The files that git knows (or would take), laid out as ansible-test wants them; of what is in no tarball, only these."""
    left_out = tuple(name for name in NOT_SHIPPED if name not in more)
    files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True).stdout
    shutil.rmtree(COPY, ignore_errors=True)
    for name in filter(None, files.decode().split("\0")):
        source = ROOT / name
        if name.startswith(left_out) or not source.exists():
            continue
        target = COPY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    lay_dependencies()


def lay_dependencies() -> None:
    """Beside the copy, the collection that our AWS modules import from: ansible-test looks nowhere else."""
    target = COPY.parents[1] / "amazon" / "aws"
    if not target.exists():
        (source,) = VENV.parent.resolve().glob("lib/python3*/site-packages/ansible_collections/amazon/aws")
        shutil.copytree(source, target)


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
    # Its cache would be shipped with the role.
    cache = f"--cache-dir={ROOT / '.mypy_cache'}"
    library, paths = ROOT / "roles" / "bootstrap" / "files", {"MYPYPATH": f"{ROOT / 'collections'}:{ROOT / 'roles' / 'bootstrap' / 'files'}"}
    run("mypy", cache, "-p", "fpga_hybrid", cwd=library, environment=paths)
    run("mypy", cache, "-p", "fpga_hybrid_keeper", cwd=ROOT / "roles" / "keeper" / "files", environment=paths)
    paths["MYPYPATH"] += f":{ROOT / 'roles' / 'openvpn' / 'files'}"
    run("mypy", cache, "-m", "fpga_hybrid_vpn", "-m", "fpga_hybrid_vpn_as", cwd=ROOT / "roles" / "openvpn_as" / "files", environment=paths)
    # The oldest Python that it runs on, Ubuntu 22.04's.
    oldest = ("--config-file", ROOT / "pyproject.toml", "--python-version", "3.10")
    run("mypy", cache, *oldest, "-p", "fpga_device_plugin", cwd=ROOT / "roles" / "fpga_device_plugin" / "files")


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


def docsite() -> None:
    """The docsite: a page for each plugin and role by antsibull-docs, and HTML of them by Sphinx, for which every warning is an error."""
    copy_collection()
    tools, folder = CACHE / "docsite-tools", CACHE / "test-docsite"
    run(sys.executable, "lab/tools.py", "--packages", "requirements/docsite.txt", "--link", tools)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "rst").mkdir(parents=True)
    (folder / "rst").chmod(0o755)  # antsibull-docs insists that nobody else may write there
    paths = {"ANSIBLE_COLLECTIONS_PATH": str(COPY.parents[2])}
    how = ("--use-current", "--fail-on-error", "--squash-hierarchy")
    run("antsibull-docs", "collection", *how, "--dest-dir", folder / "rst", "fpga.hybrid", environment=paths)
    run(tools / "bin" / "sphinx-build", "-qW", "--keep-going", "-c", "tests/docsite", folder / "rst", folder / "html")
    wanted = {f"{path.stem}_module.html" for path in (ROOT / "plugins" / "modules").glob("*.py")}
    wanted |= {f"{path.parents[1].name}_role.html" for path in (ROOT / "roles").glob("*/meta/main.yml")}
    if missing := wanted - {path.name for path in (folder / "html").glob("*.html")}:
        raise StepError(f"the docsite has no {', '.join(sorted(missing))}")


def importer() -> None:
    """Automation Hub's checks of the tarball, all but the one that wants version 1.0; errors are only printed there, and so are warnings."""
    tools, folder = CACHE / "importer-tools", CACHE / "test-dist"
    run(sys.executable, "lab/tools.py", "--packages", "requirements/importer.txt", "--link", tools)
    shutil.rmtree(folder, ignore_errors=True)
    run("ansible-galaxy", "collection", "build", "--output-path", folder)
    (tarball,) = folder.glob("*.tar.gz")
    rules = {f"GALAXY_IMPORTER_{rule}": "true" for rule in ("CHECK_CHANGELOG", "CHECK_REQUIRED_TAGS", "RUN_ANSIBLE_DOC", "RUN_ANSIBLE_LINT", "RUN_FLAKE8")}
    found = subprocess.run(
        [tools / "bin" / "python", "-m", "galaxy_importer.main", tarball],
        cwd=folder,
        env={**os.environ, **rules, "HOME": str(HOME), "PATH": f"{tools / 'bin'}:/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if found.returncode or objections(found.stdout):
        raise StepError("\n".join(["galaxy-importer objects:", *(objections(found.stdout) or found.stdout.splitlines()[-20:])]))


#: Rules of pycodestyle that speak against what ruff's formatter writes, and against lines that end in a link.
FORMATTERS = ("E203", "E501", "E704", "W503")


def objections(output: str) -> list[str]:
    said = [line for line in output.splitlines() if line.startswith(("ERROR", "WARNING", "CRITICAL"))]
    return [line for line in said if not re.search(rf"\.py:\d+:\d+: ({'|'.join(FORMATTERS)}) ", line)]


def pytest(step: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
    JUNIT.mkdir(parents=True, exist_ok=True)
    (JUNIT / f"{step}.xml").unlink(missing_ok=True)
    only = ("-k", ONLY[step]) if step in ONLY else ()
    measured = ("--cov", "--cov-report=") if step in MEASURED and not only else ()
    variables = {"COVERAGE_FILE": str(covered_by(step)), **(environment or {})}
    run("pytest", "-q", f"--junitxml={JUNIT / step}.xml", *arguments, *only, *measured, environment=variables)


def covered_by(step: str) -> Path:
    return JUNIT / f"coverage-{step}"


def coverage() -> None:
    """How much of the plugins those steps ran that went before, in pytest's own process: what Ansible's programs and hosts ran is not counted."""
    if missing := [step for step in MEASURED if not covered_by(step).exists()]:
        raise StepError(f"nothing measured: {', '.join(missing)}. Run tests/run.py {' '.join(MEASURED)} coverage.")
    data = {"COVERAGE_FILE": str(JUNIT / "coverage")}
    run("coverage", "combine", "--quiet", "--keep", *(covered_by(step) for step in MEASURED), environment=data)
    run("coverage", "report", "--skip-covered", "--sort=cover", f"--fail-under={COVERAGE}", environment=data)


def unit() -> None:
    pytest("unit", "tests/unit", "-n", "2")


def aws() -> None:
    """What talks to AWS, against moto."""
    pytest("aws", "tests/integration/aws", "-n", "2")


def playbooks_aws() -> None:
    """Playbooks and modules against the lab's AWS; every job template as AWX runs it, and awx.yml against a double of AWX."""
    print("in `make test-all` only, because they take minutes: builds of an AMI; all of awx.yml's objects, and its check mode (step playbooks_slow)")
    pytest("playbooks_aws", "tests/integration/playbooks", "-n", "2", "-m", "not slow")


def playbooks_slow() -> None:
    """Builds of an AMI in the lab's AWS; all that awx.yml makes, twice, and its check mode, in a double of AWX."""
    pytest("playbooks_slow", "tests/integration/playbooks", "-n", "2", "-m", "slow")


def admission() -> None:
    """What a real API server makes of our objects, and of pods under our policies."""
    pytest("admission", "tests/integration/admission")


def ansible_test(command: str, *arguments: str) -> None:
    """In the copy, on the oldest core that we support."""
    interpreter = f"{sys.version_info.major}.{sys.version_info.minor}"
    # Only real interpreters may be on PATH: ansible-test takes the shims of version managers for interpreters and fails on them.
    path = os.pathsep.join([str(VENV.resolve()), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    run("ansible-test", command, "--local", "--python", interpreter, "--color", "no", *arguments, cwd=COPY, environment={"PATH": path})


def sanity() -> None:
    """ansible-test on the oldest core that we support."""
    copy_collection()
    lay_get_pip(HOME, next(VENV.parent.resolve().glob("lib/python3*/site-packages/ansible_test/_internal")))
    ansible_test("sanity")


def ansible_units() -> None:
    """The plugins' unit tests as ansible-test runs them: those of modules and module_utils see nothing of Ansible but module_utils."""
    copy_collection("lab/", "tests/bench/", "tests/tools/", "tests/unit/")
    shutil.rmtree(COPY / "tests" / "unit" / "roles")
    ansible_test("units", "--num-workers", "2", *(f"tests/unit/plugins/{name}" for name in UNITS))


def sanity_newest() -> None:
    """ansible-test on the newest core, which needs a newer Python than Debian 12 has: in a Debian 13 root."""
    copy_collection()
    run(sys.executable, ROOT / "tests" / "sanity" / "debian13.py", NEWEST_ROOT, COPY)


def scenarios(wanted: Callable[[str], bool]) -> None:
    failed = []
    there = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))
    if not any(wanted(scenario) for scenario in there):
        raise StepError(f"no scenario of that name; there are: {', '.join(there)}")
    for scenario in filter(wanted, there):
        started = time.monotonic()
        try:
            run("molecule", "test", "--scenario-name", scenario)
        except StepError:
            failed.append(scenario)
        print(f"molecule {scenario}: {time.monotonic() - started:.0f} s{' FAILED' if scenario in failed else ''}", flush=True)
    if failed:
        raise StepError(f"scenarios {', '.join(failed)}")


def molecule() -> None:
    print(f"in `make test-all` only, to keep this short: {', '.join(SLOW_SCENARIOS)}")
    scenarios(lambda name: name not in SLOW_SCENARIOS and ONLY.get("molecule", "") in name)


def molecule_slow() -> None:
    scenarios(lambda name: name in SLOW_SCENARIOS and ONLY.get("molecule_slow", "") in name)


def lab_hosts() -> None:
    """The lab's hosts without a cluster; what an earlier lab left is removed first. Builds the depot where the cache lacks it."""
    run("lab/lab", "reset")
    run("lab/lab", "up")


def check_fresh() -> None:
    """`--check --diff` where nothing is installed."""
    run("ansible-playbook", "site.yml", "--check", "--diff")


def make_lab() -> None:
    run("make", "lab")


def make_lab_again() -> None:
    """Over a running lab: nothing is built, the cluster is taken as it is."""
    run("make", "lab")


def evaluate() -> None:
    """The tutorial's story: a pending job makes an instance appear, run it, and go."""
    run("make", "evaluate")


def faults() -> None:
    """The mishaps of an instance's life that are played fastest; the others are in `make test-all`."""
    pytest("faults", "tests/lab/test_faults.py", "-m", "lab and not slow")


def faults_slow() -> None:
    pytest("faults_slow", "tests/lab/test_faults.py", "-m", "lab and slow")


def faults_unprotected() -> None:
    """Every mishap without what keeps it from doing harm, one thing switched off at a time: each has to fail as it says. Takes some three hours."""
    pytest("faults_unprotected", "tests/lab/test_faults.py", "-m", "lab", "-rP", "--tb=short", environment={"FPGA_HYBRID_UNPROTECTED": "1"})


def bench_site() -> None:
    run(sys.executable, "tests/bench/site.py")


def bench_bootstrap() -> None:
    run("make", "bench-bootstrap")


def bench_device_plugin() -> None:
    run("make", "bench-device-plugin")


#: They have steps of their own, and the lab's AWS with node pools for all of them.
FAULTS_APART = "--ignore=tests/lab/test_faults.py"


def lab_tests() -> None:
    pytest("lab_tests", "tests/lab", "-m", "lab and not slow", FAULTS_APART)


def lab_tests_slow() -> None:
    pytest("lab_tests_slow", "tests/lab", "-m", "lab and slow", FAULTS_APART)


def machine_clean() -> None:
    """The machine after `make lab-clean` is as it was before `make lab`. Ends with no lab."""
    record = JUNIT / "machine-before"
    JUNIT.mkdir(parents=True, exist_ok=True)
    run("lab/lab", "clean")
    run("lab/lab", "machine", "save", record)
    run("make", "lab")
    run("lab/lab", "clean")
    run("lab/lab", "machine", "compare", record)


@dataclass(frozen=True)
class Result:
    name: str
    seconds: float
    error: str


LINT: tuple[Callable[[], None], ...] = (ruff, mypy, yamllint, ansible_lint, documentation)
QUICK = (*LINT, unit, aws, playbooks_aws, admission, coverage, sanity, sanity_newest, molecule)
LAB = (lab_hosts, check_fresh, make_lab, make_lab_again, lab_tests, evaluate, faults)
CI = (*LAB, *QUICK)
BENCHES = (bench_site, bench_bootstrap, bench_device_plugin)
ALL = (*CI, ansible_units, importer, docsite, playbooks_slow, molecule_slow, lab_tests_slow, faults_slow, *BENCHES, machine_clean)
#: By name only: it shows that tests can fail, once for each of them.
STEPS = {step.__name__: step for step in (*ALL, faults_unprotected)}
#: Steps whose tests have a row each in the table of results.
TOLD_ONE_BY_ONE = ("lab_tests", "lab_tests_slow", "faults", "faults_slow", "faults_unprotected")
#: A step that was asked for in part -> the word, for pytest's -k or in a scenario's name.
ONLY: dict[str, str] = {}


#: What mostly waits, for hosts that boot and times that pass; what only computes; and where each of these is asked for, the one runs beside the other.
WAITING = (evaluate, faults)
BESIDE = (*LINT, aws, playbooks_aws, admission, sanity, sanity_newest)


@dataclass(frozen=True)
class Goal:
    """Minutes on two cores that steps may take together: where the cache is empty, and where programs are built."""

    steps: tuple[Callable[[], None], ...]
    cold: float
    warm: float


GOALS = (Goal((lab_hosts, make_lab), cold=35, warm=6), Goal((make_lab_again,), cold=2, warm=2))
#: Of all of CI.
MINUTES = {"cold": 75, "warm": 40}


def goals(done: Sequence[Result], minutes: float, *, warm: bool) -> list[str]:
    """Told, and no failure: machines are noisy."""
    seconds = {result.name: result.seconds for result in done}
    cache = "warm" if warm else "cold"
    judged = [(" + ".join(step.__name__ for step in goal.steps), [step.__name__ for step in goal.steps], getattr(goal, cache)) for goal in GOALS]
    found = [(what, sum(seconds[name] for name in names) / 60, most) for what, names, most in judged if set(names) <= set(seconds)]
    if {step.__name__ for step in CI} <= set(seconds):
        found.append(("everything", minutes, MINUTES[cache]))
    return [f"{what}: {took:.1f} minutes with a {cache} cache (goal: at most {most}{', MISSED' if took > most else ''})" for what, took, most in found]


def perform(steps: Sequence[Callable[[], None]]) -> list[Result]:
    """One after the other; BESIDE the first of WAITING, where that is among them, goes what only computes."""
    done: list[Result] = []
    waiting = [step for step in steps if step in WAITING]
    beside = [step for step in steps if step in BESIDE] if waiting else []
    with ThreadPoolExecutor(max_workers=1) as pool:
        others: Future[list[Result]] | None = None
        for step in steps:
            if step in beside:
                continue
            if others and step not in waiting:
                done += others.result()
                others = None
            if beside and step is waiting[0]:
                others = pool.submit(lambda: [perform_beside(step) for step in beside])
            print(f"\n==== {step.__name__}", flush=True)
            done.append(attempt(step))
        return done + (others.result() if others else [])


def perform_beside(step: Callable[[], None]) -> Result:
    """Its output comes in one piece, when it has ended."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as OUTPUT.file:
        result = attempt(step)
        OUTPUT.file.seek(0)
        print(f"\n==== {step.__name__}, beside the others\n{OUTPUT.file.read()}", flush=True)
    OUTPUT.file = None
    return result


def attempt(step: Callable[[], None]) -> Result:
    started, error = time.monotonic(), ""
    try:
        step()
    except (StepError, OSError, subprocess.CalledProcessError) as caught:
        error = str(caught)
    return Result(step.__name__, time.monotonic() - started, error)


def record(done: Sequence[Result]) -> None:
    when, commit = results.now(), results.commit(ROOT)
    rows = []
    for result in done:
        if result.name in TOLD_ONE_BY_ONE and (junit := JUNIT / f"{result.name}.xml").exists():
            how = (", without its protection", "failed as expected") if result.name == "faults_unprotected" else ()
            rows += results.of_pytest(junit.read_text(encoding="utf-8"), when, commit, *how)
        if result.name not in ONLY:
            rows.append(results.Row(result.name, "failed" if result.error else "passed", result.seconds, when, commit))
    results.write(RESULTS, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write what came out into docs/test-all.md, as `all` does")
    parser.add_argument("--list", action="store_true", help="the names of steps and of groups of them, each with what it does")
    parser.add_argument("steps", nargs="*", default=["quick"])
    options = parser.parse_args()
    groups = {"lint": LINT, "quick": QUICK, "ci": CI, "all": ALL}
    if options.list:
        told = {name: f"the steps {', '.join(step.__name__ for step in group)}" for name, group in groups.items()}
        told |= {name: (step.__doc__ or "").strip().partition("\n")[0] for name, step in STEPS.items()}
        print("\n".join(f"{name}\t{text}" for name, text in told.items()))
        return 0
    steps: list[Callable[[], None]] = []
    for wanted in options.steps:
        name, _colon, word = wanted.partition(":")
        if name not in groups and name not in STEPS:
            parser.error(f"unknown: {name}. There are: {', '.join([*groups, *STEPS])}.")
        if word and name in ONLY:
            parser.error(
                f"{name} is there twice, with {ONLY[name]} and {word}; call this twice, or give pytest's steps one word: {name}:'{ONLY[name]} or {word}'."
            )
        if word:
            ONLY[name] = word
        steps += groups.get(name) or (STEPS[name],)
    HOME.mkdir(parents=True, exist_ok=True)
    warm, started = check.build_minutes() < 1, time.monotonic()
    done = perform(steps)
    print("\n==== summary")
    for goal in goals(done, (time.monotonic() - started) / 60, warm=warm):
        print(goal)
    for result in done:
        print(f"{result.seconds:7.1f} s  {result.name:<15} {'FAILED: ' + result.error if result.error else 'passed'}")
    if options.record or "all" in options.steps:
        record(done)
    failed = sum(bool(result.error) for result in done)
    print(f"{len(done) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
