"""What podman's network helper leaves behind when its last container is gone: chains, empty tables."""

from __future__ import annotations

import json
from typing import Any

from lab.run import run

CHAIN_PREFIX = "NETAVARK"


def rests(ruleset: list[dict[str, Any]], tables_before: set[tuple[str, str]]) -> list[str]:
    """nft commands that take out netavark's chains, the jumps to them, and tables that hold nothing else and were not there before."""
    chains = [item["chain"] for item in ruleset if "chain" in item]
    rules = [item["rule"] for item in ruleset if "rule" in item]
    leftover = {(c["family"], c["table"], c["name"]) for c in chains if c["name"].startswith(CHAIN_PREFIX)}
    jumps = [r for r in rules if not r["chain"].startswith(CHAIN_PREFIX) and jump_target(r).startswith(CHAIN_PREFIX)]
    commands = [f"delete rule {r['family']} {r['table']} {r['chain']} handle {r['handle']}" for r in jumps]
    commands += [f"flush chain {family} {table} {name}" for family, table, name in sorted(leftover)]
    commands += [f"delete chain {family} {table} {name}" for family, table, name in sorted(leftover)]
    gone = {(r["family"], r["table"], r["handle"]) for r in jumps}
    for family, table in sorted({(c["family"], c["table"]) for c in chains if (c["family"], c["table"], c["name"]) in leftover}):
        own_rules = [r for r in rules if (r["family"], r["table"]) == (family, table)]
        others = [r for r in own_rules if (family, table, r["handle"]) not in gone and (family, table, r["chain"]) not in leftover]
        own_chains = [c for c in chains if (c["family"], c["table"]) == (family, table) and (family, table, c["name"]) not in leftover]
        untouched = all(c.get("policy", "accept") == "accept" and "hook" in c for c in own_chains)
        if not others and untouched and (family, table) not in tables_before:
            commands.append(f"delete table {family} {table}")
    return commands


def jump_target(rule: dict[str, Any]) -> str:
    """The chain that a rule passes on to, or nothing."""
    targets = [statement[verdict]["target"] for statement in rule.get("expr", []) for verdict in ("jump", "goto") if verdict in statement]
    return str(targets[0]) if targets else ""


def remove(tables_before: set[tuple[str, str]]) -> None:
    """Call it only when no container uses podman's networks any more."""
    commands = rests(json.loads(run("nft", "-j", "list", "ruleset"))["nftables"], tables_before)
    if commands:
        run("nft", "-f", "-", stdin="".join(f"{command}\n" for command in commands))
