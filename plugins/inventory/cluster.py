# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory of one hybrid cluster: its on-prem hosts, by the roles that they play."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster
short_description: One hybrid cluster as an inventory
version_added: 0.1.0
description:
  - Reads a cluster's hosts from one file and sorts them into groups by the roles that they play.
  - 'Groups: C(on_prem) holds every declared host, C(control_plane) and C(vpn_server) the host with that role, C(workers) the declared workers.
    C(aws) exists and is empty.'
  - 'Variables of all hosts: C(cluster_name), and C(cluster_aws_region) when O(aws) names a region.'
  - The file's name must end in C(.hybrid.yml) or C(.hybrid.yaml).
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  plugin:
    description: Says that the file is meant for this plugin.
    type: str
    required: true
    choices: [fpga.hybrid.cluster]
  cluster_name:
    description: Name of the cluster. It prefixes the names of what is made in AWS, and stands in each node's provider id.
    type: str
    required: true
  hosts:
    description:
      - The on-prem hosts by name. A host's name becomes its node's name, so it is a DNS label (lower-case letters, digits, C(-)).
      - 'Each has V(roles), a list out of C(control_plane), C(vpn_server), C(worker), and may have V(vars), its variables.'
      - 'Exactly one host is C(control_plane) (several are not supported yet), exactly one is C(vpn_server), which may be any host.'
      - Variables may be templates.
    type: dict
  hosts_file:
    description:
      - A YAML file that holds O(hosts), instead of O(hosts) here; the path is relative to the inventory file.
      - Another C(.hybrid.yml) may be named; its O(hosts) are taken.
      - Don't put a plain hosts file into a folder that is itself given as inventory, because Ansible reads every file there as an inventory of its own.
    type: path
  vars_file:
    description:
      - A YAML file whose content become variables of group C(all); the path is relative to the inventory file.
      - For an inventory file that can have no C(group_vars) beside it, as one in a project's root, where C(group_vars) would apply to every inventory.
    type: path
  aws:
    description:
      - The cluster's half in AWS. Today it only publishes C(cluster_aws_region), the first of V(regions).
      - EC2 instances are not looked up by this version, so any other key is refused rather than ignored.
    type: dict
    suboptions:
      regions:
        description: Names of the regions.
        type: list
        elements: str
        required: true
"""

EXAMPLES = r"""
# cluster.hybrid.yml
plugin: fpga.hybrid.cluster
cluster_name: InAccel
hosts:
  cp1:
    roles: [control_plane, vpn_server]
    vars: {ansible_host: 10.0.0.10, vpn_address: 172.27.224.1}
  worker1:
    roles: [worker]
    vars: {ansible_host: 10.0.0.11, vpn_address: 172.27.224.11}
aws:
  regions: [us-east-1]
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem, listing

SUFFIXES = (".hybrid.yml", ".hybrid.yaml")
GROUP_OF_ROLE = {"control_plane": "control_plane", "vpn_server": "vpn_server", "worker": "workers"}
#: RFC 1123, which Kubernetes asks of a node's name.
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
KEYS = {"plugin", "cluster_name", "hosts", "hosts_file", "vars_file", "aws"}


@dataclass(frozen=True)
class Host:
    name: str
    roles: tuple[str, ...]
    variables: Mapping[str, Any] = field(default_factory=dict)


def parse_hosts(declared: object) -> tuple[list[Host], list[Problem]]:
    """Declared hosts in their order, and everything that is wrong with them. Hosts that can't be read are left out."""
    if not isinstance(declared, Mapping) or not declared:
        return [], [Problem("", "hosts", f"found {_kind(declared)}", "a mapping of host names", "Declare at least a control plane: see the plugin's examples.")]
    hosts: list[Host] = []
    problems: list[Problem] = []
    for name, entry in declared.items():
        found = _problems_of_entry(name, entry)
        problems += found
        if not found:
            hosts.append(Host(name, tuple(entry["roles"]), entry.get("vars") or {}))
    if not problems:
        problems += _problems_between(hosts)
    return hosts, problems


def _problems_of_entry(name: object, entry: object) -> list[Problem]:
    shown = str(name)
    if not isinstance(name, str) or not DNS_LABEL.fullmatch(name):
        return [
            Problem(
                shown,
                "hosts",
                f"the name is {name!r}",
                "a DNS label: lower-case letters, digits and -, at most 63, since it names the Kubernetes node",
                "Rename the host here; ansible_host may say where it is reached.",
            )
        ]
    if name in {"on_prem", "aws", "workers", *GROUP_OF_ROLE}:
        return [Problem(shown, "hosts", "the name is that of a group", "a name that no group has", "Rename the host.")]
    if not isinstance(entry, Mapping):
        return [Problem(shown, "hosts", f"found {_kind(entry)}", "a mapping with roles and vars", "Write {roles: [worker], vars: {...}}.")]
    problems = [
        Problem(shown, f"hosts.{shown}.{key}", "no such key", "roles or vars", "Put the host's variables below vars.")
        for key in entry
        if key not in {"roles", "vars"}
    ]
    roles = entry.get("roles")
    if not isinstance(roles, list) or not roles:
        problems.append(Problem(shown, "roles", f"found {_kind(roles)}", f"a list out of {', '.join(GROUP_OF_ROLE)}", "Say what the host is for."))
    else:
        problems += [
            Problem(shown, "roles", f"found {role!r}", f"one of {', '.join(GROUP_OF_ROLE)}", "Mend the name of the role.")
            for role in roles
            if role not in GROUP_OF_ROLE
        ]
        if {"control_plane", "worker"} <= set(map(str, roles)):
            problems.append(
                Problem(shown, "roles", "both control_plane and worker", "one of the two", "Take one out: a control plane of this collection runs no jobs.")
            )
    if not isinstance(entry.get("vars") or {}, Mapping):
        problems.append(Problem(shown, "vars", f"found {_kind(entry['vars'])}", "a mapping of variables", "Write vars: {ansible_host: 10.0.0.11}."))
    return problems


def _problems_between(hosts: list[Host]) -> list[Problem]:
    problems = []
    for role, note in (
        ("control_plane", "Several control planes are not supported yet."),
        ("vpn_server", "Any host may be it, for example the control plane."),
    ):
        holders = [host.name for host in hosts if role in host.roles]
        if len(holders) != 1:
            problems.append(
                Problem("", "roles", f"{role} is {' and '.join(holders) or 'no host'}", "exactly one host", f"Give the role {role} to one host. {note}")
            )
    for variable in ("vpn_address", "ansible_host"):
        owners: dict[str, str] = {}
        for host in hosts:
            value = host.variables.get(variable)
            # The same ansible_host on two ports may be two hosts behind one address.
            key = f"{value}:{host.variables.get('ansible_port', '')}" if variable == "ansible_host" else str(value)
            if value is None or "{{" in str(value):
                continue
            if key in owners:
                problems.append(Problem(host.name, variable, f"{value}, which {owners[key]} has as well", "an address of its own", "Change one of the two."))
            owners.setdefault(key, host.name)
    return problems


def parse_region(declared: object) -> tuple[str | None, list[Problem]]:
    """The region that `aws` names; other keys are refused, since this version would have to ignore them."""
    if declared is None:
        return None, []
    if not isinstance(declared, Mapping):
        return None, [Problem("", "aws", f"found {_kind(declared)}", "a mapping with regions", "Write aws: {regions: [us-east-1]}.")]
    problems = [
        Problem("", f"aws.{key}", "not known to this version, which doesn't look up EC2 instances", "only regions", "Take the key out.")
        for key in declared
        if key != "regions"
    ]
    regions = declared.get("regions")
    if not isinstance(regions, list) or not regions or not all(isinstance(region, str) and region for region in regions):
        problems.append(Problem("", "aws.regions", f"found {regions!r}", "a list of region names", "Write regions: [us-east-1]."))
        return None, problems
    return regions[0], problems


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    kinds: dict[type, str] = {str: "a text", bool: "a yes or no", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    name = next((name for kind, name in kinds.items() if isinstance(value, kind)), type(value).__name__)
    return f"an empty {name[2:]}" if not value and isinstance(value, (str, list, dict)) else name


class InventoryModule(BaseInventoryPlugin):
    NAME = "fpga.hybrid.cluster"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith(SUFFIXES)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        config = self._read_config_data(path)
        problems = [
            Problem("", str(key), "no such key", f"one of {', '.join(sorted(KEYS))}", "Settings of the cluster belong into group_vars/all.yml.")
            for key in config
            if key not in KEYS
        ]
        if ("hosts" in config) == ("hosts_file" in config):
            problems.append(Problem("", "hosts", "both or none of hosts and hosts_file", "exactly one of the two", "Declare the hosts in one place."))
        declared = config.get("hosts")
        if config.get("hosts_file"):
            content = self._load(path, config["hosts_file"], "hosts_file")
            declared = content.get("hosts", {}) if "plugin" in content else content
        hosts, host_problems = parse_hosts(declared)
        region, region_problems = parse_region(config.get("aws"))
        problems += host_problems + region_problems
        if problems:
            raise AnsibleParserError(f"{path} declares no cluster:\n{listing(problems)}")

        for group in ("on_prem", *GROUP_OF_ROLE.values(), "aws"):
            self.inventory.add_group(group)
        if config.get("vars_file"):
            for key, value in self._load(path, config["vars_file"], "vars_file").items():
                self.inventory.set_variable("all", key, value)
        self.inventory.set_variable("all", "cluster_name", config["cluster_name"])
        if region:
            self.inventory.set_variable("all", "cluster_aws_region", region)
        for host in hosts:
            self.inventory.add_host(host.name, group="on_prem")
            for role in host.roles:
                self.inventory.add_host(host.name, group=GROUP_OF_ROLE[role])
            for key, value in host.variables.items():
                self.inventory.set_variable(host.name, key, value)

    def _load(self, inventory_file: str, name: str, option: str) -> Mapping[str, Any]:
        """A YAML file of the administrator's own, so its templates are trusted as those in Ansible's own YAML inventories are."""
        file = Path(inventory_file).resolve().parent / name
        if not file.is_file():
            raise AnsibleParserError(f"{inventory_file}, {option}: found no file {file}; expected one. Mend the path, which is relative to the inventory file.")
        content = self.loader.load_from_file(str(file), cache="none", trusted_as_template=True)
        if not isinstance(content, Mapping):
            raise AnsibleParserError(f"{file}: found {_kind(content)}; expected a mapping. See {option} in ansible-doc -t inventory fpga.hybrid.cluster.")
        return content
