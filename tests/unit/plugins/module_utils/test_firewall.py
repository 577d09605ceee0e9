# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What refuses packets on a host, and what has to stand before it. The outputs are those of the real programs on Debian 12 and 13."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _firewall as fw
from ansible_collections.fpga.hybrid.plugins.module_utils._firewall import Chain, FirewallError, Rule

VPN = Rule("in", protocol="udp", ports=(1194,))
NODES = Rule("in", source="172.27.224.0/20", protocol="tcp", ports=(6443, 10250))
PODS = Rule("forward", source="10.244.0.0/16")
RULES = (VPN, NODES, PODS)

network = st.sampled_from([None, "0.0.0.0/0", "10.244.0.0/16", "10.244.3.7/16", "172.27.224.0/255.255.240.0", "10.0.0.1", "10.0.0.1/32"])
rules = st.builds(
    lambda direction, source, destination, service: Rule.parse(
        {"direction": direction, "source": source, "destination": destination, "protocol": service[0], "ports": service[1]}
    ),
    st.sampled_from(["in", "forward"]),
    network,
    network,
    st.sampled_from([(None, []), ("tcp", [6443, 5473, 10250]), ("tcp", [80, 22, 80]), ("udp", [1194]), ("udp", [])]),
)


def apply_iptables(chains, steps):
    """What `iptables-restore --noflush` makes of the chains."""
    chains = {name: Chain(chain.policy, chain.rules) for name, chain in chains.items()}
    for step in steps:
        for line in step.stdin.splitlines():
            words = line.split(" ", 2)
            name = words[0][1:] if line.startswith(":") else words[1] if len(words) > 1 else ""
            if line.startswith(":"):
                chains[name] = Chain(None, ())
            elif words[0] == "-A":
                chains[name] = Chain(chains[name].policy, (*chains[name].rules, words[2]))
            elif words[0] == "-I":
                chains[name] = Chain(chains[name].policy, (words[2].split(" ", 1)[1], *chains[name].rules))
            elif words[0] == "-D":
                chains[name] = Chain(chains[name].policy, tuple(rule for rule in chains[name].rules if rule != words[2]))
            elif words[0] == "-F":
                chains[name] = Chain(None, ())
            elif words[0] == "-X":
                del chains[name]
    return chains


DOCKER = """-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -j RETURN
"""
CLUSTER = """-P INPUT ACCEPT
-P FORWARD ACCEPT
-N KUBE-FIREWALL
-N cali-INPUT
-A INPUT -m comment --comment "cali:Cz_u1IQiXIMmKD4c" -j cali-INPUT
-A INPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -j DROP
-A cali-INPUT -j DROP
"""
REFUSING = """-P INPUT ACCEPT
-P FORWARD ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -j REJECT --reject-with icmp-port-unreachable
"""


def test_dockers_forward_drop_gets_our_chain_in_dockers_own_place_for_it():
    (step,) = fw.plan_iptables(fw.parse_iptables(DOCKER), RULES)
    assert "-I DOCKER-USER 1 -j FPGA-HYBRID-FWD" in step.stdin
    assert "INPUT" not in step.stdin


def test_what_the_cluster_itself_refuses_is_no_firewall():
    assert fw.plan_iptables(fw.parse_iptables(CLUSTER), RULES) == []


def test_a_refusing_rule_counts_like_a_policy():
    (step,) = fw.plan_iptables(fw.parse_iptables(REFUSING), RULES)
    assert "-I INPUT 1 -j FPGA-HYBRID-IN" in step.stdin
    assert f"-A FPGA-HYBRID-IN {NODES.iptables()}" in step.stdin
    assert "FWD" not in step.stdin


@pytest.mark.parametrize("text", [DOCKER, REFUSING])
@given(st.lists(rules, min_size=1, max_size=4, unique=True))
def test_after_the_plan_there_is_nothing_to_do_and_it_can_be_taken_out(text, wanted):
    chains = fw.parse_iptables(text)
    done = apply_iptables(chains, fw.plan_iptables(chains, wanted))
    assert fw.plan_iptables(done, wanted) == []
    assert apply_iptables(done, fw.unplan_iptables(done)) == chains


def test_a_jump_that_came_to_stand_behind_the_refusal_is_moved_to_the_front():
    chains = fw.parse_iptables(REFUSING)
    done = apply_iptables(chains, fw.plan_iptables(chains, RULES))
    done["INPUT"] = Chain("ACCEPT", (*done["INPUT"].rules[1:], done["INPUT"].rules[0]))
    mended = apply_iptables(done, fw.plan_iptables(done, RULES))
    assert mended["INPUT"].rules[0] == "-j FPGA-HYBRID-IN"
    assert mended["INPUT"].rules.count("-j FPGA-HYBRID-IN") == 1


def nft(*items):
    return json.dumps({"nftables": [{"metainfo": {}}, *items]})


def base(hook="input", policy="drop", table="filter", name="input", family="inet"):
    return {"chain": {"family": family, "table": table, "name": name, "type": "filter", "hook": hook, "prio": 0, "policy": policy}}


def rule(*expressions, chain="input", comment=None, handle=1):
    return {
        "rule": {"family": "inet", "table": "filter", "chain": chain, "handle": handle, "expr": list(expressions), **({"comment": comment} if comment else {})}
    }


@pytest.mark.parametrize(
    "items",
    [
        [],
        [base(policy="accept")],
        [base(hook="output")],
        [base(table="f2b-table", name="f2b-chain")],
        [base(table="cali_filter")],
        [base(name="INPUT", family="ip")],
        [base(family="ip6")],
    ],
)
def test_chains_that_are_not_ours_to_deal_with(items):
    assert fw.parse_nft(nft(*items)) == []


@pytest.mark.parametrize("items", [[base()], [base(policy="accept"), rule({"accept": None}), rule({"counter": {}}, {"drop": None})]])
def test_refusing_chains_get_ours_in_front(items):
    (step,) = fw.plan_nft(fw.parse_nft(nft(*items)), RULES)
    assert 'insert rule inet filter input jump fpga_hybrid_input comment "fpga-hybrid"' in step.stdin
    assert f'add rule inet filter fpga_hybrid_input udp dport {{ 1194 }} accept comment "{VPN.mark()}"' in step.stdin
    assert "forward" not in step.stdin


def ours(marks):
    chain = {"chain": {"family": "inet", "table": "filter", "name": "fpga_hybrid_input"}}
    return [chain, *(rule({"accept": None}, chain="fpga_hybrid_input", comment=mark) for mark in marks)]


MARKS = [VPN.mark(), NODES.mark()]
JUMP = rule({"jump": {"target": "fpga_hybrid_input"}}, comment="fpga-hybrid", handle=7)


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([base(), JUMP, *ours(MARKS)], []),
        ([base(), *ours(MARKS)], ["nftables: inet filter input asks it first"]),
        ([base(), JUMP, *ours(MARKS[:1])], ["nftables: chain inet filter fpga_hybrid_input mended"]),
        ([base(), rule({"drop": None}), JUMP, *ours(MARKS)], ["nftables: inet filter input asks it first"]),
    ],
)
def test_exactly_what_is_missing_is_put_back(items, says):
    assert [step.says for step in fw.plan_nft(fw.parse_nft(nft(*items)), RULES)] == says


def test_nft_is_cleaned_of_ours_and_of_nothing_else():
    (step,) = fw.unplan_nft(nft(base(), rule({"accept": None}, handle=3), JUMP, *ours(MARKS)))
    assert step.stdin == ("delete rule inet filter input handle 7\nflush chain inet filter fpga_hybrid_input\ndelete chain inet filter fpga_hybrid_input\n")
    assert fw.unplan_nft(nft(base())) == []


#: What was asked for, and what ufw 0.36.2 wrote into user.rules for the command that Rule.ufw makes of it.
WRITTEN_BY_UFW = [
    (
        {"direction": "in", "source": "172.27.224.0/20", "protocol": "tcp", "ports": [6443, 5473, 10250]},
        "allow tcp 5473,6443,10250 0.0.0.0/0 any 172.27.224.0/20 in",
    ),
    ({"direction": "in", "source": "10.0.0.11/32", "protocol": "udp", "ports": [4789]}, "allow udp 4789 0.0.0.0/0 any 10.0.0.11 in"),
    ({"direction": "in", "source": "10.1.2.3/16", "protocol": "tcp", "ports": [10250]}, "allow tcp 10250 0.0.0.0/0 any 10.1.0.0/16 in"),
    ({"direction": "in", "source": "0.0.0.0/0", "protocol": "udp", "ports": [1194]}, "allow udp 1194 0.0.0.0/0 any 0.0.0.0/0 in"),
    ({"direction": "in", "source": "10.244.0.0/16"}, "allow any any 0.0.0.0/0 any 10.244.0.0/16 in"),
    ({"direction": "in", "source": "10.7.0.0/16", "destination": "10.8.0.1/32", "protocol": "udp"}, "allow udp any 10.8.0.1 any 10.7.0.0/16 in"),
    ({"direction": "forward", "source": "10.0.0.9/32"}, "route:allow any any 0.0.0.0/0 any 10.0.0.9 in"),
    ({"direction": "forward", "destination": "10.244.0.0/16"}, "route:allow any any 10.244.0.0/16 any 0.0.0.0/0 in"),
    ({"direction": "forward", "source": "10.0.0.0/8", "protocol": "tcp", "ports": [443, 80]}, "route:allow tcp 80,443 0.0.0.0/0 any 10.0.0.0/8 in"),
]
OURS = f"comment={b'fpga-hybrid'.hex()}"


@pytest.mark.parametrize(("asked", "kept"), WRITTEN_BY_UFW)
def test_a_rule_is_recognised_in_what_ufw_wrote_of_it(asked, kept):
    assert fw.plan_ufw(f"### tuple ### {kept} {OURS}\n", [Rule.parse(asked)]) == []


@pytest.mark.parametrize(("asked", "kept"), WRITTEN_BY_UFW)
def test_a_rule_that_is_no_longer_wanted_is_deleted_as_it_was_made(asked, kept):
    (step,) = fw.plan_ufw(f"### tuple ### {kept} {OURS}\n", [])
    assert step.command == tuple(Rule.parse(asked).ufw("delete", "allow"))


USER_RULES = f"""### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in
-A ufw-user-input -p tcp --dport 22 -j ACCEPT

### tuple ### allow tcp 5473,10250 0.0.0.0/0 any 172.27.224.0/20 in {OURS}
### tuple ### route:allow any any 10.244.0.0/16 any 0.0.0.0/0 in {OURS}
### tuple ### allow udp 53 0.0.0.0/0 any 0.0.0.0/0 in comment=6d79
"""


def test_ufw_gets_what_is_missing_and_loses_what_was_ours_and_is_no_longer_wanted():
    wanted = [Rule("in", "172.27.224.0/20", None, "tcp", (5473, 10250)), VPN]
    assert [step.command for step in fw.plan_ufw(USER_RULES, wanted)] == [
        ("ufw", "allow", "proto", "udp", "from", "any", "to", "any", "port", "1194", "comment", "fpga-hybrid"),
        ("ufw", "route", "delete", "allow", "from", "any", "to", "10.244.0.0/16"),
    ]


@pytest.mark.parametrize("comment", ["", " comment=6d79"])
def test_the_same_rule_of_somebody_else_does_as_well_and_stays_theirs(comment):
    theirs = f"### tuple ### allow udp 1194 0.0.0.0/0 any 0.0.0.0/0 in{comment}\n"
    assert fw.plan_ufw(theirs, [VPN]) == []
    assert fw.plan_ufw(theirs, []) == []


def test_ufw_is_not_asked_for_icmp_which_it_takes_no_rules_for():
    """Its before.rules let echo through already."""
    icmp = Rule.parse({"direction": "in", "source": "172.27.224.0/20", "protocol": "icmp"})
    assert fw.plan_ufw("", [icmp]) == []
    assert [step.command[0:3] for step in fw.plan_ufw("", [icmp, VPN])] == [("ufw", "allow", "proto")]


@pytest.mark.parametrize("protocol", [None, "icmp"])
def test_ports_of_a_protocol_without_ports_are_refused(protocol):
    with pytest.raises(FirewallError, match="ports need a protocol that has them"):
        Rule.parse({"direction": "in", "protocol": protocol, "ports": [8]})


@given(rules)
def test_a_rule_kept_by_ufw_is_recognised_and_can_be_deleted(one):
    assert fw.plan_ufw(f"### tuple ### {one.ufw_tuple()} {OURS}\n", [one]) == []
    assert fw.ufw_rule(one.ufw_tuple()) == one


@pytest.mark.parametrize(
    ("asked", "printed"),
    [
        (
            {"direction": "in", "source": "10.1.2.3/16", "protocol": "tcp", "ports": [80, 22]},
            "-s 10.1.0.0/16 -p tcp -m multiport --dports 22,80 -m comment --comment fpga-hybrid -j ACCEPT",
        ),
        (
            {"direction": "in", "source": "10.0.0.9", "destination": "10.0.0.1/32", "protocol": "udp", "ports": [4789]},
            "-s 10.0.0.9/32 -d 10.0.0.1/32 -p udp -m udp --dport 4789 -m comment --comment fpga-hybrid -j ACCEPT",
        ),
        ({"direction": "in", "source": "0.0.0.0/0", "protocol": "icmp"}, "-p icmp -m comment --comment fpga-hybrid -j ACCEPT"),
    ],
)
def test_a_rule_is_recognised_in_what_iptables_printed_of_it(asked, printed):
    kept = f"-P INPUT DROP\n-N FPGA-HYBRID-IN\n-A INPUT -j FPGA-HYBRID-IN\n-A FPGA-HYBRID-IN {printed}\n"
    assert fw.plan_iptables(fw.parse_iptables(kept), [Rule.parse(asked)]) == []


@pytest.mark.parametrize("bad", ["10.0.0.300", "2001:db8::/32", "10.0.0.0/33", "node1"])
def test_what_is_no_address_is_refused_with_the_variable(bad):
    with pytest.raises(FirewallError, match=r"expected an IPv4 network or address\. Mend host_firewall_networks"):
        Rule.parse({"direction": "in", "source": bad})


@pytest.mark.parametrize(("conf", "enabled"), [("ENABLED=yes\n", True), ("# ENABLED=yes\nENABLED=no\n", False), ("", False)])
def test_whether_ufw_is_active(conf, enabled):
    assert fw.ufw_enabled(conf) is enabled


def test_ports_need_a_protocol():
    with pytest.raises(FirewallError, match="ports need a protocol"):
        Rule.parse({"direction": "in", "ports": [1]})


def test_a_step_that_fails_says_what_it_was_to_do():
    plan = fw.Plan((fw.Step("chain made", ("nft", "-f", "-"), "x"),), False, ())
    with pytest.raises(FirewallError, match=r"`nft -f -` failed: no such table\. It was to do: chain made"):
        fw.carry_out(plan, lambda command, stdin: (1, "", "no such table"))


def test_the_program_for_the_start_needs_nothing_of_ansible():
    with open(fw.__file__, encoding="utf-8") as file:
        assert not [line for line in file if line.startswith(("from ansible", "import ansible"))]
