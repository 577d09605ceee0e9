# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbook image on what it cannot make: told before anything is touched, and without a word to any host of the cluster."""

from __future__ import annotations

import os
import re

import pytest
import yaml

from tests.unit.playbook_site import ROOT, Site

PLAYS = yaml.safe_load((ROOT / "playbooks" / "image.yml").read_text())
#: Mounts in it end with it.
NAMESPACE = ("unshare", "--mount", "--propagation", "private", "sh", "-c")


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def unpacked(folder, *, without=""):
    for path in ("etc/os-release", "usr/bin/python3", "var/lib/dpkg/status"):
        if path != without:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch()
    return str(folder)


def told(run):
    assert run.returncode != 0
    return " ".join(run.stdout.split())


def test_another_target_is_refused_with_what_there_is_instead(site, tmp_path):
    said = told(site.run(PLAYS, image_target="docker", image_root=unpacked(tmp_path / "image")))
    assert "image_target: found docker, expected chroot (a folder on this machine) or ec2 (an AMI, out of an instance that is started for it)." in said


EC2 = {"image_target": "ec2", "cluster_aws_region": "us-east-1", "image_ssh_from": "203.0.113.7/32"}


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        ([], {"image_ssh_from": "0.0.0.0/0"}, ["image_ssh_from: found 0.0.0.0/0, expected the address from which AWS sees this controller"]),
        ([], {"image_ssh_from": ""}, ["image_ssh_from: found nothing, expected the address from which AWS sees this controller"]),  # as AWX sends no answer
        ([], {"image_keep": 0}, ["image_keep: found 0, expected 1 or more"]),
        ([], {"image_connection": "ssm"}, ["image_connection: found ssm, expected ssh, the only connection that this role was tried with"]),
        (["--tags", "check"], {}, ["--tags: found check, expected none, because an AMI is made of all parts"]),
    ],
)
def test_what_no_ami_can_be_made_with_is_refused_before_aws_is_asked(site, options, variables, message):
    """AWS' address is one where nobody listens."""
    said = told(site.run(PLAYS, *options, **{**EC2, "cluster_aws_endpoint_url": "http://127.0.0.1:1", **variables}))
    assert [text for text in message if text not in said] == []
    assert "Look for the image to begin with" not in said


@pytest.mark.parametrize(
    "root", [{}, {"image_root": ""}, {"image_root": "/"}, {"image_root": "/.."}, {"image_root": "relative/folder"}, {"image_root": "/nowhere/at/all"}]
)
def test_what_is_no_folder_of_an_image_is_refused(site, root):
    said = told(site.run(PLAYS, **root))
    assert f"image_root: found {root.get('image_root') or 'none'}, expected the absolute path of a folder with an unpacked Debian or Ubuntu" in said


@pytest.mark.parametrize("path", ["etc/os-release", "usr/bin/python3", "var/lib/dpkg/status"])
def test_a_folder_that_lacks_what_every_debian_has_is_refused(site, tmp_path, path):
    assert "image_root: found" in told(site.run(PLAYS, image_root=unpacked(tmp_path / "image", without=path)))


def test_a_running_system_is_refused_before_anything_is_touched(site, tmp_path):
    root = unpacked(tmp_path / "image")
    (tmp_path / "image/run/systemd/system").mkdir(parents=True)
    said = told(site.run(PLAYS, image_root=root))
    assert f"image_root: found {root}, which is a running system ({root}/run/systemd/system is there); expected an image of which nothing runs." in said
    assert "image_building" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("options", [[], ["--check"], ["--tags", "check"]])
def test_what_is_mounted_below_the_folder_is_refused_by_name(site, tmp_path, options):
    root = unpacked(tmp_path / "image")
    (tmp_path / "image/var/cache").mkdir()
    (tmp_path / "link").symlink_to(root)
    said = told(
        site.run(PLAYS, *options, inside=(*NAMESPACE, f'mount -t tmpfs tmpfs "{root}/var/cache" && exec "$@"', "sh"), image_root=str(tmp_path / "link"))
    )
    assert f"image_root: found {root}/var/cache mounted below {root}; expected nothing" in said
    assert f"Run: umount {root}/var/cache." in said


def test_a_host_that_is_no_image_is_refused_whatever_tags_are_asked_for(site):
    plays = [{"hosts": "worker1", "gather_facts": False, "roles": ["fpga.hybrid.image"]}]
    for options in ([], ["--tags", "check"], ["--check"]):
        said = told(site.run(plays, *options))
        assert "worker1 is reached by local, and so is no folder that role image's begin.yml has added as a host" in said


@pytest.mark.parametrize(
    ("options", "checked"),
    [([], True), (["--check"], False), (["--tags", "check"], True), (["--check", "--tags", "check"], True), (["--tags", "other"], False)],
)
def test_the_check_is_left_out_of_a_prediction_only_where_nobody_asks_for_it(site, options, checked):
    """The very task, with another thing to do."""
    (task,) = [task for task in yaml.safe_load((ROOT / "roles" / "image" / "tasks" / "main.yml").read_text()) if task["name"] == "Check it"]
    del task["ansible.builtin.include_tasks"]
    task["ansible.builtin.debug"] = {"msg": "the check ran"}
    run = site.run([{"hosts": "worker1", "gather_facts": False, "tasks": [task]}], *options)
    assert run.returncode == 0, run.stdout
    assert ("the check ran" in run.stdout) == checked


PARTS = yaml.safe_load((ROOT / "roles" / "image" / "tasks" / "parts.yml").read_text())


def included(part, runtime="containerd"):
    include = part["ansible.builtin.include_role"]
    role = include["name"].removeprefix("fpga.hybrid.").replace("{{ cluster_container_runtime }}", runtime)
    return role, ROOT / "roles" / role / "tasks" / f"{include['tasks_from']}.yml"


def test_the_parts_are_those_that_the_readme_names_in_their_order():
    readme = (ROOT / "roles" / "image" / "README.md").read_text()
    named = re.findall(r"\[(\w+)\]\(\.\./", readme.split("## What comes into it")[1].split("\n## ")[0])
    docker = named.index("docker")
    assert named[docker - 1 : docker + 1] == ["containerd", "docker"]
    assert [included(part)[0] for part in PARTS] == [role for role in named if role != "docker"]
    assert [included(part, "docker")[0] for part in PARTS] == [role for role in named if role != "containerd"]


def tasks_of(path):
    """All tasks of a file and of those that it imports or includes."""
    for task in yaml.safe_load(path.read_text()):
        for kind in ("block", "rescue", "always"):
            yield from task.get(kind, [])
        yield task
        other = next((task[key] for key in task if key.endswith(("import_tasks", "include_tasks"))), None)
        if other:
            yield from tasks_of(path.parent / (other["file"] if isinstance(other, dict) else other))


def options_of(module):
    path = ROOT / "plugins" / "modules" / f"{module.removeprefix('fpga.hybrid.')}.py"
    return yaml.safe_load(re.search(r'DOCUMENTATION = r"""(.*?)"""', path.read_text(), re.DOTALL)[1]).get("options", {})


def test_no_part_touches_what_runs_on_the_machine():
    """Swap, kernel modules and sysctls of a chroot are those of the machine below: what can be applied now is only written."""
    seen = set()
    for part in PARTS:
        for runtime in ("containerd", "docker"):
            for task in tasks_of(included(part, runtime)[1]):
                for key in task:
                    if key.startswith("fpga.hybrid.") and "apply" in options_of(key):
                        assert task[key]["apply"] is False, task["name"]
                        seen.add(key)
    assert {"fpga.hybrid.swap", "fpga.hybrid.host_settings"} <= seen


def test_cloud_init_is_asked_for_by_the_unit_that_every_version_has():
    """24.3 (Debian 13) has no cloud-init.service; what runs at each boot waits for either."""
    wanted = yaml.safe_load((ROOT / "roles" / "image" / "vars" / "main.yml").read_text())["__image_wanted"]["units"]
    assert re.findall(r"cloud-\w+[\w-]*\.service", wanted) == ["cloud-final.service"]
    unit = (ROOT / "roles" / "bootstrap" / "templates" / "bootstrap.service.j2").read_text()
    assert {"cloud-init.service", "cloud-init-network.service"} <= set(re.search("^After=(.*)$", unit, re.MULTILINE)[1].split())
