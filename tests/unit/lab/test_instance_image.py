# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By what the image of the cloud's instances is known: it is made anew when what makes it changes, and only then."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lab import lock
from lab.cloud import image
from lab.lock import held
from lab.run import CommandError, wait_until
from lab.settings import LabError

ROOT = Path(__file__).resolve().parents[3]


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


def test_a_plugin_makes_another_image_if_and_only_if_a_part_uses_it():
    found = {str(path.relative_to(image.CHECKOUT / "plugins")) for path in image.plugins(image.roles_files())}
    used = {"modules/image_clean.py", "modules/apt_packages.py", "module_utils/_image.py", "module_utils/_problems.py", "action/cluster_gate.py"}
    assert used <= found
    assert not {"modules/evaluation_step.py", "module_utils/_evaluation.py", "modules/ssm_prefix.py", "modules/verify_cluster.py"} & found
    # What the instance's program is made of.
    utilities = yaml.safe_load((image.CHECKOUT / "roles" / "bootstrap" / "vars" / "main.yml").read_text())["__bootstrap_utilities"]
    assert {f"module_utils/{name}.py" for name in utilities} <= found


def test_whatever_a_part_names_of_the_collection_is_known():
    """Else it would be missing without a word: a plugin of another kind, or one in a folder."""
    known = {*image.ROLES, *(path.stem for path in image.plugins(image.roles_files()))}
    named = set()
    for path in (*image.roles_files(), image.PLAYBOOK):
        if path.parent.name in {"tasks", "vars", "defaults", "handlers", "playbooks"}:
            named |= set(re.findall(r"\bfpga\.hybrid\.([a-z]\w+)", path.read_text()))
    # Other roles are named by messages and by tasks for other hosts.
    assert [name for name in sorted(named - known) if not (image.CHECKOUT / "roles" / name).is_dir()] == []


def test_imports_are_followed_in_all_their_forms(tmp_path, monkeypatch):
    monkeypatch.setattr(image, "CHECKOUT", tmp_path)
    (tmp_path / "module.py").write_text(
        "import os\nfrom ansible_collections.fpga.hybrid.plugins.module_utils import _a, _b\n"
        "from ansible_collections.fpga.hybrid.plugins.module_utils._c import name\n"
        "def f():\n    from ansible_collections.fpga.hybrid.plugins.plugin_utils._d import (\n        name,\n    )\n"
    )
    found = {str(path.relative_to(tmp_path / "plugins")) for path in image.imported(tmp_path / "module.py")}
    assert {"module_utils/_a.py", "module_utils/_b.py", "module_utils/_c.py", "plugin_utils/_d.py"} <= found


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


# ---- other images, and what a build leaves running


@pytest.mark.parametrize("side_car_runs", [False, True])
def test_older_images_go_unless_a_side_car_may_need_them(monkeypatch, tmp_path, side_car_runs):
    removed = []
    monkeypatch.setattr(lock, "LOCKS", tmp_path)
    monkeypatch.setattr(image, "run", lambda *_words: "instance:old\ninstance:new\n")
    monkeypatch.setattr(image, "succeeds", lambda *words: removed.append(words[-1]))
    with held("cloud") if side_car_runs else contextlib.nullcontext():
        image._remove_others("instance:new")
    assert removed == ([] if side_car_runs else ["instance:old"])


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="images are root's to make")


@pytest.fixture
def ansible(monkeypatch, tmp_path) -> Path:
    """In the place of ansible-playbook, a program that starts another one and waits for it; the other's number is in the file that is returned."""
    program, number = tmp_path / ".venv" / "bin" / "ansible-playbook", tmp_path / "number"
    program.parent.mkdir(parents=True)
    # Seen from outside of its namespace, it is the one that has the file open.
    program.write_text(f"#!/bin/sh\necho begins\nsleep 600 9>{number} &\nwait\n")
    program.chmod(0o755)
    monkeypatch.setattr(image, "CHECKOUT", tmp_path)
    return number


def holders(file: Path) -> list[str]:
    """Processes that have the file open."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/9"):
        with contextlib.suppress(OSError):
            if link.readlink() == file:
                found.append(link.parts[2])
    return found


@as_root
def test_a_build_that_takes_too_long_is_said_and_leaves_no_process(ansible, monkeypatch):
    monkeypatch.setattr(image, "BUILD_SECONDS", 0.5)
    with pytest.raises(CommandError, match=r"(?s)begins.*no end after 0\.5 s"):
        image.provision(Path("/nowhere"))
    wait_until(lambda: not holders(ansible), seconds=20, what="all its processes end", every=0.01)


@as_root
def test_a_build_ends_with_who_has_begun_it(ansible):
    program = f"from pathlib import Path; from lab.cloud import image; image.CHECKOUT = Path({str(ansible.parent)!r}); image.provision(Path('/nowhere'))"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as builder:
        wait_until(lambda: bool(holders(ansible)), seconds=20, what="it has begun", every=0.01)
        builder.kill()
    wait_until(lambda: not holders(ansible), seconds=20, what="all its processes end", every=0.01)
