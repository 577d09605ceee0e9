# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role openvpn_as puts on the VPN server and into Access Server, rendered by Ansible and taken by a double of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_as as access_server
from lab.openvpn_as import access_server_double
from lab.openvpn_as.access_server_double import AccessServer
from tests.unit.roles.rendered import ROOT, imports, render

ROLE = ROOT / "roles" / "openvpn_as"
PLAY = """
- hosts: on_prem
  gather_facts: false
  roles:
    - fpga.hybrid.cluster
  tasks:
    - ansible.builtin.set_fact:
        part: "{{ cluster_vpn_role }}"
    - ansible.builtin.include_role:
        name: fpga.hybrid.openvpn_as
        tasks_from: look
        public: true
      vars: {openvpn_as_connections: 4}
      when: cluster_vpn_role == 'openvpn_as'
    - ansible.builtin.set_fact:
        problems: "{{ __openvpn_as.problems }}"
      when: cluster_vpn_role == 'openvpn_as'
    - ansible.builtin.setup: {gather_subset: ["!all", "!min", distribution]}
      when: cluster_vpn_role == 'openvpn_as'
    - ansible.builtin.include_role:
        name: fpga.hybrid.openvpn_as
      vars: {openvpn_as_connections: 5}
      when: cluster_vpn_role == 'openvpn_as'
    - ansible.builtin.copy:
        content: "{{ result | to_json }}"
        dest: "{{ lookup('ansible.builtin.env', 'ROLE_RESULT') }}"
        mode: "0600"
      check_mode: false
      when: cluster_vpn_role == 'openvpn_as'
      vars:
        role_path: "{{ lookup('ansible.builtin.env', 'ROLE_PATH') }}"
        result:
          files: "{{ __openvpn_as_files + __openvpn_as_utility_files }}"
          settings: "{{ __openvpn_as_settings }}"
          parts: "{{ dict(groups.on_prem | zip(groups.on_prem | map('extract', hostvars, 'part'))) }}"
          unit: "{{ cluster_vpn_server_unit }}"
          problems: "{{ problems }}"
          installed: "{{ __openvpn_as_installed.packages }}"
"""
#: The tutorial's tables, in its own words.
TUTORIAL = {
    "Protocol": {"vpn.daemon.0.listen.protocol": "udp", "vpn.server.daemon.protocols": "udp", "vpn.server.daemon.enable": "false"},
    "Port number": {"vpn.daemon.0.listen.port": "1194", "vpn.server.daemon.udp.port": "1194"},
    "Should clients be able to communicate with each other on the VPN IP Network? (VPN Settings)": {"vpn.server.routing.private_access": "route"},
    "Allow access from these private subnets to all VPN client IP addresses and subnets": {"vpn.server.routing.allow_private_nets_to_clients": "true"},
    "Should client Internet traffic be routed through the VPN?": {"vpn.client.routing.reroute_gw": "false"},
    "Should clients be allowed to access network services on the VPN gateway IP address?": {"vpn.server.routing.gateway_access": "true"},
    "Do not alter clients' DNS server settings": {"vpn.client.routing.reroute_dns": "false"},
    "Should clients be able to communicate with each other on the VPN IP Network? (Advanced VPN)": {"vpn.client.routing.inter_client": "true"},
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Three hosts of a LAN of which one dials in, and pools of four instances; the licence has four connections."""
    folder = tmp_path_factory.mktemp("role")
    declared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "cluster_program_folder": str(folder / "opt"),
        "cluster_state_folder": str(folder / "etc"),
        "cluster_control_plane_endpoint": "api.example.org",
        "cluster_on_prem_addresses": "lan",
        "cluster_lan_networks": ["10.0.0.0/24", "10.0.1.0/24"],
        "cluster_vpn_backend": "openvpn_as",
        "cluster_vpn_endpoint": "vpn.example.org",
        "cluster_aws_region": "us-east-1",
        "cluster_node_pools": [
            {"name": "a", "max_size": 1, "instance_type": "f2.6xlarge", "availability_zones": ["us-east-1a"]},
            {"name": "b", "max_size": 3, "instance_type": "f2.12xlarge", "availability_zones": ["us-east-1a"]},
        ],
        "openvpn_as_settings": {"cs.https.port": 8943},
    }
    hosts = {
        "cp1": {"roles": ["control_plane", "vpn_server"], "vars": {"node_address": "10.0.0.10"}},
        "worker1": {"roles": ["worker"], "vars": {"node_address": "10.0.0.11"}},
        "worker2": {"roles": ["worker"], "vars": {"vpn_address": "172.27.224.12"}},
    }
    return folder, render(ROLE, PLAY, folder, hosts, declared)


@pytest.fixture
def server(tmp_path: Path, rendered: tuple[Path, dict[str, Any]]) -> AccessServer:
    """Access Server with the role's settings, as openvpn_as_config gives them."""
    double = AccessServer(tmp_path)
    double.install()
    wanted = access_server.checked(rendered[1]["settings"], double.config)
    for key, value in wanted.items():
        double.run(["sacli", "--key", key, "--value", str(value), "ConfigPut"])
    double.run(["sacli", "start"])
    return double


@pytest.mark.parametrize("row", TUTORIAL)
def test_each_row_of_the_tutorials_tables_is_set(server, row):
    assert {key: server.applied.get(key) for key in TUTORIAL[row]} == TUTORIAL[row]


def test_nodes_may_have_their_declared_addresses_and_the_server_the_first(server):
    for name, address in (("worker2", "172.27.224.12"), ("i-1", "172.27.232.1")):
        for key, value in {"prop_autologin": "true", "conn_ip": address}.items():
            server.run(["sacli", "--user", name, "--key", key, "--value", value, "UserPropPut"])
        assert server.connect(name) == address
    assert server.applied["vpn.daemon.0.client.network"] == "172.27.224.0"


def test_what_the_user_sets_wins_and_networks_of_the_lan_are_private_ones(rendered):
    settings = rendered[1]["settings"]
    assert settings["cs.https.port"] == 8943
    assert [settings[f"vpn.server.routing.private_network.{number}"] for number in (0, 1)] == ["10.0.0.0/24", "10.0.1.0/24"]


def test_only_the_server_is_access_servers_and_clients_are_as_always(rendered):
    assert rendered[1]["parts"] == {"cp1": "openvpn_as", "worker1": "openvpn", "worker2": "openvpn"}
    assert rendered[1]["unit"] == "openvpnas.service"


def test_preflight_counts_who_dials_in_and_the_pools_largest_size(rendered):
    """worker1 has its place in the LAN and needs no connection."""
    (problem,) = rendered[1]["problems"]
    assert problem["host"] == "cp1"
    assert "4 connections" in problem["found"]
    assert problem["expected"].startswith("at least 5: 1 on-prem hosts that dial in, and 4 instances")


def test_a_check_of_a_fresh_host_goes_through_the_whole_role(rendered):
    """The play has included it: no task asks what is not there yet."""
    assert set(rendered[1]["installed"]) == {"openvpn-as", "python3-cryptography"}


def test_what_is_installed_runs_by_itself(rendered, server, tmp_path):
    _folder, result = rendered
    sacli = tmp_path / "sacli"
    sacli.write_text(f'#!/bin/sh\nLAB_OPENVPN_AS_ROOT={server.root} exec {sys.executable} {access_server_double.__file__} sacli "$@"\n')
    sacli.chmod(0o755)
    for file in result["files"]:
        path = Path(file["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["content"])
    settings = next(Path(file["path"]) for file in result["files"] if file["path"].endswith("authority.json"))
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "sacli": str(sacli)}))
    (settings.parent / "issued").mkdir(exist_ok=True)
    program = next(file["path"] for file in result["files"] if file["path"].endswith("bin/fpga-hybrid-vpn"))
    words = ["--folder", str(settings.parent), "issue", "worker2", "172.27.224.12"]
    done = subprocess.run([sys.executable, "-I", program, *words], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["address"] == "172.27.224.12"


def test_the_program_gets_every_utility_that_it_imports():
    shipped = {name.removesuffix(".py") for name in ("_command.py", "_openvpn_as.py", "_problems.py")}
    assert str(sorted(shipped)).replace("'", "").strip("[]") in yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["__openvpn_as_utilities"].replace(
        "'", ""
    )
    needed, seen = imports(ROLE / "files" / "fpga_hybrid_vpn_as.py")[0], set[str]()
    while needed - seen:
        name = (needed - seen).pop()
        seen.add(name)
        needed |= imports(ROOT / "plugins" / "module_utils" / f"{name}.py")[0]
    assert seen == shipped


def test_reset_takes_access_server_out_before_the_clients_role_takes_the_folder():
    roles = yaml.safe_load((ROOT / "roles" / "reset" / "vars" / "main.yml").read_text())["__reset_roles"]
    assert roles.index("keeper") < roles.index("openvpn_as") < roles.index("openvpn")
