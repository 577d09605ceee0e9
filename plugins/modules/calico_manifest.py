#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: the changes are in module_utils/_calico.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: calico_manifest
short_description: Calico's own manifest, made fit for a VPN
version_added: 0.9.0
description:
  - Fetches upstream's C(calico-vxlan.yaml), checks it against its checksum, and writes it with our changes to O(dest), for M(fpga.hybrid.kubectl_apply).
  - The changes are VXLAN always, node address = the node's InternalIP, the given MTU, the given pod network, no BGP.
    A key that upstream has renamed is refused by its name.
  - What was fetched is kept beside O(dest); as long as its checksum is right nothing is fetched again.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
extends_documentation_fragment:
  - fpga.hybrid.mirror
options:
  url:
    description: Where the manifest is.
    type: str
    required: true
  checksum:
    description: Checksum of the manifest, as C(sha256:<hex>).
    type: str
    required: true
  dest:
    description: File to write.
    type: path
    required: true
  pod_network:
    description: Network of the pods.
    type: str
    required: true
  mtu:
    description: MTU of a pod's interface.
    type: int
    required: true
attributes:
  check_mode:
    description: Fetches, and writes nothing. Where kubectl is not installed yet the content is not predicted.
    support: partial
    details: See the description.
  diff_mode:
    description: Shows the file.
    support: full
"""

EXAMPLES = r"""
- name: Make Calico's manifest
  fpga.hybrid.calico_manifest:
    url: https://raw.githubusercontent.com/projectcalico/calico/v3.32.1/manifests/calico-vxlan.yaml
    checksum: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    dest: /etc/fpga-hybrid/cni/calico.json
    pod_network: 10.244.0.0/16
    mtu: 1350
"""

RETURN = r"""
dest:
  description: The file.
  type: str
  returned: always
"""

import json
import os
import re

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._calico import CalicoError, Network, check_digest, patch
from ansible_collections.fpga.hybrid.plugins.module_utils._fetch import MIRROR, FetchError, read
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import Object
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import KubeError, parse_yaml, run


def original(params: Object, host: Host, kept: str) -> tuple[str, bool]:
    """The manifest as upstream made it, and whether it had to be fetched."""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", params["checksum"]):
        raise CalicoError(f"cni_calico_manifest_checksum {params['checksum']!r}: expected sha256: and 64 hexadecimal digits. A manifest is not taken unpinned.")
    text = host.read(kept)
    if text is not None:
        try:
            check_digest(text.encode(), params["checksum"], kept)
            return text, False
        except CalicoError:
            pass
    content = read(params)
    check_digest(content, params["checksum"], params["url"])
    return content.decode(), True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "checksum": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "pod_network": {"type": "str", "required": True},
            "mtu": {"type": "int", "required": True},
            **MIRROR,
        },
        supports_check_mode=True,
    )
    params = module.params
    host = Host(run)
    kept = f"{os.path.splitext(params['dest'])[0]}.upstream.yaml"
    before = host.read(params["dest"])
    try:
        text, fetched = original(params, host, kept)
        if module.check_mode and host.versions()["kubectl"] is None:
            module.exit_json(changed=True, dest=params["dest"], diff={"before": before or "", "after": f"(made from {params['url']})\n"})
        objects = patch(parse_yaml(run, text, params["url"]), Network(params["pod_network"], params["mtu"]))
        after = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=1, sort_keys=True) + "\n"
        if not module.check_mode:
            if fetched:
                host.write(kept, text, 0o644)
            if before != after:
                host.write(params["dest"], after, 0o644)
    except (CalicoError, FetchError, KubeError) as error:
        module.fail_json(msg=str(error))
    header = {"before_header": params["dest"], "after_header": params["dest"]}
    module.exit_json(changed=fetched or before != after, dest=params["dest"], diff={**header, "before": before or "", "after": after})


if __name__ == "__main__":
    main()
