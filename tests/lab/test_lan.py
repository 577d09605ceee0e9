# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`cluster_on_prem_addresses: lan`: on-prem nodes keep their LAN addresses, routes go both ways, the same table passes."""

from __future__ import annotations

import pytest

from tests.lab.site import ROOT, lab, on, playbook, verify

pytestmark = [pytest.mark.lab, pytest.mark.slow]

NETWORKS = {"lan-cp": ("onprem", "10.203.10.151"), "lan-near": ("onprem", "10.203.10.152"), "lan-far": ("site2", "10.203.20.153")}
FIRST_RUN_TASKS = 45
ENDPOINT = "site2:1195=10.203.10.151:1194"
DECLARED = (
    "-i", str(ROOT / "tests" / "lab" / "lan" / "lan.hybrid.yml"),
    "-e", "cluster_on_prem_addresses=lan",
    "-e", "kubeadm_controller_kubeconfig=",
)  # fmt: skip


@pytest.fixture(scope="module")
def lan():
    for name, (network, address) in NETWORKS.items():
        lab("host", "add", name, "--network", network, "--address", address)
    lab("endpoint", "add", ENDPOINT)
    yield
    lab("endpoint", "remove", ENDPOINT)
    for name in NETWORKS:
        lab("host", "remove", name)


def test_a_cluster_on_lan_addresses_passes_the_same_table(lan):
    first = playbook("site", *DECLARED).check()
    assert first.started("lan-far") <= FIRST_RUN_TASKS
    assert verify(*DECLARED)["failed"] == 0
    columns = "jsonpath='{range .items[*]}{.metadata.name}={.status.addresses[0].address} {end}'"
    addresses = on("lan-cp", f"kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes -o {columns}")
    assert addresses.split() == ["lan-cp=10.203.10.151", "lan-far=172.27.224.53", "lan-near=10.203.10.152"]
    assert playbook("site", *DECLARED).check().changed() == {}


def test_the_site_survives_without_the_vpn(lan):
    """The VPN server is stopped: nodes on the LAN stay Ready and reach each other's pods, which `vpn` mode cannot give."""
    on("lan-cp", "systemctl stop openvpn-server@fpga-hybrid")
    try:
        report = verify(*DECLARED, "--limit", "lan-cp,lan-near")
    finally:
        on("lan-cp", "systemctl start openvpn-server@fpga-hybrid")
    passed = {(line["check"], line["node"], line["peer"]) for line in report["lines"] if line["ok"]}
    assert {
        ("node Ready", "lan-cp", ""),
        ("node Ready", "lan-near", ""),
        ("DF ping", "lan-cp", "lan-near"),
        ("DF ping", "lan-near", "lan-cp"),
        ("Service", "lan-cp", "lan-near"),
        ("Service", "lan-near", "lan-cp"),
        ("DNS", "lan-near", ""),
        ("logs", "lan-near", ""),
    } <= passed, report["output"][-6000:]
    assert ("VPN", "lan-cp", "") not in passed
