# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Image names, layers, manifests, and archives that users drop in."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.depot import archives, golang, images, oci, wheels
from lab.depot.base import Cache

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("calico/node:v3.28.5", "docker.io/calico/node:v3.28.5"),
        ("docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("registry.k8s.io/coredns/coredns:v1.14.2", "registry.k8s.io/coredns/coredns:v1.14.2"),
        ("localhost/a", "localhost/a:latest"),
        ("quay.io/x/y@" + DIGEST, "quay.io/x/y@" + DIGEST),
        ("quay.io/x/y:1@" + DIGEST, "quay.io/x/y:1@" + DIGEST),
        ("host:5000/a__b/c.d:T_1", "host:5000/a__b/c.d:T_1"),
    ],
)
def test_a_name_is_completed_as_docker_does(text: str, full: str) -> None:
    assert str(oci.Reference.parse(text)) == full


@pytest.mark.parametrize(
    "text", ["", "UPPER/case", "a//b", "a:", "a@sha256:12", "a@", "-a", "a:b:c", "quay.io/", "quay.io/a:" + "x" * 129, "a b", "a\nb", "a/b\n"]
)
def test_what_names_no_image_is_refused_with_the_name(text: str) -> None:
    with pytest.raises(oci.ReferenceFormatError) as error:
        oci.Reference.parse(text)
    assert repr(text) in str(error.value)


@given(st.text(alphabet="aA0.-_/:@\n ", max_size=40))
def test_a_parsed_name_means_the_same_written_out(text: str) -> None:
    try:
        reference = oci.Reference.parse(text)
    except oci.ReferenceFormatError:
        return
    assert oci.Reference.parse(str(reference)) == reference


def test_a_registry_is_a_folder_of_the_depots() -> None:
    assert oci.Reference.parse("calico/node:v1").mirrored == "docker.io/calico/node"
    with pytest.raises(oci.ReferenceFormatError, match="port"):
        _ = oci.Reference.parse("host:5000/a").mirrored


def test_digests_are_those_that_the_specification_gives() -> None:
    """The empty descriptor of the OCI image specification."""
    descriptor = oci.Descriptor.of(b"{}", "application/vnd.oci.empty.v1+json")
    assert descriptor.content() == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
    }


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF" * 1000)
    return path


def layer_of(entries: Mapping[str, oci.Entry]) -> tuple[oci.Layer, bytes]:
    target = io.BytesIO()
    return oci.write_layer(entries, target), target.getvalue()


def test_a_layer_has_the_digests_of_its_bytes(program: Path) -> None:
    layer, data = layer_of({"/usr/bin/program": oci.Entry(program)})
    assert layer.descriptor == oci.Descriptor.of(data, oci.LAYER_GZIP)
    assert layer.diff_id == oci.digest(gzip.decompress(data))


def test_a_layer_holds_folders_files_and_links_in_order(program: Path) -> None:
    _layer, data = layer_of({"/opt/a": oci.Entry(link="/opt/z"), "/opt/z": oci.Entry(program), "/status": oci.Entry()})
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        assert [(member.name, member.type) for member in members] == [
            ("opt", tarfile.DIRTYPE),
            ("opt/z", tarfile.REGTYPE),
            ("status", tarfile.DIRTYPE),
            ("opt/a", tarfile.LNKTYPE),
        ]
        assert {(member.uid, member.gid, member.mode) for member in members} == {(0, 0, 0o755)}
        linked = tar.extractfile("opt/a")
        assert linked is not None
        assert linked.read() == program.read_bytes()


def test_the_same_files_give_the_same_layer_whenever_it_is_made(program: Path) -> None:
    first = layer_of({"/a": oci.Entry(program)})
    program.touch()
    assert layer_of({"/a": oci.Entry(program)}) == first


def test_a_compressed_layer_says_what_it_was_before() -> None:
    plain = b"tar" * 5000
    target = io.BytesIO()
    layer = oci.compress_layer(io.BytesIO(plain), target)
    assert gzip.decompress(target.getvalue()) == plain
    assert layer.diff_id == oci.digest(plain)


def test_manifest_and_configuration_fit_each_other(program: Path) -> None:
    layer, _data = layer_of({"/pause": oci.Entry(program)})
    config = oci.config([layer], "amd64", entrypoint=["/pause"], user="65535:65535")
    manifest = json.loads(oci.manifest(config, [layer.descriptor]))
    assert manifest["mediaType"] == oci.MANIFEST
    assert manifest["config"] == {"mediaType": oci.CONFIG, "digest": oci.digest(config), "size": len(config)}
    assert manifest["layers"] == [layer.descriptor.content()]
    content = json.loads(config)
    assert content["rootfs"]["diff_ids"] == [layer.diff_id]
    assert content["config"]["Entrypoint"] == ["/pause"]
    assert "Cmd" not in content["config"]


@pytest.mark.parametrize("spec", images.read_specs(), ids=lambda spec: spec.name)
def test_every_image_is_made_of_what_the_depot_builds(spec: images.Spec) -> None:
    table = golang.read_table()
    reference = spec.resolved(table)
    assert "." in reference.registry
    for source in spec.files.values():
        kind, _, rest = source.partition(":")
        if kind == "program":
            table.program(rest)
        elif kind == "text":
            assert (images.FOLDER / rest).is_file()
        elif kind == "wheel":
            name, _, inside = rest.partition("/")
            version = re.search(rf"^{re.escape(name)}==(\S+)", wheels.REQUIREMENTS.read_text(), re.MULTILINE)
            assert version is not None
            # a folder whose name has the version in it
            assert not inside.endswith(".dist-info") or inside == f"{name.replace('-', '_')}-{version[1]}.dist-info"
        else:
            assert kind == "link"
            assert rest in spec.files


def test_the_images_are_those_that_kubeadm_asks_for() -> None:
    table = golang.read_table()
    assert {str(spec.resolved(table)) for spec in images.read_specs()} >= {
        "registry.k8s.io/kube-apiserver:v1.36.3",
        "registry.k8s.io/kube-controller-manager:v1.36.3",
        "registry.k8s.io/kube-scheduler:v1.36.3",
        "registry.k8s.io/kube-proxy:v1.36.3",
        "registry.k8s.io/etcd:3.6.8-0",
        "registry.k8s.io/coredns/coredns:v1.14.2",
        "registry.k8s.io/pause:3.10.2",
    }


# archives


class Shelf:
    """A registry that checks what it is given as a real one would."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.tags: dict[str, bytes] = {}

    def push_blob(self, repository: str, descriptor: oci.Descriptor, content: bytes | IO[bytes]) -> None:
        data = content if isinstance(content, bytes) else content.read()
        assert oci.Descriptor.of(data, descriptor.media_type) == descriptor
        self.blobs[f"{repository}@{descriptor.digest}"] = data

    def push_manifest(self, repository: str, tag: str, content: bytes, media_type: str) -> str:
        digest = oci.digest(content)
        document = json.loads(content)
        for blob in [document["config"], *document["layers"]] if media_type in oci.MANIFESTS else []:
            assert f"{repository}@{blob['digest']}" in self.blobs
        for child in document["manifests"] if media_type in oci.INDEXES else []:
            assert f"{repository}:{child['digest']}" in self.tags
        self.tags[f"{repository}:{tag or digest}"] = content
        return digest

    def manifest_digest(self, repository: str, tag: str) -> str:
        content = self.tags.get(f"{repository}:{tag}")
        return oci.digest(content) if content is not None else ""

    def delete_manifest(self, repository: str, digest: str) -> None:
        self.tags = {name: content for name, content in self.tags.items() if not name.startswith(f"{repository}:") or oci.digest(content) != digest}

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_details: object) -> None:
        pass


def tar_of(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


LAYER = b"layer" * 3000
CONFIG = oci.canonical({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [oci.digest(LAYER)]}})


def docker_files(tags: list[str] | None) -> dict[str, bytes]:
    index = [{"Config": "config.json", "RepoTags": tags, "Layers": ["l/layer.tar"]}]
    return {"manifest.json": json.dumps(index).encode(), "config.json": CONFIG, "l/layer.tar": LAYER}


def oci_files(architectures: tuple[str, ...] = ("amd64",), annotations: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """A layout with one image; of several architectures, through an index."""
    blobs: list[bytes] = []
    children = []
    for architecture in architectures:
        config = CONFIG.replace(b"amd64", architecture.encode())
        manifest = oci.manifest(config, [oci.Descriptor.of(LAYER, oci.LAYER)])
        blobs += [config, LAYER, manifest]
        children.append({**oci.Descriptor.of(manifest, oci.MANIFEST).content(), "platform": {"architecture": architecture, "os": "linux"}})
    top: dict[str, Any] = children[0]
    if len(children) > 1:
        index = oci.canonical({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": children})
        blobs.append(index)
        top = oci.Descriptor.of(index, oci.INDEX).content()
    names = {"org.opencontainers.image.ref.name": "quay.io/site/tool:v1"} if annotations is None else annotations
    layout = {"schemaVersion": 2, "manifests": [{**top, "annotations": dict(names)}]}
    return {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(layout).encode()} | {
        f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}": blob for blob in blobs
    }


def load(path: Path) -> Shelf:
    shelf = Shelf()
    for image in archives.read_archive(path, "amd64"):
        archives.send(image, path, shelf)
    return shelf


def test_dockers_archive_is_pushed_under_each_of_its_names(tmp_path: Path) -> None:
    shelf = load(tar_of(tmp_path / "a.tar", docker_files(["registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.1", "tool:2"])))
    assert set(shelf.tags) == {"registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.1", "docker.io/library/tool:2"}
    manifest = json.loads(shelf.tags["docker.io/library/tool:2"])
    assert manifest["layers"] == [{"mediaType": oci.LAYER, "digest": oci.digest(LAYER), "size": len(LAYER)}]
    assert manifest["config"]["digest"] == oci.digest(CONFIG)


def test_dockers_compressed_layers_are_named_so(tmp_path: Path) -> None:
    shelf = load(tar_of(tmp_path / "a.tar", {**docker_files(["tool:2"]), "l/layer.tar": gzip.compress(LAYER)}))
    assert json.loads(shelf.tags["docker.io/library/tool:2"])["layers"][0]["mediaType"] == oci.LAYER_GZIP


def test_an_oci_layouts_manifest_keeps_its_digest(tmp_path: Path) -> None:
    files = oci_files()
    shelf = load(tar_of(tmp_path / "a.tar", files))
    assert set(shelf.tags) == {"quay.io/site/tool:v1"}
    assert f"blobs/{oci.digest(shelf.tags['quay.io/site/tool:v1']).replace(':', '/')}" in files


def test_containerds_full_name_wins_over_a_bare_tag(tmp_path: Path) -> None:
    names = {"org.opencontainers.image.ref.name": "v1", "io.containerd.image.name": "ghcr.io/site/tool:v1"}
    assert set(load(tar_of(tmp_path / "a.tar", oci_files(annotations=names))).tags) == {"ghcr.io/site/tool:v1"}


def test_a_complete_index_goes_with_all_its_images(tmp_path: Path) -> None:
    shelf = load(tar_of(tmp_path / "a.tar", oci_files(("amd64", "arm64"))))
    assert json.loads(shelf.tags["quay.io/site/tool:v1"])["mediaType"] == oci.INDEX
    assert len(shelf.tags) == 3


def test_of_an_index_with_gaps_this_machines_image_is_taken(tmp_path: Path) -> None:
    files = oci_files(("amd64", "arm64"))
    manifest = json.loads(load(tar_of(tmp_path / "a.tar", without_manifest_of("arm64", files))).tags["quay.io/site/tool:v1"])
    assert manifest["config"]["digest"] == oci.digest(CONFIG)


def damaged_layer(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data.replace(b"layerlayer", b"LAYERlayer", 1) if data == LAYER else data for name, data in files.items()}


def without_manifest_of(architecture: str, files: dict[str, bytes]) -> dict[str, bytes]:
    config = oci.digest(CONFIG.replace(b"amd64", architecture.encode()))
    return {name: data for name, data in files.items() if not (b'"config":' in data and config.encode() in data)}


BAD: dict[str, tuple[Callable[[], dict[str, bytes]], str]] = {
    "no image archive": (lambda: {"readme": b""}, "no image archive"),
    "docker: no name": (lambda: docker_files(None), "no image in it has a name"),
    "docker: bad name": (lambda: docker_files(["Tool:1"]), "Tool"),
    "docker: registry with a port": (lambda: docker_files(["localhost:5000/tool:1"]), "port"),
    "docker: layer missing": (lambda: {k: v for k, v in docker_files(["a:1"]).items() if k != "l/layer.tar"}, "l/layer.tar is missing"),
    "docker: layer damaged": (lambda: damaged_layer(docker_files(["a:1"])), "damaged"),
    "docker: no JSON": (lambda: {"manifest.json": b"[{"}, "no JSON"),
    "docker: another shape": (lambda: {"manifest.json": b'[{"Layers": []}]'}, "Config"),
    "docker: a list of words": (lambda: {"manifest.json": b'["x"]'}, "not as the format"),
    "docker: config is no JSON": (lambda: {**docker_files(["a:1"]), "config.json": b"{"}, "config.json"),
    "docker: a layer too few": (lambda: {**docker_files(["a:1"]), "manifest.json": b'[{"Config":"config.json","RepoTags":["a:1"],"Layers":[]}]'}, "layers"),
    "oci: no name": (lambda: oci_files(annotations={}), "no image in it has a name"),
    "oci: layer damaged": (lambda: damaged_layer(oci_files()), "damaged"),
    "oci: other architecture only": (lambda: without_manifest_of("s390x", oci_files(("arm64", "s390x"))), "no image for amd64"),
}


@pytest.mark.parametrize(("files", "message"), BAD.values(), ids=list(BAD))
def test_a_bad_archive_is_refused_by_name_with_the_reason(tmp_path: Path, files: Callable[[], dict[str, bytes]], message: str) -> None:
    path = tar_of(tmp_path / "bad.tar", files())
    with pytest.raises(archives.ArchiveError) as error:
        load(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "take the file away" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100], ids=["empty", "text"])
def test_what_is_no_tar_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(archives.ArchiveError, match=r"x\.tar: it cannot be read as a tar|x\.tar: it is no image archive"):
        archives.read_archive(path, "amd64")


def test_an_archive_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "cut.tar", docker_files(["a:1"]))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(archives.ArchiveError, match=r"cut\.tar"):
        archives.read_archive(path, "amd64")


@pytest.fixture
def depot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Cache, Shelf]:
    shelf = Shelf()
    monkeypatch.setattr(images, "connect", lambda _cache: shelf)
    cache = Cache(tmp_path / "cache")
    cache.images.mkdir(parents=True)
    return cache, shelf


def test_an_archive_that_has_not_changed_is_not_opened(depot: tuple[Cache, Shelf], monkeypatch: pytest.MonkeyPatch) -> None:
    cache, shelf = depot
    tar_of(cache.images / "a.tar", docker_files(["tool:2"]))
    archives.load(cache)
    monkeypatch.setattr(archives, "read_archive", lambda *_arguments: pytest.fail("opened"))
    archives.load(cache)
    assert set(shelf.tags) == {"docker.io/library/tool:2"}


def test_an_image_that_the_registry_lost_is_sent_again(depot: tuple[Cache, Shelf]) -> None:
    cache, shelf = depot
    tar_of(cache.images / "a.tar", docker_files(["tool:2"]))
    archives.load(cache)
    shelf.tags.clear()
    archives.load(cache)
    assert set(shelf.tags) == {"docker.io/library/tool:2"}


def test_an_archive_taken_away_takes_its_images_with_it_but_not_another_archives(depot: tuple[Cache, Shelf]) -> None:
    cache, shelf = depot
    tar_of(cache.images / "a.tar", docker_files(["tool:2"]))
    tar_of(cache.images / "b.tar", docker_files(["tool:2", "other:1"]))
    tar_of(cache.images / "c.tar", oci_files())
    archives.load(cache)
    for name in ("b.tar", "c.tar"):
        (cache.images / name).unlink()
    archives.load(cache)
    assert set(shelf.tags) == {"docker.io/library/tool:2"}
    (cache.images / "a.tar").unlink()
    archives.load(cache)
    assert not shelf.tags
