# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""What containerd's files should say: config.toml by schema, hosts.toml by registry. Pure."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import typing as t
from urllib.parse import urlsplit

from ansible_collections.fpga.hybrid.plugins.module_utils import _toml
from ansible_collections.fpga.hybrid.plugins.module_utils._files import File
from ansible_collections.fpga.hybrid.plugins.module_utils._merged_file import Path, Tree, leaves, merge, same
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import EngineError, as_numbers

CONFIG = "/etc/containerd/config.toml"
CERTS = "/etc/containerd/certs.d"
HEADER = "# fpga.hybrid keeps its keys in this file and leaves all others to you; comments are lost when it has to write.\n"

RUNTIME = "io.containerd.cri.v1.runtime"
IMAGES = "io.containerd.cri.v1.images"
CRI_V1 = "io.containerd.grpc.v1.cri"
# Any of these in disabled_plugins switches the kubelet's interface off; Docker's package ships the first.
CRI_PLUGINS = frozenset({"cri", CRI_V1, RUNTIME, IMAGES})
# Top-level sections whose meaning depends on the schema (containerd, cmd/containerd/server/config/config.go).
_SECTIONS_BY_SCHEMA = ("plugins", "grpc", "ttrpc", "metrics", "debug")


def render(tree: Tree) -> str:
    """The file's text, its schema first."""
    first = {key: tree[key] for key in ("version",) if key in tree}
    return HEADER + _toml.dumps({**first, **tree})


def schema_for(version: str) -> int:
    """The newest config schema that a containerd version (or range, of which the newest counts) reads.

    4 from 2.3, 3 from 2.0, 2 before (containerd, RELEASES.md and version/version.go).
    """
    numbers = as_numbers(version)
    if not numbers:
        raise EngineError(f"containerd version {version!r} is no version: say for example 2.* or 2.4.2")
    if numbers[0] < 2:
        return 2
    return 3 if (2, 0) <= numbers[:2] < (2, 3) and len(numbers) > 1 else 4


@dataclasses.dataclass(frozen=True)
class Options:
    """What the role wants of containerd. extra is a tree in the file's own words and wins over everything else."""

    sandbox_image: str | None
    default_runtime_name: str = "runc"
    extra: Tree = dataclasses.field(default_factory=dict)


def wanted(schema: int, found: t.Mapping[str, t.Any], options: Options) -> Tree:
    """Our part of config.toml. ``found`` is the file as it is, in the same schema: of lists we change single items only."""
    images: Tree
    runtime: Tree = {
        "containerd": {
            "default_runtime_name": options.default_runtime_name,
            "runtimes": {"runc": {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": True}}},
        }
    }
    if schema == 2:
        cri = found.get("plugins", {}).get(CRI_V1, {})
        images = {"registry": {"config_path": _config_path(cri)}}
        if options.sandbox_image:
            images["sandbox_image"] = options.sandbox_image
        plugins = {CRI_V1: {**images, **runtime}}
    else:
        images = {"registry": {"config_path": _config_path(found.get("plugins", {}).get(IMAGES, {}))}}
        if options.sandbox_image:
            images["pinned_images"] = {"sandbox": options.sandbox_image}
        plugins = {IMAGES: images, RUNTIME: runtime}
    tree: Tree = {"version": schema}
    if "disabled_plugins" in found:
        tree["disabled_plugins"] = [name for name in found["disabled_plugins"] if name not in CRI_PLUGINS]
    tree["plugins"] = plugins
    return merge(tree, options.extra)


def _config_path(plugin: t.Mapping[str, t.Any]) -> str:
    """The folder of hosts.toml files; a search path of the user's that contains it stays."""
    found = str(plugin.get("registry", {}).get("config_path", ""))
    return found if CERTS in found.split(":") else CERTS


def needs_migration(found: t.Mapping[str, t.Any], schema: int) -> bool:
    """Is this file in an older schema in a way that changes the meaning of what it says?"""
    if found.get("version", 1) == schema or not found:
        return False
    names = [*found.get("disabled_plugins", []), *found.get("required_plugins", [])]
    bare = [name for name in names if "." not in name and name not in CRI_PLUGINS]
    return bool(bare) or any(found.get(section) for section in _SECTIONS_BY_SCHEMA)


def newer_schema(found: t.Mapping[str, t.Any], schema: int) -> bool:
    return bool(found.get("version", 1) > schema)


def without_defaults(dumped: t.Mapping[str, t.Any], defaults: t.Mapping[str, t.Any]) -> Tree:
    """What a user set: the leaves of `config dump` that aren't containerd's own defaults."""
    own: Tree = {}
    default_leaves = dict(leaves(defaults))
    for path, value in leaves(dumped):
        if path in default_leaves and same(default_leaves[path], value):
            continue
        tree = own
        for key in path[:-1]:
            tree = tree.setdefault(key, {})
        tree[path[-1]] = value
    return own


def problems(schema: int, merged: t.Mapping[str, t.Any]) -> list[str]:
    """What containerd would only find wrong when it starts, or what would break the kubelet."""
    plugins = merged.get("plugins", {})
    runtime = plugins.get(CRI_V1 if schema == 2 else RUNTIME, {}).get("containerd", {})
    images = plugins.get(CRI_V1 if schema == 2 else IMAGES, {})
    found = []
    name, runtimes = runtime.get("default_runtime_name"), runtime.get("runtimes", {})
    if name not in runtimes:
        found.append(
            f"containerd_default_runtime_name: {name} is none of the runtimes in {CONFIG} ({', '.join(runtimes)}). "
            f"Describe it in containerd_extra_config below plugins.{CRI_V1 if schema == 2 else RUNTIME}.containerd.runtimes.{name}, or name one of these."
        )
    default = runtimes.get(name, {})
    if str(default.get("runtime_type", "")).startswith("io.containerd.runc.") and default.get("options", {}).get("SystemdCgroup") is not True:
        found.append(
            f"{CONFIG}: the default runtime {name} has no options.SystemdCgroup = true, but the kubelet uses the systemd driver. "
            "Set it, in containerd_extra_config or in the file."
        )
    if images.get("registry", {}).get("mirrors"):
        found.append(
            f"{CONFIG} has registry.mirrors, the old form, which containerd refuses beside config_path. "
            f"Move each into {CERTS}/<registry>/hosts.toml (or into cluster_mirrors.images, containerd_registries) and take the section out."
        )
    return found


def not_effective(ours: t.Mapping[str, t.Any], dumped: t.Mapping[str, t.Any]) -> list[Path]:
    """Our leaves that containerd, reading the file with its imports, does not end up with."""
    effective = dict(leaves(dumped))
    return [path for path, value in leaves(ours) if value not in ({}, []) and effective.get(path) != value]


# --- registries -------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Registry:
    """Where the images of a registry come from. ``folder`` is the path of the registry's images on a mirror that serves several."""

    name: str
    url: str
    ca: str | None = None
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    folder: str = ""

    @property
    def authorization(self) -> str | None:
        if not self.username:
            return None
        return "Basic " + base64.b64encode(f"{self.username}:{self.password or ''}".encode()).decode()


def registry_files(registries: t.Iterable[Registry], certs: str = CERTS) -> dict[str, File]:
    """hosts.toml and CA per registry. `server` alone, no fallback: a mirror that lacks an image says so at once,
    instead of the pull waiting for an upstream that an air-gapped site cannot reach.
    """
    files: dict[str, File] = {}
    for registry in registries:
        _check(registry)
        base = f"{certs}/{registry.name}"
        split = urlsplit(registry.url)
        path = "/".join(part.strip("/") for part in (split.path, registry.folder) if part.strip("/"))
        tree: Tree = {"server": f"{split.scheme}://{split.netloc}" + (f"/v2/{path}" if path else ""), "capabilities": ["pull", "resolve"]}
        if path:
            tree["override_path"] = True
        if registry.ca:
            # One file for each authority, however many registries it vouches for; beside the registries' folders, which may be somebody else's.
            tree["ca"] = f"{certs}/fpga-hybrid-ca-{hashlib.sha256(registry.ca.strip().encode()).hexdigest()[:8]}.crt"
            files[tree["ca"]] = File(registry.ca.strip() + "\n")
        if registry.authorization:
            tree["header"] = {"Authorization": registry.authorization}
        files[f"{base}/hosts.toml"] = File("# written by fpga.hybrid, whole\n" + _toml.dumps(tree), 0o600)
    return files


def _check(registry: Registry) -> None:
    split = urlsplit(registry.url)
    where = "cluster_mirrors.images.url" if registry.folder else f"containerd_registries, {registry.name}: url"
    if split.scheme not in ("http", "https") or not split.hostname or split.username:
        raise EngineError(f"{where} is {registry.url!r}, expected http(s)://host[:port][/path], with username and password as keys of their own.")
    if not registry.name or "/" in registry.name or registry.name.startswith("."):
        raise EngineError(f"{registry.name!r} is no registry's name, expected host[:port] as it stands in front of an image: registry.site.example:5000.")


# --- unit -------------------------------------------------------------------------------------------------------------------------------


def unit_files(unit: str, overrides: t.Mapping[str, t.Any], environment: t.Mapping[str, str | None]) -> dict[str, File]:
    """A drop-in for the service, and the environment in a 0600 file of its own: a proxy's URL may hold a password,
    and `systemctl show` tells Environment= to everybody.
    """
    files: dict[str, File] = {}
    lines = [f"{key}={item}" for key, value in overrides.items() for item in (value if isinstance(value, list) else [value])]
    values = {key: value for key, value in environment.items() if value}
    if values:
        path = f"/etc/fpga-hybrid/{unit}.env"
        text = "".join(f'{key}="{_env_quoted(value)}"\n' for key, value in values.items())
        files[path] = File("# written by fpga.hybrid\n" + text, 0o600)
        lines.append(f"EnvironmentFile={path}")
    if lines:
        files[f"/etc/systemd/system/{unit}.service.d/10-fpga-hybrid.conf"] = File("# written by fpga.hybrid\n[Service]\n" + "\n".join(lines) + "\n")
    return files


def _env_quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")


def proxy_environment(http: str | None, https: str | None, no_proxy: str | None) -> dict[str, str | None]:
    """Both spellings, because programs differ in which they read."""
    if not http and not https:
        return {}
    values = {"HTTP_PROXY": http, "HTTPS_PROXY": https, "NO_PROXY": no_proxy}
    return {**values, **{key.lower(): value for key, value in values.items()}}
