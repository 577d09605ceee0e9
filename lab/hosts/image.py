"""The hosts' image: what a bare Debian installation has, and no more. What a role needs, it must install."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab import podman
from lab.files import put_in_place
from lab.run import run, say
from lab.settings import IMAGE, LABEL, RELEASES, LabError, cache

ROOTFS = Path(__file__).parent / "rootfs"

PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "openssh-server", "iproute2", "procps")

#: Units that have no sense in a container, or that reach for the network by themselves.
MASKED = (
    "systemd-udevd.service",
    "systemd-udevd-kernel.socket",
    "systemd-udevd-control.socket",
    "systemd-udev-trigger.service",
    "systemd-modules-load.service",
    "systemd-journald-audit.socket",
    "systemd-logind.service",
    "systemd-networkd-wait-online.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "getty.target",
    "console-getty.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "dpkg-db-backup.timer",
)

SETUP = f"""
set -e
systemctl enable lab-prep.service lab-ssh-keys.service ssh.service
systemctl mask {" ".join(MASKED)}
systemctl set-default multi-user.target
rm -f /etc/ssh/ssh_host_* /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/99mmdebstrap /etc/dpkg/dpkg.cfg.d/99mmdebstrap
rm -f /etc/hostname /etc/resolv.conf
: > /etc/machine-id
"""

UNWANTED_PATHS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")


def overlay_tar() -> bytes:
    """The files of rootfs/ as root's, the same bytes for the same files whoever owns the checkout."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(ROOTFS.rglob("*")):
            info = tarfile.TarInfo(str(path.relative_to(ROOTFS)))
            if path.is_dir():
                continue
            content = path.read_bytes()
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True)
class Root:
    """A root file system that mmdebstrap makes. name: of its archive; folder: below the cache."""

    name: str
    folder: str
    debian: int
    packages: tuple[str, ...]

    def definition(self) -> str:
        """A short hash over everything that makes it, so that it is made anew when that changes and only then."""
        parts = [RELEASES[self.debian], *self.packages, SETUP, *UNWANTED_PATHS]
        return hashlib.sha256("\0".join(parts).encode() + overlay_tar()).hexdigest()[:12]

    def archive(self) -> Path:
        return cache() / self.folder / f"{self.name}-{self.debian}-{self.definition()}.tar"

    def ensure(self) -> Path:
        """Make the archive unless it is there; return its path."""
        tar = self.archive()
        if not tar.exists():
            say(f"building the Debian {self.debian} {self.name} root (a minute or two)")
            self._build(tar)
        return tar

    def _build(self, tar: Path) -> None:
        tar.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=tar.parent) as work:
            overlay = Path(work) / "overlay.tar"
            overlay.write_bytes(overlay_tar())
            unfinished = Path(work) / "root.tar"
            setup = Path(work) / "setup"
            setup.write_text(SETUP)
            run(
                "env", f"TMPDIR={work}", "SOURCE_DATE_EPOCH=1704067200",
                "mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(self.packages)}",
                *(f"--aptopt={option}" for option in machine_apt_options()),
                "--dpkgopt=force-unsafe-io", *(f"--dpkgopt=path-exclude={path}" for path in UNWANTED_PATHS),
                f"--customize-hook=tar-in {overlay} /",
                f'--customize-hook=chroot "$1" sh < {setup}',
                RELEASES[self.debian], unfinished, mirror(),
                timeout=1800,
            )  # fmt: skip
            put_in_place(unfinished, tar)
        for old in tar.parent.glob(f"{self.name}-{self.debian}-*.tar"):
            if old != tar:
                old.unlink()


def root(debian: int) -> Root:
    return Root("debian", "hosts", debian, PACKAGES)


def reference(debian: int) -> str:
    return f"{IMAGE}:{debian}-{root(debian).definition()}"


def ensure(debian: int) -> str:
    """Make the image unless it is there; return its reference."""
    wanted = reference(debian)
    if not podman.image_exists(wanted):
        tar = root(debian).ensure()
        say(f"importing the Debian {debian} host image")
        import_archive(tar, wanted)
    return wanted


def import_archive(tar: Path, wanted: str) -> None:
    run("podman", "import", "--quiet", "--change", f"LABEL={LABEL}=1", "--change", "STOPSIGNAL=SIGRTMIN+3", "--change", 'CMD ["/sbin/init"]', tar, wanted)


def mirror() -> str:
    """The Debian mirror that this machine's own apt uses for its release."""
    codename = next((line.split("=", 1)[1].strip('"') for line in Path("/etc/os-release").read_text().splitlines() if line.startswith("VERSION_CODENAME=")), "")
    targets = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    for line in targets.splitlines():
        uri, release, component = line.split()
        if release == codename and component == "main":
            return uri
    raise LabError(
        f"apt knows no source for {codename or 'this Debian release'} main, from which the lab builds its hosts: add one below /etc/apt/sources.list.d"
    )


def machine_apt_options() -> list[str]:
    """How this machine's apt reaches its mirror: proxies, certificates, clock tolerance."""
    wanted = re.compile(r"^(Acquire::(https?(::.*)?::(Proxy|CaInfo|CaPath|Proxy-Auto-Detect)\S*|Check-Valid-Until|Check-Date)) (\".*\");$", re.IGNORECASE)
    return [f"{found[1]} {found[5]}" for line in run("apt-config", "dump").splitlines() if (found := wanted.match(line)) and found[5] != '""']


def remove_unfinished(folder: str = "hosts") -> None:
    """What a killed build leaves: mounts inside its root, then the root. Only call this while holding the lock of who builds in the folder."""
    for work in (cache() / folder).glob("build-*"):
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)


def unmount_below(folder: Path) -> None:
    """Unmount what is mounted below the folder, never the folder itself: what it covers may be somebody else's."""
    points = [line.split()[1].replace("\\040", " ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in reversed([p for p in points if folder in Path(p).parents]):
        run("umount", "--lazy", point)
