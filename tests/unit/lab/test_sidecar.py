# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's side-car: what it does about which instance, and what a host of one is. Podman is scripted here; tests/lab has the real one."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from lab import lock, podman, recovery
from lab.cloud import __main__ as command_line
from lab.cloud import server, sidecar
from lab.cloud.sidecar import ADDRESSES, SUBNETS, Action, Listed, Phase, SideCar, SideCarError, console_text, free_address, make_subnets, plan, said_address
from lab.fpga import hosts as fpga
from lab.hosts import container
from lab.lock import BusyError, held
from lab.run import CommandError, wait_until
from lab.settings import VPC, InstanceHost, LabError
from tests.unit.lab.test_cloud import instances, make_group, make_template, scale

if TYPE_CHECKING:
    from lab.cloud.server import Cloud

HOST = InstanceHost("i-0123456789abcdef0", VPC, IPv4Address("10.203.30.100"))

# ---- what is to be done


@pytest.mark.parametrize(
    ("state", "phase", "action"),
    [
        ("pending", None, Action.START),
        ("running", None, Action.START),
        ("running", Phase.UP, None),
        ("running", Phase.OFF, Action.BOOT),
        ("stopping", Phase.UP, Action.STOP),
        ("stopped", Phase.UP, Action.STOP),
        ("stopped", Phase.OFF, None),
        ("stopped", None, None),
        ("shutting-down", Phase.UP, Action.END),
        ("terminated", Phase.UP, Action.END),
        ("terminated", Phase.OFF, Action.END),
        ("terminated", None, None),
        ("gone", Phase.UP, Action.END),
        ("gone", Phase.OFF, Action.END),
        *((state, Phase.FAILED, Action.END) for state in ("pending", "running", "stopped", "terminated", "gone")),
        *((state, Phase.CHANGING, None) for state in ("pending", "running", "stopped", "terminated", "gone")),
    ],
)
def test_each_host_becomes_what_aws_says_of_its_instance(state, phase, action):
    listed = [] if state == "gone" else [Listed("i-1", "f2.6xlarge", state, "")]
    phases = {} if phase is None else {"i-1": phase}
    assert plan(listed, phases) == ({} if action is None else {"i-1": action})


# ---- addresses


@pytest.mark.parametrize(("said", "had"), [("10.203.30.100", True), ("10.203.30.199", True), ("10.203.30.99", False), ("172.31.0.4", False), ("", False)])
def test_an_instance_has_the_address_that_aws_says_where_a_host_can_have_it(said, had):
    assert said_address(said) == (IPv4Address(said) if had else None)


def test_another_one_gets_a_free_one_that_aws_gives_last_if_ever():
    assert free_address({ADDRESSES[-1], ADDRESSES[-3]}) == ADDRESSES[-2]
    assert not any(free_address(()) in IPv4Network(network) for network in SUBNETS.values())


def test_without_a_free_address_it_is_said_what_to_do():
    with pytest.raises(LabError, match=r"all of 10\.203\.30\.100 to 10\.203\.30\.199 are taken"):
        free_address(ADDRESSES)


def test_aws_gives_in_the_labs_subnets_what_a_host_can_have_and_no_address_twice():
    networks = [IPv4Network(network) for network in SUBNETS.values()]
    given = [address for network in networks for address in list(network)[4:-1]]
    assert set(given) <= set(ADDRESSES)
    assert len(set(given)) == len(given)
    assert not {VPC.gateway, VPC.depot} & set(given)
    assert all(network.subnet_of(VPC.subnet) for network in networks)


# ---- what a host of an instance is


@pytest.mark.parametrize(
    ("instance_type", "boards"),
    [
        ("f2.6xlarge", ["aws-vu47p-f2"]),
        ("f2.12xlarge", ["aws-vu47p-f2"] * 2),
        ("f2.48xlarge", ["aws-vu47p-f2"] * 8),
        ("f1.2xlarge", ["aws-vu9p-f1"]),
        ("f1.4xlarge", ["aws-vu9p-f1"] * 2),
        ("f1.16xlarge", ["aws-vu9p-f1"] * 8),
        ("m5.large", []),
    ],
)
def test_an_instance_has_the_boards_of_its_type_each_in_a_slot_of_its_own(instance_type, boards):
    found = fpga.of_type(instance_type)
    assert [one.board for one in found] == boards
    assert len({one.slot for one in found}) == len(boards)


def command() -> list[str]:
    return container.create_command(HOST, image_reference="image:1", modules_folder=Path("/m"), ulimits=(), options=sidecar.OPTIONS)


def test_its_host_is_called_as_ec2_calls_it_and_has_a_console():
    words = " ".join(command())
    assert "--name fpga-hybrid-i-0123456789abcdef0 --hostname ip-10-203-30-100" in words
    assert "--network fpga-hybrid-vpc:ip=10.203.30.100" in words
    assert words.endswith("--tty image:1")


def labels() -> dict[str, str]:
    words = command()
    return dict(words[n + 1].split("=", 1) for n, word in enumerate(words) if word == "--label")


def test_its_host_is_none_of_the_labs_own_so_nobody_takes_it_over(monkeypatch):
    monkeypatch.setattr(podman, "lab_containers", lambda: [{"Labels": labels()}, {"Labels": {"fpga-hybrid.lab": "1"}}])
    assert container.every() == []
    assert container.instances() == [HOST]


def test_its_cloud_init_is_told_where_it_is_by_a_file_that_yaml_reads():
    tar = container.settings_tar(HOST, "key", (), {sidecar.CLOUD_INIT_FILE: sidecar.CLOUD_INIT.read_text()})
    with tarfile.open(fileobj=io.BytesIO(tar)) as found:
        settings = yaml.safe_load(found.extractfile("etc/cloud/cloud.cfg.d/90-lab.cfg").read())
        hosts = found.extractfile("etc/hosts").read().decode()
    assert settings["datasource_list"] == ["Ec2"]
    assert {"write-files", "runcmd", "scripts-user"} <= {
        module for stage in ("cloud_init_modules", "cloud_config_modules", "cloud_final_modules") for module in settings[stage]
    }
    assert "127.0.1.1\tip-10-203-30-100\n" in hosts
    assert "10.203.30.2\tdepot\n" in hosts


def test_the_console_is_what_podman_has_kept_without_podmans_own():
    log = "2026-11-26T03:29:18.1+00:00 stdout F first\n2026-11-26T03:29:18.2+00:00 stdout P sec\n2026-11-26T03:29:18.2+00:00 stdout F ond\nbroken\n"
    assert console_text(log) == "first\nsecond\n"


# ---- what is left of a killed one


class Remains:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.removed: list[str] = []
        monkeypatch.setattr(lock, "LOCKS", folder)
        monkeypatch.setattr(container, "instances", lambda: [HOST])
        monkeypatch.setattr(podman, "inspect_containers", lambda *_names: [])
        monkeypatch.setattr(podman, "lab_volumes", lambda _label: ["fpga-hybrid-i-0-etcd"])
        monkeypatch.setattr(container, "remove", lambda host: self.removed.append(host.name))
        monkeypatch.setattr(container, "remove_volume", self.removed.append)


@pytest.fixture
def remains(monkeypatch, tmp_path) -> Remains:
    return Remains(monkeypatch, tmp_path)


def test_hosts_whose_side_car_has_gone_are_removed_with_their_volumes(remains):
    recovery.after_side_car()
    assert remains.removed == [HOST.name, "fpga-hybrid-i-0-etcd"]


def test_hosts_of_a_side_car_that_runs_are_left_alone(remains):
    with held("cloud", seconds=0):
        recovery.after_side_car()
    assert remains.removed == []


def test_a_lock_that_is_not_waited_for_names_who_has_it_and_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(lock, "LOCKS", tmp_path)
    with held("cloud", seconds=0), pytest.raises(BusyError, match=f"runs \\(process {os.getpid()}\\) and has hosts"):  # noqa: SIM117
        with held("cloud", seconds=0, busy=recovery.SIDE_CAR_RUNS):
            pass


# ---- the side-car at work, its hosts being processes that sleep


class Hosts:
    """Podman's part: containers whose first process is a real one, so that its end is real."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.done: list[tuple[str, str]] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.status = 0
        #: Verb -> what its next calls raise, one after another.
        self.failing: dict[str, list[Exception]] = {}
        self.log = folder / "log"
        self.log.write_text("2026-11-26T03:29:18.1+00:00 stdout F boots\n")
        monkeypatch.setattr(lock, "LOCKS", folder)
        monkeypatch.setattr(sidecar, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(sidecar, "RETRY_SECONDS", 0.0)
        monkeypatch.setattr(sidecar.lifecycle, "prepare", lambda _hosts: None)
        monkeypatch.setattr(podman, "image_exists", lambda reference: reference == "image:1")
        monkeypatch.setattr(podman, "inspect_containers", self.inspect)
        monkeypatch.setattr(podman, "lab_containers", list)
        monkeypatch.setattr(sidecar, "run", self.run)
        monkeypatch.setattr(sidecar, "listen_in", lambda _namespace: socket.create_server(("127.0.0.1", 0)))
        monkeypatch.setattr(container, "ensure_ssh_key", lambda: "key")
        monkeypatch.setattr(container, "make", self.make)
        monkeypatch.setattr(container, "stop", lambda host, _seconds: self.end("stop", host))
        monkeypatch.setattr(container, "remove", lambda host: self.end("remove", host))

    def make(self, host: InstanceHost, image: str, _settings: bytes, options: Any) -> str:
        self.did("make", host.name)
        assert (image, options) == ("image:1", ("--tty",))
        return "id"

    def run(self, *words: str, **_options: Any) -> str:
        verb, name = words[1], words[2].removeprefix("fpga-hybrid-")
        self.did(verb, name)
        if verb == "init":
            self.processes[name] = subprocess.Popen(["sleep", "600"])
        return str(self.status)

    def did(self, verb: str, name: str) -> None:
        self.done.append((verb, name))
        if self.failing.get(verb):
            raise self.failing[verb].pop(0)

    def inspect(self, name: str) -> list[dict[str, Any]]:
        process = self.processes[name.removeprefix("fpga-hybrid-")]
        return [{"State": {"Pid": process.pid}, "HostConfig": {"LogConfig": {"Path": str(self.log)}}}]

    def end(self, verb: str, host: InstanceHost) -> None:
        self.did(verb, host.name)
        if host.name in self.processes:
            self.exit(host.name)

    def exit(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def verbs(self, name: str) -> list[str]:
        return [verb for verb, of in self.done if of == name]


@pytest.fixture
def hosts(monkeypatch, tmp_path) -> Iterator[Hosts]:
    made = Hosts(monkeypatch, tmp_path)
    yield made
    for name in made.processes:
        made.exit(name)


@contextmanager
def side_car(cloud: Cloud) -> Iterator[SideCar]:
    with SideCar(cloud, "image:1", tell=lambda _text: None) as cars:
        yield cars


def launch(cloud: Cloud, **values: Any) -> str:
    given = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "f2.6xlarge", "SubnetId": make_subnets(cloud)["us-east-1a"], **values}
    return str(cloud.client("ec2").run_instances(MinCount=1, MaxCount=1, **given)["Instances"][0]["InstanceId"])


def eventually(true: Callable[[], bool]) -> None:
    wait_until(true, seconds=20, what="it comes to that", every=0.01)


def test_a_launched_instance_gets_a_host_and_a_terminated_one_loses_it(cloud, hosts):
    instance = launch(cloud)
    with side_car(cloud) as cars:
        assert [host.address for host in cars.wait_for(instance)] == [IPv4Address("10.203.30.100")]
        cloud.client("ec2").terminate_instances(InstanceIds=[instance])
        cars.wait_until_gone(instance)
    assert hosts.verbs(instance) == ["make", "init", "start", "stop", "remove"]


def test_what_it_asks_of_aws_is_neither_recorded_nor_faulted(cloud, hosts):
    instance = launch(cloud)
    cloud.forget_calls()
    cloud.fault("deny")
    with side_car(cloud) as cars:
        cars.wait_for(instance)
    assert cloud.calls() == []


def test_its_end_takes_every_host_with_it(cloud, hosts):
    instance = launch(cloud)
    with side_car(cloud) as cars:
        cars.wait_for(instance)
    assert hosts.verbs(instance)[-1] == "remove"
    with held("cloud", seconds=0):  # and its lock is free again
        pass


def test_an_address_of_elsewhere_is_replaced_and_the_metadata_say_so(cloud, hosts):
    (subnet, *_others) = cloud.client("ec2").describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    instance = launch(cloud, SubnetId=subnet["SubnetId"])
    with side_car(cloud) as cars:
        (host,) = cars.wait_for(instance)
        told = cars._describe(cars._guests[instance])
        assert host.address == IPv4Address("10.203.30.199")
        assert (told.address, told.name) == ("10.203.30.199", "ip-10-203-30-199.ec2.internal")
        assert any("which AWS says" in event.text for event in cars.events)


@pytest.mark.parametrize("behaviour", ["stop", "terminate"])
def test_powering_off_from_within_is_what_its_shutdown_behaviour_says(cloud, hosts, behaviour):
    instance = launch(cloud, InstanceInitiatedShutdownBehavior=behaviour)
    with side_car(cloud) as cars:
        cars.wait_for(instance)
        hosts.exit(instance)
        if behaviour == "stop":
            eventually(lambda: instances(cloud)[0]["State"]["Name"] == "stopped" and cars._guests[instance].phase is Phase.OFF)
            cloud.client("ec2").start_instances(InstanceIds=[instance])
            cars.wait_for(instance)
            assert hosts.verbs(instance) == ["make", "init", "start", "wait", "init", "start"]
        else:
            cars.wait_until_gone(instance)
            assert instances(cloud)[0]["State"]["Name"] == "terminated"


def test_rebooting_from_within_leaves_the_instance_as_it_is(cloud, hosts):
    instance = launch(cloud)
    with side_car(cloud) as cars:
        cars.wait_for(instance)
        hosts.status = sidecar.REBOOTED
        hosts.exit(instance)
        eventually(lambda: hosts.verbs(instance) == ["make", "init", "start", "wait", "init", "start"])
        assert instances(cloud)[0]["State"]["Name"] == "running"


def test_a_host_that_cannot_be_made_is_said_and_tried_again(cloud, hosts):
    hosts.failing["make"] = [CommandError(["podman"], 125, "address in use")]
    instance = launch(cloud)
    with side_car(cloud) as cars:
        cars.wait_for(instance)
        assert hosts.verbs(instance) == ["make", "remove", "make", "init", "start"]
        assert any("address in use" in event.text for event in cars.events)


#: None of them is of the kinds that a host's trouble has.
SURPRISE = json.JSONDecodeError("podman said nothing", "", 0)


@pytest.mark.parametrize(
    ("verb", "verbs"),
    [
        ("make", ["make", "remove", "make", "init", "start"]),
        ("init", ["make", "init", "remove", "make", "init", "start"]),
        ("start", ["make", "init", "start", "remove", "make", "init", "start"]),
    ],
)
def test_whatever_goes_wrong_with_a_host_it_is_tried_again(cloud, hosts, verb, verbs):
    hosts.failing[verb] = [SURPRISE]
    instance = launch(cloud)
    with side_car(cloud) as cars:
        cars.wait_for(instance)
        assert hosts.verbs(instance) == verbs
        assert any("JSONDecodeError('podman said nothing" in event.text for event in cars.events)


def test_a_host_is_gone_when_it_has_been_removed_and_not_before(cloud, hosts):
    hosts.failing["remove"] = [SURPRISE, CommandError(["podman"], 125, "device busy")]
    instance = launch(cloud)
    with side_car(cloud) as cars:
        cars.wait_for(instance)
        cloud.client("ec2").terminate_instances(InstanceIds=[instance])
        cars.wait_until_gone(instance)
        texts = [event.text.partition(":")[0] for event in cars.events]
    assert hosts.verbs(instance)[3:] == ["stop", "remove", "remove", "remove"]
    assert texts[1:] == ["shuts down", "error", "error", "removed"]


@pytest.mark.parametrize("verb", ["init", "start"])
def test_a_stopped_host_that_does_not_boot_keeps_its_disks_and_is_tried_again(cloud, hosts, verb):
    instance = launch(cloud)
    with side_car(cloud) as cars:
        cars.wait_for(instance)
        cloud.client("ec2").stop_instances(InstanceIds=[instance])
        eventually(lambda: cars._guests[instance].phase is Phase.OFF)
        hosts.failing[verb] = [CommandError(["podman"], 125, "no such network")]
        del hosts.done[:]
        cloud.client("ec2").start_instances(InstanceIds=[instance])
        cars.wait_for(instance)
    tried = ["init"] if verb == "init" else ["init", "start"]
    assert hosts.verbs(instance) == [*tried, "stop", "init", "start", "remove"]


def test_a_power_off_that_aws_is_not_told_of_at_first_is_told_again(cloud, hosts):
    instance = launch(cloud)
    with side_car(cloud) as cars:
        cars.wait_for(instance)
        hosts.failing["wait"] = [SURPRISE]
        hosts.exit(instance)
        eventually(lambda: instances(cloud)[0]["State"]["Name"] == "stopped" and cars._guests[instance].phase is Phase.OFF)
    assert hosts.verbs(instance) == ["make", "init", "start", "wait", "wait", "remove"]


def test_hosts_that_fail_do_not_hold_up_the_others(cloud, hosts, monkeypatch):
    monkeypatch.setattr(sidecar, "RETRY_SECONDS", 600.0)
    hosts.failing["make"] = [SURPRISE] * sidecar.SIDE_BY_SIDE
    with side_car(cloud) as cars:
        failing = [launch(cloud) for _ in range(sidecar.SIDE_BY_SIDE)]
        eventually(lambda: not hosts.failing["make"] and all(cars._guests[one].phase is Phase.FAILED for one in failing))
        cars.wait_for(launch(cloud))
        assert [hosts.verbs(one) for one in failing] == [["make"]] * sidecar.SIDE_BY_SIDE


def fail(*_arguments: object) -> None:
    raise KeyError("Labels")


@pytest.mark.parametrize("ask", [lambda cars: cars.hosts(), lambda cars: cars.wait_for("i-1"), lambda cars: cars.wait_until_gone("i-1"), lambda _cars: None])
def test_a_mistake_of_the_side_car_is_told_to_whoever_asks_and_at_its_end(cloud, hosts, monkeypatch, ask):
    def use() -> None:
        with SideCar(cloud, "image:1", tell=told.append) as cars:
            cars._thread.join(20)
            ask(cars)

    told: list[str] = []
    monkeypatch.setattr(sidecar, "plan", fail)
    with pytest.raises(SideCarError, match=r"KeyError\('Labels'\)"):
        use()
    assert ["Traceback" in text for text in told] == [True]
    with held("cloud", seconds=0):  # and its lock is free again
        pass


def test_a_side_car_that_cannot_even_tell_has_failed(cloud, hosts):
    def tell(_text: str) -> None:
        raise BrokenPipeError

    def use() -> None:
        with SideCar(cloud, "image:1", tell=tell) as cars:
            cars.wait_for(instance, seconds=20)

    instance = launch(cloud)
    with pytest.raises(SideCarError, match="BrokenPipeError"):
        use()


def test_the_command_ends_with_its_side_car(cloud, hosts, monkeypatch):
    monkeypatch.setattr(sidecar, "plan", fail)
    monkeypatch.setattr(server, "Cloud", lambda *_arguments: nullcontext(cloud))
    monkeypatch.setattr(signal, "signal", lambda *_arguments: None)
    monkeypatch.setattr(sys, "argv", ["lab.cloud", "--hosts", "image:1"])
    with pytest.raises(SystemExit, match="error: the side-car has failed"):
        command_line.main()


def test_a_listing_is_taken_after_the_phases_that_it_is_compared_with(cloud, hosts, monkeypatch):
    """A host that was stopped while AWS was listing is still running by that list."""
    instance = launch(cloud)
    with side_car(cloud) as cars:
        cars.wait_for(instance)
        list_them, turns = cars._list, []

        def stopped_meanwhile() -> Iterator[Listed]:
            found = list(list_them())
            if not turns:
                cloud.client("ec2").stop_instances(InstanceIds=[instance])
                cars._guests[instance].phase = Phase.OFF
            turns.append(found)
            return iter(found)

        monkeypatch.setattr(cars, "_list", stopped_meanwhile)
        eventually(lambda: len(turns) > 2)
        assert hosts.verbs(instance) == ["make", "init", "start"]


def test_seconds_count_from_when_aws_listed_the_instance_first(cloud, hosts, monkeypatch):
    may_start = threading.Event()
    make = hosts.make
    monkeypatch.setattr(container, "make", lambda *words: may_start.wait(20) and make(*words))
    hosts.failing["make"] = [SURPRISE]
    instance = launch(cloud)
    with side_car(cloud) as cars:
        eventually(lambda: instance in cars._guests)
        cars._first_listed[instance] -= 1000
        may_start.set()
        cars.wait_for(instance)
    assert [event.seconds > 1000 for event in cars.events] == [True] * 3


def test_what_a_host_says_is_its_console_output_and_stays_after_its_end(cloud, hosts):
    instance = launch(cloud)
    ec2 = cloud.client("ec2")
    with side_car(cloud) as cars:
        cars.wait_for(instance)
        eventually(lambda: ec2.get_console_output(InstanceId=instance).get("Output") == "boots\n")
        with hosts.log.open("a") as log:
            log.write("2026-11-26T03:29:19.1+00:00 stdout F did not join\n")
        ec2.terminate_instances(InstanceIds=[instance])
        cars.wait_until_gone(instance)
    assert ec2.get_console_output(InstanceId=instance)["Output"] == "boots\ndid not join\n"


def test_an_interrupted_spot_instance_is_told_and_then_terminated(cloud, hosts):
    instance = launch(cloud, InstanceMarketOptions={"MarketType": "spot"})
    with side_car(cloud) as cars:
        cars.wait_for(instance)
        cars.interrupt(instance, seconds=600)
        notice = cars._describe(cars._guests[instance]).spot_notice
        assert notice is not None
        assert notice["action"] == "terminate"
        assert instances(cloud)[0]["State"]["Name"] == "running"
        cars.interrupt(instance, seconds=0)
        cars.wait_until_gone(instance)
    (found,) = instances(cloud)
    assert (found["State"]["Name"], found["StateReason"]["Code"]) == ("terminated", "Server.SpotInstanceTermination")


def test_an_interruption_is_forgotten_only_when_aws_has_been_told(cloud, hosts, monkeypatch):
    instance = launch(cloud)
    with side_car(cloud) as cars:
        cars.wait_for(instance)
        interrupt, refused = cloud.interrupt, threading.Event()

        def refuse_once(identifier: str) -> None:
            if not refused.is_set():
                refused.set()
                raise OSError("connection reset")
            interrupt(identifier)

        monkeypatch.setattr(cloud, "interrupt", refuse_once)
        cars.interrupt(instance, seconds=0)
        cars.wait_until_gone(instance)
        eventually(lambda: not cars._interrupted)
    assert refused.is_set()


def test_of_an_instance_that_ends_before_it_is_due_no_interruption_is_left(cloud, hosts):
    instance = launch(cloud)
    with side_car(cloud) as cars:
        cars.wait_for(instance)
        cars.interrupt(instance, seconds=600)
        cloud.client("ec2").terminate_instances(InstanceIds=[instance])
        eventually(lambda: not cars._interrupted)


def test_without_a_host_there_is_nothing_to_interrupt(cloud, hosts):
    with side_car(cloud) as cars:
        with pytest.raises(LabError, match="i-1 has no host"):
            cars.interrupt("i-1")
        assert cars._interrupted == {}


def test_an_address_that_another_living_instance_has_is_replaced_and_that_is_said(cloud, hosts):
    with side_car(cloud) as cars:
        first, second = launch(cloud), launch(cloud)  # each in a VPC of its own, with the same addresses
        had, has = cars.wait_for(first, second)
    assert {had.address, has.address} == {IPv4Address("10.203.30.100"), ADDRESSES[-1]}
    assert [event.text for event in cars.events if "address" in event.text] == [
        f"its address is {ADDRESSES[-1]}: 10.203.30.100, which AWS says, is that of {first if has.address == ADDRESSES[-1] else second}"
    ]


def test_an_address_that_aws_gives_anew_waits_for_the_host_that_had_it(cloud, hosts, monkeypatch):
    may_end = threading.Event()
    monkeypatch.setattr(container, "stop", lambda _host, _seconds: may_end.wait(20))
    make_template(cloud)
    make_group(cloud, AvailabilityZones=["us-east-1a"], VPCZoneIdentifier=make_subnets(cloud)["us-east-1a"])
    scale(cloud, 1)
    (first,) = instances(cloud)
    with side_car(cloud) as cars:
        (had,) = cars.wait_for(first["InstanceId"])
        cloud.client("autoscaling").terminate_instance_in_auto_scaling_group(InstanceId=first["InstanceId"], ShouldDecrementDesiredCapacity=False)
        (second,) = (one for one in instances(cloud) if one["State"]["Name"] == "running")
        assert second["PrivateIpAddress"] == first["PrivateIpAddress"]
        may_end.set()
        (has,) = cars.wait_for(second["InstanceId"])
    assert has.address == had.address
    assert hosts.done.index(("remove", first["InstanceId"])) < hosts.done.index(("make", second["InstanceId"]))


def test_without_an_image_nothing_is_begun(cloud, hosts):
    with pytest.raises(LabError, match="no image image:2"), SideCar(cloud, "image:2"):
        pass


def test_one_side_car_at_a_time(cloud, hosts):
    with side_car(cloud), pytest.raises(LabError, match="runs already"), side_car(cloud):
        pass


# ---- what EC2 does to a group whose instance stops


def test_a_groups_instance_that_is_stopped_is_terminated_and_replaced(cloud):
    make_template(cloud)
    make_group(cloud)
    scale(cloud, 1)
    (first,) = instances(cloud)
    cloud.client("ec2").stop_instances(InstanceIds=[first["InstanceId"]])
    states = {one["InstanceId"]: one["State"]["Name"] for one in instances(cloud)}
    assert states.pop(first["InstanceId"]) == "terminated"
    assert list(states.values()) == ["running"]


def test_with_its_health_check_suspended_a_group_keeps_it(cloud):
    make_template(cloud)
    make_group(cloud)
    scale(cloud, 1)
    cloud.client("autoscaling").suspend_processes(AutoScalingGroupName="lab-f2", ScalingProcesses=["ReplaceUnhealthy"])
    (first,) = instances(cloud)
    cloud.client("ec2").stop_instances(InstanceIds=[first["InstanceId"]])
    assert [one["State"]["Name"] for one in instances(cloud)] == ["stopped"]


def test_an_instance_that_has_said_nothing_has_no_console_output(cloud):
    assert "Output" not in cloud.client("ec2").get_console_output(InstanceId=launch(cloud))
