# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: mirror_probes
short_description: What to ask each mirror for
version_added: 0.9.0
description:
  - Turns C(cluster_mirrors) into what M(fpga.hybrid.host_preflight) gets from each mirror, one small file that upstream has at the same place.
  - Mirrors whose content has no such file are asked for their root.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: C(cluster_mirrors).
    type: dict
    required: true
  minor:
    description: Minor version of Kubernetes.
    type: str
    required: true
  xilinx_suite:
    description: The suite of AMD's repository that role C(xrt) takes.
    type: str
    required: true
positional: minor, xilinx_suite
"""

EXAMPLES = r"""
- name: Show what the mirrors are asked for
  ansible.builtin.debug:
    msg: "{{ {'images': {'url': 'https://mirror.example.org:5000'}} | fpga.hybrid.mirror_probes('1.36', 'jammy') }}"
"""

RETURN = r"""
_value:
  description: Each with C(name), C(url), and C(ca), C(username), C(password) where the mirror has them. C({distribution}) and C({codename}) are the host's.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

#: Package repositories by what apt itself asks first; the registry by its API's root.
FILES = {
    "debian": "/dists/{codename}/Release",
    "kubernetes": "/core:/stable:/v{minor}/deb/Release",
    "docker": "/linux/{distribution}/dists/{codename}/Release",
    "helm": "/any/dists/any/Release",
    "xilinx": "/debian-packages/dists/{xilinx_suite}/Release",
    "openvpn_as": "/as/debian/dists/{codename}/Release",
    "images": "/v2/",
    "charts": "/index.yaml",
}


def mirror_probes(mirrors: Mapping[str, Mapping[str, Any]], minor: str, xilinx_suite: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "url": mirror["url"].rstrip("/") + FILES.get(name, "/").replace("{minor}", minor).replace("{xilinx_suite}", xilinx_suite),
            **{key: mirror[key] for key in ("ca", "username", "password") if mirror.get(key)},
        }
        for name, mirror in mirrors.items()
    ]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., list[dict[str, Any]]]]:
        return {"mirror_probes": mirror_probes}
