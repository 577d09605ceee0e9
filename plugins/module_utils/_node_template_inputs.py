# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What filters and modules are given, turned into a node template without asking AWS."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import InstanceType, shipped_types
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import parse_accelerators, parse_cluster, parse_pools
from ansible_collections.fpga.hybrid.plugins.module_utils.node_template import NodeTemplate, make_template


def template_of(
    pool: Mapping[str, Any],
    cluster: Mapping[str, Any],
    accelerators: Mapping[str, Any] | None = None,
    instance_types: Mapping[str, Mapping[str, Any]] | None = None,
) -> NodeTemplate:
    """instance_types: as node_template_info returns them; they win over the shipped table. Raises PoolError."""
    known = parse_cluster(cluster)
    (parsed,) = parse_pools([pool], known.name)
    types = shipped_types() | {name: InstanceType.from_dict(one) for name, one in (instance_types or {}).items()}
    return make_template(parsed, known, types, parse_accelerators(accelerators))
