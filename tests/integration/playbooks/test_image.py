# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/image.yml -e image_target=ec2: an AMI or nothing. The parts themselves are tested by the chroot target; here one file stands for them.

What stands in for the instance is a folder with this machine's programs, entered by a program in ssh's place: cleaned and checked by the real modules.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from moto.ec2.models import ec2_backends

from tests.integration.playbooks.controller import ACCOUNT, ROOT, Site

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="the stand-in of an instance mounts, which wants root")]

OF, UNTIL = "fpga.hybrid/image-of", "fpga.hybrid/image-until"
CHECKED = {"packages": [], "programs": ["python3"], "runs": [], "units": [], "files": ["/etc/part"], "modules": [], "registries": []}
CONTAINERD = """\
version = 3
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = true
"""
#: In place of ssh: enters the folder, whose /usr is this machine's, for reading. It says which instance it is, as cloud-init would.
SSH = """\
#!/bin/sh
[ $# -gt 3 ] && [ ! -e {root}/etc/lost ] || exit 255
for last; do :; done
exec unshare --mount --propagation private sh -c '
    for name in bin lib lib64; do [ ! -e /usr/$name ] || mount --bind -o ro /usr/$name "$1/usr/$name"; done
    exec {chroot} "$1" /bin/sh -c "$2"' sh {root} "$last"
"""


class Builder:
    """A controller whose collection has one file for the image's parts, and a folder in the place of an instance."""

    def __init__(self, site: Site) -> None:
        self.site, self.ec2 = site, site.cloud.client("ec2")
        self.root, self.record = site.folder / "instance", site.folder / "images.yml"
        self.keys = site.folder / "keys"
        self.keys.mkdir()
        self.role = self._collection()
        self.part("ansible.builtin.command", "touch /etc/part")
        for folder in ("etc/ssh", "etc/containerd", "home", "root", "opt", "proc", "sys", "run", "dev", "tmp", "var/log", "var/lib/cloud/data", "usr/sbin"):
            (self.root / folder).mkdir(parents=True)
        for name in ("bin", "lib", "lib64"):
            (self.root / "usr" / name).mkdir()
            (self.root / name).symlink_to(f"usr/{name}")
        for name in ("cloud-init", "systemctl", "journalctl"):
            self._program(self.root / "usr/local/bin" / name, f'#!/bin/sh\necho "{name} $*" >> /opt/said\n')
        (self.root / "etc/ssh/ssh_host_rsa_key").write_text("everybody's")
        (self.root / "etc/machine-id").touch()
        (self.root / "etc/containerd/config.toml").write_text(CONTAINERD)
        (self.root / "var/log/syslog").write_text("booted")
        self._program(site.folder / "ssh", SSH.format(chroot=ROOT / "roles/image/files/chroot", root=self.root))

    def _program(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def _collection(self) -> Path:
        """This collection by links, but for role image, which is a copy."""
        here = self.site.folder / "collections/ansible_collections/fpga/hybrid"
        (here / "roles").mkdir(parents=True)
        for path in (ROOT / "galaxy.yml", ROOT / "meta", ROOT / "plugins", ROOT / "playbooks"):
            (here / path.name).symlink_to(path)
        for path in (ROOT / "roles").iterdir():
            if path.name != "image":
                (here / "roles" / path.name).symlink_to(path)
        shutil.copytree(ROOT / "roles/image", here / "roles/image")
        return here / "roles/image"

    def part(self, module: str, arguments: str) -> None:
        """The only part; before it, what cloud-init has done at the boot."""
        noted = "cp /dev/stdin /var/lib/cloud/data/instance-id"
        tasks = [
            {"name": "Boot", "ansible.builtin.command": {"cmd": noted, "stdin": "{{ __image_instance_id }}"}},
            {"name": "Bring the part", module: arguments},
        ]
        (self.role / "tasks/parts.yml").write_text(yaml.safe_dump(tasks))

    def build(self, monkeypatch: pytest.MonkeyPatch, *options: str, credentials: dict[str, str] | None = None, **variables: Any) -> tuple[int, str]:
        """Return code and output, on one line, of a run."""
        monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", f"{self.site.folder / 'collections'}")
        monkeypatch.setenv("TMPDIR", str(self.keys))
        given = {
            "image_target": "ec2",
            "image_base": self.site.image,
            "image_ssh_from": "203.0.113.7/32",
            "image_record": str(self.record),
            "image_keep": 2,
            "__image_wanted": CHECKED,
            "image_bootable": False,
            "ansible_become": False,
            "ansible_ssh_executable": str(self.site.folder / "ssh"),
        }
        done = self.site.play("image", *options, credentials=credentials, **{**given, **variables})
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    # --- what is there

    def left(self) -> dict[str, list[str]]:
        """What builds have left."""
        mine = [{"Name": f"tag:{OF}", "Values": ["lab"]}]
        living = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
        return {
            "instances": [one["InstanceId"] for group in self.ec2.describe_instances(Filters=[*mine, *living])["Reservations"] for one in group["Instances"]],
            "groups": [group["GroupName"] for group in self.ec2.describe_security_groups(Filters=mine)["SecurityGroups"]],
            "keys": [pair["KeyName"] for pair in self.ec2.describe_key_pairs(Filters=mine)["KeyPairs"]],
        }

    def images(self) -> list[str]:
        return sorted(image["ImageId"] for image in self.ec2.describe_images(Owners=["self"], Filters=[{"Name": f"tag:{OF}", "Values": ["lab"]}])["Images"])


NOTHING: dict[str, list[str]] = {"instances": [], "groups": [], "keys": []}


@pytest.fixture
def builder(site: Site) -> Builder:
    return Builder(site)


def tags(kind: str, cluster: str = "lab", **more: str) -> list[dict[str, Any]]:
    build = {OF: cluster, "fpga.hybrid/image-build": "20260101T000000Z-000000", **{f"fpga.hybrid/image-{name}": value for name, value in more.items()}}
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in build.items()]}]


def killed_build(builder: Builder, until: str = "2026-01-01T02:00:00Z", cluster: str = "lab") -> None:
    ec2 = builder.ec2
    ec2.import_key_pair(KeyName=f"{cluster}-left", PublicKeyMaterial=PUBLIC_KEY, TagSpecifications=tags("key-pair", cluster, until=until))
    group = ec2.create_security_group(GroupName=f"{cluster}-left", Description="left", TagSpecifications=tags("security-group", cluster, until=until))[
        "GroupId"
    ]
    ec2.run_instances(MinCount=1, MaxCount=1, ImageId=builder.site.image, SecurityGroupIds=[group], TagSpecifications=tags("instance", cluster, until=until))


def older_images(builder: Builder, number: int, cluster: str = "lab") -> list[str]:
    instance = builder.ec2.run_instances(MinCount=1, MaxCount=1, ImageId=builder.site.image)["Instances"][0]["InstanceId"]
    made = []
    for one in range(number):
        specified = [*tags("image", cluster, name="1.36"), *tags("snapshot", cluster)]
        made.append(builder.ec2.create_image(InstanceId=instance, Name=f"{cluster}-{one}", TagSpecifications=specified)["ImageId"])
    builder.ec2.terminate_instances(InstanceIds=[instance])
    for day, image in enumerate(made, 1):
        ec2_backends[ACCOUNT]["us-east-1"].amis[image].creation_date = datetime(2026, 1, day, tzinfo=timezone.utc)
    return made


PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAV6NyTnMT3mrwpqzKaRxjhVOxtSbkCGxsVIrlR6IjZe left"


def test_an_ami_is_made_and_recorded_and_what_is_old_or_left_is_removed_with_no_right_too_many(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the policy that iam.yml writes, after a build that was killed, with an old image that a launch template names."""
    ec2, cloud = builder.ec2, builder.site.cloud
    killed_build(builder)
    killed_build(builder, cluster="other")
    used, _old, kept = older_images(builder, 3)
    (foreign,) = older_images(builder, 1, "other")
    ec2.create_launch_template(LaunchTemplateName="lab-pool", LaunchTemplateData={"ImageId": used})
    ec2.create_launch_template_version(LaunchTemplateName="lab-pool", LaunchTemplateData={"ImageId": builder.site.image})
    snapshots = {one["SnapshotId"] for one in ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": f"tag:{OF}", "Values": ["lab"]}])["Snapshots"]}
    policy = builder.site.policies()["image"]
    cloud.forget_calls()
    code, said = builder.build(monkeypatch, credentials=cloud.user("ann", policy))
    assert code == 0, said

    made = json.loads(builder.record.read_text().splitlines()[1].partition(": ")[2])["1.36"]["us-east-1"]
    assert made in said
    assert builder.images() == sorted({used, kept, made})
    assert ec2.describe_images(ImageIds=[foreign])["Images"]
    left = {one["SnapshotId"] for one in ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": f"tag:{OF}", "Values": ["lab"]}])["Snapshots"]}
    assert len(snapshots - left) == 1
    assert len(left - snapshots) == 1
    assert builder.left() == NOTHING
    assert len(ec2.describe_key_pairs(KeyNames=["other-left"])["KeyPairs"]) == 1
    assert list(builder.keys.iterdir()) == []

    by_ann = [call for call in cloud.calls() if call["identity"].endswith("user/ann")]
    assert [call["error"] for call in by_ann if call["status"] in (401, 403)] == []
    assert {action for call in by_ann for action in call["authorised"]} - {"sts:GetCallerIdentity"} == actions(policy)
    order = [call["action"] for call in by_ann if call["action"] in ("RunInstances", "StopInstances", "CreateImage", "TerminateInstances")]
    assert order == ["TerminateInstances", "RunInstances", "StopInstances", "CreateImage", "TerminateInstances"]
    (started,) = [call["params"] for call in by_ann if call["action"] == "RunInstances"]
    assert (started["MetadataOptions.HttpTokens"], started["InstanceInitiatedShutdownBehavior"]) == ("required", "terminate")
    assert started["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
    (opened,) = [call["params"] for call in by_ann if call["action"] == "AuthorizeSecurityGroupIngress"]
    assert (opened["IpPermissions.1.FromPort"], opened["IpPermissions.1.IpRanges.1.CidrIp"]) == ("22", "203.0.113.7/32")
    assert not [key for key in opened if key.startswith("IpPermissions.2.")]

    assert not (builder.root / "etc/ssh/ssh_host_rsa_key").exists()
    assert not (builder.root / "var/log/syslog").exists()
    assert (builder.root / "opt/said").read_text().splitlines() == [
        "cloud-init status --wait",
        "systemctl stop apt-daily*.timer apt-daily*.service unattended-upgrades*.service",
        "systemctl stop rsyslog*.service syslog*.socket systemd-random-seed*.service",
        "journalctl --relinquish-var",
    ]


def actions(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def test_an_instance_that_is_lost_half_way_is_ended_and_nothing_stays(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost, not only failed: Ansible gives up on a play whose hosts are all gone. A build of somebody else's that goes on is let go on."""
    killed_build(builder, until="2999-01-01T00:00:00Z")
    others = builder.left()
    builder.part("ansible.builtin.command", "touch /etc/lost")
    (builder.role / "tasks/settle.yml").write_text("[]")
    code, said = builder.build(monkeypatch)
    assert code != 0
    assert "The instance did not become an image" in said
    assert "No image was made, and what was started for it is removed." in said
    assert (builder.left(), builder.images(), list(builder.keys.iterdir())) == (others, [], [])
    assert builder.site.cloud.calls("RunInstances")[-1]["status"] == 200
    assert builder.site.cloud.calls("CreateImage") == []
    assert not builder.record.exists()


@pytest.mark.parametrize(
    ("action", "failed"),
    [
        ("RunInstances", "Start the instance: "),
        ("CreateImage", "Make the AMI: Error registering/creating image: Failed to create image. What AWS said, module"),
    ],
)
def test_what_aws_refuses_half_way_leaves_nothing(builder: Builder, monkeypatch: pytest.MonkeyPatch, action: str, failed: str) -> None:
    builder.site.cloud.fault("error", action=action, code="InsufficientInstanceCapacity", message="none left today")
    monkeypatch.setenv("ANSIBLE_DISPLAY_TRACEBACK", "error")  # as the second one's message advises
    code, said = builder.build(monkeypatch)
    assert code != 0
    assert failed in said
    assert "none left today" in said
    assert "No image was made, and what was started for it is removed" in said
    assert (builder.left(), builder.images(), list(builder.keys.iterdir())) == (NOTHING, [], [])


def test_check_mode_says_what_would_be_done_and_writes_nothing(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_build(builder)
    older_images(builder, 3)
    builder.site.cloud.forget_calls()
    code, said = builder.build(monkeypatch, "--check", image_keep=1)
    assert code == 0, said
    assert builder.site.cloud.calls(writes=True) == []
    for task in ("End its instance", "Start the instance", "Remove all but the newest"):
        assert re.search(rf"{task}[^\[]*\] \*+ (?:[^*]*)changed: \[localhost\]", said), task
