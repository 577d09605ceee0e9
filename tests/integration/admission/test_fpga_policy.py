# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real API server makes of pods and Jobs under the policies of role fpga_policy."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._fpga_policy import SAFE_TO_EVICT, objects, parse_policy
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import ServerSideApply
from tests.integration.admission.server import ApiServer, RefusedError, wait_for

Object = dict[str, Any]

ALONE = "inaccel.com/alone"
CATALOGUE = {
    "com.inaccel.xgboost.exact": {"resource": "inaccel.com/xgboost.exact", "replicas": {"u250": 4}},
    "com.inaccel.alone": {"resource": ALONE, "replicas": {"u250": 4, "u50": 2}, "shared": False},
}
POOLS = [{"name": "own", "resources": {"cpu": "4", "vendor.example/card": "1"}}]
POLICY = parse_policy(CATALOGUE, POOLS, ["site.example/*", "site2.example/fpga"], "30m", "24h")
ADVISED = "advised"  # a namespace under the policies of clusters whose API server cannot change pods

BOARD = {"xilinx/u250": "1"}
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
POOL_TOLERATION = {"key": "fpga.hybrid/fpga", "operator": "Exists", "effect": "NoSchedule"}
ON_PREM = {"weight": 100, "preference": {"matchExpressions": [{"key": "fpga.hybrid/pool", "operator": "DoesNotExist"}]}}


def outage(seconds: int) -> list[Object]:
    return [{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds} for key in (NOT_READY, UNREACHABLE)]


def pod(limits: Object | None = None, *, metadata: Object | None = None, init: Object | None = None, **spec: Any) -> Object:
    """limits of its container, init of an init container; without both it asks for nothing."""
    container: Object = {"name": "main", "image": "example.org/job:1"}
    spec["containers"] = [{**container, "resources": {"limits": limits}} if limits else container, {**container, "name": "beside"}]
    if init:
        spec["initContainers"] = [{**container, "name": "before", "resources": {"limits": init}}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-", **(metadata or {})}, "spec": spec}


def job(limits: Object, *, template: Object | None = None, **spec: Any) -> Object:
    inner = pod(limits, restartPolicy="Never", **(template or {}))["spec"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "j-"}, "spec": {"template": {"spec": inner}, **spec}}


def annotation(made: Object) -> str | None:
    return (made["metadata"].get("annotations") or {}).get(SAFE_TO_EVICT)


def tolerations(made: Object, key: str) -> list[Object]:
    return [toleration for toleration in made["spec"]["tolerations"] if toleration.get("key") == key]


def preferences(made: Object) -> list[Object] | None:
    return made["spec"].get("affinity", {}).get("nodeAffinity", {}).get("preferredDuringSchedulingIgnoredDuringExecution")


def untouched(made: Object) -> bool:
    return (
        annotation(made) is None
        and "affinity" not in made["spec"]
        and "activeDeadlineSeconds" not in made["spec"]
        and made["spec"]["tolerations"] == outage(300)
    )


def bound(policies: list[Object], operator: str) -> list[Object]:
    """The bindings in or outside of the advised namespace, so that one server does for all."""
    found = copy.deepcopy(policies)
    for value in found:
        if value["kind"].endswith("Binding"):
            selector = {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": operator, "values": [ADVISED]}]}
            value["spec"]["matchResources"] = {"namespaceSelector": selector}
    return found


def without_tolerations() -> list[Object]:
    """Somebody else's policy, which takes the defaults away from pods with a label, as if their plug-in were off.

    Before or after ours: an API server takes policies in an order that is another one each time (policy_source.go ranges over a map).

    Of a pod without an FPGA they come back when the chain runs again, so the label tells that it did its work.
    """
    api = "admissionregistration.k8s.io/v1"
    take = '[JSONPatch{op: "remove", path: "/spec/tolerations"}, JSONPatch{op: "replace", path: "/metadata/labels/bare", value: "done"}]'
    spec: Object = {
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
        "matchConditions": [{"name": "labelled", "expression": "object.metadata.?labels.?bare.orValue('done') != 'done'"}],
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": take}}],
    }
    policy = {"apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": {"name": "a-bare"}, "spec": spec}
    return [policy, {**policy, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": "a-bare"}}]


@pytest.fixture(scope="module", autouse=True)
def policies(api: ApiServer) -> None:
    """Applied as the role does, and waited for: an API server takes them up within a second or two."""
    mutating = objects(POLICY, "mutating")
    validating = [value for value in objects(POLICY, "validating") if value not in mutating]
    apply = ServerSideApply(api.kubectl())
    wanted = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ADVISED}},
        *without_tolerations(),
        *bound(mutating, "NotIn"),
        *bound(validating, "In"),
    ]
    plan = apply.plan(wanted)
    assert len(plan.created) == len(wanted)
    apply.apply(wanted, plan)
    assert not apply.plan(wanted).changed, "a second run would change something"
    wait_for(lambda: annotation(api.create(pod(BOARD))) == "false", "the policy for pods")
    wait_for(lambda: "activeDeadlineSeconds" in api.create(job(BOARD))["spec"], "the policy for Jobs")
    wait_for(lambda: api.create(pod(metadata={"labels": {"bare": "no"}}))["metadata"]["labels"] == {"bare": "done"}, "the other one's policy")
    wait_for(lambda: refused(api, pod(BOARD)) is not None, "the policy that refuses")
    wait_for(lambda: part_refused(api, {ALONE: "1"}) is not None, "the policy of whole boards")
    wait_for(lambda: bool(advice(api, pod(BOARD, metadata={"annotations": {SAFE_TO_EVICT: "false"}}))), "the policy that advises")


# --- who is meant


@pytest.mark.parametrize(
    "resource",
    [
        "xilinx/u250",
        "xilinx/aws-vu47p-f2",
        "inaccel.com/xgboost.exact",  # the catalogue's
        "vendor.example/card",  # of a pool's own device plugin
        "site.example/anything",
        "site2.example/fpga",
        "amd.com/xilinx_u250_gen3x16_xdma_base_4-0",
        "amd.com/ama_u30",
        "amd.com/MA35",
        "xilinx.com/fpga-xilinx_u200_xdma_201830_2-1535712995",
    ],
)
def test_a_pod_that_asks_for_an_fpga_is_protected_by_any_of_its_names(api, resource):
    made = api.create(pod({resource: "1"}))
    assert annotation(made) == "false"
    assert made["spec"]["tolerations"] == [*outage(1800), POOL_TOLERATION]
    assert preferences(made) == [ON_PREM]


@pytest.mark.parametrize("resource", ["amd.com/gpu", "nvidia.com/gpu", "inaccel.com/other", "site2.example/fpga2", "xilinx.example/u250"])
def test_a_pod_that_asks_for_other_devices_is_untouched(api, resource):
    assert untouched(api.create(pod({resource: "1"}, restartPolicy="Never")))


def test_a_pod_without_an_fpga_is_untouched(api):
    assert untouched(api.create(pod(restartPolicy="Never")))
    assert untouched(api.create(pod({"cpu": "30"}, restartPolicy="Never")))


def test_an_amount_of_nothing_is_no_fpga(api):
    assert untouched(api.create(pod({"xilinx/u250": "0"}, restartPolicy="Never")))


def test_an_init_container_s_fpga_counts(api):
    made = api.create(pod(init=BOARD, restartPolicy="Never"))
    assert annotation(made) == "false"
    assert made["spec"]["activeDeadlineSeconds"] == 86400


def test_any_container_s_fpga_counts(api):
    given = pod()
    given["spec"]["containers"][1]["resources"] = {"limits": BOARD, "requests": BOARD}
    assert annotation(api.create(given)) == "false"


def test_a_static_pod_s_image_is_untouched(api):
    """Only kubelets make them, and what they made may not be changed."""
    mirror = pod(BOARD, metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}, nodeName="cp1")
    assert annotation(api.create(mirror)) is None


# --- what the pod says itself


@pytest.mark.parametrize("said", ["true", "false", ""])
def test_a_pod_that_says_whether_it_may_be_evicted_keeps_it(api, said):
    assert annotation(api.create(pod(BOARD, metadata={"annotations": {SAFE_TO_EVICT: said}}))) == said


def test_other_annotations_stay(api):
    made = api.create(pod(BOARD, metadata={"annotations": {"example.org/team": "fpga"}}))
    assert made["metadata"]["annotations"] == {"example.org/team": "fpga", SAFE_TO_EVICT: "false"}


def test_own_tolerations_stay_in_their_place_and_for_their_time(api):
    own = [
        {"key": "example.org/mine", "operator": "Equal", "value": "x", "effect": "NoSchedule"},
        {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
    ]
    made = api.create(pod(BOARD, tolerations=own))
    assert made["spec"]["tolerations"] == [*own, outage(1800)[0], POOL_TOLERATION]


def test_who_tolerates_an_outage_for_ever_is_believed(api):
    own = {"key": NOT_READY, "operator": "Exists"}
    made = api.create(pod(BOARD, tolerations=[own]))
    assert tolerations(made, NOT_READY) == [own]
    assert tolerations(made, UNREACHABLE) == [outage(1800)[1]]


def test_who_tolerates_everything_gets_no_more(api):
    made = api.create(pod(BOARD, tolerations=[{"operator": "Exists"}]))
    assert made["spec"]["tolerations"] == [{"operator": "Exists"}]


@pytest.mark.parametrize("own", [{"key": "fpga.hybrid/fpga", "operator": "Exists"}, {"key": "fpga.hybrid/fpga", "operator": "Equal", "effect": "NoSchedule"}])
def test_who_tolerates_the_pool_gets_no_second_toleration(api, own):
    assert len(tolerations(api.create(pod(BOARD, tolerations=[own])), "fpga.hybrid/fpga")) == 1


def test_a_toleration_of_another_effect_is_not_the_pool_s(api):
    own = {"key": "fpga.hybrid/fpga", "operator": "Exists", "effect": "NoExecute"}
    assert tolerations(api.create(pod(BOARD, tolerations=[own])), "fpga.hybrid/fpga") == [own, POOL_TOLERATION]


def test_own_preferences_stay_alone(api):
    own = {"weight": 1, "preference": {"matchExpressions": [{"key": "fpga.hybrid/pool", "operator": "Exists"}]}}
    assert preferences(api.create(pod(BOARD, affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [own]}}))) == [own]


def test_a_demand_stays_and_the_preference_stands_beside_it(api):
    required = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["room"]}]}]}
    made = api.create(pod(BOARD, affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}))
    assert made["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] == required
    assert preferences(made) == [ON_PREM]


def test_an_affinity_to_pods_stays_and_the_preference_stands_beside_it(api):
    apart = {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}]}
    made = api.create(pod(BOARD, affinity={"podAntiAffinity": apart}))
    assert made["spec"]["affinity"]["podAntiAffinity"] == apart
    assert preferences(made) == [ON_PREM]


@pytest.mark.parametrize("affinity", [{}, {"nodeAffinity": {}}, {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}])
def test_an_affinity_that_says_nothing_is_filled(api, affinity):
    assert preferences(api.create(pod(BOARD, affinity=affinity))) == [ON_PREM]


def test_lists_that_are_not_there_are_made(api):
    """No annotations, no tolerations, no affinity: as where DefaultTolerationSeconds is switched off."""
    made = api.create(pod(BOARD, metadata={"labels": {"bare": "no"}}))
    assert made["metadata"]["labels"] == {"bare": "done"}
    assert {one["key"]: one for one in made["spec"]["tolerations"]} == {one["key"]: one for one in [POOL_TOLERATION, *outage(1800)]}
    assert len(made["spec"]["tolerations"]) == 3
    assert (annotation(made), preferences(made)) == ("false", [ON_PREM])


# --- deadlines


@pytest.mark.parametrize("restart_policy", ["Never", "OnFailure"])
def test_a_pod_that_may_end_gets_a_deadline(api, restart_policy):
    assert api.create(pod(BOARD, restartPolicy=restart_policy))["spec"]["activeDeadlineSeconds"] == 86400


def test_a_pod_that_runs_always_gets_none_and_the_rest(api):
    made = api.create(pod(BOARD, restartPolicy="Always"))
    assert "activeDeadlineSeconds" not in made["spec"]
    assert annotation(made) == "false"


def test_a_pod_s_own_deadline_stays(api):
    assert api.create(pod(BOARD, restartPolicy="Never", activeDeadlineSeconds=60))["spec"]["activeDeadlineSeconds"] == 60


def owner(api_version: str, kind: str) -> Object:
    return {"ownerReferences": [{"apiVersion": api_version, "kind": kind, "name": "x", "uid": "00000000-0000-0000-0000-000000000001", "controller": True}]}


def test_a_job_s_pod_gets_no_deadline_of_its_own(api):
    """It would only make the Job start the next one."""
    made = api.create(pod(BOARD, metadata=owner("batch/v1", "Job"), restartPolicy="Never"))
    assert "activeDeadlineSeconds" not in made["spec"]
    assert annotation(made) == "false"


def test_a_pod_of_another_kind_of_job_gets_one(api):
    """Nobody else knows a deadline for it."""
    made = api.create(pod(BOARD, metadata=owner("kubeflow.example/v1", "Job"), restartPolicy="Never"))
    assert made["spec"]["activeDeadlineSeconds"] == 86400


def test_a_job_gets_the_deadline_and_its_template_stays(api):
    made = api.create(job(BOARD))
    assert made["spec"]["activeDeadlineSeconds"] == 86400
    template = made["spec"]["template"]
    assert "activeDeadlineSeconds" not in template["spec"]
    assert not {"affinity", "tolerations"} & set(template["spec"])
    assert SAFE_TO_EVICT not in (template["metadata"].get("annotations") or {})


def test_a_job_whose_init_container_asks_gets_it_too(api):
    assert api.create(job({}, template={"init": BOARD}))["spec"]["activeDeadlineSeconds"] == 86400


def test_a_job_s_own_deadline_stays(api):
    assert api.create(job(BOARD, activeDeadlineSeconds=60))["spec"]["activeDeadlineSeconds"] == 60


def test_a_deadline_of_the_job_s_pods_is_a_decision_too(api):
    made = api.create(job(BOARD, template={"activeDeadlineSeconds": 60}))
    assert "activeDeadlineSeconds" not in made["spec"]
    assert made["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 60


def test_a_job_without_an_fpga_is_untouched(api):
    assert "activeDeadlineSeconds" not in api.create(job({"cpu": "1"}))["spec"]


# --- clusters whose API server cannot change pods


def create_advised(api: ApiServer, value: Object) -> tuple[Object, list[str]]:
    return api.ask("POST", f"/api/v1/namespaces/{ADVISED}/pods", value)


def refused(api: ApiServer, value: Object) -> str | None:
    try:
        create_advised(api, value)
    except RefusedError as error:
        return str(error)
    return None


def advice(api: ApiServer, value: Object) -> list[str]:
    return create_advised(api, value)[1]


def test_a_pod_that_does_not_say_whether_it_may_be_moved_is_refused_with_what_to_write(api):
    message = refused(api, pod(BOARD)) or ""
    assert 'Write metadata.annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "false"}' in message
    assert 'or "true" if it may be ended at any time' in message


@pytest.mark.parametrize("said", ["true", "false"])
def test_a_pod_that_says_it_is_taken_with_advice_on_the_rest(api, said):
    warnings = "\n".join(advice(api, pod(BOARD, metadata={"annotations": {SAFE_TO_EVICT: said}}, restartPolicy="Never")))
    for text in (POOL_TOLERATION["key"], NOT_READY, UNREACHABLE, "tolerationSeconds: 1800", "without label fpga.hybrid/pool", "activeDeadlineSeconds: 86400"):
        assert text in warnings


def test_a_pod_that_says_everything_is_taken_without_a_word(api):
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [ON_PREM]}}
    complete = pod(
        BOARD,
        metadata={"annotations": {SAFE_TO_EVICT: "false"}},
        tolerations=[POOL_TOLERATION, *outage(1800)],
        affinity=affinity,
        activeDeadlineSeconds=60,
        restartPolicy="Never",
    )
    assert advice(api, complete) == []


def test_advice_is_for_pods_with_an_fpga_only(api):
    made, warnings = create_advised(api, pod(restartPolicy="Never"))
    assert (untouched(made), warnings) == (True, [])


# --- boards that are not shared


def part_refused(api: ApiServer, limits: Object, **where: Any) -> str | None:
    try:
        api.create(pod(limits, **where))
    except RefusedError as error:
        return str(error)
    return None


@pytest.mark.parametrize("amount", ["1", "2", "3", "5", "6"])
def test_a_part_of_a_board_that_is_not_shared_is_refused_with_what_to_write(api, amount):
    for where in ({"limits": {ALONE: amount}}, {"limits": None, "init": {ALONE: amount}}):
        message = part_refused(api, **where) or ""
        assert f"Boards of {ALONE} are not shared between pods" in message
        assert "a container asks for whole ones: a multiple of 4. Write that" in message


@pytest.mark.parametrize("limits", [{ALONE: "4"}, {ALONE: "8"}, {ALONE: "0"}, {ALONE: "1k"}, {"inaccel.com/xgboost.exact": "1"}, BOARD])
def test_whole_boards_and_what_is_shared_are_taken(api, limits):
    assert part_refused(api, limits) is None


# --- other forms


def test_the_beta_form_is_taken_where_it_is_served(api):
    """1.35 with its feature gate; this server is a 1.36 that was told to serve it."""
    mutating = [value for value in objects(POLICY, "mutating_v1beta1") if value["kind"].startswith("Mutating")]
    beta = [{**value, "metadata": {"name": f"beta-{value['metadata']['name']}"}} for value in mutating]
    assert {value["apiVersion"] for value in beta} == {"admissionregistration.k8s.io/v1beta1"}
    for value in beta:
        place = "mutatingadmissionpolicies" if value["kind"] == "MutatingAdmissionPolicy" else "mutatingadmissionpolicybindings"
        made, _warnings = api.ask("POST", f"/apis/admissionregistration.k8s.io/v1beta1/{place}?dryRun=All&fieldValidation=Strict", value)
        assert made["spec"].items() >= {key: inner for key, inner in value["spec"].items() if key in ("policyName", "mutations", "matchConditions")}.items()
