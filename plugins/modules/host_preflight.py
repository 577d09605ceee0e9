#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: can this host be a node of the cluster?"""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_preflight
short_description: Can this host be a node of the cluster
version_added: 0.9.0
description:
  - Looks once at everything that could stand in the way, and returns all that does. Changes nothing.
  - Never fails, because role C(preflight) reports all hosts together.
  - Looks at operating system, kernel, CPU, memory, disk, swap, cgroups, C(/dev/net/tun), routes, Docker's networks, ports, clock, mirrors,
    container engines, the hosts file, the administrators' users, the AWS keys' files, the tunnel's device, what part of the VPN the host was until now, and
    whether the host is a node of another cluster, or a control plane that we did not make, or one whose cluster cannot become what is declared.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  host:
    description: Name of the host, for the messages.
    type: str
    required: true
  control_plane:
    description: Whether it is the control plane.
    type: bool
    default: false
  node:
    description: Whether it is to be a node at all. A host that only serves the VPN may belong to any cluster.
    type: bool
    default: true
  vpn_server:
    description: Whether it is the VPN server.
    type: bool
    default: false
  vpn_member:
    description: Whether it takes part in the VPN.
    type: bool
    default: false
  cluster_name:
    description: Name of the cluster.
    type: str
    required: true
  cluster_id:
    description: The cluster's id; empty before the first run.
    type: str
    default: ""
  endpoint:
    description: The control plane's endpoint, with port.
    type: str
    required: true
  endpoint_address:
    description: The address that the endpoint's name leads to. With none the hosts file is not judged.
    type: str
    default: ""
  admins:
    description: Users that the host has to know.
    type: list
    elements: str
    default: []
  key_files:
    description: Files with AWS keys that have to be on the host.
    type: list
    elements: dict
    default: []
    suboptions:
      variable:
        description: The variable that names it.
        type: str
        required: true
      path:
        description: The file. With none, the key has to be in a Secret of the cluster, which has to stand already.
        type: path
      lasting:
        description: Whether who gets it keeps the key, so that one with a session token, which ends by itself, is none.
        type: bool
        default: false
  node_address:
    description: The address that the node is to have in the cluster.
    type: str
    default: ""
  kubernetes:
    description: The exact version that the cluster is to have.
    type: str
    required: true
  dns_domain:
    description: The cluster's DNS domain.
    type: str
    default: cluster.local
  networks:
    description: The declared networks, by variable.
    type: list
    elements: dict
    default: []
    suboptions:
      variable:
        description: The variable that declares it.
        type: str
        required: true
      network:
        description: The network.
        type: str
        required: true
  vpn_port:
    description: C(cluster_vpn_port).
    type: int
    default: 1194
  vpn_protocol:
    description: C(cluster_vpn_protocol).
    type: str
    default: udp
  fail_cgroup_v1:
    description: Whether the kubelet refuses cgroup v1.
    type: bool
    default: true
  keep_swap:
    description: Whether the kubelet lives with swap.
    type: bool
    default: false
  minimum:
    description: What is asked of a host, C(cpus) and C(memory) (MiB) of a control plane only, C(disk) (MiB) of all.
    type: dict
    required: true
    suboptions:
      cpus:
        description: Processors.
        type: int
        required: true
      memory:
        description: Memory.
        type: int
        required: true
      disk:
        description: Free space below C(/var/lib).
        type: int
        required: true
  controller_time:
    description: The controller's time as it starts the task, in seconds since 1970.
    type: float
    required: true
  clock_tolerance:
    description: Seconds by which clocks may differ.
    type: float
    default: 30
  time_servers:
    description: NTP servers to compare the clock with. One that doesn't answer is passed over.
    type: list
    elements: str
    default: []
  mirrors:
    description: What must be there.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Key of C(cluster_mirrors).
        type: str
        required: true
      url:
        description: What to get.
        type: str
        required: true
      ca:
        description: CA certificate, PEM.
        type: str
      username:
        description: User name.
        type: str
      password:
        description: Password.
        type: str
  vpn:
    description: The part of the VPN that the host is to be. Unset for a host that is none.
    type: dict
    suboptions:
      side:
        description: V(routed) is a host without a tunnel, which reaches the VPN through its LAN.
        type: str
        choices: [server, client, routed]
        required: true
      network:
        description: The VPN's network.
        type: str
        required: true
      device:
        description: Name of the tunnel's device.
        type: str
        default: tun0
      endpoint:
        description: Name or address that clients dial. On the server it is compared with the host's own addresses.
        type: str
        default: ""
      folder:
        description: The authority's folder on the server.
        type: path
        default: /etc/fpga-hybrid/vpn
      backend:
        description: What the server is, V(openvpn) or Access Server.
        type: str
        choices: [openvpn, openvpn_as]
        default: openvpn
  engines:
    description: The versions of container engines that fit, as O(ignore:fpga.hybrid.runtime_info) judges them. Empty for a host that is no node.
    type: dict
    default: {}
    suboptions:
      containerd:
        description: Of containerd.
        type: str
      docker:
        description: Of Docker's engine.
        type: str
      cri_dockerd:
        description: Of cri-dockerd, which has to be there already.
        type: str
  sysfs_root:
    description: Where the kernel's C(/sys) is, for boards.
    type: path
    default: /sys
extends_documentation_fragment: [fpga.hybrid.attributes.read_only]
"""

EXAMPLES = r"""
- name: Look for what stands in the way
  fpga.hybrid.host_preflight:
    host: "{{ inventory_hostname }}"
    cluster_name: InAccel
    endpoint: api.fpga.example.org:6443
    kubernetes: 1.36.3
    minimum: {cpus: 2, memory: 1700, disk: 4096}
    controller_time: "{{ (now(utc=true) - ('1970-01-01' | to_datetime('%Y-%m-%d'))).total_seconds() }}"
"""

RETURN = r"""
problems:
  description: What stands in the way, each with C(host), C(variable), C(found), C(expected), C(remedy).
  returned: success
  type: list
  elements: dict
boards:
  description: The FPGA boards on the host's PCI bus, by slot.
  returned: success
  type: dict
  sample: {"0000:3b:00": u250}
notes:
  description: What doesn't, but is to be said aloud. Also given as warnings.
  returned: success
  type: list
  elements: str
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_host, _runtime
from ansible_collections.fpga.hybrid.plugins.module_utils._boards import boards
from ansible_collections.fpga.hybrid.plugins.module_utils._preflight import Wanted, judge, notes
from ansible_collections.fpga.hybrid.plugins.module_utils._preflight_probe import probe
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record, RecordError


def argument_spec() -> dict[str, object]:
    return {
        "host": {"type": "str", "required": True},
        "control_plane": {"type": "bool", "default": False},
        "node": {"type": "bool", "default": True},
        "vpn_server": {"type": "bool", "default": False},
        "vpn_member": {"type": "bool", "default": False},
        "cluster_name": {"type": "str", "required": True},
        "cluster_id": {"type": "str", "default": ""},
        "endpoint": {"type": "str", "required": True},
        "endpoint_address": {"type": "str", "default": ""},
        "admins": {"type": "list", "elements": "str", "default": []},
        "key_files": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "no_log": False,
            "options": {"variable": {"type": "str", "required": True}, "path": {"type": "path"}, "lasting": {"type": "bool", "default": False}},
        },
        "node_address": {"type": "str", "default": ""},
        "kubernetes": {"type": "str", "required": True},
        "dns_domain": {"type": "str", "default": "cluster.local"},
        "networks": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {"variable": {"type": "str", "required": True}, "network": {"type": "str", "required": True}},
        },
        "vpn_port": {"type": "int", "default": 1194},
        "vpn_protocol": {"type": "str", "default": "udp"},
        "fail_cgroup_v1": {"type": "bool", "default": True},
        "keep_swap": {"type": "bool", "default": False},
        "minimum": {"type": "dict", "required": True, "options": {name: {"type": "int", "required": True} for name in ("cpus", "memory", "disk")}},
        "controller_time": {"type": "float", "required": True},
        "clock_tolerance": {"type": "float", "default": 30},
        "time_servers": {"type": "list", "elements": "str", "default": []},
        "mirrors": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "url": {"type": "str", "required": True},
                "ca": {"type": "str"},
                "username": {"type": "str"},
                "password": {"type": "str", "no_log": True},
            },
        },
        "vpn": {
            "type": "dict",
            "options": {
                "side": {"type": "str", "choices": ["server", "client", "routed"], "required": True},
                "network": {"type": "str", "required": True},
                "device": {"type": "str", "default": "tun0"},
                "endpoint": {"type": "str", "default": ""},
                "folder": {"type": "path", "default": "/etc/fpga-hybrid/vpn"},
                "backend": {"type": "str", "choices": ["openvpn", "openvpn_as"], "default": "openvpn"},
            },
        },
        "sysfs_root": {"type": "path", "default": "/sys"},
        "engines": {"type": "dict", "default": {}, "options": {name: {"type": "str"} for name in _runtime.PROGRAMS}},
    }


def damaged_record(host: str, error: RecordError) -> Problem:
    return Problem(host, "/etc/fpga-hybrid/record.json", str(error), "the record of what we have installed", "Restore it from a backup.")


def look_at_vpn(parameters: Mapping[str, Any]) -> tuple[list[Problem], list[str]]:
    """Problems, and what somebody else must do. The tunnel driver, and other programs at the port, are judged with the rest of the host."""
    if not parameters["vpn"]:
        return [], []
    wanted = _openvpn_host.Wanted(host=parameters["host"], port=parameters["vpn_port"], protocol=parameters["vpn_protocol"], **parameters["vpn"])
    try:
        found = _openvpn_host.look(wanted)
    except RecordError as error:
        return [damaged_record(parameters["host"], error)], []
    others = tuple(stranger for stranger in found.strangers if stranger[1] == "openvpn")
    forward = _openvpn_host.forward(wanted, found)
    return _openvpn_host.problems(wanted, dataclasses.replace(found, driver=None, strangers=others)), [forward] if forward else []


def look_at_engines(parameters: Mapping[str, Any]) -> list[Problem]:
    wanted = {name: versions for name, versions in parameters["engines"].items() if versions}
    if not wanted:
        return []
    host, reason = parameters["host"], f"Kubernetes {parameters['kubernetes']}"
    try:
        found = _runtime.look_at_engines(Record.load().section("apt"), wanted)
    except RecordError as error:
        return [damaged_record(host, error)]
    problems = (_runtime.engine_problem(name, *found[name], versions, reason, host) for name, versions in wanted.items())
    return [problem for problem in problems if problem]


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    parameters = module.params

    def run(command: list[str], data: str | None = None) -> tuple[int, str, str]:
        if module.get_bin_path(command[0]) is None:
            return 127, "", f"{command[0]}: not found"
        result: tuple[int, str, str] = module.run_command(command, data=data)
        return result

    same = (
        "host",
        "control_plane",
        "node",
        "vpn_server",
        "vpn_member",
        "dns_domain",
        "cluster_name",
        "cluster_id",
        "endpoint",
        "endpoint_address",
        "node_address",
        "kubernetes",
        "vpn_port",
        "vpn_protocol",
    )
    wanted = Wanted(
        **{name: parameters[name] for name in (*same, "fail_cgroup_v1", "keep_swap", "clock_tolerance")},
        networks=tuple((entry["variable"], entry["network"]) for entry in parameters["networks"]),
        minimum_cpus=parameters["minimum"]["cpus"],
        minimum_memory=parameters["minimum"]["memory"],
        minimum_disk=parameters["minimum"]["disk"],
    )
    found = probe(
        run,
        parameters["controller_time"],
        parameters["time_servers"],
        parameters["mirrors"],
        cluster_id=parameters["cluster_id"],
        users=parameters["admins"],
        key_files=parameters["key_files"],
    )
    vpn, forward = look_at_vpn(parameters)
    problems = [*judge(found, wanted), *vpn, *look_at_engines(parameters)]
    said = [*notes(found, wanted), *forward]
    for note in said:
        module.warn(f"{wanted.host}: {note}")
    module.exit_json(changed=False, problems=[problem.as_dict() for problem in problems], notes=said, boards=boards(Path(parameters["sysfs_root"])))


if __name__ == "__main__":
    main()
