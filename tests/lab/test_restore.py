# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/restore.md on the lab: what changed after keeper's snapshot is undone, and the cluster goes on. An instance that joined later is ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from lab.hosts import container
from lab.run import run, wait_until
from lab.settings import HOSTS
from tests.integration.admission.server import program
from tests.lab.jobs import all_gone, instances, kubectl, run_somewhere, submit
from tests.lab.scenario import KEEPER_UNIT, NAMESPACE, answers, occupied_site, on, scenario, without_unit

if TYPE_CHECKING:
    from lab.evaluate import Site

pytestmark = [pytest.mark.lab, pytest.mark.slow]

SNAPSHOTS = "/var/lib/fpga-hybrid/keeper/snapshots"
UNPACK = f"""
mkdir -m 0700 /root/restore
cd {SNAPSHOTS}/*
sha256sum --quiet --check *.tar.gz.sha256
tar --extract --gzip --file *.tar.gz --directory /root/restore
"""
STOP = """
mv /etc/kubernetes/manifests /root/restore/manifests
timeout 120 sh -c "until ! pgrep -x etcd && ! pgrep -x kube-apiserver; do sleep 2; done"
mkdir -m 0700 /var/lib/etcd.before
mv /var/lib/etcd/member /var/lib/etcd.before/
"""
#: Where nothing was restored yet, the data that were put aside are all that there is.
CLEAR = """
if [ -d /var/lib/etcd.before/member ] && [ ! -d /var/lib/etcd/member ]; then mv /var/lib/etcd.before/member /var/lib/etcd/; fi
if [ -d /root/restore/manifests ]; then mv /root/restore/manifests /etc/kubernetes/manifests; fi
rm -rf /root/restore /var/lib/etcd.before
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with occupied_site() as found:
        yield found


def shell(site: Site, script: str) -> str:
    return site.control_plane("sh", "-ec", script)


def take_snapshot(site: Site) -> None:
    """A new one now, where keeper makes one a day."""
    with without_unit(site, KEEPER_UNIT):
        shell(site, f"rm -rf {SNAPSHOTS}/*")
    wait_until(lambda: bool(shell(site, f"ls {SNAPSHOTS}/*/*.sha256 2>/dev/null || true")), seconds=60, what="keeper's snapshot", every=1)


def put_back(site: Site) -> None:
    """etcdutl is copied to the host; in etcd's own image, which the doc uses, it stands beside etcd."""
    options = shell(site, "grep -E -- '--(name|initial-cluster|initial-advertise-peer-urls)=' /etc/kubernetes/manifests/etcd.yaml")
    where = " ".join(re.findall(r"--\S+", options))
    run("podman", "cp", str(program("etcdutl")), f"{container.by_name('cp1').container}:/root/restore/etcdutl")
    shell(site, STOP)
    later = "--data-dir=/var/lib/etcd --bump-revision=1000000000 --mark-compacted"
    shell(site, f"/root/restore/etcdutl snapshot restore /root/restore/etcd.db {where} {later}")
    shell(site, "mv /root/restore/manifests /etc/kubernetes/manifests")
    wait_until(lambda: bool(answers(site)), seconds=120, what="the API server", every=2)


def restart_kubelets(site: Site) -> None:
    site.ansible("ansible", ",".join(host.name for host in HOSTS), "-m", "ansible.builtin.systemd_service", "-a", "name=kubelet state=restarted")
    for instance in site.cars.hosts():
        on(site, instance, "systemctl restart kubelet")


def clear(site: Site) -> None:
    """Also of a run that was killed; a control plane that it left stopped runs again, with the data that are there."""
    shell(site, CLEAR)
    wait_until(lambda: bool(answers(site)), seconds=120, what="the API server", every=2)
    kubectl(site, "delete", "configmap", "before", "-n", NAMESPACE, "--ignore-not-found")


def test_the_objects_of_the_snapshot_are_put_back_and_the_cluster_goes_on(site: Site) -> None:
    clear(site)
    with scenario(site, launches=1):
        try:
            kubectl(site, "create", "configmap", "before", "-n", NAMESPACE)
            take_snapshot(site)
            kubectl(site, "delete", "configmap", "before", "-n", NAMESPACE)
            submit(site, "later", 300)
            node = run_somewhere(site, "later")["later"]
            with without_unit(site, KEEPER_UNIT):
                shell(site, UNPACK)
                put_back(site)
                restart_kubelets(site)
            assert "configmap/before" in kubectl(site, "get", "configmaps", "-n", NAMESPACE, "-o", "name")
            assert "later" not in kubectl(site, "get", "jobs", "-n", NAMESPACE, "-o", "name")
            wait_until(lambda: node in instances(), seconds=60, what="the node that joined after the snapshot", every=1)
            all_gone(site)  # it has no job any more
            site.ansible("ansible-playbook", "playbooks/verify.yml")
        finally:
            clear(site)
