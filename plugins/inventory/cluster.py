# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory of one hybrid cluster: its on-prem hosts, by the roles that they play."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster
short_description: One hybrid cluster as an inventory
version_added: 0.9.0
description:
  - Reads a cluster's on-prem hosts from one file, sorts them into groups by the roles that they play, and adds the EC2 instances of the cluster's node pools.
  - 'Groups of declared hosts: C(on_prem) holds every one of them, C(control_plane) and C(vpn_server) the host with that role.'
  - 'Groups of EC2 instances: C(aws) holds all of them, C(pool_<pool>) those of a node pool, C(zone_<availability zone>) those of a zone.'
  - 'Groups of both: C(workers) holds the declared workers and the instances of the cluster; C(fpga) and C(fpga_<board>) hold instances of types with FPGAs
    and declared hosts whose variable C(fpga_publish) names boards.'
  - 'Names of groups are sanitised as core does it: pool C(f2-12xlarge) is group C(pool_f2_12xlarge). Two pools, tags or rules that would share a group
    are refused, and no tag can put an instance into C(on_prem), C(control_plane) or C(vpn_server), which playbooks act on.'
  - An instance is called by its id, which is its node's name, unless O(aws.hostnames) says otherwise.
  - "Variables of an instance: C(provider_id), C(instance_type), C(availability_zone), C(lifecycle_state) (EC2's state of the instance) and, from the tag that
    keeper writes, C(vpn_address). O(aws.vars) adds single ones, O(aws.full) all."
  - 'Variables of all hosts: C(cluster_name), and C(cluster_aws_region), the first of O(aws.regions).'
  - Pending instances and those that terminate are left out. A filter C(instance-state-name) in O(aws.filters) asks for other states.
  - What EC2 says, tags above all, is data. It is never evaluated as a template.
  - The file's name must end in C(.hybrid.yml) or C(.hybrid.yaml).
author: The fpga.hybrid maintainers (@fpga-hybrid)
extends_documentation_fragment:
  - inventory_cache
  - constructed
requirements:
  - botocore, which comes with boto3, where O(aws) is given
notes:
  - O(compose), O(groups) and O(keyed_groups) apply to EC2 instances only. Their expressions see what those of P(amazon.aws.aws_ec2#inventory) see,
    C(tags) included, whatever is published of it. Each expression is compiled once in a run. O(aws.group_by) does common rules without any, and faster.
  - The cache (O(cache)) keeps the finished hosts, not what AWS said, under a key made of the settings, so that changed settings never meet an old
    answer. Declared hosts are never cached.
  - Credentials come from where botocore finds them (E(AWS_PROFILE), E(AWS_ACCESS_KEY_ID), the instance's role and so on), or from O(aws).
    No name of such a variable begins with C(ANSIBLE_), which AWX would refuse.
options:
  plugin:
    description: Says that the file is meant for this plugin.
    type: str
    required: true
    choices: [fpga.hybrid.cluster]
  cluster_name:
    description:
      - Name of the cluster. It prefixes the names of what is made in AWS, and stands in each node's provider id.
      - Required, unless O(aws.select=all).
    type: str
  hosts:
    description:
      - The on-prem hosts by name. A host's name becomes its node's name, so it is a DNS label (lower-case letters, digits, C(-)).
      - 'Each has V(roles), a list out of C(control_plane), C(vpn_server), C(worker), and may have V(vars), its variables.'
      - 'Exactly one host is C(control_plane) (several are not supported yet), exactly one is C(vpn_server), which may be any host.'
      - Variables may be templates.
      - Required, here or in O(hosts_file), unless O(aws.select=all).
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
      - The cluster's half in AWS. Its values may be templates, which see extra variables only.
      - Names of P(amazon.aws.aws_ec2#inventory)'s options mean here what they mean there.
    type: dict
    suboptions:
      regions:
        description:
          - Names of the regions. They are asked side by side.
          - With O(aws.select=all) it may be left out; then all regions that are enabled for the account are asked.
        type: list
        elements: str
      select:
        description:
          - V(cluster) takes the instances of the cluster. V(all) takes every instance, a plain EC2 inventory, where C(workers) and C(pool_<pool>) are
            still the cluster's alone.
          - With O(aws.cluster_id) an instance belongs to the cluster if its tag C(fpga.hybrid/cluster-id) equals it. Without, if it carries
            C(k8s.io/cluster-autoscaler/<cluster_name>) with value C(owned), or stands in the Auto Scaling group C(<cluster_name>-<its tag fpga.hybrid/pool>).
            If instances of two cluster ids are found so, they are refused.
          - The selection is made here and not by EC2, where filters by tag are slow in large accounts. Where the cluster's instances are few among very many,
            add such a filter to O(aws.filters).
        type: str
        choices: [cluster, all]
        default: cluster
      cluster_id:
        description: The cluster's unique id, from C(/etc/fpga-hybrid/cluster.json) on its control plane. Needed where two clusters of an account share a name.
        type: str
      filters:
        description:
          - Filters of EC2's DescribeInstances, a value or a list of values each.
          - Where none is C(instance-state-name), instances are asked for that are running, stopping or stopped.
        type: dict
        default: {}
      hostnames:
        description:
          - By what a host is called. The first that an instance has counts, and its id if it has none.
          - "Each is an attribute: C(tag:KEY), one of EC2's filter names (V(private-ip-address)) or a variable's name (V(private_ip_address), deeper ones
            with dots). C(tag:KEY=VALUE) gives C(KEY_VALUE). A Jinja filter may follow: C(tag:Name | lower)."
          - A mapping has C(name), C(prefix) (an attribute or a text) and C(separator) (default C(_)).
          - Two hosts with one name are refused, both are named.
        type: list
        elements: raw
        default: [instance-id]
      group_by:
        description:
          - One group for each value of an attribute (named as in O(aws.hostnames)), C(<prefix><separator><value>), without Jinja.
          - 'A text is the attribute, and the prefix is its name (C(tag:role): C(tag_role)). A mapping has C(key) and, as in O(keyed_groups), C(prefix),
            C(separator), C(default_value) (for instances without the attribute, which else get no group) and C(parent_group).'
        type: list
        elements: raw
        default: []
      vars:
        description:
          - Further attributes (named as in O(aws.hostnames)) to publish as variables of the same name, or a mapping of variable to attribute.
          - All tags are C(ec2_tags), since C(tags) is a name of Ansible's own.
        type: raw
        default: []
      full:
        description:
          - Publish everything that EC2 says of an instance, by the names of P(amazon.aws.aws_ec2#inventory), except that C(tags) is C(ec2_tags).
          - At some thousand hosts this costs more than all the rest of an inventory.
        type: bool
        default: false
      hostvars_prefix:
        description: Goes before the name of each variable that comes from EC2, except names chosen in O(aws.vars).
        type: str
      hostvars_suffix:
        description: Goes behind the name of each variable that comes from EC2, except names chosen in O(aws.vars).
        type: str
      connect:
        description:
          - How Ansible reaches EC2 instances. They join the cluster by themselves, and no playbook of this collection connects to them.
          - V(none) sets nothing.
          - V(vpn) sets C(ansible_host) to the VPN address, for a controller that is in the VPN.
          - V(jump) goes over the declared VPN server to the VPN address, or over O(aws.jump_host) to the private address.
          - V(ssm) takes the Session Manager by P(amazon.aws.aws_ssm#connection). Set C(ansible_aws_ssm_bucket_name) in C(group_vars/aws.yml).
          - Instances that have no VPN address yet keep their name as address.
        type: str
        choices: [none, vpn, jump, ssm]
        default: none
      jump_host:
        description: An ssh host in the VPC to jump over with O(aws.connect=jump), as ssh's ProxyJump takes it (C(user@host:port)).
        type: str
      required:
        description:
          - What happens when AWS gives no answer, for an outage as well as for missing credentials, and there is no older one to serve (O(aws.stale_ok)).
          - With V(true) the inventory fails. With V(false) a warning says what is wrong, and the declared hosts are there, with the instances of those
            regions that did answer.
          - Default is V(false) where hosts are declared, because they can be worked on without AWS, else V(true).
          - An inventory that a program keeps (AWX) wants V(true), lest an outage look like an empty cloud.
        type: bool
      stale_ok:
        description:
          - When AWS can't be reached, serve the last good answer, however old, with a warning. A refusal (wrong credentials, no permission) is no outage.
          - Needs a O(cache_plugin) that outlives the run, for example C(jsonfile). Without O(cache) the answer is kept for this case only.
        type: bool
        default: false
      strict_permissions:
        description: With V(false), a region where the identity lacks permission is left out with a warning.
        type: bool
        default: true
      profile:
        description: A profile of the AWS configuration.
        type: str
      access_key:
        description: The id of an access key, with O(aws.secret_key). Better kept out of the file; a template can look it up.
        type: str
      secret_key:
        description: The secret of O(aws.access_key).
        type: str
      session_token:
        description: The token of temporary credentials.
        type: str
      assume_role_arn:
        description: A role to assume first.
        type: str
      endpoint_url:
        description: An endpoint instead of AWS's own, for EC2 and for assuming a role. E(AWS_URL) and botocore's C(AWS_ENDPOINT_URL...) count as well.
        type: str
"""

EXAMPLES = r"""# fmt: code
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

---
# The same cluster, reached over its VPN server, with more groups and variables, and an answer for the time when AWS gives none.
plugin: fpga.hybrid.cluster
cluster_name: InAccel
hosts_file: machines.yml
cache: true
cache_plugin: jsonfile
cache_connection: ~/.cache/fpga-hybrid-inventory
cache_timeout: 300
aws:
  regions: [us-east-1, us-west-2]
  profile: fpga
  connect: jump
  stale_ok: true
  vars: [private_ip_address, image_id]
  group_by:
    - instance_type
    - {key: 'tag:role', prefix: role, default_value: none}

---
# A plain EC2 inventory: every running instance of all regions, called by its tag Name, with constructed groups.
plugin: fpga.hybrid.cluster
strict: true
compose:
  ansible_host: private_ip_address
keyed_groups:
  - {prefix: role, key: "tags.role | default('none')"}
aws:
  select: all
  full: true
  hostnames: ['tag:Name', instance-id]
  filters: {instance-state-name: running}
"""

import gc
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os.path import dirname
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.release import __version__ as core_version

from ansible_collections.fpga.hybrid.plugins.module_utils._core import core_problem
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem, listing
from ansible_collections.fpga.hybrid.plugins.plugin_utils._answer_cache import AnswerCache, open_cache, settings_hash
from ansible_collections.fpga.hybrid.plugins.plugin_utils._aws_options import AwsOptions, parse_aws
from ansible_collections.fpga.hybrid.plugins.plugin_utils._constructed import Recorder, compile_once, expressions_of, variables_of
from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_inventory import (
    Finished,
    Finisher,
    Naming,
    RefusedError,
    Site,
    connection,
    declared_groups,
    expression_variables,
    select,
    unknown_attributes,
    wanted_attributes,
)
from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_records import Record

SUFFIXES = (".hybrid.yml", ".hybrid.yaml")
GROUP_OF_ROLE = {"control_plane": "control_plane", "vpn_server": "vpn_server", "worker": "workers"}
#: Groups that are always there, so that a pattern which names them matches nobody rather than nothing.
GROUPS = ("on_prem", *GROUP_OF_ROLE.values(), "aws", "fpga")
CONSTRUCTED = ("compose", "groups", "keyed_groups")
#: RFC 1123, which Kubernetes asks of a node's name.
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


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
    if name in {"all", "ungrouped", *GROUPS}:
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


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    kinds: dict[type, str] = {str: "a text", bool: "a yes or no", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    name = next((name for kind, name in kinds.items() if isinstance(value, kind)), type(value).__name__)
    return f"an empty {name[2:]}" if not value and isinstance(value, (str, list, dict)) else name


def boards_of(host: Host) -> list[str]:
    """The boards that the host publishes, as far as its own variables say."""
    publish = host.variables.get("fpga_publish")
    return [str(board) for board, choice in publish.items() if choice != "none"] if isinstance(publish, Mapping) else []


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """While some hundred thousand objects are made that all stay, Python's garbage collector would look through them again and again, and find nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    NAME = "fpga.hybrid.cluster"
    inventory: Any

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith(SUFFIXES)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        if problem := core_problem(core_version):
            raise AnsibleParserError(problem)
        super().parse(inventory, loader, path, cache)
        config = self._read_config_data(path)
        self.templar.available_variables = self._vars
        aws, problems = parse_aws(self.templar.template(config.get("aws")))
        plain_ec2 = aws is not None and aws.select == "all"
        problems += self._problems_of_file(config, aws)
        hosts, host_problems = self._declared_hosts(config, path, plain_ec2)
        problems += host_problems
        vpn_server = next((host.name for host in hosts if "vpn_server" in host.roles), "")
        variables = self._load(path, config["vars_file"], "vars_file") if config.get("vars_file") else {}
        if aws and aws.connect == "jump" and not aws.jump_host and not vpn_server:
            problems.append(Problem("", "aws.connect", "jump, and no host is vpn_server", "a host to jump over", "Give aws.jump_host."))
        try:
            board_groups = declared_groups({host.name: boards_of(host) for host in hosts})
            if problems:
                raise RefusedError(problems)
            with collector_at_rest():
                cloud = self._cloud(aws, self._site(config, path, hosts), path, cache) if aws else Finished()
        except RefusedError as error:
            raise AnsibleParserError(f"{path} declares no cluster:\n{listing(error.problems)}") from error

        # Nothing was added up to here: what fails leaves no half inventory behind.
        for group in GROUPS:
            self.inventory.add_group(group)
        self._add_variables(variables, config, aws)
        self._add_declared(hosts, board_groups)
        if aws:
            with collector_at_rest():
                self._add_instances(cloud, connection(aws, vpn_server))

    # ---- the file

    def _problems_of_file(self, config: Mapping[str, Any], aws: AwsOptions | None) -> list[Problem]:
        keys = sorted(self.get_options())
        plain_ec2 = aws is not None and aws.select == "all"
        problems = [
            Problem("", str(key), "no such key", f"one of {', '.join(keys)}", "Settings of the cluster belong into group_vars/all.yml.")
            for key in config
            if key not in keys
        ]
        if not config.get("cluster_name") and not plain_ec2:
            problems.append(Problem("", "cluster_name", "found nothing", "the cluster's name", "Write cluster_name: InAccel."))
        declared = ("hosts" in config) + ("hosts_file" in config)
        if declared > 1 or not (declared or plain_ec2):
            problems.append(Problem("", "hosts", "both or none of hosts and hosts_file", "exactly one of the two", "Declare the hosts in one place."))
        if aws and aws.stale_ok and self.get_option("cache_plugin") in {"memory", "ansible.builtin.memory"}:
            remedy = "Set cache_plugin: jsonfile and cache_connection: ~/.cache/fpga-hybrid-inventory."
            problems.append(Problem("", "aws.stale_ok", "cache_plugin is memory", "a cache that outlives the run", remedy))
        return problems

    def _declared_hosts(self, config: Mapping[str, Any], path: str, plain_ec2: bool) -> tuple[list[Host], list[Problem]]:
        declared = config.get("hosts")
        if config.get("hosts_file"):
            content = self._load(path, config["hosts_file"], "hosts_file")
            declared = content.get("hosts", {}) if "plugin" in content else content
        elif plain_ec2 and declared is None:
            return [], []
        return parse_hosts(declared)

    def _site(self, config: Mapping[str, Any], path: str, hosts: Sequence[Host]) -> Site:
        addresses = (str(host.variables["vpn_address"]) for host in hosts if "vpn_address" in host.variables)
        return Site(str(config.get("cluster_name") or ""), str(path), tuple(host.name for host in hosts), tuple(addresses))

    def _load(self, inventory_file: str, name: str, option: str) -> Mapping[str, Any]:
        """A YAML file of the administrator's own, so its templates are trusted as those in Ansible's own YAML inventories are."""
        file = Path(inventory_file).resolve().parent / name
        if not file.is_file():
            raise AnsibleParserError(f"{inventory_file}, {option}: found no file {file}; expected one. Mend the path, which is relative to the inventory file.")
        content = self.loader.load_from_file(str(file), cache="none", trusted_as_template=True)
        if not isinstance(content, Mapping):
            raise AnsibleParserError(f"{file}: found {_kind(content)}; expected a mapping. See {option} in ansible-doc -t inventory fpga.hybrid.cluster.")
        return content

    # ---- into the inventory

    def _add_variables(self, variables: Mapping[str, Any], config: Mapping[str, Any], aws: AwsOptions | None) -> None:
        for key, value in variables.items():
            self.inventory.set_variable("all", key, value)
        if config.get("cluster_name"):
            self.inventory.set_variable("all", "cluster_name", config["cluster_name"])
        if aws and aws.regions:
            self.inventory.set_variable("all", "cluster_aws_region", aws.regions[0])

    def _add_declared(self, hosts: Sequence[Host], board_groups: Mapping[str, Sequence[str]]) -> None:
        for host in hosts:
            self.inventory.add_host(host.name, group="on_prem")
            for role in host.roles:
                self.inventory.add_host(host.name, group=GROUP_OF_ROLE[role])
            for key, value in host.variables.items():
                self.inventory.set_variable(host.name, key, value)
        for group, members in board_groups.items():
            self.inventory.add_group(group)
            for member in members:
                self.inventory.add_host(member, group=group)

    def _add_instances(self, cloud: Finished, connection: Mapping[str, Any]) -> None:
        inventory = self.inventory
        hosts = inventory.hosts
        for name, variables in cloud.hosts.items():
            inventory.add_host(name)
            for key, value in connection.items():
                inventory.set_variable(name, key, value)
            # Not set_variable: it copies each value, to note down that it came from this plugin, which takes as long as all the rest and, with aws.full, half
            # a gigabyte. It would add no trust, so the values are the same untrusted ones.
            hosts[name].vars.update(variables)
        for group, members in cloud.groups.items():
            added = inventory.groups[inventory.add_group(group)]
            for name in members:
                added.add_host(hosts[name])
        for parent, children in cloud.children.items():
            for child in children:
                inventory.add_child(parent, child)

    # ---- AWS and the cache

    def _cloud(self, aws: AwsOptions, site: Site, path: str, cache: bool) -> Finished:
        """The instances: of the cache, of AWS, or of the last good answer."""
        kept = None
        if self.get_option("cache") or aws.stale_ok:
            constructed = {name: self.get_option(name) for name in (*CONSTRUCTED, "strict", "leading_separator", "use_extra_vars")}
            key = settings_hash(aws, site, constructed, self._vars if self.get_option("use_extra_vars") else None)
            self._cache = open_cache(*(self.get_option(f"cache_{option}") for option in ("plugin", "connection", "prefix")))
            kept = AnswerCache(self._cache, f"{self.get_cache_key(path)}_{key}", self.display.warning)
        if kept and cache and self.get_option("cache"):
            stored, timeout = kept.load(), self.get_option("cache_timeout")
            if stored and (timeout == 0 or stored.age <= timeout):
                return stored.hosts
        finished, problems, unreachable = self._ask(aws, site, path)
        if not problems:
            if kept:
                kept.store(finished)
            return finished
        stored = kept.load() if kept and unreachable and aws.stale_ok else None
        if stored:
            self._warn(problems, f"Going on with {stored} (aws.stale_ok).")
            return stored.hosts
        if aws.required or (aws.required is None and not site.hosts):
            raise AnsibleParserError(f"{path}: AWS gave no complete answer:\n{listing(problems)}")
        self._warn(problems, "Going on without the instances that are missing (aws.required: false).")
        return finished

    def _warn(self, problems: Sequence[Problem], consequence: str) -> None:
        for problem in problems:
            self.display.warning(f"{problem} {consequence}")

    def _ask(self, aws: AwsOptions, site: Site, path: str) -> tuple[Finished, list[Problem], bool]:
        """Finished hosts, what prevented a complete answer, and whether an outage is among it."""
        # Only here: a cache hit needs no botocore, whose import is a tenth of a run.
        from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_failures import DENIED, UNREACHABLE
        from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_query import Access, Cloud, QueryError

        named = variables_of(expressions_of(*(self.get_option(name) for name in CONSTRUCTED)))
        access = (aws.profile, aws.access_key, aws.secret_key, aws.session_token, aws.assume_role_arn, aws.endpoint_url)
        try:
            cloud = Cloud(Access(*(value or None for value in access)))
            regions = aws.regions or cloud.regions()
        except QueryError as error:
            return Finished(), [error.failure.problem], error.failure.kind == UNREACHABLE
        answer = cloud.instances(regions, aws.filters, wanted_attributes(aws, named))
        misspelt = unknown_attributes(aws, answer.attributes) if answer.attributes else []
        if misspelt:
            raise RefusedError(misspelt)
        failures = answer.failures
        if not aws.strict_permissions:
            self._warn([failure.problem for failure in failures if failure.kind == DENIED], "Left out (aws.strict_permissions: false).")
            failures = [failure for failure in failures if failure.kind != DENIED]
        finished = self._finish(answer.records, answer.attributes, aws, site, path)
        return finished, [failure.problem for failure in failures], any(failure.kind == UNREACHABLE for failure in failures)

    def _finish(self, records: Sequence[Record], attributes: Collection[str], aws: AwsOptions, site: Site, path: str) -> Finished:
        compile_once(self.templar)
        finisher = Finisher(aws, site, Naming(aws.hostnames, attributes, self._evaluate))
        hosts = [(finisher.finish(record, ours), record) for record, ours in select(records, aws, site.cluster_name)]
        finished = finisher.result()
        for warning in finisher.warnings:
            self.display.warning(warning)
        if any(self.get_option(name) for name in CONSTRUCTED):
            self._construct(finished, hosts, aws, path)
        return finished

    def _evaluate(self, expression: str, variables: Mapping[str, Any]) -> Any:
        from ansible.template import trust_as_template  # an older core, which is told so in parse, has none

        return self.templar.evaluate_expression(trust_as_template(expression), local_variables=dict(variables))

    def _construct(self, finished: Finished, hosts: Sequence[tuple[str, Record]], aws: AwsOptions, path: str) -> None:
        """Core's constructed features, host by host, on what is being finished."""
        compose, groups, keyed_groups, strict = (self.get_option(option) for option in (*CONSTRUCTED, "strict"))
        inventory, recorder = self.inventory, Recorder(finished)
        groups_of: dict[str, list[str]] = {name: [] for name, _record in hosts}
        for group in sorted(finished.groups):
            for name in finished.groups[group]:
                groups_of[name].append(group)
        source = {"inventory_file": str(path), "inventory_dir": dirname(path)}
        self.inventory = recorder
        try:
            for name, record in hosts:
                magic = {"inventory_hostname": name, "inventory_hostname_short": name.partition(".")[0], "group_names": groups_of[name]}
                variables = recorder.variables = {**source, **expression_variables(record, aws), **finished.hosts[name], **magic}
                self._set_composite_vars(compose, variables, name, strict=strict)
                self._add_host_to_composed_groups(groups, variables, name, strict=strict, fetch_hostvars=False)
                self._add_host_to_keyed_groups(keyed_groups, variables, name, strict=strict, fetch_hostvars=False)
        finally:
            self.inventory = inventory
