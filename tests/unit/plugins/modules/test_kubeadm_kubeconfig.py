# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import KubeadmError
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host, Paths
from ansible_collections.fpga.hybrid.plugins.modules.kubeadm_kubeconfig import as_it_should_be, authority, find_user, place, write

OURS = "clusters:\n- cluster:\n    certificate-authority-data: QUJD\n    server: https://api:6443\n"
OTHER = OURS.replace("QUJD", "WFla")
ME = pwd.getpwuid(os.getuid())


@pytest.fixture
def host(tmp_path):
    return Host(lambda *_: (1, "", ""), Paths(str(tmp_path)))


def test_a_home_without_a_kubeconfig_gets_one_that_only_its_owner_reads(host, tmp_path):
    path, beside = place(host, str(tmp_path), "c", authority(OURS))
    write(host, path, OURS, ME)
    assert (path, beside) == (str(tmp_path / ".kube" / "config"), False)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / ".kube").st_mode) == 0o700
    assert as_it_should_be(host, path, OURS, ME)


@pytest.mark.parametrize("found", [OURS + "renewed: long ago\n", "", "\n"])
def test_one_of_this_cluster_is_renewed_in_place(host, tmp_path, found):
    host.write(str(tmp_path / ".kube" / "config"), found, 0o600)
    assert place(host, str(tmp_path), "c", authority(OURS)) == (str(tmp_path / ".kube" / "config"), False)


def test_one_of_another_cluster_stays_and_ours_goes_beside_it(host, tmp_path):
    host.write(str(tmp_path / ".kube" / "config"), OTHER, 0o600)
    path, beside = place(host, str(tmp_path), "c", authority(OURS))
    write(host, path, OURS, ME)
    assert (path, beside) == (str(tmp_path / ".kube" / "c.config"), True)
    assert Path(tmp_path / ".kube" / "config").read_text() == OTHER


def test_a_file_that_others_may_read_is_mended(host, tmp_path):
    path = str(tmp_path / ".kube" / "config")
    host.write(path, OURS, 0o644)
    assert not as_it_should_be(host, path, OURS, ME)


def test_an_unknown_administrator_is_named():
    with pytest.raises(KubeadmError, match="cluster_admins: the control plane has no user nobody-of-that-name"):
        find_user("nobody-of-that-name")
