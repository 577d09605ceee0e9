# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Cluster Autoscaler's values rendered by the lab's helm with a double of upstream's chart, which refuses keys that upstream's does not have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _helm as helm
from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler import parse_settings, upstream
from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler_objects import chart_values, manifest
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import identity, run
from tests.unit import lab_programs
from tests.unit.plugins.module_utils.test_autoscaler import ANYWHERE, CHART, ENDPOINTS, declared

TYPES: dict[str, dict[str, Any]] = {"map": {"type": "object"}, "list": {"type": "array"}, "any": {}}
# What of upstream's templates/deployment.yaml our values go through, in its way: flags out of a mapping whose keys end at the first underscore.
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Values.fullnameOverride }}, namespace: {{ .Release.Namespace }}}
spec:
  selector: {matchLabels: {app.kubernetes.io/instance: {{ .Release.Name }}, app.kubernetes.io/name: {{ .Values.cloudProvider }}-{{ .Chart.Name }}}}
  strategy: {{ .Values.updateStrategy | toJson }}
  template:
    metadata: {annotations: {{ .Values.podAnnotations | toJson }}}
    spec:
      priorityClassName: {{ .Values.priorityClassName }}
      dnsPolicy: {{ .Values.dnsPolicy }}
      nodeSelector: {{ .Values.nodeSelector | toJson }}
      tolerations: {{ .Values.tolerations | toJson }}
      securityContext: {{ .Values.securityContext | toJson }}
      serviceAccountName: {{ .Values.fullnameOverride }}
      initContainers: {{ .Values.initContainers | toJson }}
      containers:
      - name: {{ .Values.cloudProvider }}-{{ .Chart.Name }}
        image: {{ .Values.image.repository }}:{{ .Values.image.tag }}
        command:
        - ./cluster-autoscaler
        - --cloud-provider={{ .Values.cloudProvider }}
        - --namespace={{ .Release.Namespace }}
        - --node-group-auto-discovery=asg:tag={{ tpl (join "," .Values.autoDiscovery.tags) . }}
        {{- if .Values.cloudConfigPath }}
        - --cloud-config={{ .Values.cloudConfigPath }}
        {{- end }}
        {{- range $key, $value := .Values.extraArgs }}
        - --{{ $key | mustRegexFind "^[^_]+" }}={{ $value }}
        {{- end }}
        env:
        - {name: AWS_REGION, value: {{ .Values.awsRegion }}}
        {{- range $key, $value := .Values.extraEnv }}
        - {name: {{ $key }}, value: "{{ $value }}"}
        {{- end }}
        {{- range $key, $value := .Values.extraEnvSecrets }}
        - {name: {{ $key }}, valueFrom: {secretKeyRef: {{ $value | toJson }}}}
        {{- end }}
        resources: {{ .Values.resources | toJson }}
        securityContext: {{ .Values.containerSecurityContext | toJson }}
        volumeMounts: {{ .Values.extraVolumeMounts | toJson }}
      volumes: {{ .Values.extraVolumes | toJson }}
"""


def schema(known: Mapping[str, Any] | str) -> dict[str, Any]:
    """The recorded keys, and no others."""
    if isinstance(known, str):
        return TYPES.get(known, {"type": known})
    return {"type": "object", "additionalProperties": False, "properties": {key: schema(inner) for key, inner in known.items()}}


@pytest.fixture
def double(tmp_path, monkeypatch) -> Path:
    """A folder with the double; the lab's helm and kubectl on PATH, without anybody's settings."""
    lab_programs.use(monkeypatch, tmp_path, "helm", "kubectl")
    description = {"apiVersion": "v2", "name": "cluster-autoscaler", "version": CHART, "description": "A double of fpga.hybrid's tests, not upstream's chart."}
    files = {
        "Chart.yaml": json.dumps(description),
        # What it is without: empty, as upstream's.
        "values.yaml": json.dumps({"extraVolumes": [], "extraVolumeMounts": [], "initContainers": [], "podAnnotations": {}, "priorityClassName": ""}),
        "values.schema.json": json.dumps(schema(upstream()["autoscaler_known_values"][CHART])),
        "templates/deployment.yaml": DEPLOYMENT,
    }
    for name, text in files.items():
        path = tmp_path / "cluster-autoscaler" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "cluster-autoscaler"


def rendered(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    chart = helm.Chart("cluster-autoscaler", str(folder), CHART, namespace="kube-system", values=values)
    (deployment,) = helm.render(run, chart)
    return deployment


def comparable(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """A Deployment's pod and selector without order where there is none, and without what is empty."""
    spec = deployment["spec"]["template"]["spec"]
    container = {key: value for key, value in spec["containers"][0].items() if key not in ("imagePullPolicy", "ports", "livenessProbe")}
    container["command"] = sorted(container["command"])
    container["env"] = sorted((entry for entry in container["env"] if entry["name"] != "POD_NAMESPACE"), key=lambda entry: str(entry["name"]))
    pod = {**spec, "containers": [{key: value for key, value in container.items() if value}]}
    return {
        "pod": {key: value for key, value in pod.items() if value},
        "annotations": deployment["spec"]["template"]["metadata"]["annotations"],
        "selector": deployment["spec"]["selector"],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"endpoints": ENDPOINTS, "extra_args": {"balancing-ignore-label": ["a", "b"], "v": 2}, "max_nodes_total": 1_000_000},
        {"credentials": {"kind": "roles_anywhere", "roles_anywhere": ANYWHERE}, "proxy": {"https": "http://proxy:3128", "no_proxy": ["10.96.0.0/12", ".svc"]}},
        {"credentials": {"kind": "none"}},
    ],
)
def test_chart_and_manifest_make_the_same_pod(double, changes):
    settings = parse_settings(declared(**changes))
    (ours,) = (value for value in manifest(settings) if value["kind"] == "Deployment")
    assert comparable(rendered(double, chart_values(settings, CHART, {}))) == comparable(ours)


def test_the_double_refuses_a_key_that_was_not_recorded(double):
    values = chart_values(parse_settings(declared()), CHART, {})
    with pytest.raises(helm.HelmError, match="podLabel"):
        rendered(double, {**values, "podLabel": {}})
    with pytest.raises(helm.HelmError, match="tags"):
        rendered(double, {**values, "image": {**values["image"], "tags": "v1"}})


def test_each_object_of_the_manifest_has_a_name_of_its_own():
    names = [identity(value) for value in manifest(parse_settings(declared(endpoints=ENDPOINTS)))]
    assert len(names) == len(set(names)) == 7
