"""lab/lab: the lab's command line."""

from __future__ import annotations

import argparse
import os
import sys
from ipaddress import IPv4Address
from collections.abc import Sequence

from lab import network as lab_network
from lab.hosts import container
from lab.lock import held
from lab.run import say
from lab.settings import NETWORKS, RELEASES, Host, LabError


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return options.action(options) or 0
    except LabError as error:
        say(f"error: {error}")
        return 1


def host_add(options: argparse.Namespace) -> int:
    host = Host(options.name, NETWORKS[options.network], options.address, options.debian)
    with held():
        lab_network.ensure()
    container.ensure_all([host])
    print(f"{host.name} {host.address}")
    return 0


def host_remove(options: argparse.Namespace) -> int:
    for name in options.name:
        container.remove(container.by_name(name))
    return 0


def host_exec(options: argparse.Namespace) -> int:
    host = container.by_name(options.name)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    os.execvp("podman", ["podman", "exec", "--interactive", *terminal, host.container, *(command or ["bash", "-l"])])


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="lab/lab", description="A site, a second site and a cloud on one machine.")
    verbs = top.add_subparsers(required=True, metavar="VERB")
    host = verbs.add_parser("host", help="one host: add, remove, exec, reboot, list").add_subparsers(required=True, metavar="VERB")
    add = host.add_parser("add", help="have a host running; one that is there is taken as it is")
    add.add_argument("name")
    add.add_argument("--network", required=True, choices=NETWORKS)
    add.add_argument("--address", required=True, type=IPv4Address)
    add.add_argument("--debian", type=int, default=12, choices=RELEASES)
    add.set_defaults(action=host_add)
    remove = host.add_parser("remove", help="take hosts away with all they hold")
    remove.add_argument("name", nargs="+")
    remove.set_defaults(action=host_remove)
    execute = host.add_parser("exec", help="run a command in a host: exec NAME -- COMMAND")
    execute.add_argument("name")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    execute.set_defaults(action=host_exec)
    return top
