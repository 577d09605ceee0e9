# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The device plugin and the kubelet's own device manager, taken out of the lab's Kubernetes, with nothing between them. Needs the lab's cache, not its hosts.

It takes only /var/lib/kubelet for its folder, so both live in a mount namespace of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lab.depot import golang
from lab.depot.base import Cache
from lab.fpga.tree import Plugged
from tests.unit.roles.fpga_device_plugin.site import ACCELERATOR, BOARD, F2, IMAGE, U250, Site

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "tools" / "device_manager" / "main.go"
PLUGIN = ROOT / "roles" / "fpga_device_plugin" / "files"
SECONDS = 30

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces are root's")]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Built from the modules that the depot's kubelet is built from."""
    cache, folder = Cache.default(), tmp_path_factory.mktemp("device-manager")
    goroot = golang.install_toolchain(cache, golang.read_table())
    for file in (SOURCE, golang.COMPONENTS / "kubernetes" / "go.mod", golang.COMPONENTS / "kubernetes" / "go.sum"):
        shutil.copy(file, folder)
    built = folder / "device-manager"
    subprocess.run(["nice", goroot / "bin" / "go", "build", "-o", built, "."], cwd=folder, env=golang.environment(cache, goroot), check=True)
    return built


class Node:
    """A host of two processes, each of which can be started again."""

    def __init__(self, program, root):
        self.site = Site(root)
        self._program = program
        hold = "mount -t tmpfs none /var/lib && mkdir -p /var/lib/kubelet && echo held && exec sleep infinity"
        self._namespace = subprocess.Popen(["unshare", "--mount", "sh", "-c", hold], stdout=subprocess.PIPE, text=True)
        assert self._namespace.stdout.readline() == "held\n"
        self.manager = self.plugin = None

    def _inside(self, *command, **options):
        return subprocess.Popen(["nsenter", f"--mount=/proc/{self._namespace.pid}/ns/mnt", *map(str, command)], **options)

    def start_manager(self):
        self.manager = self._inside(self._program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def start_plugin(self):
        options = self.site.options
        self.plugin = self._inside(
            sys.executable, "-m", "fpga_device_plugin", f"--config={options.config}", f"--sysfs-root={options.sysfs}", f"--dev-root={options.dev}",
            f"--state={options.state}", f"--tools={options.tools}", "--metrics=none", env={**os.environ, "PYTHONPATH": str(PLUGIN)},
        )  # fmt: skip

    def end(self, process, number=signal.SIGKILL):
        process.send_signal(number)
        process.wait(SECONDS)

    def close(self):
        for process in (self.manager, self.plugin, self._namespace):
            if process and process.poll() is None:
                self.end(process)

    def ask(self, cmd, **arguments):
        self.manager.stdin.write(json.dumps({"cmd": cmd, **arguments}) + "\n")
        self.manager.stdin.flush()
        return json.loads(self.manager.stdout.readline())

    def until_allocatable(self, resources):
        """Seconds until the node gives exactly that."""
        started = time.monotonic()
        while (found := self.ask("allocatable")) != resources:
            assert time.monotonic() - started < SECONDS, found
            time.sleep(0.02)
        return time.monotonic() - started


@pytest.fixture
def node(program):
    with tempfile.TemporaryDirectory(prefix="fpga-") as folder:
        one = Node(program, Path(folder))
        yield one
        one.close()


def ready(node, resources):
    node.start_plugin()
    node.start_manager()
    return node.until_allocatable(resources)


def test_copies_are_packed_and_a_container_gets_what_it_needs(node):
    node.site.plug(U250)
    node.site.plug(U250)
    node.site.publish({U250: "a"}, replicas={U250: 4})
    ready(node, {ACCELERATOR: 8})
    node.ask("admit", pod="one", limits={ACCELERATOR: 1})
    four = node.ask("admit", pod="four", limits={ACCELERATOR: 4})
    assert {device.partition("/")[0] for device in four["devices"][ACCELERATOR]} == {"0000:43:00"}
    options = node.ask("start", pod="four")["options"]
    assert [device["PathInContainer"] for device in options["Devices"]] == ["/dev/dri/renderD129"]
    assert {env["Name"] for env in options["Envs"]} == {"PCIDEVICE_INACCEL_COM_XGBOOST_EXACT", "FPGA_COPIES_INACCEL_COM_XGBOOST_EXACT"}
    assert "Requested: 4, Available: 3" in node.ask("admit", pod="more", limits={ACCELERATOR: 4})["error"]


def test_an_init_container_passes_its_board_on(node):
    node.site.plug(U250)
    node.site.publish({U250: "boards"})
    ready(node, {BOARD: 1})
    assert node.ask("admit", pod="job", limits={BOARD: 1}, init={BOARD: 1})["devices"] == {BOARD: ["0000:3b:00"]}


def test_fifty_rounds_of_a_board_pod_and_an_accelerator_pod_refuse_nobody(node):
    node.site.plug(U250)
    node.site.plug("u280")
    node.site.publish({U250: "a", "u280": "boards"}, replicas={U250: 4})
    ready(node, {ACCELERATOR: 4, "xilinx/u280": 1})
    for number in range(50):
        for pod, resource, count in ((f"board-{number}", "xilinx/u280", 1), (f"copies-{number}", ACCELERATOR, 4)):
            assert "error" not in node.ask("admit", pod=pod, limits={resource: count})
        for pod in (f"board-{number}", f"copies-{number}"):
            node.ask("end", pod=pod)
    assert node.ask("allocatable") == {ACCELERATOR: 4, "xilinx/u280": 1}


def test_both_gives_a_board_to_one_resource(node):
    node.site.plug(U250)
    node.site.publish({U250: "both"}, replicas={U250: 4})
    # Here there is no PodResources to say who has what: a file says that nobody has anything.
    node.site.options.state.write_text('{"format": 1, "known": true, "owners": {}}')
    ready(node, {BOARD: 1, ACCELERATOR: 4})
    node.ask("admit", pod="job", limits={ACCELERATOR: 1})
    node.until_allocatable({BOARD: 0, ACCELERATOR: 4})
    assert "no healthy devices present" in node.ask("admit", pod="board", limits={BOARD: 1})["error"]


def test_both_come_back_after_each_others_restart_within_a_second_or_so(node):
    node.site.plug(U250)
    node.site.publish({U250: "boards"})
    ready(node, {BOARD: 1})
    node.end(node.manager)
    node.start_manager()
    assert node.until_allocatable({BOARD: 1}) < 10  # what an outage may last
    node.end(node.plugin, signal.SIGTERM)
    node.until_allocatable({BOARD: 0})
    node.start_plugin()
    assert node.until_allocatable({BOARD: 1}) < 10


def test_a_board_that_goes_while_a_pod_has_it(node):
    node.site.plug(U250, "0000:3b:00")
    node.site.publish({U250: "boards"})
    ready(node, {BOARD: 1})
    node.ask("admit", pod="job", limits={BOARD: 1})
    node.site.tree.unplug("0000:3b:00")
    node.until_allocatable({BOARD: 0})
    node.site.tree.plug(Plugged(U250, "0000:3b:00"))
    node.until_allocatable({BOARD: 1})


def test_why_an_image_does_not_load_is_what_the_kubelet_tells(node):
    node.site.plug(F2)
    node.site.publish({F2: "a"}, replicas={F2: 2}, image=IMAGE)
    node.site.faults(load="fail 5")
    ready(node, {ACCELERATOR: 2})
    node.ask("admit", pod="job", limits={ACCELERATOR: 2})
    error = node.ask("start", pod="job")["error"]
    assert error.startswith("device plugin PreStartContainer rpc failed with err: rpc error: code = FailedPrecondition desc = slot 0: fpga-load-local-image")
    assert "Error: (5) invalid-afi-id" in error
    node.site.faults()
    options = node.ask("start", pod="job")["options"]
    assert [os.path.basename(mount["HostPath"]) for mount in options["Mounts"]] == ["resource0", "resource2", "resource4", "resource4_wc"]
