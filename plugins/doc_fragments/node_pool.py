# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    CLUSTER = r"""
options:
  cluster:
    description:
      - What every node of the cluster is told. Only C(name), C(id), C(kubernetes_version) and C(region) have to be there.
      - C(name), C(id), the cluster's name and its unique id, from C(/etc/fpga-hybrid/cluster.json) on the control plane.
      - C(kubernetes_version), as V(1.36) or V(1.36.3).
      - C(region), the AWS region. Modules take it from O(region) if it stands there.
      - C(ssm_prefix), the path below which nodes find what they need to join. Default V(/fpga-hybrid/NAME).
      - C(vpn_backend), V(openvpn) or V(openvpn_as), and C(vpn_mtu), by default V(1400).
      - C(endpoint_url), where instances reach AWS, if that isn't AWS itself.
      - C(ignore_preflight), checks of kubeadm's that nodes leave out.
      - C(orphan_timeout), C({idle, busy}), how long an instance waits for an API server that is gone before it ends itself, without a job and with one. By
        default V(1h) and V(4h).
      - C(images), names of images, each with the AMI by region. A pool that names no image gets the one named like the minor version.
    type: dict
    required: true
  accelerators:
    description:
      - The catalogue C(cluster_accelerators). Accelerators by name, each with C(resource), C(replicas) (board to copies that fit on one), C(images)
        (board to region to what is loaded), and C(shared).
    type: dict
    default: {}
"""

    POOLS = r"""
options:
  pools:
    description:
      - The node pools. What is wrong with any is said before anything is done, with the pool and the key.
      - C(name), which becomes label C(fpga.hybrid/pool). C(group_name), name of group and launch template, by default V(CLUSTER-POOL).
      - C(instance_type), C(min_size) (default 0), C(max_size).
      - C(subnets) or C(availability_zones), where instances may run.
      - C(image), an AMI's id, C(resolve:ssm:PARAMETER), or a name in the cluster's images.
      - C(publish), V(boards), V(none), or the name of an accelerator. By default boards, where the type has FPGAs.
      - C(dedicated), whether nodes get the taint C(fpga.hybrid/fpga=:NoSchedule), so that ordinary pods never buy an instance. By default where something
        is published.
      - C(labels), C(taints), further ones.
      - C(resources), allocatable quantities to promise instead of those computed, and resources of device plugins that aren't ours.
      - C(reserved), C({kube, system}), each with C(cpu), C(memory), C(ephemeral-storage), instead of the computed reservations.
      - C(memory_overhead_percent), the share of the type's memory that hypervisor, firmware and kernel keep, by default V(7.5).
      - C(root_volume), C({size, type, iops, throughput, kms_key, device}), by default V(80) GiB of V(gp3), always encrypted. C(device) is the image's root
        device; if it isn't said, the image is asked.
      - C(security_groups), C(key_name), C(instance_profile).
      - C(spot), V(true) or C({max_price}).
      - C(mixed), C({instance_types, on_demand_base, on_demand_percentage, spot_strategy}), further types with the same FPGAs.
      - C(kind), V(launch_template) or, for old accounts that have them, V(launch_configuration).
      - C(tags), tags of group, instances, volumes and network interfaces.
      - C(propagate_template_tags), whether the autoscaler's tags go on to the instances, which nothing needs.
      - C(allow_retired), have the group although AWS has ended its type.
      - C(price_per_hour), what one instance costs, for others to reckon with.
      - C(keep_failed), V(1) has keeper keep the first instance that fails to join for two hours, for a look. It costs what it costs; default V(0).
    type: list
    elements: dict
    required: true
"""
