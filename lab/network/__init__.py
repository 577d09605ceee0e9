"""The lab's networks, the wall between them, and what keeps their traffic on this machine."""

from __future__ import annotations

from lab.network import bridges, routes, wall


def ensure() -> None:
    """Have everything in place before the first host sends a packet."""
    bridges.ensure()
    routes.ensure()
    wall.ensure(bridges.interfaces())


def remove() -> None:
    """Hosts must be gone. The wall goes last: until then nothing gets through."""
    bridges.remove()
    wall.remove()
    routes.remove()
