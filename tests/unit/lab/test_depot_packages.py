# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages in the depot: those it fetches and those it makes."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest

from lab.depot import debian, debs, golang, repository
from lab.depot.base import Cache, DepotError

TABLE = golang.read_table()
SPECS = {spec.name: spec for spec in debs.read_specs()}

SIMULATION = """\
NOTE: This is only a simulation!
Inst gcc-12-base (12.2.0-14+deb12u1 Debian:12.15/oldstable [amd64])
Inst libaudit-common [1:3.0.9-0] (1:3.0.9-1 Debian:12.15/oldstable [all])
Inst openvpn (2.6.3-1+deb12u3 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64]) []
Conf gcc-12-base (12.2.0-14+deb12u1 Debian:12.15/oldstable [amd64])
"""


def test_the_simulation_is_read_line_by_line() -> None:
    assert list(debian.parse_simulation(SIMULATION)) == [
        debian.Package("gcc-12-base", "12.2.0-14+deb12u1", "amd64"),
        debian.Package("libaudit-common", "1:3.0.9-1", "all"),
        debian.Package("openvpn", "2.6.3-1+deb12u3", "amd64"),
    ]


def test_an_epoch_is_in_apts_file_name_but_not_in_the_pool() -> None:
    package = debian.Package("libaudit-common", "1:3.0.9-1", "all")
    assert package.archive_name == "libaudit-common_1%3a3.0.9-1_all.deb"
    assert package.pool_name == "libaudit-common_3.0.9-1_all.deb"


@pytest.mark.parametrize("origin", ["Debian", ""], ids=["updated", "before the first update"])
def test_the_mirror_is_the_machines_own(origin: str) -> None:
    output = (
        f"http://mirror.example/debian/|bookworm|{origin}\n"
        f"http://mirror.example/debian/|bookworm-updates|{origin}\n"
        f"http://mirror.example/security/|bookworm-security|{origin}\n"
        "https://packages.example/|nodistro|Other\n"
    )
    mirror = debian.parse_targets(output)
    assert mirror == debian.Mirror("http://mirror.example/debian/", "http://mirror.example/security/")
    assert [line.split()[2:] for line in mirror.sources("trixie").splitlines()] == [
        ["http://mirror.example/debian/", "trixie", "main"],
        ["http://mirror.example/debian/", "trixie-updates", "main"],
        ["http://mirror.example/security/", "trixie-security", "main"],
    ]


def test_another_vendors_repository_of_the_same_suite_is_not_debian() -> None:
    with pytest.raises(DepotError, match="no Debian archive"):
        debian.parse_targets("https://packages.example/|bookworm|Vendor\nhttps://packages.example/|bookworm-security|Vendor\n")


def test_a_longer_list_is_another_input() -> None:
    short = debian.Wanted({"bookworm": "12"}, {"a": ["curl"], "b": ["jq"]}, {})
    joined = debian.Wanted({"bookworm": "12"}, {"a": ["curl", "jq"], "b": []}, {})
    assert debian.inputs(short, "bookworm") != debian.inputs(joined, "bookworm")


def test_a_suites_own_packages_join_their_group_and_change_no_other_suite() -> None:
    wanted = debian.Wanted({"bookworm": "12", "trixie": "13"}, {"a": ["docker.io"]}, {"trixie": {"a": ["docker-cli"]}})
    assert wanted.of("bookworm") == [["docker.io"]]
    assert wanted.of("trixie") == [["docker.io", "docker-cli"]]


@pytest.mark.parametrize("suite", debian.read_list().suites)
def test_nothing_is_listed_twice(suite: str) -> None:
    packages = list(itertools.chain.from_iterable(debian.read_list().of(suite)))
    assert len(packages) == len(set(packages))


def test_a_suites_own_packages_name_groups_and_suites_that_exist() -> None:
    wanted = debian.read_list()
    assert set(wanted.only) <= set(wanted.suites)
    assert {group for groups in wanted.only.values() for group in groups} <= set(wanted.groups)


def test_a_package_that_is_not_fetched_is_named_with_its_list(tmp_path: Path) -> None:
    with pytest.raises(DepotError, match=r"runc is not among .* bookworm: add it to debian\.toml"):
        debian.archive(Cache(tmp_path), "bookworm", "runc")


def test_control_has_the_fields_that_have_values() -> None:
    spec = debs.Spec("helm", "helm", "{helm}-1", "devel", "The Kubernetes package manager", depends=["libc6", "iptables (>= 1.4.21)"])
    assert debs.control(spec, "3.22.0-1", "amd64", 42) == (
        "Package: helm\n"
        "Version: 3.22.0-1\n"
        "Architecture: amd64\n"
        f"Maintainer: {debs.MAINTAINER}\n"
        "Installed-Size: 42\n"
        "Depends: libc6, iptables (>= 1.4.21)\n"
        "Section: devel\n"
        "Priority: optional\n"
        "Description: The Kubernetes package manager\n"
        " Built from Go modules by the lab of fpga.hybrid; not upstream's package.\n"
    )


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("kubelet", "1.36.3-1.1"),
        ("kubernetes-cni", "1.9.1-1.1"),
        ("helm", "3.22.0-1"),
        ("containerd.io", "2.4.2-1~debian.12~bookworm"),
    ],
)
def test_versions_look_as_upstreams(name: str, version: str) -> None:
    assert debs.version_of(SPECS[name], TABLE, "bookworm", "12") == version


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.name)
def test_every_file_comes_from_somewhere(spec: debs.Spec) -> None:
    for reference in spec.files.values():
        kind, _, rest = reference.partition(":")
        if kind == "program":
            TABLE.program(rest)
        elif kind in ("text", "script"):
            assert (debs.FOLDER / rest).is_file()
        elif kind == "python":
            assert (debs.HERE.parent / rest).is_file()
        else:
            assert kind == "debian"
            assert rest.partition(":")[0] in itertools.chain.from_iterable(debian.read_list().groups.values())
    assert set(spec.conffiles) <= set(spec.files)
    assert all((debs.FOLDER / file).is_file() for file in spec.scripts.values())


@pytest.mark.parametrize("spec", [spec for spec in SPECS.values() if spec.unit], ids=lambda spec: spec.name)
def test_maintainer_scripts_are_shell_and_know_their_unit(spec: debs.Spec) -> None:
    scripts = debs.maintainer_scripts(spec)
    assert set(scripts) == {"postinst", "prerm", "postrm"}
    for script in scripts.values():
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)
        assert spec.unit in script or "daemon-reload" in script


def test_the_kubelet_is_not_started_by_its_package_and_containerd_is() -> None:
    assert "start" not in debs.maintainer_scripts(SPECS["kubelet"])["postinst"]
    assert "deb-systemd-invoke start containerd.service" in debs.maintainer_scripts(SPECS["containerd.io"])["postinst"]


@pytest.fixture
def builder(tmp_path: Path) -> debs.Builder:
    cache = Cache(tmp_path / "cache")
    program = TABLE.program("kubectl")
    program.path(cache).parent.mkdir(parents=True)
    program.path(cache).write_bytes(b"\x7fELF")
    program.stamp(cache).write("inputs", sha256="one")
    return debs.Builder(cache, TABLE, repository.architecture())


def test_the_same_inputs_give_the_same_package_whenever_it_is_made(builder: debs.Builder) -> None:
    path = builder.build(SPECS["kubectl"])
    first = path.read_bytes()
    path.unlink()
    TABLE.program("kubectl").path(builder.cache).touch()
    assert builder.build(SPECS["kubectl"]).read_bytes() == first


def test_only_a_changed_program_is_packed_again(builder: debs.Builder) -> None:
    path = builder.build(SPECS["kubectl"])
    made = path.stat().st_mtime_ns
    assert builder.build(SPECS["kubectl"]).stat().st_mtime_ns == made
    TABLE.program("kubectl").stamp(builder.cache).write("inputs", sha256="another")
    assert builder.build(SPECS["kubectl"]).stat().st_mtime_ns != made


def test_a_package_holds_its_files_as_root_owns_them(builder: debs.Builder) -> None:
    path = builder.build(SPECS["kubectl"])
    listing = subprocess.run(["dpkg-deb", "--contents", path], capture_output=True, text=True, check=True).stdout.splitlines()
    entry = next(line.split() for line in listing if line.endswith("./usr/bin/kubectl"))
    assert entry[:3] == ["-rwxr-xr-x", "root/root", "4"]


@pytest.mark.parametrize("name", ["xrt", "dkms", "aws-fpga", "openvpn-as"])
def test_a_stand_in_says_so_and_its_programs_can_be_run(builder: debs.Builder, tmp_path: Path, name: str) -> None:
    path = builder.build(SPECS[name])
    described = subprocess.run(["dpkg-deb", "--field", path, "Description"], capture_output=True, text=True, check=True).stdout
    assert "stand-in of the lab" in described
    assert "A stand-in of the lab of fpga.hybrid" in described
    subprocess.run(["dpkg-deb", "--raw-extract", path, tmp_path / "tree"], check=True)
    programs = [tmp_path / "tree" / file.lstrip("/") for file, reference in SPECS[name].files.items() if not reference.startswith("text:")]
    for program in [*programs, *(tmp_path / "tree" / "DEBIAN").glob("p*")]:
        assert program.stat().st_mode & 0o111, program
        checker = {"python3": ["python3", "-m", "py_compile"], "sh": ["sh", "-n"], "env bash": ["bash", "-n"]}
        first = program.read_text().splitlines()[0].rpartition("/")[2]
        subprocess.run([*checker[first], program], check=True)


class Host:
    """Where the stand-in of xrt is configured: a root with its files, dkms' books, and what shall go wrong."""

    def __init__(self, builder: debs.Builder, root: Path) -> None:
        self.root = root
        root.mkdir()
        for name in ("xrt", "dkms"):
            subprocess.run(["dpkg-deb", "--raw-extract", builder.build(SPECS[name]), root / name], check=True)
        self.bin = root / "bin"
        self.bin.mkdir()
        for path in (root / "dkms/usr/sbin/dkms", *(root / "dkms/usr/local/sbin").iterdir(), root / "dkms/usr/lib/dkms/common.postinst"):
            (self.bin / path.name).symlink_to(path)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.bin}:/usr/bin:/bin", "LAB_DKMS_TREE": str(self.root / "tree"), "LAB_FPGA_ROOT": str(self.root)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    def configure(self) -> subprocess.CompletedProcess[str]:
        script = self.root / "xrt/DEBIAN/postinst"
        text = script.read_text().replace("/usr/lib/dkms/common.postinst", str(self.bin / "common.postinst"))
        script.write_text(text.replace("/usr/local/sbin/lab-fpga", "/none"))
        return self.run(script, "configure", "")

    def fault(self, text: str) -> None:
        (self.root / "faults").mkdir(exist_ok=True)
        (self.root / "faults/dkms").write_text(text)


@pytest.fixture
def host(builder: debs.Builder, tmp_path: Path) -> Host:
    return Host(builder, tmp_path / "host")


def test_xrt_is_installed_with_its_driver(host: Host) -> None:
    assert host.configure().returncode == 0
    assert host.run("dkms", "status", "-m", "xrt", "-v", "2.16.204").stdout.strip().endswith(": installed")
    assert "version:        2.16.204," in host.run("modinfo", "xocl").stdout


@pytest.mark.parametrize(("fault", "says"), [("build", "Consult"), ("headers", "kernel headers for kernel")])
def test_xrt_without_a_driver_is_installed_all_the_same_as_amds_is(host: Host, fault: str, says: str) -> None:
    host.fault(fault)
    done = host.configure()
    assert done.returncode == 0
    assert "DKMS failed to install XRT drivers." in done.stdout
    assert says in done.stderr
    assert host.run("dkms", "status", "-m", "xrt", "-v", "2.16.204").stdout == "xrt/2.16.204: added\n"
    assert host.run("modinfo", "xocl").returncode == 1


def test_setup_sh_fails_without_bash_as_amds_does(host: Host) -> None:
    setup = host.root / "xrt/opt/xilinx/xrt/setup.sh"
    assert host.run("bash", "-c", f". {setup} && echo $XILINX_XRT").stdout.splitlines()[-1] == str(setup.parent)
    assert host.run("dash", "-c", f". {setup}").returncode != 0


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> repository.Signer:
    # gpg-agent's socket must have a short path
    signer = repository.Signer(tmp_path_factory.mktemp("g"))
    signer.ensure()
    return signer


def test_a_repository_is_signed_and_forgets_what_is_no_longer_in_it(builder: debs.Builder, signer: repository.Signer, tmp_path: Path) -> None:
    package = builder.build(SPECS["kubectl"])
    root = tmp_path / "www"
    old = package.with_name("old_1_all.deb")
    old.write_bytes(package.read_bytes())
    repository.publish_suite(root, "any", "main", {package.name: package, old.name: old}, signer, pool="pool/any")
    repository.publish_suite(root, "any", "main", {package.name: package}, signer, pool="pool/any")
    assert [path.name for path in (root / "pool/any").iterdir()] == [package.name]
    index = (root / f"dists/any/main/binary-{repository.architecture()}/Packages").read_text()
    assert f"Filename: pool/any/{package.name}\n" in index
    release = (root / "dists/any/InRelease").read_text()
    assert f"main/binary-{repository.architecture()}/Packages\n" in release
    assert "InRelease" not in release
    verified = subprocess.run(
        ["gpg", "--homedir", signer.home, "--batch", "--verify", root / "dists/any/InRelease"], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stderr
    (root / "dists/any/InRelease").write_text(release.replace("Suite: any", "Suite: all"))
    changed = subprocess.run(
        ["gpg", "--homedir", signer.home, "--batch", "--verify", root / "dists/any/InRelease"], capture_output=True, text=True, check=False
    )
    assert changed.returncode != 0


def test_each_question_to_gpg_is_answered_by_an_agent_that_has_not_been_told_to_end(signer: repository.Signer, tmp_path: Path) -> None:
    """One that has been answers nobody: "can't connect to the agent: End of file", now and then."""
    (tmp_path / "Release").write_text("Origin: x\n")
    socket = Path(
        subprocess.run(["gpgconf", "--homedir", signer.home, "--list-dirs", "agent-socket"], capture_output=True, text=True, check=True).stdout.strip()
    )
    for _round in range(3):
        signer.sign(tmp_path / "Release")
        assert not socket.exists()


def test_a_flat_repository_has_its_key_beside_it(builder: debs.Builder, signer: repository.Signer, tmp_path: Path) -> None:
    package = builder.build(SPECS["kubectl"])
    repository.publish_flat(tmp_path / "deb", {package.name: package}, signer, label="isv:kubernetes:core")
    assert f"Filename: {repository.architecture()}/{package.name}\n" in (tmp_path / "deb/Packages").read_text()
    assert (tmp_path / "deb/Release.key").read_text().startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")


def test_a_driver_can_be_loaded_when_it_has_been_built_and_not_before(host: Host) -> None:
    refused = host.run("modprobe", "xocl")
    assert refused.returncode == 1
    assert "Module xocl not found" in refused.stderr
    host.configure()
    assert host.run("modprobe", "xocl").returncode == 0
