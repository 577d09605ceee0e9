# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of the VPN verify looks for on which host, and where it takes hosts to stand."""

from __future__ import annotations

import json

import pytest

from tests.unit.site import ROOT, play

PLAY = {
    "hosts": "on_prem",
    "connection": "local",
    "gather_facts": False,
    "vars_files": [str(ROOT / "roles" / "verify" / "vars" / "main.yml")],
    "roles": ["fpga.hybrid.cluster"],
    "tasks": [
        {"ansible.builtin.copy": {"content": f"{{{{ {name} }}}}", "dest": f"{{{{ seen }}}}/{{{{ inventory_hostname }}}}.{name}", "mode": "0600"}}
        for name in ("__verify_vpn", "__verify_places")
    ],
}


@pytest.mark.parametrize(
    ("mode", "worker", "expected"),
    [("vpn", {}, ("client", "172.27.224.12")), ("lan", {"vpn_address": "172.27.224.12"}, ("client", "172.27.224.12")), ("lan", {}, ("routed", ""))],
    ids=["vpn mode", "lan mode, at another site", "lan mode, in the room"],
)
def test_every_host_has_a_line_that_fits_its_part(mode, worker, expected, tmp_path):
    lan = {"cluster_on_prem_addresses": "lan", "cluster_lan_networks": ["10.0.0.0/24"]} if mode == "lan" else {}
    hosts = {"cp1": {"node_address": "10.0.0.10"}, "worker1": worker or {"node_address": "10.0.0.11"}} if mode == "lan" else None
    (tmp_path / "play.yml").write_text(json.dumps([PLAY]))
    done = play(tmp_path, tmp_path / "play.yml", {"cluster_state_folder": str(tmp_path), "seen": str(tmp_path), **lan}, hosts=hosts)
    assert done.returncode == 0, done.stdout + done.stderr
    server, client = (json.loads((tmp_path / f"{host}.__verify_vpn").read_text()) for host in ("cp1", "worker1"))
    assert (server["side"], server["address"]) == ("server", "172.27.224.1")
    assert (client["side"], client["address"]) == expected
    assert (client["peer"], client["server"], client["port"]) == ("172.27.224.1", "cp1", 1194)
    places = json.loads((tmp_path / "worker1.__verify_places").read_text())
    assert places == {host: found.get("node_address", "127.0.0.1") for host, found in (hosts or {"cp1": {}, "worker1": {}}).items()}
