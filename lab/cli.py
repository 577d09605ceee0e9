"""lab/lab: the lab's command line."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from lab import check, depot, lifecycle, machine, status
from lab import network as lab_network
from lab.cloud import image as instance
from lab.fpga import hosts as fpga
from lab.hosts import container
from lab.network import wall
from lab.run import say
from lab.settings import CLOUD_PORT, FAMILIES, NETWORKS, ONPREM, RELEASES, Host, LabError
from lab.tools import ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return int(options.action(options) or 0)
    except LabError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next `lab/lab up` takes over")
        return 130


def up(options: argparse.Namespace) -> None:
    {"all": lifecycle.up, "hosts": lifecycle.up_hosts}[options.part]()


def machine_save(options: argparse.Namespace) -> None:
    machine.Machine.now().save(options.file)


def machine_compare(options: argparse.Namespace) -> int:
    before = machine.Machine.load(options.file)
    if before is None:
        raise LabError(f"{options.file} holds no record of a machine: make one with `lab/lab machine save {options.file}` before the lab")
    found = machine.differences(before, machine.Machine.now())
    for difference in found:
        print(difference)
    return 1 if found else 0


def clean(options: argparse.Namespace) -> None:
    differing = lifecycle.clean()
    for difference in differing:
        say(f"differs from before the lab: {difference}")
    if options.cache:
        lifecycle.remove_cache()
    say("no lab left on this machine" + ("" if options.cache else "; its cache is kept (`lab/lab clean --cache` takes that away too)"))


def show_check(_: argparse.Namespace) -> int:
    report = check.examine()
    print(check.render(report))
    return 1 if any(line.verdict is check.Verdict.PROBLEM for line in report) else 0


def show_status(_: argparse.Namespace) -> None:
    lifecycle.require_root()
    print(status.table())


def host_add(options: argparse.Namespace) -> None:
    host = Host(options.name, NETWORKS[options.network], options.address, options.debian)
    lifecycle.add_hosts([host])


def host_remove(options: argparse.Namespace) -> None:
    lifecycle.remove_hosts(options.name)


def host_exec(options: argparse.Namespace) -> None:
    lifecycle.require_root()
    host = container.by_name(options.name)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    os.execvp("podman", ["podman", "exec", "--interactive", *terminal, host.container, *(command or ["bash", "-l"])])


def host_reboot(options: argparse.Namespace) -> None:
    lifecycle.reboot_hosts(options.name)


def host_list(_: argparse.Namespace) -> None:
    lifecycle.require_root()
    print(status.hosts_table())


def become_cloud(module: str, *arguments: str) -> None:
    """Becomes a program that needs moto, with the Python that has it."""
    lifecycle.require_root()
    python = ROOT / ".venv/bin/python"
    if not python.exists():
        raise LabError("the lab's AWS needs the tools environment: `make tools` first")
    os.chdir(ROOT)
    os.execv(python, [str(python), "-m", module, *arguments])


def evaluate(options: argparse.Namespace) -> None:
    become_cloud("lab.evaluate", "--family", options.family)


def cloud(options: argparse.Namespace) -> None:
    become_cloud("lab.cloud", "--listen", f"{ONPREM.gateway}:{options.port}", "--hosts", options.image or instance.ensure())


def build_image(_: argparse.Namespace) -> None:
    lifecycle.require_root()
    started = time.monotonic()
    print(f"{instance.ensure()} {time.monotonic() - started:.1f} s")


def endpoint_add(options: argparse.Namespace) -> None:
    change_endpoints(lambda: wall.add_endpoint(options.endpoint))


def endpoint_remove(options: argparse.Namespace) -> None:
    change_endpoints(lambda: wall.remove_endpoint(options.endpoint))


def change_endpoints(change: Callable[[], None]) -> None:
    lifecycle.require_root()
    change()
    lab_network.ensure()


def endpoint(text: str) -> wall.Endpoint:
    try:
        return wall.Endpoint.parse(text)
    except LabError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="lab/lab", description="Two sites and a cloud on one machine: hosts, networks, and the site's mirror.")
    verbs = top.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, action: Callable[[argparse.Namespace], object], text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(action=action)
        return added

    verb("check", show_check, "say what the lab needs and what is in its way; changes nothing, needs no root")
    verb("up", up, "have the whole lab running: networks, depot, hosts").add_argument(
        "part", nargs="?", choices=("all", "hosts"), default="all", help="hosts: without the depot"
    )
    verb("down", lambda _: lifecycle.down(), "stop everything, keep everything")
    verb("reset", lambda _: lifecycle.reset(), "remove the hosts and all they hold; depot and cache stay")
    verb("clean", clean, "remove the lab from this machine and put back what it set; the cache stays").add_argument(
        "--cache", action="store_true", help="remove the cache as well: the next `up` builds everything anew"
    )
    verb("status", show_status, "what runs")
    verb("image", build_image, "have the image of the cloud's instances, and print its reference and the seconds that took; wants a running depot")
    add_host_verbs(verbs.add_parser("host", help="one host: add, remove, exec, reboot, list"))
    fpga.add_verb(verbs)
    verb("evaluate", evaluate, "tell the tutorial's story on the running lab: a pending job makes an instance appear, run it, and go").add_argument(
        "--family", choices=FAMILIES, default=FAMILIES[0], help="f1: the tutorial's own instance types, which AWS has retired"
    )
    add_machine_verbs(verbs.add_parser("machine", help="what the machine is like: save, compare"))
    served = verb("cloud", cloud, "serve the lab's AWS in the foreground, with a host for each of its instances; ends with them at SIGTERM or Ctrl-C")
    served.add_argument("--image", help="of which the hosts are made, as podman names it; without it, the image of instances is made if it isn't there")
    served.add_argument("--port", type=int, default=CLOUD_PORT, help="on the machine's own address in network onprem (default: %(default)s)")
    depot.add_verbs(verbs.add_parser("depot", help="the site's mirror: build, up, remove, status, list, clock"))
    add_endpoint_verbs(verbs.add_parser("endpoint", help="where a gateway's UDP port leads: add, remove"))
    return top


def add_host_verbs(parent: argparse.ArgumentParser) -> None:
    verbs = parent.add_subparsers(required=True, metavar="VERB")
    add = verbs.add_parser("add", help="have a host running; one that is there is taken as it is")
    add.add_argument("name")
    add.add_argument("--network", required=True, choices=NETWORKS)
    add.add_argument("--address", required=True, type=IPv4Address)
    add.add_argument("--debian", type=int, default=12, choices=RELEASES)
    add.set_defaults(action=host_add)
    for name, action, text in (("remove", host_remove, "take hosts away with all they hold"), ("reboot", host_reboot, "a new init over the same disks")):
        several = verbs.add_parser(name, help=text)
        several.add_argument("name", nargs="+")
        several.set_defaults(action=action)
    execute = verbs.add_parser("exec", help="run a command in a host: exec NAME -- COMMAND (a shell without one)")
    execute.add_argument("name")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    execute.set_defaults(action=host_exec)
    verbs.add_parser("list", help="all hosts").set_defaults(action=host_list)


def add_endpoint_verbs(parent: argparse.ArgumentParser) -> None:
    verbs = parent.add_subparsers(required=True, metavar="VERB")
    for name, action in (("add", endpoint_add), ("remove", endpoint_remove)):
        one = verbs.add_parser(name, help="NETWORK:PORT=SERVER:PORT, for example site2:1195=10.203.10.100:1194")
        one.add_argument("endpoint", type=endpoint)
        one.set_defaults(action=action)


def add_machine_verbs(parent: argparse.ArgumentParser) -> None:
    verbs = parent.add_subparsers(required=True, metavar="VERB")
    for name, action, text in (
        ("save", machine_save, "write down what the machine is like (swap, clock, firewall, networks, cgroups, sysctls)"),
        ("compare", machine_compare, "say what differs from a saved record; exit status 1 if anything does"),
    ):
        one = verbs.add_parser(name, help=text)
        one.add_argument("file", type=Path)
        one.set_defaults(action=action)
