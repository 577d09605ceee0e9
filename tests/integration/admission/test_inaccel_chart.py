# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role inaccel's part of a cluster against a real API server: the lab's stand-ins for the chart with the role's values, and its own CSIDriver."""

from __future__ import annotations

import pytest
import yaml

from ansible_collections.fpga.hybrid.plugins.module_utils import _helm as helm
from ansible_collections.fpga.hybrid.plugins.module_utils._inaccel import chart_values
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import ServerSideApply, identity, run
from lab.depot.files import CHARTS
from tests.integration.admission.conftest import ROOT
from tests.unit import lab_programs
from tests.unit.roles.test_inaccel import seen


@pytest.mark.parametrize(("version", "license_key"), [("2.8.2", ""), ("2.8.2", "planted-license"), ("1.2.2", "planted-license")])
def test_the_chart_is_taken_and_a_second_run_changes_nothing_also_with_a_license(api, version, license_key, tmp_path, monkeypatch):
    kubectl = api.kubectl()
    apply = ServerSideApply(kubectl)
    values = chart_values(version, {"daemon": {"tag": "1.0"}} if version == "2.8.2" else {}, license_key, "")
    with monkeypatch.context() as programs:
        lab_programs.use(programs, tmp_path, "helm", "kubectl")
        wanted = helm.render(run, helm.Chart("inaccel", str(CHARTS / version / "fpga-operator"), version, namespace="kube-system", values=values))
    apply.apply(wanted, apply.plan(wanted))
    assert not apply.plan(wanted).changed
    reset(kubectl)
    assert apply.plan(wanted).created == [identity(value) for value in wanted], "what the reset left"


def reset(kubectl):
    """The calls of tasks/operator_reset.yml."""
    (task,) = yaml.safe_load((ROOT / "roles" / "inaccel" / "tasks" / "operator_reset.yml").read_text())
    for names in task["loop"]:
        kubectl.call("--namespace", "kube-system", "delete", "--ignore-not-found", *names)


def test_the_csi_driver_alone_is_taken(api):
    apply = ServerSideApply(api.kubectl())
    wanted = [seen("{{ __inaccel_csi_driver }}")]
    apply.apply(wanted, apply.plan(wanted))
    assert not apply.plan(wanted).changed
