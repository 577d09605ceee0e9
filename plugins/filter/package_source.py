# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: package_source
short_description: Where packages come from, upstream or a mirror of it
version_added: 0.9.0
description:
  - Turns an entry of C(cluster_mirrors) into O(fpga.hybrid.apt_packages#module:source). Without one it is upstream.
  - A mirror has everything at the places that upstream has it. Its key, where the declaration has none, too.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: The mirror, with C(url), and perhaps C(key), C(ca), C(username), C(password). Empty for upstream.
    type: dict
    required: true
  upstream:
    description: What a mirror stands for.
    type: str
    required: true
  path:
    description: Where the repository is below that.
    type: str
    default: ""
  key:
    description: Where the repository's key is below that. With none, there and in the declaration, the keys that the host trusts for everything are used.
    type: str
    default: ""
  suite:
    description: The repository's suite, or several of them.
    type: str
    required: true
  components:
    description: Its components. None for a flat repository.
    type: list
    elements: str
    default: []
positional: upstream
"""

EXAMPLES = r"""
- name: Show where Docker's packages come from
  ansible.builtin.debug:
    msg: >-
      {{ {} | fpga.hybrid.package_source('https://download.docker.com', path='/linux/debian', key='/linux/debian/gpg', suite='trixie',
         components=['stable']) }}
"""

RETURN = r"""
_value:
  description: The source.
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def package_source(mirror: Mapping[str, Any], upstream: str, *, suite: str, path: str = "", key: str = "", components: Sequence[str] = ()) -> dict[str, Any]:
    base = (mirror.get("url") or upstream).rstrip("/")
    declared = {name: mirror[name] for name in ("key", "ca", "username", "password") if mirror.get(name)}
    return {
        "url": base + path,
        "suite": suite,
        **({"components": list(components)} if components else {}),
        **({"key_url": base + key} if key and "key" not in declared else {}),
        **declared,
    }


class FilterModule:
    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        return {"package_source": package_source}
