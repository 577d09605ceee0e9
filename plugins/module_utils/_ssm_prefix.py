# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's path in the parameter store: who has it, and how it is given back. The claim is a parameter that names the cluster's id."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._cloud_audit import CLAIM
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import CLUSTER_ID_TAG
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import CloudError

Ask = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any]]

#: DeleteParameters takes no more names at once.
NAMES_PER_CALL = 10


class PrefixError(Exception):
    """The path is somebody else's; the message says whose and what to do."""


@dataclass(frozen=True)
class Prefix:
    """path: as /fpga-hybrid/lab."""

    path: str
    cluster_id: str
    cluster_name: str

    @property
    def claim(self) -> str:
        return f"{self.path}/{CLAIM}"

    def is_claimed(self, ask: Ask) -> bool:
        """True if it is ours, False if nobody has claimed it; PrefixError if somebody else has."""
        try:
            value = str(ask("ssm", "GetParameter", {"Name": self.claim})["Parameter"]["Value"])
        except CloudError as error:
            if error.code == "ParameterNotFound":
                return False
            raise
        try:
            owner = json.loads(value)
            whose, named = str(owner["cluster_id"]), str(owner["cluster_name"])
        except (ValueError, KeyError, TypeError):
            raise PrefixError(
                f"Parameter {self.claim} holds {value!r}, expected the claim of a cluster. Something else uses this path: set cluster_ssm_prefix to another."
            ) from None
        if whose != self.cluster_id:
            raise PrefixError(
                f"{self.path} belongs to cluster {named} ({whose}), this is cluster {self.cluster_name} ({self.cluster_id}). "
                f"Set cluster_ssm_prefix to another path; or, if that cluster is no more, delete parameter {self.claim} and what lies beside it."
            )
        return True

    def make_claim(self, ask: Ask) -> None:
        value = json.dumps({"cluster_id": self.cluster_id, "cluster_name": self.cluster_name})
        description = f"{self.path} belongs to this fpga.hybrid cluster"
        tags = [{"Key": CLUSTER_ID_TAG, "Value": self.cluster_id}]
        ask("ssm", "PutParameter", {"Name": self.claim, "Description": description, "Value": value, "Type": "String", "Tags": tags})

    def names(self, ask: Ask) -> list[str]:
        """All parameters below the path, the claim last: what deletes them can be interrupted and begun again."""
        found: list[str] = []
        more: Mapping[str, Any] = {}
        while True:
            filters = [{"Key": "Path", "Option": "Recursive", "Values": [self.path]}]
            answer = ask("ssm", "DescribeParameters", {"ParameterFilters": filters, "MaxResults": 50, **more})
            found += [str(entry["Name"]) for entry in answer["Parameters"]]
            if not answer.get("NextToken"):
                return [*sorted(name for name in found if name != self.claim), self.claim]
            more = {"NextToken": answer["NextToken"]}

    @staticmethod
    def delete(ask: Ask, names: Sequence[str]) -> None:
        for chunk in _chunks(names):
            ask("ssm", "DeleteParameters", {"Names": list(chunk)})


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), NAMES_PER_CALL):
        yield names[start : start + NAMES_PER_CALL]
