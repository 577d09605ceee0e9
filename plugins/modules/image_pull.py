#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_pull
short_description: Has a host's containerd pull images before the kubelet asks for them
version_added: 0.1.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Starts the pull of the images that are not there, as a unit of systemd (C(fpga-hybrid-images.service)) that goes on by itself, and waits for nothing.
    So a host that will join later has its images by then.
  - Nothing depends on the result. An image that cannot be pulled is the kubelet's to report, with its pod; the unit's journal says the same.
  - Pulls in the kubelet's namespace and by containerd's own settings for registries (C(config_path)), so mirrors and credentials are those of the kubelet.
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
  registry_folder:
    description: Containerd's folder with the settings of registries (C(hosts.toml)).
    type: path
    default: /etc/containerd/certs.d
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

UNIT = "fpga-hybrid-images"
#: One after the other, as the kubelet does, and going on after one that fails.
SCRIPT = 'folder=$1; shift; for image; do ctr --namespace k8s.io images pull --hosts-dir "$folder" "$image" >/dev/null || failed=1; done; exit "${failed:-0}"'


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "str", "required": True},
            "registry_folder": {"type": "path", "default": "/etc/containerd/certs.d"},
        },
        supports_check_mode=True,
    )
    listed = run(["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"], timeout=30)
    # Without an answer (a check of a fresh host, a containerd that does not run) none is there.
    there = set(listed.out.split())
    missing = [image for image in module.params["images"] if image not in there]
    result = {"changed": bool(missing), "pulled": missing, "diff": {"before": "", "after": "".join(f"{image}\n" for image in missing)}}
    if missing and not module.check_mode:
        if listed.code != 0:
            module.fail_json(msg=f"containerd does not answer ({listed.err.strip() or listed.out.strip()}). Look at: systemctl status containerd")
        command = ["systemd-run", "--quiet", "--no-block", "--collect", f"--unit={UNIT}", "sh", "-c", SCRIPT, "sh"]
        started = run([*command, module.params["registry_folder"], *missing], timeout=30)
        # The unit of an earlier run that still pulls is as good.
        if started.code != 0 and "already" not in started.err:
            module.fail_json(msg=f"systemd-run did not start the pull: {started.err.strip()}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
