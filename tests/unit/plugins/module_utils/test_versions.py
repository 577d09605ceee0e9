# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions go together."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.filter.cluster_versions import cluster_versions
from ansible_collections.fpga.hybrid.plugins.module_utils._versions import load_table, resolve

TABLE = load_table()
LAB = "calico v3.28.5 with kubernetes 1.36"


def ask(kubernetes="1.36", *, cni="calico", calico="", runtime="containerd", allow=(), recorded=None):
    return resolve(TABLE, kubernetes, cni, calico, runtime, allow, recorded or {})


@pytest.mark.parametrize("row", TABLE["kubernetes"], ids=lambda row: row["minor"])
def test_every_minor_of_the_table_has_a_default_that_resolves(row):
    versions, problems = ask(row["minor"])
    assert problems == []
    assert versions is not None
    assert (versions.minor, versions.kubernetes) == (row["minor"], row["default"])
    assert versions.containerd == "2.*", "containerd 1 is not supported by Kubernetes 1.36, and warned about before"


def test_an_exact_version_is_taken_as_it_is():
    versions, _ = ask("1.36.3")
    assert versions is not None
    assert (versions.minor, versions.kubernetes, versions.calico) == ("1.36", "1.36.3", "v3.32.1")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("1.34", 'found 1.34; expected one of 1.35, 1.36, 1.37. Take the nearest that is known, "1.35"'),
        ("1.99.1", 'Take the nearest that is known, "1.37"'),
        ("v1.36", "found 'v1.36'"),
        (1.36, "found 1.36; expected a text"),
        ("latest", "found 'latest'"),
        (None, "found None"),
    ],
)
def test_an_unknown_kubernetes_is_refused_with_the_nearest_known(version, message):
    versions, problems = ask(version)
    assert versions is None
    assert message in str(problems[0])
    assert problems[0].variable == "cluster_kubernetes_version"


def test_the_recorded_version_wins_over_the_table_s_default():
    versions, _ = ask("1.36", recorded={"kubernetes": "1.36.1", "calico": "v3.32.1"})
    assert versions is not None
    assert versions.kubernetes == "1.36.1"


@pytest.mark.parametrize("declared", ["1.36.4", "1.37", "1.35"])
def test_another_version_than_the_recorded_one_is_refused(declared):
    _, problems = ask(declared, recorded={"kubernetes": "1.36.3"})
    assert "expected 1.36.3, which this cluster has recorded" in str(problems[0])


def test_another_calico_than_the_recorded_one_is_refused():
    _, problems = ask("1.35", calico="v3.31.7", recorded={"kubernetes": "1.35.9", "calico": "v3.32.1"})
    assert problems[0].variable == "cluster_calico_version"


def test_a_calico_that_does_not_fit_is_refused_with_the_nearest_that_does():
    versions, problems = ask("1.36", calico="v3.31.7")
    assert versions is None
    assert "Take the nearest that is known, v3.32.1" in str(problems[0])


def test_the_lab_s_exception_must_be_asked_for_by_its_name():
    assert f'cluster_allow_untested: ["{LAB}"]' in str(ask("1.36.3", calico="v3.28.5")[1][0])
    versions, problems = ask("1.36.3", calico="v3.28.5", allow=[LAB])
    assert problems == []
    assert versions is not None
    assert versions.tested
    assert "outside what Calico's makers support" in versions.note


def test_an_exception_for_one_minor_is_none_for_another():
    versions, _ = ask("1.37", calico="v3.28.5", allow=[LAB, "calico v3.28.5 with kubernetes 1.37"])
    assert versions is None


def test_what_we_never_ran_is_not_called_tested():
    assert not ask("1.36")[0].tested
    assert not ask("1.36.3", calico="v3.28.5", allow=[LAB], runtime="docker")[0].tested
    assert "not yet in the list" in ask("1.37")[0].note


def test_without_a_cni_no_calico_is_asked_about():
    assert ask("1.36", cni="none", calico="v9")[0].calico == ""


def test_the_filter_gives_plain_data_and_refuses_in_words():
    assert cluster_versions("1.36.3")["kubernetes"] == "1.36.3"
    with pytest.raises(AnsibleFilterError, match=r"expected one of 1\.35, 1\.36, 1\.37"):
        cluster_versions("1.20")
