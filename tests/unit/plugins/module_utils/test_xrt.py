# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""XRT: what its programs print, which version goes with what, and what is said of a host where it doesn't work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _xrt as xrt
from ansible_collections.fpga.hybrid.plugins.module_utils._boards import Alveo
from ansible_collections.fpga.hybrid.plugins.module_utils._xrt import Build, Found, Wanted

VERSIONS = yaml.safe_load((Path(__file__).parents[4] / "roles/xrt/files/versions.yml").read_text())
TABLE = VERSIONS["table"]
KERNEL = "5.15.0-91-generic"
SHELL = "xilinx_u250_gen3x16_xdma_shell_4_1"
CARD = Alveo("0000:3b:00", "u250", "0000:3b:00.0", "0000:3b:00.1", "xocl", ready=True, serial="21290594G00C", shell=SHELL)
BLANK = Alveo("0000:43:00", "u250", "0000:43:00.0", factory=True, serial="21290594G00D")
WORKS = Found(
    host="worker1",
    system="ubuntu 22.04",
    kernel=KERNEL,
    cards=[CARD],
    loaded="2.16.204",
    builds=[Build("xrt", "2.16.204", KERNEL, "installed")],
    modinfo={"xocl": "2.16.204", "xclmgmt": "2.16.204"},
    tool="/opt/xilinx/xrt/bin/xbutil",
    examined={"0000:3b:00.1": True},
    package="2.16.204",
    ours=True,
    next_kernel=KERNEL,
    headers=True,
)
WANTED = Wanted("2.16.204")


# --- what programs print


@pytest.mark.parametrize(
    ("line", "build"),
    [
        ("xrt/2.16.204, 5.15.0-91-generic, x86_64: installed", Build("xrt", "2.16.204", KERNEL, "installed")),
        ("xrt, 2.13.466, 5.15.0-91-generic, x86_64: installed", Build("xrt", "2.13.466", KERNEL, "installed")),
        ("xrt/2.16.204, 5.15.0-91-generic, x86_64: built", Build("xrt", "2.16.204", KERNEL, "built")),
        ("xrt/2.16.204: added", Build("xrt", "2.16.204", "", "added")),
        (
            "xrt/2.16.204, 5.15.0-91-generic, x86_64: installed (WARNING! Diff between built and installed module!)",
            Build("xrt", "2.16.204", KERNEL, "installed (WARNING! Diff between built and installed module!)"),
        ),
    ],
)
def test_dkms_status_is_read_as_dkms_2_and_3_write_it(line, build):
    assert xrt.parse_dkms_status(f"{line}\n") == [build]


@given(st.text())
def test_nothing_that_a_program_prints_is_an_error(text):
    xrt.parse_dkms_status(text)
    xrt.parse_modinfo(text)
    xrt.parse_examine(text)


def test_the_commit_is_left_out_of_the_modules_version():
    assert xrt.parse_modinfo("filename: /lib/x.ko\nversion:        2.16.204,fa4f2c2d2a8e\n") == "2.16.204"


EXAMINE = """System Configuration
  OS Name              : Linux

Devices present
BDF             :  Shell                                Logic UUID  Device ID  Device Ready*
--------------------------------------------------------------------------------
[0000:3b:00.1]  :  xilinx_u250_gen3x16_xdma_shell_4_1   n/a  user(inst=128)  Yes
[0000:43:00.1]  :  xilinx_u280_GOLDEN                   n/a  user(inst=129)  No

* Devices that are not ready will have reduced functionality when using XRT tools
"""
EXAMINE_WITH_LINES = """Device(s) Present
|BDF             |Shell                               |Logic UUID  |Device ID       |Device Ready*  |
|----------------|------------------------------------|------------|----------------|---------------|
|[0000:3b:00.1]  |xilinx_u250_gen3x16_xdma_shell_4_1  |283BAB8F    |user(inst=128)  |Yes            |
|[0000:43:00.1]  |xilinx_u280_GOLDEN                  |n/a         |user(inst=129)  |No             |
"""


@pytest.mark.parametrize("text", [EXAMINE, EXAMINE_WITH_LINES])
def test_examine_is_read_with_and_without_lines(text):
    assert xrt.parse_examine(text) == {"0000:3b:00.1": True, "0000:43:00.1": False}


@pytest.mark.parametrize(
    ("grub_default", "saved", "kernel"),
    [
        ("", "", "5.15.0-100-generic"),
        ("0", "", "5.15.0-100-generic"),
        ("Advanced options for Ubuntu>Ubuntu, with Linux 5.15.0-91-generic", "", "5.15.0-91-generic"),
        ("saved", "gnulinux-advanced-x>gnulinux-5.15.0-91-generic-advanced-x", "5.15.0-91-generic"),
        ("saved", "Ubuntu, with Linux 5.15.0-91-generic", "5.15.0-91-generic"),
        ("saved", "", "5.15.0-100-generic"),
        ("2", "", ""),
    ],
)
def test_the_kernel_of_the_next_boot_is_told_or_not_known(grub_default, saved, kernel):
    """Versions are compared as Debian does: 100 is newer than 91."""
    assert xrt.next_kernel(["5.15.0-91-generic", "5.15.0-100-generic"], grub_default, saved) == kernel


# --- which goes with which


def refusals(found=WORKS, wanted=WANTED):
    return [str(problem) for problem in xrt.combination_problems(found, wanted, TABLE)]


def test_what_is_in_the_table_is_taken():
    assert refusals() == []


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        (replace(WORKS, kernel="6.8.0-40-generic"), WANTED, "does not compile (XRT issue 8368)"),
        (replace(WORKS, kernel="6.2.0-39-generic"), WANTED, "with kernel 6.2.0-39-generic is not known; expected kernel 5.15.*"),
        (replace(WORKS, system="debian 12", kernel="6.1.0-28-amd64"), WANTED, "expected a system of ubuntu 22.04"),
        (WORKS, Wanted("2.11.0"), "expected one of XRT 2.14.354 (kernel 5.15.*)"),
        (WORKS, Wanted("2.21.75", source="distro"), "expected another xrt_source, since nobody has told of one that works with xrt_source: distro"),
        (replace(WORKS, system="ubuntu 24.04", kernel="6.8.0-49-generic"), Wanted("2.18.179", source="files"), "XRT issue 8783"),
        (replace(WORKS, cards=[replace(CARD, shell="xilinx_u250_xdma_201830_2")]), WANTED, f"expected {SHELL} with XRT 2.16.204"),
        (replace(WORKS, cards=[replace(CARD, board="u200", shell="xilinx_u200_x")]), WANTED, "expected no u200 with XRT 2.16.204"),
    ],
)
def test_a_combination_that_nobody_has_tried_is_refused_with_the_nearest_that_is_known(found, wanted, said):
    (refusal,) = refusals(found, wanted)
    assert said in refusal
    assert "xrt_allow_untested" in refusal
    assert refusals(found, replace(wanted, allow_untested=True)) == []


def test_a_card_without_a_shell_is_no_reason_to_refuse():
    assert refusals(replace(WORKS, cards=[BLANK])) == []


def test_ubuntu_24_04s_good_kernels_are_in_the_table_and_the_bad_ones_are_not():
    good = [f"6.8.0-{number}-generic" for number in (31, 39, 40, 48)]
    bad = [f"6.8.0-{number}-generic" for number in (49, 50, 64)]
    taken = [kernel for kernel in good + bad if not refusals(replace(WORKS, system="ubuntu 24.04", kernel=kernel), Wanted("2.18.179", source="files"))]
    assert taken == good


def test_each_shell_of_the_table_has_its_packages_or_is_not_flashed():
    boards = {board for row in TABLE for board in row["shells"]}
    assert boards == set(VERSIONS["shells"]["packages"])
    assert set(VERSIONS["shells"]["partitions"]) <= boards


# --- what is to be done


@pytest.mark.parametrize(
    ("found", "existing", "situation"),
    [
        (replace(WORKS, cards=[]), "adopt", "none"),
        (replace(WORKS, ours=False), "adopt", "adopted"),
        (replace(WORKS, ours=False), "replace", "install"),
        (WORKS, "adopt", "install"),
        (replace(WORKS, ours=False, loaded=""), "adopt", "install"),
        (replace(WORKS, ours=False, cards=[BLANK]), "adopt", "install"),
        (replace(WORKS, ours=False, cards=[CARD, BLANK]), "adopt", "adopted"),
    ],
)
def test_what_works_stays_and_what_is_missing_comes(found, existing, situation):
    assert xrt.situation(found, replace(WANTED, existing=existing)) == situation


def test_a_foreign_xrt_that_does_not_work_is_named_and_not_replaced():
    (problem,) = xrt.foreign_problems(replace(WORKS, ours=False, cards=[BLANK]), WANTED)
    assert "XRT 2.16.204, which we did not install" in problem.found
    assert "the image that it was sold with" in problem.found
    assert "xrt_existing: replace" in problem.remedy
    assert xrt.foreign_problems(replace(WORKS, ours=False, cards=[BLANK]), replace(WANTED, existing="replace")) == []
    assert xrt.foreign_problems(replace(WORKS, ours=False, package="", loaded="", cards=[BLANK]), WANTED) == []
    assert xrt.foreign_problems(replace(WORKS, ours=False, cards=[CARD, BLANK]), WANTED) == []


def test_a_foreign_xrt_stays_where_a_card_is_still_to_be_flashed():
    blank, flash = replace(WORKS, ours=False, cards=[BLANK]), replace(WANTED, flash=True)
    assert xrt.situation(blank, flash) == "adopted"
    assert xrt.foreign_problems(blank, flash) == []
    assert xrt.foreign_problems(replace(blank, cards=[TAKEN]), flash) != []


BARE = replace(WORKS, cards=[], loaded="", builds=[], modinfo={}, tool="", examined={}, package="", ours=False)
RAW = replace(CARD, driver="", ready=False)
TAKEN = replace(CARD, driver="vfio-pci", ready=False)
DEAD = replace(CARD, ready=False)


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        (replace(BARE, cards=[RAW]), WANTED, []),
        (replace(BARE, cards=[BLANK]), WANTED, ["xrt_flash_serials: [21290594G00D]"]),
        (replace(BARE, cards=[BLANK]), replace(WANTED, flash=True), []),
        (replace(BARE, cards=[BLANK, RAW]), WANTED, []),
        (replace(BARE, cards=[BLANK, TAKEN]), WANTED, ["xrt_flash_serials", "bound to vfio-pci"]),
        (replace(BARE, cards=[TAKEN]), replace(WANTED, flash=True), ["bound to vfio-pci"]),
        (replace(BARE, cards=[replace(RAW, user="")]), WANTED, ["shows no user function"]),
        (replace(WORKS, cards=[DEAD]), WANTED, ["it is not ready"]),
        (replace(WORKS, cards=[DEAD]), Wanted("2.17.319"), []),
        (replace(WORKS, cards=[DEAD, CARD]), WANTED, []),
        (replace(WORKS, loaded="", cards=[RAW]), WANTED, []),
    ],
)
def test_cards_that_no_driver_will_make_ready_are_told_before_one_is_installed(found, wanted, said):
    """One that is ready, or may be, is enough: the host has boards."""
    problems = xrt.hopeless_problems(found, wanted)
    assert len(problems) == len(said)
    assert all(text in str(problem) for text, problem in zip(said, problems))


def test_a_card_that_is_not_ready_beside_one_that_is_is_warned_of():
    other = replace(CARD, slot="0000:53:00", user="0000:53:00.1")
    both = replace(WORKS, cards=[CARD, BLANK, other])
    assert xrt.judge(both, WANTED) == []
    blank, silent = xrt.warnings(both)
    assert "0000:43:00: it holds the image that it was sold with" in blank
    assert "xrt_flash_serials: [21290594G00D]" in blank
    assert "xbutil examine calls 0000:53:00.1 not ready" in silent
    assert xrt.warnings(replace(both, loaded="")) == []


def test_boards_in_use_keep_their_driver():
    used = replace(WORKS, users=2)
    (problem,) = xrt.disruption_problems(used, Wanted("2.17.319"))
    assert "2 user(s)" in problem.found
    assert xrt.disruption_problems(used, Wanted("2.17.319", allow_disruption=True)) == []
    assert xrt.disruption_problems(used, WANTED) == []
    assert xrt.disruption_problems(WORKS, Wanted("2.17.319")) == []


# --- what came of it


def test_an_xrt_that_works_is_not_complained_of():
    assert xrt.judge(WORKS, WANTED) == []


NOT_BUILT = replace(WORKS, builds=[Build("xrt", "2.16.204", "", "added")], loaded="", modinfo={})
FAULTS = {
    "no dkms": (replace(WORKS, builds=[]), "no xrt, although its package is installed"),
    "another version": (
        replace(WORKS, builds=[Build("xrt", "2.14.354", KERNEL, "installed")], loaded="2.14.354", modinfo={"xocl": "2.14.354", "xclmgmt": "2.14.354"}),
        "dkms status: xrt/2.14.354; expected xrt/2.16.204",
    ),
    "built, of another version": (
        replace(WORKS, builds=[Build("xrt", "2.16.204", "", "added"), Build("xrt", "2.14.354", KERNEL, "installed")]),
        f"xrt/2.16.204 for {KERNEL} is added",
    ),
    "no headers": (replace(NOT_BUILT, headers=False), f"none for {KERNEL}, so the driver could not be built"),
    "does not compile": (replace(NOT_BUILT, build_log="error: implicit declaration"), "its log ends with: error: implicit declaration"),
    "built, not installed": (replace(WORKS, builds=[Build("xrt", "2.16.204", KERNEL, "built")]), "is built"),
    "for another kernel": (replace(WORKS, builds=[Build("xrt", "2.16.204", "5.15.0-90-generic", "installed")]), f"xrt/2.16.204 for {KERNEL} is added"),
    "no modinfo": (replace(WORKS, modinfo={"xocl": "2.16.204", "xclmgmt": ""}), "no module xclmgmt"),
    "not loaded": (replace(WORKS, loaded=""), "built and installed, and not loaded"),
    "Secure Boot": (
        replace(WORKS, loaded="", secure_boot=True, signing_key="/var/lib/dkms/mok.pub"),
        "mokutil --import /var/lib/dkms/mok.pub",
    ),
    "an older one is loaded": (replace(WORKS, loaded="2.14.354"), "2.14.354 is loaded, while 2.16.204 is installed"),
    "a factory card": (replace(WORKS, cards=[BLANK]), "xrt_flash_serials: [21290594G00D]"),
    "another driver": (replace(WORKS, cards=[replace(CARD, ready=False, driver="vfio-pci")]), "bound to vfio-pci"),
    "no tool": (replace(WORKS, tool=""), "neither xrt-smi nor xbutil"),
    "the tool fails": (replace(WORKS, examine_error="cannot open"), "examine fails: cannot open"),
    "the tool disagrees": (replace(WORKS, examined={"0000:3b:00.1": False}), "calls 0000:3b:00.1 not ready"),
    "the tool does not see it": (replace(WORKS, examined={}), "does not list it"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_first_thing_that_is_wrong_is_told_as_the_cause(name):
    found, said = FAULTS[name]
    problems = xrt.judge(found, WANTED)
    assert len(problems) == 1
    assert said in str(problems[0])


UBUNTUS = replace(
    WORKS,
    system="ubuntu 26.04",
    builds=[Build("xrt-xocl", "2.21.75", KERNEL, "installed")],
    dkms="xrt-xocl",
    loaded="2.21.75",
    modinfo={"xocl": "2.21.75", "xclmgmt": "2.21.75"},
    tool="/usr/bin/xrt-smi",
    package="1:2.21.75+dfsg-4",
    package_name="xrt-xocl-dkms",
)


def test_a_distributions_driver_is_judged_under_the_names_that_it_has():
    wanted = Wanted("2.21.75", source="distro")
    assert xrt.judge(UBUNTUS, wanted) == []
    assert not xrt.to_build(UBUNTUS, wanted)
    assert xrt.disruption_problems(replace(UBUNTUS, users=1), wanted) == []
    unbuilt = replace(UBUNTUS, builds=[Build("xrt-xocl", "2.21.75", "", "added")], loaded="")
    assert xrt.to_build(unbuilt, wanted)
    (problem,) = xrt.judge(unbuilt, wanted)
    assert f"xrt-xocl/2.21.75 for {KERNEL} is added" in str(problem)
    assert "/var/lib/dkms/xrt-xocl/2.21.75/build/make.log" in str(problem)
    (problem,) = xrt.judge(replace(UBUNTUS, builds=[Build("nvidia", "570", KERNEL, "installed")]), wanted)
    assert "no xrt-xocl, although its package is installed" in str(problem)
    assert "apt-get install --reinstall xrt-xocl-dkms" in str(problem)


def test_cards_that_are_still_to_be_flashed_may_be_unready():
    assert xrt.judge(replace(WORKS, cards=[BLANK]), WANTED, cards=False) == []


@pytest.mark.parametrize(
    ("has", "wanted", "same"),
    [
        ("2.16.204", "2.16.204", True),
        ("1:2.21.75+dfsg-4", "2.21.75", True),
        ("2.16.204-1", "2.16.204", True),
        ("2.16.2041", "2.16.204", False),
        ("2.14.354", "2.16.204", False),
        ("", "2.16.204", False),
    ],
)
def test_a_version_is_the_same_with_whatever_a_distribution_puts_around_it(has, wanted, same):
    assert xrt.same_version(has, wanted) is same


def test_a_next_kernel_without_a_driver_is_warned_of():
    (warning,) = xrt.warnings(replace(WORKS, next_kernel="5.15.0-100-generic"))
    assert "linux-headers-5.15.0-100-generic" in warning
    assert xrt.warnings(WORKS) == []
    assert xrt.warnings(replace(WORKS, next_kernel="")) == []
    assert xrt.warnings(replace(WORKS, next_kernel="5.15.0-100-generic", cards=[])) == []
    both = [*WORKS.builds, Build("xrt", "2.16.204", "5.15.0-100-generic", "installed")]
    assert xrt.warnings(replace(WORKS, next_kernel="5.15.0-100-generic", builds=both)) == []


@pytest.mark.parametrize(
    ("name", "follows"),
    [
        ("linux-image-amd64", True),
        ("linux-headers-amd64", True),
        ("linux-generic", True),
        ("linux-image-generic-hwe-22.04", True),
        ("linux-virtual", True),
        ("linux-image-5.15.0-91-generic", False),
        ("linux-libc-dev", False),
        ("linux-base", False),
    ],
)
def test_packages_that_bring_the_next_kernel_are_known(name, follows):
    assert bool(xrt.FOLLOWS_KERNEL.fullmatch(name)) is follows


# --- flashing

PARTITIONS = {"u250": "/opt/p.xsabin"}


def flashes(cards, serials, pending=None):
    return [(step.card.serial, step.stage, step.arguments) for step in xrt.plan_flash("worker1", cards, serials, PARTITIONS, pending or {})]


def test_only_a_card_that_is_named_is_flashed():
    other = replace(BLANK, slot="0000:53:00", serial="X")
    assert flashes([CARD, BLANK, other], ["21290594G00D"]) == [("21290594G00D", "base", ("program", "--device", "0000:43:00.0", "--base", "--force"))]


@pytest.mark.parametrize(("serials", "said"), [([], "21290594G00D (u250 0000:43:00)"), (["NONE"], "no card NONE")])
def test_flashing_without_the_number_of_a_card_is_refused(serials, said):
    with pytest.raises(ValueError, match="expected") as refused:
        flashes([CARD, BLANK], serials)
    assert said in str(refused.value)


def test_a_card_that_holds_a_shell_is_left_alone():
    assert flashes([CARD], [CARD.serial]) == []


def test_a_card_is_not_flashed_again_before_its_cold_boot():
    assert flashes([BLANK], [BLANK.serial], {BLANK.serial: "base"}) == []
    assert xrt.still_pending([BLANK], {BLANK.serial: "base"}) == {BLANK.serial: "base"}


def test_a_shell_of_two_parts_gets_its_second_after_the_cold_boot():
    half = replace(BLANK, factory=False)
    pending = xrt.still_pending([half], {BLANK.serial: "base"})
    assert pending == {}
    assert flashes([half], [half.serial], pending) == [(half.serial, "shell", ("program", "--device", "0000:43:00.0", "--shell", "/opt/p.xsabin", "--force"))]
    assert flashes([half], [half.serial], {half.serial: "shell"}) == []
    whole = replace(half, user="0000:43:00.1")
    assert xrt.still_pending([whole], {half.serial: "shell"}) == {}


def test_a_card_that_cannot_be_seen_keeps_its_cold_boot_due():
    assert xrt.still_pending([], {"X": "base"}) == {"X": "base"}


SERIALS = st.text("AB", max_size=2)
CARDS = st.builds(Alveo, st.just("s"), st.sampled_from(["u250", "u50"]), factory=st.booleans(), user=st.sampled_from(["", "u"]), serial=SERIALS)


@given(st.lists(CARDS), st.lists(SERIALS.filter(bool)))
def test_no_card_is_ever_flashed_that_was_not_named(cards, serials):
    try:
        steps = xrt.plan_flash("h", cards, serials, PARTITIONS, {})
    except ValueError:
        return
    assert {step.card.serial for step in steps} <= set(serials)
