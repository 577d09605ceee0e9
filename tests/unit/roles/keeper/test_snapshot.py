# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper's snapshots, and the ways in which none is made."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from fpga_hybrid_keeper import snapshot
from fpga_hybrid_keeper.snapshot import UNFINISHED, SnapshotError, Snapshots
from tests.unit.roles.keeper.etcd import Etcd
from tests.unit.roles.keeper.site import ROOT

NOW, DAY = 1_800_000_000.0, 86400.0
ABOUT = {"cluster_name": "lab"}


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as found:
        yield found


@pytest.fixture
def snapshots(tmp_path, etcd):
    (tmp_path / "pki" / "ca.key").write_text("secret")
    (tmp_path / "record.json").write_text("{}")
    saved = {"kubernetes/pki": str(etcd.pki), "keeper/record.json": str(tmp_path / "record.json"), "fpga-hybrid/vpn": str(tmp_path / "none")}
    return Snapshots(str(tmp_path / "snapshots"), "lab", saved, kept=7)


def client(etcd: Etcd, **changes: float) -> snapshot.Etcd:
    found = snapshot.Etcd.of_kubeadm(etcd.url, str(etcd.pki))
    return snapshot.Etcd(found._url, found._ca, found._certificate, found._key, **changes)


def left(snapshots: Snapshots) -> list[str]:
    folder = snapshots._folder
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_a_snapshot_has_what_etcd_had_and_the_files_each_by_its_name(snapshots, etcd):
    made = snapshots.take(client(etcd), ABOUT, NOW)
    with tarfile.open(made.path) as archive:
        members = {member.name: member for member in archive.getmembers()}
        contents = {name: archive.extractfile(member).read() for name, member in members.items()}
    assert contents.pop("etcd.db") == etcd.snapshot
    assert json.loads(contents.pop("about.json")) == {"cluster_name": "lab", "made": "2027-01-15T080000Z"}
    assert contents.pop("keeper/record.json") == b"{}"
    assert contents == {f"kubernetes/pki/{path.relative_to(etcd.pki)}": path.read_bytes() for path in etcd.pki.rglob("*") if path.is_file()}
    assert members["etcd.db"].mode == 0o600


def test_its_checksum_is_one_that_sha256sum_takes(snapshots, etcd):
    made = snapshots.take(client(etcd), ABOUT, NOW)
    assert made.path.name == "lab-2027-01-15T080000Z.tar.gz"
    done = subprocess.run(["sha256sum", "--check", f"{made.path.name}.sha256"], cwd=made.folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{made.path.name}: OK\n")


def test_nobody_but_root_reads_it(snapshots, etcd):
    before = os.umask(0)
    try:
        made = snapshots.take(client(etcd), ABOUT, NOW)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (made.path, Path(f"{made.path}.sha256"), made.folder, made.folder.parent)}
    assert set(modes.values()) == {0o600, 0o700}
    assert modes[made.path.name] == 0o600


@pytest.mark.parametrize("size", [1, snapshot.DIGEST, 32 * 1024 - 1, 32 * 1024, 3 * 32 * 1024, 3 * 32 * 1024 + 5])
def test_a_database_of_any_size_comes_whole(snapshots, etcd, size):
    etcd.database = os.urandom(size)
    made = snapshots.take(client(etcd), ABOUT, NOW)
    with tarfile.open(made.path) as archive:
        assert archive.extractfile("etcd.db").read() == etcd.snapshot


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("corrupt", "did not come whole: its checksum is not that of what came"),
        ("short", "did not come whole: it ends too early"),
        ("breaks", "broke off"),
        ("error", "gives no snapshot: etcdserver: mvcc: database is locked"),
        ("stall", "broke off"),
        ("refuses", "HTTP status 503.*no leader"),
        ("gateway", "HTTP status 404"),
        ("empty", "sent nothing"),
    ],
)
def test_one_that_does_not_come_whole_is_none_and_leaves_nothing(snapshots, etcd, fault, sentence):
    before = snapshots.take(client(etcd), ABOUT, NOW - DAY)
    etcd.fault = fault
    with pytest.raises(SnapshotError, match=sentence):
        snapshots.take(client(etcd, silence=0.2 if fault == "stall" else 10.0), ABOUT, NOW)
    assert left(snapshots) == [before.folder.name]


def test_etcd_that_is_down_is_said_with_its_address(snapshots, etcd):
    url = etcd.url
    etcd._server.server_close()
    with pytest.raises(SnapshotError, match=f"etcd at {url} gives no answer"):
        snapshots.take(client(etcd), ABOUT, NOW)
    assert left(snapshots) == []


def test_somebody_else_on_etcds_port_is_not_believed(snapshots, etcd, tmp_path):
    with Etcd(tmp_path / "other") as other, pytest.raises(SnapshotError, match="certificate verify failed"):
        snapshots.take(snapshot.Etcd.of_kubeadm(other.url, str(etcd.pki)), ABOUT, NOW)
    assert other.asked == 0


def test_certificates_that_are_not_there_are_named(snapshots, etcd):
    (etcd.pki / "apiserver-etcd-client.key").unlink()
    with pytest.raises(SnapshotError, match=r"certificates cannot be used.*apiserver-etcd-client\.crt"):
        snapshots.take(client(etcd), ABOUT, NOW)


def test_seven_are_kept_and_the_oldest_go(snapshots, etcd):
    for day in range(9):
        snapshots.take(client(etcd), ABOUT, NOW + day * DAY)
    assert [one.moment for one in snapshots.all()] == [NOW + day * DAY for day in range(2, 9)]
    assert len(left(snapshots)) == 7


@pytest.mark.parametrize("kept", [1, 0, -1])
def test_the_newest_one_stays_however_few_are_wanted(tmp_path, etcd, kept):
    few = Snapshots(str(tmp_path / "few"), "lab", {}, kept)
    for day in range(3):
        made = few.take(client(etcd), ABOUT, NOW + day * DAY)
        assert few.all() == [made]


def test_a_full_disk_is_seen_before_anything_is_written(snapshots, etcd, monkeypatch):
    before = snapshots.take(client(etcd), ABOUT, NOW - DAY)
    real = os.statvfs(snapshots._folder)
    monkeypatch.setattr(snapshot, "RESERVE", real.f_bavail * real.f_frsize)
    with pytest.raises(SnapshotError, match=r"snapshots has \d+ MiB left, expected \d+\. Make room"):
        snapshots.take(client(etcd), ABOUT, NOW)
    assert left(snapshots) == [before.folder.name]


@contextmanager
def files_of_at_most(size: int):
    """A write beyond it fails as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_meanwhile_keeps_the_older_ones_and_no_half(snapshots, etcd):
    for day in range(7):
        snapshots.take(client(etcd), ABOUT, NOW + day * DAY)
    before = left(snapshots)
    etcd.database = os.urandom(500_000)
    with files_of_at_most(100_000), pytest.raises(OSError, match="File too large"):
        snapshots.take(client(etcd), ABOUT, NOW + 7 * DAY)
    assert left(snapshots) == before
    snapshots.take(client(etcd), ABOUT, NOW + 7 * DAY)
    assert len(left(snapshots)) == 7


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
from fpga_hybrid_keeper import snapshot
def kill(folder): os.kill(os.getpid(), signal.SIGKILL)
snapshot.{step} = kill if "{step}" == "_sync" else snapshot.{step}
if "{step}" == "_check_room": snapshot._check_room = lambda path, size: kill(path)
snapshot.Snapshots({folder!r}, "lab", {{}}, 7).take(snapshot.Etcd.of_kubeadm({url!r}, {pki!r}), {{}}, {now!r})
"""


@pytest.mark.parametrize("step", ["_check_room", "_sync"])
def test_a_kill_in_the_middle_leaves_no_snapshot_and_the_next_one_clears_up(snapshots, etcd, step):
    paths = [str(ROOT / part) for part in ("roles/keeper/files", "roles/bootstrap/files", "collections")]
    text = KILLED.format(paths=paths, step=step, folder=str(snapshots._folder), url=etcd.url, pki=str(etcd.pki), now=NOW)
    done = subprocess.run([sys.executable, "-IS", "-c", text], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [name.startswith(UNFINISHED) for name in left(snapshots)] == [True]
    assert snapshots.all() == []
    made = snapshots.take(client(etcd), ABOUT, NOW)
    assert left(snapshots) == [made.folder.name]


def test_a_snapshot_made_while_the_clock_was_ahead_is_not_todays_and_goes_first(snapshots, etcd):
    ahead = snapshots.take(client(etcd), ABOUT, NOW + 3650 * DAY)
    assert snapshots.newest(NOW) is None
    for day in range(7):
        made = snapshots.take(client(etcd), ABOUT, NOW + day * DAY)
        assert snapshots.newest(NOW + day * DAY) == made
    assert ahead.folder.name not in left(snapshots)
    assert len(left(snapshots)) == 7


def test_a_second_one_in_the_same_second_is_refused_and_harms_nothing(snapshots, etcd):
    made = snapshots.take(client(etcd), ABOUT, NOW)
    content = made.path.read_bytes()
    with pytest.raises(OSError, match=r"not empty|exists"):
        snapshots.take(client(etcd), ABOUT, NOW)
    assert left(snapshots) == [made.folder.name]
    assert made.path.read_bytes() == content


def test_what_is_no_snapshot_stays_where_it_is(snapshots, etcd):
    made = snapshots.take(client(etcd), ABOUT, NOW)
    (snapshots._folder / "mine").mkdir()
    (snapshots._folder / "2020-01-01T000000Z").mkdir()  # of somebody who has taken the archive away
    assert snapshots.all() == [made]
    snapshots.take(client(etcd), ABOUT, NOW + DAY)
    assert {"mine", "2020-01-01T000000Z"} <= set(left(snapshots))


def test_a_cluster_of_any_name_has_a_file_name(tmp_path, etcd):
    made = Snapshots(str(tmp_path / "s"), "../a b", {}, 7).take(client(etcd), ABOUT, NOW)
    assert made.path.parent.parent == tmp_path / "s"
    assert hashlib.sha256(made.path.read_bytes()).hexdigest() == Path(f"{made.path}.sha256").read_text().split()[0]
    assert made.path.name == "..-a-b-2027-01-15T080000Z.tar.gz"
