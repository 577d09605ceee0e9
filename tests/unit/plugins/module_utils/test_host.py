# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _host

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
    assert (service.unit, service.active, service.enabled) == (unit, active, False)


def test_a_time_service_that_runs_may_not_come_back_with_the_next_boot():
    units = "Id=chrony.service\nLoadState=loaded\nActiveState=active\nUnitFileState={}\n"
    assert [_host.time_service(_host.parse_units(units.format(state))).enabled for state in ("enabled", "disabled")] == [True, False]


def test_no_time_service():
    assert _host.time_service(_host.parse_units("Id=chrony.service\nLoadState=not-found\nActiveState=inactive\n")) is None


@pytest.mark.parametrize("entries", [{"a b": "10.0.0.1"}, {"api": "10.0.0.1 evil"}, {"": "10.0.0.1"}, {"api\n": "10.0.0.1"}])
def test_what_could_break_the_hosts_file_is_refused(entries):
    with pytest.raises(_host.HostError):
        _host.valid_hosts(entries)


OS_RELEASE = """# made by base-files
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
VERSION_CODENAME=bookworm
ID='debian'
VERSION_ID="12"

"""


def test_os_release_is_read_without_comments_and_quotes():
    assert _host.parse_os_release(OS_RELEASE) == {
        "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)",
        "VERSION_CODENAME": "bookworm",
        "ID": "debian",
        "VERSION_ID": "12",
    }


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (OS_RELEASE, {"distribution": "Debian", "distribution_release": "bookworm"}),
        ("", {"distribution": "", "distribution_release": ""}),
    ],
)
def test_the_distribution_is_called_as_the_setup_module_calls_it(text, facts):
    assert _host.distribution(_host.parse_os_release(text)) == facts
