# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""host_preflight: what roles openvpn, containerd and docker would refuse later is a problem before anything is changed."""

from __future__ import annotations

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_host, _runtime
from ansible_collections.fpga.hybrid.plugins.modules import host_preflight

COMMON = {"host": "worker1", "kubernetes": "1.36.3", "vpn_port": 1194, "vpn_protocol": "udp"}
VPN = {"side": "server", "network": "172.27.224.0/20", "device": "tun0", "endpoint": "203.0.113.7", "folder": "/none"}


def test_openvpns_obstacles_are_told_each_once_with_the_port_to_forward(monkeypatch):
    strangers = ((7, "openvpn"), (8, "wg"))
    found = _openvpn_host.Found(_runtime.Unit(), other="client", driver=OSError(2, "x"), strangers=strangers, own_addresses=("10.0.0.10",))
    monkeypatch.setattr(_openvpn_host, "look", lambda _wanted: found)
    problems, notes = host_preflight.look_at_vpn({**COMMON, "vpn": VPN})
    # /dev/net/tun and programs other than OpenVPN are judged with the rest of the host
    assert [problem.variable for problem in problems] == ["cluster_on_prem_addresses", "cluster_vpn_port"]
    assert "openvpn (process 7)" in problems[1].found
    assert "wg" not in problems[1].found
    assert notes == [
        "UDP port 1194 of 203.0.113.7 (a name that this host cannot resolve), which is cluster_vpn_endpoint, must be forwarded to this host, 10.0.0.10:1194."
    ]
    assert host_preflight.look_at_vpn({**COMMON, "vpn": None}) == ([], [])


@pytest.mark.parametrize(
    ("engines", "there", "said"),
    [
        ({"containerd": "2.*"}, {"containerd": "1.7.24"}, ["worker1, containerd_version: containerd 1.7.24 was found"]),
        ({"containerd": "2.*"}, {}, []),
        ({"docker": ">=20.10", "cri_dockerd": ">=0.4.0"}, {"docker": "28.1.0"}, ["worker1, docker_cri_dockerd_version: cri-dockerd was not found"]),
        ({"docker": ">=20.10", "cri_dockerd": ">=0.4.0"}, {"docker": "28.1.0", "cri_dockerd": "0.4.3"}, []),
        ({}, {"containerd": "1.7.24"}, []),
    ],
)
def test_an_engine_that_does_not_fit_is_a_problem_of_a_node(engines, there, said, monkeypatch, tmp_path):
    def find(program):
        name = next(name for name, known in _runtime.PROGRAMS.items() if known == program)
        return _runtime.Program(f"/usr/bin/{program}", there[name], program, there[name]) if name in there else None

    monkeypatch.setattr(_runtime, "find_program", find)
    load = host_preflight.Record.load
    monkeypatch.setattr(host_preflight.Record, "load", lambda: load(str(tmp_path / "record.json")))
    found = host_preflight.look_at_engines({**COMMON, "engines": engines})
    assert len(found) == len(said)
    assert all(text in str(problem) for text, problem in zip(said, found))


def test_a_record_that_cannot_be_read_is_a_problem_too(monkeypatch, tmp_path):
    (tmp_path / "record.json").write_text("{")
    load = host_preflight.Record.load
    monkeypatch.setattr(host_preflight.Record, "load", lambda: load(str(tmp_path / "record.json")))
    (problem,) = host_preflight.look_at_engines({**COMMON, "engines": {"containerd": "2.*"}})
    assert "record.json" in str(problem)
