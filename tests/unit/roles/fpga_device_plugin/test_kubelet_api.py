# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our two proto files against what the kubelet's own code says (kubelet_api/api.json, made by kubelet_api/main.go), and the stubs against the proto files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from fpga_device_plugin import deviceplugin_pb2, podresources_pb2
from tests.tools import kubelet_stubs

KUBELET = json.loads((Path(__file__).parent / "kubelet_api" / "api.json").read_text())
OURS = {file.package: file for file in (deviceplugin_pb2.DESCRIPTOR, podresources_pb2.DESCRIPTOR)}


def test_the_committed_stubs_are_what_the_command_makes(tmp_path):
    kubelet_stubs.make(tmp_path)
    folder = kubelet_stubs.SOURCES / kubelet_stubs.PACKAGE
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {name: (folder / name).read_text() for name in made}
    assert len(made) == 6


TYPES = {value: name.removeprefix("TYPE_").lower() for name, value in vars(FieldDescriptor).items() if name.startswith("TYPE_")}


def fields(message):
    return {field.name: [field.number, TYPES[field.type], field.is_repeated] for field in message.fields}


@pytest.mark.parametrize("package", OURS)
def test_every_message_is_the_kubelets(package):
    """Where we leave a field out, its number must not be taken."""
    for name, message in OURS[package].message_types_by_name.items():
        theirs = KUBELET[package]["messages"][name]
        for field, described in fields(message).items():
            assert theirs[field] == described, f"{name}.{field}"


def test_the_device_plugins_messages_are_complete():
    assert set(OURS["v1beta1"].message_types_by_name) == set(KUBELET["v1beta1"]["messages"])
    for name, message in OURS["v1beta1"].message_types_by_name.items():
        assert set(fields(message)) == set(KUBELET["v1beta1"]["messages"][name])


@pytest.mark.parametrize("package", OURS)
def test_every_call_is_the_kubelets(package):
    for name, service in OURS[package].services_by_name.items():
        theirs = KUBELET[package]["services"][name]
        for call in service.methods:
            assert theirs[call.name] == [call.input_type.name, call.output_type.name, call.server_streaming]


def test_nothing_that_a_kubelet_calls_is_missing():
    assert set(KUBELET["v1beta1"]["services"]["DevicePlugin"]) == {call.name for call in OURS["v1beta1"].services_by_name["DevicePlugin"].methods}
