# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`lab/lab check`: what counts as a problem, and that each problem comes with a remedy."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import check
from lab.check import Line, Taken, Verdict
from lab.network import routes

NETWORKS = st.builds(lambda address, prefix: IPv4Network((address, prefix), strict=False), st.integers(0, 2**32 - 1), st.integers(1, 32))


@given(st.lists(NETWORKS, max_size=8))
def test_a_clash_is_reported_exactly_where_networks_share_an_address(taken):
    found = check.clashes([Taken(network, "somebody") for network in taken])
    for name, wanted in check.wanted_networks().items():
        shared = [n for n in taken if n.broadcast_address >= wanted.network_address and n.network_address <= wanted.broadcast_address]
        assert [taker.network for taker in found[name]] == shared


@given(st.lists(NETWORKS, max_size=8))
def test_every_clash_is_a_line_with_a_remedy(taken):
    found = check.clashes([Taken(network, "somebody") for network in taken])
    problems = [line for line in check.networks(found) if line.verdict is Verdict.PROBLEM]
    assert len(problems) == sum(map(len, found.values()))
    assert all(line.remedy for line in problems)


def test_networks_far_from_the_labs_leave_all_of_them_free():
    lines = list(check.networks(check.clashes([Taken(IPv4Network("192.0.2.0/24"), "eth0"), Taken(IPv4Network("172.17.0.0/16"), "docker0")])))
    assert [line.verdict for line in lines] == [Verdict.OK]


ROUTES = [
    {"dst": "default", "dev": "eth0"},
    {"dst": "127.0.0.0/8", "dev": "lo", "type": "local"},
    {"dst": "10.203.10.1", "dev": "podman1", "type": "local"},
    {"dst": "10.203.10.0/24", "dev": "podman1"},
    {"dst": "10.244.0.0/16", "type": "unreachable", "metric": routes.METRIC},
    {"dst": "10.96.0.0/16", "dev": "wg0"},
    {"dst": "192.0.2.7", "dev": "eth0"},
]


def test_the_labs_own_bridges_and_routes_do_not_clash_with_the_lab():
    assert [str(taken.network) for taken in check.from_routes(ROUTES, ["podman1"])] == ["10.96.0.0/16", "192.0.2.7/32"]


def test_an_unreachable_route_that_somebody_else_made_is_no_lab_route():
    other = {"dst": "10.244.0.0/16", "type": "unreachable", "metric": 100}
    assert [str(taken.network) for taken in check.from_routes([other], [])] == ["10.244.0.0/16"]


def test_a_bridge_of_somebody_else_in_the_labs_network_clashes():
    assert next(str(taken.network) for taken in check.from_routes(ROUTES, [])) == "10.203.10.0/24"


BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'


@pytest.mark.parametrize(
    ("os_release", "architecture", "verdict"),
    [
        (BOOKWORM, "x86_64", Verdict.OK),
        (BOOKWORM.replace("12", "13"), "x86_64", Verdict.OK),
        (BOOKWORM.replace("12", "11"), "x86_64", Verdict.PROBLEM),
        (BOOKWORM.replace("ID=debian", "ID=ubuntu"), "x86_64", Verdict.PROBLEM),
        (BOOKWORM, "aarch64", Verdict.PROBLEM),
    ],
)
def test_which_systems_will_do(os_release, architecture, verdict):
    assert check.system(os_release, architecture).verdict is verdict


def test_without_root_the_check_goes_on_and_says_what_needs_it():
    line = check.user(1000, 0)
    assert line.verdict is Verdict.NOTE
    assert "sudo make lab" in line.remedy


def test_root_that_may_not_mount_is_a_problem():
    everything = (1 << 41) - 1
    assert check.user(0, everything).verdict is Verdict.OK
    assert check.user(0, everything & ~(1 << 21)).finding == "root without sys_admin"


@pytest.mark.parametrize(
    ("mounts", "verdict", "says"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0", Verdict.OK, "version 2"),
        ("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0", Verdict.NOTE, "failCgroupV1: false"),
        ("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0", Verdict.NOTE, "failCgroupV1: false"),
        ("proc /proc proc rw 0 0", Verdict.PROBLEM, "none mounted"),
    ],
)
def test_the_cgroup_version_is_said_with_what_follows(mounts, verdict, says):
    line = check.cgroups(mounts)
    assert line.verdict is verdict
    assert says in line.finding


def meminfo(total_gib: float, available_gib: float) -> str:
    return f"MemTotal:       {int(total_gib * 2**20)} kB\nMemAvailable:   {int(available_gib * 2**20)} kB\n"


@pytest.mark.parametrize(("total", "available", "verdict"), [(8, 6, Verdict.OK), (8, 2, Verdict.NOTE), (2, 2, Verdict.PROBLEM)])
def test_how_much_memory_will_do(total, available, verdict):
    assert check.memory(meminfo(total, available)).verdict is verdict


def test_one_processor_is_too_few_for_a_control_plane():
    assert check.processors(1).verdict is Verdict.PROBLEM
    assert check.processors(2).verdict is Verdict.OK


def test_a_limit_of_open_files_below_what_a_node_needs_is_a_problem():
    assert check.open_files(1024).verdict is Verdict.PROBLEM
    assert check.open_files(20000).verdict is Verdict.OK
    assert check.open_files(-1).verdict is Verdict.OK


def free(monkeypatch, gib: float) -> None:
    monkeypatch.setattr(check.shutil, "disk_usage", lambda path: type("Usage", (), {"free": gib * check.GIB}))


def test_a_disk_that_is_too_small_says_how_to_go_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("FPGA_HYBRID_LAB_CACHE", str(tmp_path))
    free(monkeypatch, 3)
    lines = list(check.disk(build=25))
    assert {line.verdict for line in lines} == {Verdict.PROBLEM}
    assert "FPGA_HYBRID_LAB_CACHE" in lines[0].remedy


def test_a_warm_cache_needs_less_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("FPGA_HYBRID_LAB_CACHE", str(tmp_path))
    free(monkeypatch, 12)
    assert {line.verdict for line in check.disk(build=0)} == {Verdict.OK}
    assert Verdict.PROBLEM in {line.verdict for line in check.disk(build=25)}


def test_the_time_is_that_of_the_build_and_of_the_lab_itself():
    assert f"about {24 + check.WARM_MINUTES} minutes" in check.duration(24).finding
    assert "24 of them to build" in check.duration(24).finding
    assert f"about {check.WARM_MINUTES} minutes" in check.duration(0).finding


UDP = "  sl  local_address rem_address   st\n  12: 00000000:{port} 00000000:0000 07\n"


def test_a_vpn_server_of_the_machines_own_is_noted_and_no_obstacle():
    assert check.ports(UDP.format(port="04AA")).verdict is Verdict.NOTE
    assert check.ports(UDP.format(port="0035")).verdict is Verdict.OK


def test_the_report_ends_with_how_many_problems_there_are():
    good, bad = Line(Verdict.OK, "disk", "enough"), Line(Verdict.PROBLEM, "memory", "1 GiB", "more")
    assert check.render([good]).endswith("Nothing is in the lab's way.")
    report = check.render([good, bad, bad])
    assert "         memory  -> more" not in report
    assert "-> more" in report
    assert report.endswith("2 problems prevent the lab.")


def test_looking_at_this_machine_answers_every_subject():
    """Whatever machine the tests run on: the check reads it to the end and says something of everything."""
    subjects = {line.subject for line in check.examine()}
    assert {"system", "user", "packages", "apt", "disk", "memory", "processors", "cgroups", "networks", "ports", "podman", "time"} <= subjects


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: {address}:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0
"""


@pytest.mark.parametrize(
    ("address", "port", "state", "verdict"),
    [
        ("010ACB0A", "13BF", "0A", Verdict.NOTE),
        ("00000000", "13BF", "0A", Verdict.NOTE),
        ("0" * 32, "13BF", "0A", Verdict.NOTE),
        ("0100007F", "13BF", "0A", Verdict.OK),
        ("010ACB0A", "13C0", "0A", Verdict.OK),
        ("010ACB0A", "13BF", "01", Verdict.OK),
    ],
    ids=["its own", "every address", "every address of either kind", "another address", "another port", "a connection"],
)
def test_a_taken_port_of_the_labs_aws_is_named(address, port, state, verdict):
    line = check.cloud_port(TCP.format(address=address, port=port, state=state))
    assert line.verdict is verdict
    assert "TCP/5055 on 10.203.10.1" in line.finding
