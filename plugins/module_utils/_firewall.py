# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets the cluster's own traffic through whatever firewall a host has, without disabling or replacing any of it.

An accept in a table of our own would not help: a packet has to be accepted by every base chain of its hook. So the rules go where the refusing is done:

- ufw active: ufw's own rules (persistent by ufw itself);
- iptables with a policy DROP or refusing rules (Docker's FORWARD, iptables-persistent): chains of our own, jumped to first; for FORWARD from DOCKER-USER
  where Docker keeps that chain for us;
- nftables with refusing base chains (nftables.service): chains of our own in the same table, jumped to first;
- nothing that refuses: nothing.

This file imports nothing of Ansible, because module C(host_firewall) also installs it as the program that puts the rules back at every start.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import shutil
import subprocess
import sys
import typing as t
from dataclasses import dataclass

COMMENT = "fpga-hybrid"
CHAINS = {"in": "FPGA-HYBRID-IN", "forward": "FPGA-HYBRID-FWD"}
HOOKS = {"in": "input", "forward": "forward"}
RULES_FILE = "/etc/fpga-hybrid/firewall.json"

#: Tables and chains whose refusing is the business of programs that know the cluster, or that refuse single strangers.
KNOWN_TABLES = ("cali", "calico", "kube-proxy", "docker", "netavark", "f2b", "firewalld", "fpga")
REFUSALS = ("DROP", "REJECT")


class FirewallError(Exception):
    """A firewall cannot be made to let the cluster through; the message says what to do."""


Runner = t.Callable[[t.Sequence[str], t.Optional[str]], "tuple[int, str, str]"]


@dataclass(frozen=True)
class Rule:
    """Traffic to let through. direction: in (to the host itself) or forward. Without ports every port, without a protocol every protocol.

    In one form only, or what a firewall keeps would never equal what was asked for: networks without host bits, one address without a mask,
    anywhere as None, ports in order and each once. C(parse) brings any input into that form.
    """

    direction: str
    source: str | None = None
    destination: str | None = None
    protocol: str | None = None
    ports: tuple[int, ...] = ()

    @classmethod
    def parse(cls, data: t.Mapping[str, t.Any]) -> Rule:
        rule = cls(
            data["direction"],
            network(data.get("source"), "source"),
            network(data.get("destination"), "destination"),
            data.get("protocol") or None,
            tuple(sorted(set(data.get("ports") or ()))),
        )
        if rule.ports and rule.protocol not in ("tcp", "udp"):
            raise FirewallError(f"{rule}: ports need a protocol that has them: tcp or udp.")
        return rule

    def __str__(self) -> str:
        return " ".join(
            word
            for word in (
                "to this host" if self.direction == "in" else "through this host",
                f"from {self.source}" if self.source else "",
                f"to {self.destination}" if self.destination else "",
                self.protocol or "",
                f"ports {', '.join(map(str, self.ports))}" if self.ports else "",
            )
            if word
        )

    def iptables(self) -> str:
        """As `iptables -S` prints it, without the chain: every address with a mask."""
        words = [f"{option} {place if '/' in place else f'{place}/32'}" for option, place in (("-s", self.source), ("-d", self.destination)) if place]
        words.append(f"-p {self.protocol}" if self.protocol else "")
        if len(self.ports) == 1:
            words.append(f"-m {self.protocol} --dport {self.ports[0]}")
        elif self.ports:
            words.append(f"-m multiport --dports {','.join(map(str, self.ports))}")
        return " ".join([*filter(None, words), f"-m comment --comment {COMMENT} -j ACCEPT"])

    def nft(self) -> str:
        words = [f"ip saddr {self.source}" if self.source else "", f"ip daddr {self.destination}" if self.destination else ""]
        if self.ports:
            words.append(f"{self.protocol} dport {{ {', '.join(map(str, self.ports))} }}")
        elif self.protocol:
            words.append(f"ip protocol {self.protocol}")
        return " ".join([*filter(None, words), "accept"])

    def mark(self) -> str:
        """What recognises this rule among nft's."""
        return f"{COMMENT} {hashlib.sha256(self.nft().encode()).hexdigest()[:12]}"

    def ufw(self, *verbs: str) -> list[str]:
        """The command that does this with the rule: `allow`, or `delete allow`. ufw wants `route` before both words."""
        words = ["ufw", *(["route"] if self.direction == "forward" else []), *verbs]
        if self.protocol:
            words += ["proto", self.protocol]
        words += ["from", self.source or "any", "to", self.destination or "any"]
        if self.ports:
            words += ["port", ",".join(map(str, self.ports))]
        return words

    def ufw_tuple(self) -> str:
        """As ufw keeps it in user.rules: action, protocol, port, destination, port, source, direction."""
        action = "route:allow" if self.direction == "forward" else "allow"
        anywhere = "0.0.0.0/0"
        ports = ",".join(map(str, self.ports)) or "any"
        return f"{action} {self.protocol or 'any'} {ports} {self.destination or anywhere} any {self.source or anywhere} in"


def network(text: str | None, what: str) -> str | None:
    """A network or an address in the form that Rule asks for. Host bits are dropped, as ufw, iptables and nft drop them."""
    if not text:
        return None
    try:
        found = ipaddress.IPv4Network(text, strict=False)
    except ValueError as error:
        raise FirewallError(
            f"rule for the firewall, {what}: found {text!r}, expected an IPv4 network or address. Mend host_firewall_networks or host_firewall_rules."
        ) from error
    if not found.prefixlen:
        return None
    return str(found.network_address) if found.prefixlen == found.max_prefixlen else str(found)


@dataclass(frozen=True)
class Step:
    says: str
    command: tuple[str, ...]
    stdin: str | None = None


# ufw


def ufw_enabled(conf: str) -> bool:
    return bool(re.search(r"^\s*ENABLED\s*=\s*[\"']?yes", conf, re.MULTILINE | re.IGNORECASE))


def ufw_kept(user_rules: str) -> dict[str, bool]:
    """The rules that ufw keeps, as tuples, and whether each is ours. ufw keeps a rule once, with the comment that was given last."""
    mark = f"comment={COMMENT.encode().hex()}"
    found = re.finditer(r"^### tuple ### (.+?)(?: (comment=\S*))?\s*$", user_rules, re.MULTILINE)
    return {match[1]: match[2] == mark for match in found}


def ufw_rule(kept: str) -> Rule:
    """The rule of ours that ufw keeps as this tuple."""
    action, protocol, ports, destination, _sport, source, _way = kept.split()
    return Rule(
        "forward" if action.startswith("route:") else "in",
        None if source == "0.0.0.0/0" else source,
        None if destination == "0.0.0.0/0" else destination,
        None if protocol == "any" else protocol,
        () if ports == "any" else tuple(int(port) for port in ports.split(",")),
    )


def plan_ufw(user_rules: str, rules: t.Sequence[Rule]) -> list[Step]:
    there = ufw_kept(user_rules)
    # ufw refuses `allow proto icmp`: what of it passes is up to its before.rules, which let echo through to the host and through it.
    wanted = {rule.ufw_tuple(): rule for rule in rules if rule.protocol != "icmp"}
    # A rule of somebody else that says the same does as well. Adding ours would put our comment on theirs, and a reset would take it away.
    steps = [Step(f"ufw: {rule} allowed", (*rule.ufw("allow"), "comment", COMMENT)) for kept, rule in wanted.items() if kept not in there]
    gone = sorted(kept for kept, is_ours in there.items() if is_ours and kept not in wanted)
    return steps + [Step(f"ufw: rule of ours removed: {kept}", tuple(ufw_rule(kept).ufw("delete", "allow"))) for kept in gone]


# iptables


@dataclass(frozen=True)
class Chain:
    policy: str | None
    rules: tuple[str, ...]

    def first_refusal(self) -> int | None:
        """Where packets are first refused: the number of a rule, or behind all of them by the policy; None for never."""
        for number, rule in enumerate(self.rules):
            if re.search(r"-j (DROP|REJECT)\b", rule):
                return number
        return len(self.rules) if self.policy in REFUSALS else None


def parse_iptables(text: str) -> dict[str, Chain]:
    """The output of `iptables -S`."""
    policies: dict[str, str | None] = {}
    rules: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split(" ", 2)
        if words[0] in ("-P", "-N"):
            policies[words[1]] = words[2] if words[0] == "-P" else None
            rules.setdefault(words[1], [])
        elif words[0] == "-A":
            rules.setdefault(words[1], []).append(words[2].replace('"', ""))
    return {name: Chain(policies.get(name), tuple(found)) for name, found in rules.items()}


def plan_iptables(chains: t.Mapping[str, Chain], rules: t.Sequence[Rule]) -> list[Step]:
    lines: list[str] = []
    says: list[str] = []
    for direction, builtin in (("in", "INPUT"), ("forward", "FORWARD")):
        ours, wanted = CHAINS[direction], tuple(rule.iptables() for rule in rules if rule.direction == direction)
        refusal = chains.get(builtin, Chain(None, ())).first_refusal()
        if refusal is None or not wanted:
            continue
        place = "DOCKER-USER" if direction == "forward" and "DOCKER-USER" in chains else builtin
        jump = f"-j {ours}"
        at = next((number for number, rule in enumerate(chains[place].rules) if rule.endswith(jump)), None)
        before = chains[place].first_refusal()
        if chains.get(ours, Chain(None, ())).rules != wanted:
            lines += [f":{ours} - [0:0]", *(f"-A {ours} {rule}" for rule in wanted)]
            says.append(f"chain {ours} {'mended' if ours in chains else 'made'}")
        if at is None or (before is not None and at > before):
            lines += [f"-D {place} {jump}"] if at is not None else []
            lines.append(f"-I {place} 1 {jump}")
            says.append(f"{place} asks {ours} first")
    return (
        [Step(f"iptables: {'; '.join(says)}", ("iptables-restore", "--noflush", "--wait", "10"), "\n".join(["*filter", *lines, "COMMIT", ""]))] if lines else []
    )


def unplan_iptables(chains: t.Mapping[str, Chain]) -> list[Step]:
    lines = [f"-D {name} {rule}" for name, chain in chains.items() for rule in chain.rules for ours in CHAINS.values() if rule.endswith(f"-j {ours}")]
    for ours in CHAINS.values():
        lines += [f"-F {ours}", f"-X {ours}"] if ours in chains else []
    return (
        [Step("iptables: our chains removed", ("iptables-restore", "--noflush", "--wait", "10"), "\n".join(["*filter", *lines, "COMMIT", ""]))] if lines else []
    )


# nftables


@dataclass(frozen=True)
class BaseChain:
    family: str
    table: str
    name: str
    direction: str
    refuses_at: int
    jump_at: int | None  # number of our jump among its rules
    ours: tuple[str, ...] | None  # comments of the rules of our chain in the same table

    @property
    def place(self) -> str:
        return f"{self.family} {self.table} {self.name}"


def parse_nft(text: str) -> list[BaseChain]:
    """The base chains in `nft -j list ruleset` that refuse packets to or through this host."""
    items = json.loads(text or "{}").get("nftables", [])
    rules: dict[tuple[str, str, str], list[t.Mapping[str, t.Any]]] = {}
    chains: dict[tuple[str, str, str], t.Mapping[str, t.Any]] = {}
    for item in items:
        if "chain" in item:
            chain = item["chain"]
            chains[chain["family"], chain["table"], chain["name"]] = chain
        elif "rule" in item:
            rule = item["rule"]
            rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule)
    found = []
    for key, chain in chains.items():
        family, table, name = key
        direction = next((d for d, hook in HOOKS.items() if chain.get("hook") == hook), None)
        # INPUT and FORWARD in capitals belong to iptables, which works through nftables nowadays.
        if direction is None or chain.get("type") != "filter" or family not in ("ip", "inet") or name.isupper() or table.startswith(KNOWN_TABLES):
            continue
        own_rules = rules.get(key, [])
        refuses = next((number for number, rule in enumerate(own_rules) if any("drop" in part or "reject" in part for part in rule.get("expr", []))), None)
        if refuses is None and chain.get("policy") == "drop":
            refuses = len(own_rules)
        if refuses is None:
            continue
        jump = next((number for number, rule in enumerate(own_rules) if rule.get("comment") == COMMENT), None)
        ours_key = (family, table, own_chain(direction))
        ours = tuple(str(rule.get("comment")) for rule in rules.get(ours_key, [])) if ours_key in chains else None
        found.append(BaseChain(family, table, name, direction, refuses, jump, ours))
    return found


def own_chain(direction: str) -> str:
    return f"fpga_hybrid_{HOOKS[direction]}"


def plan_nft(chains: t.Sequence[BaseChain], rules: t.Sequence[Rule]) -> list[Step]:
    steps = []
    for chain in chains:
        wanted = [rule for rule in rules if rule.direction == chain.direction]
        ours = f"{chain.family} {chain.table} {own_chain(chain.direction)}"
        lines, says = [], []
        if not wanted:
            continue
        if chain.ours != tuple(rule.mark() for rule in wanted):
            lines += [f"add chain {ours}", f"flush chain {ours}", *(f'add rule {ours} {rule.nft()} comment "{rule.mark()}"' for rule in wanted)]
            says.append(f"chain {ours} {'made' if chain.ours is None else 'mended'}")
        if chain.jump_at is None or chain.jump_at > chain.refuses_at:
            lines.append(f'insert rule {chain.place} jump {own_chain(chain.direction)} comment "{COMMENT}"')
            says.append(f"{chain.place} asks it first")
        if lines:
            steps.append(Step(f"nftables: {'; '.join(says)}", ("nft", "-f", "-"), "\n".join(lines) + "\n"))
    return steps


def unplan_nft(text: str) -> list[Step]:
    lines = []
    items = json.loads(text or "{}").get("nftables", [])
    for item in items:
        rule = item.get("rule", {})
        if rule.get("comment") == COMMENT:
            lines.append(f"delete rule {rule['family']} {rule['table']} {rule['chain']} handle {rule['handle']}")
    for item in items:
        chain = item.get("chain", {})
        if chain.get("name") in [own_chain(direction) for direction in HOOKS]:
            where = f"{chain['family']} {chain['table']} {chain['name']}"
            lines += [f"flush chain {where}", f"delete chain {where}"]
    return [Step("nftables: our chains removed", ("nft", "-f", "-"), "\n".join(lines) + "\n")] if lines else []


# All together


@dataclass(frozen=True)
class Plan:
    steps: tuple[Step, ...]
    boot: bool  # whether a program has to put the rules back at every start
    firewalls: tuple[str, ...]


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def run(command: t.Sequence[str], stdin: str | None = None) -> tuple[int, str, str]:
    # This file is also a program of its own, without the collection, so _command is not there.
    result = subprocess.run(list(command), input=stdin, capture_output=True, text=True, check=False)  # pylint: disable=ansible-bad-function
    return result.returncode, result.stdout, result.stderr


def ask(runner: Runner, *command: str) -> str:
    """What a program prints; nothing if it is not installed."""
    if not shutil.which(command[0]):
        return ""
    status, out, err = runner(command, None)
    if status:
        raise FirewallError(f"`{' '.join(command)}` failed: {(err or out).strip()}")
    return out


def make_plan(rules: t.Sequence[Rule], runner: Runner) -> Plan:
    steps: list[Step] = []
    firewalls: list[str] = []
    boot = False
    if ufw_enabled(read("/etc/ufw/ufw.conf")) and shutil.which("ufw"):
        firewalls.append("ufw")
        steps += plan_ufw(read("/etc/ufw/user.rules"), rules)
    else:
        chains = parse_iptables(ask(runner, "iptables", "-w", "10", "-S"))
        if any(chains.get(name, Chain(None, ())).first_refusal() is not None for name in ("INPUT", "FORWARD")):
            firewalls.append("iptables")
            boot = True
            steps += plan_iptables(chains, rules)
    bases = parse_nft(ask(runner, "nft", "-j", "list", "ruleset"))
    if bases:
        firewalls.append("nftables")
        boot = True
        steps += plan_nft(bases, rules)
    return Plan(tuple(steps), boot, tuple(firewalls))


def make_unplan(runner: Runner) -> Plan:
    steps: list[Step] = []
    if shutil.which("ufw"):
        steps += plan_ufw(read("/etc/ufw/user.rules"), [])
    steps += unplan_iptables(parse_iptables(ask(runner, "iptables", "-w", "10", "-S")))
    steps += unplan_nft(ask(runner, "nft", "-j", "list", "ruleset"))
    return Plan(tuple(steps), boot=False, firewalls=())


def carry_out(plan: Plan, runner: Runner) -> None:
    for step in plan.steps:
        status, out, err = runner(step.command, step.stdin)
        if status:
            raise FirewallError(f"`{' '.join(step.command)}` failed: {(err or out).strip()}. It was to do: {step.says}.")


def main() -> int:
    try:
        rules = [Rule.parse(data) for data in json.loads(read(RULES_FILE) or "[]")]
        plan = make_plan(rules, run)
        carry_out(plan, run)
    except FirewallError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.writelines(f"{step.says}\n" for step in plan.steps)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
