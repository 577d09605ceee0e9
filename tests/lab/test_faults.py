# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each mishap on the way of an instance, for real: AWS', the network's, the control plane's, the instance's own, and that of people's hands.

A scenario ends with the cluster healthy, no job lost that was not on a failed host, none started twice, and nothing left in AWS (tests/lab/scenario.py).
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lab import lifecycle
from lab.run import wait_until
from tests.lab.jobs import NAMESPACE, RESOURCE, instances, kubectl, occupy, run_somewhere, submit, succeed, where
from tests.lab.scenario import (
    OCCUPANT,
    bring_keeper,
    first_instance,
    groups,
    keeper_status,
    on,
    phase_of,
    reboot,
    scenario,
    without_unit,
)

if TYPE_CHECKING:
    from lab.evaluate import Site

pytestmark = [pytest.mark.lab, pytest.mark.slow]

VPN_SERVER = "openvpn-server@fpga-hybrid.service"
KEEPER = "*:user/keeper"
#: So that a scenario needs minutes where a site's cluster takes its time; the order of all times is that of the defaults.
QUICK = {
    "bootstrap_timeout": 140,
    "autoscaler_max_node_provision_time": "150s",
    "autoscaler_extra_args": {"initial-node-group-backoff-duration": "20s", "max-node-group-backoff-duration": "40s"},
}
ONE_BOARD, TWO_BOARDS = "f2-6xlarge", "f2-12xlarge"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    from lab import evaluate

    with evaluate.site() as found:
        try:
            found.prepare(**QUICK)
            occupy(found, OCCUPANT)
            run_somewhere(found, OCCUPANT)
            yield found
        finally:
            found.take_away()


# --- AWS


def test_where_there_is_no_capacity_the_other_pool_is_tried(site: Site) -> None:
    fault = site.cloud.fault("no_capacity", instance_type="f2.6xlarge")
    with scenario(site, launches=1):
        submit(site, "anywhere", 20, {RESOURCE: "2"})
        node = run_somewhere(site, "anywhere")["anywhere"]
        assert kubectl(site, "get", "node", node, "-o", "jsonpath={.metadata.labels.fpga\\.hybrid/pool}") == TWO_BOARDS
        succeed(site, "anywhere")
    site.cloud.lift(fault)


def test_throttling_and_denial_during_enrolment_only_delay_it(site: Site) -> None:
    with scenario(site, launches=1):
        site.cloud.fault("throttle", identity=KEEPER, service="ssm", times=4)
        site.cloud.fault("deny", identity=KEEPER, service="ssm", action="PutParameter", times=3)
        site.cloud.fault("throttle", identity=KEEPER, service="ec2", action="CreateTags", times=2)
        submit(site, "delayed", 10)
        run_somewhere(site, "delayed", seconds=240)
        succeed(site, "delayed")


@contextmanager
def idle_for(site: Site, duration: str) -> Iterator[None]:
    """How long an instance may be idle, for a while: the autoscaler is started anew with it."""
    path = ("-n", "kube-system", "deployment", "cluster-autoscaler")

    def start_with(duration: str) -> str:
        found = kubectl(site, "get", *path, "-o", "json")
        before = re.search(r"--scale-down-unneeded-time=(\w+)", found)
        assert before
        kubectl(site, "replace", "-f", "-", stdin=found.replace(before[0], f"--scale-down-unneeded-time={duration}"))
        kubectl(site, "-n", "kube-system", "rollout", "status", "deployment/cluster-autoscaler", "--timeout=120s")
        return before[1]

    usual = start_with(duration)
    try:
        yield
    finally:
        start_with(usual)


def test_an_instance_that_is_terminated_while_its_job_runs_costs_that_job_one_start(site: Site) -> None:
    """Its group replaces it at once; the control plane takes 50 s to believe that the node is lost, and so long the new one is idle."""
    with idle_for(site, "90s"), scenario(site, launches=2, again=("struck",)):
        submit(site, "struck", 40, retries=1)
        first = run_somewhere(site, "struck")["struck"]
        site.cloud.own_client("ec2").terminate_instances(InstanceIds=[first])
        wait_until(lambda: where(site, "struck").get("struck", first) != first, seconds=240, what="the job on another instance", every=1)
        assert first not in instances()
        succeed(site, "struck")


def test_keeper_that_cannot_ask_aws_or_asks_another_account_takes_nothing_away(site: Site) -> None:
    """The instance has gone, and that is not known."""
    with scenario(site, launches=1):
        submit(site, "short", 1)
        node = run_somewhere(site, "short")["short"]
        succeed(site, "short")
        fault = site.cloud.fault("down", identity=KEEPER)
        wait_until(lambda: not site.cars.hosts(), seconds=180, what="the idle instance's end", every=1)
        wait_until(lambda: "aws" in keeper_status(site)["troubles"], seconds=30, what="keeper's word that it cannot ask", every=1)
        time.sleep(60)  # the node is lost for the control plane after 50 s
        assert instances() == [node]
        kept = site.control_plane("cat", "/etc/fpga-hybrid/keeper.aws")
        stranger = site.cloud.admin_of("999999999999")
        site.cloud.lift(fault)
        site.put("/etc/fpga-hybrid/keeper.aws", credentials(stranger))
        try:
            wait_until(lambda: "999999999999" in keeper_status(site)["troubles"].get("aws", ""), seconds=90, what="keeper's word of the account", every=1)
            time.sleep(25)  # two looks
            assert instances() == [node]
        finally:
            site.put("/etc/fpga-hybrid/keeper.aws", kept)


def credentials(keys: dict[str, str]) -> str:
    return "[default]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items())


# --- the network, and the control plane


def test_a_vpn_server_that_is_down_for_a_minute_delays_a_join(site: Site) -> None:
    with scenario(site, launches=1):
        submit(site, "patient", 10)
        instance = first_instance(site)
        wait_until(lambda: phase_of(site, instance) in ("seen", "enrolling", "enrolled"), seconds=60, what="keeper at work on it", every=0.2)
        with without_unit(site, VPN_SERVER):
            time.sleep(60)
            assert instance not in instances()
        run_somewhere(site, "patient", seconds=240)
        succeed(site, "patient")


def test_a_control_plane_that_restarts_during_a_scale_up_delays_it(site: Site) -> None:
    with scenario(site, launches=1):
        submit(site, "restarted", 10)
        instance = first_instance(site)
        wait_until(lambda: phase_of(site, instance) in ("enrolling", "enrolled"), seconds=60, what="its enrolment", every=0.2)
        lifecycle.reboot_hosts(["cp1"])
        wait_until(lambda: bool(answers(site)), seconds=180, what="the API server", every=2)
        run_somewhere(site, "restarted", seconds=240)
        succeed(site, "restarted")


def answers(site: Site) -> str:
    from lab.run import CommandError

    try:
        return kubectl(site, "get", "--raw", "/readyz")
    except CommandError:
        return ""


#: Ends keeper by kill -9 whenever it has written its record: before and after each thing that it does.
KILLER = """
file=/var/lib/fpga-hybrid/keeper/record.json last=$(stat -c %i $file) killed=0
while [ ! -e /run/killer.end ]; do
  now=$(stat -c %i $file)
  if [ "$now" != "$last" ]; then last=$now; systemctl kill --signal=KILL fpga-hybrid-keeper.service; killed=$((killed + 1)); fi
  sleep 0.02
done
echo $killed
"""


def test_keeper_killed_between_each_two_of_its_writes_ends_what_it_began(site: Site) -> None:
    with scenario(site, launches=1):
        site.control_plane("rm", "-f", "/run/killer.end")
        killer = subprocess.Popen(["podman", "exec", "fpga-hybrid-cp1", "sh", "-c", KILLER], stdout=subprocess.PIPE, text=True)
        try:
            submit(site, "survivor", 10)
            instance = run_somewhere(site, "survivor", seconds=300)["survivor"]
            succeed(site, "survivor")
            wait_until(lambda: phase_of(site, instance) == "gone", seconds=300, what="everything of it taken away", every=1)
        finally:
            site.control_plane("touch", "/run/killer.end")
            killed = int(killer.communicate(timeout=30)[0])
        print(f"keeper was killed {killed} times")
        assert killed >= 6


# --- the instance


#: What there is time to hit; the others take milliseconds.
STEPS = ("bundle", "vpn", "join", "ready")


def test_an_instance_that_reboots_in_each_step_of_its_join_and_after_it_still_joins(site: Site) -> None:
    """One and the same: as long as nobody ends it, it goes on from where it was."""
    with scenario(site, launches=1, again=("rebooted",)):
        submit(site, "rebooted", 20, retries=1)
        instance = first_instance(site)
        hit = []
        for step in STEPS:
            script = f'timeout 90 sh -c \'until grep -q "\\"step\\": \\"{step}\\"" /var/lib/fpga-hybrid/bootstrap.json; do sleep 0.01; done\''
            on(site, instance, script)
            reboot(site, instance)
            hit.append(step)
        run_somewhere(site, "rebooted", seconds=240)
        reboot(site, instance)
        assert set(site.cars.hosts()) == {instance}
        succeed(site, "rebooted", seconds=300)
        assert tuple(hit) == STEPS


def test_an_instance_whose_disk_is_full_says_so_and_is_not_tried_for_ever(site: Site) -> None:
    with scenario(site, launches=2):
        bring_keeper(site, "stop")
        submit(site, "full", 5)
        instance = first_instance(site)
        on(site, instance, "mount -t tmpfs -o size=16k tmpfs /etc/kubernetes && dd if=/dev/zero of=/etc/kubernetes/full bs=1k 2>/dev/null || true")
        bring_keeper(site, "start")
        failures = site.cloud.own_client("ssm")
        wait_until(lambda: bool(evidence(failures, instance)), seconds=180, what="its evidence", every=1)
        found = json.loads(evidence(failures, instance))
        assert found["failure"]["kind"] == "kubeadm", found
        assert "no space left" in json.dumps(found).lower()
        kubectl(site, "delete", "job", "-n", NAMESPACE, "full")


def evidence(ssm: object, instance: str) -> str:
    found = ssm.get_parameters(Names=[f"/fpga-hybrid/lab/failures/{instance}"])["Parameters"]  # type: ignore[attr-defined]
    return str(found[0]["Value"]) if found else ""


# --- people's hands


def test_an_instance_by_hand_in_our_group_joins_and_goes_when_nobody_needs_it(site: Site) -> None:
    with scenario(site, launches=1):
        site.cloud.own_client("autoscaling").set_desired_capacity(AutoScalingGroupName=f"lab-{ONE_BOARD}", DesiredCapacity=1)
        wait_until(lambda: bool(instances()), seconds=120, what="its node", every=1)
        wait_until(lambda: not site.cars.hosts(), seconds=180, what="its end", every=1)


def test_an_instance_that_only_carries_our_tags_gets_nothing(site: Site) -> None:
    with scenario(site, launches=1):
        ec2 = site.cloud.own_client("ec2")
        template = {"LaunchTemplateName": f"lab-{ONE_BOARD}"}
        (stranger,) = ec2.run_instances(LaunchTemplate=template, MinCount=1, MaxCount=1)["Instances"]
        instance = stranger["InstanceId"]
        wait_until(lambda: phase_of(site, instance) != "" or instance in keeper_status(site)["instances"], seconds=120, what="keeper's word", every=1)
        time.sleep(20)
        assert phase_of(site, instance) in ("seen", "refused"), keeper_status(site)["instances"][instance]
        assert instance not in instances()
        ec2.terminate_instances(InstanceIds=[instance])


def test_a_group_changed_by_hand_is_told_and_put_right_without_an_instance(site: Site) -> None:
    with scenario(site, launches=1):
        group = groups(site)[TWO_BOARDS]
        asg = site.cloud.own_client("autoscaling")
        tag = next(tag for tag in group["Tags"] if tag["Key"].endswith(RESOURCE))
        asg.create_or_update_tags(Tags=[{**{key: tag[key] for key in ("ResourceId", "ResourceType", "Key", "PropagateAtLaunch")}, "Value": "1"}])
        asg.update_auto_scaling_group(AutoScalingGroupName=group["AutoScalingGroupName"], MaxSize=1)
        checked = site.ansible("ansible-playbook", "playbooks/pools.yml", "--check", "--diff", credentials=site.users["pools"])
        assert "changed=1" in checked
        assert f'"max_size": {group["MaxSize"]}' in checked or f"max_size: {group['MaxSize']}" in checked
        site.ansible("ansible-playbook", "playbooks/pools.yml", credentials=site.users["pools"])
        mended = groups(site)[TWO_BOARDS]
        assert (mended["MaxSize"], {**tag}) == (group["MaxSize"], next(one for one in mended["Tags"] if one["Key"] == tag["Key"]))
        submit(site, "after", 5)
        run_somewhere(site, "after")
        succeed(site, "after")


def test_without_its_launch_template_a_pool_launches_nothing_and_the_other_one_is_tried(site: Site) -> None:
    with scenario(site, launches=1):
        site.cloud.own_client("ec2").delete_launch_template(LaunchTemplateName=f"lab-{ONE_BOARD}")
        submit(site, "elsewhere", 5, {RESOURCE: "2"})
        run_somewhere(site, "elsewhere", seconds=240)
        succeed(site, "elsewhere")
        site.ansible("ansible-playbook", "playbooks/pools.yml", credentials=site.users["pools"])
