# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubeconfigs: whose cluster one is for, and what has to be in it. Read and written by kubectl, which contacts no server for that."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import json
import os
import typing as t

from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import KubeError, Object, Run


def load(run: Run, text: str) -> Object:
    """A kubeconfig as an object; one without clusters where kubectl makes nothing of it."""
    code, out, err = _view(run, text, "json")
    if code == 127:
        raise KubeError(f"kubectl is needed to read a kubeconfig: {err.strip()}")
    return t.cast("Object", json.loads(out)) if code == 0 else {}


def dump(run: Run, config: Object) -> str:
    code, out, err = _view(run, json.dumps(config), "yaml")
    if code != 0:
        raise KubeError(f"kubectl cannot write a kubeconfig: {err.strip()}")
    return out


def _view(run: Run, text: str, form: str) -> tuple[int, str, str]:
    """By a file in memory: kubectl reads a kubeconfig twice, so it can't come through a pipe, and keys are not to lie about in a further file."""
    handle = os.memfd_create("kubeconfig")
    try:
        with open(handle, "w", encoding="utf-8", closefd=False) as stream:
            stream.write(text)
        return run(["kubectl", "config", "view", "--raw", f"--kubeconfig=/proc/self/fd/{handle}", f"--output={form}"], pass_fds=[handle])
    finally:
        os.close(handle)


def authorities(config: Object) -> set[str]:
    """What tells clusters apart: their CAs. "" is of a cluster whose CA stands in another file, or that has none."""
    return {(entry.get("cluster") or {}).get("certificate-authority-data") or "" for entry in config.get("clusters") or []}


def is_for_same(config: Object, admin: Object) -> bool:
    """Whether a kubeconfig is for admin's cluster, and for no other one."""
    return authorities(config) == authorities(admin)


def renewed(config: Object, admin: Object) -> Object:
    """With the cluster and the user of admin. Contexts, and which one is current, are its owner's, and so is each entry that admin doesn't have."""
    entries = {key: list({entry["name"]: entry for entry in (*(config.get(key) or []), *admin[key])}.values()) for key in ("clusters", "users")}
    contexts = {} if config.get("contexts") else {key: admin[key] for key in ("contexts", "current-context")}
    return {**config, **{key: sorted(found, key=lambda entry: str(entry["name"])) for key, found in entries.items()}, **contexts}
