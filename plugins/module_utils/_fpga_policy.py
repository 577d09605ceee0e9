# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Admission policies for pods that ask for an FPGA, as objects of Kubernetes.

Neither Kubernetes nor the autoscaler knows that an FPGA can be busy: utilisation counts CPU and memory, so the autoscaler evicts a job in AWS as soon as an
on-prem board is free; a VPN outage of five minutes starts the job a second time; nothing prefers the board that is there to the instance that is paid for.
What a pod says itself always stands. Pure; the tests run it in a real API server.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._duration import EXAMPLE, DurationError, seconds
from ansible_collections.fpga.hybrid.plugins.module_utils._labels import is_extended_resource
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import NATIVE_RESOURCES, POOL_LABEL, PoolError, parse_accelerators
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem, listing
from ansible_collections.fpga.hybrid.plugins.module_utils.node_template import DEDICATED_TAINT

Object = dict[str, Any]

GROUP = "admissionregistration.k8s.io"
PODS, JOBS, REFUSAL, ADVICE = "fpga-hybrid-pods", "fpga-hybrid-jobs", "fpga-hybrid-pods-must-say", "fpga-hybrid-pods-should-say"
WHOLE_BOARDS = "fpga-hybrid-whole-boards"

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
OUTAGE_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
#: Of kube-apiserver's DefaultTolerationSeconds, which comes before any policy.
DEFAULT_TOLERATION = 300

#: Boards as we and InAccel publish them; AMD's device plugin, today's names and those before its 1.1, which change with the shell (never amd.com/gpu).
PREFIXES = ("xilinx/", "xilinx.com/fpga-", "amd.com/xilinx_", "amd.com/ama_", "amd.com/MA35")


class PolicyError(Exception):
    """Everything that is wrong with what the policy is made of."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__(str(self.problems[0]) if len(self.problems) == 1 else listing(self.problems))


@dataclass(frozen=True)
class Policy:
    """names and prefixes of FPGA resources; tolerance and deadline in seconds, deadline 0 for none.

    whole: resource that pods do not share boards of -> the copies of a whole board, of the largest one; all others divide it.
    """

    names: tuple[str, ...]
    prefixes: tuple[str, ...]
    tolerance: int
    deadline: int
    whole: Mapping[str, int] = field(default_factory=dict)

    # --- expressions (CEL) ---

    def asks(self, spec: str) -> str:
        """Whether a pod's spec asks for an FPGA in any container. An amount of 0 is none."""
        named = [f"r in {_literal(list(self.names))}"] if self.names else []
        match = " || ".join([*(f"r.startsWith({_literal(prefix)})" for prefix in self.prefixes), *named])
        return (
            f"({spec}.containers + {spec}.?initContainers.orValue([])).exists(c, "
            "[c.?resources.?limits.orValue({}), c.?resources.?requests.orValue({})].exists(amounts, "
            f'amounts.exists(r, amount, ({match}) && amount != "0")))'
        )

    def _deadline_of_a_pod(self) -> str:
        """A Job would start the next pod, so there the Job has it."""
        return (
            'object.spec.restartPolicy != "Always" && !has(object.spec.activeDeadlineSeconds) && '
            '!object.metadata.?ownerReferences.orValue([]).exists(o, o.kind == "Job" && o.apiVersion.startsWith("batch/"))'
        )

    # --- objects ---

    def _outage_advice(self, taint: str) -> str:
        toleration = f"{{key: {taint}, operator: Exists, effect: NoExecute, tolerationSeconds: {self.tolerance}}}"
        return f"tolerations: [{toleration}], else an outage of {DEFAULT_TOLERATION} s starts it a second time"

    def mutating(self, version: str) -> list[Object]:
        """One policy for pods and, with a deadline, one for Jobs; each bound to the whole cluster."""
        pods = [_NOT_EVICTED, _POOL_TOLERATED, _outage_tolerated(self.tolerance), _ON_PREM_PREFERRED]
        policies = [(PODS, _rule("", "pods"), [*_conditions(self.asks("object.spec")), _NO_MIRROR], pods)]
        if self.deadline:
            pods.append(_patch(self._deadline_of_a_pod(), [_operation("/spec/activeDeadlineSeconds", str(self.deadline))]))
            unlimited = "!has(object.spec.activeDeadlineSeconds) && !has(object.spec.template.spec.activeDeadlineSeconds)"
            jobs = [_patch(unlimited, [_operation("/spec/activeDeadlineSeconds", str(self.deadline))])]
            policies.append((JOBS, _rule("batch", "jobs"), _conditions(self.asks("object.spec.template.spec")), jobs))
        return [value for policy in policies for value in _mutating(version, *policy)]

    def whole_boards(self) -> list[Object]:
        """Allocate sees ids of devices and not the pod, so who asks for a part of a board that is not shared has to be refused before."""
        if not self.whole:
            return []
        validations = [_by_whole_boards(resource, copies) for resource, copies in sorted(self.whole.items())]
        return list(_validating(WHOLE_BOARDS, _conditions(self.asks("object.spec")), validations, ["Deny"]))

    def validating(self) -> list[Object]:
        """Where policies cannot change pods: what loses a job when it is not said is refused, the rest is advice. Both say what to write."""
        must = [(_ANNOTATED, _MUST_SAY)]
        should = [
            (
                _tolerated(DEDICATED_TAINT.key, DEDICATED_TAINT.effect),
                f"tolerations: [{{key: {DEDICATED_TAINT.key}, operator: Exists, effect: {DEDICATED_TAINT.effect}}}], else no instance is started for it",
            ),
            *((_tolerated(taint, "NoExecute", besides_the_default=True), self._outage_advice(taint)) for taint in OUTAGE_TAINTS),
            (_PREFERS, f"a preferred node affinity for nodes without label {POOL_LABEL}, else an idle on-prem board may wait while an instance is paid for"),
        ]
        if self.deadline:
            says = f"activeDeadlineSeconds: {self.deadline} in a Job's own spec or in that of a pod that may end, else it may run for ever"
            should.append((f"!({self._deadline_of_a_pod()})", says))
        conditions = [*_conditions(self.asks("object.spec")), _NO_MIRROR]
        return [
            *_validating(REFUSAL, conditions, must, ["Deny"]),
            *_validating(ADVICE, conditions, [(holds, f"This pod asks for an FPGA. Its spec should have {text}.") for holds, text in should], ["Warn"]),
        ]


# --- what is asked of a pod ---------------------------------------------------------------------------------------------------------------------


def _literal(value: str | Sequence[str]) -> str:
    """JSON's texts and lists are CEL's."""
    return json.dumps(value)


_CONTAINERS = "(object.spec.containers + object.spec.?initContainers.orValue([]))"
_TOLERATIONS = "object.spec.?tolerations.orValue([])"
_ANNOTATED = f"{_literal(SAFE_TO_EVICT)} in object.metadata.?annotations.orValue({{}})"
_PREFERS = "object.spec.?affinity.?nodeAffinity.?preferredDuringSchedulingIgnoredDuringExecution.hasValue()"
_MUST_SAY = (
    "This pod asks for an FPGA, and does not say whether it may be moved. Write "
    f'metadata.annotations: {{{SAFE_TO_EVICT}: "false"}} (in a Job, of its template), or "true" if it may be ended at any time. '
    "Without it the Cluster Autoscaler ends it as soon as a board is free elsewhere."
)
#: A static pod's image in the API: nobody may change it.
_NO_MIRROR = {"name": "no-mirror-pod", "expression": '!("kubernetes.io/config.mirror" in object.metadata.?annotations.orValue({}))'}


def _by_whole_boards(resource: str, copies: int) -> tuple[str, str]:
    """Expression and message. Requests and limits of an extended resource are equal, and limits are always there."""
    whole = f"quantity(amount).asInteger() % {copies} == 0"
    message = (
        f"Boards of {resource} are not shared between pods (cluster_accelerators: shared: false), so a container asks for whole ones: "
        f"a multiple of {copies}. Write that, or nothing of it."
    )
    return f"{_CONTAINERS}.all(c, c.?resources.?limits[?{_literal(resource)}].optMap(amount, {whole}).orValue(true))", message


def _tolerated(key: str, effect: str, *, besides_the_default: bool = False) -> str:
    """Whether a toleration covers the taint; an empty key stands for all, and so does an empty effect."""
    own = f" && !({_IS_DEFAULT})" if besides_the_default else ""
    return f'{_TOLERATIONS}.exists(t, t.?key.orValue("") in ["", {_literal(key)}] && t.?effect.orValue("") in ["", {_literal(effect)}]{own})'


#: A pod that says exactly this itself cannot be told from one that says nothing.
_IS_DEFAULT = (
    f't.?key.orValue("") in {_literal(list(OUTAGE_TAINTS))} && t.?operator.orValue("Equal") == "Exists" && t.?effect.orValue("") == "NoExecute" && '
    f"t.?tolerationSeconds.orValue(0) == {DEFAULT_TOLERATION}"
)


# --- what is made of it -------------------------------------------------------------------------------------------------------------------------


def _operation(path: str, value: str, op: str = "add") -> str:
    """path is a text, value an expression."""
    return f"JSONPatch{{op: {_literal(op)}, path: {_literal(path)}, value: {value}}}"


def _patch(condition: str, operations: Sequence[str]) -> str:
    return f"{condition} ? [{', '.join(operations)}] : []"


_A_LIST = f"(has(object.spec.tolerations) ? [] : [{_operation('/spec/tolerations', '[]')}])"
_TO_THE_LIST = "/spec/tolerations/-"

_NOT_EVICTED = (
    f"{_ANNOTATED} ? [] : (has(object.metadata.annotations) ? [] : [{_operation('/metadata/annotations', '{}')}]) + "
    f'[JSONPatch{{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey({_literal(SAFE_TO_EVICT)}), value: "false"}}]'
)

_POOL_TOLERATION = f'Object.spec.tolerations{{key: {_literal(DEDICATED_TAINT.key)}, operator: "Exists", effect: {_literal(DEDICATED_TAINT.effect)}}}'
_POOL_TOLERATED = f"{_tolerated(DEDICATED_TAINT.key, DEDICATED_TAINT.effect)} ? [] : {_A_LIST} + [{_operation(_TO_THE_LIST, _POOL_TOLERATION)}]"


def _outage_tolerated(tolerance: int) -> str:
    """The defaults get our seconds, since among several that match the shortest counts; who has none (the plug-in may be off) gets ours."""
    longer = f'JSONPatch{{op: "replace", path: "/spec/tolerations/" + string(i) + "/tolerationSeconds", value: {tolerance}}}'
    new = _operation(_TO_THE_LIST, f'Object.spec.tolerations{{key: k, operator: "Exists", effect: "NoExecute", tolerationSeconds: {tolerance}}}')
    lacking = f'!{_TOLERATIONS}.exists(t, t.?key.orValue("") in ["", k] && t.?effect.orValue("") in ["", "NoExecute"])'
    return f"{_A_LIST} + {_TOLERATIONS}.transformList(i, t, {_IS_DEFAULT}, {longer}) + {_literal(list(OUTAGE_TAINTS))}.filter(k, {lacking}).map(k, {new})"


_PREFERENCES = "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution"
_PREFERENCE = "Object.spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution"
_ON_PREM = (
    f"{_PREFERENCE}{{weight: 100, preference: {_PREFERENCE}.preference{{matchExpressions: "
    f'[{_PREFERENCE}.preference.matchExpressions{{key: {_literal(POOL_LABEL)}, operator: "DoesNotExist"}}]}}}}'
)
#: Each place on the way that is not there yet, then the one preference: a value that is a list of objects makes kube-apiserver 1.36.3 panic.
_ON_PREM_PREFERRED = (
    f"{_PREFERS} ? [] : "
    f"(has(object.spec.affinity) ? [] : [{_operation('/spec/affinity', '{}')}]) + "
    f"(object.spec.?affinity.?nodeAffinity.hasValue() ? [] : [{_operation('/spec/affinity/nodeAffinity', '{}')}]) + "
    f"[{_operation(_PREFERENCES, '[]')}, {_operation(f'{_PREFERENCES}/-', _ON_PREM)}]"
)


# --- policies and bindings ----------------------------------------------------------------------------------------------------------------------


def _conditions(asks: str) -> list[Object]:
    return [{"name": "asks-for-an-fpga", "expression": asks}]


def _rule(group: str, resource: str) -> Object:
    return {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}


def _mutating(version: str, name: str, rule: Object, conditions: list[Object], expressions: Sequence[str]) -> Iterator[Object]:
    api = f"{GROUP}/{version}"
    yield {
        "apiVersion": api,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "matchConditions": conditions,
            "failurePolicy": "Fail",
            # A later webhook may put an FPGA into a pod.
            "reinvocationPolicy": "IfNeeded",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}} for expression in expressions],
        },
    }
    yield {"apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": {"policyName": name}}


def _validating(name: str, conditions: list[Object], validations: Sequence[tuple[str, str]], actions: list[str]) -> Iterator[Object]:
    api = f"{GROUP}/v1"
    yield {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [_rule("", "pods")]},
            "matchConditions": conditions,
            "failurePolicy": "Fail",
            "validations": [{"expression": holds, "message": message} for holds, message in validations],
        },
    }
    yield {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": actions},
    }


# --- from the declaration -----------------------------------------------------------------------------------------------------------------------


def parse_policy(accelerators: Mapping[str, Any] | None, pools: Sequence[Mapping[str, Any]], further: Sequence[str], tolerance: str, deadline: str) -> Policy:
    """The catalogue's resources, those of the pools' other device plugins, and further names (or C(prefix/*)). Raises PolicyError."""
    problems: list[Problem] = []
    try:
        entries = list(parse_accelerators(accelerators).values())
    except PoolError as error:
        problems += error.problems
        entries = []
    catalogue = [entry.resource for entry in entries]
    whole = {entry.resource: max(entry.replicas.values()) for entry in entries if not entry.shared}
    own = [str(name) for pool in pools for name in (pool.get("resources") or {}) if name not in NATIVE_RESOURCES]
    names = [name for name in further if not str(name).endswith("*")]
    prefixes = [str(name)[:-1] for name in further if str(name).endswith("*")]
    for name in (*names, *(f"{prefix}x" for prefix in prefixes)):
        if not is_extended_resource(name):
            problems.append(Problem("", "fpga_policy_resources", f"found {name!r}", "names as example.org/fpga, or example.org/* for all of those", "Mend it."))
    times = {"cluster_fpga_outage_tolerance": tolerance, "cluster_fpga_pod_deadline": deadline}
    found = {}
    for variable, written in times.items():
        try:
            found[variable] = seconds(written)
        except DurationError as error:
            problems.append(Problem("", variable, str(error), EXAMPLE, "Write a unit with each number."))
    if problems:
        raise PolicyError(problems)
    everything = [name for name in dict.fromkeys((*catalogue, *own, *names)) if not name.startswith(PREFIXES)]
    return Policy(tuple(everything), (*PREFIXES, *prefixes), found["cluster_fpga_outage_tolerance"], found["cluster_fpga_pod_deadline"], whole)


def objects(policy: Policy, kind: str) -> list[Object]:
    """What is applied, by fpga_policy_kind."""
    made: dict[str, Callable[[], list[Object]]] = {
        "mutating": lambda: [*policy.mutating("v1"), *policy.whole_boards()],
        "mutating_v1beta1": lambda: [*policy.mutating("v1beta1"), *policy.whole_boards()],
        "validating": lambda: [*policy.validating(), *policy.whole_boards()],
        "none": list,
    }
    if kind not in made:
        raise PolicyError([Problem("", "fpga_policy_kind", f"found {kind!r}", f"one of {', '.join(made)}", "Mend it.")])
    return made[kind]()


def leftovers(wanted: Sequence[Mapping[str, Any]]) -> list[str]:
    """What another kind, or a deadline that is no longer there, may have left: C(kind/name) as kubectl takes it, bindings first."""
    names = {"mutating": (PODS, JOBS), "validating": (REFUSAL, ADVICE, WHOLE_BOARDS)}
    every = [f"{kind}admissionpolicy{part}/{name}" for part in ("binding", "") for kind in names for name in names[kind]]
    there = {f"{value['kind'].lower()}/{value['metadata']['name']}" for value in wanted}
    return [name for name in every if name not in there]
