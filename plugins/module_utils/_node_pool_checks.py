# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only AWS can tell of a declaration: images, subnets, where a type is offered. Pure: its answers go in."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import InstanceType
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import LAUNCH_CONFIGURATION, Cluster, Pool, PoolError, is_image_id
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem


@dataclass(frozen=True)
class Image:
    """size in GiB of the root's snapshot, 0 where AWS doesn't say."""

    id: str
    root_device: str
    size: int
    architecture: str

    @classmethod
    def from_api(cls, described: Mapping[str, Any]) -> Image:
        """An element of DescribeImages."""
        root = described.get("RootDeviceName", "")
        sizes = (one.get("Ebs", {}).get("VolumeSize", 0) for one in described.get("BlockDeviceMappings", []) if one.get("DeviceName") == root)
        return cls(described["ImageId"], root, next(sizes, 0), described.get("Architecture") or "x86_64")


def image_of(pool: Pool, cluster: Cluster) -> str:
    """The AMI that a pool means, or PoolError."""
    if pool.image and is_image_id(pool.image):
        if pool.image.startswith("resolve:") and not pool.root_volume.device:
            found = f"{pool.image} says only at launch which image it is"
            raise PoolError(
                [pool.problem("root_volume.device", found, "the image's root device as /dev/xvda", "Say it: the root volume could not be encrypted else.")]
            )
        return pool.image
    name = pool.image or cluster.minor
    images = cluster.images.get(name)
    if images is None:
        found = f"found {pool.image!r}" if pool.image else f"found nothing, and no image {name!r} in the cluster's images"
        known = f"an AMI's id, or one of the cluster's images ({', '.join(cluster.images) or 'none'})"
        raise PoolError([pool.problem("image", found, known, "Name an AMI, or add the image to the cluster's.")])
    if cluster.region not in images:
        found = f"image {name} has no AMI in {cluster.region} (it has: {', '.join(images) or 'none'})"
        raise PoolError([pool.problem("image", found, "one in that region", f"Copy the image there and add images['{name}']['{cluster.region}'].")])
    return images[cluster.region]


def image_problems(pool: Pool, image: str, images: Mapping[str, Image], types: Mapping[str, InstanceType], region: str) -> Iterator[Problem]:
    if image.startswith("resolve:"):
        return
    known = images.get(image)
    if known is None:
        yield pool.problem("image", f"{image} isn't there in {region}, or not for this account", "an image that can be started", "Mend the id, or share it.")
        return
    if not known.root_device and not pool.root_volume.device:
        yield pool.problem("root_volume.device", f"image {image} doesn't name its root device", "a device as /dev/xvda", "Say it.")
    architecture = types[pool.instance_type].architecture
    if known.architecture != architecture:
        yield pool.problem("image", f"{image} is for {known.architecture}, {pool.instance_type} is {architecture}", "an image for the type", "Take another.")
    if pool.root_volume.size < known.size:
        found = f"found {pool.root_volume.size} GiB, less than the {known.size} GiB of image {image}"
        yield pool.problem("root_volume.size", found, f"at least {known.size}", "Raise it.")


def placement_problems(pool: Pool, zones_of: Mapping[str, str], offerings: Mapping[str, Sequence[str]], types: Mapping[str, InstanceType]) -> Iterator[Problem]:
    """zones_of: subnet -> zone. offerings: type -> zones. A retired type is offered nowhere, and allowed by the pool if we come here."""
    variable = "subnets" if pool.subnets else "availability_zones"
    missing = [subnet for subnet in pool.subnets if subnet not in zones_of]
    if missing:
        yield pool.problem("subnets", f"{', '.join(missing)} isn't there", "subnets of this region and account", "Mend the ids.")
    places = {subnet: zones_of[subnet] for subnet in pool.subnets if subnet in zones_of} or {zone: zone for zone in pool.availability_zones}
    for name in pool.instance_types:
        if types[name].retired:
            continue
        offered = offerings.get(name, ())
        wrong = sorted({zone for zone in places.values() if zone not in offered})
        if wrong:
            where = f"the zones that have it: {', '.join(sorted(offered)) or 'none in this region'}"
            yield pool.problem(variable, f"{name} isn't offered in {', '.join(wrong)}", where, "Take those out.")


def root_volume_problems(pool: Pool) -> Iterator[Problem]:
    if pool.kind == LAUNCH_CONFIGURATION and pool.root_volume.kms_key:
        yield pool.problem("root_volume.kms_key", "found it in a launch configuration", "none: those take the account's default key", "Take it out.")
