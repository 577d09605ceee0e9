# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""The inventory file's `aws`, read once: what is to be asked, and what becomes of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.vars.reserved import get_reserved_names

from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem
from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_records import Path, path_of

TEXTS = (
    "access_key",
    "assume_role_arn",
    "cluster_id",
    "endpoint_url",
    "hostvars_prefix",
    "hostvars_suffix",
    "jump_host",
    "profile",
    "secret_key",
    "session_token",
)
SWITCHES = {"full": False, "required": None, "stale_ok": False, "strict_permissions": True}
CHOICES = {"select": ("cluster", "all"), "connect": ("none", "vpn", "jump", "ssm")}
KEYS = {"regions", "filters", "hostnames", "group_by", "vars", *TEXTS, *SWITCHES, *CHOICES}
#: Stands beside `aws`, because core's documentation fragments define it there.
TOP_LEVEL = {"compose", "groups", "keyed_groups", "strict", "use_extra_vars", "leading_separator", "cache", "cache_plugin", "cache_timeout", "cache_connection"}
#: aws_ec2's options whose meaning another key has here.
INSTEAD = {
    "region": "regions",
    "include_filters": "filters",
    "exclude_filters": "filters, and compose's groups for what they can't say",
    "iam_role_arn": "assume_role_arn",
    "aws_profile": "profile",
    "use_ssm_inventory": "connect: ssm, if it is about reaching the instances",
}
GROUP_KEYS = {"key", "prefix", "separator", "default_value", "parent_group"}


@dataclass(frozen=True)
class NamePart:
    """Where (part of) a host's name comes from.

    tags: of ``tag:A=b,C``, each key with the value that it must have (then the name is A_b) or None (then it is C's value).
    """

    text: str
    path: Path = ()
    tags: tuple[tuple[str, str | None], ...] = ()
    jinja_filter: str = ""


@dataclass(frozen=True)
class HostName:
    name: NamePart
    prefix: NamePart | None = None
    separator: str = "_"


@dataclass(frozen=True)
class GroupRule:
    """One group for each value of an attribute."""

    text: str
    path: Path
    prefix: str
    separator: str = "_"
    default_value: str | None = None
    parent_group: str = ""

    def group(self, value: object) -> str:
        return f"{self.prefix}{self.separator}{value}" if self.prefix else str(value)


@dataclass(frozen=True)
class AwsOptions:
    regions: tuple[str, ...] = ()
    select: str = "cluster"
    connect: str = "none"
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hostnames: tuple[HostName, ...] = ()
    group_by: tuple[GroupRule, ...] = ()
    #: Additional variables: name, whether prefix and suffix apply (they don't where the name was chosen in `vars`), place.
    variables: tuple[tuple[str, bool, Path], ...] = ()
    full: bool = False
    required: bool | None = None
    stale_ok: bool = False
    strict_permissions: bool = True
    access_key: str = ""
    assume_role_arn: str = ""
    cluster_id: str = ""
    endpoint_url: str = ""
    hostvars_prefix: str = ""
    hostvars_suffix: str = ""
    jump_host: str = ""
    profile: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)

    def variable(self, name: str) -> str:
        return f"{self.hostvars_prefix}{name}{self.hostvars_suffix}"


class _Reader:
    """Takes the keys out of a mapping and notes what is wrong with them."""

    def __init__(self, declared: Mapping[str, Any]) -> None:
        self.declared = declared
        self.problems: list[Problem] = []

    def problem(self, key: str, found: str, expected: str, remedy: str) -> None:
        self.problems.append(Problem("", f"aws.{key}", found, expected, remedy))

    def unknown_keys(self) -> None:
        for key in self.declared:
            if key in TOP_LEVEL:
                self.problem(key, "no such key here", "it beside aws, not below", "Move it to the top of the file.")
            elif key in INSTEAD:
                self.problem(key, "no such key", "another one", f"Use {INSTEAD[key]}.")
            elif key not in KEYS:
                self.problem(str(key), "no such key", f"one of {', '.join(sorted(KEYS))}", "Mend the key, or take it out.")

    def text(self, key: str) -> str:
        value = self.declared.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.problem(key, f"found a {type(value).__name__}", "a text", "Put it between quotes.")  # not the value: it may be a key
            return ""
        return str(value)

    def switch(self, key: str, default: bool | None) -> Any:
        value = self.declared.get(key)
        if value is None:
            return default
        try:
            return boolean(value)
        except TypeError:
            self.problem(key, f"found {value!r}", "true or false", "Mend it.")
            return default

    def choice(self, key: str) -> str:
        choices = CHOICES[key]
        value = self.declared.get(key, choices[0])
        if value not in choices:
            self.problem(key, f"found {value!r}", f"one of {', '.join(choices)}", "Mend it.")
            return choices[0]
        return str(value)

    def items(self, key: str, of: str) -> list[Any]:
        value = self.declared.get(key) or []
        if not isinstance(value, list):
            self.problem(key, f"found {value!r}", f"a list of {of}", "Write it as a list.")
            return []
        return list(value)

    def regions(self) -> tuple[str, ...]:
        regions = self.declared.get("regions")
        if isinstance(regions, str):
            regions = [name.strip() for name in regions.split(",")]
        everywhere = self.declared.get("select") == "all" and not regions and isinstance(regions, (list, type(None)))
        if not everywhere and (not isinstance(regions, list) or not regions or not all(isinstance(name, str) and name for name in regions)):
            self.problem("regions", f"found {regions!r}", "a list of region names", "Write regions: [us-east-1].")
            return ()
        return tuple(dict.fromkeys(map(str, regions or ())))

    def filters(self) -> dict[str, tuple[str, ...]]:
        filters = self.declared.get("filters") or {}
        if not isinstance(filters, Mapping):
            self.problem("filters", f"found {filters!r}", "a mapping of DescribeInstances' filters", "Write filters: {vpc-id: vpc-0123}.")
            return {}
        return {str(name): tuple(_filter_value(value) for value in (values if isinstance(values, list) else [values])) for name, values in filters.items()}

    def hostnames(self) -> tuple[HostName, ...]:
        names = []
        for entry in self.items("hostnames", "attributes"):
            if isinstance(entry, str):
                names.append(HostName(parse_name(entry)))
            elif isinstance(entry, Mapping) and isinstance(entry.get("name"), str) and set(entry) <= {"name", "prefix", "separator"}:
                prefix = parse_name(str(entry["prefix"])) if entry.get("prefix") else None
                names.append(HostName(parse_name(entry["name"]), prefix, str(entry.get("separator", "_"))))
            else:
                self.problem(
                    "hostnames", f"found {entry!r}", "an attribute, or a mapping of name, prefix and separator", "Write tag:Name or private-ip-address."
                )
        return tuple(names)

    def group_by(self) -> tuple[GroupRule, ...]:
        rules = []
        for entry in self.items("group_by", "attributes"):
            rule = {"key": entry} if isinstance(entry, str) else entry
            if not isinstance(rule, Mapping) or not isinstance(rule.get("key"), str) or not set(rule) <= GROUP_KEYS:
                remedy = "Write instance_type, or {key: 'tag:role', prefix: role}."
                self.problem("group_by", f"found {entry!r}", f"an attribute, or a mapping of {', '.join(sorted(GROUP_KEYS))}", remedy)
                continue
            key = rule["key"]
            rules.append(
                GroupRule(
                    key,
                    path_of(key),
                    str(rule.get("prefix", key.replace("tag:", "tag_", 1))),
                    str(rule.get("separator", "_")),
                    None if rule.get("default_value") is None else str(rule["default_value"]),
                    str(rule.get("parent_group") or ""),
                )
            )
        return tuple(rules)

    def variables(self) -> tuple[tuple[str, bool, Path], ...]:
        entries = self.declared.get("vars") or []
        if isinstance(entries, Mapping):
            entries = [entries]
        pairs: list[tuple[Any, bool, Any]] = []
        for entry in entries if isinstance(entries, list) else [None]:
            if isinstance(entry, str):
                pairs.append((entry, True, entry))
            elif isinstance(entry, Mapping):
                pairs += [(name, False, attribute) for name, attribute in entry.items()]
            else:
                pairs.append((None, False, entry))
        reserved = get_reserved_names() if pairs else set()
        variables = []
        for name, prefixed, attribute in pairs:
            if not isinstance(name, str) or not isinstance(attribute, str):
                self.problem(
                    "vars", f"found {self.declared['vars']!r}", "attributes, or a mapping of variable to attribute", "Write vars: [private_ip_address]."
                )
            elif not name.isidentifier():
                self.problem("vars", f"{name!r} can't be a variable's name", "letters, digits and _", f"Write {{some_name: '{attribute}'}}.")
            elif name in reserved:
                self.problem(
                    "vars", f"Ansible uses the name {name} itself", "another one", "Take ec2_tags." if name == "tags" else f"Write {{ec2_{name}: {attribute}}}."
                )
            else:
                variables.append((str(name), prefixed, path_of(attribute)))
        return tuple(variables)


def parse_name(text: str) -> NamePart:
    attribute, _bar, jinja_filter = (part.strip() for part in text.partition("|"))
    if not attribute.startswith("tag:"):
        return NamePart(attribute, path_of(attribute), jinja_filter=jinja_filter)
    tags = tuple((key, value if equals else None) for key, equals, value in (tag.partition("=") for tag in attribute[len("tag:") :].split(",")))
    return NamePart(attribute, tags=tags, jinja_filter=jinja_filter)


def _filter_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_aws(declared: object) -> tuple[AwsOptions | None, list[Problem]]:
    """The options of `aws`, None where there is none, and everything that is wrong with it."""
    if declared is None:
        return None, []
    if not isinstance(declared, Mapping):
        return None, [Problem("", "aws", f"found {declared!r}", "a mapping with regions", "Write aws: {regions: [us-east-1]}.")]
    reader = _Reader(declared)
    reader.unknown_keys()
    texts: dict[str, Any] = {key: reader.text(key) for key in TEXTS}
    switches: dict[str, Any] = {key: reader.switch(key, default) for key, default in SWITCHES.items()}
    if texts["profile"] and texts["access_key"]:
        reader.problem("profile", "both profile and access_key", "one of the two", "Take one out.")
    if bool(texts["access_key"]) != bool(texts["secret_key"]):
        reader.problem("access_key", "one of access_key and secret_key is missing", "both or none", "Give both, or leave it to profile or environment.")
    options = AwsOptions(
        regions=reader.regions(),
        select=reader.choice("select"),
        connect=reader.choice("connect"),
        filters=reader.filters(),
        hostnames=reader.hostnames(),
        group_by=reader.group_by(),
        variables=reader.variables(),
        **switches,
        **texts,
    )
    if options.endpoint_url and not options.endpoint_url.startswith(("http://", "https://")):
        reader.problem("endpoint_url", f"found {options.endpoint_url!r}", "an address with http:// or https://", "Mend it, or take it out.")
    if options.jump_host and options.connect != "jump":
        reader.problem("jump_host", f"connect is {options.connect}", "connect: jump", "Set connect, or take jump_host out.")
    if not (options.variable("x")).isidentifier():
        reader.problem(
            "hostvars_prefix", f"{options.variable('NAME')!r} can't be a variable's name", "letters, digits and _", "Mend hostvars_prefix or hostvars_suffix."
        )
    return options, reader.problems
