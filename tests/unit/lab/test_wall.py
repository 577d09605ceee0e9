# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wall's table: what it lets through is exactly the endpoints, whatever those are."""

from __future__ import annotations

import re
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.network import netavark, wall
from lab.settings import INNER_NETWORKS, NETWORKS, ONPREM, SITE2, VPC, LabError

BRIDGES = {"onprem": "br-a", "site2": "br-b", "vpc": "br-c"}


def chain(text: str, name: str) -> list[str]:
    """The rules of one chain, as nft would read them."""
    body = re.search(rf"  chain {name} {{\n(.*?)\n  }}", text, re.DOTALL)
    assert body, text
    return [line.strip() for line in body[1].splitlines() if not line.strip().startswith("type ")]


endpoints = st.lists(
    st.builds(
        lambda networks, outer, host, inner: wall.Endpoint(networks[0], outer, networks[1].subnet[host], inner),
        st.permutations(list(NETWORKS.values())),
        st.integers(1, 65535),
        st.integers(3, 254),
        st.integers(1, 65535),
    ),
    max_size=5,
)


@given(endpoints)
def test_each_endpoint_is_one_hole_and_nothing_else_passes_between_networks(given_endpoints):
    text = wall.render(BRIDGES, given_endpoints)
    holes = [rule for rule in chain(text, "leaving") if rule.endswith("accept") and "udp" in rule]
    wanted = {(e.network.name, e.server, e.server_port) for e in given_endpoints}
    assert len(holes) == 2 * len({(network, server, port) for network, server, port in wanted})
    assert all("ct status dnat" in rule for rule in holes)
    rest = [rule for rule in chain(text, "leaving") if rule.endswith("accept") and "udp" not in rule]
    assert rest == [f'iifname "{bridge}" oifname "{bridge}" accept' for _, bridge in sorted(BRIDGES.items())]


@given(endpoints)
def test_what_no_rule_lets_through_is_counted_and_dropped(given_endpoints):
    rules = chain(wall.render(BRIDGES, given_endpoints), "leaving")
    assert rules[-2:] == ['oifname { "br-a", "br-b", "br-c" } counter name between drop', "counter name outside drop"]


@given(endpoints)
def test_loading_the_table_twice_replaces_it_in_one_step(given_endpoints):
    text = wall.render(BRIDGES, given_endpoints)
    assert text.startswith(f"table inet {wall.TABLE}\ndelete table inet {wall.TABLE}\n")
    assert text == wall.render(BRIDGES, list(reversed(given_endpoints)))


@given(endpoints)
def test_an_endpoint_that_is_written_reads_back_the_same(given_endpoints):
    assert [wall.Endpoint.parse(str(e)) for e in given_endpoints] == given_endpoints


def test_vpn_datagrams_of_both_other_sites_lead_to_the_control_plane():
    rules = chain(wall.render(BRIDGES, wall.DEFAULT_ENDPOINTS), "endpoints")
    assert rules == [
        'iifname "br-b" ip daddr 10.203.20.1 udp dport 1194 dnat ip to 10.203.10.11:1194',
        'iifname "br-c" ip daddr 10.203.30.1 udp dport 1194 dnat ip to 10.203.10.11:1194',
    ]


def test_nothing_from_or_for_a_network_of_the_lab_leaves_by_another_interface():
    rules = chain(wall.render(BRIDGES, ()), "postrouting")
    for direction in ("saddr", "daddr"):
        (guard,) = [rule for rule in rules if f"ip {direction}" in rule and rule.endswith("counter name astray drop")]
        assert all(str(network) in guard for network in [*INNER_NETWORKS.values(), *(n.subnet for n in NETWORKS.values())])


@pytest.mark.parametrize("text", ["site2:1194", "nowhere:1194=10.203.10.11:1194", "site2:x=10.203.10.11:1194", "site2:1194=name:1194", ""])
def test_an_endpoint_that_cannot_be_read_says_what_one_looks_like(text):
    with pytest.raises(LabError, match=r"for example site2:1194=10\.203\.10\.11:1194"):
        wall.Endpoint.parse(text)


@pytest.mark.parametrize(("network", "server"), [(SITE2, "10.203.20.13"), (VPC, "192.0.2.1"), (ONPREM, "10.203.10.11")])
def test_an_endpoint_leads_into_another_network_of_the_lab(network, server):
    with pytest.raises(LabError, match="must be in another network"):
        wall.Endpoint(network, 1194, IPv4Address(server))


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setattr(wall, "STATE", tmp_path)
    return tmp_path


def test_an_added_endpoint_takes_precedence_over_the_labs_own_until_it_is_removed(state):
    scratch = wall.Endpoint.parse("site2:1194=10.203.10.100:1194")
    wall.add_endpoint(scratch)
    assert {str(e) for e in wall.endpoints()} == {"site2:1194=10.203.10.100:1194", "vpc:1194=10.203.10.11:1194"}
    wall.remove_endpoint(scratch)
    assert wall.endpoints() == list(wall.DEFAULT_ENDPOINTS)


NETAVARK = [
    {"chain": {"family": "ip", "table": "nat", "name": "POSTROUTING", "handle": 1, "hook": "postrouting", "policy": "accept"}},
    {"chain": {"family": "ip", "table": "nat", "name": "NETAVARK-1234", "handle": 2}},
    {"rule": {"family": "ip", "table": "nat", "chain": "POSTROUTING", "handle": 3, "expr": [{"counter": {}}, {"jump": {"target": "NETAVARK-1234"}}]}},
    {"rule": {"family": "ip", "table": "nat", "chain": "NETAVARK-1234", "handle": 4, "expr": [{"masquerade": None}]}},
]
FOREIGN_RULE = {"rule": {"family": "ip", "table": "nat", "chain": "POSTROUTING", "handle": 9, "expr": [{"jump": {"target": "DOCKER"}}]}}


def test_what_podman_leaves_in_the_firewall_goes_with_its_empty_table():
    assert netavark.rests(NETAVARK, set()) == [
        "delete rule ip nat POSTROUTING handle 3",
        "flush chain ip nat NETAVARK-1234",
        "delete chain ip nat NETAVARK-1234",
        "delete table ip nat",
    ]


@pytest.mark.parametrize(
    ("extra", "before"),
    [
        ([FOREIGN_RULE], set()),
        ([], {("ip", "nat")}),
        ([{"chain": {"family": "ip", "table": "nat", "name": "DOCKER", "handle": 8}}], set()),
        ([{"chain": {"family": "ip", "table": "nat", "name": "INPUT", "handle": 8, "hook": "input", "policy": "drop"}}], set()),
    ],
    ids=["a rule of somebody else", "the table was there before", "a chain of somebody else", "a policy of somebody else"],
)
def test_a_table_that_is_not_only_podmans_stays(extra, before):
    commands = netavark.rests([*NETAVARK, *extra], before)
    assert not any(command.startswith("delete table") or "DOCKER" in command or "handle 9" in command for command in commands)


def test_a_firewall_without_podman_is_left_alone():
    assert netavark.rests([NETAVARK[0], FOREIGN_RULE], set()) == []


def test_a_datagram_to_an_endpoint_that_leads_nowhere_is_dropped_before_its_flow_is_remembered():
    """Refused later, the sender's flow would be remembered without the endpoint, and stay so when the endpoint is opened."""
    text = wall.render(BRIDGES, ())
    assert "type filter hook input priority filter - 10" in text
    assert chain(text, "input") == ['iifname { "br-a", "br-b", "br-c" } meta l4proto udp ct state new counter name closed drop']
