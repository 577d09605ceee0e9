# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight finds on a host: recorded output, scripted servers."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _preflight_probe as looks
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host, Paths
from ansible_collections.fpga.hybrid.plugins.module_utils._preflight import KeyFile, Listener, Route

ROUTES = json.dumps(
    [
        {"dst": "default", "gateway": "10.203.10.1", "dev": "eth0", "flags": []},
        {"dst": "10.203.10.0/24", "dev": "eth0", "protocol": "kernel", "flags": []},
        {"dst": "10.244.7.0/26", "gateway": "10.244.7.0", "dev": "vxlan.calico", "flags": ["onlink"]},
        {"type": "blackhole", "dst": "10.244.1.0/26", "protocol": "80", "flags": []},
        {"dst": "10.244.1.3", "dev": "cali1", "scope": "link", "flags": []},
    ]
)
SOCKETS = """\
udp   UNCONN 0      0                  0.0.0.0:1194       0.0.0.0:*    users:(("openvpn",pid=1,fd=6))
udp   UNCONN 0      0                  0.0.0.0:4789       0.0.0.0:*
tcp   LISTEN 0      128              127.0.0.1:10248      0.0.0.0:*    users:(("kubelet",pid=3,fd=9),("kubelet",pid=3,fd=10))
tcp   LISTEN 0      128                      *:6443             *:*    users:(("kube-apiserver",pid=4,fd=3))
tcp   LISTEN 0      128                   [::]:22            [::]:*    users:(("sshd",pid=5,fd=4))
"""
NETWORKS = json.dumps(
    [
        {"Name": "bridge", "IPAM": {"Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]}},
        {"Name": "six", "IPAM": {"Config": [{"Subnet": "fd00::/64"}]}},
        {"Name": "host", "IPAM": {"Config": None}},
    ]
)


def script(**answers):
    """Runs what a test gives for the first word of a command; anything else isn't installed."""

    def run(command, data=None):
        answer = answers.get(command[0])
        if callable(answer):
            answer = answer(command)
        return (127, "", "") if answer is None else (0, answer, "")

    return run


def test_routes_are_read_without_the_default():
    assert looks.routes(script(ip=ROUTES)) == [
        Route("10.203.10.0/24", "eth0"),
        Route("10.244.7.0/26", "vxlan.calico", "10.244.7.0"),
        Route("10.244.1.0/26", ""),
        Route("10.244.1.3/32", "cali1"),
    ]


def test_listeners_are_read_with_their_program():
    assert looks.listeners(script(ss=SOCKETS)) == [
        Listener("udp", 1194, "openvpn"),
        Listener("udp", 4789, ""),
        Listener("tcp", 10248, "kubelet"),
        Listener("tcp", 6443, "kube-apiserver"),
        Listener("tcp", 22, "sshd"),
    ]


def test_docker_s_networks_count_also_when_their_bridge_is_down():
    run = script(docker=lambda command: "abc\ndef\n" if "ls" in command else NETWORKS)
    assert looks.docker_networks(run) == [Route("172.17.0.0/16", "docker network bridge")]


@pytest.mark.parametrize("function", [looks.routes, looks.listeners, looks.docker_networks])
def test_a_program_that_is_not_there_is_no_obstacle(function):
    assert function(script()) == []


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("clusters:\n- cluster:\n    server: https://api.example.org:6443\n", "api.example.org:6443"),
        ('    server: "https://10.0.0.1:6443/"\n', "10.0.0.1:6443"),
        ("", ""),
    ],
)
def test_the_api_server_is_read_from_a_kubeconfig(text, server):
    assert looks.kubelet_server(text) == server


def test_a_feature_may_be_built_in_a_module_loaded_or_a_file_system(tmp_path):
    folder = tmp_path / "lib/modules/6.1"
    folder.mkdir(parents=True)
    (folder / "modules.builtin").write_text("kernel/net/bridge/br_netfilter.ko\n")
    (folder / "modules.dep").write_text("kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/ipv4/udp_tunnel.ko.xz\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/filesystems").write_text("nodev\toverlay\n")
    assert looks.missing_features(tmp_path, "6.1") == ("nf_conntrack",)
    (tmp_path / "sys/module/nf_conntrack").mkdir(parents=True)
    assert looks.missing_features(tmp_path, "6.1") == ()


def test_a_kernel_that_tells_nothing_is_taken_as_complete(tmp_path):
    assert looks.missing_features(tmp_path, "6.1") == ()


def test_a_tun_device_that_is_not_there_is_said(tmp_path):
    assert "No such file" in looks.tun_error(tmp_path / "tun")


@pytest.mark.parametrize("error", [OSError("no way"), ValueError("not synchronised")])
def test_a_time_server_that_cannot_tell_the_time_is_passed_over(monkeypatch, error):
    def fail(_server):
        raise error

    monkeypatch.setattr(looks._sntp, "offset", fail)
    assert looks.ask_time("depot") is None


class Mirror(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        allowed = self.headers.get("Authorization") == "Basic bGFiOlMzQ1JFVA=="  # lab:S3CRET
        self.send_response(404 if self.path == "/nothing" else 200 if allowed else 401)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # must not be used
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "login", "status"),
    [("/x", {"username": "lab", "password": "S3CRET"}, 200), ("/x", {}, 401), ("/x", {"username": "lab", "password": "no"}, 401), ("/nothing", {}, 404)],
)
def test_a_mirror_is_asked_with_its_login(mirror, path, login, status):
    assert looks.ask_mirror({"name": "images", "url": mirror + path, **login}).status == status


def test_a_mirror_that_is_down_says_why(mirror):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answer = looks.ask_mirror({"name": "images", "url": f"http://127.0.0.1:{unused.getsockname()[1]}/"})
    assert (answer.status, answer.reason) == (0, "Connection refused")


def test_a_certificate_that_is_none_is_no_crash():
    assert looks.ask_mirror({"name": "images", "url": "https://127.0.0.1:1/", "ca": "not pem"}).status == 0


def test_a_bare_host_can_be_looked_at(tmp_path):
    """Nothing of what a node has is there yet, and nothing is installed."""
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n')
    found = looks.probe(script(), time.time() - 60, [], [], tmp_path)
    assert (found.os, found.routes, found.node_cluster_id, found.kubelet_server) == (("debian", "12"), (), "", "")
    assert found.clock_offset == pytest.approx(60, abs=5)


def test_a_node_is_known_by_what_its_join_left(tmp_path):
    for path, text in {
        "var/lib/x": "",
        "etc/fpga-hybrid/node.json": '{"cluster_id": "id-2", "cluster_name": "Other"}',
        "etc/kubernetes/kubelet.conf": "server: https://other:6443\n",
        "etc/kubernetes/manifests/kube-apiserver.yaml": "    image: registry.k8s.io/kube-apiserver:v1.35.9\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    found = looks.probe(script(), time.time(), [], [], tmp_path)
    assert (found.node_cluster_id, found.node_cluster_name, found.kubelet_server) == ("id-2", "Other", "other:6443")
    assert (found.running_kubernetes, found.vpn_is_ours) == ("1.35.9", False)


@pytest.mark.parametrize(
    "path", ["etc/openvpn/server/fpga-hybrid.conf", "etc/openvpn/client/fpga-hybrid.conf", "etc/systemd/system/fpga-hybrid-routes.service"]
)
def test_a_host_on_which_a_run_ended_after_the_vpn_keeps_its_routes(tmp_path, path):
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("")
    assert looks.probe(script(), time.time(), [], [], tmp_path).vpn_is_ours


def test_a_mirror_s_path_is_filled_in_with_the_host_s_release(tmp_path, mirror):
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("ID=debian\nVERSION_CODENAME=trixie\n")
    found = looks.probe(script(), time.time(), [], [{"name": "debian", "url": f"{mirror}/{{distribution}}/dists/{{codename}}/Release"}], tmp_path)
    assert found.answers[0].url == f"{mirror}/debian/dists/trixie/Release"


# --- a Kubernetes that is there already ---------------------------------------------------------------------------------------------------------

CONFIGURATION = {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration", "clusterName": "lab"}


class ControlPlane:
    """A host with an API server's files; its API answers with the ConfigMaps that a test gives, or not at all."""

    def __init__(self, root, configmaps=None):
        self.host = Host(self, Paths(str(root)))
        self.configmaps = configmaps
        for path in (self.host.paths.admin, f"{self.host.paths.kubernetes}/manifests/kube-apiserver.yaml"):
            self.host.write(path, "x", 0o600)

    def __call__(self, argv, data=None, pass_fds=()):
        if self.configmaps is None:
            return 1, "", "connection refused"
        if "--local" in argv:
            return 0, data, ""
        found = self.configmaps.get(next(word for word in argv if word.startswith("configmap/")).partition("/")[2])
        return (0, json.dumps({"data": found}), "") if found else (1, "", "Error from server (NotFound): no such thing")

    def look(self, cluster_id="id-1"):
        return looks.kubernetes(self.host, cluster_id)


def test_a_host_without_kubernetes_is_not_asked(tmp_path):
    def never(argv, data=None, pass_fds=()):
        raise AssertionError(argv)

    found, maker, configuration = looks.kubernetes(Host(never, Paths(str(tmp_path))), "id-1")
    assert (found.files, found.foreign, maker, configuration) == ((), "", "", None)


def test_a_control_plane_is_ours_by_the_record_of_its_init_also_while_its_api_is_down(tmp_path):
    stands = ControlPlane(tmp_path)
    stands.host.write(stands.host.paths.record, '{"schema": 1, "kubeadm": {"init": {"cluster_id": "id-1"}}}', 0o600)
    found, maker, configuration = stands.look()
    assert (found.foreign, maker, configuration) == ("", "id-1", None)
    assert stands.look("id-2")[0].foreign == "it is the control plane of the cluster with id id-1, and this one is id-2"


def test_without_a_record_it_is_ours_by_what_site_yml_wrote_into_the_cluster(tmp_path):
    stands = ControlPlane(tmp_path, {"fpga-hybrid": {"cluster_id": "id-1"}, "kubeadm-config": {"ClusterConfiguration": json.dumps(CONFIGURATION)}})
    found, maker, configuration = stands.look()
    assert (found.foreign, maker, configuration) == ("", "id-1", CONFIGURATION)


@pytest.mark.parametrize("configmaps", [None, {}, {"fpga-hybrid": {}}, {"kubeadm-config": {"ClusterConfiguration": json.dumps(CONFIGURATION)}}])
def test_a_control_plane_that_nothing_calls_ours_is_somebody_elses(tmp_path, configmaps):
    found, maker, configuration = ControlPlane(tmp_path, configmaps).look()
    assert "we did not make" in found.foreign
    assert (maker, configuration) == ("", None)


def test_an_init_of_ours_that_was_killed_is_no_stranger(tmp_path):
    stands = ControlPlane(tmp_path)
    stands.host.write(stands.host.paths.journal, '{"action": "init", "cluster_id": "id-1"}', 0o600)
    assert stands.look()[0].foreign == ""


def test_a_record_that_cannot_be_read_is_said(tmp_path):
    stands = ControlPlane(tmp_path, {})
    stands.host.write(stands.host.paths.record, "{", 0o600)
    assert "record.json cannot be read" in stands.look()[0].foreign


def test_users_are_asked_for_where_the_host_gets_them_from():
    assert looks.unknown_users(["root", "nobody-of-that-name"]) == ("nobody-of-that-name",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[default]\naws_access_key_id = A\naws_secret_access_key = b%c=\n", ""),
        (None, "No such file or directory"),
        (b"\xff\xfe", "it is no text"),
        (b"[default]\naws_access_key_id = A\n", "section default has no aws_secret_access_key"),
    ],
)
def test_a_key_file_is_read_as_what_needs_it_will_read_it(tmp_path, content, problem):
    path = tmp_path / "keeper.aws"
    if content is not None:
        path.write_bytes(content)
    found = looks.key_file("cluster_aws_credentials.keeper", str(path))
    assert (found.path, found.problem) == (str(path), problem)


def test_without_a_file_there_is_nothing_to_read():
    assert looks.key_file("cluster_aws_credentials.autoscaler", "") == KeyFile("cluster_aws_credentials.autoscaler", "")


def test_a_key_with_a_session_token_is_none_for_who_keeps_it(tmp_path):
    (tmp_path / "ends").write_text("[default]\naws_access_key_id = A\naws_secret_access_key = b\naws_session_token = c\n")
    assert looks.key_file("k", str(tmp_path / "ends")).problem == ""
    assert looks.key_file("k", str(tmp_path / "ends"), lasting=True).problem == "it has an aws_session_token, so its key ends by itself"
