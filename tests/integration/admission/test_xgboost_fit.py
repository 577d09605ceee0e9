# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What evaluation jobs run, as a process with XGBoost's own library: the program and the files of its image, on this machine."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest

from lab.depot import golang, wheels
from lab.depot.base import Cache, DepotError
from tests.integration.admission.server import program

PROGRAM = "xgboost-fit"
BOARD = {
    "PCIDEVICE_INACCEL_COM_XGBOOST_EXACT": "0000:3b:00.1",
    "FPGA_COPIES_INACCEL_COM_XGBOOST_EXACT": "0000:3b:00.1/0,0000:3b:00.1/1",
}


@pytest.fixture(scope="module")
def command() -> list[str]:
    try:
        library = wheels.contents(Cache.default(), "xgboost-cpu/xgboost/lib/libxgboost.so")[""]
    except DepotError as error:
        pytest.skip(str(error))
    if not program(PROGRAM).exists():
        pytest.skip(f"the lab has not built {PROGRAM} yet: `make lab` does")
    return ["nice", str(program(PROGRAM)), "--library", str(library)]


def ended(command: list[str], *more: str, environment: dict[str, str] = BOARD) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_it_says_first_what_it_is_then_what_it_was_given_and_that_the_fit_got_better(command: list[str]) -> None:
    done = ended(command, "--rounds", "20")
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert re.fullmatch(r"stand-in: this is XGBoost \d+\.\d+\.\d+'s exact method on the CPU, in place of the accelerator INACCEL_COM_XGBOOST_EXACT", first)
    assert lines[:2] == [f"given: {name}={value}" for name, value in sorted(BOARD.items())]
    errors = re.search(r"^train logloss: (\S+) after round 1, (\S+) after round 20$", done.stdout, re.MULTILINE)
    assert errors is not None
    assert 0 < float(errors[2]) < float(errors[1]) / 2


def test_the_same_seed_gives_the_same_errors(command: list[str]) -> None:
    def errors(seed: str) -> list[str]:
        return [line for line in ended(command, "--rounds", "5", "--seed", seed).stdout.splitlines() if line.startswith("train")]

    assert errors("1") == errors("1")
    assert errors("1") != errors("2") != []


def test_without_a_board_it_ends_with_what_to_do_unless_that_is_allowed(command: list[str]) -> None:
    refused = ended(command, "--rounds", "2", environment={})
    assert refused.returncode == 1
    assert "in place of an accelerator" in refused.stdout
    assert "train" not in refused.stdout
    assert re.search(r"found no PCIDEVICE_.*expected a board.*limits", refused.stderr)
    assert ended(command, "--rounds", "2", "--without-board", environment={}).returncode == 0


def test_sigterm_ends_it_at_once_in_the_midst_of_a_round(command: list[str]) -> None:
    with subprocess.Popen([*command, "--rows", "200000", "--seconds", "60"], env=BOARD, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("data:"):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 128 + signal.SIGTERM


@pytest.mark.parametrize("library", ["/nowhere/libxgboost.so", "libm.so.6"])
def test_what_is_no_xgboost_is_refused_by_name(command: list[str], library: str) -> None:
    done = ended([*command[:2], "--library", library])
    assert done.returncode == 1
    assert library in done.stderr
    assert "XGBoost" in done.stderr


def test_its_own_tests_pass() -> None:
    """By the depot's Go, whose cache has everything that it was built of."""
    table, cache = golang.read_table(), Cache.default()
    go = golang.toolchain_root(cache, table) / "bin" / "go"
    if not program(PROGRAM).exists():
        pytest.skip(f"the lab has not built {PROGRAM} yet: `make lab` does")
    folder = golang.COMPONENTS / table.program(PROGRAM).component
    for verb in ("vet", "test"):
        done = subprocess.run(
            ["nice", str(go), verb, "./..."], cwd=folder, env=golang.environment(cache, go.parents[1]), capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
