# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of InAccel's chart: those of the user, those of ours, and what the lab's stand-ins for the charts make of them by the lab's helm."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.filter.inaccel_chart_values import FilterModule
from ansible_collections.fpga.hybrid.plugins.module_utils import _helm as helm
from ansible_collections.fpga.hybrid.plugins.module_utils._inaccel import InaccelError, chart_values, known_values
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import run
from lab.depot.files import CHARTS
from tests.unit import lab_programs

CURRENT, FIRST = "2.8.2", "1.2.2"
KEY = "planted-license"


def values(extra: Any = None, version: str = CURRENT, license_key: str = "", https_proxy: str = "") -> dict[str, Any]:
    return chart_values(version, extra or {}, license_key, https_proxy)


def test_the_charts_own_driver_and_discovery_are_off():
    assert values() == {"driver": {"enabled": False}, "fpga-discovery": {"enabled": False}}


def test_the_first_chart_is_told_its_nodes_and_its_license():
    assert values(version=FIRST, license_key=KEY) == {"nodeSelector": {"inaccel/fpga": "enabled"}, "license": KEY}


def test_the_users_values_stand_beside_ours_key_by_key():
    found = values({"coral": {"logLevel": "debug"}, "reef": {"tag": "1.0"}}, https_proxy="http://proxy:3128")
    assert found["coral"] == {"httpsProxy": "http://proxy:3128", "logLevel": "debug"}
    assert found["reef"] == {"tag": "1.0"}
    assert found["driver"] == {"enabled": False}


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"tolerations": []}, "inaccel_extra_values.tolerations: the chart does not know it"),
        ({"corall": {}}, "inaccel_extra_values.corall: the chart does not know it; expected a key of the chart's values. Perhaps coral?"),
        ({"coral": {"taag": "2.1"}}, "inaccel_extra_values.coral.taag: the chart does not know it; expected one of httpsProxy, image"),
        ({"coral": {"tag": 2.1}}, "inaccel_extra_values.coral.tag: found 2.1; expected a string"),
        ({"coral": "inaccel/coral"}, "inaccel_extra_values.coral: found 'inaccel/coral'; expected a mapping"),
        ({"replicas": True}, "inaccel_extra_values.replicas: found True; expected a number"),
        ({"nodeSelector": {"inaccel/fpga": "enabled"}}, "Its nodes are those of hosts with fpga_stack: inaccel"),
        ({"driver": {"enabled": True}}, "Role xrt brings the driver"),
        ({"fpga-discovery": {"enabled": True}}, "choose those of other stacks, by PCI id"),
        ({"license": KEY}, "Put it into inaccel_license"),
        (["coral"], "inaccel_extra_values: found ['coral']; expected a mapping"),
    ],
)
def test_a_value_that_helm_would_ignore_or_that_is_made_is_refused(extra, says):
    with pytest.raises(InaccelError) as refused:
        values(extra)
    assert says in str(refused.value)
    assert KEY not in str(refused.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(InaccelError) as refused:
        values({"affinity": {}, "coral": {"tag": 1}})
    assert len(refused.value.problems) == 2


def test_a_chart_whose_values_nobody_recorded_is_refused():
    with pytest.raises(InaccelError, match=r"inaccel_chart_version: found 2\.5\.0; expected one of 2\.8\.2, 1\.2\.2"):
        values(version="2.5.0")


def test_the_first_chart_without_a_license_is_refused():
    with pytest.raises(InaccelError, match="inaccel_license: found nothing"):
        values(version=FIRST)


def test_the_filter_says_the_same():
    found = FilterModule().filters()["inaccel_chart_values"]
    assert found({"mkrt": {"tag": "1"}}, CURRENT) == values({"mkrt": {"tag": "1"}})
    with pytest.raises(AnsibleFilterError, match="the chart does not know it"):
        found({"nodeSelectors": {}}, CURRENT)


# --- the lab's stand-ins for the charts


def leaves(tree: Any, path: tuple[str, ...] = ()) -> set[str]:
    return {leaf for key, value in tree.items() for leaf in leaves(value, (*path, key))} if isinstance(tree, dict) and tree else {".".join(path)}


@pytest.mark.parametrize("version", known_values())
def test_a_stand_in_has_the_recorded_values_and_no_others(version):
    chart = CHARTS / version / "fpga-operator"
    found = yaml.safe_load((chart / "values.yaml").read_text())
    if version == CURRENT:
        found["fpga-discovery"] = {}
    assert leaves(found) == leaves(known_values()[version])
    assert yaml.safe_load((chart / "Chart.yaml").read_text())["version"] == version


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    lab_programs.use(monkeypatch, tmp_path, "helm", "kubectl")

    def render(given: dict[str, Any], version: str = CURRENT) -> dict[str, dict[str, Any]]:
        chart = helm.Chart("inaccel", str(CHARTS / version / "fpga-operator"), version, namespace="kube-system", values=given)
        return {value["kind"]: value for value in helm.render(run, chart)}

    return render


def test_todays_operator_runs_on_labelled_nodes_without_a_driver_of_its_own(rendered):
    found = rendered(values({"daemon": {"tag": "1.0"}}))
    pod = found["DaemonSet"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"inaccel/fpga": "enabled"}
    assert [container["name"] for container in pod["initContainers"]] == ["mkrt"]
    assert pod["hostPID"] is False
    assert "ConfigMap" not in found, "the chart's discovery"
    assert "inaccel/daemon:1.0" in [container["image"] for container in pod["containers"]]


def test_a_license_is_in_the_secret_and_nowhere_else(rendered):
    found = rendered(values(license_key=KEY))
    assert found["Secret"]["stringData"] == {"license": KEY}
    assert KEY not in str({kind: value for kind, value in found.items() if kind != "Secret"})
    assert "license" not in str(rendered(values())["DaemonSet"])


def test_the_first_operator_runs_on_labelled_nodes_with_its_license(rendered):
    found = rendered(values(version=FIRST, license_key=KEY), FIRST)
    assert found["DaemonSet"]["spec"]["template"]["spec"]["nodeSelector"] == {"inaccel/fpga": "enabled"}
    assert found["Secret"]["stringData"] == {"CORAL_LICENSE_KEY": KEY}


def test_helm_itself_takes_what_the_chart_does_not_know(rendered):
    """The reason for the recorded list."""
    assert rendered({**values(), "nodeSelector": {"example.org/rack": "4"}}) == rendered(values())
