#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_probe
short_description: Looks at what OpenVPN finds on a host, before anything is changed
version_added: 0.1.0
description:
  - Refuses a host whose tunnel device or port belongs to something else, or that has no tunnel driver. Other OpenVPN units are left alone.
  - Says what the role O(ignore:openvpn) needs to know for its decisions. Changes nothing.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
attributes:
  check_mode:
    support: full
    description: Only looks.
  diff_mode:
    support: none
    description: There is nothing to compare.
options:
  side:
    description: What this host is to be.
    type: str
    choices: [server, client, routed]
    required: true
  device:
    description: Name of the tunnel's device.
    type: str
    default: tun0
  network:
    description: The VPN's network.
    type: str
    required: true
  address:
    description: The host's address in it, with prefix length. Unset where O(side=routed).
    type: str
  mtu:
    description: The device's MTU.
    type: int
    default: 1400
  port:
    description: The server's port.
    type: int
    default: 1194
  protocol:
    description: The server's protocol.
    type: str
    choices: [udp, tcp]
    default: udp
  endpoint:
    description: Name or address that clients dial. Compared with the server's own addresses.
    type: str
  gateway:
    description: The VPN server's LAN address, where O(side=routed).
    type: str
  folder:
    description: The authority's folder, where O(side=server).
    type: path
    default: /etc/fpga-hybrid/vpn
  renew_days:
    description: How many days before its end a server certificate is renewed.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Look at what is there
  fpga.hybrid.openvpn_probe:
    side: client
    network: 172.27.224.0/20
    address: 172.27.224.12/20
  register: __openvpn
"""

RETURN = r"""
known:
  description: Whether systemd knows all our units. A check of a fresh host has nothing to start.
  returned: success
  type: bool
running:
  description: Whether our OpenVPN unit runs.
  returned: success
  type: bool
stale:
  description: Whether it runs with files older than those on the disk, on another device, or beside another route than it should, so that a restart is due.
  returned: success
  type: bool
needs_reload:
  description: Whether systemd has not read our units yet.
  returned: success
  type: bool
pki_possible:
  description: Whether the host's Python can make certificates yet.
  returned: success
  type: bool
authority:
  description: Whether the authority's certificate exists.
  returned: success
  type: bool
complete:
  description: Whether all keys and certificates of authority and server exist, belong together, are private, and are good for longer than O(renew_days).
  returned: success
  type: bool
renew_server:
  description: Whether the server's certificate must be made anew.
  returned: success
  type: bool
forward:
  description: Which port somebody else must forward to this host, empty when the endpoint is the host's own address.
  returned: success
  type: str
  sample: "UDP port 1194 of 203.0.113.7 (cluster_vpn_endpoint) must be forwarded to this host, 10.0.0.10:1194."
"""

import errno
import json
import os
import socket
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn as openvpn

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    CAN_MAKE_CERTIFICATES = True
except ImportError:
    CAN_MAKE_CERTIFICATES = False

UNITS = {
    "server": "openvpn-server@fpga-hybrid.service",
    "client": "openvpn-client@fpga-hybrid.service",
    "routed": "fpga-hybrid-routes.service",
}


@dataclass(frozen=True)
class Unit:
    """What systemd says of a unit. started is seconds of the monotonic clock, 0 where it does not run."""

    known: bool
    running: bool
    pid: int
    started: float
    needs_reload: bool

    @classmethod
    def look(cls, module: AnsibleModule, name: str) -> Unit:
        _rc, out, _error = module.run_command(
            ["systemctl", "show", "--property=LoadState,ActiveState,MainPID,ExecMainStartTimestampMonotonic,NeedDaemonReload", name]
        )
        values = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return cls(
            known=values.get("LoadState") == "loaded",
            running=values.get("ActiveState") in ("active", "activating", "reloading"),
            pid=int(values.get("MainPID") or 0),
            started=int(values.get("ExecMainStartTimestampMonotonic") or 0) / 1e6,
            needs_reload=values.get("NeedDaemonReload") == "yes",
        )

    def older_than(self, paths: list[str]) -> bool:
        """Whether a file was written after the process began, which therefore has not read it: a run was killed in between."""
        began = time.time() - (time.monotonic() - self.started)
        times = [os.stat(path).st_mtime for path in paths if os.path.exists(path)]
        return self.running and any(began + 2 < moment <= time.time() for moment in times)


WORDS = {"server": "the VPN server", "client": "a VPN client", "routed": "a host that reaches the VPN through its LAN"}


def look_at_other_sides(module: AnsibleModule, side: str) -> None:
    """A host that was something else until now has a node under another address: that is no matter of a file more or less."""
    for other, name in UNITS.items():
        if other != side and Unit.look(module, name).running:
            module.fail_json(
                msg=f"{name} runs here, so this host is {WORDS[other]}, but it is declared as {WORDS[side]} (group vpn_server, cluster_on_prem_addresses, "
                "vpn_address). Put the declaration right, or take the host out first (reset.yml) and then run site.yml."
            )


def look_at_driver(module: AnsibleModule) -> None:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        remedy = "load the kernel module tun (modprobe tun)" if error.errno in (errno.ENODEV, errno.ENOENT) else "look at the permissions of the file"
        module.fail_json(
            msg=f"/dev/net/tun cannot be used: {error.strerror}. OpenVPN needs the tunnel driver: {remedy}; in a container the device must be passed in."
        )


def look_at_device(module: AnsibleModule, pid: int) -> openvpn.Device | None:
    name = module.params["device"]
    _rc, out, _error = module.run_command(["ip", "-j", "-d", "address", "show", "dev", name])
    device = openvpn.parse_device(out, openvpn.tun_owners(name))
    conflict = openvpn.device_conflict(name, device, pid, module.params["network"])
    if conflict:
        module.fail_json(msg=f"{conflict}. It is left as it is. Take it away, or give this host another device: openvpn_device: tun1")
    return device


def look_at_port(module: AnsibleModule, pid: int) -> None:
    port, protocol = module.params["port"], module.params["protocol"]
    _rc, out, _error = module.run_command(["ss", "-H", "-l", "-n", "-p", "-u" if protocol == "udp" else "-t", f"sport = :{port}"])
    strangers = [f"{program} (process {owner})" for owner, program in openvpn.port_owners(out) if owner != pid]
    if strangers:
        module.fail_json(
            msg=f"{protocol.upper()} port {port} is in use by {', '.join(strangers)}, which is left as it is. Stop it, or choose another cluster_vpn_port."
        )


def forward(module: AnsibleModule) -> str:
    """A sentence when the endpoint is not one of this host's own addresses."""
    endpoint, port, protocol = (module.params[name] for name in ("endpoint", "port", "protocol"))
    if not endpoint:
        return ""
    _rc, out, _error = module.run_command(["ip", "-j", "-4", "address", "show"])
    own = [
        entry["local"] for link in json.loads(out or "[]") for entry in link.get("addr_info", []) if link.get("ifname") not in ("lo", module.params["device"])
    ]
    try:
        addresses = {str(found[4][0]) for found in socket.getaddrinfo(endpoint, port, socket.AF_INET)}
    except OSError:
        addresses = set()
    if addresses & set(own):
        return ""
    known = f"{endpoint} ({', '.join(sorted(addresses)) or 'a name that this host cannot resolve'})" if addresses != {endpoint} else endpoint
    here = own[0] if own else "address unknown"
    return f"{protocol.upper()} port {port} of {known}, which is cluster_vpn_endpoint, must be forwarded to this host, {here}:{port}."


def look_at_authority(module: AnsibleModule) -> dict[str, bool]:
    """Whether the authority exists, all of the server's keys are as they should be, and its certificate is due for renewal."""
    folder = module.params["folder"]
    there = {name: os.path.exists(os.path.join(folder, name)) for name in ("ca.crt", "ca.key", "server.key", "server.crt", "tls-crypt.key")}
    if there["ca.crt"] and not there["ca.key"]:
        module.fail_json(
            msg=f"{folder}/ca.crt is there, but its key {folder}/ca.key is not. Restore the key from a backup; "
            "without it no client can be admitted or revoked. To begin anew with another authority: reset.yml, then site.yml."
        )
    if not CAN_MAKE_CERTIFICATES or not all(there.values()):
        return {"authority": there["ca.crt"], "complete": False, "renew_server": False}
    try:
        authority, server = (x509.load_pem_x509_certificate(contents(folder, name)) for name in ("ca.crt", "server.crt"))
        ours = belongs_together(authority, server, serialization.load_pem_private_key(contents(folder, "server.key"), None))
    except (ValueError, TypeError, InvalidSignature):
        ours = False
    if not ours:
        return {"authority": True, "complete": False, "renew_server": True}
    # python3-cryptography 42 renamed this
    end = server.not_valid_after_utc if hasattr(server, "not_valid_after_utc") else server.not_valid_after.replace(tzinfo=timezone.utc)
    due = end - datetime.now(timezone.utc) < timedelta(days=module.params["renew_days"])
    private = all(os.stat(os.path.join(folder, name)).st_mode & 0o077 == 0 for name in ("ca.key", "server.key", "tls-crypt.key"))
    return {"authority": True, "complete": private and not due, "renew_server": due}


def belongs_together(authority: Any, server: Any, key: Any) -> bool:
    """Whether the server's certificate is of this authority and for this key. Raises InvalidSignature where it is of another."""
    issuer = authority.public_key()
    if not isinstance(issuer, ec.EllipticCurvePublicKey) or not isinstance(key, ec.EllipticCurvePrivateKey):
        return False
    issuer.verify(server.signature, server.tbs_certificate_bytes, ec.ECDSA(server.signature_hash_algorithm))
    return bool(key.public_key().public_numbers() == server.public_key().public_numbers())


def contents(folder: str, name: str) -> bytes:
    with open(os.path.join(folder, name), "rb") as stream:
        return stream.read()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "side": {"type": "str", "choices": ["server", "client", "routed"], "required": True},
            "device": {"type": "str", "default": "tun0"},
            "network": {"type": "str", "required": True},
            "address": {"type": "str"},
            "mtu": {"type": "int", "default": 1400},
            "port": {"type": "int", "default": 1194},
            "protocol": {"type": "str", "choices": ["udp", "tcp"], "default": "udp"},
            "endpoint": {"type": "str"},
            "gateway": {"type": "str"},
            "folder": {"type": "path", "default": "/etc/fpga-hybrid/vpn"},
            "renew_days": {"type": "int", "default": 30},
        },
        required_if=[("side", "server", ["address"]), ("side", "client", ["address"]), ("side", "routed", ["gateway"])],
        supports_check_mode=True,
    )
    side = module.params["side"]
    look_at_other_sides(module, side)
    unit = Unit.look(module, UNITS[side])
    units = [unit] + ([Unit.look(module, "fpga-hybrid-vpn-crl.timer")] if side == "server" else [])
    result: dict[str, Any] = {
        "known": all(each.known for each in units),
        "running": unit.running,
        "needs_reload": any(each.needs_reload for each in units),
        "pki_possible": CAN_MAKE_CERTIFICATES,
        "authority": False,
        "complete": False,
        "renew_server": False,
        "forward": "",
    }
    if side == "routed":
        _rc, out, _error = module.run_command(["ip", "-j", "route", "show", "exact", module.params["network"]])
        result["stale"] = unit.running and not openvpn.route_present(out, module.params["gateway"])
        module.exit_json(changed=False, **result)
    look_at_driver(module)
    device = look_at_device(module, unit.pid)
    drifted = unit.running and openvpn.device_drifted(device, module.params["address"], module.params["mtu"])
    read = [f"/etc/openvpn/{side}/fpga-hybrid.conf", f"/etc/systemd/system/{UNITS[side]}.d/fpga-hybrid.conf"]
    if side == "server":
        read += [os.path.join(module.params["folder"], name) for name in ("ca.crt", "server.crt", "server.key", "tls-crypt.key")]
        look_at_port(module, unit.pid)
        result.update(look_at_authority(module))
        result["forward"] = forward(module)
    result["stale"] = drifted or unit.older_than(read)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
