# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list for a mirror."""

from __future__ import annotations

import json

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _artifacts as artifacts

UPSTREAM = {
    "packages": [
        {
            "source": {"url": "https://pkgs.k8s.io/v1.36/deb/", "suite": "/", "key_url": "https://pkgs.k8s.io/v1.36/deb/Release.key"},
            "packages": [{"name": "kubelet", "version": "1.36.3-1.1", "hold": True}],
        },
        {"source": None, "packages": [{"name": "chrony"}]},
    ],
    "images": ["registry.k8s.io/pause:3.10.2", "calico/node:v3.28.5"],
    "files": [{"url": "https://example.org/a/calico.yaml", "checksum": "sha256:00"}],
    "charts": [{"name": "tigera-operator", "version": "v3.32.1", "repository": "https://docs.example.org/charts"}],
    "wheels": {"index": "https://pypi.org/simple/", "packages": [["grpcio", "1.85.1"]]},
    "unknown": [{"kind": "image", "name": "others", "note": "ask the chart"}],
}
HERE = {
    **UPSTREAM,
    "packages": [
        {"source": {"url": "https://depot/v1.36/deb/", "suite": "/", "key": "-----BEGIN"}, "packages": UPSTREAM["packages"][0]["packages"]},
        {"source": {"url": "https://depot/debian", "suite": "bookworm", "components": ["main"]}, "packages": [{"name": "chrony"}]},
    ],
    "files": [{"url": "https://depot/files/calico.yaml", "checksum": "sha256:00"}],
    "wheels": {**UPSTREAM["wheels"], "index": "https://depot/python/simple/"},
}


def found(kind: str, name: str, here=HERE, mirror="https://depot:5000") -> artifacts.Artifact:
    return next(item for item in artifacts.list_artifacts(UPSTREAM, here, mirror, "Debian 12") if (item.kind, item.name) == (kind, name))


def test_each_thing_has_upstreams_place_and_the_mirrors():
    kubelet = found("package", "kubelet")
    assert (kubelet.version, kubelet.origin, kubelet.source) == ("1.36.3-1.1", "https://pkgs.k8s.io/v1.36/deb/ /", "https://depot/v1.36/deb/ /")
    pause = found("image", "pause")
    assert (pause.version, pause.origin, pause.source) == ("3.10.2", "registry.k8s.io", "https://depot:5000/registry.k8s.io")
    manifest = found("file", "calico.yaml")
    assert (manifest.origin, manifest.source, manifest.checksum) == ("https://example.org/a/calico.yaml", "https://depot/files/calico.yaml", "sha256:00")
    assert found("chart", "tigera-operator").version == "v3.32.1"
    wheel = found("wheel", "grpcio")
    assert (wheel.version, wheel.origin, wheel.source) == ("1.85.1", "https://pypi.org/simple/", "https://depot/python/simple/")


def test_without_a_mirror_both_are_upstreams():
    assert all(item.origin == item.source for item in artifacts.list_artifacts(UPSTREAM, UPSTREAM, "", "Debian 12"))


def test_a_key_in_the_declaration_needs_no_fetching():
    key = found("key", "")
    assert (key.origin, key.source) == ("https://pkgs.k8s.io/v1.36/deb/Release.key", "cluster_mirrors")
    assert "declaration" in key.note


def test_packages_of_the_hosts_own_sources_bring_others():
    chrony = found("package", "chrony")
    assert (chrony.origin, chrony.note) == (artifacts.OWN_SOURCES, "and what it depends on")


def test_what_is_not_known_is_said():
    assert found("image", "others").note == "ask the chart"


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("registry.k8s.io/coredns/coredns:v1.14.2", ("registry.k8s.io", "coredns/coredns", "v1.14.2")),
        ("calico/node:v3.28.5", ("docker.io", "calico/node", "v3.28.5")),
        ("docker.io/calico/node:v3.28.5", ("docker.io", "calico/node", "v3.28.5")),
        ("nginx", ("docker.io", "library/nginx", "latest")),
        ("depot:5000/a/b:1", ("depot:5000", "a/b", "1")),
        ("localhost/x:1", ("localhost", "x", "1")),
    ],
)
def test_image_names(reference, parts):
    assert artifacts.split_image(reference) == parts


def test_systems_that_need_the_same_thing_share_a_line():
    both = artifacts.merge(item for system in ("Debian 12", "Debian 13") for item in artifacts.list_artifacts(UPSTREAM, HERE, "", system))
    kubelet = [item for item in both if item.name == "kubelet"]
    assert [item.systems for item in kubelet] == [("Debian 12", "Debian 13")]
    assert [item.kind for item in both] == sorted((item.kind for item in both), key=artifacts.KINDS.index)


def test_the_json_holds_everything_that_the_text_shows():
    items = artifacts.merge(artifacts.list_artifacts(UPSTREAM, HERE, "", "Debian 12"))
    data = json.loads(artifacts.render_json("title", items))["artifacts"]
    text = artifacts.render_text("title", items)
    assert len(data) == len(items)
    for item in data:
        assert item["name"] in text
        assert item["origin"] in text


def test_packages_files_are_read():
    text = "Package: kubelet\nVersion: 1.36.3-1.1\nDescription: x\n more\nSHA256: ab\n\nPackage: kubeadm\nVersion: 1.36.3-1.1\nSHA256: cd\n"
    stanzas = artifacts.parse_packages(text)
    assert [(stanza["Package"], stanza["SHA256"]) for stanza in stanzas] == [("kubelet", "ab"), ("kubeadm", "cd")]


def test_index_places_of_flat_and_of_ordinary_sources():
    assert artifacts.index_urls({"url": "https://pkgs/deb/", "suite": "/"}) == ["https://pkgs/deb/Packages"]
    ordinary = artifacts.index_urls({"url": "https://d/linux/debian", "suite": "trixie", "components": ["stable", "test"]})
    assert ordinary == ["https://d/linux/debian/dists/trixie/stable/binary-amd64/Packages", "https://d/linux/debian/dists/trixie/test/binary-amd64/Packages"]


def test_a_registrys_challenge():
    header = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:calico/node:pull"'
    assert artifacts.parse_challenge(header) == {
        "realm": "https://auth.docker.io/token",
        "service": "registry.docker.io",
        "scope": "repository:calico/node:pull",
    }


def test_a_chart_has_its_repositorys_digest_whether_or_not_its_version_has_a_v():
    index = {"entries": {"tigera-operator": [{"version": "v3.32.1", "digest": "aa"}, {"version": "3.31.7", "digest": "bb"}, {"version": "v3.30.7"}]}}
    assert artifacts.chart_digest(index, "tigera-operator", "v3.32.1") == "sha256:aa"
    assert artifacts.chart_digest(index, "tigera-operator", "v3.31.7") == "sha256:bb"
    assert artifacts.chart_digest(index, "tigera-operator", "v3.30.7") == ""
    with pytest.raises(ValueError, match=r"no version v3\.29\.0 \(it has: v3\.32\.1, 3\.31\.7, v3\.30\.7\)"):
        artifacts.chart_digest(index, "tigera-operator", "v3.29.0")
    with pytest.raises(ValueError, match="no chart of this name"):
        artifacts.chart_digest({}, "tigera-operator", "v3.32.1")
