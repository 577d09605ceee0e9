# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API client against an API server of its own over real TLS: whom it trusts, and what it makes of refusals."""

from __future__ import annotations

import socket

import pytest

from fpga_hybrid import kube
from tests.unit.roles.bootstrap.doubles import TOKEN, ApiServer, Authority, node_object


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def server(tmp_path, authority):
    with ApiServer(tmp_path, authority) as running:
        running.nodes["worker1"] = node_object("worker1", "fpga-hybrid:///c/worker1", ready=True)
        yield running


def where(server: ApiServer) -> kube.Server:
    return kube.Server.of(server.endpoint, "127.0.0.1")


def api(server: ApiServer, **identity: str) -> kube.Api:
    return kube.Api(where(server), server.authority.pem, **identity)


def test_the_ca_is_believed_for_its_hash(server, authority):
    found = kube.discover(where(server), ["sha256:" + "1" * 64, authority.pin])
    assert found.ca == authority.pem
    assert abs(found.clock_offset) < 3


def test_another_ca_is_refused_with_both_hashes(server, authority):
    with pytest.raises(kube.WrongAuthorityError, match=f"has the hash {authority.pin}, expected sha256:{'1' * 64}"):
        kube.discover(where(server), ["sha256:" + "1" * 64])


def test_without_a_hash_nobody_is_asked(server):
    with pytest.raises(kube.WrongAuthorityError, match="no hash of the CA"):
        kube.discover(where(server), [])
    assert server.asked == []


def test_the_servers_clock_is_told(server, authority):
    server.ahead = -900
    assert kube.discover(where(server), [authority.pin]).clock_offset == pytest.approx(-900, abs=3)


@pytest.mark.parametrize("text", ["<html>", "{}", '{"data": {"kubeconfig": "clusters: []"}}', '{"data": {"kubeconfig": "certificate-authority-data: !"}}'])
def test_what_is_no_api_server_is_told(server, authority, text):
    server.cluster_info = text
    with pytest.raises(kube.UnreachableError, match="no Kubernetes API server that has joins"):
        kube.discover(where(server), [authority.pin])


def test_a_cluster_that_hides_its_cluster_info_is_told(server, authority):
    server.cluster_info = None
    with pytest.raises(kube.ForbiddenError, match="gives its cluster-info to nobody"):
        kube.discover(where(server), [authority.pin])


def test_nobody_there_is_unreachable():
    with pytest.raises(kube.UnreachableError, match="refused"):
        kube.discover(kube.Server.of("localhost:9"), ["sha256:" + "1" * 64])


def test_who_does_not_speak_tls_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as plain:
        there = kube.Server("localhost", plain.getsockname()[1])
        with pytest.raises(kube.UnreachableError):
            kube.discover(there, ["sha256:" + "1" * 64], timeout=0.2)


def test_a_server_of_another_ca_gets_no_token(server, tmp_path):
    other = Authority()
    client = kube.Api(where(server), other.pem, token=TOKEN)
    with pytest.raises(kube.WrongAuthorityError, match="certificate does not hold"):
        client.node("worker1")
    assert server.asked == []


def test_a_certificate_of_another_name_gets_no_token(server):
    client = kube.Api(kube.Server("other.example.org", server.port, "127.0.0.1"), server.authority.pem, token=TOKEN)
    with pytest.raises(kube.WrongAuthorityError, match="Hostname mismatch"):
        client.node("worker1")
    assert server.asked == []


def test_a_node_is_found_or_not_there(server):
    assert api(server, token=TOKEN).node("worker1")["spec"]["providerID"] == "fpga-hybrid:///c/worker1"
    assert api(server, token=TOKEN).node("worker2") is None


def test_a_token_that_has_expired_is_unauthorized(server):
    server.tokens.clear()
    with pytest.raises(kube.UnauthorizedError, match="Unauthorized"):
        api(server, token=TOKEN).node("worker1")


def test_a_kubelet_sees_its_own_node_and_no_other(server, tmp_path):
    own = tmp_path / "kubelet.pem"
    own.write_text(server.authority.issue("system:node:worker1", organisation="system:nodes"))
    client = api(server, certificate=str(own))
    assert client.node("worker1")["metadata"]["name"] == "worker1"
    with pytest.raises(kube.ForbiddenError, match='nodes "worker2" is forbidden'):
        client.node("worker2")


def test_a_certificate_that_is_none_is_told(server, tmp_path):
    with pytest.raises(kube.UnauthorizedError, match="cannot be used"):
        api(server, certificate=str(tmp_path / "none.pem"))


def test_health_is_the_servers_own_word(server):
    assert api(server).is_healthy()
    server.ready = "etcd failed"
    assert not api(server).is_healthy()
    assert not kube.Api(kube.Server.of("localhost:9"), server.authority.pem).is_healthy()


@pytest.mark.parametrize(
    ("node", "ready", "words"),
    [
        (node_object("n", None, ready=True), True, "KubeletReady"),
        (node_object("n", None, ready=False), False, "KubeletNotReady: cni plugin not initialized"),
        ({"metadata": {}}, False, "has not reported yet"),
    ],
)
def test_readiness_comes_with_the_kubelets_reason(node, ready, words):
    found, reason = kube.ready_condition(node)
    assert found is ready
    assert words in reason
