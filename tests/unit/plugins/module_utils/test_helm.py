# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts rendered by the lab's helm and read by its kubectl: a double of Calico's charts as they are since 3.32, and upstream's own of 3.28.5."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from pathlib import Path

import jsonschema
import pytest
import yaml

from ansible_collections.fpga.hybrid.plugins.module_utils import _helm as helm
from ansible_collections.fpga.hybrid.plugins.module_utils._calico import Network
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import identity, run
from tests.unit import lab_programs

RELEASES = yaml.safe_load((Path(__file__).parents[4] / "roles" / "cni" / "vars" / "main.yml").read_text())["__cni_releases"]
VALUES = Network("10.244.0.0/16", 1350).chart_values
DEFINITION = "apiextensions.k8s.io/v1 CustomResourceDefinition installations.operator.tigera.io"

# What of Installation's definition our values use. As upstream's, it lets nothing pass that it doesn't name.
POOL = {
    "type": "object",
    "required": ["cidr"],
    "properties": {
        **{key: {"type": "string"} for key in ("name", "cidr", "encapsulation", "natOutgoing", "nodeSelector", "assignmentMode")},
        **{key: {"type": "boolean"} for key in ("disableBGPExport", "disableNewAllocations")},
        "allowedUses": {"type": "array", "items": {"type": "string"}},
        "blockSize": {"type": "integer"},
    },
}
NETWORK = {
    "type": "object",
    "properties": {
        "bgp": {"type": "string", "enum": ["Enabled", "Disabled"]},
        "mtu": {"type": "integer"},
        "nodeAddressAutodetectionV4": {"type": "object", "properties": {"kubernetes": {"type": "string", "enum": ["NodeInternalIP"]}}},
        "ipPools": {"type": "array", "items": POOL},
    },
}
INSTALLATION = {
    "type": "object",
    "properties": {
        "cni": {"type": "object", "properties": {"type": {"type": "string"}}},
        "calicoNetwork": NETWORK,
        "imagePullSecrets": {"type": "array", "items": {"type": "object"}},
    },
}
DOUBLE = {
    "crd.projectcalico.org.v1": {
        "templates/operator.tigera.io_installations.yaml": json.dumps(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": "installations.operator.tigera.io"},
                "spec": {
                    "group": "operator.tigera.io",
                    "names": {"kind": "Installation", "listKind": "InstallationList", "plural": "installations", "singular": "installation"},
                    "scope": "Cluster",
                    "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"properties": {"spec": INSTALLATION}}}}],
                },
            }
        ),
    },
    "tigera-operator": {
        "values.schema.json": json.dumps(
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {name: {"type": "object", "required": ["enabled"]} for name in ("installation", "apiServer", "goldmane", "whisker")},
            }
        ),
        "templates/00-uninstall.yaml": """\
apiVersion: batch/v1
kind: Job
metadata:
  name: tigera-operator-uninstall
  namespace: {{ .Release.Namespace }}
  annotations: {helm.sh/hook: pre-delete}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: cleanup, image: double}]}}}
""",
        "templates/custom-resources.yaml": """\
{{- range $kind, $key := dict "Installation" "installation" "APIServer" "apiServer" "Goldmane" "goldmane" "Whisker" "whisker" }}
{{- $given := index $.Values $key }}
{{- if $given.enabled }}
---
apiVersion: operator.tigera.io/v1
kind: {{ $kind }}
metadata: {name: default}
spec: {{ omit $given "enabled" | toJson }}
{{- end }}
{{- end }}
""",
        "templates/02-tigera-operator.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: tigera-operator, namespace: {{ .Release.Namespace }}}
spec:
  selector: {matchLabels: {name: tigera-operator}}
  template: {metadata: {labels: {name: tigera-operator}}, spec: {containers: [{name: tigera-operator, image: quay.io/tigera/operator:double}]}}
""",
    },
}


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The lab's helm and kubectl on PATH, without anybody's settings."""
    lab_programs.use(monkeypatch, tmp_path, "helm", "kubectl")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def double(tmp_path) -> Path:
    """A folder with our doubles of the two charts of Calico 3.32 and newer: definitions of kinds apart, a hook, and values that are taken literally."""
    for chart, files in DOUBLE.items():
        description = {"apiVersion": "v2", "name": chart, "version": "v3.32.1", "description": "A double of fpga.hybrid's tests, not Calico's chart."}
        for name, text in {"Chart.yaml": json.dumps(description), **files}.items():
            path = tmp_path / chart / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return tmp_path


def calico_charts(folder: Path, version: str, operator_chart: str = "tigera-operator") -> list[helm.Chart]:
    """What role cni gives to M(fpga.hybrid.kubectl_apply), with a folder for a repository."""
    crds = [RELEASES[version]["crd_chart"]] if RELEASES[version]["crd_chart"] else []
    chart = {"release": "calico", "version": version, "namespace": "tigera-operator"}
    return [helm.Chart(name=str(folder / name), **chart) for name in crds] + [helm.Chart(name=str(folder / operator_chart), values=VALUES(version), **chart)]


def strict(schema: dict) -> dict:
    """The same schema as the API server takes it in server-side apply: a field that it does not name is refused."""
    closed = {**schema, "properties": {name: strict(inner) for name, inner in schema.get("properties", {}).items()}}
    if "items" in schema:
        closed["items"] = strict(schema["items"])
    if schema.get("properties"):
        closed["additionalProperties"] = False
    return closed


def check_rendered(objects: list[dict]) -> dict:
    """What must hold of every release; returns the Installation."""
    by_name = {identity(value): value for value in objects}
    assert not [name for name, value in by_name.items() if "helm.sh/hook" in (value["metadata"].get("annotations") or {})]
    assert not [name for name in by_name if name.split()[1] in ("Job", "APIServer", "Goldmane", "Whisker")]
    assert "apps/v1 Deployment tigera-operator/tigera-operator" in by_name
    installation = by_name["operator.tigera.io/v1 Installation default"]
    (version,) = (version for version in by_name[DEFINITION]["spec"]["versions"] if version["name"] == "v1")
    jsonschema.validate(installation["spec"], strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"]))
    return installation


def test_charts_as_they_are_since_3_32_give_definitions_and_no_hook(programs, double):
    objects = [value for chart in calico_charts(double, "v3.32.1") for value in helm.render(run, chart)]
    pool = check_rendered(objects)["spec"]["calicoNetwork"]["ipPools"][0]
    assert (pool["cidr"], pool["encapsulation"], pool["assignmentMode"]) == ("10.244.0.0/16", "VXLAN", "Automatic")


def test_upstreams_chart_of_the_labs_release_gives_definitions_and_no_hook(programs):
    version = lab_programs.TABLE.versions["calico"]
    packed = lab_programs.CACHE.www / "charts" / f"tigera-operator-{version}.tgz"
    if not packed.exists():
        pytest.skip(f"the lab has not packed Calico's chart yet: `make lab` does ({packed})")
    objects = [value for chart in calico_charts(packed.parent, version, packed.name) for value in helm.render(run, chart)]
    check_rendered(objects)
    (operator,) = (value for value in objects if value["kind"] == "Deployment")
    images = [container["image"] for container in operator["spec"]["template"]["spec"]["containers"]]
    assert images == [f"quay.io/tigera/operator:{RELEASES[version]['operator']}"], "artifacts.yml lists another operator than the chart has"


def test_a_value_that_the_chart_does_not_know_is_an_error_with_what_helm_said(programs, double):
    chart = helm.Chart("calico", str(double / "tigera-operator"), "v3.32.1", values={**VALUES("v3.32.1"), "manageCrds": True})
    with pytest.raises(helm.HelmError, match=r"tigera-operator v3\.32\.1: (?s:.*)manageCrds"):
        helm.render(run, chart)


def test_a_chart_that_is_not_there_is_an_error_with_its_place(programs, tmp_path):
    with pytest.raises(helm.HelmError, match=r"cannot render chart nothing v1 of http://127\.0\.0\.1:1: "):
        helm.render(run, helm.Chart("calico", "nothing", "v1", "http://127.0.0.1:1"))


@pytest.fixture
def repository(tmp_path):
    """(folder, URL) of a chart repository that is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments):
        pass


def test_a_chart_that_came_into_the_mirror_after_helm_was_told_of_it_is_found(programs, double, repository):
    folder, url = repository
    (folder / "index.yaml").write_text("apiVersion: v1\nentries: {}\n")
    assert run(["helm", "repo", "add", "mirror", url]).code == 0
    chart = helm.Chart("calico", "mirror/tigera-operator", "v3.32.1", values=VALUES("v3.32.1"))
    with pytest.raises(helm.HelmError, match="mirror/tigera-operator v3"):
        helm.render(run, chart)
    assert run(["helm", "package", str(double / "tigera-operator"), "--destination", str(folder)]).code == 0
    assert run(["helm", "repo", "index", str(folder), "--url", url]).code == 0
    assert "operator.tigera.io/v1 Installation default" in {identity(value) for value in helm.render(run, chart)}


def test_without_helm_the_error_says_which_role_brings_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(helm.HelmError, match=r"helm is not installed here, so chart a 1 cannot be rendered\. Role fpga\.hybrid\.helm"):
        helm.render(run, helm.Chart("r", "a", "1"))


def test_values_are_not_on_the_command_line_and_a_mirrors_name_stands_for_its_url():
    command = helm.Chart("calico", "fpga-hybrid/tigera-operator", "v3.32.1", namespace="tigera-operator", values={"secret": "planted"}).command()
    assert command[:4] == ["helm", "template", "calico", "fpga-hybrid/tigera-operator"]
    assert "--repo" not in command
    assert not [word for word in command if "planted" in word]
