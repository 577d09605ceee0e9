# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role autoscaler against a real API server: its objects by server-side apply, which refuses a field that it does not know, and its calls of kubectl."""

from __future__ import annotations

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.fpga.hybrid.plugins.filter.fpga_policy import fpga_policy
from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler import parse_settings
from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler_objects import manifest, secret
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import KubeError, ServerSideApply
from tests.integration.admission.conftest import ROOT
from tests.unit.plugins.module_utils.test_autoscaler import ANYWHERE, ENDPOINTS, declared


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoints": ENDPOINTS, "credentials": {"found": {"keys": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "revision": "u.1"}}},
        {"credentials": {"kind": "roles_anywhere", "roles_anywhere": ANYWHERE}, "proxy": {"https": "http://proxy:3128", "no_proxy": [".svc"]}},
    ],
)
def test_the_manifest_is_taken_and_a_second_run_changes_nothing(api, changes):
    apply = ServerSideApply(api.kubectl())
    wanted = manifest(parse_settings(declared(**changes)))
    apply.apply(wanted, apply.plan(wanted))
    assert not apply.plan(wanted).changed


def test_a_field_that_kubernetes_does_not_know_is_refused(api):
    wanted = manifest(parse_settings(declared()))
    wanted[-1]["spec"]["template"]["spec"]["nodeSelectr"] = {}
    with pytest.raises(KubeError, match="nodeSelectr"):
        ServerSideApply(api.kubectl()).plan(wanted)


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("update", "nodes", True),
        ("create", "pods/eviction", True),
        ("watch", "pods", True),
        ("list", "resourceslices.resource.k8s.io", True),
        ("create", "leases.coordination.k8s.io", True),
        ("delete", "nodes", False),
        ("delete", "pods", False),
        ("get", "secrets", False),
    ],
)
def test_it_may_do_what_it_needs_and_no_more(api, verb, resource, allowed):
    apply = ServerSideApply(api.kubectl())
    wanted = manifest(parse_settings(declared()))
    apply.apply(wanted, apply.plan(wanted))
    account = "--as=system:serviceaccount:kube-system:cluster-autoscaler"
    resource, _slash, subresource = resource.partition("/")
    options = ["--namespace", "kube-system", f"--subresource={subresource}", account]
    _code, out, _err = api.kubectl().try_call("auth", "can-i", verb, resource, *options)
    assert (out.strip() == "yes") == allowed


def evaluated(value, **variables):
    return Templar(loader=DataLoader(), variables=variables).template(trust_as_template(value))


def test_a_secret_of_the_file_is_seen_by_its_keys_and_never_by_its_values(api):
    """What tasks/secret.yml does."""
    kubectl = api.kubectl()
    view = evaluated(yaml.safe_load((ROOT / "roles" / "autoscaler" / "vars" / "main.yml").read_text())["__autoscaler_secret_view"])
    look = ("--namespace", "kube-system", "get", "secret", "cluster-autoscaler-aws", "--output", view)
    code, _out, err = kubectl.try_call(*look)
    assert code != 0
    assert "(NotFound)" in err
    made = secret("[default]\naws_access_key_id = planted-id\naws_secret_access_key = planted-key\n", "cluster-autoscaler-aws")
    apply = ServerSideApply(kubectl)
    apply.apply([made], apply.plan([made]))
    assert not apply.plan([made]).changed
    revision, *keys = kubectl.call(*look).split()
    assert keys == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    assert "planted" not in revision


@pytest.mark.parametrize("role", ["autoscaler", "fpga_policy"])
def test_reset_names_kinds_that_there_are_and_a_second_one_finds_nothing(api, role):
    kubectl = api.kubectl()
    if role == "autoscaler":
        wanted = manifest(parse_settings(declared(endpoints=ENDPOINTS)))
        (task,) = yaml.safe_load((ROOT / "roles" / "autoscaler" / "tasks" / "reset.yml").read_text())
        argv = evaluated(
            task["ansible.builtin.command"]["argv"],
            __autoscaler_kubectl=["--namespace", "kube-system"],
            ansible_check_mode=False,
            __autoscaler_key_file="/root/autoscaler.aws",
            autoscaler_secret="cluster-autoscaler-aws",
        )
    else:
        # Names of their own, since other tests stand on the policies themselves.
        wanted = []
        for kind in ("mutating", "validating"):
            wanted += [{**value, "metadata": {"name": f"{value['metadata']['name']}-reset"}} for value in fpga_policy({}, kind)["objects"]]
        argv = ["delete", "--ignore-not-found", *(f"{name}-reset" for name in fpga_policy({}, "none")["absent"])]
    apply = ServerSideApply(kubectl)
    apply.apply(wanted, apply.plan(wanted))
    assert len(kubectl.call(*argv).splitlines()) >= len(wanted)
    assert kubectl.call(*argv) == ""
    assert len(apply.plan(wanted).created) == len(wanted)
