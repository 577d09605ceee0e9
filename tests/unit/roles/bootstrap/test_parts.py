# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of bootstrap that are rules over texts: the hosts file, VPN profiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga_hybrid import failure, hosts, vpn
from fpga_hybrid.failure import Failure

NAME, ADDRESS = "api.example.org", "172.27.224.1"
LINES = st.sampled_from(
    ["127.0.0.1 localhost", "", "# a comment", "10.0.0.7 other", "172.27.224.1 api.example.org", "172.27.224.1 a api.example.org # why", "::1 localhost ip6"]
)


@given(st.lists(LINES), st.lists(st.sampled_from(["10.0.0.9 depot", "10.0.0.5 api.example.org"])))
def test_the_endpoint_is_named_once_and_nothing_else_is_touched(outside, block):
    text = "".join(f"{line}\n" for line in [*outside, *(["# BEGIN fpga.hybrid", *block, "# END fpga.hybrid"] if block else [])])
    once = hosts.with_entry(text, NAME, ADDRESS)
    assert hosts.with_entry(once, NAME, ADDRESS) == once
    entries = [line.split("#")[0].split() for line in once.splitlines()]
    assert any(entry[:1] == [ADDRESS] and NAME in entry for entry in entries)
    assert [line for line in outside if line and line not in once.splitlines()] == []
    assert ("10.0.0.9 depot" in text) == ("10.0.0.9 depot" in once)
    assert "10.0.0.5" not in once


def test_a_line_of_somebody_else_that_names_it_otherwise_is_refused():
    with pytest.raises(Failure, match=r"/etc/hosts has '10\.0\.0\.5 x api\.example\.org', but api\.example\.org must be 172\.27\.224\.1") as caught:
        hosts.with_entry("10.0.0.5 x api.example.org\n", NAME, ADDRESS)
    assert caught.value.kind is failure.HOSTS


def test_a_name_that_only_begins_like_it_is_another():
    assert f"{ADDRESS} {NAME}\n" in hosts.with_entry("10.0.0.5 api.example.org.evil\n", NAME, ADDRESS)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("remote vpn 1195 udp\ndev tun3\nsetenv-safe address 172.27.232.1/20\n", vpn.Facts("vpn", 1195, "udp", "tun3", "172.27.232.1")),
        ("proto tcp-client\nport 443\nremote vpn\n", vpn.Facts("vpn", 443, "tcp", "tun0", None)),
        ("remote first 1\nremote second 2\n", vpn.Facts("first", 1, "udp", "tun0", None)),
        ("remote vpn 1194 tcp4\n", vpn.Facts("vpn", 1194, "tcp", "tun0", None)),
        ("", vpn.Facts("", 1194, "udp", "tun0", None)),
    ],
)
def test_a_profile_says_where_it_dials_and_what_it_gets(profile, expected):
    assert vpn.facts(profile) == expected


@pytest.mark.parametrize(
    "line", ["dev tap", "dev-node x", "daemon", "log /tmp/x", "auth-user-pass", "auth-user-pass file", "management 0.0.0.0 7505", "up /x", "user nobody"]
)
def test_a_foreign_profile_may_not_say_how_it_is_run(line):
    text = vpn.adapted(f"client\n{line}\nremote vpn 1194\n", login=True)
    assert line not in text.splitlines()[:3]
    assert text.splitlines()[:2] == ["client", "remote vpn 1194"]
    assert "auth-user-pass /etc/openvpn/client/fpga-hybrid.login" in text.splitlines()


def test_inline_files_and_options_that_only_look_alike_stay():
    profile = "client\ndevice-is-no-option\n<ca>\ndev\nlog\n</ca>\n<connection>\nremote vpn 1194\n</connection>\ntls-version-min 1.2\n"
    text = vpn.adapted(profile, login=False)
    assert text.startswith(profile)
    assert "auth-user-pass" not in text
