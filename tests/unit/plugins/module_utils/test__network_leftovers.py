# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking Kubernetes' and Calico's rules out, and nobody else's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _network_leftovers as leftovers
from tests.unit.network_namespaces import namespace

ROOT = Path(__file__).resolve().parents[4]
OURS = st.sampled_from(["KUBE-SERVICES", "KUBE-SVC-ABC", "cali-FORWARD"])
OTHERS = st.sampled_from(["DOCKER", "DOCKER-USER", "ufw-before-input", "FORWARD", "my-KUBE-ish", "california"])


@st.composite
def saved(draw):
    """An iptables-save of one table, the lines that are ours, and the lines that are not."""
    ours, others = draw(st.sets(OURS)), draw(st.sets(OTHERS))
    lines, kept, gone = ["*filter", *(f":{chain} - [0:0]" for chain in sorted(ours | others))], [], []
    targets = st.sampled_from(sorted(ours | others | {"ACCEPT"}))
    for chain in sorted(ours | others):
        for number in range(draw(st.integers(0, 3))):
            target = draw(targets)
            rule = f'{chain} -p tcp -m comment --comment "number {number}" -j {target}'
            lines.append(f"-A {rule}")
            if chain not in ours:
                (gone if target in ours else kept).append(rule)
    return "\n".join([*lines, "COMMIT"]), ours, gone, kept


@given(saved())
def test_only_our_chains_and_the_ways_into_them_go(example):
    text, ours, gone, kept = example
    found = leftovers.find_in_tables(text)
    assert found.rules.get("filter", []) == gone
    assert set(found.chains.get("filter", [])) == ours
    restore = found.restore()
    assert not any(f"-D {rule}\n" in restore for rule in kept if rule not in gone)
    assert bool(found) == bool(ours or gone)


def test_calicos_rules_without_a_jump_are_known_by_their_comment():
    assert leftovers.is_ours('FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m comment --comment "Policy explicitly accepted packet." -j ACCEPT')
    assert not leftovers.is_ours('INPUT -m comment --comment "cali: our own note" -j ACCEPT')
    assert not leftovers.is_ours('INPUT -m comment --comment "before -j KUBE-SERVICES" -j ACCEPT')


def test_devices_by_their_exact_names():
    names = ["lo", "tun0", "docker0", "vxlan.calico", "cali0123456789a", "california0", "kube-ipvs0", "vxlan0", "caliper"]
    assert leftovers.find_devices([{"ifname": name} for name in names]) == ["cali0123456789a", "kube-ipvs0", "vxlan.calico"]


def test_only_calicos_blackholes():
    routes = [
        {"type": "blackhole", "dst": "10.244.1.0/26", "protocol": "80"},
        {"type": "blackhole", "dst": "192.0.2.0/24", "protocol": "static"},
        {"dst": "10.244.2.0/26", "protocol": "80", "dev": "vxlan.calico"},
    ]
    assert leftovers.find_routes(routes) == ["10.244.1.0/26"]


def test_kube_proxys_own_nftables_tables():
    assert leftovers.find_nft_tables("table inet filter\ntable ip kube-proxy\ntable ip filter\n") == [("ip", "kube-proxy")]


@pytest.fixture
def host():
    """A network namespace that looks like a host after kubeadm reset, with an administrator's own rules."""
    with namespace("left") as name:

        def inside(*command: str) -> str:
            done = subprocess.run(["ip", "netns", "exec", name, *command], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout

        try:
            inside("iptables", "-N", "DOCKER")
        except AssertionError as error:
            pytest.skip(f"no iptables in network namespaces here: {error}")
        inside("ip", "link", "set", "lo", "up")
        inside("iptables", "-A", "FORWARD", "-o", "docker0", "-j", "DOCKER")
        inside("iptables", "-A", "FORWARD", "-s", "192.0.2.0/24", "-j", "DROP")
        yield inside


def test_a_real_host_gets_back_exactly_what_it_had(host):
    def rules() -> list[str]:
        return [line for line in host("iptables-save").splitlines() if not line.startswith("#")]

    def run(check: bool) -> dict:
        arguments = {"ANSIBLE_MODULE_ARGS": {"_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp"}}
        module = ["env", f"PYTHONPATH={ROOT / 'collections'}", sys.executable, "-c", MODULE, json.dumps(arguments)]
        return json.loads(host(*module).strip().splitlines()[-1])

    before = rules()
    host("iptables", "-N", "KUBE-SERVICES")
    host("iptables", "-N", "KUBE-SVC-X")
    host("iptables", "-A", "KUBE-SERVICES", "-j", "KUBE-SVC-X")
    host("iptables", "-I", "FORWARD", "2", "-m", "comment", "--comment", "kubernetes forwarding rules", "-j", "KUBE-SERVICES")
    host("iptables", "-A", "FORWARD", "-m", "comment", "--comment", "cali:S93hcgKJrXEqnTfs", "-m", "mark", "--mark", "0x10000/0x10000", "-j", "ACCEPT")
    host("ip", "route", "add", "blackhole", "10.244.1.0/26", "proto", "80")
    middle = rules()
    assert run(check=True)["changed"]
    assert rules() == middle, "check mode removed something"
    result = run(check=False)
    assert rules() == before
    assert host("ip", "route", "show", "type", "blackhole") == ""
    assert "route blackhole 10.244.1.0/26" in result["removed"]
    assert not run(check=False)["changed"]


MODULE = """
import sys, runpy
sys.argv = ["module", sys.argv[1]]
from ansible_collections.fpga.hybrid.plugins.modules import network_leftovers
network_leftovers.main()
"""
