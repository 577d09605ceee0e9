"""Plays the kubelet on a host that has none (kubelet_double.py): prints what it was told, what a pod got, and what it was told without that pod.

as_kubelet.py RESOURCE NUMBER
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from kubelet_double import running


async def until(true, seconds=20.0):
    end = asyncio.get_running_loop().time() + seconds
    while not true() and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.05)


async def main(resource: str, number: int) -> None:
    async with running(Path("/var/lib/kubelet")) as kubelet:
        await until(lambda: kubelet.allocatable().get(resource))
        told = kubelet.allocatable()
        pod = await kubelet.admit("job", {resource: number})
        await kubelet.start_container(pod)
        answer = pod.answers["main", resource]
        got = {"envs": dict(answer.envs), "devices": [one.host_path for one in answer.devices], "mounts": [one.host_path for one in answer.mounts]}
        print(json.dumps({"told": told, "taken": kubelet.allocatable(), "devices": sorted(pod.all(resource)), "got": got}))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
