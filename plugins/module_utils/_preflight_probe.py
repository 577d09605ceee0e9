# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a host for `_preflight`. Changes nothing; each function takes the root folder or the program runner that a test scripts."""

from __future__ import annotations

import base64
import json
import os
import pwd
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.fpga.hybrid.plugins.module_utils import _aws_key_file, _sntp
from ansible_collections.fpga.hybrid.plugins.module_utils._cluster_state import MANIFEST, running_kubernetes
from ansible_collections.fpga.hybrid.plugins.module_utils._host import parse_os_release
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import Found, foreign_control_plane, has_api_server
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host, Paths
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError, parse_yaml
from ansible_collections.fpga.hybrid.plugins.module_utils._preflight import KERNEL_FEATURES, Answer, KeyFile, Listener, Probe, Route
from ansible_collections.fpga.hybrid.plugins.module_utils._record import RecordError

#: run(argv, data=None) -> (exit code, stdout, stderr); exit code 127 when there is no such program.
Run = Callable[..., "tuple[int, str, str]"]
TIMEOUT = 20
#: One of them is there from the moment when role openvpn has begun with a host: server (of either backend), client, a host of the LAN that has only the route.
VPN_FILES = (
    "etc/openvpn/server/fpga-hybrid.conf",
    "etc/fpga-hybrid/vpn/authority.json",
    "etc/openvpn/client/fpga-hybrid.conf",
    "etc/systemd/system/fpga-hybrid-routes.service",
)


def probe(
    run: Run,
    controller_time: float,
    time_servers: Iterable[str],
    mirrors: list[dict[str, Any]],
    root: Path = Path("/"),
    cluster_id: str = "",
    users: Iterable[str] = (),
    key_files: Iterable[Mapping[str, str]] = (),
) -> Probe:
    # First, because what follows takes time that would count as an offset.
    clock_offset = time.time() - controller_time
    os_release = parse_os_release(_read(root / "etc/os-release"))
    node = _json(_read(root / "etc/fpga-hybrid/node.json"))
    with ThreadPoolExecutor(max_workers=8) as pool:
        places = {"{distribution}": os_release.get("ID", ""), "{codename}": os_release.get("VERSION_CODENAME", "")}
        answers = pool.map(ask_mirror, [{**mirror, "url": _filled_in(mirror["url"], places)} for mirror in mirrors])
        times = {server: pool.submit(ask_time, server) for server in time_servers}
    found, maker, configuration = kubernetes(Host(run, Paths(str(root))), cluster_id)
    return Probe(
        os=(os_release.get("ID", ""), os_release.get("VERSION_ID", "")),
        os_name=os_release.get("PRETTY_NAME", "an unknown system"),
        machine=os.uname().machine,
        init=_read(root / "proc/1/comm").strip(),
        tun_error=tun_error(root / "dev/net/tun"),
        cpus=len(os.sched_getaffinity(0)),
        memory=_memory(_read(root / "proc/meminfo")),
        disk_free=_disk_free(root / "var/lib"),
        cgroup_v2=(root / "sys/fs/cgroup/cgroup.controllers").exists(),
        missing_features=missing_features(root, os.uname().release),
        routes=(*routes(run), *docker_networks(run)),
        listeners=tuple(listeners(run)),
        clock_offset=clock_offset,
        time_servers={server: answer.result() for server, answer in times.items()},
        answers=tuple(answers),
        swaps=tuple(line.split()[0] for line in _read(root / "proc/swaps").splitlines()[1:] if line.strip()),
        container=_container(root),
        kubelet_server=kubelet_server(_read(root / "etc/kubernetes/kubelet.conf")),
        node_cluster_id=str(node.get("cluster_id") or ""),
        node_cluster_name=str(node.get("cluster_name") or ""),
        running_kubernetes=running_kubernetes(_read(root / MANIFEST)) or "",
        vpn_is_ours=any((root / path).exists() for path in VPN_FILES),
        kubernetes=found,
        cluster_maker=maker,
        cluster_configuration=configuration,
        hosts_file=_read(root / "etc/hosts"),
        unknown_users=unknown_users(users),
        key_files=tuple(key_file(file["variable"], file.get("path") or "", lasting=bool(file.get("lasting"))) for file in key_files),
    )


def key_file(variable: str, path: str, *, lasting: bool = False) -> KeyFile:
    if not path:
        return KeyFile(variable, "")
    try:
        _aws_key_file.parse(Path(path).read_text(encoding="utf-8"), lasting=lasting)
    except OSError as error:
        return KeyFile(variable, path, error.strerror or type(error).__name__)
    except UnicodeDecodeError:
        return KeyFile(variable, path, "it is no text")
    except _aws_key_file.KeyFileError as error:
        return KeyFile(variable, path, str(error), error.remedy)
    return KeyFile(variable, path)


def unknown_users(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not _is_user(name))


def _is_user(name: str) -> bool:
    """Whether C(getent passwd) knows one: it need not stand in /etc/passwd."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def kubernetes(host: Host, cluster_id: str) -> tuple[Found, str, dict[str, Any] | None]:
    """What kubeadm has left, for which cluster we made the control plane that is there, and what that cluster cannot change any more.

    The API is not waited for: whether it answers is no obstacle, because the run may be what brings it up.
    """
    files, journal = host.files(), host.journal()
    maker, foreign, configuration = "", "", None
    if has_api_server(files):
        try:
            maker = host.maker() or ""
            foreign = foreign_control_plane(maker or None, cluster_id) if journal is None else ""
        except RecordError as error:
            foreign = str(error)
        configuration = None if foreign else cluster_configuration(host)
    api = "healthy" if "admin.conf" in files and journal is None else "absent"
    return Found(files=files, etcd_data=os.path.isdir(host.paths.etcd_member), journal=journal, api=api, foreign=foreign), maker, configuration


def cluster_configuration(host: Host) -> dict[str, Any] | None:
    """kubeadm's ClusterConfiguration as the cluster has stored it, or None without an answer."""
    try:
        stored = Kubectl(host.run, host.paths.admin, request_timeout=5).get("-n", "kube-system", "configmap/kubeadm-config")
        documents = parse_yaml(host.run, stored["data"]["ClusterConfiguration"], "ConfigMap kube-system/kubeadm-config") if stored else []
    except (KubeError, KeyError):
        return None
    return documents[0] if documents else None


def tun_error(device: Path) -> str:
    """Why the tun device can't be used, or ""."""
    try:
        os.close(os.open(device, os.O_RDWR))
    except OSError as error:
        return f"{device}: {error.strerror}"
    return ""


def missing_features(root: Path, release: str) -> tuple[str, ...]:
    """Features that are neither loaded nor built in nor there as a module. A kernel that says nothing about itself is taken as complete."""
    folder = root / "lib/modules" / release
    listed = _read(folder / "modules.builtin") + _read(folder / "modules.dep")
    if not listed:
        return ()
    names = {Path(line.split(":")[0].split()[0]).name.split(".")[0].replace("-", "_") for line in listed.splitlines() if line.strip()}
    filesystems = _read(root / "proc/filesystems").split()
    return tuple(name for name in KERNEL_FEATURES if name not in names and name not in filesystems and not (root / "sys/module" / name).exists())


def routes(run: Run) -> list[Route]:
    """IPv4 routes of the main table, without the default."""
    code, out, _err = run(["ip", "-json", "-4", "route", "show"])
    found = []
    for entry in _json(out, []) if code == 0 else []:
        network = _network(entry.get("dst", ""))
        if network and network.prefixlen:
            found.append(Route(str(network), entry.get("dev", ""), entry.get("gateway", "")))
    return found


def docker_networks(run: Run) -> list[Route]:
    """Networks that Docker knows, also those whose bridge is down or not made yet."""
    code, out, _err = run(["docker", "network", "ls", "--quiet"])
    if code != 0 or not out.split():
        return []
    code, out, _err = run(["docker", "network", "inspect", *out.split()])
    return [
        Route(str(network), f"docker network {entry.get('Name')}")
        for entry in (_json(out, []) if code == 0 else [])
        for config in (entry.get("IPAM") or {}).get("Config") or []
        if (network := _network(config.get("Subnet", "")))
    ]


def listeners(run: Run) -> list[Listener]:
    """Sockets that wait for strangers, with the program's name where one has it."""
    code, out, _err = run(["ss", "--no-header", "--listening", "--numeric", "--tcp", "--udp", "--processes"])
    found = []
    for line in out.splitlines() if code == 0 else []:
        columns = line.split()
        if len(columns) >= 5 and (port := columns[4].rpartition(":")[2]).isdecimal():
            program = re.search(r'users:\(\("([^"]*)"', line)
            found.append(Listener(columns[0], int(port), program[1] if program else ""))
    return found


def kubelet_server(kubeconfig: str) -> str:
    """host:port of the API server in a kubeconfig, or ""."""
    match = re.search(r"^\s*server:\s*[\"']?https://([^\s\"']+)", kubeconfig, re.MULTILINE)
    return match[1].rstrip("/") if match else ""


def ask_time(server: str) -> float | None:
    """This host's clock minus a time server's, in seconds, or None where that could not be found out."""
    try:
        return _sntp.offset(server)
    except (OSError, ValueError):
        return None


def ask_mirror(mirror: Mapping[str, Any]) -> Answer:
    """One GET of what must be there. The body is not read: a package index may be large."""
    url = mirror["url"]
    request = urllib.request.Request(url)  # noqa: S310  the declaration lets only http and https pass
    if mirror.get("username"):
        login = f"{mirror['username']}:{mirror.get('password') or ''}".encode()
        request.add_header("Authorization", f"Basic {base64.b64encode(login).decode()}")
    try:
        context = ssl.create_default_context(cadata=mirror["ca"]) if mirror.get("ca") else ssl.create_default_context()
        # Mirrors are reached directly, as cluster_no_proxy says.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=TIMEOUT) as response:
            return Answer(mirror["name"], url, response.status)
    except urllib.error.HTTPError as error:
        return Answer(mirror["name"], url, error.code)
    except urllib.error.URLError as error:
        return Answer(mirror["name"], url, 0, _reason(error.reason, url))
    except (OSError, ValueError) as error:
        return Answer(mirror["name"], url, 0, _reason(error, url))


def _filled_in(url: str, places: Mapping[str, str]) -> str:
    for place, value in places.items():
        url = url.replace(place, value)
    return url


def _reason(error: object, url: str) -> str:
    if isinstance(error, socket.gaierror):
        return f"the name {urlsplit(url).hostname} is not known here"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT} s"
    return str(getattr(error, "verify_message", "") or getattr(error, "strerror", "") or error)


def _memory(meminfo: str) -> int:
    match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match[1]) // 1024 if match else 0


def _disk_free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize // 2**20


def _container(root: Path) -> str:
    """What kind of container this is, as systemd was told, or ""."""
    return _read(root / "run/systemd/container").strip()


def _network(text: object) -> IPv4Network | None:
    try:
        return IPv4Network(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _json(text: str, default: Any = None) -> Any:
    try:
        return json.loads(text) if text.strip() else ({} if default is None else default)
    except ValueError:
        return {} if default is None else default


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
