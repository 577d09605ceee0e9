#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_probe
short_description: Looks at what OpenVPN finds on a host, before anything is changed
version_added: 0.9.0
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
  peer:
    description: The VPN server's address in the VPN, for RV(healthy). Not needed where O(side=server).
    type: str
    default: ""
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
healthy:
  description: Whether the VPN is well, as M(fpga.hybrid.openvpn_health) sees it, so that there is nothing to wait for.
  returned: success
  type: bool
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
settled:
  description: Whether all our units run, are enabled, and systemd has read them.
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

import os
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn as openvpn
from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_host as vpn_host
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import Unit

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    CAN_MAKE_CERTIFICATES = True
except ImportError:
    CAN_MAKE_CERTIFICATES = False


def look_at_authority(module: AnsibleModule) -> dict[str, bool]:
    """Whether the authority exists, all of the server's keys are as they should be, and its certificate is due for renewal."""
    folder = module.params["folder"]
    there = {name: os.path.exists(os.path.join(folder, name)) for name in ("ca.crt", "ca.key", "server.key", "server.crt", "tls-crypt.key")}
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


def healthy(parameters: dict[str, Any]) -> bool:
    address = (parameters["address"] or "").partition("/")[0]
    words = {"host": "", "management": None, "server": "", "server_address": "", "server_port": None, "endpoint": ""}
    wanted = openvpn.Wanted.of(parameters, **{**words, "address": address})
    return not openvpn.judge(wanted, openvpn.look(wanted))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "side": {"type": "str", "choices": ["server", "client", "routed"], "required": True},
            "device": {"type": "str", "default": "tun0"},
            "network": {"type": "str", "required": True},
            "address": {"type": "str"},
            "peer": {"type": "str", "default": ""},
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
    side, folder = module.params["side"], module.params["folder"]
    wanted = vpn_host.Wanted(
        host="",
        folder=folder,
        endpoint=module.params["endpoint"] or "",
        **{name: module.params[name] for name in ("side", "device", "network", "port", "protocol")},
    )
    found = vpn_host.look(wanted)
    problems = vpn_host.problems(wanted, found)
    if problems:
        module.fail_json(msg=str(problems[0]))
    unit = found.unit
    units = [unit] + ([Unit.read("fpga-hybrid-vpn-crl.timer")] if side == "server" else [])
    result: dict[str, Any] = {
        "known": all(each.exists for each in units),
        "running": unit.active,
        "needs_reload": any(each.needs_reload for each in units),
        "settled": all(each.settled for each in units),
        "healthy": unit.active and healthy(module.params),
        "pki_possible": CAN_MAKE_CERTIFICATES,
        "authority": False,
        "complete": False,
        "renew_server": False,
        "forward": vpn_host.forward(wanted, found),
    }
    if side == "routed":
        _rc, out, _error = module.run_command(["ip", "-j", "route", "show", "exact", module.params["network"]])
        result["stale"] = unit.active and not openvpn.route_present(out, module.params["gateway"])
        module.exit_json(changed=False, **result)
    read = [f"/etc/openvpn/{side}/fpga-hybrid.conf", f"/etc/systemd/system/{vpn_host.UNITS[side]}.d/fpga-hybrid.conf"]
    if side == "server":
        read += [os.path.join(folder, name) for name in ("ca.crt", "server.crt", "server.key", "tls-crypt.key")]
        result.update(look_at_authority(module))
    drifted = unit.active and openvpn.device_drifted(found.device, module.params["address"], module.params["mtu"])
    result["stale"] = drifted or bool(unit.older_than(read))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
