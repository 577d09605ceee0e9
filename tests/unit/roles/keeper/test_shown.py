# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga-hybrid-keeper status: worst first, everything there is, and nothing that keeper has not said.

UPDATE_GOLDEN=1 writes the golden files anew; then read the difference.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _keeper_status
from fpga_hybrid_keeper import shown
from tests.unit.roles.keeper.statuses import NOW, failed_join, ill, old, paused, pool, well

GOLDEN = Path(__file__).parent / "golden"
SYSTEMCTL = """#!/bin/sh
# A double of systemd's answer about one unit.
exit {code}
"""


def lines(document: dict, running: bool | None = True, now: float = NOW) -> list[str]:
    return shown.lines(_keeper_status.parse(json.dumps(document)), running, now)


@pytest.mark.parametrize(
    ("name", "document", "running", "age"),
    [("well", well(), True, 0), ("ill", ill(), True, 0), ("older-keeper", old(), None, 0), ("not-running", ill(), False, 7 * 3600)],
)
def test_what_is_shown(name, document, running, age):
    found = "\n".join(lines(document, running, NOW + age)) + "\n"
    path = GOLDEN / f"status-{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(found)
    assert found == path.read_text()


def test_a_keeper_that_does_not_run_and_an_old_status_are_told_before_anything_else():
    assert lines(well(), running=False)[0].startswith("KEEPER DOES NOT RUN")
    assert lines(well(), now=NOW + 177)[0].startswith("keeper last looked")
    assert lines(well(), now=NOW + 178)[0].startswith("WHAT FOLLOWS IS 3 MIN OLD")


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("failed_joins", "only if all that failed join after all. Else mend what its instances said, then: ansible-playbook pools.yml -e resume=f2"),
        ("instances", "raise cluster_cloud_limits.instances"),
        ("instance_hours", "when the next day begins (UTC)"),
        ("hand", "Find out why it was, then: ansible-playbook pools.yml -e resume=f2"),
    ],
)
def test_each_kind_of_pause_says_how_launches_go_on(kind, remedy):
    text = "\n".join(lines({**well(), "pools": {"f2": paused(kind)}}))
    assert remedy in text
    assert f"paused: {kind}" in text


def test_a_pool_that_waits_for_joins_under_way_asks_nobody_for_anything():
    text = "\n".join(lines({**well(), "pools": {"f2": paused("failed_joins", firm=False)}}))
    assert "Goes on by itself when those that are on their way have joined." in text
    assert "resume=" not in text


def test_each_ceiling_is_shown_and_where_there_is_none_that_is_said():
    """What nobody limits is worth a line more than what somebody does."""
    text = "\n".join(lines({**well(), "limits": {"instances": None, "instance_hours_per_day": 24}}))
    assert "Ceilings\n  instances: no ceiling\n  instance-hours a day: 24\n" in text
    text = "\n".join(lines({**well(), "limits": {"instances": 4, "instance_hours_per_day": None}}))
    assert "Ceilings\n  instances: 4\n  instance-hours a day: no ceiling\n" in text


def test_what_an_instance_says_cannot_write_on_the_terminal():
    sentence = "no\x1b[2Jthing\nf2   yes\r\x07 answers"
    found = lines({**well(), "pools": {"f2": pool(failed_joins=[failed_join(sentence=sentence)])}})
    assert "    no?[2Jthing f2 yes ? answers" in found
    assert all(line.isprintable() for line in found)


def test_a_date_far_ahead_and_a_clock_that_was_set_back_are_no_negative_ages():
    assert lines(well(), now=NOW - 3600)[0].startswith("keeper last looked 0 s ago")


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (3.9, "3 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172799, "47 h"), (172800, "2 days")]
)
def test_times_are_said_as_people_say_them(seconds, text):
    assert _keeper_status.lasted(seconds) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '{"schema": 1}'),
        *(json.dumps({**well(), "pools": {"f2": {}}}), json.dumps({**well(), "today": 3}), json.dumps({**old(), "looked": "now"})),
    ],
)
def test_a_status_that_is_none_is_never_taken_for_a_good_one(text):
    with pytest.raises(_keeper_status.StatusError, match="cannot be read"):
        _keeper_status.parse(text)


def test_a_status_of_another_version_is_told_as_that():
    with pytest.raises(_keeper_status.StatusError, match=r"schema 2, expected 1"):
        _keeper_status.parse(json.dumps({**well(), "schema": 2}))


def test_what_keeper_writes_is_what_is_read(site):
    """Whatever this version of it tells."""
    (name,) = site.scale(1)
    keeper = site.keeper()
    assert site.after(keeper)
    found = _keeper_status.parse((site.state / "status.json").read_text())
    assert (found.cluster_id, found.instances[name].phase, found.instances[name].vpn_address) == (site.status()["cluster_id"], "enrolled", "172.27.232.1")
    assert found.untold == []


# --- the program


def wrote(site, document: dict, seconds_ago: float = 1.0, systemctl: int = 0) -> None:
    site.state.mkdir(exist_ok=True)
    looked = datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)
    (site.state / "status.json").write_text(json.dumps({**document, "looked": looked.strftime("%Y-%m-%dT%H:%M:%SZ")}))
    double = site.folder / "bin" / "systemctl"
    double.write_text(SYSTEMCTL.format(code=systemctl))
    double.chmod(0o755)


@pytest.mark.parametrize(
    ("document", "seconds_ago", "systemctl", "code", "first"),
    [
        (well(), 1, 0, 0, "keeper last looked "),
        (well(), 1, 3, 1, "KEEPER DOES NOT RUN"),
        (well(), 1, 4, 1, "KEEPER DOES NOT RUN"),
        (well(), 1, 1, 0, "keeper last looked "),  # no systemd there: the age says enough
        (well(), 200, 0, 1, "WHAT FOLLOWS IS 3 MIN OLD"),
        (ill(), 1, 0, 1, "keeper last looked "),
        ({**well(), "pools": {"f2": paused("failed_joins")}}, 1, 0, 0, "keeper last looked "),
    ],
    ids=["well", "stopped", "no unit", "no systemd", "old", "troubles", "paused"],
)
def test_exit_status_and_first_line(site, document, seconds_ago, systemctl, code, first):
    wrote(site, document, seconds_ago, systemctl)
    done = site.called("status")
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.startswith(first)


def test_for_programs_it_is_the_file_and_whether_it_can_be_believed(site):
    wrote(site, ill(), 4, 3)
    done = site.called("status", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found.pop("running")) == (1, False)
    assert 3 <= found.pop("age") <= 60
    assert {**found, "looked": ill()["looked"]} == ill()


def test_what_it_shows_needs_neither_root_nor_aws_nor_the_record(site):
    wrote(site, well())
    (site.state / "record.json").write_text("")
    (site.folder / "credentials").unlink()
    site.cloud.forget_calls()
    assert site.called("status").returncode == 0
    assert site.cloud.calls() == []
    assert sorted(path.name for path in site.state.iterdir()) == ["record.json", "status.json"]


@pytest.mark.parametrize(
    ("text", "sentence"), [(None, "is not there: keeper has made no pass yet."), ("{", "cannot be read"), ('{"schema": 9}', "schema 9, expected 1")]
)
def test_a_file_that_is_not_there_or_no_good_is_said(site, text, sentence):
    wrote(site, well())
    path = site.state / "status.json"
    path.unlink() if text is None else path.write_text(text)
    for arguments in (["status"], ["status", "--json"]):
        done = site.called(*arguments)
        assert done.returncode == 1
        assert f"{path} " in done.stdout
        assert sentence in done.stdout


@pytest.mark.parametrize("arguments", [["--json"], ["status", "--once"], ["status", "--dry-run"], ["state"]])
def test_what_does_not_go_together_is_refused(site, arguments):
    assert site.called(*arguments).returncode == 2


def test_help_says_what_each_exit_status_means(site):
    text = " ".join(site.called("--help").stdout.split())
    assert "0 done; 1 something could not be asked or done (--once), or keeper does not run, has not looked for 3 minutes or has troubles (status); 2" in text


def test_the_file_can_be_read_without_root(site):
    site.after(site.keeper())
    assert (site.state / "status.json").stat().st_mode & 0o777 == 0o644
