# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Cluster Autoscaler is told, and what of a declaration is refused before it is."""

from __future__ import annotations

import base64
import configparser
import json
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.filter.autoscaler_arguments import autoscaler_arguments
from ansible_collections.fpga.hybrid.plugins.filter.autoscaler_chart_values import autoscaler_chart_values
from ansible_collections.fpga.hybrid.plugins.filter.autoscaler_objects import autoscaler_objects
from ansible_collections.fpga.hybrid.plugins.filter.autoscaler_secret import autoscaler_secret
from ansible_collections.fpga.hybrid.plugins.filter.autoscaler_version import autoscaler_version
from ansible_collections.fpga.hybrid.plugins.module_utils._autoscaler import AutoscalerError, known_flags, parse_settings, resolve_version, upstream
from ansible_collections.fpga.hybrid.plugins.module_utils._versions import load_table

POOL = {"name": "f2-6xlarge", "instance_type": "f2.6xlarge", "max_size": 2, "availability_zones": ["us-east-1a"]}
POOLS = [POOL, {**POOL, "name": "f2-12xlarge", "instance_type": "f2.12xlarge", "max_size": 1}]
ENDPOINTS = {"ec2": "http://10.203.20.2:5000", "autoscaling": "http://10.203.20.2:5000"}
CHART = "9.59.0"
ANYWHERE = {"trust_anchor_arn": "arn:aws:a", "profile_arn": "arn:aws:b", "role_arn": "arn:aws:c", "image": "site.example/helper:1"}


def declared(**changes: Any) -> dict[str, Any]:
    """What role autoscaler puts together; credentials: changes of those."""
    credentials = {"kind": "secret", "secret": "cluster-autoscaler-aws", "roles_anywhere": {}, "found": None, **changes.pop("credentials", {})}
    return {
        "cluster_name": "InAccel",
        "cluster_id": "6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b",
        "region": "us-east-1",
        "minor": "1.36",
        "image": "registry.k8s.io/autoscaling/cluster-autoscaler",
        "tag": "v1.36.1",
        "pools": POOLS,
        "other_nodes": 2,
        "max_nodes_total": 0,
        "max_node_provision_time": "",
        "bootstrap_timeout": 600,
        "scan_interval": "10s",
        "scale_down_unneeded_time": "5m",
        "outage_tolerance": "30m",
        "endpoints": {},
        "proxy": {"no_proxy": ["10.96.0.0/12"]},
        "extra_args": {},
        **changes,
        "credentials": credentials,
    }


def flags(**changes: Any) -> dict[str, str]:
    words = autoscaler_arguments(declared(**changes))
    assert all(word.startswith("--") for word in words)
    return dict(word[2:].partition("=")[::2] for word in words)


def problems(**changes: Any) -> list[str]:
    with pytest.raises(AutoscalerError) as error:
        parse_settings(declared(**changes))
    return [str(problem) for problem in error.value.problems]


# --- what follows from the declaration


def test_groups_are_found_by_all_three_tags():
    assert flags()["node-group-auto-discovery"] == (
        "asg:tag=k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/InAccel=owned,fpga.hybrid/cluster-id=6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b"
    )


def test_the_tags_are_those_that_node_pool_gives_a_group():
    from ansible_collections.fpga.hybrid.plugins.module_utils._node_template_inputs import template_of

    cluster = {"name": "InAccel", "id": "6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b", "kubernetes_version": "1.36", "region": "us-east-1"}
    tags = {tag.key: tag.value for tag in template_of(POOL, cluster).group_tags(propagate_own=False)}
    wanted = flags()["node-group-auto-discovery"].removeprefix("asg:tag=").split(",")
    assert all(tags[key] == value if value else key in tags for key, _sign, value in (tag.partition("=") for tag in wanted))


def test_the_total_counts_on_prem_nodes_because_the_autoscaler_does():
    assert flags()["max-nodes-total"] == "5"
    assert flags(other_nodes=0)["max-nodes-total"] == "3"
    assert flags(max_nodes_total="4")["max-nodes-total"] == "4"


def test_a_total_that_on_prem_nodes_use_up_is_refused():
    (problem,) = problems(max_nodes_total=2)
    assert problem == (
        "autoscaler_max_nodes_total: found 2, and 2 nodes are on-prem, which count, too: no instance would ever start; expected more than 2. "
        "Take 5, or 0, which means on-prem nodes and the pools' max_size."
    )


def test_an_instance_may_take_as_long_as_bootstrap_and_its_boot():
    assert flags()["max-node-provision-time"] == "15m"
    assert flags(bootstrap_timeout="900")["max-node-provision-time"] == "20m"


@pytest.mark.parametrize("instance_type", ["f9.metal", "m5.metal-24xl"])
def test_bare_metal_boots_longer_and_the_slowest_pool_decides(instance_type):
    assert flags(pools=[POOL, {**POOL, "name": "big", "instance_type": instance_type}])["max-node-provision-time"] == "25m"
    mixed = {**POOL, "mixed": {"instance_types": [instance_type]}}
    assert flags(pools=[mixed])["max-node-provision-time"] == "25m"


def test_a_provision_time_that_ends_instances_which_are_about_to_join_is_refused():
    assert flags(max_node_provision_time="12m")["max-node-provision-time"] == "12m"
    (problem,) = problems(max_node_provision_time="10m")
    assert problem.startswith(
        "autoscaler_max_node_provision_time: found 10m, in which an instance must boot and join; expected more than the 10m that bootstrap"
    )
    assert problem.endswith("Take 15m, or leave it out.")


def test_an_idle_instance_is_not_kept_by_the_autoscaler_s_own_patience():
    told = flags()
    assert told["scale-down-unneeded-time"] == "5m"
    assert (told["unremovable-node-recheck-timeout"], told["scale-down-delay-after-add"]) == ("10s", "1m")
    assert (told["node-info-cache-expire-time"], told["skip-nodes-with-system-pods"]) == ("1m", "false")
    assert told["expander"] == "least-waste"


def test_patience_follows_a_faster_scan_and_a_shorter_idle_time():
    told = flags(scan_interval="5s", scale_down_unneeded_time="20s")
    assert (told["scan-interval"], told["unremovable-node-recheck-timeout"], told["scale-down-delay-after-add"]) == ("5s", "5s", "20s")


def test_a_node_that_is_cut_off_is_ended_only_after_its_pods_were_given_up():
    assert flags()["scale-down-unready-time"] == "35m"
    assert flags(outage_tolerance="2h")["scale-down-unready-time"] == "2h5m"


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"extra_args": {"scale-down-unready-time": "20m"}}, "autoscaler_extra_args.scale-down-unready-time"),
        (
            {"pools": [{**POOL, "tags": {"k8s.io/cluster-autoscaler/node-template/autoscaling-options/scaledownunreadytime": "20m"}}]},
            "pool f2-6xlarge, tags.k8s.io/cluster-autoscaler/node-template/autoscaling-options/scaledownunreadytime",
        ),
    ],
)
def test_an_unready_time_below_the_tolerance_is_refused_wherever_it_stands(changes, variable):
    (problem,) = problems(**changes)
    assert problem.startswith(f"{variable}: found 20m, after which an instance that is cut off is ended with the job that runs on; expected at least")
    assert flags(outage_tolerance="20m", **changes)


def test_where_aws_is_aws_there_is_no_cloud_configuration():
    assert not {"cloud-config", "aws-use-static-instance-list"} & set(flags())
    assert parse_settings(declared()).cloud_config() == ""


def test_other_endpoints_are_overrides_of_services_in_the_region():
    told = flags(endpoints=ENDPOINTS)
    assert told["cloud-config"] == "/etc/cluster-autoscaler/cloud.conf"
    assert told["aws-use-static-instance-list"] == "true"
    config = configparser.ConfigParser()
    config.optionxform = str  # type: ignore[assignment,method-assign]
    config.read_string(parse_settings(declared(endpoints=ENDPOINTS)).cloud_config())
    assert config.sections() == ["Global", 'ServiceOverride "ec2"', 'ServiceOverride "autoscaling"']
    assert dict(config['ServiceOverride "autoscaling"']) == {
        "Service": '"autoscaling"',
        "Region": '"us-east-1"',
        "URL": '"http://10.203.20.2:5000"',
        "SigningRegion": '"us-east-1"',
        "SigningMethod": '"v4"',
        "SigningName": '"autoscaling"',
    }


def test_an_endpoint_of_autoscaling_alone_leaves_instance_types_to_aws():
    assert "aws-use-static-instance-list" not in flags(endpoints={"autoscaling": "https://vpce.example"})


def test_what_would_begin_a_comment_or_end_a_text_does_not():
    url = 'https://x.example/a;b#c"d\\e'
    assert 'URL="https://x.example/a;b#c\\"d\\\\e"\n' in parse_settings(declared(endpoints={"ec2": url})).cloud_config()


# --- flags of the user's


def test_further_flags_win_over_ours_and_may_stand_several_times():
    words = autoscaler_arguments(declared(extra_args={"expander": "priority", "balancing-ignore-label": ["a", "b"], "balance-similar-node-groups": True}))
    assert "--expander=priority" in words
    assert "--expander=least-waste" not in words
    assert [word for word in words if "balanc" in word] == ["--balancing-ignore-label=a", "--balancing-ignore-label=b", "--balance-similar-node-groups=true"]


@pytest.mark.parametrize(
    ("flag", "minor", "remedy"),
    [
        ("scale-down-uneeded-tme", "1.36", "Perhaps scale-down-unneeded-time?"),
        ("--expander", "1.36", "Write expander."),
        ("max_inactivity", "1.36", "Write max-inactivity."),
        ("startup-taint-prefix", "1.35", "Perhaps startup-taint?"),  # new in 1.36
        ("zzz", "1.36", "Take it out."),
    ],
)
def test_a_flag_that_the_minor_does_not_know_is_refused_with_the_nearest(flag, minor, remedy):
    assert problems(minor=minor, extra_args={flag: "x"}) == [
        f"autoscaler_extra_args.{flag}: no flag of cluster-autoscaler {minor}; expected one that it knows: it ends at others. {remedy}"
    ]


@pytest.mark.parametrize("flag", ["cloud-provider", "namespace", "node-group-auto-discovery", "nodes", "cloud-config", "scan-interval", "max-nodes-total"])
def test_a_flag_that_is_made_is_refused_with_what_makes_it(flag):
    (problem,) = problems(extra_args={flag: "x"})
    assert problem.startswith(f"autoscaler_extra_args.{flag}: found a flag that is made; expected one that is not. ")


def test_every_flag_of_ours_is_one_that_each_minor_knows():
    for minor in ("1.35", "1.36", "1.37"):
        assert set(flags(minor=minor, endpoints=ENDPOINTS)) <= known_flags(minor)
    assert "startup-taint-prefix" in known_flags("1.38"), "what a later minor than the recorded ones knows is at least what those do"


# --- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pools": []}, "cluster_node_pools: found none; expected the pools that the autoscaler is to move"),
        ({"pools": [{**POOL, "max_sise": 2}]}, "pool f2-6xlarge, max_sise: no such key"),
        ({"region": ""}, "cluster_aws_region: found ''; expected an AWS region as us-east-1"),
        ({"scan_interval": "0s"}, "autoscaler_scan_interval: found 0s; expected at least 1s"),
        ({"scan_interval": 10}, "autoscaler_scan_interval: found 10; expected a duration as 45s, 30m or 1h30m"),
        ({"scale_down_unneeded_time": "5s"}, "autoscaler_scale_down_unneeded_time: found 5s; expected at least 10s"),
        ({"max_node_provision_time": "soon"}, "autoscaler_max_node_provision_time: found 'soon'; expected a duration"),
        ({"max_nodes_total": "many"}, "autoscaler_max_nodes_total: found 'many'; expected a whole number"),
        ({"max_nodes_total": -1}, "autoscaler_max_nodes_total: found -1; expected a whole number"),
        ({"outage_tolerance": "x"}, "cluster_fpga_outage_tolerance: found 'x'; expected a duration"),
        ({"endpoints": "http://x"}, "autoscaler_endpoints: found 'http://x'; expected service: URL"),
        (
            {"endpoints": {"autoscalling": "http://x"}},
            "autoscaler_endpoints.autoscalling: no such service is asked; expected one of ec2, autoscaling, eks. Perhaps",
        ),
        ({"endpoints": {"ec2": "x:5000"}}, "autoscaler_endpoints.ec2: found 'x:5000'; expected an URL"),
        ({"endpoints": {"ec2": "http://x\n[Global]"}}, "autoscaler_endpoints.ec2: found 'http://x\\n[Global]'; expected an URL"),
        ({"endpoints": {"ec2": "http://[x"}}, "autoscaler_endpoints.ec2: found 'http://[x'; expected an URL"),
        ({"endpoints": {"ec2": "https://me:planted@x"}}, "autoscaler_endpoints.ec2: found credentials in the URL; expected an URL without them"),
        ({"extra_args": ["--v=1"]}, "autoscaler_extra_args: found ['--v=1']; expected flag: value"),
        ({"credentials": {"kind": "roles_anywhere"}}, "autoscaler_roles_anywhere.trust_anchor_arn: found nothing; expected all of"),
        (
            {"credentials": {"kind": "roles_anywhere", "roles_anywhere": {**ANYWHERE, "role": "x"}}},
            "autoscaler_roles_anywhere.role: no such key; expected one of",
        ),
    ],
)
def test_bad_input_is_said(changes, message):
    found = problems(**changes)
    assert any(problem.startswith(message) for problem in found), found
    assert "planted" not in "".join(found)


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(AnsibleFilterError) as error:
        autoscaler_arguments(declared(region="", scan_interval="x", extra_args={"zzz": 1}))
    assert [line.partition(":")[0] for line in str(error.value).splitlines()] == [
        "- autoscaler_extra_args.zzz",
        "- autoscaler_scan_interval",
        "- cluster_aws_region",
    ]


# --- its Secret


def test_a_secret_that_is_not_there_is_refused_with_how_to_make_it():
    (problem,) = problems(credentials={"found": {"keys": None, "revision": ""}})
    assert problem == (
        "autoscaler_secret, Secret kube-system/cluster-autoscaler-aws: there is no such Secret; expected the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. "
        "Make it on the control plane: kubectl -n kube-system create secret generic cluster-autoscaler-aws --from-env-file=FILE, "
        "FILE (0600) with a line NAME=value for each; or name a file there with the key, as AWS' programs have it, and the role makes it: "
        "cluster_aws_credentials.autoscaler."
    )


KEY_FILE = "# of iam.yml\n[default]\naws_access_key_id = AKIAPLANTED\naws_secret_access_key=planted/%(x)s+=\nregion = us-east-1\n"


def test_the_key_file_becomes_the_secret_that_the_pod_reads():
    made = autoscaler_secret(KEY_FILE, "aws")
    assert made["metadata"] == {"name": "aws", "namespace": "kube-system"}
    assert {key: base64.b64decode(value).decode() for key, value in made["data"].items()} == {
        "AWS_ACCESS_KEY_ID": "AKIAPLANTED",
        "AWS_SECRET_ACCESS_KEY": "planted/%(x)s+=",
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "section default has no aws_access_key_id and no aws_secret_access_key"),
        (KEY_FILE.replace("[default]", "[autoscaler]"), "section default has no aws_access_key_id and no aws_secret_access_key"),
        (KEY_FILE.replace("aws_secret_access_key=", "secret="), "section default has no aws_secret_access_key"),
        (KEY_FILE.replace("AKIAPLANTED", ""), "section default has no aws_access_key_id"),
        (KEY_FILE + "aws_session_token = planted\n", "it has an aws_session_token, so its key ends by itself"),
        ("AWS_ACCESS_KEY_ID=planted\nAWS_SECRET_ACCESS_KEY=planted\n", "it is no credentials file (MissingSectionHeaderError)"),
        ("[default]\nplanted\n", "it is no credentials file (ParsingError)"),
    ],
)
def test_a_key_file_that_is_none_is_refused_without_a_word_of_what_stands_in_it(text, found):
    with pytest.raises(AnsibleFilterError) as error:
        autoscaler_secret(text, "aws")
    assert str(error.value).startswith(f"cluster_aws_credentials.autoscaler: {found}; expected section [default] with aws_access_key_id and")
    assert "planted" not in str(error.value).lower()


def test_a_secret_with_other_keys_is_told_apart_from_none():
    (problem,) = problems(credentials={"found": {"keys": ["AwsAccessKeyId"], "revision": "1"}})
    assert (
        "it has AwsAccessKeyId; expected the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Delete it first (kubectl -n kube-system delete secret" in problem
    )
    (problem,) = problems(credentials={"kind": "roles_anywhere", "roles_anywhere": ANYWHERE, "found": {"keys": [], "revision": "1"}})
    assert "it has no keys; expected the keys tls.crt and tls.key. Delete it first" in problem
    assert "create secret tls cluster-autoscaler-aws --cert=FILE --key=FILE" in problem


def test_a_good_secret_and_one_that_nobody_could_look_at_are_taken():
    assert (
        parse_settings(declared(credentials={"found": {"keys": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "revision": "u.7"}})).credentials.revision
        == "u.7"
    )
    assert parse_settings(declared()).credentials.revision == ""
    assert parse_settings(declared(credentials={"kind": "none", "found": {"keys": None, "revision": ""}}))


# --- version

TABLE = load_table()["autoscaler"]


def test_each_known_minor_has_a_release_and_a_newer_one_than_its_makers_have_is_said():
    assert {minor: autoscaler_version(minor)["tag"] for minor in ("1.35", "1.36", "1.37")} == {"1.35": "v1.35.2", "1.36": "v1.36.1", "1.37": "v1.36.1"}
    assert autoscaler_version("1.36")["note"] == ""
    assert autoscaler_version("1.37")["note"].startswith("autoscaler v1.36.1 with kubernetes 1.37: its makers release one for each minor, and none for 1.37")


def test_another_patch_of_the_minor_is_the_user_s_choice():
    assert autoscaler_version("1.36", "v1.36.9") == {"tag": "v1.36.9", "note": ""}
    pinned = f"v1.37.0@sha256:{'0' * 64}"
    assert autoscaler_version("1.37", pinned) == {"tag": pinned, "note": ""}


def test_a_tag_of_another_minor_is_refused_and_can_be_wanted():
    with pytest.raises(AnsibleFilterError) as error:
        autoscaler_version("1.36", "v1.35.2")
    assert str(error.value) == (
        "autoscaler_version: found v1.35.2, which imitates the scheduler of Kubernetes 1.35; expected a release of the cluster's minor, 1.36. "
        'Take v1.36.1, or say that you want it: cluster_allow_untested: ["autoscaler v1.35.2 with kubernetes 1.36"].'
    )
    allowed = autoscaler_version("1.36", "v1.35.2", ["autoscaler v1.35.2 with kubernetes 1.36"])
    assert allowed["note"].endswith("allowed by cluster_allow_untested")


@pytest.mark.parametrize(("tag", "remedy"), [("1.36.1", "Write v1.36.1."), ("latest", "Take v1.36.1."), ("v1.36", "Take v1.36.1.")])
def test_a_tag_that_is_none_is_refused(tag, remedy):
    with pytest.raises(AutoscalerError, match=r"autoscaler_version: found .*; expected a tag of upstream's image as v1\.36\.1\. ") as error:
        resolve_version(TABLE, "1.36", tag, [])
    assert str(error.value).endswith(remedy)


def test_a_minor_without_a_release_wants_one_to_be_named():
    with pytest.raises(AutoscalerError, match=r"no release is known to go with Kubernetes 1\.38"):
        resolve_version(TABLE, "1.38", "", [])
    assert resolve_version(TABLE, "1.38", "v1.38.0", []).tag == "v1.38.0"


# --- values of the chart


def values(extra: Any = None, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = autoscaler_chart_values(declared(**changes), CHART, extra)
    return found


def test_the_image_tag_is_always_set_and_no_value_is_a_secret():
    found = values()
    assert found["image"] == {"repository": "registry.k8s.io/autoscaling/cluster-autoscaler", "tag": "v1.36.1"}
    assert not {"awsAccessKeyID", "awsSecretAccessKey"} & set(found)
    assert found["extraEnvSecrets"]["AWS_SECRET_ACCESS_KEY"] == {"name": "cluster-autoscaler-aws", "key": "AWS_SECRET_ACCESS_KEY"}


def test_further_values_win_mapping_by_mapping():
    found = values({"podLabels": {"team": "fpga"}, "image": {"pullPolicy": "Always"}, "resources": {"limits": {"memory": "1Gi"}}, "tolerations": []})
    assert found["image"] == {"repository": "registry.k8s.io/autoscaling/cluster-autoscaler", "tag": "v1.36.1", "pullPolicy": "Always"}
    assert found["resources"] == {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"memory": "1Gi"}}
    assert (found["podLabels"], found["tolerations"]) == ({"team": "fpga"}, [])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"podLabel": {}}, "autoscaler_extra_values.podLabel: the chart does not know it; expected a key of the chart's values. Perhaps podLabels?"),
        ({"rbac": {"serviceAcount": {}}}, "autoscaler_extra_values.rbac.serviceAcount: the chart does not know it; expected one of create, pspEnabled"),
        ({"rbac": {"serviceAccount": {"nam": "x"}}}, "autoscaler_extra_values.rbac.serviceAccount.nam: the chart does not know it; expected one of"),
        ({"rbac": "x"}, "autoscaler_extra_values.rbac: found 'x'; expected a mapping with keys out of create,"),
        ({"replicaCount": True}, "autoscaler_extra_values.replicaCount: found True; expected a number"),
        ({"tolerations": {}}, "autoscaler_extra_values.tolerations: found {}; expected a list"),
        (
            {"awsSecretAccessKey": "x"},
            "autoscaler_extra_values.awsSecretAccessKey: found a value that is made; expected one that is not. Put it into the Secret",
        ),
        ({"image": {"tag": "v1"}}, "autoscaler_extra_values.image.tag: found a value that is made; expected one that is not. Use autoscaler_version."),
        ({"extraArgs": {}}, "autoscaler_extra_values.extraArgs: found a value that is made; expected one that is not. Use autoscaler_extra_args."),
        ([], "autoscaler_extra_values: found []; expected a mapping"),
    ],
)
def test_a_value_that_the_chart_does_not_know_is_refused_with_the_nearest(extra, message):
    with pytest.raises(AnsibleFilterError) as error:
        values(extra)
    assert str(error.value).startswith(message)


def test_a_chart_whose_values_nobody_recorded_is_refused():
    with pytest.raises(AnsibleFilterError, match=r"autoscaler_chart_version: found 9\.99\.0; expected one of 9\.59\.0, whose values are recorded"):
        autoscaler_chart_values(declared(), "9.99.0")


def test_flags_are_texts_and_several_of_a_name_have_keys_of_their_own():
    found = values(max_nodes_total=1000000, extra_args={"balancing-ignore-label": ["a", "b"]})["extraArgs"]
    assert found["max-nodes-total"] == "1000000", "helm would write the number as 1e+06"
    assert (found["balancing-ignore-label_0"], found["balancing-ignore-label_1"]) == ("a", "b")


# --- the pod


def pod(**changes: Any) -> dict[str, Any]:
    (deployment,) = (value for value in autoscaler_objects(declared(**changes), "manifest") if value["kind"] == "Deployment")
    template: dict[str, Any] = deployment["spec"]["template"]
    return template


def test_it_runs_on_the_control_plane_and_nowhere_else():
    spec = pod()["spec"]
    assert spec["nodeSelector"] == {"node-role.kubernetes.io/control-plane": ""}
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["node-role.kubernetes.io/control-plane"]


def test_keys_come_from_the_secret_and_stand_nowhere_else():
    (container,) = pod()["spec"]["containers"]
    taken = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in container["env"] if "secretKeyRef" in entry.get("valueFrom", {})}
    assert set(taken) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert not [word for word in container["command"] if "KEY" in word.upper()]


def test_a_changed_secret_or_cloud_configuration_starts_it_anew():
    keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    before = pod(credentials={"found": {"keys": keys, "revision": "u.7"}}, endpoints=ENDPOINTS)["metadata"]["annotations"]
    rotated = pod(credentials={"found": {"keys": keys, "revision": "u.8"}}, endpoints=ENDPOINTS)["metadata"]["annotations"]
    moved = pod(credentials={"found": {"keys": keys, "revision": "u.7"}}, endpoints={**ENDPOINTS, "ec2": "http://other"})["metadata"]["annotations"]
    assert before != rotated
    assert before != moved


def test_the_proxy_is_for_aws_and_not_for_the_api_server():
    env = {
        entry["name"]: entry.get("value")
        for entry in pod(proxy={"https": "http://proxy:3128", "no_proxy": ["10.96.0.0/12", ".svc"]})["spec"]["containers"][0]["env"]
    }
    assert (env["HTTPS_PROXY"], env["NO_PROXY"]) == ("http://proxy:3128", "10.96.0.0/12,.svc")
    assert "NO_PROXY" not in {entry["name"] for entry in pod()["spec"]["containers"][0]["env"]}


def test_roles_anywhere_is_a_side_car_that_stays_and_answers_as_instance_metadata():
    spec = pod(credentials={"kind": "roles_anywhere", "roles_anywhere": ANYWHERE})["spec"]
    (helper,) = spec["initContainers"]
    assert helper["restartPolicy"] == "Always"
    assert helper["command"][:2] == ["aws_signing_helper", "serve"]
    env = {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}
    assert env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == "http://127.0.0.1:9911/"
    assert not {"AWS_EC2_METADATA_DISABLED", "AWS_ACCESS_KEY_ID"} & set(env)
    assert "secret" in json.dumps(spec["volumes"])


def test_beside_the_chart_stands_only_what_the_chart_cannot_make():
    assert autoscaler_objects(declared(), "chart") == []
    (config,) = autoscaler_objects(declared(endpoints=ENDPOINTS), "chart")
    assert (config["kind"], config["metadata"]["name"]) == ("ConfigMap", "cluster-autoscaler-cloud-config")
    with pytest.raises(AnsibleFilterError, match="autoscaler_method: found 'yaml'; expected chart or manifest"):
        autoscaler_objects(declared(), "yaml")


def test_the_record_of_upstream_has_what_was_recorded():
    assert set(upstream()["autoscaler_known_values"]) == {CHART}
    assert len(known_flags("1.36")) > 150
