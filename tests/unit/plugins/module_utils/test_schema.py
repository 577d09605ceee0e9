# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our few words of JSON Schema mean what they mean to jsonschema."""

from __future__ import annotations

import copy

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils._node import NODE_SCHEMA, node_violations
from ansible_collections.fpga.hybrid.plugins.module_utils._schema import violations

ON_PREM = {
    "schema": 1,
    "cluster_name": "lab",
    "cluster_id": "6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b",
    "pool": None,
    "labels": {"example.org/rack": "4"},
    "taints": ["example.org/fpga=only:NoSchedule"],
    "startup_taints": [],
    "resources": {},
    "reserved": {},
    "provider_id": "fpga-hybrid:///lab/worker1",
    "vpn": {"backend": "openvpn", "mtu": 1400},
    "aws": None,
    "ignore_preflight": ["SystemVerification"],
    "fpga": None,
}
#: JSON, but that a text is never one of Python's lines that only "$" would let end.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text("aA1=:/\u00e4", max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["kube", "backend", "mtu", "x"]), inner, max_size=2),
    max_leaves=4,
)


def paths(value, at=()):
    yield at
    for key, member in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(member, (*at, key))


@st.composite
def damaged(draw):
    document = copy.deepcopy(ON_PREM)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from([path for path in paths(document) if path]))
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        if draw(st.booleans()):
            parent[path[-1]] = draw(json_values)
        elif isinstance(parent, dict):
            del parent[path[-1]]
        else:
            parent.append(draw(json_values))
    return document


@given(damaged())
def test_a_document_is_refused_exactly_when_jsonschema_refuses_it(document):
    assert bool(node_violations(document)) == (not jsonschema.Draft7Validator(NODE_SCHEMA).is_valid(document))


def test_the_schema_itself_is_sound():
    jsonschema.Draft7Validator.check_schema(NODE_SCHEMA)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema: found 2, expected 1"),
        ({"schema": True}, "schema: found True, expected integer"),
        ({"labels": {"rack": 4}}, "labels.rack: found 4, expected string"),
        ({"taints": ["fpga"]}, "taints[0]: found 'fpga', expected what matches"),
        ({"token": "x"}, "token: no such key"),
        ({"vpn": {"backend": "wireguard", "mtu": 1400}}, "vpn.backend: found 'wireguard', expected openvpn or openvpn_as"),
        ({"vpn": {"mtu": 1400}}, "vpn.backend: found nothing"),
        ({"provider_id": "i-1"}, "provider_id: found 'i-1'"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(change, said):
    (line,) = node_violations({**ON_PREM, **change})
    assert line.startswith(said)


def test_what_is_no_document_at_all_is_said():
    assert list(violations(NODE_SCHEMA, [])) == ["the document: found [], expected object"]
