# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _docker, _files
from ansible_collections.fpga.hybrid.plugins.module_utils._files import File
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import EngineError, Unit
from ansible_collections.fpga.hybrid.plugins.module_utils._service_config import Format, Plan, plan_given_back, plan_merged, read_tree

FORMAT = Format(_docker.parse, _docker.render)


class Host:
    """One host's files, and a service whose configuration is `config`."""

    def __init__(self, folder):
        self.config, self.extra, self.data = folder / "etc" / "daemon.json", folder / "etc" / "own" / "extra.conf", folder / "data"
        self.path = str(folder / "record.json")
        self.config.parent.mkdir()
        (folder / "etc" / "keep").write_text("")

    def plan(self, ours=None, files=None, unit=None, remove_data=False):
        """None: give everything back."""
        record = Record.load(self.path)
        if ours is None:
            merged = plan_given_back(str(self.config), FORMAT, record)
        else:
            file, found = read_tree(str(self.config), FORMAT)
            merged = plan_merged(str(self.config), file, found, lambda tree: ours, form=FORMAT, record=record)
        wanted = files or {}
        changes = tuple(_files.plan("test", wanted, record))
        data = (str(self.data),) if ours is not None else ()
        plan = Plan(unit or Unit(), merged, changes, wanted, "test", FORMAT, lambda path: path.endswith(".live"), data=data, remove_data=remove_data)
        return plan, record

    def run(self, *args, **kwargs):
        plan, record = self.plan(*args, **kwargs)
        changed = bool(plan.changes or plan.doomed(record))
        plan.apply(record)
        return changed


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_a_second_run_changes_nothing(host):
    host.config.write_text('{"a":   1}')
    files = {str(host.extra): File("x\n", 0o600)}
    assert host.run({"b": 2}, files)
    assert not host.run({"b": 2}, files)


def test_a_file_that_says_it_already_keeps_its_own_layout(host):
    host.config.write_text('{"a":   1}')
    assert not host.run({"a": 1})
    assert host.config.read_text() == '{"a":   1}'


def test_what_was_there_comes_back_to_the_letter(host):
    host.config.write_text('{"a":   1}')
    host.run({"a": 2, "b": 3}, {str(host.extra): File("x\n")})
    host.run()
    assert host.config.read_text() == '{"a":   1}'
    assert not host.extra.parent.exists()
    assert host.config.parent.exists()
    assert set(json.loads((host.config.parent.parent / "record.json").read_text())) <= {"schema", "data"}


def test_what_the_user_wrote_meanwhile_stays_when_ours_goes(host):
    host.config.write_text('{"a": 1}')
    host.run({"a": 2, "b": 3})
    host.config.write_text('{"a": 2, "b": 3, "own": true}')
    host.run()
    assert json.loads(host.config.read_text()) == {"a": 1, "own": True}


def test_a_file_that_we_made_is_gone_afterwards(host):
    host.run({"a": 1})
    host.run()
    assert not host.config.exists()


def test_a_key_that_is_no_longer_declared_goes_back(host):
    host.config.write_text('{"level": "warn"}')
    host.run({"level": "debug", "b": 1})
    host.run({"b": 1})
    assert json.loads(host.config.read_text()) == {"level": "warn", "b": 1}


def test_a_file_that_is_no_longer_wanted_becomes_what_it_was(host):
    host.extra.parent.mkdir()
    host.extra.write_text("theirs\n")
    os.chmod(host.extra, 0o640)
    host.run({}, {str(host.extra): File("ours\n", 0o600)})
    host.run({})
    assert (host.extra.read_text(), host.extra.stat().st_mode & 0o777) == ("theirs\n", 0o640)


def test_a_wrong_mode_alone_is_mended(host):
    files = {str(host.extra): File("secret\n", 0o600)}
    host.run({}, files)
    os.chmod(host.extra, 0o644)
    assert host.run({}, files)
    assert host.extra.stat().st_mode & 0o777 == 0o600


def test_only_data_that_came_after_us_is_removed(host):
    host.run({})
    host.data.mkdir()
    (host.data / "layers").mkdir()
    host.run()
    assert (host.data / "layers").exists()
    assert host.run(remove_data=True)
    assert not host.data.exists()


def test_data_that_was_there_before_us_is_never_removed(host):
    host.data.mkdir()
    (host.data / "theirs").write_text("")
    host.run({})
    host.run(remove_data=True)
    assert (host.data / "theirs").exists()


def test_a_change_restarts_only_a_service_that_runs_and_has_to_read_it(host):
    live = {str(host.extra.parent / "hosts.live"): File("x\n")}
    assert not host.plan({"a": 1}, unit=Unit())[0].restart_needed
    assert host.plan({"a": 1}, unit=Unit(active=True, exists=True))[0].restart_needed
    host.run({"a": 1})
    assert not host.plan({"a": 1}, live, unit=Unit(active=True, exists=True))[0].restart_needed


def test_a_restart_that_a_killed_run_owes_is_found(host):
    """Written, but this very process, which stands for the service, started before."""
    host.run({"a": 1})
    plan = host.plan({"a": 1}, unit=Unit(active=True, exists=True, main_pid=os.getpid()))[0]
    assert plan.restart_needed
    assert not plan.changes
    assert "hasn't read it" in plan.differences()[0]


@pytest.mark.parametrize(
    ("unit", "needed"),
    [
        (Unit(active=True, exists=True, enabled=True), False),
        (Unit(active=True, exists=True), True),
        (Unit(exists=True, enabled=True), True),
        (Unit(active=True, exists=True, enabled=True, needs_reload=True), True),
        (Unit(active=True, exists=True, enabled=True, main_pid=os.getpid()), True),  # older than its file
    ],
)
def test_a_service_that_is_as_it_should_be_is_not_touched(host, unit, needed):
    host.run({"a": 1})
    assert host.plan({"a": 1}, unit=unit)[0].start_needed is needed


def test_a_file_that_cannot_be_read_is_refused_by_name(host):
    host.config.write_text("{")
    with pytest.raises(EngineError, match=r"daemon\.json cannot be read.*Nothing was changed"):
        host.plan({})


def test_the_diff_shows_what_differs_and_no_secret(host):
    host.config.write_text('{"password": "hunter1"}')
    plan, record = host.plan({"password": "hunter2"}, {str(host.extra): File('Authorization = "Basic aHVudGVy"\n', 0o600)})
    diff = json.dumps(plan.diff(record))
    assert "not shown" in diff
    assert not any(secret in diff for secret in ("hunter", "aHVudGVy"))
