# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans and what comes of them, against AWS in memory (fake_aws.py). The same against a server: tests/integration/aws."""

from __future__ import annotations

import base64
import copy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import PoolError, parse_accelerators, parse_cluster, parse_pools
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import CloudError
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_plan import Options
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_run import Run, RunError, Task
from tests.unit.plugins.module_utils.fake_aws import ACCOUNT, IMAGE, REGION, FakeAws

CLUSTER = parse_cluster({"name": "lab", "id": "id-1", "kubernetes_version": "1.36", "region": REGION, "images": {"1.36": {REGION: IMAGE}}})
SUBNETS = [f"subnet-{number}{'0' * 16}" for number in range(3)]
POOL = {"name": "f2", "instance_type": "f2.6xlarge", "max_size": 3, "availability_zones": [f"{REGION}a", f"{REGION}b"]}
OTHER = {**POOL, "name": "other", "tags": {"team": "x"}}
GROUP = "lab-f2"


@pytest.fixture
def aws():
    return FakeAws()


def task(*pools, state="present", purge=False, account=None, cluster=CLUSTER, **options):
    parsed = parse_pools(list(pools), cluster.name, names_only=state == "absent")
    return Task(cluster, parsed, parse_accelerators({}), state, purge, account, Options(**options))


def plan(aws, *pools, **more):
    aws.asked.clear()
    return Run(aws, task(*pools, **more)).plan()


def apply(aws, *pools, **more):
    aws.asked.clear()
    run = Run(aws, task(*pools, **more))
    return run.apply(run.plan())


def operations(plan):
    return [call.operation for pool in plan.pools for call in pool.calls]


# --- one property for all: what is wanted comes to be, once, whatever was there before

choices = {
    "instance_type": st.sampled_from(["f2.6xlarge", "f2.12xlarge"]),
    "max_size": st.integers(0, 5),
    "labels": st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["", "1", "2"])),
    "taints": st.lists(st.sampled_from(["a=:NoSchedule", "b=x:NoExecute", "c=:PreferNoSchedule"]), unique_by=lambda taint: taint[0]),
    "tags": st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.sampled_from(["", "1", "2"]), max_size=28),
    "spot": st.none() | st.booleans() | st.fixed_dictionaries({"max_price": st.sampled_from([1, 2])}),
    "mixed": st.none() | st.fixed_dictionaries({"on_demand_base": st.integers(0, 2)}, optional={"on_demand_percentage": st.sampled_from([0, 50])}),
    "root_volume": st.fixed_dictionaries({"size": st.sampled_from([80, 100])}, optional={"device": st.just("/dev/xvda")}),
    "security_groups": st.lists(st.sampled_from(["sg-00000001", "sg-00000002", "sg-00000003"]), unique=True),
    "propagate_template_tags": st.booleans(),
    "key_name": st.none() | st.just("admin"),
    "instance_profile": st.none() | st.sampled_from(["nodes", "arn:aws:iam::123456789012:instance-profile/nodes"]),
}
templates = st.fixed_dictionaries({}, optional=choices)
configurations = st.fixed_dictionaries(
    {"kind": st.just("launch_configuration"), "instance_type": st.sampled_from(["f1.2xlarge", "f1.4xlarge"]), "allow_retired": st.just(True)},
    optional={**{key: choices[key] for key in ("max_size", "labels", "tags", "key_name", "security_groups")}, "spot": st.just({"max_price": 1})},
)
FOREIGN = {"ResourceId": GROUP, "ResourceType": "auto-scaling-group", "Key": "backup of somebody", "Value": "no", "PropagateAtLaunch": True}


@settings(max_examples=30)
@given(st.lists(templates | configurations, min_size=1, max_size=4), st.integers(1, 3))
def test_whatever_follows_whatever_settles_in_one_run_and_leaves_others_alone(steps, keep):
    aws = FakeAws()
    apply(aws, OTHER)
    others = copy.deepcopy(aws.groups_there["lab-other"])
    for number, step in enumerate(steps):
        declared = {**POOL, **step}
        checked = plan(aws, declared, OTHER, keep_versions=keep)
        assert aws.writes == []
        assert checked == apply(aws, declared, OTHER, keep_versions=keep), "check mode told the truth"
        assert not plan(aws, declared, OTHER, keep_versions=keep).changed, "it settled"
        if number == 0:
            aws.groups_there[GROUP]["Tags"].append(FOREIGN)
        group = aws.groups_there[GROUP]
        run = Run(aws, task(declared))
        run.plan()
        own = {tag.key: tag.value for tag in run.templates["f2"].group_tags(propagate_own=False)}
        assert aws.tags(GROUP) == {**own, FOREIGN["Key"]: "no"}
        assert group["DesiredCapacity"] == 0
        assert [one["ProcessName"] for one in group["SuspendedProcesses"]] == ["AZRebalance"]
        assert len(aws.configurations) == (1 if "kind" in step else 0)
        assert len(aws.templates_there) == (1 if "kind" in step else 2)
        assert "kind" in step or len(aws.templates_there[GROUP]["versions"]) <= keep
    assert aws.groups_there["lab-other"] == others
    assert not any("DesiredCapacity" in parameters or "SourceVersion" in parameters for _operation, parameters in aws.asked)


@settings(max_examples=40)
@given(templates, templates, st.integers(0, 6))
def test_a_run_that_dies_anywhere_is_finished_by_the_next(before, after, deadly):
    """Cut off before any of its writes: the next run still ends where an undisturbed one does."""
    undisturbed, disturbed = FakeAws(), FakeAws()
    for aws in (undisturbed, disturbed):
        apply(aws, {**POOL, **before})
    apply(undisturbed, {**POOL, **after})
    planned = operations(plan(disturbed, {**POOL, **after}))
    if deadly < len(planned):
        countdown = planned[: deadly + 1].count(planned[deadly])
        disturbed.ask = dying(disturbed.ask, planned[deadly], countdown)
        with pytest.raises(RunError):
            apply(disturbed, {**POOL, **after})
        del disturbed.ask
    apply(disturbed, {**POOL, **after})
    assert disturbed.tags(GROUP) == undisturbed.tags(GROUP)
    assert {key: disturbed.groups_there[GROUP][key] for key in ("MinSize", "MaxSize")} == {
        key: undisturbed.groups_there[GROUP][key] for key in ("MinSize", "MaxSize")
    }
    assert not plan(disturbed, {**POOL, **after}).changed


def dying(ask, operation, countdown):
    left = [countdown]

    def ask_or_die(service, asked, parameters):
        left[0] -= asked == operation
        if left[0] == 0:
            raise CloudError("cut off")
        return ask(service, asked, parameters)

    return ask_or_die


# --- the number of calls


def test_a_run_without_anything_to_do_asks_once_for_all_and_once_for_each_template(aws):
    pools = [{**POOL, "name": f"f2-{number}"} for number in range(1, 3)]
    apply(aws, *pools)
    assert not plan(aws, *pools).changed
    assert sorted(operation for operation, _ in aws.asked) == ["DescribeAutoScalingGroups", "DescribeInstanceTypes"] + ["DescribeLaunchTemplateVersions"] * 2


def test_retired_types_are_not_asked_for(aws):
    retired = {**POOL, "instance_type": "f1.2xlarge", "allow_retired": True}
    apply(aws, retired)
    assert "DescribeInstanceTypeOfferings" not in [operation for operation, _ in aws.asked]
    plan(aws, retired)
    assert "DescribeInstanceTypes" not in [operation for operation, _ in aws.asked]


# --- content


def test_user_data_is_encoded_once_for_a_template_and_not_at_all_for_a_configuration(aws):
    """botocore encodes it for launch configurations."""
    apply(aws, POOL, {**POOL, "name": "old", "kind": "launch_configuration", "instance_type": "f1.2xlarge", "allow_retired": True})
    (version,) = aws.templates_there[GROUP]["versions"].values()
    assert base64.b64decode(version["data"]["UserData"]).startswith(b"#cloud-config\n")
    (configuration,) = aws.configurations.values()
    assert configuration["UserData"].startswith("#cloud-config\n")
    assert "InstanceMetadataTags" not in configuration["MetadataOptions"], "launch configurations don't know it"
    assert configuration["InstanceMonitoring"] == {"Enabled": False}


def test_an_instance_that_powers_itself_off_is_ended_and_not_only_stopped(aws):
    """As one does that no group has any more; it can call nobody else who would end it. A pool of before gets a version, and its instances stay as they are."""
    apply(aws, POOL)
    version = aws.templates_there[GROUP]["versions"][1]
    assert version["data"].pop("InstanceInitiatedShutdownBehavior") == "terminate"
    version["description"] = re.sub("[0-9a-f]{64}", "0" * 64, version["description"])
    assert operations(plan(aws, POOL)) == ["CreateLaunchTemplateVersion", "UpdateAutoScalingGroup"]
    apply(aws, POOL)
    assert not any("DesiredCapacity" in parameters for operation, parameters in aws.asked if operation == "UpdateAutoScalingGroup")


def test_a_profile_may_be_named_or_given_by_its_arn(aws):
    arn = "arn:aws:iam::123456789012:instance-profile/nodes"
    apply(aws, {**POOL, "instance_profile": "nodes"}, {**OTHER, "instance_profile": arn})
    profiles = [template["versions"][1]["data"]["IamInstanceProfile"] for template in aws.templates_there.values()]
    assert profiles == [{"Name": "nodes"}, {"Arn": arn}]


def test_the_diff_shows_before_and_after_of_what_is_ours(aws):
    apply(aws, {**POOL, "labels": {"a": "1"}})
    aws.groups_there[GROUP]["Tags"].append(FOREIGN)
    (diff,) = plan(aws, {**POOL, "labels": {"a": "2"}, "max_size": 4}).diff()
    assert diff["before_header"] == "pool f2"
    changed = set(diff["after"].splitlines()) - set(diff["before"].splitlines())
    assert {line.strip().split('"')[1] for line in changed} == {"max_size", "sha256", "value", "version"}
    assert "backup of somebody" not in diff["before"] + diff["after"]


def test_the_diff_of_a_removal_has_nothing_after_it(aws):
    apply(aws, POOL)
    (diff,) = plan(aws, POOL, state="absent").diff()
    assert (diff["after"], '"launch_template": "lab-f2"' in diff["before"]) == ("", True)


def test_the_diff_of_a_configuration_shows_its_content(aws):
    old = {**POOL, "kind": "launch_configuration", "instance_type": "f1.2xlarge", "allow_retired": True}
    apply(aws, old)
    (diff,) = plan(aws, {**old, "key_name": "admin"}).diff()
    assert '"KeyName": "admin"' in diff["after"]
    assert '"KeyName"' not in diff["before"]
    assert "#cloud-config" not in diff["before"] + diff["after"]


# --- AWS' own number of a version decides


def test_a_group_names_the_version_that_aws_really_made(aws):
    """Somebody else made version 2 between our look and our write."""
    apply(aws, POOL)
    rival = aws.templates_there[GROUP]["versions"][1]
    aws.before["CreateLaunchTemplateVersion"] = lambda: aws.templates_there[GROUP]["versions"].update({2: {**rival, "description": "by hand"}})
    done = apply(aws, {**POOL, "labels": {"a": "1"}})
    assert aws.groups_there[GROUP]["LaunchTemplate"]["Version"] == "3"
    assert done.pools[0].version == "3"


def test_the_same_for_a_mixed_policy(aws):
    mixed = {**POOL, "mixed": {}}
    apply(aws, mixed)
    rival = aws.templates_there[GROUP]["versions"][1]
    aws.before["CreateLaunchTemplateVersion"] = lambda: aws.templates_there[GROUP]["versions"].update({2: {**rival, "description": "by hand"}})
    apply(aws, {**mixed, "labels": {"a": "1"}})
    policy = aws.groups_there[GROUP]["MixedInstancesPolicy"]
    assert policy["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"] == "3"


# --- instances


def test_force_says_how_many_instances_end_and_start(aws):
    apply(aws, POOL)
    aws.start(GROUP, 2)
    with pytest.raises(PoolError, match=r"max_size: found 1, which ends 1 of 2 instances \(i-0002, i-0003\)"):
        plan(aws, {**POOL, "max_size": 1})
    (forced,) = plan(aws, {**POOL, "max_size": 1}, force=True).pools
    assert (forced.starts, forced.ends) == (0, 1)
    (raised,) = plan(aws, {**POOL, "min_size": 3}, force=True).pools
    assert (raised.starts, raised.ends) == (1, 0)


def test_instances_that_have_been_asked_for_count_before_they_are_there(aws):
    apply(aws, POOL)
    aws.groups_there[GROUP]["DesiredCapacity"] = 2
    with pytest.raises(PoolError, match="which ends 1 of 2 that are on their way"):
        plan(aws, {**POOL, "max_size": 1})


def test_instances_on_their_way_out_do_not_count(aws):
    apply(aws, POOL)
    aws.start(GROUP, 1)
    aws.groups_there[GROUP]["Instances"][0]["LifecycleState"] = "Terminating:Wait"
    aws.groups_there[GROUP]["DesiredCapacity"] = 0
    assert plan(aws, POOL, state="absent").changed


# --- whose, and how it goes on


def test_a_group_that_is_being_deleted_is_waited_for_by_the_user(aws):
    apply(aws, POOL)
    aws.groups_there[GROUP]["Status"] = "Delete in progress"
    with pytest.raises(PoolError, match="group lab-f2 is being deleted"):
        plan(aws, POOL)
    assert operations(plan(aws, POOL, state="absent")) == ["DeleteLaunchTemplate"]


def test_a_group_without_its_pool_s_tag_goes_by_its_own_name(aws):
    apply(aws, POOL)
    aws.groups_there[GROUP]["Tags"] = [tag for tag in aws.groups_there[GROUP]["Tags"] if tag["Key"] != "fpga.hybrid/pool"]
    assert [pool.pool for pool in plan(aws, OTHER, purge=True).pools if pool.state == "removed"] == [GROUP]


def test_the_account_is_asked_only_before_a_write(aws):
    apply(aws, POOL, account=ACCOUNT)
    assert ("GetCallerIdentity", {}) in aws.asked
    plan(aws, POOL, account="999999999999")
    assert ("GetCallerIdentity", {}) not in aws.asked
    with pytest.raises(CloudError, match=f"of account {ACCOUNT}; expected account_id 999999999999"):
        plan(aws, {**POOL, "max_size": 9}, account="999999999999")


def test_a_pool_that_somebody_else_finished_first_is_unchanged_by_us(aws):
    def other_run():
        apply(aws, POOL)

    aws.before["CreateLaunchTemplate"] = other_run
    done = apply(aws, POOL)
    assert (done.pools[0].state, done.changed) == ("unchanged", False)


def test_a_conflict_that_turns_into_a_problem_is_told(aws):
    stranger = {"AutoScalingGroupName": GROUP, "Tags": [], "AutoScalingGroupARN": "arn:aws:autoscaling:x:1:autoScalingGroup:1", "Instances": []}
    aws.before["CreateAutoScalingGroup"] = lambda: aws.groups_there.update({GROUP: stranger})
    with pytest.raises(RunError, match="group lab-f2 is there and not ours"):
        apply(aws, POOL)


def test_what_failed_is_told_beside_what_is_done(aws):
    aws.refuses["SuspendProcesses"] = CloudError("autoscaling:SuspendProcesses: AccessDenied: no. Ask for it.", "AccessDenied")
    with pytest.raises(RunError) as caught:
        apply(aws, POOL, OTHER)
    assert (caught.value.done, sorted(caught.value.failed)) == ([], ["f2", "other"])
    assert "None is done." in str(caught.value)


@pytest.mark.parametrize("found", [SUBNETS[:2], SUBNETS[1:2]])
def test_subnets_replace_zones_but_not_the_other_way_round(aws, found):
    apply(aws, POOL)
    in_subnets = {**POOL, "availability_zones": None, "subnets": found}
    assert operations(apply(aws, in_subnets))[-1] == "UpdateAutoScalingGroup"
    same_zones = {**POOL, "availability_zones": aws.groups_there[GROUP]["AvailabilityZones"]}
    assert not any("AvailabilityZones" in call.parameters for pool in plan(aws, same_zones).pools for call in pool.calls)
    with pytest.raises(PoolError, match="availability_zones: the group is in subnets of"):
        plan(aws, {**POOL, "availability_zones": [f"{REGION}c"]})


def test_tags_are_taken_away_first_where_there_is_no_room_for_both(aws):
    many = {f"l{number:02}": "" for number in range(37)}
    apply(aws, {**POOL, "labels": many})
    done = apply(aws, {**POOL, "labels": {f"m{number:02}": "" for number in range(37)}})
    assert operations(done)[2:] == ["DeleteTags", "DeleteTags", "CreateOrUpdateTags", "CreateOrUpdateTags"]


def test_more_than_two_hundred_old_versions_go_in_two_calls(aws):
    apply(aws, POOL)
    template = aws.templates_there[GROUP]
    template["versions"] |= dict.fromkeys(range(2, 260), template["versions"][1])
    assert operations(plan(aws, POOL, keep_versions=1)).count("DeleteLaunchTemplateVersions") == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": "golden"}, "pool f2, image: found 'golden'; expected an AMI's id, or one of the cluster's images (1.36)"),
        ({"image": "resolve:ssm:/x"}, "pool f2, root_volume.device: resolve:ssm:/x says only at launch which image it is"),
        ({"image": "ami-0e000000000000000"}, "pool f2, image: ami-0e000000000000000 isn't there in us-east-1"),
        ({"image": "ami-0e000000000000000", "root_volume": {"device": "/dev/xvda"}}, "pool f2, image: ami-0e000000000000000 isn't there in us-east-1"),
        ({"root_volume": {"size": 7}}, "pool f2, root_volume.size: found 7 GiB, less than the 8 GiB of image"),
        ({"availability_zones": [f"{REGION}z"]}, "pool f2, availability_zones: f2.6xlarge isn't offered in us-east-1z"),
        ({"availability_zones": None, "subnets": ["subnet-00000009"]}, "pool f2, subnets: subnet-00000009 isn't there"),
        ({"kind": "launch_configuration", "instance_type": "m5.large", "root_volume": {"kms_key": "x"}}, "pool f2, root_volume.kms_key: found it in a launch"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(aws, change, said):
    with pytest.raises(PoolError) as caught:
        apply(aws, {**POOL, **change}, OTHER)
    assert said in str(caught.value)
    assert aws.writes == []


def test_mistakes_of_several_pools_are_told_together(aws):
    with pytest.raises(PoolError) as caught:
        plan(aws, {**POOL, "image": "a"}, {**OTHER, "image": "b"})
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("images", [{}, {"1.36": {"eu-west-2": IMAGE}}])
def test_the_cluster_has_to_have_an_image_for_the_region(aws, images):
    cluster = parse_cluster({"name": "lab", "id": "id-1", "kubernetes_version": "1.36", "region": REGION, "images": images})
    with pytest.raises(PoolError, match="pool f2, image: "):
        plan(aws, POOL, cluster=cluster)


@pytest.mark.parametrize("missing", ["fpga.hybrid/cluster-id", "k8s.io/cluster-autoscaler/lab"])
def test_a_group_that_lacks_one_of_the_two_tags_is_not_ours(aws, missing):
    apply(aws, POOL)
    aws.groups_there[GROUP]["Tags"] = [tag for tag in aws.groups_there[GROUP]["Tags"] if tag["Key"] != missing]
    for state in ("present", "absent"):
        with pytest.raises(PoolError, match=r"not ours; expected one that carries fpga\.hybrid/cluster-id=id-1"):
            plan(aws, POOL, state=state)
    assert not plan(aws, OTHER, purge=True).pools[1:]


def test_a_template_of_another_cluster_is_neither_used_nor_removed(aws):
    other = parse_cluster({"name": "lab", "id": "id-2", "kubernetes_version": "1.36", "region": REGION, "images": {"1.36": {REGION: IMAGE}}})
    apply(aws, POOL, cluster=other)
    del aws.groups_there[GROUP]
    with pytest.raises(PoolError, match="launch template lab-f2 is there and not ours"):
        plan(aws, POOL)
    assert not plan(aws, POOL, state="absent").changed
    assert not plan(aws, OTHER, purge=True).pools[1:]


def test_tags_of_others_that_leave_no_room_are_told(aws):
    apply(aws, POOL)
    aws.groups_there[GROUP]["Tags"] += [{**FOREIGN, "Key": f"x{number}"} for number in range(20)]
    with pytest.raises(PoolError, match="34 tags beside 20 on the group that are not ours; expected at most 50"):
        plan(aws, {**POOL, "tags": {f"t{number}": "" for number in range(20)}})


@pytest.mark.parametrize(("named", "stays"), [("1", [1, 4]), ("$Latest", [4]), ("$Default", [2, 4]), (None, [2, 4])])
def test_a_version_that_another_group_names_in_whatever_way_stays(aws, named, stays):
    for number in range(1, 5):
        apply(aws, {**POOL, "labels": {"a": str(number)}})
    template = aws.templates_there[GROUP]
    template["default"] = 2
    specification = {"LaunchTemplateId": template["id"], "LaunchTemplateName": GROUP, **({"Version": named} if named else {})}
    aws.groups_there["stranger"] = {"AutoScalingGroupName": "stranger", "Tags": [], "LaunchTemplate": specification}
    apply(aws, {**POOL, "labels": {"a": "4"}}, keep_versions=1)
    assert sorted(template["versions"]) == stays


def test_versions_that_aws_refuses_to_delete_are_told(aws):
    for number in range(3):
        apply(aws, {**POOL, "labels": {"a": str(number)}})
    refused = [{"VersionNumber": 1, "ResponseError": {"Message": "in use"}}]
    aws.DeleteLaunchTemplateVersions = lambda **_: {"UnsuccessfullyDeletedLaunchTemplateVersions": refused}
    with pytest.raises(RunError, match=r"version 1: in use\. The pool itself is done\."):
        apply(aws, {**POOL, "labels": {"a": "2"}}, keep_versions=1)


def test_somebody_who_is_always_faster_is_named(aws):
    aws.refuses["CreateLaunchTemplate"] = CloudError("no", "InvalidLaunchTemplateName.AlreadyExistsException")
    with pytest.raises(RunError, match="somebody else changed group lab-f2 3 times meanwhile"):
        apply(aws, POOL)


def test_a_configuration_that_an_interrupted_run_left_is_taken(aws):
    old = {**POOL, "kind": "launch_configuration", "instance_type": "f1.2xlarge", "allow_retired": True}
    aws.refuses["CreateAutoScalingGroup"] = CloudError("no", "InternalFailure")
    with pytest.raises(RunError):
        apply(aws, old)
    aws.refuses.clear()
    assert operations(apply(aws, old)) == ["CreateAutoScalingGroup", "SuspendProcesses"]
    apply(aws, old, state="absent")
    assert aws.configurations == aws.groups_there == {}
