# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Cluster Autoscaler's settings as values of upstream's chart, and as objects of our own where there is no helm. Both make the same pod."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import base64
import copy
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _aws_key_file
from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler import (
    CLOUD_CONFIG,
    NAME,
    NAMESPACE,
    SECRET_KEYS,
    AutoscalerError,
    Settings,
    upstream,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._chart_values import merged, unknown, value_problems
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

Object = dict[str, Any]

CONFIG_MAP = f"{NAME}-cloud-config"
CONFIGURATION_ANNOTATION, SECRET_ANNOTATION = "fpga.hybrid/configuration", "fpga.hybrid/secret"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
#: Those of the chart, so that one method can take the other's place: a Deployment's selector cannot be changed.
LABELS = {"app.kubernetes.io/instance": NAME, "app.kubernetes.io/name": f"aws-{NAME}"}

_HELPER_PORT = 9911
_HELPER_FOLDER = "/var/run/roles-anywhere"

#: Values of the chart that are refused, because something else says them, or because a secret would stand in them.
_OURS = {
    "awsAccessKeyID": "Put it into the Secret (autoscaler_secret).",
    "awsSecretAccessKey": "Put it into the Secret (autoscaler_secret).",
    "secretKeyRefNameOverride": "Use autoscaler_secret.",
    "image.tag": "Use autoscaler_version.",
    "image.repository": "Use autoscaler_image.",
    "extraArgs": "Use autoscaler_extra_args.",
    "customArgs": "Use autoscaler_extra_args.",
    "cloudProvider": "It is always aws.",
    "cloudConfigPath": "Use autoscaler_endpoints.",
    "awsRegion": "It is cluster_aws_region.",
    "autoDiscovery": "It follows from cluster_name and the cluster's id.",
    "autoscalingGroups": "Groups are found by their tags.",
    "fullnameOverride": "Others know it by its name.",
    "nameOverride": "Others know it by its name.",
}


# --- the pod, as both methods have it -----------------------------------------------------------------------------------------------------------


def _environment(settings: Settings) -> dict[str, str]:
    source = settings.credentials.kind
    if source == "roles_anywhere":
        metadata = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{_HELPER_PORT}/"}
    else:
        # On-prem nobody answers, and another cloud's service is not AWS'.
        metadata = {"AWS_EC2_METADATA_DISABLED": "true"} if source == "secret" else {}
    return {**metadata, **settings.environment}


def _from_secret(settings: Settings) -> dict[str, Object]:
    """Environment variable -> key of the Secret."""
    if settings.credentials.kind != "secret":
        return {}
    return {name: {"name": settings.credentials.secret, "key": name} for name in SECRET_KEYS["secret"]}


def _volumes(settings: Settings) -> list[Object]:
    volumes: list[Object] = []
    if settings.endpoints:
        volumes.append({"name": "cloud-config", "configMap": {"name": CONFIG_MAP}})
    if settings.credentials.kind == "roles_anywhere":
        volumes.append({"name": "roles-anywhere", "secret": {"secretName": settings.credentials.secret, "defaultMode": 0o440}})
    return volumes


def _mounts(settings: Settings) -> list[Object]:
    return [{"name": "cloud-config", "mountPath": CLOUD_CONFIG.rpartition("/")[0], "readOnly": True}] if settings.endpoints else []


def _side_cars(settings: Settings) -> list[Object]:
    """AWS' signing helper, which answers as instance metadata does: an init container that stays, since the chart takes no further containers."""
    if settings.credentials.kind != "roles_anywhere":
        return []
    given = settings.credentials.roles_anywhere
    options = {
        "certificate": f"{_HELPER_FOLDER}/tls.crt",
        "private-key": f"{_HELPER_FOLDER}/tls.key",
        "trust-anchor-arn": given["trust_anchor_arn"],
        "profile-arn": given["profile_arn"],
        "role-arn": given["role_arn"],
        "port": str(_HELPER_PORT),
    }
    return [
        {
            "name": "roles-anywhere",
            "image": given["image"],
            "restartPolicy": "Always",
            "command": ["aws_signing_helper", "serve", *(word for name, value in options.items() for word in (f"--{name}", value))],
            "securityContext": _container_security(),
            "volumeMounts": [{"name": "roles-anywhere", "mountPath": _HELPER_FOLDER, "readOnly": True}],
        }
    ]


def _annotations(settings: Settings) -> dict[str, str]:
    """What pods read when they start: with a new one they start anew."""
    found = {}
    if settings.endpoints:
        found[CONFIGURATION_ANNOTATION] = hashlib.sha256(settings.cloud_config().encode()).hexdigest()
    if settings.credentials.revision:
        found[SECRET_ANNOTATION] = settings.credentials.revision
    return found


def _pod_security() -> Object:
    return {"runAsNonRoot": True, "runAsUser": 65534, "runAsGroup": 65534, "fsGroup": 65534, "seccompProfile": {"type": "RuntimeDefault"}}


def _container_security() -> Object:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


_PLACE: Object = {
    # Never on a node that it may end, and not in need of the cluster's DNS, whose pods may be what it is to find room for.
    "nodeSelector": {CONTROL_PLANE: ""},
    "tolerations": [{"key": CONTROL_PLANE, "operator": "Exists", "effect": "NoSchedule"}],
    "dnsPolicy": "Default",
    "priorityClassName": "system-cluster-critical",
}
_RESOURCES: Object = {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"memory": "600Mi"}}


# --- its key ------------------------------------------------------------------------------------------------------------------------------------


def secret(text: str, name: str) -> Object:
    """The Secret that SECRET_KEYS names, from a file as AWS' own programs have it. Raises AutoscalerError, which quotes nothing of it."""
    try:
        # In the pod the key would be good for an hour, and then be denied for ever.
        found = _aws_key_file.parse(text, lasting=True)
    except _aws_key_file.KeyFileError as error:
        raise _key_file(str(error), error.remedy) from None
    data = {name: base64.b64encode(found[key].encode()).decode() for key, name in _aws_key_file.KEYS.items()}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data}


def _key_file(found: str, remedy: str) -> AutoscalerError:
    return AutoscalerError([Problem("", "cluster_aws_credentials.autoscaler", found, _aws_key_file.EXPECTED, remedy)])


# --- the chart ----------------------------------------------------------------------------------------------------------------------------------


def chart_values(settings: Settings, chart: str, extra: object) -> Object:
    """Values of upstream's chart of a recorded version, the user's above ours. Raises AutoscalerError for what the chart does not know."""
    known = upstream()["autoscaler_known_values"]
    if chart not in known:
        problem = Problem("", "autoscaler_chart_version", f"found {chart}", f"one of {', '.join(known)}, whose values are recorded", "Take one of those.")
        raise AutoscalerError([problem])
    problems = list(value_problems("autoscaler_extra_values", extra, known[chart], _OURS))
    if problems:
        raise AutoscalerError(problems)
    ours = _chart_values(settings)
    if lost := list(unknown(ours, known[chart])):
        raise AutoscalerError([Problem("", "autoscaler_chart_version", f"chart {chart} has no {lost[0]}", "a chart that role autoscaler knows", "Report it.")])
    return merged(ours, extra if isinstance(extra, Mapping) else {})


def _chart_values(settings: Settings) -> Object:
    values: Object = {
        "fullnameOverride": NAME,
        "cloudProvider": "aws",
        "awsRegion": settings.region,
        "autoDiscovery": {"clusterName": settings.cluster_name, "tags": list(settings.discovery_tags)},
        "image": {"repository": settings.image, "tag": settings.tag},
        "extraArgs": dict(_chart_args(settings)),
        "extraEnv": _environment(settings),
        "extraEnvSecrets": _from_secret(settings),
        "extraVolumes": _volumes(settings),
        "extraVolumeMounts": _mounts(settings),
        "initContainers": _side_cars(settings),
        "podAnnotations": _annotations(settings),
        "resources": _RESOURCES,
        "securityContext": _pod_security(),
        "containerSecurityContext": _container_security(),
        "updateStrategy": {"type": "Recreate"},
        **_PLACE,
    }
    if settings.endpoints:
        values["cloudConfigPath"] = CLOUD_CONFIG
    return copy.deepcopy({name: value for name, value in values.items() if value not in ({}, [])})


def _chart_args(settings: Settings) -> Iterator[tuple[str, str]]:
    """The chart's own way to give a flag several times is a key with something after an underscore. Texts, since helm writes large numbers as 1e+06."""
    for flag, values in settings.args.items():
        for number, value in enumerate(values):
            yield (flag if len(values) == 1 else f"{flag}_{number}"), value


# --- objects of our own -------------------------------------------------------------------------------------------------------------------------


def cloud_config_objects(settings: Settings) -> list[Object]:
    """What stands beside the chart's objects: the cloud configuration, where there is one."""
    if not settings.endpoints:
        return []
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(CONFIG_MAP), "data": {CLOUD_CONFIG.rpartition("/")[2]: settings.cloud_config()}}]


def manifest(settings: Settings) -> list[Object]:
    """The same autoscaler without helm."""
    return [*cloud_config_objects(settings), *_rights(), _deployment(settings)]


def _metadata(name: str, *, namespaced: bool = True) -> Object:
    return {"name": name, **({"namespace": NAMESPACE} if namespaced else {}), "labels": dict(LABELS)}


def _deployment(settings: Settings) -> Object:
    environment: list[Object] = [
        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "AWS_REGION", "value": settings.region},
        *({"name": name, "value": value} for name, value in _environment(settings).items()),
        *({"name": name, "valueFrom": {"secretKeyRef": key}} for name, key in _from_secret(settings).items()),
    ]
    container = {
        "name": f"aws-{NAME}",
        "image": f"{settings.image}:{settings.tag}",
        "imagePullPolicy": "IfNotPresent",
        "command": ["./cluster-autoscaler", *settings.command_line()],
        "env": environment,
        "ports": [{"containerPort": 8085, "protocol": "TCP"}],
        "livenessProbe": {"httpGet": {"path": "/health-check", "port": 8085}},
        "resources": _RESOURCES,
        "securityContext": _container_security(),
        "volumeMounts": _mounts(settings),
    }
    pod = {
        **_PLACE,
        "serviceAccountName": NAME,
        "securityContext": _pod_security(),
        "initContainers": _side_cars(settings),
        "containers": [container],
        "volumes": _volumes(settings),
    }
    return copy.deepcopy(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _metadata(NAME),
            "spec": {
                "replicas": 1,
                # It ends when AWS denies or does not answer: only one that stays counts as up.
                "minReadySeconds": 10,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": dict(LABELS)},
                "template": {"metadata": {"labels": dict(LABELS), "annotations": _annotations(settings)}, "spec": pod},
            },
        }
    )


_READ = ("get", "list", "watch")
#: What release 1.36 asks the API server for, without what is switched off. Source: cloudprovider/aws/examples and the chart's clusterrole.yaml.
_CLUSTER_RULES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("", ("events",), ("create", "patch")),
    ("", ("pods/eviction",), ("create",)),
    ("", ("pods/status",), ("update",)),
    ("", ("nodes",), (*_READ, "update")),
    ("", ("configmaps", "namespaces", "persistentvolumeclaims", "persistentvolumes", "pods", "replicationcontrollers", "services"), _READ),
    ("apps", ("daemonsets", "deployments", "replicasets", "statefulsets"), _READ),
    ("batch", ("cronjobs", "jobs"), _READ),
    ("policy", ("poddisruptionbudgets",), _READ),
    ("resource.k8s.io", ("deviceclasses", "resourceclaims", "resourceslices"), _READ),
    ("storage.k8s.io", ("csidrivers", "csinodes", "csistoragecapacities", "storageclasses", "volumeattachments"), _READ),
)


def _rights() -> list[Object]:
    cluster_rules = [{"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)} for group, resources, verbs in _CLUSTER_RULES]
    own_rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [f"{NAME}-status"], "verbs": ["delete", "get", "update"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [NAME], "verbs": ["get", "update"]},
    ]
    group = "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(NAME)},
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": _metadata(NAME, namespaced=False), "rules": cluster_rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": _metadata(NAME, namespaced=False),
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": NAME},
            "subjects": [account],
        },
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": _metadata(NAME), "rules": own_rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": _metadata(NAME),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": NAME},
            "subjects": [account],
        },
    ]
