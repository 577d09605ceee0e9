#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_pull
short_description: Has a host's containerd pull images before the kubelet asks for them
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Starts the pull of the images that are not there, as a unit of systemd (C(fpga-hybrid-images.service)) that goes on by itself, and waits for nothing.
    So a host that will join later has its images by then.
  - Nothing depends on the result. An image that cannot be pulled is the kubelet's to report, with its pod; the unit's journal says the same.
    So it never fails, but warns where the pull cannot be started.
  - Pulls in the kubelet's namespace and by containerd's settings of registries, so mirrors and credentials are those of the kubelet.
attributes:
  check_mode:
    support: full
    description: Predicts.
  diff_mode:
    support: full
    description: Lists the images.
options:
  images:
    description: References of images, complete, for example V(registry.k8s.io/kube-proxy:v1.36.3).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Have the images of every worker pulled meanwhile
  fpga.hybrid.image_pull:
    images:
      - registry.k8s.io/kube-proxy:v1.36.3
      - docker.io/calico/node:v3.28.5
"""

RETURN = r"""
pulled:
  description: Images whose pull was started, or would be.
  returned: success
  type: list
  elements: str
  sample: ["registry.k8s.io/kube-proxy:v1.36.3"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._command import run
from ansible_collections.fpga.hybrid.plugins.module_utils._containerd import CERTS

UNIT = "fpga-hybrid-images"
#: One after the other, as the kubelet does, and going on after one that fails.
SCRIPT = """\
folder=$1
shift
for image; do
  ctr --namespace k8s.io images pull --skip-metadata --hosts-dir "$folder" "$image" >/dev/null || failed=1
done
exit "${failed:-0}"
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    listed = run(["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"], timeout=30)
    # Without an answer (a check of a fresh host has no containerd yet) none is there.
    there = set(listed.out.split())
    missing = [image for image in module.params["images"] if image not in there]
    if missing and not module.check_mode and (refusal := start(missing) if listed.code == 0 else f"containerd does not answer: {listed.err.strip()}"):
        module.warn(f"{refusal}. The kubelet pulls these images when it needs them: {', '.join(missing)}")
        missing = []
    module.exit_json(changed=bool(missing), pulled=missing, diff={"before": "", "after": "".join(f"{image}\n" for image in missing)})


def start(images: list[str]) -> str:
    """Why the unit that pulls them was not started, or ""."""
    command = ["systemd-run", "--quiet", "--no-block", "--collect", f"--unit={UNIT}", "sh", "-c", SCRIPT, "sh", CERTS, *images]
    started = run(command, timeout=30)
    # The unit of an earlier run that still pulls is as good.
    return "" if started.code == 0 or "already" in started.err else f"systemd-run did not start the pull: {started.err.strip()}"


if __name__ == "__main__":
    main()
