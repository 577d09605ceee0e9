"""What runs, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from lab import podman
from lab.hosts import container
from lab.network import wall
from lab.settings import PREFIX, Host, InstanceHost, cache


def columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB" if size else "-"


def host_rows() -> list[tuple[str, ...]]:
    hosts: list[Host] = sorted([*container.every(), *container.instances()], key=lambda host: host.address)
    states = {found["Name"]: found for found in podman.inspect_present(*(host.container for host in hosts))}
    return [
        (host.name, host.network.name, str(host.address), system(host), state["State"]["Status"], mebibytes(container.memory(state)))
        for host in hosts
        if (state := states.get(host.container))
    ]


def system(host: Host) -> str:
    return "instance" if isinstance(host, InstanceHost) else f"Debian {host.debian}"


def hosts_table() -> str:
    return columns([("HOST", "NETWORK", "ADDRESS", "SYSTEM", "STATE", "MEMORY"), *host_rows()])


def table() -> str:
    rows = [("HOST", "NETWORK", "ADDRESS", "SYSTEM", "STATE", "MEMORY"), *host_rows()]
    if podman.container_exists(f"{PREFIX}depot"):
        depot = podman.inspect_containers(f"{PREFIX}depot")[0]
        rows.append(("depot", "all", ".2 of each", "-", depot["State"]["Status"], mebibytes(container.memory(depot))))
    drops = wall.counters()
    wall_rows = [("WALL", "DROPPED PACKETS"), *((name, f"{drops[name]:6}  {wall.COUNTERS[name]}") for name in wall.COUNTERS if name in drops)]
    ways = [("ENDPOINT", ""), *((f"{e.network.gateway}:{e.port}/udp", f"leads from {e.network.name} to {e.server}:{e.server_port}") for e in wall.endpoints())]
    return "\n\n".join([columns(rows), columns(ways), columns(wall_rows), f"cache: {cache()}"])
