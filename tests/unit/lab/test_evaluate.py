# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which autoscaler `make evaluate` takes, and what it says of how long things took."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from lab import evaluate
from lab.settings import LabError


def archive(cache, name, *references):
    folder = cache / "depot" / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.tar.json").write_text(json.dumps({"images": [{"reference": reference} for reference in references]}))


def test_upstream_s_autoscaler_is_taken_where_the_cache_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FPGA_HYBRID_LAB_CACHE", str(tmp_path))
    assert evaluate.autoscaler() == {}
    archive(tmp_path, "others", "docker.io/library/nginx:1", "registry.k8s.io/autoscaling/addon-resizer:1.8")
    assert evaluate.autoscaler() == {}
    archive(tmp_path, "upstream", "registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.1")
    assert evaluate.autoscaler() == {"autoscaler_image": "registry.k8s.io/autoscaling/cluster-autoscaler", "autoscaler_version": "v1.36.1"}


def site(state, reason):
    made = evaluate.Site.__new__(evaluate.Site)
    instance = {"InstanceId": "i-1", "State": {"Name": state}, "StateTransitionReason": reason}
    pages = [{"Reservations": [{"Instances": [instance]}]}]
    client = SimpleNamespace(get_paginator=lambda _name: SimpleNamespace(paginate=lambda: pages))
    made.cloud = SimpleNamespace(client=lambda _service: client)
    return made


def test_when_an_instance_was_terminated_is_what_aws_says():
    assert site("terminated", "User initiated (2026-11-26 04:25:03 UTC)").ended("i-1") == 1795667103.0


def test_an_instance_that_was_not_terminated_is_an_error_that_says_how_it_is():
    with pytest.raises(LabError, match=r"i-1: found running .*; expected that it was terminated"):
        site("running", "").ended("i-1")
