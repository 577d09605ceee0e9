# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of an answer, and when it is not used."""

from __future__ import annotations

import datetime

import pytest
from ansible.errors import AnsibleError

from ansible_collections.fpga.hybrid.plugins.plugin_utils._answer_cache import ACCOUNT_VARIABLES, AnswerCache, open_cache, settings_hash
from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_inventory import Finished

FINISHED = Finished({"i-1": {"provider_id": "aws:///a/i-1"}}, {"aws": {"i-1": None}})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def warnings():
    return []


def cache(folder, warnings, key="k"):
    """As a new run opens it."""
    opened = open_cache("jsonfile", str(folder), "inventory_")
    return AnswerCache(opened, key, warnings.append), opened


def keep(folder, finished=FINISHED):
    answers, opened = cache(folder, [])
    answers.store(finished)
    opened.update_cache_if_changed()


def test_the_next_run_finds_the_answer_and_its_age(folder, warnings):
    keep(folder)
    stored = cache(folder, warnings)[0].load()
    assert stored.hosts == FINISHED
    assert 0 <= stored.age < 60
    assert str(stored).endswith("0 minutes old")
    assert not warnings


def test_another_key_has_no_answer(folder, warnings):
    keep(folder)
    assert cache(folder, warnings, "other")[0].load() is None
    assert not warnings


def test_core_expires_nothing_because_an_outage_allows_for_more(folder, warnings):
    import os

    keep(folder)
    for file in folder.iterdir():
        os.utime(file, (0, 0))
    assert cache(folder, warnings)[0].load()


@pytest.mark.parametrize("entry", ["", "[]", '{"__payload__": "{}"}', '{"__payload__": "{\\"hosts\\": \\"[1]\\", \\"asked\\": 1}"}', '{"__payload__": "[]"}'])
def test_what_somebody_else_wrote_there_is_not_used(folder, warnings, entry):
    keep(folder)
    (file,) = folder.iterdir()
    file.write_text(entry)
    assert cache(folder, warnings)[0].load() is None


def test_a_cache_that_can_not_be_read_is_told(warnings):
    class Broken(dict):
        def __getitem__(self, key):
            raise AnsibleError("no such server")

    assert AnswerCache(Broken(), "k", warnings.append).load() is None
    assert warnings == ["The cached answer of AWS can't be read (no such server). It is not used."]


def test_a_composed_variable_that_is_no_json_is_told(folder, warnings):
    answers, opened = cache(folder, warnings)
    answers.store(Finished({"i-1": {"now": datetime.datetime.now()}}))
    opened.update_cache_if_changed()
    assert "The answer of AWS is not cached: a composed variable is no JSON" in warnings[0]
    assert not list(folder.iterdir())


def test_the_hash_follows_the_settings():
    assert settings_hash(1, "a") == settings_hash(1, "a") != settings_hash(1, "b")


@pytest.mark.parametrize("variable", ACCOUNT_VARIABLES)
def test_the_hash_follows_the_account(monkeypatch, variable):
    monkeypatch.setenv(variable, "one")
    one = settings_hash()
    monkeypatch.setenv(variable, "other")
    assert settings_hash() != one
