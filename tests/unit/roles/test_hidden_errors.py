# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks that handle secrets are no_log, which hides their errors, too: that these are said all the same, and the secrets are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.unit.playbook_site import ROOT, Site

SECRET = "S3CRET-planted"


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def tasks(path, **replaced):
    """The tasks of a role, with paths of its host replaced."""
    text = (ROOT / "roles" / path).read_text()
    for old, new in replaced.items():
        text = text.replace(old, new)
    return yaml.safe_load(text)


def failing(site, hosts, steps, **variables):
    """What such a run says, with its lines put together again."""
    done = site.run([{"hosts": hosts, "gather_facts": False, "tasks": steps}], "-vvv", path=site.folder, **variables)
    assert done.returncode != 0
    assert SECRET not in done.stdout + done.stderr
    return " ".join(done.stdout.split())


@pytest.mark.skipif(Path("/etc/kubernetes/pki/ca.crt").exists(), reason="this machine is a control plane")
def test_a_worker_that_gets_no_token_says_why(site):
    said = failing(site, "worker1", tasks("kubeadm/tasks/enter.yml")[:1], cluster_control_plane_host="cp1", kubeadm_token_ttl=20)
    assert "worker1 gets no token to join with from cp1: There is no /etc/kubernetes/pki/ca.crt: this host is no control plane." in said


def test_a_kubeconfig_that_cannot_be_written_says_why(site):
    (site.folder / "admin.conf").write_text(f"client-key-data: {SECRET}\n")
    steps = tasks("kubeadm/tasks/kubeconfig.yml", **{"/etc/kubernetes/admin.conf": str(site.folder / "admin.conf")})[1:]
    there = site.folder / "nowhere" / "config"
    said = failing(site, "cp1", steps, kubeadm_controller_kubeconfig=str(there), kubeadm_controller_server="https://192.0.2.1:6443")
    assert f"kubeadm_controller_kubeconfig: {there} could not be written: Destination directory {there.parent} does not exist" in said


def test_a_mirror_of_charts_that_helm_cannot_use_says_why(site):
    (site.folder / "helm").write_text(
        "#!/bin/sh\ncat > /dev/null\necho 'Error: failed to fetch https://mirror.example.org/charts/index.yaml : 401 Unauthorized' >&2\nexit 1\n"
    )
    (site.folder / "helm").chmod(0o755)
    charts = {"url": "https://mirror.example.org/charts", "username": "lab", "password": SECRET}
    (site.folder / "group_vars").mkdir()
    (site.folder / "group_vars" / "all.yml").write_text(yaml.safe_dump({"cluster_mirrors": {"charts": charts}}))
    said = failing(site, "cp1", [{"ansible.builtin.include_role": {"name": "fpga.hybrid.helm", "tasks_from": "mirror"}}])
    assert "cluster_mirrors.charts: helm cannot use https://mirror.example.org/charts: Error: failed to fetch" in said
    assert "401 Unauthorized. Check its url, ca, username and password." in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "File not found: {file} on cp1; expected a file there with section [default] and in it aws_access_key_id"),
        (f"AWS_SECRET_ACCESS_KEY={SECRET}\n", "it is no credentials file (MissingSectionHeaderError); expected section [default] with aws_access_key_id"),
        (f"[default]\naws_secret_access_key = {SECRET}\n", "section default has no aws_access_key_id; expected section [default] with"),
    ],
)
def test_a_key_of_the_autoscaler_that_is_none_says_why(site, text, said):
    key = site.folder / "autoscaler.aws"
    if text is not None:
        key.write_text(text)
    variables = {"__autoscaler_key_file": str(key), "autoscaler_secret": "cluster-autoscaler-aws"}
    found = failing(site, "cp1", tasks("autoscaler/tasks/secret.yml")[:3], **variables)
    assert f"cluster_aws_credentials.autoscaler: {said.format(file=key)}" in found
