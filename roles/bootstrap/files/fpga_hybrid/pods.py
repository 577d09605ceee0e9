# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pods of a host: which of them run there, also while nobody can be asked, and which belong to the host itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

Object = Mapping[str, Any]

CGROUPS = "sys/fs/cgroup"
#: A pod's cgroup, by either driver. A static pod's UID is a hash without dashes. Source: k8s.io/kubernetes pkg/kubelet/cm (GetPodContainerName).
_OF_A_POD = re.compile(r"(?:^|-)pod([0-9a-f]{8}[-_]?(?:[0-9a-f]{4}[-_]?){3}[0-9a-f]{12})(?:\.slice)?$", re.ASCII)
#: Of a mirror pod: that it is one, and the UID by which the kubelet knows the static pod.
MIRROR, STATIC_UID = "kubernetes.io/config.mirror", "kubernetes.io/config.hash"


def running(root: str) -> set[str]:
    """UIDs of the pods that have processes.

    The kernel is asked, because it alone is sure to answer: of the runtimes, containerd brings no crictl, and Docker has another tool; the kubelet asks
    the API server whether it may tell (webhook authorization); and a pod that the API named an hour ago may have ended since. When a pod has ended, the
    kubelet stops its sandbox, with no help from the API, and nothing is left in its cgroup. That a process cannot be seen, as from a sandbox, makes it no
    less.
    """
    base = os.path.join(root, CGROUPS)
    # On cgroup v1 each controller has a tree of its own.
    trees = [base, *(entry.path for entry in _folders(base))]
    found: set[str] = set()
    for kubelets in (entry for tree in trees for entry in _folders(tree) if entry.name.startswith("kube")):
        for uid, path in _pods_below(kubelets.path):
            if uid not in found and _has_processes(path):
                found.add(uid)
    return found


def _pods_below(folder: str) -> Iterator[tuple[str, str]]:
    for entry in _folders(folder):
        match = _OF_A_POD.search(entry.name)
        if match:
            yield match[1].replace("_", "-"), entry.path
        else:
            yield from _pods_below(entry.path)


def _has_processes(folder: str) -> bool:
    with suppress(OSError), open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as stream:
        if stream.read(1):
            return True
    return any(_has_processes(entry.path) for entry in _folders(folder))


def _folders(path: str) -> list[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(path) as entries:
        return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def belongs_to_the_host(pod: Object) -> bool:
    """A DaemonSet's or the host's own file's: it would not be there without the host, and goes with it."""
    metadata = pod.get("metadata") or {}
    owners = metadata.get("ownerReferences") or []
    return MIRROR in (metadata.get("annotations") or {}) or any(owner.get("kind") == "DaemonSet" and owner.get("controller") for owner in owners)


def of_the_host(pods: Iterable[Object]) -> set[str]:
    """UIDs, as the kubelet knows them."""
    metadata = [pod.get("metadata") or {} for pod in pods if belongs_to_the_host(pod)]
    return {str((one.get("annotations") or {}).get(STATIC_UID) or one.get("uid") or "") for one in metadata}


def is_over(pod: Object) -> bool:
    """Its work has ended."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_leaving(pod: Object) -> bool:
    """It has been told to go, and has its grace period for that: it may be saving its work."""
    return bool((pod.get("metadata") or {}).get("deletionTimestamp"))
