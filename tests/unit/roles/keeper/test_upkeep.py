# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper's daily work: with the real fpga-hybrid-vpn, and doubles of etcd and of the API server."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga_hybrid.kube import UnreachableError
from fpga_hybrid.run import Log
from fpga_hybrid_keeper.authority import Authority, AuthorityError
from fpga_hybrid_keeper.cluster import Kubernetes
from fpga_hybrid_keeper.expiry import DAY
from fpga_hybrid_keeper.settings import Settings, read
from fpga_hybrid_keeper.upkeep import PATIENCE, RETRY, STANDING, Chore, Upkeep, in_thread, is_due
from tests.unit.roles.bootstrap.doubles import Authority as CertificateAuthority
from tests.unit.roles.keeper.etcd import Etcd
from tests.unit.roles.keeper.site import Site

HOUR = 3600.0


class House:
    """A control plane's upkeep. The clock is its own, and begins at the real time, because certificates do."""

    def __init__(self, site: Site, etcd: Etcd) -> None:
        self.site, self.etcd, self.now = site, etcd, float(int(time.time()))
        self.others: list[str] = []
        self.calls: list[str] = []
        self.vpn_fails = self.kubernetes_fails = ""
        self.options: dict[str, Any] = {}
        self.upkeep = self.start()

    def settings(self) -> Settings:
        found = read(str(self.site.config))
        own = {"etcd": self.etcd.url, "kubernetes": str(self.etcd.pki.parent), "saved": {"kubernetes/pki": str(self.etcd.pki)}}
        return replace(found, upkeep=replace(found.upkeep, **{**own, **self.options}))

    def start(self, **options: Any) -> Upkeep:
        self.options.update(options)
        settings = self.settings()
        self.upkeep = Upkeep(settings, Log(), Authority(settings.vpn, self.run), self, self.now, start=self.at_once)
        return self.upkeep

    @staticmethod
    def at_once(work: Any) -> Any:
        work()
        return lambda: False

    def run(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        self.calls.append(argv[-1])
        return (255, "", self.vpn_fails) if self.vpn_fails else self.site.run(argv, **options)

    def warn(self, warning: str, node: str, now: float) -> None:
        if self.kubernetes_fails:
            raise UnreachableError(self.kubernetes_fails)
        Kubernetes(str(self.site.folder / "admin.conf")).warn(warning, node, now)

    def status(self) -> dict[str, Any]:
        own = {"upkeep": self.upkeep.status(), "warnings": [*self.others, *self.upkeep.warnings]}
        return {"healthy": True, "troubles": {}, "instances": {}, **own}

    def after(self, seconds: float = 0.0, passes: int = 3) -> None:
        self.now += seconds
        for _pass in range(passes):
            self.now += 5
            self.upkeep.one_pass(self.now, self.status())

    def metrics(self) -> str:
        return (self.site.state / "metrics.prom").read_text()

    def notes(self) -> list[str]:
        return [one["note"] for one in self.site.api.events.values()]


@pytest.fixture
def house(site, tmp_path):
    with Etcd(tmp_path / "kubernetes") as etcd:
        yield House(site, etcd)


# --- when something is due --------------------------------------------------------------------------------------------------------------


@given(last=st.none() | st.floats(0, 4e9), now=st.floats(0, 4e9), every=st.floats(1, 1e6))
def test_wherever_the_clock_jumps_to_it_is_due_within_its_time(last, now, every):
    assert is_due(last, now, every) or now < last + every
    assert is_due(last, last + every * 1.01 if last is not None else now, every)
    assert is_due(last, now, every) or now >= last


def test_what_fails_is_tried_again_and_said_once(capsys):
    chore = Chore("snapshot", Log())

    def fail() -> None:
        raise OSError("no etcd")

    assert chore.is_due(0)
    chore.do(fail, 0)
    assert not chore.is_due(RETRY - 1)
    assert chore.is_due(RETRY)
    chore.do(fail, RETRY)
    assert chore.trouble == "no etcd."
    chore.do(lambda: "made", 2 * RETRY)
    assert (chore.trouble, chore.is_due(3 * RETRY), chore.is_due(2 * RETRY + DAY)) == ("", False, True)
    assert capsys.readouterr().err.splitlines() == ["snapshot: no etcd. It is tried again, every 10 minutes.", "snapshot: works again, made"]


def test_a_failure_is_a_warning_when_it_lasts():
    chore = Chore("snapshot", Log())

    def fail() -> None:
        raise OSError("no etcd")

    chore.do(fail, 0)
    assert chore.warning(PATIENCE - 1) == ""
    chore.do(fail, PATIENCE)
    assert chore.warning(PATIENCE) == "snapshot fails: no etcd."
    chore.do(lambda: None, PATIENCE + RETRY)
    assert chore.warning(PATIENCE + RETRY) == ""


def test_a_defect_is_told_with_its_place_and_stops_nothing(capsys):
    chore = Chore("snapshot", Log())
    chore.do(lambda: str(1 // 0), 0)
    assert chore.trouble.startswith("ZeroDivisionError: ")
    assert "Traceback" in capsys.readouterr().err
    assert chore.is_due(RETRY)


# --- the revocation list ----------------------------------------------------------------------------------------------------------------


def test_the_revocation_list_is_renewed_at_the_start_and_daily_and_its_end_is_known(house):
    (house.site.vpn / "crl.pem").unlink(missing_ok=True)
    house.after()
    assert (house.site.vpn / "crl.pem").exists()
    assert house.calls == ["renew-crl", "list"]
    ends = house.upkeep.status()["revocation_list"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", ends["next_update"])
    assert ends["trouble"] == ""
    assert re.search(r'^fpga_hybrid_expiry_timestamp_seconds\{name="vpn/crl"\} \d+$', house.metrics(), re.MULTILINE)
    house.after(HOUR)
    assert house.calls == ["renew-crl", "list"]
    house.after(DAY)
    assert house.calls == ["renew-crl", "list"] * 2


def test_a_vpn_server_that_is_down_is_told_and_asked_again(house, capsys):
    house.vpn_fails = "ssh: connect to host 172.27.224.1 port 22: No route to host"
    house.after()
    assert "No route to host" in house.upkeep.status()["revocation_list"]["trouble"]
    assert 'keeper_trouble{what="revocation_list"} 1' in house.metrics()
    house.after(RETRY)
    house.after(PATIENCE)
    assert any(one.startswith("renewal of the VPN's revocation list fails: ") for one in house.upkeep.warnings)
    assert capsys.readouterr().err.count("renewal of the VPN's revocation list: ") == 1
    house.vpn_fails = ""
    house.after(RETRY)
    assert house.upkeep.status()["revocation_list"]["trouble"] == ""
    assert house.upkeep.warnings == []


def test_a_list_that_is_not_renewed_is_warned_of_before_it_ends(house):
    house.after()
    house.vpn_fails = "no route to host"
    house.after(151 * DAY, passes=1)
    assert any(one.startswith("The VPN's revocation list ends on ") for one in house.upkeep.warnings)


def test_the_forced_command_lets_keeper_renew_and_look(house, monkeypatch):
    """As sshd calls it on a VPN server that is another host."""
    authority = Authority(["ssh", "root@172.27.224.1", "fpga-hybrid-vpn"], lambda argv, **options: house.site.run([*forced, "--ssh"], **options))
    forced = house.settings().vpn[:2]
    monkeypatch.setattr("fpga_hybrid_vpn.FOLDER", house.site.vpn)
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", "fpga-hybrid-vpn renew-crl")
    (house.site.vpn / "crl.pem").unlink(missing_ok=True)
    assert authority.renew() == ["revocation list written"]
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", "fpga-hybrid-vpn list")
    assert authority.overview()["crl_next_update"]


def test_an_authority_that_says_nonsense_is_a_failure_with_its_words():
    authority = Authority(["fpga-hybrid-vpn"], lambda *_argv, **_options: (1, "", "Traceback\nModuleNotFoundError: No module named 'cryptography'"))
    with pytest.raises(AuthorityError, match=r"^fpga-hybrid-vpn renew-crl gave no answer \(exit code 1\): ModuleNotFoundError"):
        authority.renew()


# --- snapshots --------------------------------------------------------------------------------------------------------------------------


def snapshots(house: House) -> list[Path]:
    return [one.path for one in house.upkeep.snapshots.all()]


def test_a_snapshot_is_made_at_the_start_and_daily_and_seven_stay(house):
    house.after()
    assert len(snapshots(house)) == 1
    house.after(HOUR)
    assert len(snapshots(house)) == 1
    for _day in range(9):
        house.after(DAY)
    assert len(snapshots(house)) == 7
    found = house.upkeep.status()["snapshot"]
    assert (found["path"], found["trouble"]) == (str(snapshots(house)[-1]), "")
    assert found["last"].replace(":", "") in found["path"]
    assert "snapshot_timestamp_seconds 1" in house.metrics()


def test_the_vpns_authority_comes_back_from_a_snapshot_and_goes_on(house, tmp_path):
    house.site.run([*house.settings().vpn, "issue", "worker1"])
    house.start(saved={"fpga-hybrid/vpn": str(house.site.vpn)})
    house.after()
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "--extract", "--gzip", "--file", snapshots(house)[0], "--directory", tmp_path / "out"], check=True)  # as docs/restore.md has it
    restored = [*house.settings().vpn[:-1], str(tmp_path / "out" / "fpga-hybrid" / "vpn")]
    _code, before, _err = house.site.run([*house.settings().vpn, "list"])
    _code, after, _err = house.site.run([*restored, "list"])
    assert json.loads(after)["clients"] == json.loads(before)["clients"] != []
    code, said, _err = house.site.run([*restored, "revoke", "worker1"])
    assert (code in (0, 7), json.loads(said)["changed"]) == (True, True)


def test_a_restart_makes_no_second_one_of_the_day(house):
    house.after()
    house.start()
    house.after()
    assert len(snapshots(house)) == 1
    assert house.upkeep.status()["snapshot"]["last"]


def test_etcd_that_is_down_is_tried_again_and_a_warning_after_two_hours(house):
    house.etcd.fault = "refuses"
    house.after()
    assert "HTTP status 503" in house.upkeep.status()["snapshot"]["trouble"]
    assert house.upkeep.warnings == []
    house.after(PATIENCE)
    assert [one[:16] for one in house.upkeep.warnings] == ["snapshot fails: "]
    assert [one[:16] for one in house.notes()] == ["snapshot fails: "]
    house.etcd.fault = ""
    house.after(RETRY)
    assert (house.upkeep.warnings, len(snapshots(house))) == ([], 1)


def test_a_clock_that_was_ahead_for_a_while_stops_no_snapshots(house):
    house.now += 3650 * DAY
    house.after()
    house.now -= 3650 * DAY
    house.start()
    for day in range(3):
        house.after(DAY)
        assert len(snapshots(house)) == day + 2
        assert house.upkeep.status()["snapshot"]["path"] == str(snapshots(house)[-2])


def test_a_clock_that_is_set_back_in_a_running_keeper_stops_no_snapshots(house):
    house.after()
    house.now -= 30 * DAY
    house.after()
    house.after(DAY)
    assert len(snapshots(house)) == 3


def shell(text: str) -> tuple[str, ...]:
    return ("sh", "-c", text, "command")


def test_the_command_gets_each_snapshot_once(house, tmp_path):
    house.start(snapshot_command=shell(f'echo "$1" >> {shlex.quote(str(tmp_path / "carried"))}'))
    for _day in range(2):
        house.after(DAY)
    house.start()
    house.after(HOUR)
    assert (tmp_path / "carried").read_text().splitlines() == [str(path) for path in snapshots(house)]


def test_a_command_that_fails_is_a_warning_at_once_and_the_snapshot_stays(house, tmp_path):
    house.start(snapshot_command=shell(f'test -e {tmp_path}/line || {{ echo "no route to the store" >&2; exit 4; }}'))
    house.after(passes=4)
    assert house.upkeep.warnings == ["keeper_snapshot_command fails: sh failed with exit code 4: no route to the store."]
    assert "no route to the store" in house.upkeep.status()["snapshot"]["trouble"]
    assert len(snapshots(house)) == 1
    (tmp_path / "line").touch()
    house.after(RETRY)
    assert (house.upkeep.warnings, house.upkeep.status()["snapshot"]["trouble"]) == ([], "")


def test_a_command_that_is_given_later_gets_the_newest_one(house, tmp_path):
    house.after()
    house.start(snapshot_command=shell(f'cp "$1" {tmp_path}/'))
    house.after()
    with tarfile.open(tmp_path / snapshots(house)[0].name) as archive:
        assert archive.extractfile("etcd.db").read() == house.etcd.snapshot


# --- warnings ---------------------------------------------------------------------------------------------------------------------------


def near_its_end(house: House) -> str:
    """kubeadm's certificate, which the double's authority makes for a day."""
    path = house.etcd.pki / "apiserver.crt"
    path.write_text(CertificateAuthority().issue("kube-apiserver"))
    return str(path)


def warnings_of(house: House, path: str) -> list[str]:
    return [one for one in house.upkeep.warnings if path in one]


def test_a_certificate_near_its_end_is_warned_of_in_status_metrics_event_and_command(house, tmp_path):
    path = near_its_end(house)
    house.start(warning_command=shell(f"cat >> {tmp_path}/told"))
    house.after(passes=4)
    (warning,) = warnings_of(house, path)
    assert re.fullmatch(rf"Certificate {re.escape(path)} ends on 20\S+ \d\d:\d\d UTC\. On the control plane: `kubeadm certs renew all`.*", warning)
    assert re.search(r'^fpga_hybrid_expiry_timestamp_seconds\{name="apiserver"\} 1\d{9}$', house.metrics(), re.MULTILINE)
    assert f"fpga_hybrid_warnings {len(house.upkeep.warnings)}\n" in house.metrics()
    assert sorted(house.notes()) == sorted(house.upkeep.warnings) == sorted((tmp_path / "told").read_text().splitlines())
    (event,) = [one for one in house.site.api.events.values() if one["note"] == warning]
    assert event["regarding"] == {"apiVersion": "v1", "kind": "Node", "name": "cp1", "uid": "cp1"}


def test_each_warning_is_told_once_a_day_also_over_a_restart(house, tmp_path):
    house.others = ["Launch of pool f2 is suspended."]
    house.start(warning_command=shell(f"grep Launch >> {tmp_path}/told || true"))
    house.after()
    house.start()
    house.after(HOUR)
    assert (tmp_path / "told").read_text().splitlines() == house.others
    house.after(DAY)
    assert (tmp_path / "told").read_text().splitlines() == house.others * 2
    assert house.notes().count(house.others[0]) == 2


def test_a_warning_that_could_not_be_told_is_told_later(house):
    house.others = ["Launch of pool f2 is suspended."]
    house.kubernetes_fails = "https://api: connection refused"
    house.after()
    assert house.notes() == []
    assert "connection refused" in house.upkeep.status()["telling"]["trouble"]
    house.kubernetes_fails = ""
    house.after(RETRY)
    assert house.others[0] in house.notes()
    assert house.upkeep.status()["telling"]["trouble"] == ""


def test_one_that_is_renewed_is_no_warning_any_more_within_a_minute(house):
    path = near_its_end(house)
    house.after()
    assert warnings_of(house, path)
    Path(path).unlink()
    house.after(60, passes=2)
    assert warnings_of(house, path) == []


def test_a_record_of_what_was_told_that_is_damaged_is_told_anew(house):
    house.site.state.mkdir(exist_ok=True)
    (house.site.state / "told.json").write_text("{")
    house.others = ["one"]
    house.start()
    house.after()
    assert "one" in house.notes()
    assert "event one" in json.loads((house.site.state / "told.json").read_text())


# --- beside keeper's passes -------------------------------------------------------------------------------------------------------------


def test_a_slow_command_holds_no_pass_up_and_is_not_begun_twice(house, tmp_path):
    house.after()
    release = tmp_path / "release"
    house.options["snapshot_command"] = (
        sys.executable,
        "-ISc",
        f"import os, time\nopen({str(tmp_path / 'begun')!r}, 'a').write('x')\nwhile not os.path.exists({str(release)!r}): time.sleep(0.01)",
    )
    settings = house.settings()
    house.upkeep = Upkeep(settings, Log(), Authority(settings.vpn, house.run), house, house.now, start=in_thread)
    end = time.monotonic() + 20
    while not (tmp_path / "begun").exists() and time.monotonic() < end:
        house.after(passes=1)
        time.sleep(0.01)
    threads = threading.active_count()
    for _pass in range(20):
        house.after(passes=1)
    assert threading.active_count() == threads
    assert (tmp_path / "begun").read_text() == "x"
    release.touch()
    while house.upkeep._is_to_be_carried() and time.monotonic() < end:
        time.sleep(0.01)
    assert not house.upkeep._is_to_be_carried()


def test_a_thread_that_stands_still_is_told_in_status_and_metrics_and_one_that_moves_on_is_not(site, capsys):
    keeper, work = site.keeper(), []

    def start(do: Any) -> Any:
        work.append(do)
        return lambda: True

    upkeep = keeper.upkeep = Upkeep(keeper.settings, Log(), keeper.edges.authority, keeper.edges.kubernetes, site.now, start=start)

    def after(seconds: float) -> str:
        site.after(keeper, seconds)
        keeper._keep_up()
        site.after(keeper)
        keeper._keep_up()
        return str(site.status()["troubles"].get("upkeep", ""))

    after(6)
    after(STANDING - 60)
    upkeep._do([(upkeep.snapshot, lambda: None)], site.now)  # it moves on, to the next chore
    assert [after(60), after(STANDING - 60)] == ["", ""]
    sentence = after(60)
    assert re.match(r"upkeep stands still at this since 2\S+Z: snapshot\. .*systemctl restart fpga-hybrid-keeper", sentence)
    assert 'fpga_hybrid_keeper_trouble{what="upkeep"} 1' in (site.state / "metrics.prom").read_text()
    assert (site.status()["healthy"], after(6)) == (False, sentence)
    assert capsys.readouterr().err.count("upkeep stands still") == 1
    upkeep._do([(upkeep.inspection, lambda: None)], site.now)
    assert after(6) == ""
    assert len(work) == 1, "there is one thread at a time"


def test_the_daemon_does_it_and_ends_at_once_also_while_a_command_runs(site, tmp_path):
    carry = f"import os, sys, time\nopen({str(tmp_path / 'carried')!r}, 'a').write(f'{{os.getpid()}} {{sys.argv[1]}}\\n')\ntime.sleep(60)"
    with Etcd(tmp_path / "kubernetes") as etcd:
        document = json.loads(site.config.read_text())
        document["upkeep"].update(etcd=etcd.url, kubernetes=str(etcd.pki.parent), snapshot_command=[sys.executable, "-ISc", carry])
        site.config.write_text(json.dumps({**document, "interval": 1}))
        for starts in (1, 2):
            process = subprocess.Popen(site.command(), env=site.environment(), stderr=subprocess.PIPE, text=True)
            end = time.monotonic() + 60
            while len(carried := calls(tmp_path / "carried")) < starts and process.poll() is None and time.monotonic() < end:
                time.sleep(0.02)
            process.terminate()
            try:
                _out, log = process.communicate(timeout=20)
            finally:
                # systemd ends what the unit has started; here it is ours to do.
                os.kill(int(carried[-1].split()[0]), signal.SIGKILL)
            assert process.returncode == 0, log
    (archive,) = (site.state / "snapshots").rglob("*.tar.gz")
    assert [line.split()[1] for line in carried] == [str(archive)] * 2
    assert "fpga_hybrid_snapshot_timestamp_seconds" in (site.state / "metrics.prom").read_text()


def calls(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_metrics_that_cannot_be_written_are_told_and_hold_nothing_up(house):
    house.start(metrics_file="/proc/none/metrics.prom")
    house.after()
    assert "/proc/none" in house.upkeep.status()["telling"]["trouble"]
    assert len(snapshots(house)) == 1


def test_metrics_are_written_once_a_minute_and_when_something_changes(house):
    house.after(passes=6)
    path = house.site.state / "metrics.prom"
    before = path.stat().st_ino
    house.after(passes=5)
    assert path.stat().st_ino == before
    house.others = ["something"]
    house.after(passes=1)
    assert "fpga_hybrid_warnings 1\n" in house.metrics()
    before = house.metrics()
    house.after(61, passes=1)
    assert house.metrics() != before
    assert path.stat().st_mode & 0o777 == 0o644


def test_keepers_status_has_it_all_and_a_pass_alone_begins_nothing(site):
    keeper = site.keeper()
    assert site.after(keeper)
    found = site.status()
    assert set(found["upkeep"]) == {"snapshot", "revocation_list", "certificates", "telling"}
    assert found["upkeep"]["snapshot"] == {"last": None, "path": "", "trouble": ""}
    assert found["warnings"] == []
    assert not (site.state / "snapshots").exists()
