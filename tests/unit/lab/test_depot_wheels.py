# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of wheels in images: fetched by pip with their hashes, unpacked, and part of what an image is made from."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.depot import golang, images, oci, wheels
from lab.depot.base import Cache, DepotError, file_digest

LIBRARY = b"\x7fELF library"
Declare = Callable[..., None]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Makes wheel some-library the one that can be had, and wheels.txt name it; pip is the real one and knows no other place."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setattr(wheels, "REQUIREMENTS", tmp_path / "wheels.txt")

    def declare_(version: str = "1.0", digest: str = "") -> None:
        wheel = index / f"some_library-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("some_library/lib/lib.so", LIBRARY + version.encode())
            archive.writestr("some_library.libs/deep/libgomp.so.1", b"gomp")
            archive.writestr(f"some_library-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: some-library\nVersion: {version}\n")
            archive.writestr(f"some_library-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheels.REQUIREMENTS.write_text(f"some-library=={version} --hash=sha256:{digest or file_digest(wheel)}\n")

    return declare_


def test_a_wheel_is_unpacked_and_its_own_digest_kept(cache: Cache, declare: Declare) -> None:
    declare()
    wheels.build(cache)
    assert wheels.contents(cache, "some-library/some_library/lib/lib.so")[""].read_bytes() == LIBRARY + b"1.0"
    assert f"sha256:{wheels.digest(cache, 'some-library')}" in wheels.REQUIREMENTS.read_text()


def test_an_unchanged_list_asks_nobody_and_a_changed_one_leaves_nothing_of_the_old(cache: Cache, declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    declare()
    wheels.build(cache)
    before = wheels.digest(cache, "some-library")
    with monkeypatch.context() as patch:
        patch.setattr(golang, "pip", lambda *_arguments: pytest.fail("asked"))
        wheels.build(cache)
    declare("2.0")
    wheels.build(cache)
    assert wheels.digest(cache, "some-library") != before
    assert wheels.contents(cache, "some-library/some_library-2.0.dist-info")
    with pytest.raises(DepotError, match=r"wheel some-library has no 'some_library-1\.0\.dist-info'"):
        wheels.contents(cache, "some-library/some_library-1.0.dist-info")


def test_a_wheel_of_another_hash_is_refused_and_the_old_one_stays(cache: Cache, declare: Declare) -> None:
    declare()
    wheels.build(cache)
    declare("2.0", digest="0" * 64)
    with pytest.raises(DepotError, match=r"(?i)hash"):
        wheels.build(cache)
    assert wheels.contents(cache, "some-library/some_library/lib/lib.so")[""].read_bytes() == LIBRARY + b"1.0"


def test_a_wheel_that_nobody_fetched_is_named_with_what_to_do(cache: Cache) -> None:
    for ask in (lambda: wheels.digest(cache, "some-library"), lambda: wheels.contents(cache, "some-library/some_library/lib/lib.so")):
        with pytest.raises(DepotError, match=r"wheel some-library is not in .*build the depot"):
            ask()


def spec(**files: str) -> images.Spec:
    return images.Spec(name="some", reference="lab.test/some:1", files={f"/{path}": source for path, source in files.items()})


def pusher(cache: Cache) -> images.Pusher:
    return images.Pusher(cache, golang.read_table(), registry=None)  # type: ignore[arg-type]


def test_an_image_gets_a_file_or_all_of_a_folder_of_a_wheel(cache: Cache, declare: Declare) -> None:
    declare()
    wheels.build(cache)
    entries = pusher(cache)._entries(spec(opt="wheel:some-library/some_library.libs", so="wheel:some-library/some_library/lib/lib.so"))
    target = io.BytesIO()
    oci.write_layer(entries, target)
    target.seek(0)
    with tarfile.open(fileobj=target) as layer:
        assert [(member.name, member.mode) for member in layer if member.isfile()] == [("opt/deep/libgomp.so.1", 0o644), ("so", 0o644)]


def test_an_image_of_another_wheel_is_another_image(cache: Cache, declare: Declare) -> None:
    wanted = spec(so="wheel:some-library/some_library/lib/lib.so")
    declare()
    wheels.build(cache)
    before = pusher(cache)._inputs(wanted)
    assert pusher(cache)._inputs(wanted) == before
    declare("2.0")
    wheels.build(cache)
    assert pusher(cache)._inputs(wanted) != before


def test_an_unknown_kind_of_source_is_refused_with_those_that_there_are(cache: Cache) -> None:
    with pytest.raises(DepotError, match=r"'egg:x' is neither program:, text:, wheel: nor link:"):
        pusher(cache)._entries(spec(x="egg:x"))


def test_the_list_pins_each_wheel_by_hash_for_both_architectures() -> None:
    text = wheels.REQUIREMENTS.read_text()
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) == 2 * len(re.findall(r"^[a-z0-9-]+==\S+", text, re.MULTILINE)) > 0
