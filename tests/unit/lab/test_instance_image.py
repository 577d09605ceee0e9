# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By what the image of the cloud's instances is known: it is made anew when what makes it changes, and only then."""

from __future__ import annotations

import re

import pytest
import yaml

from lab.cloud import image
from lab.settings import LabError


@pytest.fixture
def depot(tmp_path, monkeypatch):
    """A depot's lists in a cache of its own."""
    monkeypatch.setenv("FPGA_HYBRID_LAB_CACHE", str(tmp_path))
    folder = tmp_path / "depot"
    files = {
        "www/debian/dists/bookworm/main/binary-amd64/Packages": "Package: chrony\n",
        "www/debian/dists/bookworm/InRelease": "signed yesterday\n",
        "tls/ca.crt": "ca\n",
        "key.asc": "key\n",
        "password": "p\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_reference_stays_as_long_as_nothing_changes(depot):
    first = image.reference()
    (depot / "www/debian/dists/bookworm/InRelease").write_text("signed today\n")
    assert image.reference() == first
    assert re.fullmatch(r"localhost/fpga-hybrid-lab/instance:[0-9a-f]{12}", first)


@pytest.mark.parametrize("path", ["www/debian/dists/bookworm/main/binary-amd64/Packages", "password", "tls/ca.crt"])
def test_another_package_or_another_login_makes_another_image(depot, path):
    first = image.reference()
    (depot / path).write_text("another\n")
    assert image.reference() != first


def test_a_changed_role_makes_another_image(depot, tmp_path, monkeypatch):
    checkout = tmp_path / "checkout"
    (checkout / "roles" / "host" / "tasks").mkdir(parents=True)
    (checkout / "inventories").mkdir()
    (checkout / "image.yml").write_text("---\n")
    monkeypatch.setattr(image, "CHECKOUT", checkout)
    monkeypatch.setattr(image, "PLAYBOOK", checkout / "image.yml")
    monkeypatch.setattr(image, "INVENTORY", checkout / "inventories")
    first = image.reference()
    (checkout / "roles" / "host" / "README.md").write_text("words\n")
    assert image.reference() == first
    (checkout / "roles" / "host" / "tasks" / "main.yml").write_text("---\n")
    assert image.reference() != first


def test_without_a_depot_it_is_said_what_makes_one(tmp_path, monkeypatch):
    monkeypatch.setenv("FPGA_HYBRID_LAB_CACHE", str(tmp_path))
    with pytest.raises(LabError, match=r"ca\.crt.*`lab/lab up` builds and starts it"):
        image.reference()


def test_every_role_that_brings_a_part_is_known():
    parts = yaml.safe_load((image.CHECKOUT / "roles" / "image" / "tasks" / "parts.yml").read_text())
    names = {part["ansible.builtin.include_role"]["name"].removeprefix("fpga.hybrid.") for part in parts} - {"{{ cluster_container_runtime }}"}
    assert names <= set(image.ROLES)


def test_the_root_has_what_an_ami_has_and_nothing_that_a_role_should_install():
    assert "cloud-init" in image.PACKAGES
    assert not {"kmod", "openvpn", "containerd", "runc", "conntrack", "chrony"} & set(image.PACKAGES)
