# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's hold on the machine: nothing leaves it, a killed run is taken over, and it is left as it was.

What has to be broken for a test (killed runs, a power cut, `clean`) is broken in a sandbox: network, mount and process namespaces
with a podman of their own, in which a second lab runs beside the real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import machine, settings
from lab.hosts import image
from lab.network import wall

ROOT = Path(__file__).resolve().parents[2]
LAB = str(ROOT / "lab/lab")

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="hosts are rootful containers")]


def shell(*command: str, timeout: float = 300) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert result.returncode == 0, f"{command}: {result.stdout}\n{result.stderr}"
    return result.stdout


# ---- the wall, on the running lab

ONPREM, SITE2 = "wall-onprem", "wall-site2"
ONPREM_ADDRESS, SITE2_ADDRESS = "10.203.10.250", "10.203.20.250"
#: An address of nobody (RFC 5737).
OUTSIDE = "198.51.100.7"
PORT = 1196


@pytest.fixture(scope="module")
def bare_hosts():
    """Two hosts without a VPN, one at each site; and an endpoint at the second site that leads to the first."""
    endpoint = f"site2:{PORT}={ONPREM_ADDRESS}:{PORT}"
    shell(LAB, "host", "add", ONPREM, "--network", "onprem", "--address", ONPREM_ADDRESS)
    shell(LAB, "host", "add", SITE2, "--network", "site2", "--address", SITE2_ADDRESS)
    shell(LAB, "endpoint", "add", endpoint)
    yield
    shell(LAB, "endpoint", "remove", endpoint)
    shell(LAB, "host", "remove", ONPREM, SITE2)


def in_host(name: str, program: str) -> str:
    return shell(LAB, "host", "exec", name, "--", "python3", "-c", program).strip()


def send(host: str, address: str, port: int, count: int = 3) -> None:
    in_host(host, f"import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nfor _ in range({count}): s.sendto(b'hello', ('{address}', {port}))")


def connects(host: str, address: str, port: int) -> str:
    """How a TCP connection from the host ends: ok, or the name of the error."""
    return in_host(
        host,
        f"import socket\ntry: socket.create_connection(('{address}', {port}), timeout=2); print('ok')\nexcept OSError as error: print(type(error).__name__)",
    )


class Listener(threading.Thread):
    """Everything that passes an interface of the machine and names one of the addresses."""

    def __init__(self, interface: str, *addresses: str) -> None:
        super().__init__(daemon=True)
        self.wanted = [socket.inet_aton(address) for address in addresses]
        self.seen = 0
        self.ended = threading.Event()
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((interface, 0))
        self.socket.settimeout(0.2)

    def run(self) -> None:
        while not self.ended.is_set():
            with contextlib.suppress(TimeoutError):
                packet = self.socket.recv(2048)
                self.seen += any(address in packet[14:] for address in self.wanted)

    def __enter__(self) -> Listener:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.5)
        self.ended.set()
        self.join()
        self.socket.close()


def outer_interface() -> str:
    return json.loads(shell("ip", "-json", "route", "show", "default"))[0]["dev"]


def bridge(network: str) -> str:
    return json.loads(shell("podman", "network", "inspect", f"fpga-hybrid-{network}"))[0]["network_interface"]


@pytest.mark.parametrize(
    ("host", "address", "counter"),
    [(ONPREM, OUTSIDE, "outside"), (SITE2, OUTSIDE, "outside"), (ONPREM, SITE2_ADDRESS, "between"), (SITE2, ONPREM_ADDRESS, "between")],
)
def test_what_a_host_sends_elsewhere_is_dropped_and_counted(bare_hosts, host, address, counter):
    before = wall.counters()[counter]
    with Listener(outer_interface(), OUTSIDE, SITE2_ADDRESS, ONPREM_ADDRESS) as outside, Listener(bridge(host.removeprefix("wall-")), address) as inside:
        send(host, address, 53)
    assert wall.counters()[counter] >= before + 3
    assert inside.seen >= 3, "the host's datagrams were not even sent: the test would see nothing outside either"
    assert outside.seen == 0


@pytest.mark.parametrize(("host", "address"), [(ONPREM, OUTSIDE), (ONPREM, SITE2_ADDRESS), (SITE2, ONPREM_ADDRESS)])
def test_a_connection_elsewhere_comes_to_nothing(bare_hosts, host, address):
    assert connects(host, address, 22) == "TimeoutError"


def test_hosts_of_one_site_and_the_machine_reach_each_other(bare_hosts):
    assert connects(ONPREM, "10.203.10.11", 22) == "ok"
    with socket.create_connection((SITE2_ADDRESS, 22), timeout=5) as connection:
        assert connection.recv(4) == b"SSH-"


def test_a_name_is_not_asked_of_a_resolver_of_the_machines(bare_hosts):
    with Listener(outer_interface(), OUTSIDE, SITE2_ADDRESS) as outside:
        assert in_host(SITE2, "import socket\ntry: socket.gethostbyname('example.test'); print('found')\nexcept OSError: print('none')") == "none"
    assert outside.seen == 0


RECEIVER = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', {PORT}))
s.settimeout(20)
data, sender = s.recvfrom(100)
s.sendto(data.upper(), sender)
print(data.decode())
"""
ASK = f"""
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
for _ in range(8):
    s.sendto(b'ping', ('{{address}}', {PORT}))
    try:
        print(s.recv(100).decode())
        break
    except TimeoutError:
        pass
else:
    print('silence')
"""


@contextlib.contextmanager
def receiver() -> Iterator[None]:
    process = subprocess.Popen([LAB, "host", "exec", ONPREM, "--", "python3", "-c", RECEIVER], stdout=subprocess.PIPE)
    try:
        time.sleep(1)
        yield
    finally:
        process.kill()
        process.wait()
        # What runs in the host outlives the command that started it.
        subprocess.run([LAB, "host", "exec", ONPREM, "--", "pkill", "-f", "recvfrom"], check=False)


def test_datagrams_to_an_endpoint_reach_the_server_behind_it_and_are_answered(bare_hosts):
    with receiver():
        assert in_host(SITE2, ASK.format(address="10.203.20.1")) == "PING"


def test_the_server_is_reached_by_its_endpoint_only(bare_hosts):
    """Its own address, even with the endpoint's port, stays behind the wall."""
    with receiver():
        before = wall.counters()["between"]
        assert in_host(SITE2, ASK.format(address=ONPREM_ADDRESS)) == "silence"
        assert wall.counters()["between"] >= before + 8


def test_an_endpoint_that_is_opened_later_serves_a_sender_that_never_stopped(bare_hosts):
    """Clients of a VPN keep asking from one port: what was refused must not stick to that port."""
    endpoint = f"site2:{PORT}={ONPREM_ADDRESS}:{PORT}"
    shell(LAB, "endpoint", "remove", endpoint)
    try:
        with receiver():
            asking = subprocess.Popen([LAB, "host", "exec", SITE2, "--", "python3", "-c", ASK.format(address="10.203.20.1")], stdout=subprocess.PIPE, text=True)
            time.sleep(2.5)
            shell(LAB, "endpoint", "add", endpoint)
            assert asking.communicate(timeout=30)[0].strip() == "PING"
    finally:
        shell(LAB, "endpoint", "add", endpoint)


@pytest.mark.parametrize("address", ["172.27.224.1", "10.244.0.1", "10.96.0.1"])
def test_the_machine_itself_sends_nothing_to_networks_that_are_only_inside(address):
    with pytest.raises(OSError, match=r"No route to host|unreachable"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((address, 9))


# ---- killed, cut off, cleaned up: in a sandbox

#: What podman or the lab needs a real file system for; everything else is a copy-on-write view of the machine's files.
OWN_FOLDERS = ("/run", "/dev/shm", "/var/lib/containers")
SETUP = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mkdir -p ".$2"
mount --bind "$2" ".$2"
for folder in $3; do mkdir -p ".$folder"; mount -t tmpfs tmpfs ".$folder"; done
mkdir run/lock run/netns
rm -rf etc/containers/networks var/lib/fpga-hybrid-lab
ip link set lo up
ip link add outer type veth peer name beyond
ip link set outer addrgenmode none up
ip link set beyond addrgenmode none up
ip address add 192.0.2.2/24 dev outer
ip route add default via 192.0.2.1
# A new network namespace begins with the machine's own value, which is 1 while a lab runs there.
echo 0 > proc/sys/net/ipv4/ip_forward
mkdir old
pivot_root . old
cd /
umount -l old
touch /run/ready
exec sleep infinity
"""


@dataclass
class Sandbox:
    """A machine of its own as far as the lab can tell: interfaces, firewall, processes, podman, files.

    Its files are an overlay over the machine's: whatever a test or a fault does in here, the machine's own stay as they are.
    """

    init: int
    cache: Path

    def command(self, *command: str) -> list[str]:
        enter = ["nsenter", "--target", str(self.init), "--mount", "--net", "--pid"]
        return [*enter, "env", f"FPGA_HYBRID_LAB_CACHE={self.cache}", f"CONTAINERS_CONF={self.cache}/containers.conf", f"--chdir={ROOT}", *command]

    def run(self, *command: str, timeout: float = 300) -> str:
        return shell(*self.command(*command), timeout=timeout)

    def lab(self, *arguments: str) -> str:
        return self.run(LAB, *arguments)

    def record(self) -> machine.Machine:
        file = self.cache / "record.json"
        self.lab("machine", "save", str(file))
        found = machine.Machine.load(file)
        assert found
        return found

    def containers(self) -> dict[str, str]:
        return {c["Names"][0]: c["State"] for c in json.loads(self.run("podman", "ps", "--all", "--format", "json"))}

    def start_and_kill(self, seconds: float, *arguments: str) -> None:
        """Start the lab's command line and kill it with its children after a time, as a closed terminal or a full memory would."""
        process = subprocess.Popen(self.command(LAB, *arguments), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def cut_power(self) -> None:
        """Every process gone at once, and with them what the kernel held: mounts, interfaces, firewall, cgroups. Files stay, /run among them."""
        ids = self.run("podman", "ps", "--all", "--quiet", "--no-trunc").split()
        self.run("python3", "-c", "import os, signal\ntry: os.kill(-1, signal.SIGKILL)\nexcept ProcessLookupError: pass")
        self.run(
            "sh",
            "-c",
            "grep -oE ' (/var/lib/containers/storage|/run/netns|/run/containers)/[^ ]+ ' /proc/mounts | sort -r | xargs -r -n1 umount -l 2>/dev/null || :",
        )
        self.run("sh", "-c", "nft flush ruleset; ip route flush type unreachable; ip -o link show type bridge | cut -d: -f2 | xargs -r -n1 ip link del")
        remove_groups(group for group in container_groups() if any(container in str(group) for container in ids))
        for file in (settings.STATE / "boot", settings.STATE / "machine.json"):
            self.run("sed", "-i", f"s/{machine.boot_id()}/the-boot-before/", str(file))


@pytest.fixture
def sandbox(tmp_path):
    cache, overlay = tmp_path / "cache", tmp_path / "overlay"
    (cache / "hosts").mkdir(parents=True)
    overlay.mkdir()
    for debian in settings.RELEASES:
        image.ensure(debian)
        os.link(image.root(debian).archive(), cache / "hosts" / image.root(debian).archive().name) if same_disk(cache) else shutil.copy(
            image.root(debian).archive(), cache / "hosts"
        )
    # Where systemd runs, podman would ask it for cgroups, and it knows nothing of the sandbox's processes.
    (cache / "containers.conf").write_text('[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n')
    groups = set(container_groups())
    namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "slave"]
    process = subprocess.Popen([*namespaces, "sh", "-c", SETUP, "setup", str(overlay), str(cache), " ".join(OWN_FOLDERS)])
    box = Sandbox(only_child(process.pid), cache)
    until(lambda: Path(f"/proc/{box.init}/root/run/ready").exists())
    assert box.run("findmnt", "--noheadings", "--output", "FSTYPE", "/").strip() == "overlay", "not inside: a test would work on the machine itself"
    yield box
    with contextlib.suppress(AssertionError):
        box.lab("clean")
    process.kill()
    process.wait()
    remove_groups(set(container_groups()) - groups)


def only_child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    until(lambda: bool(children.read_text().strip()))
    return int(children.read_text().split()[0])


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def remove_groups(groups: Iterable[Path]) -> None:
    """Take empty cgroups away, inner ones first. Ended processes leave theirs a moment later."""
    end = time.monotonic() + 5
    for group in sorted(groups, key=lambda path: -len(path.parts)):
        while group.exists():
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            if time.monotonic() > end:
                break
            time.sleep(0.1)


def same_disk(folder: Path) -> bool:
    return folder.stat().st_dev == settings.cache().stat().st_dev


def container_groups() -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").glob("**/libpod-*/**") if path.is_dir()]


ALL_RUN = {host.container: "running" for host in settings.HOSTS}


@pytest.mark.slow
def test_a_run_killed_at_any_point_is_taken_over_by_the_next(sandbox):
    """Killed while it makes networks and images, creates hosts, starts them, waits for them: the next run ends in the same lab."""
    record = sandbox.record()
    for seconds in (0.3, 0.8, 2.0, 4.0, 7.0, 10.0):
        sandbox.start_and_kill(seconds, "up", "hosts")
    sandbox.lab("up", "hosts")
    assert sandbox.containers() == ALL_RUN
    assert [str(d) for d in machine.differences(record, machine_before_lab(sandbox))] == []


def machine_before_lab(sandbox: Sandbox) -> machine.Machine:
    """The record that the lab keeps, which clean restores: no killed run may have replaced it by one of a machine with hosts on it."""
    stored = json.loads(sandbox.run("cat", str(settings.STATE / "machine.json")))
    return machine.Machine(**{name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()})


@pytest.mark.slow
def test_hosts_whose_processes_were_killed_start_again_with_what_they_kept(sandbox):
    sandbox.lab("up", "hosts")
    sandbox.lab("host", "exec", "worker1", "--", "sh", "-c", "echo disk > /root/kept; echo volume > /var/lib/kubelet/kept; echo memory > /run/lost")
    sandbox.run("sh", "-c", "kill -9 $(podman inspect --format '{{.State.ConmonPid}} {{.State.Pid}}' fpga-hybrid-worker1 fpga-hybrid-cp1)")
    sandbox.lab("up", "hosts")
    assert sandbox.containers() == ALL_RUN
    assert (
        sandbox.lab("host", "exec", "worker1", "--", "sh", "-c", "cat /root/kept /var/lib/kubelet/kept; ls /run/lost 2>/dev/null || echo gone")
        == "disk\nvolume\ngone\n"
    )


@pytest.mark.slow
def test_after_a_power_cut_all_hosts_come_back_with_what_they_kept(sandbox):
    """On a machine whose /run lies on a disk, podman still believes that everything runs."""
    sandbox.lab("up", "hosts")
    sandbox.lab("host", "exec", "worker2", "--", "sh", "-c", "echo volume > /var/lib/kubelet/kept")
    sandbox.cut_power()
    sandbox.lab("up", "hosts")
    assert sandbox.containers() == ALL_RUN
    assert sandbox.lab("host", "exec", "worker2", "--", "cat", "/var/lib/kubelet/kept") == "volume\n"


@pytest.mark.slow
def test_a_second_run_takes_everything_as_it_is_in_less_than_ten_seconds(sandbox):
    sandbox.lab("up", "hosts")
    started = sandbox.run("podman", "inspect", "--format", "{{.State.StartedAt}} {{.Id}}", *ALL_RUN)
    before = time.monotonic()
    sandbox.lab("up", "hosts")
    assert time.monotonic() - before < 10
    assert sandbox.run("podman", "inspect", "--format", "{{.State.StartedAt}} {{.Id}}", *ALL_RUN) == started


@pytest.mark.slow
def test_a_reboot_gives_a_new_init_over_the_same_disks(sandbox):
    sandbox.lab("host", "add", "one", "--network", "onprem", "--address", "10.203.10.150")
    sandbox.lab("host", "exec", "one", "--", "sh", "-c", "echo disk > /root/kept; echo memory > /run/lost")
    identity = "uname -n; cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub; stat -c %Y /proc/1; cat /root/kept; ls /run/lost 2>/dev/null || echo gone"
    before = sandbox.lab("host", "exec", "one", "--", "sh", "-c", identity).splitlines()
    sandbox.lab("host", "reboot", "one")
    after = sandbox.lab("host", "exec", "one", "--", "sh", "-c", identity).splitlines()
    assert (before[:3], before[4:]) == (after[:3], ["disk", "/run/lost"])
    assert before[3] != after[3], "the same init still runs"
    assert after[4:] == ["disk", "gone"]


@pytest.mark.slow
def test_two_runs_at_the_same_time_end_in_one_lab(sandbox):
    both = [subprocess.Popen(sandbox.command(LAB, "up", "hosts"), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sandbox.containers() == ALL_RUN
    assert any("waiting for process" in text for text in told)


@pytest.mark.slow
def test_modules_that_the_kernel_has_built_in_can_be_loaded(sandbox):
    """With kmod's own view of /lib/modules, as the host role will use it."""
    sandbox.lab("host", "add", "one", "--network", "onprem", "--address", "10.203.10.150")
    release = os.uname().release
    builtin = sandbox.lab("host", "exec", "one", "--", "cat", f"/lib/modules/{release}/modules.builtin")
    assert {"br_netfilter.ko", "overlay.ko", "nf_conntrack.ko", "vxlan.ko", "tun.ko"} <= {Path(line).name for line in builtin.splitlines()}
    root = sandbox.cache / "root"
    root.mkdir()
    sandbox.run("podman", "cp", "fpga-hybrid-one:/usr/lib/modules", str(root / "modules"))
    (root / "lib").mkdir()
    (root / "modules").rename(root / "lib/modules")
    shell("modprobe", "--dirname", str(root), "--all", "--dry-run", "br_netfilter", "overlay", "nf_conntrack", "vxlan", "tun")


@pytest.mark.slow
def test_reset_takes_hosts_and_volumes_and_keeps_the_networks(sandbox):
    sandbox.lab("up", "hosts")
    sandbox.lab("reset")
    assert sandbox.containers() == {}
    assert sandbox.run("podman", "volume", "ls", "--quiet") == ""
    assert sandbox.run("podman", "network", "ls", "--format", "{{.Name}}").split() == ["fpga-hybrid-onprem", "fpga-hybrid-site2", "fpga-hybrid-vpc", "podman"]


@pytest.mark.slow
def test_down_stops_hosts_and_up_starts_the_same_ones(sandbox):
    sandbox.lab("up", "hosts")
    sandbox.lab("host", "exec", "cp1", "--", "touch", "/root/kept")
    sandbox.lab("down")
    assert set(sandbox.containers().values()) == {"exited"}
    sandbox.lab("up", "hosts")
    sandbox.lab("host", "exec", "cp1", "--", "test", "-e", "/root/kept")


@pytest.mark.slow
def test_clean_leaves_the_machine_as_it_was(sandbox):
    """Also what a kubelet in a host sets for the whole machine, and what podman leaves behind by itself."""
    before = sandbox.record()
    sandbox.lab("up", "hosts")
    original = before.sysctls["kernel.panic"]
    sandbox.lab("host", "exec", "cp1", "--", "sh", "-c", f"echo {int(original) + 1} > /proc/sys/kernel/panic")
    while_it_runs = machine.differences(before, sandbox.record())
    assert {"interfaces", "routes", "firewall", "sysctl net.ipv4.ip_forward", "sysctl kernel.panic"} <= {d.what for d in while_it_runs}
    sandbox.lab("clean")
    assert [str(difference) for difference in machine.differences(before, sandbox.record())] == []
    assert sandbox.containers() == {}
    assert sandbox.run("podman", "images", "--quiet") == ""
    sandbox.run("test", "!", "-e", str(settings.STATE))
