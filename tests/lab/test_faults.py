# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each mishap on the way of an instance, for real: AWS', the network's, the control plane's, the instance's own, and that of people's hands.

A scenario ends with the cluster healthy, no job lost that was not on a failed host, none started twice, and nothing left in AWS (tests/lab/scenario.py).
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lab import lifecycle
from lab.cloud.account import key_file
from lab.hosts import container
from lab.run import wait_until
from lab.settings import LabError
from tests.lab.jobs import NAMESPACE, RESOURCE, TOLERATION, instances, kubectl, run_somewhere, submit, succeed, where
from tests.lab.protections import (
    ControlPlaneEdit,
    Edit,
    InstanceEdit,
    by_commands,
    of_bootstrap,
    of_keeper,
    of_watch,
    on_each_instance,
    protected_by,
    suspended,
    without_pods_policy,
)
from tests.lab.scenario import (
    KEEPER_UNIT,
    QUICK,
    VPN_SERVER,
    alive,
    answers,
    bring_keeper,
    first_instance,
    groups,
    keeper_status,
    occupied_site,
    on,
    paused,
    phase_of,
    reboot,
    resume,
    scenario,
    set_desired,
    without_unit,
)

if TYPE_CHECKING:
    from lab.evaluate import Site

pytestmark = pytest.mark.lab
slow = pytest.mark.slow  # all but the five that are played fastest

KEEPER_DROP_IN = f"/etc/systemd/system/{KEEPER_UNIT}.d"
KEEPER = "*:user/keeper"
ONE_BOARD, TWO_BOARDS = "f2-6xlarge", "f2-12xlarge"
#: Of a launch or a join without end.
LAUNCHES = 3


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with occupied_site() as found:
        yield found


# --- AWS


@slow
@protected_by("another pool that has what the job wants", functools.partial(suspended, pool=ONE_BOARD), seen="anywhere running: not after")
def test_where_there_is_no_capacity_the_other_pool_is_tried(site: Site) -> None:
    """Both waste nothing of cpu and memory, which is all that least-waste looks at, and the first by name is asked."""
    fault = site.cloud.fault("no_capacity", instance_type="f2.12xlarge")
    with scenario(site, launches=1):
        submit(site, "anywhere", 20, {RESOURCE: "2"})
        node = run_somewhere(site, "anywhere")["anywhere"]
        assert "sufficient f2.12xlarge capacity" in activities(site, TWO_BOARDS), "the pool without capacity was never asked"
        assert kubectl(site, "get", "node", node, "-o", "jsonpath={.metadata.labels.fpga\\.hybrid/pool}") == ONE_BOARD
        succeed(site, "anywhere")
    site.cloud.lift(fault)


@protected_by(
    "keeper tries again what AWS has refused",
    of_keeper("keeper", "trial.failed(error, self.clock())", "self._refuse_second(action.instance, str(error))"),
    seen="delayed running: not after",
)
def test_throttling_and_denial_during_enrolment_only_delay_it(site: Site) -> None:
    with scenario(site, launches=1):
        # In this order: a call is answered by the first fault that meets it, and uses up all of them.
        site.cloud.fault("deny", identity=KEEPER, service="ssm", action="PutParameter", times=3)
        site.cloud.fault("throttle", identity=KEEPER, service="ssm", times=6)
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


@slow
@protected_by(
    "keeper removes the Node object of an instance that has gone",
    of_keeper("plan", "            if entry.absent < 2 or ", "            if True or "),
    seen="struck on another instance",
)
def test_an_instance_that_is_terminated_while_its_job_runs_costs_that_job_one_start(site: Site) -> None:
    """Its group replaces it at once; the control plane takes 50 s to believe that the node is lost, and so long the new one is idle."""
    with idle_for(site, "90s"), scenario(site, launches=2, again=("struck",)):
        submit(site, "struck", 40, retries=1)
        first = run_somewhere(site, "struck")["struck"]
        site.cloud.own_client("ec2").terminate_instances(InstanceIds=[first])
        moved(site, "struck", first)
        assert first not in instances()
        succeed(site, "struck")


@slow
@protected_by(
    "keeper takes no answer for no answer",
    of_keeper(
        "keeper",
        "            self.aws.failed(error, now)\n            return None\n",
        "            self.aws.failed(error, now)\n            return Cloud(self.record.account, self.record.region, asked=frozenset(known))\n",
    ),
    seen="[] == ",
)
@protected_by(
    "keeper knows whose instances it has on record",
    of_keeper("cloud", "if self._declared and account != self._declared:", "if False:"),
    of_keeper("plan", "if not (record.live or record.brakes) or (", "if True or ("),
    seen="[] == ",
)
def test_keeper_that_cannot_ask_aws_or_asks_another_account_takes_nothing_away(site: Site) -> None:
    """The instance has gone, and that is not known."""
    with scenario(site, launches=1):
        submit(site, "short", 15)  # long enough to be seen as it runs
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
        site.put("/etc/fpga-hybrid/keeper.aws", key_file(stranger))
        try:
            wait_until(
                lambda: "999999999999" in keeper_status(site)["troubles"].get("aws", "") or instances() != [node],
                seconds=90,
                what="keeper's word of the account",
                every=1,
            )
            time.sleep(25)  # two looks
            assert instances() == [node]
        finally:
            site.put("/etc/fpga-hybrid/keeper.aws", kept)


@slow
@protected_by("the instance looks for its notice", of_watch("        self._look_for_notice()\n", ""), seen="its report: not after")
@protected_by("it evicts its pods", of_watch("            self._interruption.step(api, self._monotonic())\n", ""), seen="its eviction: not after")
def test_a_spot_notice_moves_the_job_before_its_instance_ends(site: Site) -> None:
    """A minute's notice here. The job is started a second time because its pod was evicted; its instance ends itself, so that its group does not replace it."""
    with scenario(site, launches=2, most=2, again=("evicted",)):
        submit(site, "evicted", 60, retries=1)
        first = run_somewhere(site, "evicted")["evicted"]
        site.cars.interrupt(first, seconds=90)
        wait_until(lambda: "interrupted" in evidence(site, first), seconds=60, what="its report", every=1)
        # Before its instance ends, and before the control plane could take its node for lost.
        wait_until(lambda: where(site, "evicted").get("evicted") != first, seconds=45, what="its eviction", every=1)
        assert first in site.cars.hosts(), "its instance has ended first"
        moved(site, "evicted", first)
        succeed(site, "evicted")


def moved(site: Site, job: str, instance: str, seconds: float = 300) -> str:
    """Another instance, on which the job runs now."""
    wait_until(lambda: where(site, job).get(job, instance) != instance, seconds=seconds, what=f"{job} on another instance than {instance}", every=1)
    return where(site, job)[job]


# --- the network, and the control plane


@slow
@protected_by(
    "bootstrap waits for the VPN longer than that",
    of_bootstrap("steps", 'see that somebody answers", 120,', 'see that somebody answers", 20,'),
    seen="found 2 launches",
)
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


@slow
@protected_by(
    "keeper starts with its host",
    by_commands(("systemctl", "disable", KEEPER_UNIT), ("systemctl", "enable", "--now", KEEPER_UNIT)),
    seen="restarted running: not after",
)
def test_a_control_plane_that_restarts_during_a_scale_up_delays_it(site: Site) -> None:
    with scenario(site, launches=1):
        submit(site, "restarted", 10)
        instance = first_instance(site)
        wait_until(lambda: phase_of(site, instance) in ("enrolling", "enrolled"), seconds=60, what="its enrolment", every=0.2)
        lifecycle.reboot_hosts(["cp1"])
        wait_until(lambda: bool(answers(site)), seconds=180, what="the API server", every=2)
        run_somewhere(site, "restarted", seconds=240)
        succeed(site, "restarted")


#: Ends keeper, and what it has called, by kill -9 whenever one of its files is another: its record, before and after each thing that it does, and the VPN
#: authority's, between the things of which an enrolment consists. Not for ever: what is begun again each time would have no end.
KILLER = """
state() { find /var/lib/fpga-hybrid/keeper/record.json /etc/fpga-hybrid/vpn -type f -printf '%p %i %s\\n' 2>/dev/null | sort | cksum; }
last=$(state) killed=0
while [ ! -e /run/killer.end ]; do
  now=$(state)
  if [ "$now" != "$last" ] && [ $killed -lt 30 ]; then systemctl kill --signal=KILL fpga-hybrid-keeper.service; killed=$((killed + 1)); fi
  last=$now
  sleep 0.02
done
echo $killed
"""


@slow
@protected_by(
    "keeper's record says what it is about to do",
    of_keeper("keeper", "self._remember(_begun(self.record, action, self.clock()))", "self.record = _begun(self.record, action, self.clock())"),
    seen="the first one's node: not after",
)
def test_keeper_killed_between_each_two_of_its_writes_ends_what_it_began(site: Site) -> None:
    with scenario(site, launches=1):
        site.control_plane("rm", "-f", "/run/killer.end")
        killer = subprocess.Popen(["podman", "exec", container.by_name("cp1").container, "sh", "-c", KILLER], stdout=subprocess.PIPE, text=True)
        try:
            submit(site, "survivor", 10)
            instance = first_instance(site)
            wait_until(lambda: instance in instances(), seconds=180, what="the first one's node", every=1)
            run_somewhere(site, "survivor")
            succeed(site, "survivor")
            wait_until(lambda: phase_of(site, instance) == "gone", seconds=300, what="everything of it taken away", every=1)
        finally:
            site.control_plane("touch", "/run/killer.end")
            killed = int(killer.communicate(timeout=30)[0])
        print(f"keeper was killed {killed} times")
        assert killed >= 6


# --- the instance


#: bootstrap is not started where it has begun before.
BEGIN_ONCE = """
mkdir -p /etc/systemd/system/fpga-hybrid-bootstrap.service.d
printf '[Unit]\\nConditionPathExists=!/var/lib/fpga-hybrid/bootstrap.json\\n' > /etc/systemd/system/fpga-hybrid-bootstrap.service.d/once.conf
"""
#: What there is time to hit; the others take milliseconds.
STEPS = ("bundle", "vpn", "join", "ready")


@slow
@protected_by("bootstrap goes on after a reboot", functools.partial(on_each_instance, script=BEGIN_ONCE), seen="ended with status 124")
def test_an_instance_that_reboots_in_each_step_of_its_join_and_after_it_still_joins(site: Site) -> None:
    """One and the same: as long as nobody ends it, it goes on from where it was."""
    with scenario(site, launches=1, again=("rebooted",)):
        submit(site, "rebooted", 20, retries=1)
        instance = first_instance(site)
        for step in STEPS:
            script = f'timeout 90 sh -c \'until grep -q "\\"step\\": \\"{step}\\"" /var/lib/fpga-hybrid/bootstrap.json; do sleep 0.01; done\''
            on(site, instance, script)
            reboot(site, instance)
        run_somewhere(site, "rebooted", seconds=240)
        reboot(site, instance)
        assert set(site.cars.hosts()) == {instance}
        succeed(site, "rebooted", seconds=300)


@slow
@protected_by(
    "an instance that does not join leaves its evidence",
    of_bootstrap("report", "        evidence.put(client, name, text_of(run, status))", "        pass"),
    seen="its evidence: not after",
)
def test_an_instance_whose_disk_is_full_says_so(site: Site) -> None:
    with scenario(site, launches=2):
        with without_unit(site, KEEPER_UNIT):
            submit(site, "full", 5)
            instance = first_instance(site)
            on(site, instance, "mount -t tmpfs -o size=16k tmpfs /etc/kubernetes && dd if=/dev/zero of=/etc/kubernetes/full bs=1k 2>/dev/null || true")
        wait_until(lambda: bool(evidence(site, instance)), seconds=180, what="its evidence", every=1)
        found = json.loads(evidence(site, instance))
        assert found["failure"]["kind"] == "kubeadm", found
        assert "no space left" in json.dumps(found).lower()
        kubectl(site, "delete", "job", "-n", NAMESPACE, "full")


#: As in an image that was made without it: gone from each instance before keeper lets it in.
REMOVE_DEVICE_PLUGIN = "systemctl disable --now fpga-hybrid-device-plugin && rm /etc/systemd/system/fpga-hybrid-device-plugin.service"


@slow
@protected_by(
    "keeper counts a node that never was of use as a failed join",
    of_keeper("brakes", "        if entry.complete:\n            return None\n", "        if True:\n            return None\n"),
    seen="launches and no brake",
)
def test_an_image_without_its_device_plugin_stops_its_pool(site: Site) -> None:
    """Its nodes come, and never have a board. Somebody ends each, where the autoscaler would take 50 minutes; the group replaces them, until the brake."""
    with scenario(site, launches=LAUNCHES), on_each_instance(site, REMOVE_DEVICE_PLUGIN):
        before = len(site.launched())
        submit(site, "boardless", 5)
        useless: set[str] = set()
        for _turn in range(LAUNCHES):
            wait_until(lambda: bool(set(instances()) - useless), seconds=120, what="its node", every=1)
            useless |= set(instances())
            wait_until(lambda: all(phase_of(site, one) in ("joined", "gone") for one in useless), seconds=30, what="keeper's word of it", every=1)
            site.cloud.own_client("ec2").terminate_instances(InstanceIds=sorted(useless & set(alive(site))))
        wait_until_paused(site, TWO_BOARDS, before)
        kubectl(site, "delete", "job", "-n", NAMESPACE, "boardless")
        # Its max-node-provision-time after it has asked.
        wait_until(lambda: not groups(site)[TWO_BOARDS]["DesiredCapacity"], seconds=240, what="the autoscaler's word that it wants it no more", every=2)
    resume(site, TWO_BOARDS)


@slow
@protected_by(
    "bootstrap compares its clock with those whom it asks",
    of_bootstrap("run", "if offset is None or abs(offset) <= CLOCK_LIMIT:", "if True:"),
    seen="== 'clock'",
)
def test_an_instance_whose_clock_is_ten_minutes_off_says_so(site: Site) -> None:
    """A host of the lab has the machine's clock: Python tells its bootstrap another time."""
    with scenario(site, launches=2):
        with without_unit(site, KEEPER_UNIT):
            submit(site, "late", 5)
            instance = first_instance(site)
            on(site, instance, SKEW)
        wait_until(lambda: bool(evidence(site, instance) or instances()), seconds=240, what="its evidence", every=1)
        assert json.loads(evidence(site, instance) or "{}").get("failure", {}).get("kind") == "clock"
        kubectl(site, "delete", "job", "-n", NAMESPACE, "late")


#: Of Python's path on Debian: what stands in a .pth file is run as each program starts, and only bootstrap's has the variable.
SKEW = """
cat > /usr/lib/python3/dist-packages/skew.py <<'END'
import os, time
if "SKEW" in os.environ:
    right, seconds = time.time, float(os.environ["SKEW"])
    time.time = lambda: right() + seconds
END
echo 'import skew' > /usr/lib/python3/dist-packages/skew.pth
mkdir -p /etc/systemd/system/fpga-hybrid-bootstrap.service.d
printf '[Service]\\nEnvironment=SKEW=-600\\n' > /etc/systemd/system/fpga-hybrid-bootstrap.service.d/clock.conf
systemctl daemon-reload
systemctl --no-block restart fpga-hybrid-bootstrap
"""


def evidence(site: Site, instance: str) -> str:
    """What its failure parameter says, or nothing."""
    found = site.cloud.own_client("ssm").get_parameters(Names=[f"/fpga-hybrid/lab/failures/{instance}"])["Parameters"]
    return str(found[0]["Value"]) if found else ""


# --- brakes


def wait_until_paused(site: Site, pool: str, before: int) -> None:
    """Before a launch too many. before: instances that had been launched until then."""

    def is_over() -> bool:
        launched = len(site.launched()) - before
        assert launched <= LAUNCHES, f"found {launched} launches and no brake; expected it after {LAUNCHES}"
        return paused(site) == {pool: "failed_joins"}

    wait_until(is_over, seconds=900, what=f"pool {pool} paused", every=2)


@slow
@protected_by(
    "keeper counts failed joins",
    of_keeper("brakes", "if rules.most and len(failures) >= rules.most:", "if False:"),
    of_keeper("brakes", "if rules.most and failures and ", "if False and "),
    seen="launches and no brake",
)
def test_a_wrong_ca_hash_costs_three_launches_and_pauses_the_pool_until_somebody_resumes_it(site: Site) -> None:
    with scenario(site, launches=LAUNCHES + 1):
        before = len(site.launched())
        kept = site.control_plane("cat", "/etc/fpga-hybrid/keeper.json")
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=stranger -keyout /dev/null"
        site.control_plane("sh", "-c", f"{make} -days 2 -out /etc/fpga-hybrid/stranger.crt 2>&1")
        site.put("/etc/fpga-hybrid/keeper.json", json.dumps({**json.loads(kept), "ca": "/etc/fpga-hybrid/stranger.crt"}))
        bring_keeper(site, "restart")
        try:
            submit(site, "pinned", 10)
            wait_until_paused(site, TWO_BOARDS, before)
            assert "Launch" in {one["ProcessName"] for one in groups(site)[TWO_BOARDS]["SuspendedProcesses"]}
            told = keeper_status(site)["pools"][TWO_BOARDS]["failed_joins"]
            assert {(one["kind"], one["status"]) for one in told} == {("ca", 51)}
            time.sleep(90)  # longer than the autoscaler's back-off
            assert len(site.launched()) - before <= LAUNCHES
            with pytest.raises(LabError, match=rf"(?s){TWO_BOARDS}.*paused"):
                site.ansible("ansible-playbook", "playbooks/verify.yml")
        finally:
            site.put("/etc/fpga-hybrid/keeper.json", kept)
            site.control_plane("rm", "-f", "/etc/fpga-hybrid/stranger.crt")
            bring_keeper(site, "restart")
        resume(site, TWO_BOARDS)
        run_somewhere(site, "pinned", seconds=300)
        succeed(site, "pinned")


# --- the site goes dark


@contextmanager
def orphan_timeout(site: Site, idle: str, busy: str) -> Iterator[None]:
    """Of instances that start meanwhile."""
    pools = functools.partial(site.ansible, "ansible-playbook", "playbooks/pools.yml", credentials=site.users["pools"])
    pools(cluster_orphan_timeout={"idle": idle, "busy": busy})
    try:
        yield
    finally:
        pools()


@slow
@protected_by("the instance ends itself", of_watch("if self._timer.is_over(self._timeouts):", "if False:"), seen="its end by itself: not after")
def test_instances_of_a_site_that_goes_dark_end_themselves_and_their_groups_start_no_others(site: Site) -> None:
    with orphan_timeout(site, "40s", "60s"), scenario(site, launches=2, again=("alone",)):
        submit(site, "alone", 90, retries=1)
        first = run_somewhere(site, "alone")["alone"]
        with without_unit(site, VPN_SERVER):
            wait_until(lambda: not site.cars.hosts(), seconds=240, what="its end by itself", every=1)
            assert {name: group["DesiredCapacity"] for name, group in groups(site).items()} == {ONE_BOARD: 0, TWO_BOARDS: 0}
            assert "orphaned" in evidence(site, first)
        moved(site, "alone", first)
        succeed(site, "alone")


@contextmanager
def idle_node(site: Site) -> Iterator[str]:
    """An instance that has joined and that nobody needs, for longer than it bears a site that is dark: the autoscaler would leave it for an hour."""
    with idle_for(site, "60m"), orphan_timeout(site, "40s", "60m"), scenario(site, launches=1):
        set_desired(site, ONE_BOARD, 1)
        wait_until(lambda: bool(instances()), seconds=120, what="its node", every=1)
        (instance,) = instances()
        state = "systemctl show --value --property=ActiveState fpga-hybrid-watch"  # which begins when bootstrap has ended
        wait_until(lambda: on(site, instance, state).strip() == "active", seconds=120, what="its watch", every=1)
        yield instance


@slow
@protected_by("the instance ends itself", of_watch("if self._timer.is_over(self._timeouts):", "if False:"), seen="its end by itself: not after")
def test_an_idle_instance_of_a_site_that_goes_dark_ends_itself_sooner(site: Site) -> None:
    with idle_node(site) as instance, without_unit(site, VPN_SERVER):
        wait_until(lambda: not site.cars.hosts(), seconds=180, what="its end by itself", every=1)
        assert groups(site)[ONE_BOARD]["DesiredCapacity"] == 0
        assert "orphaned" in evidence(site, instance)


#: How long one that no group has is left to whoever looks at it, and until it asks again.
FOR_A_LOOK = InstanceEdit(
    "roles/bootstrap/files/fpga_hybrid/orphan.py",
    "300.0, 600.0\n#: Seconds that keeper leaves a failed instance running for a look, out of its group (keep_failed).\nKEPT = 7200.0",
    "300.0, 20.0\nKEPT = 20.0",
    "fpga-hybrid-watch",
)


@slow
@protected_by(
    "an instance that no group has powers itself off",
    of_watch('        return "AutoScalingInstances" in answer and not answer["AutoScalingInstances"]\n', "        return False\n"),
    seen="its end by itself: not after",
)
def test_an_instance_that_no_group_has_powers_itself_off_where_the_site_is_dark(site: Site) -> None:
    """As keeper takes one out of its group for a look, and is not there any more to end it."""
    with FOR_A_LOOK(site), idle_node(site) as instance:
        asg = site.cloud.own_client("autoscaling")
        asg.detach_instances(AutoScalingGroupName=f"lab-{ONE_BOARD}", InstanceIds=[instance], ShouldDecrementDesiredCapacity=True)
        with without_unit(site, VPN_SERVER):
            wait_until(lambda: not site.cars.hosts(), seconds=240, what="its end by itself", every=1)
            assert "powers itself off" in evidence(site, instance)


@slow
@protected_by(
    "the VPN server reads the revocation list, and knows only the clients that are entered",
    ControlPlaneEdit(
        "roles/openvpn/files/fpga_hybrid_vpn.py", "for name in sorted(found - set(entries)):", "for name in ():", "/opt/fpga-hybrid/bin/fpga-hybrid-vpn"
    ),
    ControlPlaneEdit(
        "roles/openvpn/templates/server.conf.j2",
        "\ncrl-verify ",
        "\n# crl-verify ",
        "/etc/openvpn/server/fpga-hybrid.conf",
        then=("systemctl", "restart", VPN_SERVER),
    ),
    seen="its word that it ends itself: not after",
)
def test_a_node_whose_certificate_was_revoked_does_not_come_back_and_ends_itself(site: Site) -> None:
    with orphan_timeout(site, "40s", "60s"), scenario(site, launches=2, again=("revoked",)):
        submit(site, "revoked", 60, retries=1)
        first = run_somewhere(site, "revoked")["revoked"]
        site.control_plane("/opt/fpga-hybrid/bin/fpga-hybrid-vpn", "revoke", first)
        on(site, first, "systemctl restart openvpn-client@fpga-hybrid --no-block; systemctl restart --no-block fpga-hybrid-bootstrap")
        wait_until(lambda: "orphaned" in evidence(site, first), seconds=240, what="its word that it ends itself", every=1)
        wait_until(lambda: first not in site.cars.hosts(), seconds=60, what="its end by itself", every=1)
        assert phase_of(site, first) in ("joined", "gone"), "it was enrolled a second time"
        moved(site, "revoked", first)
        succeed(site, "revoked")


@slow
@protected_by("pods on FPGAs bear an outage for half an hour", without_pods_policy, seen="steadfast has failed")
def test_a_job_survives_a_vpn_server_that_is_down_for_7_minutes(site: Site) -> None:
    outlast(site, minutes=7)


@slow
@protected_by("an instance that works waits for its site", functools.partial(orphan_timeout, idle="40s", busy="2m"), seen="found no instance any more")
def test_a_job_survives_a_vpn_server_that_is_down_for_20_minutes(site: Site) -> None:
    outlast(site, minutes=20)


def outlast(site: Site, minutes: int) -> None:
    with scenario(site, launches=1):
        submit(site, "steadfast", minutes * 60 + 60, tolerations=[TOLERATION])  # which it would have of the policy, too
        run_somewhere(site, "steadfast")
        with without_unit(site, VPN_SERVER):
            end = time.monotonic() + minutes * 60
            while time.monotonic() < end:
                assert site.cars.hosts(), "found no instance any more"
                assert not json.loads(kubectl(site, "get", "job", "-n", NAMESPACE, "steadfast", "-o", "json"))["status"].get("failed"), "steadfast has failed"
                time.sleep(5)
        succeed(site, "steadfast", seconds=300)


# --- keeper itself


@slow
@protected_by(
    "a calm keeper looks seldom",
    of_keeper("keeper", "self.settings.interval * CALM", "EAGER"),
    of_keeper("keeper", "self.aws.succeeded(now, self.settings.interval)", "self.aws.succeeded(now, 0)"),
    seen="<= 2",
)
def test_keeper_takes_little_while_there_is_nothing_to_do(site: Site) -> None:
    """With an instance at work, and without one."""
    with scenario(site, launches=1):
        submit(site, "calm", 100)
        run_somewhere(site, "calm")
        time.sleep(15)  # it tells the address, and forgets the bundle
        with_one = usage_of_keeper(site)
        succeed(site, "calm")
    without = usage_of_keeper(site)
    for usage in (with_one, without):
        print(usage)
        assert usage["MiB at most"] < 80
        assert usage["% of a core"] < 1
        assert usage["AWS calls in 10 s"] <= 2


def usage_of_keeper(site: Site, seconds: int = 60) -> dict[str, float]:
    """Memory is its peak since keeper has begun. Programs that it has called and that have ended count in its time, too."""
    process = int(site.control_plane("systemctl", "show", "--value", "--property=MainPID", KEEPER_UNIT))

    def processor() -> float:
        user, system, of_called, system_of_called = site.control_plane("cat", f"/proc/{process}/stat").rpartition(")")[2].split()[11:15]
        return sum(map(int, (user, system, of_called, system_of_called))) / os.sysconf("SC_CLK_TCK")

    def peak() -> float:
        return int(re.findall(r"VmHWM:\s+(\d+) kB", site.control_plane("cat", f"/proc/{process}/status"))[0]) / 1024

    def calls() -> int:
        return sum("user/keeper" in call["identity"] for call in site.cloud.calls())

    began, used, asked = time.monotonic(), processor(), calls()
    time.sleep(seconds)
    took = time.monotonic() - began
    return {
        "MiB at most": round(peak(), 1),
        "% of a core": round((processor() - used) / took * 100, 2),
        "AWS calls in 10 s": round((calls() - asked) / took * 10, 2),
    }


# --- many at once


@slow
@protected_by(
    "systemd starts keeper again",
    by_commands(
        ("sh", "-c", f"mkdir -p {KEEPER_DROP_IN} && printf '[Service]\\nRestart=no\\n' > {KEEPER_DROP_IN}/no-restart.conf && systemctl daemon-reload"),
        ("sh", "-c", f"rm -r {KEEPER_DROP_IN} && systemctl daemon-reload && systemctl start {KEEPER_UNIT}"),
    ),
    seen="running: not after",
)
def test_two_scale_ups_of_five_while_keeper_restarts_give_ten_nodes(site: Site) -> None:
    site.cloud.settings(quotas={"L-74FC7D96": 1024.0})
    with scenario(site, launches=10, most=10):
        site.ansible("ansible-playbook", "playbooks/pools.yml", credentials=site.users["pools"], lab_cloud_max=10)
        site.ansible("ansible-playbook", "site.yml", "--tags", "cluster", lab_cloud_max=10, **QUICK)
        names = [f"many-{number}" for number in range(10)]
        for name in names[:5]:
            submit(site, name, 300)
        wait_until(lambda: len(site.cars.hosts()) >= 2, seconds=120, what="the first ones", every=0.5)
        bring_keeper(site, "restart")
        for name in names[5:]:
            submit(site, name, 300)
        for _again in range(3):
            time.sleep(15)
            site.control_plane("systemctl", "kill", "--signal=KILL", KEEPER_UNIT)
        nodes = run_somewhere(site, *names, seconds=600)
        assert len(set(nodes.values())) == 10
        succeed(site, *names, seconds=900)
    site.ansible("ansible-playbook", "playbooks/pools.yml", credentials=site.users["pools"])  # after a failure that is for put_right, which ends them first


# --- people's hands


@protected_by("the autoscaler ends what is idle", functools.partial(idle_for, duration="60m"), seen="its end: not after")
def test_an_instance_by_hand_in_our_group_joins_and_goes_when_nobody_needs_it(site: Site) -> None:
    with scenario(site, launches=1):
        set_desired(site, ONE_BOARD, 1)
        wait_until(lambda: bool(instances()), seconds=120, what="its node", every=1)
        wait_until(lambda: not site.cars.hosts(), seconds=180, what="its end", every=1)


@protected_by(
    "keeper enrols members of its groups only",
    of_keeper("cloud", 'group=tags.get(GROUP_OF_INSTANCE, "")', f'group=tags.get(GROUP_OF_INSTANCE, "lab-{ONE_BOARD}")'),
    of_keeper("plan", "elif name in group.instances and self.world.nodes", "elif self.world.nodes"),
    seen="phase",
)
def test_an_instance_that_only_carries_our_tags_gets_nothing(site: Site) -> None:
    with scenario(site, launches=1):
        ec2 = site.cloud.own_client("ec2")
        template = {"LaunchTemplateName": f"lab-{ONE_BOARD}"}
        (stranger,) = ec2.run_instances(LaunchTemplate=template, MinCount=1, MaxCount=1)["Instances"]
        instance = stranger["InstanceId"]
        wait_until(lambda: phase_of(site, instance) != "", seconds=120, what="keeper's word", every=1)
        time.sleep(20)
        assert phase_of(site, instance) in ("seen", "refused"), keeper_status(site)["instances"][instance]
        assert instance not in instances()
        ec2.terminate_instances(InstanceIds=[instance])


@protected_by("pools.yml compares sizes", Edit("plugins/module_utils/_node_pool_plan.py", " if group.described.get(name) != value}", " if False}"), seen="(1, ")
def test_a_group_changed_by_hand_is_told_and_put_right_without_an_instance(site: Site) -> None:
    with scenario(site, launches=0, most=0):
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


@protected_by(
    "pools.yml gives the group the template that is there",
    Edit(
        "plugins/module_utils/_node_pool_plan.py",
        "return {} if named and same and not group.launch_configuration else launch",
        "return {} if named is not None and same is not None else launch",
    ),
    seen="== 'lt-",
)
def test_without_its_launch_template_a_pool_launches_nothing_until_pools_yml_has_run(site: Site) -> None:
    with scenario(site, launches=0, most=0):
        site.cloud.own_client("ec2").delete_launch_template(LaunchTemplateName=f"lab-{TWO_BOARDS}")
        submit(site, "templateless", 5)
        wait_until(lambda: "does not exist" in activities(site, TWO_BOARDS), seconds=150, what="AWS' word that it cannot launch", every=1)
        kubectl(site, "delete", "job", "-n", NAMESPACE, "templateless")
        set_desired(site, TWO_BOARDS, 0)
        site.ansible("ansible-playbook", "playbooks/pools.yml", credentials=site.users["pools"])
        assert "changed=0" in site.ansible("ansible-playbook", "playbooks/pools.yml", credentials=site.users["pools"])
        there = site.cloud.own_client("ec2").describe_launch_templates(LaunchTemplateNames=[f"lab-{TWO_BOARDS}"])["LaunchTemplates"]
        assert groups(site)[TWO_BOARDS]["LaunchTemplate"]["LaunchTemplateId"] == there[0]["LaunchTemplateId"]


def activities(site: Site, pool: str) -> str:
    found = site.cloud.own_client("autoscaling").describe_scaling_activities(AutoScalingGroupName=f"lab-{pool}")["Activities"]
    return " ".join(activity.get("StatusMessage", "") for activity in found)
