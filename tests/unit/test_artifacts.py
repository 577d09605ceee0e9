# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`ansible-playbook playbooks/artifacts.yml`: what the roles would take, without a host; and what the places say about it."""

from __future__ import annotations

import base64
import datetime
import gzip
import hashlib
import http.server
import ipaddress
import json
import socket
import ssl
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.fpga.hybrid.plugins.action import artifacts as action
from ansible_collections.fpga.hybrid.plugins.module_utils._artifacts import Artifact
from tests.unit.site import play


def list_artifacts(folder: Path, variables: dict, *options: str) -> tuple[list[dict], str]:
    # nobody is asked but where a test says so
    variables = {"artifacts_dest": str(folder / "list.json"), "artifacts_resolve": False, "cluster_kubernetes_version": "1.36.3", **variables}
    done = play(folder, "playbooks/artifacts.yml", variables, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "list.json").read_text())["artifacts"], done.stdout + done.stderr


def named(artifacts: list[dict], kind: str) -> dict[str, dict]:
    return {artifact["name"] or artifact["origin"]: artifact for artifact in artifacts if artifact["kind"] == kind}


def test_a_site_without_mirrors_gets_upstreams_places(tmp_path):
    artifacts, output = list_artifacts(tmp_path, {})
    packages, images = named(artifacts, "package"), named(artifacts, "image")
    assert packages["kubelet"]["version"] == "1.36.3-1.1"
    assert packages["kubelet"]["origin"] == packages["kubelet"]["source"] == "https://pkgs.k8s.io/core:/stable:/v1.36/deb/ /"
    assert packages["containerd.io"]["origin"].startswith("https://download.docker.com/linux/debian")
    assert {"kube-apiserver", "kube-proxy", "etcd", "coredns/coredns", "pause"} <= set(images)
    assert "https://pkgs.k8s.io/core:/stable:/v1.36/deb/Release.key" in named(artifacts, "key")
    assert "openvpn" in output
    assert named(artifacts, "wheel")["protobuf"]["origin"] == "https://pypi.org/simple/"


@pytest.mark.parametrize(
    ("kubernetes", "calico", "charts", "images"),
    [
        ("1.36", "", {"crd.projectcalico.org.v1", "tigera-operator"}, {"quay.io tigera/operator v1.42.3", "quay.io calico/typha v3.32.1"}),
        ("1.35", "v3.31.7", {"tigera-operator"}, {"quay.io tigera/operator v1.40.15", "quay.io calico/node v3.31.7"}),
        ("1.35", "v3.30.7", {"tigera-operator"}, {"quay.io tigera/operator v1.38.13", "quay.io calico/csi v3.30.7"}),
    ],
)
def test_the_operators_way_lists_its_charts_and_every_image_that_it_starts(kubernetes, calico, charts, images, tmp_path):
    artifacts, _output = list_artifacts(tmp_path, {"cluster_kubernetes_version": kubernetes, "cluster_calico_version": calico})
    found = named(artifacts, "chart")
    assert set(found) == charts
    assert len({chart["version"] for chart in found.values()}) == 1, "definitions of another release than the operator's"
    listed = {f"{item['origin']} {item['name']} {item['version']}" for item in artifacts if item["kind"] == "image"}
    assert images <= listed
    calicos = {name.split()[1] for name in listed if name.split()[1].startswith(("calico/", "tigera/"))}
    wanted = {"calico/cni", "calico/kube-controllers", "calico/node", "calico/pod2daemon-flexvol", "calico/typha", "tigera/operator"}
    assert calicos - {"calico/csi", "calico/node-driver-registrar"} == wanted


@pytest.mark.parametrize(("calico", "registry"), [("v3.32.1", "quay.io"), ("v3.30.7", "docker.io")])
def test_the_manifests_way_lists_the_images_that_the_manifest_names(calico, registry, tmp_path):
    kubernetes = "1.36" if calico == "v3.32.1" else "1.35"
    artifacts, _output = list_artifacts(tmp_path, {"cluster_kubernetes_version": kubernetes, "cluster_calico_version": calico, "cni_method": "manifest"})
    images = {f"{item['origin']}/{item['name']}:{item['version']}" for item in artifacts if item["kind"] == "image" and "calico" in item["name"]}
    assert images == {f"{registry}/calico/{name}:{calico}" for name in ("cni", "kube-controllers", "node")}
    assert named(artifacts, "file")["calico-vxlan.yaml"]["checksum"].startswith("sha256:")
    assert "chart" not in {item["kind"] for item in artifacts}


def test_the_declaration_decides(tmp_path):
    artifacts, _output = list_artifacts(
        tmp_path, {"cni_method": "manifest", "artifacts_systems": ["Ubuntu 22.04"], "artifacts_docker": True, "containerd_version": "2.1.*"}
    )
    packages = named(artifacts, "package")
    assert packages["containerd.io"]["version"] == "2.1.*"
    assert packages["containerd.io"]["origin"] == "https://download.docker.com/linux/ubuntu jammy stable"
    assert "docker-ce" in packages
    assert "calico-vxlan.yaml" in named(artifacts, "file")


POOL = {"name": "f2", "instance_type": "f2.6xlarge", "max_size": 1, "availability_zones": ["us-east-1a"]}


@pytest.mark.parametrize(
    ("pools", "method", "charts"),
    [([], "chart", set()), ([POOL], "chart", {"cluster-autoscaler"}), ([POOL], "manifest", set())],
    ids=["no pools", "chart", "manifest"],
)
def test_node_pools_want_the_autoscaler_of_the_clusters_minor(pools, method, charts, tmp_path):
    declared = {"cluster_node_pools": pools, "cluster_aws_region": "us-east-1", "cni_method": "manifest", "autoscaler_method": method}
    artifacts, _output = list_artifacts(tmp_path, declared)
    assert set(named(artifacts, "chart")) == charts
    images = [f"{item['origin']}/{item['name']}:{item['version']}" for item in artifacts if item["kind"] == "image" and "autoscaler" in item["name"]]
    assert images == (["registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.1"] if pools else [])


SUM = "a" * 64
XRT_FILES = {"xrt": {"url": "xrt.deb", "sha256": SUM}, "dkms": {"url": "https://d.example.org/dkms.deb", "sha256": SUM}, "c": {"path": "/c.deb", "sha256": SUM}}


@pytest.mark.parametrize(
    ("declared", "packages", "files"),
    [
        ({}, {"xrt": "https://packages.xilinx.com/artifactory/debian-packages jammy main"}, {}),
        ({"artifacts_fpga": []}, {}, {}),
        ({"xrt_source": "distro"}, {"xrt-xocl-dkms": "the host's own package sources"}, {}),
        ({"xrt_source": "files", "xrt_files": XRT_FILES}, {}, {"dkms.deb": "https://d.example.org/dkms.deb", "xrt.deb": "https://m/xrt/xrt.deb"}),
    ],
    ids=["amd", "no cards", "distro", "files"],
)
def test_xrt_is_listed_as_it_would_be_taken_since_site_yml_brings_it(declared, packages, files, tmp_path):
    artifacts, _output = list_artifacts(tmp_path, {"cluster_mirrors": {"files": {"url": "https://m/"}}, **declared})
    found = {name: item["source"] for name, item in named(artifacts, "package").items() if "xrt" in name}
    assert {name: found.get(name) for name in packages} == packages
    assert bool(found) is bool(packages)
    assert {name: item["source"] for name, item in named(artifacts, "file").items() if name.endswith(".deb")} == files
    assert all(item["checksum"] == f"sha256:{SUM}" for item in named(artifacts, "file").values() if item["name"].endswith(".deb"))
    assert ("linux-headers" in named(artifacts, "package")) is ("artifacts_fpga" not in declared)


class Mirror(http.server.BaseHTTPRequestHandler):
    """An apt repository, a registry and a file server that want a password."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(b"lab:secret-of-mirror").decode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="mirror"')
            self.end_headers()
            return
        body = self.answers.get(self.path)
        self.send_response(200 if body is not None else 404)
        if "/manifests/" in self.path:
            self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(self.path.encode()).hexdigest())
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_arguments):
        pass


def certificate(folder: Path) -> tuple[Path, str]:
    """A certificate of its own authority for 127.0.0.1: (file with certificate and key, the authority's PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mirror")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), start, start.replace(year=2120))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "mirror.pem").write_bytes(pem + private)
    return folder / "mirror.pem", pem.decode()


@pytest.fixture
def mirror(tmp_path):
    """(URL, the PEM text of its CA)."""
    packages = b"Package: kubelet\nVersion: 1.36.3-1.1\nSHA256: aa\n\nPackage: kubelet\nVersion: 1.36.4-1.1\nSHA256: bb\n"
    answers = {
        "/k8s/core:/stable:/v1.36/deb/Packages.gz": gzip.compress(packages),
        "/k8s/core:/stable:/v1.36/deb/Release.key": b"a key",
        "/v2/registry.k8s.io/pause/manifests/3.10.2": b"",
        "/charts/index.yaml": b"entries: {tigera-operator: [{version: v3.32.0, digest: '00'}, {version: v3.32.1, digest: cc}]}",
    }
    pem, ca = certificate(tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Mirror,), {"answers": answers}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}", ca
    server.shutdown()


def test_digests_and_checksums_come_from_the_mirror_and_gaps_are_said(tmp_path, mirror):
    url, ca = mirror
    login = {"username": "lab", "password": "secret-of-mirror", "ca": ca}
    mirrors = {"kubernetes": {"url": f"{url}/k8s", **login}, "images": {"url": url, **login}}
    # everything else leads to the mirror too, where it is missing: nothing outside is asked
    mirrors |= {name: {"url": f"{url}/{name}", **login} for name in ("docker", "helm", "charts", "files", "debian")}
    artifacts, output = list_artifacts(tmp_path, {"artifacts_resolve": True, "cluster_mirrors": mirrors}, "-vvv")
    assert named(artifacts, "package")["kubelet"]["checksum"] == "sha256:aa"
    assert named(artifacts, "key")["https://pkgs.k8s.io/core:/stable:/v1.36/deb/Release.key"]["checksum"] == f"sha256:{hashlib.sha256(b'a key').hexdigest()}"
    digest = hashlib.sha256(b"/v2/registry.k8s.io/pause/manifests/3.10.2").hexdigest()
    assert named(artifacts, "image")["pause"]["checksum"] == f"sha256:{digest}"
    assert named(artifacts, "image")["etcd"]["checksum"] == ""
    assert "image etcd: HTTP Error 404" in output
    assert named(artifacts, "chart")["tigera-operator"]["checksum"] == "sha256:cc"
    assert "chart crd.projectcalico.org.v1: its repository has no chart of this name" in " ".join(output.split())
    assert "package kubeadm" in output, "a package that the mirror lacks must be named"
    assert "secret-of-mirror" not in output


def test_a_list_that_cannot_be_written_says_why(tmp_path):
    mirrors = {name: {"url": "https://127.0.0.1:1"} for name in ("kubernetes", "images", "docker", "helm", "charts", "files", "debian")}
    declared = {"cluster_kubernetes_version": "1.36.3", "cluster_mirrors": mirrors}
    done = play(tmp_path, "playbooks/artifacts.yml", {**declared, "artifacts_dest": str(tmp_path / "nowhere" / "list.json")})
    assert done.returncode != 0
    assert "No such file or directory" in done.stdout
    assert "Say a file in a folder that is there" in " ".join(done.stdout.split())


def test_who_gives_no_answer_is_asked_once(tmp_path, monkeypatch):
    monkeypatch.setattr(action, "SECONDS", 0.2)
    wanted = [Artifact("image", name, "1", "registry.k8s.io", "", "") for name in ("etcd", "pause", "coredns")]
    # Connections are made by the kernel, and nobody ever answers on them.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = f"http://127.0.0.1:{silent.getsockname()[1]}/registry.k8s.io"
        lookup = action.Lookup({}, str(tmp_path))
        for artifact in wanted:
            assert lookup.resolve(replace(artifact, source=source)).checksum == ""
        silent.accept()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert len(lookup.problems) == 3
    assert all("timed out" in problem for problem in lookup.problems)
