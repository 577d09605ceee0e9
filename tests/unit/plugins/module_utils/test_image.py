# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found in an image, on made-up roots: each finding, and a root that has none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _image
from ansible_collections.fpga.hybrid.plugins.module_utils._image import Package, Wanted

STATUS = """Package: kubelet
Status: hold ok installed
Version: 1.36.3-1.1

Package: openvpn
Status: install ok installed
Version: 2.6.14-0

Package: gone
Status: deinstall ok config-files
Version: 1
"""
CONTAINERD = """version = 3
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
options = {SystemdCgroup = true}
"""
WANTED = Wanted(
    packages=(Package("kubelet", "1.36.3-*", hold=True), Package("openvpn")),
    programs=("openvpn", "/opt/fpga-hybrid/bin/fpga-hybrid-bootstrap"),
    units=("fpga-hybrid-bootstrap.service", "containerd.service"),
    files=("/etc/sysctl.d/99-zz-fpga-hybrid.conf",),
    modules=("overlay", "tun"),
    registries=("registry.k8s.io",),
)


class Root:
    """An image in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, path, content="", mode=0o644):
        full = self.folder / path.lstrip("/")
        full.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            full.write_bytes(content)
        else:
            full.write_text(content)
        full.chmod(mode)

    def link(self, path, target):
        full = self.folder / path.lstrip("/")
        full.parent.mkdir(parents=True, exist_ok=True)
        full.symlink_to(target)

    def remove(self, path):
        (self.folder / path.lstrip("/")).unlink()

    def lacking(self, wanted=WANTED):
        return [str(problem) for problem in _image.lacking(wanted, str(self.folder))]

    def held(self):
        return [str(problem) for problem in _image.held(str(self.folder))]


@pytest.fixture
def root(tmp_path):
    """An image that is as it should be."""
    made = Root(tmp_path / "image")
    made.write("/var/lib/dpkg/status", STATUS)
    made.write("/usr/sbin/openvpn", "#!/bin/sh\n", 0o755)
    made.write("/opt/fpga-hybrid/bin/fpga-hybrid-bootstrap", "#!/bin/sh\n", 0o755)
    for unit, folder in (("fpga-hybrid-bootstrap.service", "/etc/systemd/system"), ("containerd.service", "/usr/lib/systemd/system")):
        made.write(f"{folder}/{unit}", "[Unit]\n")
        made.link(f"/etc/systemd/system/multi-user.target.wants/{unit}", f"{folder}/{unit}")
    made.write("/etc/sysctl.d/99-zz-fpga-hybrid.conf", "net.ipv4.ip_forward = 1\n")
    made.write("/etc/modules-load.d/fpga-hybrid.conf", "# ours\noverlay\ntun\n")
    made.write("/etc/containerd/config.toml", CONTAINERD)
    made.write("/etc/containerd/certs.d/registry.k8s.io/hosts.toml", 'server = "https://depot"\n[header]\nAuthorization = "Basic bGFiOngK"\n', 0o600)
    made.write("/etc/apt/auth.conf.d/fpga-hybrid-host.conf", "machine https://depot/debian login lab password secret\n", 0o600)
    made.write("/etc/fstab", "/dev/root / ext4 defaults 0 1\n")
    made.write("/etc/machine-id")
    made.write("/etc/hosts", "127.0.0.1 localhost\n")
    made.write("/etc/fpga-hybrid/record.json", "{}\n")
    made.write("/var/log/wtmp")
    made.write("/var/lib/apt/lists/lock")
    made.link("/var/lib/dbus/machine-id", "/etc/machine-id")
    made.link("/root/.bash_history", "/dev/null")
    made.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
    return made


def test_an_image_that_is_as_it_should_be_is_taken(root):
    assert root.lacking() == []
    assert root.held() == []


DOCKER = Wanted(runtime="docker")
LACKING = {
    "a package is not installed": (
        lambda r: r.write("/var/lib/dpkg/status", STATUS.replace("Package: kubelet", "Package: other")),
        "package kubelet: not installed; expected 1.36.3-*",
    ),
    "a package was removed and left its settings": (
        lambda r: r.write("/var/lib/dpkg/status", STATUS.replace("install ok installed", "deinstall ok config-files")),
        "package openvpn: not installed; expected it installed",
    ),
    "a package has another version": (
        lambda r: r.write("/var/lib/dpkg/status", STATUS.replace("1.36.3", "1.35.9")),
        "package kubelet: found version 1.35.9-1.1; expected 1.36.3-*",
    ),
    "a package is not held": (lambda r: r.write("/var/lib/dpkg/status", STATUS.replace("hold ok", "install ok")), "package kubelet: not held"),
    "a program is missing": (lambda r: r.remove("/usr/sbin/openvpn"), "program openvpn: not there, or not executable"),
    "a program is not executable": (
        lambda r: r.write("/opt/fpga-hybrid/bin/fpga-hybrid-bootstrap", "", 0o644),
        "program /opt/fpga-hybrid/bin/fpga-hybrid-bootstrap: not there, or not executable",
    ),
    "there is no unit": (lambda r: r.remove("/usr/lib/systemd/system/containerd.service"), "unit containerd.service: there is none"),
    "a unit is not enabled": (
        lambda r: r.remove("/etc/systemd/system/multi-user.target.wants/fpga-hybrid-bootstrap.service"),
        "unit fpga-hybrid-bootstrap.service: not enabled",
    ),
    "a unit is masked": (lambda r: r.link("/etc/systemd/system/containerd.service", "/dev/null"), "unit containerd.service: masked"),
    "a file is missing": (lambda r: r.remove("/etc/sysctl.d/99-zz-fpga-hybrid.conf"), "/etc/sysctl.d/99-zz-fpga-hybrid.conf: no such file"),
    "a kernel module is not loaded": (
        lambda r: r.write("/etc/modules-load.d/fpga-hybrid.conf", "overlay\n#tun\n"),
        "/etc/modules-load.d/fpga-hybrid.conf: kernel modules tun are not loaded at boot",
    ),
    "containerd has no settings": (lambda r: r.remove("/etc/containerd/config.toml"), "/etc/containerd/config.toml: no such file"),
    "containerd's settings are broken": (lambda r: r.write("/etc/containerd/config.toml", "version = \n"), "/etc/containerd/config.toml: cannot be read"),
    "containerd's CRI is off, as in Docker's package": (
        lambda r: r.write("/etc/containerd/config.toml", 'disabled_plugins = ["cri"]\n' + CONTAINERD),
        "/etc/containerd/config.toml: disabled_plugins names cri",
    ),
    "containerd's driver is another": (
        lambda r: r.write("/etc/containerd/config.toml", CONTAINERD.replace("true", "false")),
        "/etc/containerd/config.toml: the default runtime has no SystemdCgroup = true",
    ),
    "a mirror is not known": (
        lambda r: r.remove("/etc/containerd/certs.d/registry.k8s.io/hosts.toml"),
        "/etc/containerd/certs.d: no hosts.toml for registry.k8s.io",
    ),
    "swap is turned on": (lambda r: r.write("/etc/fstab", "/dev/vdb none swap sw 0 0\n"), "/etc/fstab: turns swap on (/dev/vdb)"),
}


@pytest.mark.parametrize("name", LACKING)
def test_what_an_image_lacks_is_told_with_what_to_do(root, name):
    harm, expected = LACKING[name]
    harm(root)
    found = root.lacking()
    assert len(found) == 1
    assert found[0].startswith(expected)
    assert "Run playbook image on it again" in found[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "exec-opts is []; expected native.cgroupdriver=systemd in it"),
        ('{"exec-opts": ["native.cgroupdriver=cgroupfs"]}', "exec-opts is"),
        ("[]", "cannot be read"),
        ('{"exec-opts": ["native.cgroupdriver=systemd"]}', ""),
    ],
)
def test_dockers_settings_are_looked_at_where_docker_is_the_runtime(root, text, told):
    root.write("/etc/docker/daemon.json", text)
    found = root.lacking(DOCKER)
    assert [told in line for line in found] == ([True] if told else [])


KERNELS = {
    "a kernel with its modules": (["/boot/vmlinuz-6.1.0-1-cloud-amd64", "/lib/modules/6.1.0-1-cloud-amd64/modules.dep"], "", None),
    "an older one beside it": (["/boot/vmlinuz-5", "/boot/vmlinuz-6", "/lib/modules/6/modules.dep"], "", None),
    "a kernel on a partition of its own": (["/lib/modules/6/modules.dep"], "LABEL=BOOT\t/boot\text4\tdefaults\t0 2\n", None),
    "none": ([], "", "found /boot/vmlinuz-* of no version and /lib/modules of no version; expected a version that has both"),
    "only modules": (["/lib/modules/6/modules.dep"], "", "found /boot/vmlinuz-* of no version and /lib/modules of 6"),
    "only modules, and a partition of firmware": (["/lib/modules/6/modules.dep"], "LABEL=UEFI /boot/efi vfat umask=0077 0 1\n", "found /boot/vmlinuz-* of no"),
    "only modules, and a comment": (["/lib/modules/6/modules.dep"], "# LABEL=BOOT /boot ext4 defaults 0 2\n", "found /boot/vmlinuz-* of no version"),
    "another one's modules": (["/boot/vmlinuz-5", "/lib/modules/6/modules.dep"], "", "found /boot/vmlinuz-* of 5 and /lib/modules of 6"),
    "a partition and no modules": (
        [],
        "LABEL=BOOT /boot ext4 defaults 0 2\n",
        "found /boot/vmlinuz-* on a partition of its own and /lib/modules of no version",
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_an_image_that_boots_by_itself_has_a_kernel_with_its_modules(root, name):
    files, fstab, told = KERNELS[name]
    for path in files:
        root.write(path, "x")
    root.write("/etc/fstab", f"LABEL=root / ext4 defaults 0 1\n{fstab}")
    found = root.lacking(replace(WANTED, bootable=True))
    assert [told in line and "image_bootable: false, for containers" in line for line in found] == ([True] if told else [])
    assert root.lacking() == []


def test_everything_is_told_at_once(tmp_path):
    empty = Root(tmp_path)
    assert len(empty.lacking()) == 2 + 2 + 2 + 1 + 1 + 1 + 1


HELD = {
    "/etc/ssh/ssh_host_ed25519_key": "ssh host keys",
    "/etc/machine-id": "a machine id",
    "/var/lib/dbus/machine-id": "a machine id",
    "/var/lib/systemd/random-seed": "systemd's random seed",
    "/var/log/cloud-init.log": "logs",
    "/var/log/apt/history.log": "logs",
    "/var/log/journal/0123/system.journal": "logs",
    "/var/log/wtmp": "records of logins",
    "/var/lib/apt/lists/depot_InRelease": "package lists",
    "/var/cache/apt/archives/kubelet.deb": "cached packages",
    "/root/.bash_history": "shell histories",
    "/home/admin/.python_history": "shell histories",
    "/root/.ssh/authorized_keys": "ssh keys of whoever built it",
    "/home/admin/.ssh/authorized_keys": "ssh keys of whoever built it",
    "/root/.aws/credentials": "credentials or settings of whoever built it",
    "/root/.docker/config.json": "credentials or settings of whoever built it",
    "/var/lib/cloud/instances/i-1/obj.pkl": "cloud-init's memory of a boot",
    "/var/lib/cloud/data/instance-id": "cloud-init's memory of a boot",
    "/etc/fpga-hybrid/node.json": "state of a node",
    "/etc/fpga-hybrid/vpn/ca.crt": "state of a node",
    "/var/lib/fpga-hybrid/bootstrap.json": "state of our programs",
    "/etc/openvpn/client/fpga-hybrid.conf": "VPN profiles or keys",
    "/etc/openvpn/worker.ovpn": "VPN profiles or keys",
    "/var/lib/kubelet/config.yaml": "the kubelet's state",
    "/etc/kubernetes/kubelet.conf": "the kubelet's state",
    "/etc/kubernetes/pki/ca.crt": "a cluster's keys or settings",
    "/etc/cni/net.d/10-calico.conflist": "a cluster's keys or settings",
    "/var/lib/etcd/member/snap/db": "etcd's data",
    "/etc/resolv.conf": "the builder's resolver",
    "/etc/hostname": "a name of the builder's",
    "/var/lib/dhcp/dhclient.eth0.leases": "leases of addresses",
    "/tmp/x": "what lies in folders for a while",
    "/var/tmp/.hidden/x": "what lies in folders for a while",
    "/usr/sbin/policy-rc.d": "a refusal to start services",
}


@pytest.mark.parametrize("path", HELD)
def test_what_an_image_must_not_hold_is_told_with_its_reason(root, path):
    if (root.folder / path.lstrip("/")).is_symlink():
        root.remove(path)
    root.write(path, "something\n")
    (found,) = root.held()
    assert f"found {HELD[path]}" in found
    assert "Run playbook image on it again" in found


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/etc/machine-id", "uninitialized\n"),
        ("/etc/hostname", "localhost\n"),
        ("/etc/fpga-hybrid/chrony.env", "DAEMON_OPTS=-x\n"),
        ("/var/log/empty.log", ""),
        ("/var/lib/cloud/seed/nocloud/user-data", "#cloud-config\n"),
        ("/etc/openvpn/update-resolv-conf", "#!/bin/sh\n"),
    ],
)
def test_what_only_looks_like_it_is_fine(root, path, content):
    root.write(path, content)
    assert root.held() == []


def test_an_image_without_a_machine_id_file_would_set_its_units_back(root):
    root.remove("/etc/machine-id")
    assert root.held()[0].startswith("/etc/machine-id: no such file; expected an empty file")


def test_our_block_of_names_is_told_when_a_killed_building_left_it(root):
    root.write("/etc/hosts", "# BEGIN fpga.hybrid\n10.0.0.1 depot\n# END fpga.hybrid\n")
    assert root.held()[0].startswith("/etc/hosts: found our block of names")


@pytest.mark.parametrize("path", ["/etc/hosts", "/etc/resolv.conf"])
def test_what_a_killed_building_had_set_aside_is_told(root, path):
    root.write(f"{path}.fpga-hybrid-aside")
    (found,) = root.held()
    assert found.startswith(f"{path}.fpga-hybrid-aside: found the image's own, set aside while it is made; expected it in its place.")


TOKEN = "k3j2l1.0a1b2c3d4e5f6g7h"
SECRET_FILES = {
    "a join token": ("/etc/kubeadm.yaml", f"token: {TOKEN}\n"),
    "a private key": ("/opt/tool/key.pem", "-----BEGIN EC PRIVATE KEY-----\nMHc\n"),
    "an OpenVPN static key": ("/srv/ta.key", "-----BEGIN OpenVPN Static key V1-----\n00\n"),
    "an AWS access key": ("/usr/local/etc/env", "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\n"),
    "an AWS secret key": ("/opt/tool/settings.ini", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n"),
}


@pytest.mark.parametrize("what", SECRET_FILES)
def test_a_secret_is_found_wherever_settings_lie_and_never_shown(root, what):
    path, text = SECRET_FILES[what]
    root.write(path, text)
    (found,) = root.held()
    assert f"found {what} ({path})" in found
    assert text.strip() not in found
    assert "whoever may read the image may read it" in found


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("an AWS secret key", "export AWS_SECRET_ACCESS_KEY='wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'\n"),
        ("an AWS secret key", '{"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "Token": ""}'),
        ("an AWS secret key", "secret_access_key: rookAndCephOrMinio00\n"),
        ("a private key", "-----BEGIN RSA PRIVATE KEY-----   of the site\r\nMHc\r\n"),
        ("a private key", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"),
        ("a private key", '{"private_key": "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw"}'),
        ("a private key", 'KEY="-----BEGIN PRIVATE KEY----- MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw"'),
    ],
)
@pytest.mark.parametrize("padding", [0, 3 << 20], ids=["short", "behind 3 MiB of other text"])
def test_a_secret_is_found_however_it_is_written_and_however_long_the_file(root, what, text, padding):
    root.write("/etc/tool", "other text\n" * (padding // 11) + text)
    (found,) = root.held()
    assert found.startswith(f"/etc/tool: found {what} (/etc/tool)")


@pytest.mark.parametrize("path", ["/root/.aws", "/home/admin/.ssh", "/root/.docker", "/root/.config/containers/auth.json", "/root/.netrc"])
def test_a_link_at_home_to_where_credentials_may_lie_is_told_and_left(root, path):
    root.link(path, "/mnt/site/credentials")
    (found,) = root.held()
    assert found.startswith(f"{path}: found a link to /mnt/site/credentials, where keys or credentials")
    assert "Take out the link and what it leads to." in found
    assert _image.unwanted(str(root.folder)) == []
    root.remove(path)
    root.link(path, "/dev/null")
    assert root.held() == []


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/usr/share/doc/key.pem", "-----BEGIN PRIVATE KEY-----\n"),
        ("/etc/names", "import random.choicesofwords1.more\nabcdef.0123456789abcdef\nclient.authentication\n"),
        ("/opt/program", b"\0" + TOKEN.encode()),
        ("/opt/tool/session.py", "client(aws_secret_access_key=aws_secret_access_key)\nsecret_access_key = credentials.secretaccesskeyofmine\n"),
        ("/opt/tool/other.py", "secret_access_key=takeFromEnvironment(x)\naws_secret_access_key=\nAWS_SECRET_ACCESS_KEY: ${SECRET}\n"),
        ("/opt/tool/pem.py", 'if text.startswith("-----BEGIN PRIVATE KEY-----"):\n    pass\n'),
        ("/opt/tool/README", "A key begins with `-----BEGIN PRIVATE KEY-----`.\n"),
        ("/etc/cert.pem", "-----BEGIN CERTIFICATE-----\n-----BEGIN PUBLIC KEY-----\n"),
    ],
)
def test_what_is_no_secret_is_left_alone(root, path, content):
    root.write(path, content)
    assert root.held() == []


@given(st.from_regex(r"[a-z0-9]{6}\.[a-z0-9]{16}", fullmatch=True).filter(lambda t: any(c.isdigit() for c in t[7:]) and any(c.isalpha() for c in t[7:])))
def test_every_token_of_kubeadms_form_with_a_digit_and_a_letter_is_one(token):
    pattern = _image._SECRETS["a join token"]
    assert bool(pattern.search(f'token: "{token}"'.encode())) == (token != "abcdef.0123456789abcdef")


@pytest.mark.parametrize("path", ["/etc/containerd/certs.d/registry.k8s.io/hosts.toml", "/etc/apt/auth.conf.d/fpga-hybrid-host.conf"])
def test_a_mirrors_login_stays_but_only_for_root(root, path):
    (root.folder / path.lstrip("/")).chmod(0o644)
    (found,) = root.held()
    assert found.startswith(f"{path}: found a login that others than root may read (mode 0644); expected 0600")


def test_many_files_of_a_kind_are_one_finding(root):
    for number in range(9):
        root.write(f"/var/log/{number}.log", "x")
    (found,) = root.held()
    assert "/var/log/3.log and 5 more" in found


MOUNTS = r"""22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:30 / /srv/image rw - ext4 /dev/loop0p1 rw
31 30 254:0 /tmp /srv/image/tmp rw - ext4 /dev/vda rw
32 30 254:0 /home /srv/image/a\040folder rw - ext4 /dev/vda rw
33 22 0:31 / /srv/image2 rw - tmpfs tmpfs rw
34 31 0:32 / /srv/image/tmp/deep rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("/srv/image", ["/srv/image/a folder", "/srv/image/tmp", "/srv/image/tmp/deep"]),
        ("/srv/image2", []),
        ("/srv/image/tmp", ["/srv/image/tmp/deep"]),
        ("/", ["/srv/image", "/srv/image/a folder", "/srv/image/tmp", "/srv/image/tmp/deep", "/srv/image2"]),
    ],
)
def test_what_is_mounted_below_a_folder_is_found_and_not_the_folder_itself(tmp_path, folder, found):
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert _image.mounts_below(folder, str(tmp_path / "mountinfo")) == found


def test_a_folder_of_which_a_system_runs_is_known_by_systemd_or_as_the_machines_own_root(tmp_path):
    assert _image.running(str(tmp_path)) == ""
    assert _image.running("/usr/..") in {"the same as /", "/usr/../run/systemd/system is there"}
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert _image.running(str(tmp_path)) == f"{tmp_path}/run/systemd/system is there"
