# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each way in which a host may fail to become a node: its word, its exit status, what it means. Users' scripts go by the statuses: they never change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    name: str
    status: int
    meaning: str


USAGE = Kind("usage", 2, "the command line: an unknown option, a missing or contradictory one, a file that cannot be read")
CONFIG = Kind("config", 10, "node.json is missing, no JSON, or not as its schema says")
LABEL = Kind("label", 11, "a label or taint that Kubernetes, or a kubelet for its own node, refuses")
PROGRAM = Kind("program", 12, "the host or image lacks a program that a node needs")
FOREIGN = Kind("foreign", 13, "the host is a node of something else already, or has parts of one")
CAPACITY = Kind("capacity", 14, "the host has less than its pool's template promises")
CLOCK = Kind("clock", 15, "the clock is off by more than certificates and signatures bear")
IMDS_ABSENT = Kind("imds-absent", 20, "node.json says that this is an EC2 instance, and no metadata service answers")
IMDS_SLOW = Kind("imds-slow", 21, "the metadata service takes connections and does not answer in time")
IMDS_V1 = Kind("imds-v1", 22, "the metadata service gives no tokens (version 1 only)")
IMDS_DISABLED = Kind("imds-disabled", 23, "the metadata service is switched off for this instance")
NOT_AWS = Kind("not-aws", 24, "the metadata service is another cloud's")
NOT_ENROLLED = Kind("not-enrolled", 30, "no join bundle came: keeper has not enrolled this instance, or will not")
DENIED = Kind("denied", 31, "AWS denies the join bundle to this instance")
NO_ROLE = Kind("no-role", 32, "the instance has no role, or gets no credentials for it")
AWS = Kind("aws", 33, "AWS cannot be reached, is overloaded, or failed")
REGION = Kind("region", 34, "the instance stands in another region than node.json says")
REFUSED = Kind("refused", 35, "keeper answered that this instance gets no bundle, and why")
BUNDLE_CUT = Kind("bundle-cut", 36, "the join bundle is cut short")
BUNDLE_BAD = Kind("bundle-bad", 37, "the join bundle is damaged, or of another version")
BUNDLE_FOREIGN = Kind("bundle-foreign", 38, "the join bundle was made for another node")
VPN = Kind("vpn", 40, "the VPN does not come up, or nothing answers through it")
HOSTS = Kind("hosts", 41, "the hosts file gives the endpoint's name another address")
API = Kind("api", 50, "the API server does not answer")
CA = Kind("ca", 51, "the cluster's CA is not the one that was pinned")
TOKEN = Kind("token", 52, "the join token is unknown to the cluster, or has expired")
NAME_TAKEN = Kind("name-taken", 53, "a Node of this name exists that is not this host")
KUBEADM = Kind("kubeadm", 54, "kubeadm join failed for another reason")
NOT_READY = Kind("not-ready", 55, "joined, but the Node is not there or not Ready in time")
INTERNAL = Kind("internal", 70, "a defect of this program")
BUSY = Kind("busy", 75, "another bootstrap is at work on this host")
INTERRUPTED = Kind("interrupted", 143, "ended by SIGTERM, as at a shutdown; the next start goes on")

KINDS = (
    *(USAGE, CONFIG, LABEL, PROGRAM, FOREIGN, CAPACITY, CLOCK, IMDS_ABSENT, IMDS_SLOW, IMDS_V1, IMDS_DISABLED, NOT_AWS),
    *(NOT_ENROLLED, DENIED, NO_ROLE, AWS, REGION, REFUSED, BUNDLE_CUT, BUNDLE_BAD, BUNDLE_FOREIGN, VPN, HOSTS),
    *(API, CA, TOKEN, NAME_TAKEN, KUBEADM, NOT_READY, INTERNAL, BUSY, INTERRUPTED),
)


class Failure(Exception):  # noqa: N818 - it is what the whole program ends with, not one error among others
    """The sentence says what was found, what was expected, and what to do; it holds no secret."""

    def __init__(self, kind: Kind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind, self.sentence = kind, sentence


def table() -> str:
    lines = [f"  {kind.status:>3}  {kind.name:<14}  {kind.meaning}" for kind in KINDS]
    return "\n".join(["    0  joined          a node of the cluster, now or already", *lines])
