# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _host
from ansible_collections.fpga.hybrid.plugins.module_utils._host import Clock, TimeService

HOSTS = "127.0.0.1 localhost\n10.0.0.2 depot\n"

lines = st.lists(st.sampled_from(["127.0.0.1 localhost", "", "# a comment", "10.0.0.2 depot", _host.BEGIN, _host.END]), max_size=8).map("\n".join)


def test_the_block_stands_at_the_end_and_goes_without_a_trace():
    text = _host.with_block(HOSTS, ["172.27.224.1 api"])
    assert text == HOSTS + "# BEGIN fpga.hybrid\n172.27.224.1 api\n# END fpga.hybrid\n"
    assert _host.with_block(text, []) == HOSTS


def test_the_block_keeps_its_place():
    text = f"a\n{_host.BEGIN}\nold\n{_host.END}\nb\n"
    assert _host.with_block(text, ["new"]) == f"a\n{_host.BEGIN}\nnew\n{_host.END}\nb\n"


@given(lines, st.lists(st.sampled_from(["1.2.3.4 x", "1.2.3.5 y"]), max_size=2))
def test_writing_the_block_twice_changes_nothing_and_keeps_all_other_lines(text, block):
    once = _host.with_block(text, block)
    assert _host.with_block(once, block) == once
    for line in ("127.0.0.1 localhost", "10.0.0.2 depot"):
        before, after, _found = _host.split_block(text)
        assert once.splitlines().count(line) == [*before, *after].count(line)


def test_a_line_that_gives_our_name_another_address_is_found_only_outside_our_block():
    text = f"10.9.9.9 other api # note\n{_host.BEGIN}\n10.8.8.8 api\n{_host.END}\n# 10.7.7.7 api\n172.27.224.1 api\n"
    assert _host.contradictions(text, {"api": "172.27.224.1"}) == ["10.9.9.9 other api # note"]


@pytest.mark.parametrize(("found", "wanted"), [("1", "2"), ("0", None), ("2", None), (None, None)])
def test_only_strict_reverse_path_filtering_is_changed(found, wanted):
    assert _host.wanted_sysctl({"net.ipv4.ip_forward": 1}, found).get(_host.RP_FILTER) == wanted


def test_a_value_of_the_user_wins():
    assert _host.wanted_sysctl({_host.RP_FILTER: 0}, "1")[_host.RP_FILTER] == "0"


@pytest.mark.parametrize(("module", "there"), [("br_netfilter", True), ("br-netfilter", True), ("overlay", True), ("tun", False), ("nf_conn", False)])
def test_modules_that_are_loaded_or_built_in(module, there):
    assert _host.is_there(module, "br_netfilter 32768 0 - Live 0x0\nnf_conntrack 1 0 - Live\n", "kernel/fs/overlayfs/overlay.ko\n") is there


SHOW = """Id=chrony.service
LoadState={chrony}
ActiveState={active}

Id=systemd-timesyncd.service
LoadState=loaded
ActiveState={timesyncd}
"""


@pytest.mark.parametrize(
    ("values", "unit", "active"),
    [
        ({"chrony": "loaded", "active": "active", "timesyncd": "inactive"}, "chrony.service", True),
        ({"chrony": "loaded", "active": "inactive", "timesyncd": "active"}, "systemd-timesyncd.service", True),
        ({"chrony": "not-found", "active": "inactive", "timesyncd": "inactive"}, "systemd-timesyncd.service", False),
    ],
)
def test_the_time_service_that_runs_counts_else_one_that_is_installed(values, unit, active):
    service = _host.time_service(_host.parse_units(SHOW.format(**values)))
    assert (service.unit, service.active) == (unit, active)


def test_no_time_service():
    assert _host.time_service(_host.parse_units("Id=chrony.service\nLoadState=not-found\nActiveState=inactive\n")) is None


def answer(time, mode=4, leap=0, stratum=3):
    whole, fraction = int(time) + _host.NTP_EPOCH, int((time % 1) * 2**32)
    return bytes([leap << 6 | 4 << 3 | mode, stratum]) + bytes(30) + struct.pack("!IIII", whole, fraction, whole, fraction)


@given(st.floats(-1e6, 1e6), st.floats(0, 1))
def test_the_offset_of_an_ntp_answer(offset, way):
    sent = 1.8e9
    assert _host.parse_ntp(answer(sent + way / 2 + offset), sent, sent + way) == pytest.approx(offset, abs=1e-3)


@pytest.mark.parametrize("data", [b"", answer(1.8e9)[:47], answer(1.8e9, mode=3), answer(1.8e9, leap=3), answer(1.8e9, stratum=0), answer(1.8e9, stratum=16)])
def test_a_server_that_does_not_know_the_time_is_not_believed(data):
    with pytest.raises(ValueError, match=r"no NTP answer|not synchronised"):
        _host.parse_ntp(data, 0, 0)


def unreachable(server):
    raise OSError(f"{server} is down")


def test_the_first_time_server_that_answers_counts():
    def ask(server):
        return unreachable(server) if server == "a" else 0.5

    clock = _host.measure(["a", "b"], 0, ask)
    assert clock == Clock(0.5, "time server b", ("a: a is down",))


def test_without_time_servers_the_controllers_clock_counts():
    assert _host.measure(["a"], 103.0, unreachable, now=lambda: 100.0) == Clock(3.0, "the controller", ("a: a is down",))
    assert _host.measure([], None).offset is None


@pytest.mark.parametrize(
    ("clock", "refused"),
    [
        (Clock(4.9, "time server x"), False),
        (Clock(-4.9, "time server x"), False),
        (Clock(5.1, "time server x"), True),
        (Clock(-5.1, "time server x"), True),
        (Clock(14.9, "the controller"), False),  # as old as the way to the host
        (Clock(15.1, "the controller"), True),
        (Clock(None, None), False),
    ],
)
def test_which_clocks_are_refused(clock, refused):
    assert bool(_host.judge_clock(clock, 5, "h", None)) is refused


def test_a_wrong_clock_is_told_with_what_to_do():
    message = _host.judge_clock(Clock(-3600, "time server depot"), 5, "worker1", TimeService("chrony.service", "chrony", True))
    assert message.startswith("worker1: its clock is 3600.0 s ahead of time server depot; at most 5 s are allowed (host_time_max_offset)")
    assert "systemctl status chrony.service" in message
    assert "date --set=@" in message
    assert "host_time_servers" in message


@pytest.mark.parametrize("entries", [{"a b": "10.0.0.1"}, {"api": "10.0.0.1 evil"}, {"": "10.0.0.1"}, {"api\n": "10.0.0.1"}])
def test_what_could_break_the_hosts_file_is_refused(entries):
    with pytest.raises(_host.HostError):
        _host.valid_hosts(entries)


def test_os_release():
    text = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n'
    assert _host.parse_os_release(text) == {"distribution": "Debian", "distribution_release": "bookworm"}
