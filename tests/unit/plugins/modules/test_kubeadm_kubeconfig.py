# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import functools
import json
import os
import pwd
import shutil
import stat
from pathlib import Path

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _kubeconfig
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import KubeadmError
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host, Paths
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import run
from ansible_collections.fpga.hybrid.plugins.modules import kubeadm_kubeconfig
from ansible_collections.fpga.hybrid.plugins.modules.kubeadm_kubeconfig import Ours, as_it_should_be, find_user, write

ME = pwd.getpwuid(os.getuid())


def kubeconfig(cluster="kubernetes", ca="QUJD", user="kubernetes-admin", key="S0VZ"):
    """As kubeadm writes one."""
    name = f"{user}@{cluster}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": [{"name": cluster, "cluster": {"certificate-authority-data": ca, "server": f"https://{cluster}:6443"}}],
        "users": [{"name": user, "user": {"client-certificate-data": "Q0VSVA==", "client-key-data": key}}],
        "contexts": [{"name": name, "context": {"cluster": cluster, "user": user}}],
        "current-context": name,
    }


def both(one, other):
    """As kubectl merges two files: KUBECONFIG=one:other kubectl config view --flatten."""
    lists = {key: sorted([*one[key], *other[key]], key=lambda entry: entry["name"]) for key in ("clusters", "users", "contexts")}
    return {**one, **lists}


OURS, OTHER = kubeconfig(), kubeconfig("another", ca="WFla", user="me")


@pytest.fixture
def host(tmp_path):
    if not shutil.which("kubectl"):
        pytest.skip("needs kubectl")
    return Host(run, Paths(str(tmp_path / "host")))


@pytest.fixture
def ours(host):
    return Ours(host, text(OURS), "c")


@pytest.fixture
def usual(tmp_path):
    path = tmp_path / ".kube" / "config"
    path.parent.mkdir(mode=0o700)
    return path


@functools.cache
def written(config):
    return _kubeconfig.dump(run, json.loads(config))


def text(config):
    return written(json.dumps(config))


def test_a_home_without_a_kubeconfig_gets_one_that_only_its_owner_reads(host, ours, tmp_path):
    path, beside = ours.place(str(tmp_path))
    write(host, path, ours.wanted(None), ME)
    assert (path, beside) == (str(tmp_path / ".kube" / "config"), False)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / ".kube").st_mode) == 0o700
    assert as_it_should_be(host, path, text(OURS), ME)


@pytest.mark.parametrize("found", ["", "\n"])
def test_an_empty_file_becomes_this_clusters(host, ours, usual, tmp_path, found):
    usual.write_text(found)
    assert ours.place(str(tmp_path)) == (str(usual), False)
    assert ours.wanted(found) == text(OURS)


def test_one_with_an_old_certificate_is_renewed_in_place(host, ours, usual, tmp_path):
    found = text(kubeconfig(key="T0xE"))
    usual.write_text(found)
    assert ours.place(str(tmp_path)) == (str(usual), False)
    assert ours.wanted(found) == text(OURS)


@pytest.mark.parametrize(
    "changed",
    [
        {"contexts": [{"name": "work", "context": {"cluster": "kubernetes", "user": "kubernetes-admin", "namespace": "mine"}}], "current-context": "work"},
        {"current-context": ""},
        {"users": [*OURS["users"], {"name": "robot", "user": {"token": "abc"}}]},
        {"preferences": {"colors": True}},
    ],
    ids=["another context and namespace", "no context", "one more user", "preferences"],
)
def test_what_a_user_has_changed_in_this_clusters_file_is_no_drift_and_outlives_a_renewal(changed):
    found, old = {**OURS, **changed}, {**kubeconfig(key="T0xE"), **changed}
    if "users" in changed:
        old["users"] = [*kubeconfig(key="T0xE")["users"], *changed["users"][1:]]
    assert _kubeconfig.is_for_same(found, OURS)
    assert _kubeconfig.renewed(found, OURS) == found
    assert _kubeconfig.renewed(old, OURS) == found


def test_a_file_without_a_context_gets_the_administrators():
    assert _kubeconfig.renewed({**OURS, "contexts": None, "current-context": ""}, OURS) == OURS


@pytest.mark.parametrize(
    "found",
    [
        OTHER,
        both(OURS, OTHER),
        both(OTHER, OURS),
        both(OURS, {**OTHER, "clusters": [{"name": "another", "cluster": {"certificate-authority": "ca.crt", "server": "https://another"}}]}),
        both(OURS, {**OTHER, "clusters": [{"name": "another", "cluster": {"server": "https://another"}}]}),
        {**OTHER, "clusters": []},
    ],
    ids=["another", "ours before another", "another before ours", "ours and one whose CA is a file", "ours and one without a CA", "users only"],
)
def test_one_that_is_not_for_this_cluster_alone_stays_and_ours_goes_beside_it(host, ours, usual, tmp_path, found):
    usual.write_text(text(found))
    path, beside = ours.place(str(tmp_path))
    write(host, path, ours.wanted(host.read(path)), ME)
    assert (path, beside) == (str(tmp_path / ".kube" / "c.config"), True)
    assert usual.read_text() == text(found)
    assert Path(path).read_text() == text(OURS)


def test_a_file_that_is_no_kubeconfig_stays(ours, usual, tmp_path):
    usual.write_text("to do: [\n")
    assert ours.place(str(tmp_path)) == (str(tmp_path / ".kube" / "c.config"), True)


def test_a_file_beside_that_is_of_a_former_cluster_of_this_name_is_replaced(host, ours):
    assert ours.wanted(text(kubeconfig(ca="Rk9STUVS"))) == text(OURS)


def test_a_file_that_others_may_read_is_mended(host, tmp_path):
    path = str(tmp_path / ".kube" / "config")
    host.write(path, text(OURS), 0o644)
    assert not as_it_should_be(host, path, text(OURS), ME)


def test_an_administrators_kubeconfig_without_a_ca_is_refused(host, tmp_path, usual):
    usual.write_text(text(OURS))
    with pytest.raises(KubeadmError, match=r"admin\.conf has no CA of a cluster"):
        Ours(host, "cut off", "c").place(str(tmp_path))


@pytest.fixture
def module(host, tmp_path, monkeypatch):
    """The module itself, for one user whose home is a temporary folder."""

    def call(**arguments):
        given = {"users": ["me"], "cluster_name": "c", **arguments}
        answers = []

        class Module:
            def __init__(self, **_spec):
                self.params, self.check_mode = {"state": "present", **given}, False

            def warn(self, message):
                answers.append(message)

            def fail_json(self, msg):
                raise AssertionError(msg)

            def exit_json(self, **result):
                answers.append(result["paths"])

        monkeypatch.setattr(kubeadm_kubeconfig, "AnsibleModule", Module)
        monkeypatch.setattr(kubeadm_kubeconfig, "Host", lambda _run: host)
        monkeypatch.setattr(kubeadm_kubeconfig, "find_user", lambda _name: pwd.struct_passwd((*ME[:5], str(tmp_path), ME[6])))
        kubeadm_kubeconfig.main()
        return answers

    host.write(host.paths.admin, text(OURS), 0o600)
    return call


def test_a_second_run_changes_nothing_and_a_reset_takes_the_file(module, usual):
    assert module() == [[str(usual)]]
    assert module() == [[]]
    assert module(state="absent") == [[str(usual)]]
    assert not usual.exists()


def test_a_reset_leaves_a_file_with_other_clusters_and_takes_the_one_beside_it(host, module, usual):
    usual.write_text(merged := text(both(OURS, OTHER)))
    beside = usual.with_name("c.config")
    warning, written = module()
    assert written == [str(beside)]
    assert f"not for this cluster alone and stays as it is; the one for this cluster is {beside}" in warning
    assert module(state="absent") == [[str(beside)]]
    assert usual.read_text() == merged
    assert not beside.exists()


def test_a_reset_leaves_a_file_beside_to_which_its_owner_has_added_a_cluster(host, module, usual):
    usual.write_text(json.dumps(OTHER))
    beside = usual.with_name("c.config")
    beside.write_text(text(both(OURS, kubeconfig("third", ca="VEhJUkQ=", user="third"))))
    assert module(state="absent") == [[]]
    assert beside.exists()


def test_an_unknown_administrator_is_named():
    with pytest.raises(KubeadmError, match="cluster_admins: the control plane has no user nobody-of-that-name"):
        find_user("nobody-of-that-name")
