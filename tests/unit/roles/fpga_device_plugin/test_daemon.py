# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole daemon in its event loop, over real sockets with the kubelet's double: what a node would see of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import shutil
import socket
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from fpga_device_plugin.daemon import Daemon, end
from fpga_device_plugin.ownership import Grace
from tests.unit.roles.fpga_device_plugin.kubelet_double import AdmissionError, StartError, running
from tests.unit.roles.fpga_device_plugin.site import ACCELERATOR, BOARD, F2, IMAGE, PACE, U250, Site, until

SLOT = "0000:3b:00"


@pytest.fixture
def site():
    # Paths of sockets may have 107 characters; pytest's own folders take too many.
    with tempfile.TemporaryDirectory(prefix="fpga-") as folder:
        yield Site(Path(folder))


def scenario(story):
    """Lets a test be a coroutine."""

    @functools.wraps(story)
    def run(*arguments, **fixtures):
        asyncio.run(asyncio.wait_for(story(*arguments, **fixtures), 60))

    return run


def accelerator(site, **further):
    site.publish({U250: "a"}, replicas={U250: 4}, **further)


# --- publishing


@scenario
async def test_boards_are_published_with_their_numa_nodes(site):
    site.plug(U250, numa=0)
    other = site.plug(U250, numa=1)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {BOARD: 2})
        assert kubelet.numa(other) == [1]


@scenario
async def test_what_no_pod_could_use_is_listed_and_not_allocatable(site):
    site.plug(U250)
    site.plug(U250, state="no-driver")
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.capacity() == {BOARD: 2})
        assert kubelet.allocatable() == {BOARD: 1}


@scenario
async def test_a_host_without_boards_registers_nothing(site):
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon() as daemon:
        await until(lambda: kubelet.lists)
        assert kubelet.registrations == []
        assert daemon.problems() == []


@scenario
async def test_sixteen_boards_as_copies(site):
    for _number in range(16):
        site.plug(U250)
    accelerator(site)
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 64})


@scenario
async def test_the_kubelet_may_start_later(site):
    site.plug(U250)
    site.publish({U250: "boards"})
    async with site.daemon() as daemon:
        await until(lambda: daemon.endpoints)
        assert daemon.problems() == []
        async with running(site.options.kubelet) as kubelet:
            await until(lambda: kubelet.allocatable() == {BOARD: 1})


@scenario
async def test_its_sockets_folder_may_come_later_too(site):
    site.plug(U250)
    site.publish({U250: "boards"})
    async with site.daemon():
        shutil.rmtree(site.options.kubelet)  # as kubeadm reset does
        site.options.kubelet.mkdir()
        async with running(site.options.kubelet) as kubelet:
            await until(lambda: kubelet.allocatable() == {BOARD: 1})


@scenario
async def test_a_task_that_misses_its_cancellation_is_ended_all_the_same():
    """As one does that waits with wait_for: the service would hang until systemd kills it."""

    async def loop():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(600)
        await asyncio.sleep(600)

    async def fails():
        raise OSError("not our affair any more")

    tasks = [asyncio.create_task(loop()), asyncio.create_task(fails())]
    await asyncio.sleep(0.01)
    await end(*tasks, again=0.01)
    assert all(task.done() for task in tasks)


@scenario
async def test_the_daemon_ends_also_when_something_happens_in_the_same_moment(site):
    site.plug(U250)
    site.publish({U250: "boards"})
    daemon, stop = Daemon(site.options), asyncio.Event()
    task = asyncio.create_task(daemon.run(stop))
    await until(lambda: daemon.endpoints)
    stop.set()
    daemon.endpoints[BOARD].wake()
    await asyncio.wait_for(task, 20)


# --- what a container gets


@scenario
async def test_a_pod_gets_the_boards_node_and_is_told_its_address(site):
    site.plug(U250, SLOT)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        pod = await kubelet.admit("job", {BOARD: 1})
        answer = pod.answers["main", BOARD]
        (node,) = answer.devices
        by_path = str(site.tree.dev / "dri/by-path/pci-0000:3b:00.1-render")
        assert (node.host_path, node.container_path, node.permissions) == (by_path, "/dev/dri/renderD128", "rw")
        assert dict(answer.envs) == {"PCIDEVICE_XILINX_U250": "0000:3b:00.1"}
        assert not answer.mounts
        assert not answer.cdi_devices


@scenario
async def test_a_pod_has_its_own_board_when_the_driver_numbers_them_anew(site):
    """The kubelet asks once, and starts containers with that answer, after a boot too. A number would be another pod's board by then."""
    own, other = site.plug(U250, SLOT), site.plug(U250)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {BOARD: 2})
        pods = [await kubelet.admit("one", {BOARD: 1}), await kubelet.admit("two", {BOARD: 1})]
        given = {next(iter(pod.all(BOARD))): pod.answers["main", BOARD].devices[0].host_path for pod in pods}
        before = {slot: os.path.realpath(path) for slot, path in given.items()}
        site.tree.renumber()
        now = {slot: os.path.realpath(path) for slot, path in given.items()}
        assert now == {own: before[other], other: before[own]}
        for slot, path in now.items():
            assert (site.tree.devices / f"{slot}.1" / "drm" / os.path.basename(path)).exists()


@scenario
async def test_the_management_function_comes_only_if_the_host_says_so(site):
    site.plug(U250, SLOT)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon(management=True):
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        pod = await kubelet.admit("flasher", {BOARD: 1})
        assert [node.container_path for node in pod.answers["main", BOARD].devices] == ["/dev/dri/renderD128", "/dev/xclmgmt15104"]


@scenario
async def test_four_copies_land_on_one_board(site):
    site.plug(U250, SLOT)
    site.plug(U250)
    accelerator(site)
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 8})
        await kubelet.admit("one", {ACCELERATOR: 1})
        pod = await kubelet.admit("four", {ACCELERATOR: 4})
        assert {device.partition("/")[0] for device in pod.all(ACCELERATOR)} == {"0000:43:00"}
        answer = pod.answers["main", ACCELERATOR]
        assert len(answer.devices) == 1
        assert answer.envs["FPGA_COPIES_INACCEL_COM_XGBOOST_EXACT"] == ",".join(f"0000:43:00.1/{number}" for number in range(4))


@scenario
async def test_a_pod_on_f2_gets_the_bars_and_its_slot(site):
    slot = site.plug(F2)
    site.publish({F2: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {"xilinx/aws-vu47p-f2": 1})
        pod = await kubelet.admit("afi", {"xilinx/aws-vu47p-f2": 1})
        answer = pod.answers["main", "xilinx/aws-vu47p-f2"]
        assert dict(answer.envs) == {"PCIDEVICE_XILINX_AWS_VU47P_F2": f"{slot}.0", "FPGA_SLOTS_XILINX_AWS_VU47P_F2": "0"}
        assert [mount.host_path for mount in answer.mounts] == [mount.container_path for mount in answer.mounts]
        assert [os.path.basename(mount.host_path) for mount in answer.mounts] == ["resource0", "resource2", "resource4", "resource4_wc"]
        assert all(os.path.exists(mount.host_path) and not mount.read_only for mount in answer.mounts)
        assert not answer.devices


@scenario
async def test_a_runtime_with_cdi_gets_names_and_a_specification(site):
    site.plug(U250, SLOT)
    site.publish({U250: "boards"})
    folder = site.root / "cdi"
    async with running(site.options.kubelet) as kubelet, site.daemon(cdi=folder):
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        answer = (await kubelet.admit("job", {BOARD: 1})).answers["main", BOARD]
        assert [device.name for device in answer.cdi_devices] == [f"fpga.hybrid/board={SLOT}"]
        assert not answer.devices
    specification = json.loads((folder / "fpga-hybrid.json").read_text())
    assert specification["kind"] == "fpga.hybrid/board"
    assert specification["devices"] == [
        {
            "name": SLOT,
            "containerEdits": {
                "deviceNodes": [{"hostPath": str(site.tree.dev / "dri/renderD128"), "path": "/dev/dri/renderD128", "permissions": "rw"}],
                "mounts": [],
            },
        }
    ]


@scenario
async def test_an_init_container_passes_its_board_on(site):
    site.plug(U250)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        pod = await kubelet.admit("job", {BOARD: 1}, init={BOARD: 1})
        assert pod.devices["init", BOARD] == pod.devices["main", BOARD]


# --- one owner


@scenario
async def test_taking_a_board_never_changes_allocatable(site):
    site.plug(U250)
    accelerator(site)
    async with running(site.options.kubelet) as kubelet, site.daemon() as daemon:
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 4})
        await kubelet.admit("job", {ACCELERATOR: 4})
        await until(lambda: any(hold.seen for owner in daemon.ownership.owners.values() for hold in owner.holds.values()))
        assert kubelet.allocatable() == {ACCELERATOR: 4}


@scenario
async def test_under_both_the_other_resource_becomes_unhealthy_and_comes_back(site):
    site.plug(U250)
    site.publish({U250: "both"}, replicas={U250: 4})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {BOARD: 1, ACCELERATOR: 4})
        await kubelet.admit("job", {ACCELERATOR: 1})
        await until(lambda: kubelet.allocatable() == {BOARD: 0, ACCELERATOR: 4})
        kubelet.end("job")
        await until(lambda: kubelet.allocatable() == {BOARD: 1, ACCELERATOR: 4})


@scenario
async def test_under_both_the_second_of_two_pods_at_once_is_refused_with_the_reason(site):
    slot = site.plug(U250)
    site.publish({U250: "both"}, replicas={U250: 4})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {BOARD: 1, ACCELERATOR: 4})
        both = await asyncio.gather(kubelet.admit("a", {ACCELERATOR: 4}), kubelet.admit("b", {BOARD: 1}), return_exceptions=True)
        (refused,) = [one for one in both if isinstance(one, AdmissionError)]
        assert f"board {slot} is taken: a pod has it as" in str(refused) or "no healthy devices" in str(refused)
        assert len(kubelet.pods) == 1


@scenario
async def test_copies_that_are_not_shared_go_to_one_pod(site):
    site.plug(U250)
    site.plug(U250)
    accelerator(site, shared=False)
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 8})
        await kubelet.admit("first", {ACCELERATOR: 4})
        with pytest.raises(AdmissionError, match=r"2 of the 4 copies .* not shared .* Ask for a multiple of 4"):
            await kubelet.admit("half", {ACCELERATOR: 2})
        await kubelet.admit("second", {ACCELERATOR: 4})


@scenario
async def test_a_refusal_is_the_pods_and_nobody_elses(site):
    site.plug(U250)
    accelerator(site)
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 4})
        await kubelet.admit("job", {ACCELERATOR: 2})
        with pytest.raises(AdmissionError, match="Requested: 3, Available: 2"):
            await kubelet.admit("too-much", {ACCELERATOR: 3})
        await kubelet.admit("rest", {ACCELERATOR: 2})


@scenario
async def test_what_cannot_be_remembered_is_not_given_out(site):
    site.plug(U250)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon() as daemon:
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        site.options.state.parent.rename(site.root / "elsewhere")
        with pytest.raises(AdmissionError, match=r"owners.json cannot be written \(No such file or directory\): no board is given out until it can"):
            await kubelet.admit("job", {BOARD: 1})
        assert daemon.ownership.owners == {}
        assert len(daemon.problems()) == 1
        (site.root / "elsewhere").rename(site.options.state.parent)
        await kubelet.admit("again", {BOARD: 1})
        assert daemon.problems() == []


# --- restarts


@scenario
async def test_the_kubelet_restarts(site):
    site.plug(U250)
    site.publish({U250: "both"}, replicas={U250: 4})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {BOARD: 1, ACCELERATOR: 4})
        await kubelet.admit("job", {ACCELERATOR: 4})
        await kubelet.restart()
        await until(lambda: kubelet.allocatable() == {BOARD: 0, ACCELERATOR: 4})
        kubelet.end("job")
        await until(lambda: kubelet.allocatable() == {BOARD: 1, ACCELERATOR: 4})


@scenario
async def test_a_pod_is_looked_for_as_soon_as_it_has_its_board(site):
    """However rarely pods are asked for else: one that ends before it was seen keeps its board for ten minutes."""
    site.plug(U250)
    site.publish({U250: "both"}, replicas={U250: 4})
    rarely = replace(PACE, pods=3600, pods_idle=3600)
    async with running(site.options.kubelet) as kubelet, site.daemon(pace=rarely, grace=Grace(0, 3600)) as daemon:
        await until(lambda: kubelet.allocatable() == {BOARD: 1, ACCELERATOR: 4})
        await kubelet.admit("job", {BOARD: 1})
        await until(lambda: daemon.ownership.owners[SLOT].holds[SLOT].seen)
        asked = kubelet.lists
        await asyncio.sleep(PACE.tick * 5)
        assert kubelet.lists == asked  # and not one time more


@scenario
async def test_a_kubelet_without_its_api_server_frees_nobodys_board(site):
    site.plug(U250)
    site.publish({U250: "both"}, replicas={U250: 4})
    async with running(site.options.kubelet) as kubelet, site.daemon() as daemon:
        await until(lambda: kubelet.allocatable() == {BOARD: 1, ACCELERATOR: 4})
        await kubelet.admit("job", {ACCELERATOR: 4})
        await until(lambda: all(hold.seen for owner in daemon.ownership.owners.values() for hold in owner.holds.values()))
        await kubelet.restart(api_server=False)
        asked = kubelet.lists
        await until(lambda: kubelet.lists > asked + 8)  # well beyond both graces
        assert kubelet.allocatable()[BOARD] == 0
        assert daemon.ownership.owners


@scenario
async def test_a_kubelet_that_knows_only_its_static_pods_frees_nobodys_board(site):
    site.plug(U250)
    site.publish({U250: "both"}, replicas={U250: 4})
    async with running(site.options.kubelet, static_pods=1) as kubelet, site.daemon() as daemon:
        await until(lambda: kubelet.allocatable() == {BOARD: 1, ACCELERATOR: 4})
        await kubelet.admit("job", {ACCELERATOR: 4})
        await until(lambda: all(hold.seen for owner in daemon.ownership.owners.values() for hold in owner.holds.values()))
        await kubelet.restart(api_server=False)
        asked = kubelet.lists
        await until(lambda: kubelet.lists > asked + 8)  # well beyond both graces
        assert kubelet.allocatable()[BOARD] == 0
        assert daemon.ownership.owners


@scenario
async def test_a_board_that_an_init_container_alone_asked_for_is_the_pods_until_it_ends(site):
    """PodResources does not name init containers; the kubelet's checkpoint does."""
    slot = site.plug(U250)
    site.publish({U250: "both"}, replicas={U250: 4})
    async with running(site.options.kubelet) as kubelet, site.daemon(grace=Grace(0.05, 0.1)) as daemon:
        await until(lambda: kubelet.allocatable() == {BOARD: 1, ACCELERATOR: 4})
        await kubelet.admit("job", {}, init={BOARD: 1})
        asked = kubelet.lists
        await until(lambda: kubelet.lists > asked + 25)  # well beyond both graces
        assert daemon.ownership.owners[slot].resource == BOARD
        kubelet.end("job")
        await until(lambda: not daemon.ownership.owners)  # although the checkpoint names it still


@scenario
@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"Data": {"PodDeviceEntries": [{"PodUID": 1}]}}', '{"Data": null}'])
async def test_a_checkpoint_that_cannot_be_read_changes_nothing(site, damaged):
    site.plug(U250)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon() as daemon:
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        await kubelet.admit("job", {BOARD: 1})
        (site.options.kubelet / "device-plugins" / "kubelet_internal_checkpoint").write_text(damaged)
        asked = kubelet.lists
        await until(lambda: kubelet.lists > asked + 1)
        assert daemon.ownership.owners
        assert daemon.problems() == []
        kubelet.end("job")
        await until(lambda: not daemon.ownership.owners)


@scenario
@pytest.mark.parametrize("file", ["kept", "lost", "damaged"])
async def test_the_plugin_restarts_and_finds_again_who_has_what(site, file):
    site.plug(U250)
    site.publish({U250: "both"}, replicas={U250: 4})
    async with running(site.options.kubelet) as kubelet:
        async with site.daemon():
            await until(lambda: kubelet.allocatable() == {BOARD: 1, ACCELERATOR: 4})
            await kubelet.admit("job", {ACCELERATOR: 4})
        await until(lambda: kubelet.allocatable() == {BOARD: 0, ACCELERATOR: 0})
        if file == "lost":
            site.options.state.unlink()
        elif file == "damaged":
            site.options.state.write_text('{"format": 1, "owners": {"a": ')
        async with site.daemon():
            await until(lambda: kubelet.allocatable() == {BOARD: 0, ACCELERATOR: 4})
            kubelet.end("job")
            await until(lambda: kubelet.allocatable() == {BOARD: 1, ACCELERATOR: 4})


@scenario
async def test_sockets_of_a_run_that_was_killed_are_removed(site):
    site.plug(U250)
    site.publish({U250: "boards"})
    folder = site.options.kubelet / "device-plugins"
    folder.mkdir()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(folder / "fpga-hybrid-old-1.sock"))
    stranger = socket.socket(socket.AF_UNIX)
    stranger.bind(str(folder / "gpu.sock"))
    async with site.daemon():
        await until(lambda: not (folder / "fpga-hybrid-old-1.sock").exists())
        assert (folder / "gpu.sock").exists()


@scenario
async def test_after_a_boot_the_kubelet_waits_for_the_boards_of_pods(site, monkeypatch):
    """A kubelet that finds its pods' boards missing fails those pods for good."""
    told = []
    monkeypatch.setattr("fpga_device_plugin.systemd.notify", lambda **facts: told.extend(facts))
    slot = site.plug(U250)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        await kubelet.admit("job", {BOARD: 1})
    site.tree.set_state(slot, "no-driver")
    told.clear()
    async with site.daemon() as daemon:
        await until(lambda: daemon.ownership.boards and daemon.ownership.boards[slot].reason)
        for _turn in range(20):
            await asyncio.sleep(0)
        assert "READY" not in told
        site.tree.set_state(slot, "ready")
        await until(lambda: "READY" in told)
    told.clear()
    site.tree.unplug(slot)
    async with site.daemon(settle=0.1):
        await until(lambda: "READY" in told)  # but not for ever


# --- a kubelet that fails


@scenario
async def test_a_kubelet_that_refuses_is_asked_again_until_it_does_not(site):
    site.plug(U250)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet, refuse="resource is taken") as kubelet, site.daemon() as daemon:
        await until(daemon.problems)
        (problem,) = daemon.problems()
        assert problem.endswith("the kubelet doesn't take xilinx/u250 (UNKNOWN: resource is taken)")
        kubelet.refuse = ""
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        await until(lambda: not daemon.problems())


@scenario
async def test_a_socket_that_nobody_listens_on_is_tried_again(site):
    site.plug(U250)
    site.publish({U250: "boards"})
    folder = site.options.kubelet / "device-plugins"
    folder.mkdir()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(folder / "kubelet.sock"))  # as a killed kubelet leaves it
    async with site.daemon() as daemon:
        said = f"{folder}/kubelet.sock: the kubelet doesn't take xilinx/u250 (UNAVAILABLE: Connection refused)"
        await until(lambda: said in daemon.problems())
        (folder / "kubelet.sock").unlink()
        async with running(site.options.kubelet) as kubelet:
            await until(lambda: kubelet.allocatable() == {BOARD: 1})


@scenario
async def test_a_kubelet_that_drops_the_list_is_told_anew(site):
    site.plug(U250)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet, drop=True) as kubelet, site.daemon():
        await until(lambda: len(kubelet.registrations) >= 2)
        kubelet.drop = False
        await until(lambda: kubelet.allocatable() == {BOARD: 1})


# --- boards that come and go


@scenario
async def test_a_board_that_goes_is_unhealthy_and_well_again_when_it_is_back(site):
    site.plug(U250, SLOT)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        await kubelet.admit("job", {BOARD: 1})
        site.tree.unplug(SLOT)
        await until(lambda: kubelet.allocatable() == {BOARD: 0})
        assert kubelet.capacity() == {BOARD: 1}
        assert "job" in kubelet.pods  # what runs is not disturbed by us
        site.plug(U250, SLOT)
        await until(lambda: kubelet.allocatable() == {BOARD: 1})


@scenario
async def test_a_driver_that_is_loaded_again(site):
    site.plug(U250, SLOT)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        site.tree.load_driver(False)
        await until(lambda: kubelet.allocatable() == {BOARD: 0})
        site.tree.load_driver(True)
        await until(lambda: kubelet.allocatable() == {BOARD: 1})


@scenario
async def test_a_board_that_is_put_in_later_is_published(site):
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.lists)
        site.plug(U250)
        await until(lambda: kubelet.allocatable() == {BOARD: 1})


@scenario
async def test_a_board_that_went_a_moment_ago_is_not_given_out(site):
    slot = site.plug(U250)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon() as daemon:
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        daemon.refresh()
        site.tree.unplug(slot)
        with pytest.raises(AdmissionError, match=f"board {slot} has gone from the PCI bus|no healthy devices"):
            await kubelet.admit("job", {BOARD: 1})


@scenario
async def test_a_bus_that_cannot_be_read_makes_boards_unhealthy_and_the_daemon_stays(site):
    site.plug(U250)
    site.publish({U250: "boards"})
    async with running(site.options.kubelet) as kubelet, site.daemon() as daemon:
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        bus = site.tree.devices
        bus.rename(bus.with_name("away"))
        await until(lambda: kubelet.allocatable() == {BOARD: 0})
        assert "cannot be read" in daemon.problems()[0]
        bus.with_name("away").rename(bus)
        await until(lambda: kubelet.allocatable() == {BOARD: 1})
        assert daemon.problems() == []


# --- what is published changes


@scenario
async def test_a_catalogue_with_mistakes_publishes_the_rest_and_is_mended_without_a_restart(site):
    site.plug(U250)
    site.plug("u280")
    site.publish({U250: "a", "u280": "boards"}, replicas={U250: 0})
    async with running(site.options.kubelet) as kubelet, site.daemon() as daemon:
        await until(lambda: kubelet.allocatable() == {"xilinx/u280": 1})
        assert "found 0, expected how many copies fit on one board" in daemon.problems()[0]
        site.publish({U250: "a", "u280": "boards"}, replicas={U250: 4})
        await until(lambda: kubelet.allocatable() == {"xilinx/u280": 1, ACCELERATOR: 4})
        assert daemon.problems() == []


@scenario
@pytest.mark.parametrize("text", [None, "", "{", '{"fpga": null}'])
async def test_a_node_json_that_comes_later(site, text):
    site.plug(U250)
    if text is not None:
        site.write(text)
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.lists)
        assert kubelet.registrations == []
        site.publish({U250: "boards"})
        await until(lambda: kubelet.allocatable() == {BOARD: 1})


@scenario
async def test_a_board_is_not_published_as_something_else_under_a_pod(site):
    site.plug(U250)
    accelerator(site)
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 4})
        await kubelet.admit("job", {ACCELERATOR: 1})
        site.publish({U250: "boards"})
        await until(lambda: kubelet.capacity().get(BOARD) == 1)
        assert kubelet.allocatable() == {ACCELERATOR: 0, BOARD: 0}
        kubelet.end("job")
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 0, BOARD: 1})


# --- images


def f2(site, **further):
    slot = site.plug(F2)
    site.publish({F2: "a"}, replicas={F2: 2}, image=IMAGE, **further)
    return slot


@scenario
async def test_an_image_is_loaded_before_the_container_starts_and_cleared_after_the_last_pod(site):
    f2(site)
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 2})
        one, two = await kubelet.admit("one", {ACCELERATOR: 1}), await kubelet.admit("two", {ACCELERATOR: 1})
        await kubelet.start_container(one)
        assert site.holds() == IMAGE
        loads = site.calls().count(f"load 0 {IMAGE}")
        await kubelet.start_container(two)
        assert site.calls().count(f"load 0 {IMAGE}") == loads == 1  # under the first one's feet nothing is loaded
        kubelet.end("one")
        asked = kubelet.lists
        await until(lambda: kubelet.lists > asked + 6)
        assert site.holds() == IMAGE
        kubelet.end("two")
        await until(lambda: "clear 0" in site.calls())
        await until(lambda: site.holds() == "")


@scenario
async def test_loading_an_image_is_no_loss_of_the_board(site):
    f2(site)
    site.images(**{IMAGE: {"vendor": 0x6789, "device": 0x1D50, "seconds": 0.2}})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 2})
        seen = []
        original = kubelet.healthy
        pod = await kubelet.admit("job", {ACCELERATOR: 2})
        starting = asyncio.create_task(kubelet.start_container(pod))
        while not starting.done():
            seen.append(len(original[ACCELERATOR]))
            await asyncio.sleep(0.005)
        await starting
        assert set(seen) == {2}
        asked = kubelet.lists
        await until(lambda: kubelet.lists > asked + 3)
        assert kubelet.allocatable() == {ACCELERATOR: 2}


@scenario
async def test_two_boards_of_one_container_are_loaded_side_by_side(site):
    f2(site)
    site.plug(F2)
    site.images(**{IMAGE: {"vendor": 0x6789, "device": 0x1D50}})
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 4})
        await kubelet.start_container(await kubelet.admit("job", {ACCELERATOR: 4}))
        assert (site.holds(0), site.holds(1)) == (IMAGE, IMAGE)


@scenario
async def test_a_slot_whose_neighbour_is_off_the_bus_while_it_changes_is_asked_again(site):
    """AWS' tools fail for a slot as long as the function of one before it is missing."""
    f2(site)
    site.plug(F2)
    site.images(**{IMAGE: {"vendor": 0x6789, "device": 0x1D50}})
    off_the_bus = site.root / "aws/off-the-bus"
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 4})
        pods = [await kubelet.admit("one", {ACCELERATOR: 2}), await kubelet.admit("two", {ACCELERATOR: 2})]
        before, behind = sorted(pods, key=lambda pod: min(pod.all(ACCELERATOR)))
        slot = min(before.all(ACCELERATOR)).partition("/")[0]
        off_the_bus.touch()
        async with asyncio.TaskGroup() as starting:
            starting.create_task(kubelet.start_container(before))
            await until(lambda: not (site.tree.devices / f"{slot}.0").exists())
            asked = site.calls().count("slots")
            starting.create_task(kubelet.start_container(behind))
            await until(lambda: site.calls().count("slots") >= asked + 2)
            off_the_bus.unlink()
        assert (site.holds(0), site.holds(1)) == (IMAGE, IMAGE)


@scenario
async def test_a_new_pod_gets_the_image_anew_even_before_the_old_one_is_known_to_have_gone(site):
    """What the memory of the board holds belongs to somebody else."""
    f2(site)
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 2})
        first = await kubelet.admit("first", {ACCELERATOR: 2})
        await kubelet.start_container(first)
        await kubelet.start_container(first)  # it crashed, and starts again: nothing is loaded under a pod that owns the board
        assert site.calls().count(f"load 0 {IMAGE}") == 1
        kubelet.end("first")
        await kubelet.start_container(await kubelet.admit("second", {ACCELERATOR: 2}))
        assert site.calls().count(f"load 0 {IMAGE}") == 2


@scenario
async def test_who_gets_a_part_of_what_a_pod_had_that_has_ended_gets_the_image_anew(site):
    """One of the two copies is still held by the pod that has gone, within its grace: that is no neighbour."""
    f2(site)
    async with running(site.options.kubelet) as kubelet, site.daemon(grace=Grace(3600, 3600)):
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 2})
        await kubelet.start_container(await kubelet.admit("both", {ACCELERATOR: 2}))
        kubelet.end("both")
        one = await kubelet.admit("one", {ACCELERATOR: 1})
        await kubelet.start_container(one)
        assert site.calls().count(f"load 0 {IMAGE}") == 2
        await kubelet.start_container(await kubelet.admit("another", {ACCELERATOR: 1}))
        await kubelet.start_container(one)
        assert site.calls().count(f"load 0 {IMAGE}") == 2  # these are neighbours


@scenario
@pytest.mark.parametrize("how", ["the tool fails once", "node.json names another image", "somebody took it out"])
async def test_nothing_is_loaded_under_a_neighbour(site, how):
    f2(site)
    another = "agfi-0aaaaaaaaaaaaaaaa"
    site.images(**{another: {"vendor": 0x6789, "device": 0x1D51}})
    async with running(site.options.kubelet) as kubelet, site.daemon() as daemon:
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 2})
        one, two = await kubelet.admit("one", {ACCELERATOR: 1}), await kubelet.admit("two", {ACCELERATOR: 1})
        await kubelet.start_container(one)
        if how == "the tool fails once":
            site.faults(describe="fail 3")
        elif how == "node.json names another image":
            site.publish({F2: "a"}, replicas={F2: 2}, image=another)
            await until(lambda: daemon.catalogue.resources[ACCELERATOR].images == {F2: another})
        else:
            (site.root / "aws" / "slot-0.json").write_text('{"image": "", "status": "cleared"}')
        loads = [call for call in site.calls() if call.startswith("load")]
        with pytest.raises(StartError, match=r"another container has copies on it .*0000:34:00/0.*, so nothing is loaded under it"):
            await kubelet.start_container(two)
        assert [call for call in site.calls() if call.startswith("load")] == loads
        site.faults()
        kubelet.end("one")
        await until(lambda: len(daemon.ownership.owners["0000:34:00"].holds) == 1)
        await kubelet.start_container(two)  # alone now, it gets what it should
        assert site.holds() == (another if how == "node.json names another image" else IMAGE)


@scenario
async def test_an_image_that_somebody_took_out_is_loaded_again_when_the_container_is(site):
    f2(site)
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 2})
        pod = await kubelet.admit("job", {ACCELERATOR: 2})
        await kubelet.start_container(pod)
        (site.root / "aws" / "slot-0.json").write_text('{"image": "", "status": "cleared"}')
        await kubelet.start_container(pod)
        assert site.holds() == IMAGE


@scenario
async def test_a_whole_board_comes_cleared_once_for_each_pod(site):
    site.plug(F2)
    site.publish({F2: "boards"})
    resource = f"xilinx/{F2}"
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {resource: 1})
        (site.root / "aws").mkdir(exist_ok=True)
        (site.root / "aws" / "slot-0.json").write_text(json.dumps({"image": IMAGE, "status": "loaded"}))
        pod = await kubelet.admit("job", {resource: 1}, init={resource: 1})
        await kubelet.start_container(pod, "init")
        assert site.holds() == ""
        (site.root / "aws" / "slot-0.json").write_text(json.dumps({"image": IMAGE, "status": "loaded"}))  # the init container's work
        await kubelet.start_container(pod)
        assert site.holds() == IMAGE


@scenario
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            {"load": "fail 5"},
            r"fpga-load-local-image -S 0 -I agfi-0fedcba9876543210 ended with status 5: Error: \(5\) invalid-afi-id The agfi id passed is invalid",
        ),
        ({"load": "fail 16"}, r"ended with status 16: Error: \(16\) shell-version-not-supported"),
        ({"load": "lie"}, "found no image, cleared, ok, expected agfi-0fedcba9876543210 loaded"),
        ({"load": "garble"}, "found 'Segmentation fault', expected agfi-0fedcba9876543210 loaded"),
        ({"load": "hang"}, r"loading agfi-0fedcba9876543210 took more than 0\.4 s and was broken off"),
    ],
)
async def test_an_image_that_does_not_load_is_told_in_the_pods_events_and_tried_again(site, fault, says):
    f2(site)
    site.faults(**fault)
    async with running(site.options.kubelet) as kubelet, site.daemon(image_seconds=0.4 if "hang" in fault.values() else 25) as daemon:
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 2})
        pod = await kubelet.admit("job", {ACCELERATOR: 2})
        with pytest.raises(StartError, match=says):
            await kubelet.start_container(pod)
        assert len(daemon.problems()) == 1
        assert kubelet.allocatable() == {ACCELERATOR: 2}
        site.faults()
        daemon.tools.bound = 25
        await kubelet.start_container(pod)
        assert site.holds() == IMAGE
        assert daemon.problems() == []


@scenario
@pytest.mark.parametrize("image", [IMAGE, ""])
async def test_nothing_is_loaded_or_cleared_where_awss_tools_number_boards_otherwise(site, image):
    """What they call slot 0 is another pod's board."""
    slot = site.plug(F2)
    site.publish({F2: "a" if image else "boards"}, replicas={F2: 2}, image=image)
    resource = ACCELERATOR if image else f"xilinx/{F2}"
    own = site.root / "bin" / "fpga-describe-local-image-slots"
    right = own.read_text()
    own.write_text("#!/bin/sh\necho 'AFIDEVICE    0       0x1d0f      0x9048      0000:99:00.0'\n")
    async with running(site.options.kubelet) as kubelet, site.daemon():
        (site.root / "aws").mkdir(exist_ok=True)
        (site.root / "aws" / "slot-0.json").write_text(json.dumps({"image": IMAGE, "status": "loaded"}))
        await until(lambda: kubelet.allocatable().get(resource))
        pod = await kubelet.admit("job", {resource: 1})
        with pytest.raises(StartError, match=rf"AWS' tools call 0000:99:00\.0 slot 0, expected {slot}\.0"):
            await kubelet.start_container(pod)
        assert not [call for call in site.calls() if call.startswith(("load", "clear"))]
        own.write_text(right)
        await kubelet.start_container(pod)
        assert site.holds() == image


@scenario
async def test_a_tool_that_is_not_installed_is_named(site):
    f2(site)
    (site.root / "bin" / "fpga-load-local-image").unlink()
    async with running(site.options.kubelet) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 2})
        pod = await kubelet.admit("job", {ACCELERATOR: 1})
        with pytest.raises(StartError, match=r"fpga-load-local-image is not in .*bin: role aws_fpga installs it"):
            await kubelet.start_container(pod)


@scenario
async def test_the_kubelets_patience_ends_the_tool_too(site):
    f2(site)
    site.faults(load="hang")
    async with running(site.options.kubelet, pre_start_seconds=0.5) as kubelet, site.daemon():
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 2})
        pod = await kubelet.admit("job", {ACCELERATOR: 1})
        with pytest.raises(StartError, match="DEADLINE_EXCEEDED"):
            await kubelet.start_container(pod)
        site.faults()
        kubelet.pre_start_seconds = 30
        await kubelet.start_container(pod)
        assert site.holds() == IMAGE


@scenario
async def test_a_board_that_cannot_be_cleared_is_a_problem_until_it_is(site):
    f2(site)
    async with running(site.options.kubelet) as kubelet, site.daemon() as daemon:
        await until(lambda: kubelet.allocatable() == {ACCELERATOR: 2})
        await kubelet.start_container(await kubelet.admit("job", {ACCELERATOR: 2}))
        site.faults(clear="fail 14")
        kubelet.end("job")
        await until(daemon.problems)
        assert "could not be cleared after its last pod: slot 0: fpga-clear-local-image -S 0 ended with status 14" in daemon.problems()[0]
        site.faults()
        await kubelet.start_container(await kubelet.admit("next", {ACCELERATOR: 2}))
        assert daemon.problems() == []
