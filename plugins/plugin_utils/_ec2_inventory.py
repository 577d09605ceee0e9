# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""From records of instances to finished hosts: names, variables, groups. Pure; what tags say stays data throughout."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from ansible.constants import LOCALHOST
from ansible.inventory.group import to_safe_group_name

from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem
from ansible_collections.fpga.hybrid.plugins.plugin_utils._aws_options import AwsOptions, GroupRule, HostName, NamePart
from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_records import ALWAYS, FILTER_NAMES, Record, value_at

#: Boards of the instance families that have FPGAs. AWS tells their number for each type (FpgaInfo); here only the kind matters.
BOARDS = {"f1": "aws-vu9p-f1", "f2": "aws-vu47p-f2", "vt1": "u30"}
#: What only the inventory file may fill. Shipped playbooks address these, so a tag must never get a host into them.
DECLARED_ONLY = frozenset({"all", "ungrouped", "on_prem", "control_plane", "vpn_server"})
PROVIDED = ("provider_id", "instance_type", "availability_zone", "lifecycle_state")

#: ssh to the VPN server and from there on, with what Ansible would itself use for that server. A template, evaluated when a connection is made,
#: because group_vars may say how the server is reached.
JUMP_OVER_HOST = """{%% set via = hostvars[%(host)r] -%%}
-o {{ ['ProxyCommand=ssh', via.ansible_ssh_common_args | default(''), '-i ' ~ (via.ansible_ssh_private_key_file | quote)
if via.ansible_ssh_private_key_file is defined else '', '-p', via.ansible_port | default(22), "-W '[%%h]:%%p'",
(via.ansible_user ~ '@' if via.ansible_user is defined else '') ~ via.ansible_host | default(%(host)r)] | select | join(' ') | quote }}"""

Evaluate = Callable[[str, Mapping[str, Any]], Any]


class RefusedError(Exception):
    """The answer can't become an inventory; says all that is wrong."""

    def __init__(self, problems: Collection[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


@dataclass
class Finished:
    """Hosts with their variables, groups with their members, groups with their child groups: all that the cache keeps."""

    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, dict[str, None]] = field(default_factory=dict)
    children: dict[str, dict[str, None]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Raises TypeError for a composed variable that JSON can't hold."""
        groups = {name: list(members) for name, members in self.groups.items()}
        children = {name: list(members) for name, members in self.children.items()}
        return json.dumps([self.hosts, groups, children], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Finished:
        """Raises ValueError for what to_json did not write."""
        hosts, groups, children = json.loads(text)
        return cls(
            hosts, {name: dict.fromkeys(members) for name, members in groups.items()}, {name: dict.fromkeys(members) for name, members in children.items()}
        )


class Groups:
    """Names of groups, as core sanitises them. Two values that would share a name without being the same are refused."""

    def __init__(self) -> None:
        self.members: dict[str, dict[str, None]] = {}
        self.problems: list[Problem] = []
        self._meanings: dict[str, tuple[str, str]] = {}
        self._of: dict[tuple[str, str], dict[str, None]] = {}

    def of(self, rule: str, raw: str) -> dict[str, None]:
        """The members of the group that `rule` calls `raw`."""
        try:
            return self._of[rule, raw]
        except KeyError:
            return self._of.setdefault((rule, raw), self._first(rule, raw))

    def named_by(self, rule: str) -> list[str]:
        return [name for name, meaning in self._meanings.items() if meaning[0] == rule]

    def _first(self, rule: str, raw: str) -> dict[str, None]:
        name = to_safe_group_name(raw, force=True, silent=True)
        meaning = self._meanings.setdefault(name, (rule, raw))
        if name in DECLARED_ONLY:
            self.problems.append(declared_only(name, f"{rule} would fill it from {raw!r}"))
        elif meaning != (rule, raw):
            found = f"{name} is {meaning[1]!r} of {meaning[0]} and {raw!r} of {rule}"
            self.problems.append(Problem("", "groups", found, "one meaning for one group", "Give the rule another prefix, or change the pool's or tag's name."))
        return self.members.setdefault(name, {})


def declared_only(group: str, found: str) -> Problem:
    return Problem("", f"group {group}", found, "declared hosts only, since playbooks act on them", "Give the rule a prefix.")


@dataclass(frozen=True)
class Site:
    """What the rest of the inventory file says that concerns instances: the cluster's name, names and VPN addresses of the declared hosts."""

    cluster_name: str
    source: str
    hosts: tuple[str, ...] = ()
    vpn_addresses: tuple[str, ...] = ()


def wanted_attributes(options: AwsOptions, expressions: frozenset[str] | None) -> frozenset[str] | None:
    """What has to be read of each record; None is everything. `expressions` are the variables that Jinja expressions name, None if unknown."""
    if options.full or expressions is None:
        return None
    plain = {name.removeprefix(options.hostvars_prefix).removesuffix(options.hostvars_suffix) for name in expressions}
    parts = [part for host_name in options.hostnames for part in (host_name.name, host_name.prefix) if part and part.path]
    paths = [*(part.path for part in parts), *(rule.path for rule in options.group_by), *(path for _name, _prefixed, path in options.variables)]
    address = {"private_ip_address"} if options.connect == "jump" else set()
    return ALWAYS | plain | address | {path[0] for path in paths}


def unknown_attributes(options: AwsOptions, attributes: Collection[str]) -> list[Problem]:
    """Attributes that no instance can have: most likely misspelt, so that a group would stay empty and nobody would know why."""
    named = [("hostnames", host_name.name.text, host_name.name.path) for host_name in options.hostnames if host_name.name.path]
    named += [("group_by", rule.text, rule.path) for rule in options.group_by]
    named += [("vars", ".".join(path), path) for _name, _prefixed, path in options.variables]
    return [
        Problem("", f"aws.{option}", f"no instance has an attribute {text}", "an attribute of DescribeInstances in snake_case, or tag:KEY", "Mend its name.")
        for option, text, path in named
        if path[0] not in attributes
    ]


def select(records: Iterable[Record], options: AwsOptions, cluster_name: str) -> list[tuple[Record, bool]]:
    """The instances that `select` asks for, and whether each belongs to the cluster. Raises RefusedError when the name fits two clusters."""
    marked = [(record, belongs(record["tags"], options.cluster_id, cluster_name)) for record in records]
    ids = sorted({record["tags"].get("fpga.hybrid/cluster-id", "") for record, ours in marked if ours} - {""})
    if len(ids) > 1:
        found = f"instances of {len(ids)} clusters are called {cluster_name}: {', '.join(ids)}"
        raise RefusedError(
            [Problem("", "aws.cluster_id", found, "one cluster", "Say which with cluster_id (on its control plane: /etc/fpga-hybrid/cluster.json).")]
        )
    return marked if options.select == "all" else [(record, ours) for record, ours in marked if ours]


def belongs(tags: Mapping[str, str], cluster_id: str, cluster_name: str) -> bool:
    """By the cluster's id where it is known. Else by what carries its name: the autoscaler's tag, or the name of a pool's group."""
    if cluster_id:
        return tags.get("fpga.hybrid/cluster-id") == cluster_id
    if not cluster_name:
        return False
    if tags.get(f"k8s.io/cluster-autoscaler/{cluster_name}") == "owned":
        return True
    pool = tags.get("fpga.hybrid/pool")
    return bool(pool) and tags.get("aws:autoscaling:groupName") == f"{cluster_name}-{pool}"


class Naming:
    """Gives an instance its name: the first of `hostnames` that yields one, else its id."""

    def __init__(self, host_names: Iterable[HostName], attributes: Collection[str], evaluate: Evaluate) -> None:
        self._host_names = tuple(host_names)
        self._attributes = attributes
        self._evaluate = evaluate

    def name(self, record: Record) -> str:
        for host_name in self._host_names:
            name = self._part(host_name.name, record)
            if name:
                prefix = self._prefix(host_name.prefix, record) if host_name.prefix else ""
                name = f"{prefix}{host_name.separator}{name}" if prefix else name
                # What Ansible would take for the name of a host and a port.
                return to_safe_group_name(name, force=True, silent=True) if ":" in name else name
        return str(record["instance_id"])

    def _part(self, part: NamePart, record: Record) -> str:
        value: Any = ""
        if part.tags:
            tags = record["tags"]
            names = (f"{key}_{wanted}" if wanted is not None else tags[key] for key, wanted in part.tags if key in tags and wanted in (None, tags[key]))
            value = next(filter(None, names), "")
        else:
            value = value_at(record, part.path)
        if isinstance(value, list):
            value = next(filter(None, value), "")
        if value and part.jinja_filter:
            value = self._evaluate(f"__attribute | {part.jinja_filter}", {"__attribute": value})
            value = value[0] if isinstance(value, list) and value else value
        return "" if value is None else str(value)

    def _prefix(self, part: NamePart, record: Record) -> str:
        known = part.tags or part.text in FILTER_NAMES or part.path[0] in self._attributes
        return self._part(part, record) if known else part.text


class Finisher:
    """Makes hosts of records: `finish` once for each, then `result`."""

    def __init__(self, options: AwsOptions, site: Site, naming: Naming) -> None:
        self._options = options
        self._site = site
        self._naming = naming
        self._groups = Groups()
        self._problems: list[Problem] = []
        self._sources: dict[str, str] = {}
        self._result = Finished(groups=self._groups.members)
        self._names = {name: options.variable(name) for name in (*PROVIDED, "vpn_address", "ec2_tags")}
        self._full_names: dict[str, str] = {}
        self.warnings: list[str] = []
        self._groups.of("aws", "aws")

    def finish(self, record: Record, ours: bool) -> str:
        """Adds the instance as a host, and returns its name."""
        options, tags = self._options, record["tags"]
        name = self._naming.name(record)
        zone = record["placement"].get("availability_zone", "")
        self._claim(name, f"instance {record['instance_id']} in {zone or record['placement']['region']}")
        instance_type = record["instance_type"]
        provided = (f"aws:///{zone}/{record['instance_id']}", instance_type, zone, record["state"]["name"])
        variables = self._everything(record) if options.full else {}
        variables.update(zip((self._names[key] for key in PROVIDED), provided))
        vpn_address = self._vpn_address(name, tags)
        if vpn_address:
            variables[self._names["vpn_address"]] = vpn_address
        for variable, prefixed, path in options.variables:
            value = value_at(record, path)
            if value is not None:
                variables[options.variable(variable) if prefixed else variable] = value
        if options.connect != "none":
            variables.update(self._address(record, vpn_address))
        self._result.hosts[name] = variables
        self._join(name, record, ours, zone)
        return name

    def result(self) -> Finished:
        """Raises RefusedError with every clash of names."""
        for rule in self._options.group_by:
            if rule.parent_group:
                self._adopt(rule)
        problems = self._problems + self._groups.problems
        problems += [
            Problem(name, "name", f"{self._sources[name]} is called like a group", "a name that no group has", "Name hosts by something else: aws.hostnames.")
            for name in self._result.hosts.keys() & (self._groups.members.keys() | DECLARED_ONLY)
        ]
        if problems:
            raise RefusedError(problems)
        return self._result

    def _claim(self, name: str, source: str) -> None:
        first = self._sources.setdefault(name, source)
        if name in self._site.hosts:
            first = f"the declared host of {self._site.source}"
        elif name in LOCALHOST:
            first = "the controller"
        if name.startswith("-"):
            self._problems.append(Problem(name, "name", f"{source} is called like an option of ssh", "a host's name", "Change the tag, or aws.hostnames."))
        if first is not source:
            self._problems.append(
                Problem(name, "name", f"claimed by {first} and by {source}", "one host of a name", "Rename one, or name hosts by their id (aws.hostnames).")
            )

    def _join(self, name: str, record: Record, ours: bool, zone: str) -> None:
        groups = self._groups
        groups.of("aws", "aws")[name] = None
        if zone:
            groups.of("zones", f"zone_{zone}")[name] = None
        board = BOARDS.get(record["instance_type"].partition(".")[0])
        if board:
            groups.of("fpga", "fpga")[name] = None
            groups.of("boards", f"fpga_{board}")[name] = None
        if ours:
            groups.of("workers", "workers")[name] = None
            pool = record["tags"].get("fpga.hybrid/pool")
            if pool:
                groups.of("pools", f"pool_{pool}")[name] = None
        for rule in self._options.group_by:
            value = value_at(record, rule.path)
            for found in value if isinstance(value, list) else [value]:
                text = rule.default_value if found in (None, "") else found
                if text is not None and not isinstance(text, Mapping):
                    groups.of(f"group_by {rule.text}", rule.group(text))[name] = None

    def _adopt(self, rule: GroupRule) -> None:
        """Makes the rule's groups children of its parent group."""
        parent = to_safe_group_name(rule.parent_group, force=True, silent=True)
        if parent in DECLARED_ONLY:
            self._problems.append(declared_only(parent, f"it is parent_group of {rule.text}"))
        self._groups.members.setdefault(parent, {})
        children = self._groups.named_by(f"group_by {rule.text}")
        self._result.children.setdefault(parent, {}).update(dict.fromkeys(child for child in children if child != parent))

    def _everything(self, record: Record) -> dict[str, Any]:
        names = self._full_names
        for key in record:
            if key not in names:
                names[key] = self._options.variable("ec2_tags" if key == "tags" else key)
        return {names[key]: value for key, value in record.items()}

    def _vpn_address(self, name: str, tags: Mapping[str, str]) -> str:
        """Checked, because anybody who may tag the instance can write here, and ssh is given it as an argument."""
        text = tags.get("fpga.hybrid/vpn-address", "")
        if not text:
            return ""
        try:
            address = str(ipaddress.ip_address(text))
        except ValueError:
            self.warnings.append(f"{name}, tag fpga.hybrid/vpn-address: found {text!r}; expected an address. It is not used; keeper writes this tag.")
            return ""
        if address in self._site.vpn_addresses:
            self.warnings.append(f"{name}, tag fpga.hybrid/vpn-address: {address} is a declared host's; expected one of its own. It is not used.")
            return ""
        return address

    def _address(self, record: Record, vpn_address: str) -> dict[str, Any]:
        """Which host `connect` leads to. How it does is the same for all hosts, and set where the inventory is filled."""
        if self._options.connect == "ssm":
            return {"ansible_aws_ssm_instance_id": record["instance_id"], "ansible_aws_ssm_region": record["placement"]["region"]}
        address = record.get("private_ip_address") if self._options.jump_host else vpn_address
        return {"ansible_host": address} if address else {}


def connection(options: AwsOptions, vpn_server: str) -> dict[str, Any]:
    """Variables of every instance that say how `connect` reaches it."""
    if options.connect == "jump":
        from ansible.template import trust_as_template  # an older core, which the plugin tells so, has none

        arguments = trust_as_template(f"-o ProxyJump={quote(options.jump_host)}" if options.jump_host else JUMP_OVER_HOST % {"host": vpn_server})
        # Beside ansible_ssh_common_args, which stay the user's.
        return {f"ansible_{program}_extra_args": arguments for program in ("ssh", "scp", "sftp")}
    if options.connect == "ssm":
        return {"ansible_connection": "amazon.aws.aws_ssm", **({"ansible_aws_ssm_profile": options.profile} if options.profile else {})}
    return {}


def expression_variables(record: Record, options: AwsOptions) -> dict[str, Any]:
    """What expressions see of the instance: as aws_ec2's do, and ec2_tags besides tags."""
    return {options.variable(key): value for key, value in record.items()} | {options.variable("ec2_tags"): record["tags"]}


def declared_groups(boards_of: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Groups of the declared hosts by the boards that they publish: fpga and fpga_<board>. Raises RefusedError when two boards share a name."""
    groups = Groups()
    for host, boards in boards_of.items():
        for board in boards:
            groups.of("fpga", "fpga")[host] = None
            groups.of("boards", f"fpga_{board}")[host] = None
    if groups.problems:
        raise RefusedError(groups.problems)
    return {name: list(members) for name, members in groups.members.items()}
