# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image of an instance, as a tree of files: what it must not hold, and what it must have. Reads only; root is another folder than / only in tests."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import contextlib
import fnmatch
import glob
import json
import mmap
import os
import re
import stat
import typing as t
from dataclasses import dataclass

from ansible_collections.fpga.hybrid.plugins.module_utils import _containerd, _docker, _host, _swap, _toml
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

AGAIN = "Run playbook image on it again, whose last step takes it out."
#: At most so many paths are told of one thing.
TOLD = 4

MACHINE_ID = "/etc/machine-id"
#: Which instance a system is, noted by cloud-init at each boot; taken out with the rest of its memory.
INSTANCE_ID = "/var/lib/cloud/data/instance-id"
RESOLVER = "/etc/resolv.conf"
HOSTS = "/etc/hosts"
#: What the image's own resolv.conf and hosts are called while ours are in their place.
ASIDE = ".fpga-hybrid-aside"
RESOLVER_MARK = "# Written by fpga.hybrid while it makes this image; gone when it has ended.\n"
POLICY = "/usr/sbin/policy-rc.d"
#: Another text than that with which apt_packages has single installations start nothing: that one takes its own away.
BUILDING_POLICY = "#!/bin/sh\n# Written by fpga.hybrid while it makes this image; gone when it has ended.\nexit 101\n"


# --- where an image lies ------------------------------------------------------------------------------------------------------------------


def mounts_below(folder: str, mountinfo: str = "/proc/self/mountinfo") -> list[str]:
    """What is mounted below a folder, which has no links in its path; not the folder itself. Outermost first."""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        # proc_pid_mountinfo(5): the fifth field, in which blanks and backslashes are octal.
        points = {re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split(" ")[4]) for line in file}
    return sorted(point for point in points if point.startswith(f"{folder.rstrip('/')}/") and point != "/")


def running(folder: str) -> str:
    """By what a system runs of a folder; empty if none does."""
    if os.path.isdir(f"{folder}/run/systemd/system"):
        return f"{folder}/run/systemd/system is there"
    for other in ("/", "/proc/1/root"):
        # Who isn't root cannot look at the latter, and makes no image either.
        with contextlib.suppress(PermissionError):
            if os.path.samefile(folder, other):
                return f"the same as {other}"
    return ""


# --- what an image must not hold ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unwanted:
    """Files that no image may hold. A pattern that ends with /** means all files below a folder; links are never followed.

    accepts: contents that are fine. emptied: taken out by leaving the file without content. links: links count, too, which elsewhere hold nothing.
    renewed: an instance that runs writes it again at any time. in_use: it needs it for as long as it runs, and it is made anew at each boot.
    """

    what: str
    why: str
    patterns: tuple[str, ...]
    keep: tuple[str, ...] = ()
    accepts: tuple[bytes, ...] = ()
    emptied: bool = False
    links: bool = False
    renewed: bool = False
    in_use: bool = False

    def found(self, root: str = "") -> list[str]:
        """The paths that are there, as seen in the image."""
        paths = {path for pattern in self.patterns for path in matching(root, pattern)}
        return sorted(path for path in paths if self._counts(root, path))

    def _counts(self, root: str, path: str) -> bool:
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in self.keep):
            return False
        if os.path.islink(root + path):
            return self.links
        if os.path.isdir(root + path) or not self.accepts:
            return True
        with open(root + path, "rb") as file:
            return file.read(1 << 12).strip() not in self.accepts

    def problem(self, paths: t.Sequence[str]) -> Problem:
        named = [accepted.decode() for accepted in self.accepts if accepted]
        expected = " or ".join([*(["an empty file"] if self.emptied else ["none"]), *named])
        return Problem("", paths[0], f"found {self.what} ({listed(paths)}), {self.why}", expected, AGAIN)


HOMES = ("/root", "/home/*")


def at_home(*names: str) -> tuple[str, ...]:
    return tuple(f"{home}/{name}" for home in HOMES for name in names)


CREDENTIALS = (".aws", ".kube", ".docker", ".netrc", ".git-credentials", ".gnupg", ".config/containers/auth.json", ".config/pip")
LOGINS_SEEN = tuple(f"/var/log/{name}" for name in ("wtmp", "btmp", "lastlog", "faillog"))

#: Each with its reason, because all of them look harmless to somebody.
UNWANTED = (
    Unwanted("ssh host keys", "which every instance would share", ("/etc/ssh/ssh_host_*_key", "/etc/ssh/ssh_host_*_key.pub")),
    Unwanted(
        # With "uninitialized" systemd takes the boot for the first one and applies its presets; an empty file only gets an id.
        "a machine id",
        "which every instance would share, and with it addresses and journals",
        (MACHINE_ID, "/var/lib/dbus/machine-id"),
        accepts=(b"", b"uninitialized"),
        emptied=True,
    ),
    Unwanted("systemd's random seed", "which every instance would begin with", ("/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret")),
    Unwanted("logs", "which tell of the building, not of the instance", ("/var/log/**", "/var/log/journal/*"), keep=LOGINS_SEEN, accepts=(b"",), renewed=True),
    # What writes them does so only where they are.
    Unwanted("records of logins", "which tell of the building, not of the instance", LOGINS_SEEN, accepts=(b"",), emptied=True, renewed=True),
    Unwanted("package lists", "which age in an image", ("/var/lib/apt/lists/**",), keep=("*/lock",)),
    Unwanted("cached packages", "which only take room", ("/var/cache/apt/*.bin", "/var/cache/apt/archives/**"), keep=("*/lock",)),
    Unwanted("shell histories", "which hold what somebody typed", at_home(".*_history", ".lesshst", ".viminfo", ".wget-hsts")),
    Unwanted("ssh keys of whoever built it", "by which they could enter every instance", at_home(".ssh/*")),
    Unwanted(
        "credentials or settings of whoever built it",
        "which are nobody else's",
        at_home(*CREDENTIALS, ".cache", ".ansible"),
    ),
    Unwanted(
        "cloud-init's memory of a boot",
        "with which it takes an instance for one that was set up already",
        tuple(f"/var/lib/cloud/{name}" for name in ("instance", "instances", "data/*", "sem/*")),
        links=True,
    ),
    Unwanted("state of a node", "which belongs to one host of one cluster", ("/etc/fpga-hybrid/*",), keep=("*/record.json", "*.env")),
    Unwanted(
        "state of our programs",
        "which belongs to one host of one cluster",
        tuple(f"/var/lib/fpga-hybrid/{name}" for name in ("bootstrap.json", "keeper", "device-plugin")),
    ),
    Unwanted(
        "VPN profiles or keys",
        "by which every instance would dial in as the same client",
        tuple(f"/etc/openvpn/{folder}*.{kind}" for folder in ("", "client/", "server/") for kind in ("conf", "ovpn", "key", "crt", "p12")),
    ),
    Unwanted(
        "the kubelet's state", "which makes kubeadm join refuse the host", ("/var/lib/kubelet/*", "/etc/kubernetes/*.conf", "/etc/kubernetes/manifests/*")
    ),
    Unwanted(
        "a cluster's keys or settings",
        "which belong to one node",
        ("/etc/kubernetes/pki/**", "/etc/cni/net.d/*", "/var/lib/cni/*", "/etc/systemd/system/kubelet.service.d/20-fpga-hybrid.conf"),
    ),
    Unwanted("etcd's data", "which are a cluster's", ("/var/lib/etcd/*",)),
    Unwanted("the builder's resolver", "which instances do not reach; their network tells them theirs", (RESOLVER,), in_use=True),
    Unwanted("a name of the builder's", "which every instance would have", ("/etc/hostname",), accepts=(b"localhost",)),
    Unwanted(
        "leases of addresses, or names of network cards",
        "which are those of the machine that built it",
        ("/var/lib/dhcp/*.leases", "/var/lib/dhcp/*.leases6", "/etc/udev/rules.d/70-persistent-net.rules"),
        renewed=True,
    ),
    Unwanted(
        "what lies in folders for a while",
        "which nobody needs any more",
        ("/tmp/*", "/tmp/.*", "/var/tmp/*", "/var/tmp/.*"),  # noqa: S108  (looked at, not used)
        links=True,
        renewed=True,
    ),
    Unwanted("a refusal to start services", "with which packages that are installed later start nothing", (POLICY, f"{POLICY}.fpga-hybrid-kept")),
)

#: Of an instance that runs: what can be taken out, and what can be held against it afterwards.
UNWANTED_RUNNING = tuple(rule for rule in UNWANTED if not rule.in_use)
HELD_RUNNING = tuple(rule for rule in UNWANTED_RUNNING if not rule.renewed)


def matching(root: str, pattern: str) -> t.Iterator[str]:
    if pattern.endswith("/**"):
        for folder, folders, files in os.walk(root + pattern[:-3]):
            folders.sort()
            yield from (f"{folder}/{name}"[len(root) :] for name in files)
    else:
        yield from (path[len(root) :] for path in glob.glob(glob.escape(root) + pattern))


def listed(paths: t.Sequence[str]) -> str:
    more = len(paths) - TOLD
    return ", ".join(paths[:TOLD]) + (f" and {more} more" if more > 0 else "")


def unwanted(root: str = "", rules: t.Sequence[Unwanted] = UNWANTED) -> list[tuple[Unwanted, list[str]]]:
    """What is there of the rules, for the cleaning and for the check alike."""
    return [(rule, paths) for rule in rules if (paths := rule.found(root))]


def instance_here(root: str = "") -> str:
    """The EC2 instance that this system is, as cloud-init has noted it; empty if it isn't one, or was cleaned already."""
    return (read(root, INSTANCE_ID) or "").strip()


def elsewhere(root: str, paths: t.Iterable[str]) -> list[str]:
    """Those of the paths that are not the image's own: on another file system than its root, or at, below or above another mount."""
    device = os.lstat(root or "/").st_dev
    top = os.path.realpath(root or "/").rstrip("/")
    points = mounts_below(top)
    return [path for path in paths if _elsewhere(root + path, device, points)]


def _elsewhere(path: str, device: int, points: t.Sequence[str]) -> bool:
    folder, name = os.path.split(path)
    real = f"{os.path.realpath(folder).rstrip('/')}/{name}"
    if any(f"{real}/".startswith(f"{point}/") or point.startswith(f"{real}/") for point in points):
        return True
    inside = [path, *(f"{folder}/{name}" for folder, folders, files in os.walk(path) for name in (*folders, *files))]
    return any(os.lstat(found).st_dev != device for found in inside)


# Secrets that lie where nobody looks for them

SEARCHED = ("/etc", "/root", "/home", "/opt", "/srv", "/usr/local", "/var/lib", "/var/spool")
NOT_SEARCHED = ("/var/lib/dpkg", "/var/lib/apt", "/var/lib/containerd", "/var/lib/docker")
#: Kubernetes' bootstrap tokens (k8s.io/cluster-bootstrap/token/api: [a-z0-9]{6}.[a-z0-9]{16}); a digit and a letter in the longer half, so that no name
#: of a module is taken for one; never their documentation's example. AWS' access keys by their prefixes (IAM User Guide, "Understanding unique ID prefixes"),
#: secret ones (40 characters; other clouds' S3 have shorter ones) by their names, where what follows is a value and not a program's variable.
#: A private key in a file of its own, with words after the dashes, or with its ends of lines as \n, as in JSON; not its first line alone as programs have it.
SECRETS = {
    "a join token": rb"(?<![\w.-])(?!abcdef\.0123456789abcdef)[a-z0-9]{6}\.(?=[a-z]*[0-9])(?=[0-9]*[a-z])[a-z0-9]{16}(?![\w.-])",
    "a private key": rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----(?:[^\n\"'`]*\n|\\+[rn]|[ ]*[A-Za-z0-9+/=]{16})",
    "an OpenVPN static key": rb"-----BEGIN OpenVPN Static key V[0-9]-----\s*\n",
    "an AWS access key": rb"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])",
    "an AWS secret key": rb"(?i)secret_?access_?key[\"']?\s*[=:]\s*[\"']?[a-z0-9+/]{16,}={0,2}(?![\w.(\[])",
}
_SECRETS = {what: re.compile(pattern) for what, pattern in SECRETS.items()}


def secrets(root: str = "") -> list[Problem]:
    """Files in which secrets stand. The secret itself is never told."""
    found: dict[str, list[str]] = {}
    for path in searched(root):
        # Mapped, so that a large one is never in memory as a whole.
        with open(root + path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(b"\0", 0, 1024) >= 0:
                continue
            for what, pattern in _SECRETS.items():
                if pattern.search(content):
                    found.setdefault(what, []).append(path)
    remedy = "Take it out, and find out what wrote it: whoever may read the image may read it. If it is in use, replace it."
    return [Problem("", paths[0], f"found {what} ({listed(paths)})", "no secret in any file", remedy) for what, paths in found.items()]


def searched(root: str) -> t.Iterator[str]:
    for top in SEARCHED:
        for folder, folders, files in os.walk(root + top):
            here = folder[len(root) :]
            folders[:] = sorted(name for name in folders if f"{here}/{name}" not in NOT_SEARCHED)
            for name in sorted(files):
                status = os.lstat(f"{folder}/{name}")
                if stat.S_ISREG(status.st_mode) and status.st_size:
                    yield f"{here}/{name}"


#: Names at home that, as links, lead to what the cleaning doesn't see; the ones as folders or files are UNWANTED.
LINKED = at_home(".ssh", *CREDENTIALS)


def linked(root: str = "") -> list[Problem]:
    """Links at home folders to where keys or credentials lie."""
    paths = sorted(path for pattern in LINKED for path in matching(root, pattern) if os.path.islink(root + path))
    return [
        Problem("", path, f"found a link to {target}, where keys or credentials of whoever built it may lie", "none", "Take out the link and what it leads to.")
        for path in paths
        if (target := os.readlink(root + path)) != "/dev/null"
    ]


LOGIN = re.compile(r"(?im)^\s*(?:[\"']?authorization[\"']?\s*=|machine\s.*\spassword\s)")


def logins(root: str = "") -> list[Problem]:
    """Logins to the site's mirrors, which an instance needs; only root may read them."""
    paths = [path for pattern in ("/etc/apt/auth.conf.d/*", "/etc/containerd/certs.d/*/hosts.toml") for path in matching(root, pattern)]
    return [
        Problem("", path, f"found a login that others than root may read (mode {mode:04o})", "0600", "Run playbook image on it again, which mends the mode.")
        for path in sorted(paths)
        if (mode := stat.S_IMODE(os.stat(root + path).st_mode)) & 0o077 and LOGIN.search(read(root, path) or "")
    ]


# --- what an image must have --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Package:
    name: str
    version: str = "*"
    hold: bool = False


@dataclass(frozen=True)
class Wanted:
    """What the declaration asks of an image."""

    packages: tuple[Package, ...] = ()
    programs: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    runtime: str = "containerd"
    registries: tuple[str, ...] = ()
    swap_off: bool = True
    bootable: bool = False


BRING = "Run playbook image on it again, which brings it; without --tags, so that no part is left out."
PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")


def read(root: str, path: str) -> str | None:
    try:
        with open(root + path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def lacking(wanted: Wanted, root: str = "") -> list[Problem]:
    """Everything that the image lacks, all at once."""
    return [
        *_packages(wanted.packages, read(root, "/var/lib/dpkg/status") or ""),
        *_programs(wanted.programs, root),
        *_units(wanted.units, root),
        *[Problem("", path, "no such file", "one, which a role of the collection writes", BRING) for path in wanted.files if read(root, path) is None],
        *_modules(wanted.modules, root),
        *(_cri_containerd(root) if wanted.runtime == "containerd" else _cri_docker(root)),
        *_registries(wanted.registries, root),
        *(_swap_entries(root) if wanted.swap_off else []),
        *(_kernel(root) if wanted.bootable else []),
    ]


def dpkg_status(text: str) -> dict[str, tuple[str, str]]:
    """Installed packages: name -> (version, what dpkg is to do with it: "install" or "hold"). text: /var/lib/dpkg/status."""
    found = {}
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(" "))
        selection, _ok, state = (fields.get("Status", "") + "  ").split(" ", 2)
        if state.strip() == "installed":
            found[fields["Package"]] = (fields.get("Version", ""), selection)
    return found


def _packages(wanted: t.Sequence[Package], status: str) -> t.Iterator[Problem]:
    installed = dpkg_status(status)
    for package in wanted:
        where, expected = f"package {package.name}", package.version if package.version != "*" else "it installed"
        if package.name not in installed:
            yield Problem("", where, "not installed", expected, BRING)
            continue
        version, selection = installed[package.name]
        if not fnmatch.fnmatchcase(version, package.version):
            yield Problem("", where, f"found version {version}", expected, BRING)
        if package.hold and selection != "hold":
            yield Problem("", where, "not held", "it held, so that an upgrade of the host leaves the node's version alone", BRING)


def find_program(name: str, root: str = "") -> str | None:
    """A program's path in the image; name: a path, or what is looked for as a shell does."""
    paths = [name] if name.startswith("/") else [f"{folder}/{name}" for folder in PATH]
    return next((path for path in paths if os.path.isfile(root + path) and os.access(root + path, os.X_OK)), None)


def _programs(wanted: t.Sequence[str], root: str) -> t.Iterator[Problem]:
    for name in wanted:
        if find_program(name, root) is None:
            yield Problem("", f"program {name}", "not there, or not executable", "it installed", BRING)


def _units(wanted: t.Sequence[str], root: str) -> t.Iterator[Problem]:
    for name in wanted:
        where = f"unit {name}"
        if _masked(f"{root}{UNIT_FOLDERS[0]}/{name}"):
            yield Problem("", where, "masked", "it enabled", f"Unmask it (systemctl unmask {name}). {BRING}")
        elif not any(os.path.lexists(f"{root}{folder}/{name}") for folder in UNIT_FOLDERS):
            yield Problem("", where, "there is none", "it installed and enabled", BRING)
        elif not any(glob.glob(f"{glob.escape(root)}{folder}/*.{kind}/{glob.escape(name)}") for folder in UNIT_FOLDERS for kind in ("wants", "requires")):
            yield Problem("", where, "not enabled", "it enabled, so that it starts with the instance", BRING)


def _masked(path: str) -> bool:
    return os.path.islink(path) and os.readlink(path) == "/dev/null"


def _modules(wanted: t.Sequence[str], root: str) -> t.Iterator[Problem]:
    loaded = [line.strip() for line in (read(root, _host.MODULES_FILE) or "").splitlines()]
    missing = [name for name in wanted if name not in loaded]
    if missing:
        yield Problem("", _host.MODULES_FILE, f"kernel modules {', '.join(missing)} are not loaded at boot", "them in this file", BRING)


def _cri_containerd(root: str) -> t.Iterator[Problem]:
    path = _containerd.CONFIG
    text = read(root, path)
    if text is None:
        yield Problem("", path, "no such file", "containerd's settings for the kubelet", BRING)
        return
    try:
        tree = _toml.loads(text)
    except _toml.TomlError as error:
        yield Problem("", path, f"cannot be read ({error})", "containerd's settings for the kubelet", BRING)
        return
    off = sorted(_containerd.CRI_PLUGINS & set(tree.get("disabled_plugins", [])))
    if off:
        yield Problem("", path, f"disabled_plugins names {', '.join(off)}", "the kubelet's interface (CRI) switched on", BRING)
    plugins = tree.get("plugins", {})
    default: dict[str, t.Any] = next((plugins[name].get("containerd", {}) for name in (_containerd.RUNTIME, _containerd.CRI_V1) if name in plugins), {})
    runtime = default.get("runtimes", {}).get(default.get("default_runtime_name", "runc"), {})
    if runtime.get("options", {}).get("SystemdCgroup") is not True:
        yield Problem("", path, "the default runtime has no SystemdCgroup = true", "it, because the kubelet uses the systemd driver", BRING)


def _cri_docker(root: str) -> t.Iterator[Problem]:
    path = _docker.CONFIG
    try:
        tree = _docker.parse(read(root, path) or "")
    except ValueError as error:
        yield Problem("", path, f"cannot be read ({error})", "Docker's settings for the kubelet", BRING)
        return
    if f"{_docker.CGROUP_DRIVER}systemd" not in tree.get("exec-opts", []):
        yield Problem("", path, f"exec-opts is {json.dumps(tree.get('exec-opts', []))}", f"{_docker.CGROUP_DRIVER}systemd in it", BRING)


def _registries(wanted: t.Sequence[str], root: str) -> t.Iterator[Problem]:
    missing = [name for name in wanted if read(root, f"{_containerd.CERTS}/{name}/hosts.toml") is None]
    if missing:
        yield Problem("", _containerd.CERTS, f"no hosts.toml for {', '.join(missing)}", "one each, so that images come from the site's mirror", BRING)


def _swap_entries(root: str) -> t.Iterator[Problem]:
    entries = [line.split()[0] for line in (read(root, "/etc/fstab") or "").splitlines() if _swap.is_swap_entry(line)]
    if entries:
        yield Problem("", "/etc/fstab", f"turns swap on ({', '.join(entries)})", "no swap, with which the kubelet does not start", BRING)


MOUNTED_BOOT = re.compile(r"(?m)^[ \t]*[^#\s]\S*[ \t]+/boot[ \t]")


def _kernel(root: str) -> t.Iterator[Problem]:
    """One that has its modules. It may lie on a partition of its own (Ubuntu's cloud images since 24.04), which must not be mounted here."""
    kernels = {os.path.basename(path).removeprefix("vmlinuz-") for path in matching(root, "/boot/vmlinuz-*")}
    modules = {os.path.basename(os.path.dirname(path)) for path in matching(root, "/lib/modules/*/modules.dep")}
    apart = not kernels and MOUNTED_BOOT.search(read(root, "/etc/fstab") or "")
    if not (modules if apart else kernels & modules):
        kernel = "/boot/vmlinuz-* on a partition of its own" if apart else f"/boot/vmlinuz-* of {', '.join(sorted(kernels)) or 'no version'}"
        yield Problem(
            "",
            "kernel",
            f"found {kernel} and /lib/modules of {', '.join(sorted(modules)) or 'no version'}",
            "a version that has both, by which an instance boots",
            "Begin with the distribution's cloud image, which brings kernel, boot loader and network; or set image_bootable: false, for containers.",
        )


def held(root: str = "", rules: t.Sequence[Unwanted] = UNWANTED) -> list[Problem]:
    """Everything that the image must not hold, all at once."""
    found = [rule.problem(paths) for rule, paths in unwanted(root, rules)]
    if not os.path.lexists(root + MACHINE_ID):
        found.append(Problem("", MACHINE_ID, "no such file", "an empty file, which systemd fills at boot without setting units back to presets", AGAIN))
    # What an interrupted building leaves.
    if _host.BEGIN in (read(root, HOSTS) or "").splitlines():
        found.append(Problem("", HOSTS, "found our block of names", "none: an instance gets its own at its join", AGAIN))
    found += [
        Problem("", path, "found the image's own, set aside while it is made", "it in its place", AGAIN)
        for path in (RESOLVER + ASIDE, HOSTS + ASIDE)
        if os.path.lexists(root + path)
    ]
    return [*found, *linked(root), *secrets(root), *logins(root)]
