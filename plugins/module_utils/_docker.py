# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""What Docker's daemon.json should say, and what cri-dockerd's unit should. Pure."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from urllib.parse import urlsplit

from ansible_collections.fpga.hybrid.plugins.module_utils._files import File
from ansible_collections.fpga.hybrid.plugins.module_utils._merged_file import Tree, merge

CONFIG = "/etc/docker/daemon.json"
CERTS = "/etc/docker/certs.d"
CGROUP_DRIVER = "native.cgroupdriver="
# dockerd refuses to start if one of these stands both in daemon.json and on its command line.
FLAGS = {"exec-opts": "--exec-opt", "live-restore": "--live-restore", "default-runtime": "--default-runtime"}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the role wants of Docker. extra is a tree in daemon.json's own words and wins over everything else."""

    default_runtime: str | None = None
    extra: Tree = dataclasses.field(default_factory=dict)
    swarm: bool = False


def parse(text: str) -> Tree:
    tree = json.loads(text) if text.strip() else {}
    if not isinstance(tree, dict):
        raise ValueError("expected a JSON object")
    return tree


def render(tree: Tree) -> str:
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def wanted(found: t.Mapping[str, t.Any], options: Options) -> Tree:
    """Our part of daemon.json. Of a list only our item is changed."""
    given = list(found.get("exec-opts", []))
    ours = f"{CGROUP_DRIVER}systemd"
    drivers = [item for item in given if str(item).startswith(CGROUP_DRIVER)]
    tree: Tree = {"exec-opts": given if drivers == [ours] else [*(item for item in given if item not in drivers), ours]}
    if not options.swarm:  # Docker's swarm mode and live-restore exclude each other
        tree["live-restore"] = True
    if options.default_runtime:
        tree["default-runtime"] = options.default_runtime
    return merge(tree, options.extra)


def problems(merged: t.Mapping[str, t.Any], ours: t.Mapping[str, t.Any], arguments: t.Sequence[str]) -> list[str]:
    """What dockerd would only find wrong when it starts. arguments: the command line of the running one."""
    found = []
    name, runtimes = merged.get("default-runtime"), merged.get("runtimes") or {}
    # A name with a dot is a shim of containerd, which needs no entry.
    if name and name != "runc" and "." not in name and name not in runtimes:
        known = ", ".join(["runc", *runtimes])
        found.append(
            f"docker_default_runtime: {name} is none of the runtimes in {CONFIG} ({known}). "
            f"Describe it in docker_extra_config.runtimes.{name}, or name one of these."
        )
    for key, flag in FLAGS.items():
        given = [argument for argument in arguments if argument == flag or argument.startswith(f"{flag}=")]
        if key in ours and given:
            found.append(
                f"Docker is started with {given[0]}, which excludes {key} in {CONFIG}. "
                "Take the flag out of the unit or of /etc/default/docker (`systemctl cat docker` shows which)."
            )
    return found


def registry_files(url: str | None, ca: str | None, certs: str = CERTS) -> dict[str, File]:
    """The mirror's authority, so that `docker pull` of its images works by the mirror's own name."""
    if not url or not ca:
        return {}
    return {f"{certs}/{urlsplit(url).netloc}/ca.crt": File(ca.strip() + "\n")}


def cri_dockerd_files(program: str, sandbox_image: str | None) -> dict[str, File]:
    """A drop-in for the unit that cri-dockerd's package brings; its socket unit makes unix:///run/cri-dockerd.sock."""
    arguments = [program, "--container-runtime-endpoint=fd://", "--network-plugin=cni", "--cni-bin-dir=/opt/cni/bin", "--cni-conf-dir=/etc/cni/net.d"]
    if sandbox_image:
        arguments.append(f"--pod-infra-container-image={sandbox_image}")
    text = f"# written by fpga.hybrid\n[Service]\nExecStart=\nExecStart={' '.join(arguments)}\n"
    return {"/etc/systemd/system/cri-docker.service.d/10-fpga-hybrid.conf": File(text)}


def foreign_containers(names: t.Iterable[str]) -> int:
    """Running containers that cri-dockerd didn't make for the kubelet (it calls its own k8s_...)."""
    return sum(1 for name in names if name and not name.startswith("k8s_"))
