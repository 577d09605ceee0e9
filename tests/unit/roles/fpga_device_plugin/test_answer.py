# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container gets; what the tools' words mean; which facts become labels; what stands on the metrics' pages; the command line."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga_device_plugin import __main__ as command_line
from fpga_device_plugin import images, kubelet, labels, metrics, systemd
from fpga_device_plugin.answer import Giver
from fpga_device_plugin.boards import KINDS
from fpga_device_plugin.daemon import Daemon, Options, merge
from fpga_device_plugin.discovery import Board
from fpga_device_plugin.images import Status
from fpga_device_plugin.labels import LabelError, Labeller
from tests.unit.roles.fpga_device_plugin.test_ownership import Resource, board, copies, ownership

F2 = Board("0000:34:00", KINDS["aws-vu47p-f2"], "", "0000:34:00.0", 0, bars=("devices/pci0000:34/0000:34:00.0/resource0",), image_slot=3)


# --- containers


def test_two_resources_in_one_container_have_variables_of_their_own():
    giver = Giver()
    one = giver.give("xilinx/u250", [board()], ["0000:3b:00"]).envs
    two = giver.give("inaccel.com/xgboost.exact", [board("0000:43:00")], ["0000:43:00/0"]).envs
    assert not set(one) & set(two)
    assert two == {"PCIDEVICE_INACCEL_COM_XGBOOST_EXACT": "0000:43:00.1", "FPGA_COPIES_INACCEL_COM_XGBOOST_EXACT": "0000:43:00.1/0"}


def test_boards_come_in_one_order_whatever_the_kubelet_asks_in():
    boards = [board("0000:43:00"), board("0000:3b:00")]
    assert Giver().give("xilinx/u250", boards, ["b", "a"]).envs["PCIDEVICE_XILINX_U250"] == "0000:3b:00.1,0000:43:00.1"


def test_a_board_of_aws_is_mounted_where_its_library_looks():
    answer = Giver().give("xilinx/aws-vu47p-f2", [F2], ["0000:34:00"])
    assert answer.mounts == (("/sys/devices/pci0000:34/0000:34:00.0/resource0",) * 2,)
    assert answer.envs["FPGA_SLOTS_XILINX_AWS_VU47P_F2"] == "3"
    assert answer.devices == ()


def test_cdi_names_the_node_itself():
    """Its library takes no link for a device; the file is written anew when numbers change."""
    one = Board("0000:3b:00", KINDS["u250"], nodes=("dri/renderD128",), by_path="dri/by-path/pci-0000:3b:00.1-render")
    (device,) = Giver().cdi_specification([one])["devices"]
    assert device["containerEdits"]["deviceNodes"] == [{"hostPath": "/dev/dri/renderD128", "path": "/dev/dri/renderD128", "permissions": "rw"}]


def test_a_cdi_specification_has_no_device_without_edits():
    """The runtime would refuse the whole file."""
    ready = Board("0000:3b:00", KINDS["u250"], nodes=("dri/renderD128",))
    specification = Giver().cdi_specification([ready, board("0000:43:00", reason="no driver"), F2])
    assert [device["name"] for device in specification["devices"]] == ["0000:3b:00", "0000:34:00"]
    assert specification["devices"][1]["containerEdits"]["mounts"][0]["options"] == ["rw", "bind"]


# --- looks


def test_what_is_gone_stays_unready_and_loses_its_number():
    after = merge({"a": F2}, {}, [])
    assert (after["a"].ready, after["a"].image_slot) == (False, None)


def test_what_an_image_is_loaded_into_stays_as_it_was():
    assert merge({"a": F2}, {}, ["a"]) == {"a": F2}
    assert merge({"a": F2}, {"a": F2.unready("no BAR")}, ["a"]) == {"a": F2}
    assert merge({}, {"a": F2}, ["a"]) == {"a": F2}


# --- AWS' tools

LOADED = """\
AFI          0       agfi-0fedcba9876543210  loaded            0        ok               0       0x10212415
AFIDEVICE    0       0x6789      0x1d50      0000:34:00.0
"""
CLEARED = """\
Type  FpgaImageSlot  FpgaImageId             StatusName    StatusCode   ErrorName    ErrorCode   ShVersion
AFI          0       No AFI                  cleared           1        ok               0       0x10212415
"""


@pytest.mark.parametrize(
    ("output", "status"),
    [
        (LOADED, Status("agfi-0fedcba9876543210", "loaded", "ok", "0x10212415")),
        (CLEARED, Status("", "cleared", "ok", "0x10212415")),
        (
            "AFI          7       none                    busy              2        afi-load-timeout         6       0x04261818\n",
            Status("", "busy", "afi-load-timeout", "0x04261818"),
        ),
        ("Error: (5) invalid-afi-id\n", None),
        ("", None),
    ],
)
def test_the_tools_words(output, status):
    assert images.parse(output) == status


def test_what_a_slot_holds_is_not_believed_of_another_board(tmp_path):
    tool = tmp_path / "fpga-describe-local-image"
    tool.write_text(f"#!/bin/sh\ncat << EOF\n{LOADED}EOF\n")
    tool.chmod(0o755)
    tools = images.Tools(f"{tmp_path}:/bin")
    assert asyncio.run(tools.describe(0, "0000:34:00.0")).image == "agfi-0fedcba9876543210"
    with pytest.raises(images.ImageError, match=r"AWS' tools call 0000:34:00\.0 slot 0, expected 0000:36:00\.0"):
        asyncio.run(tools.describe(0, "0000:36:00.0"))


@given(st.text())
def test_no_output_is_too_strange(text):
    images.parse(text)


def test_a_tool_that_cannot_be_started_is_named(tmp_path):
    tool = tmp_path / "fpga-describe-local-image"
    tool.write_text("#!/no/such/shell\n")
    tool.chmod(0o755)
    with pytest.raises(images.ImageError, match=r"slot 0: .*fpga-describe-local-image cannot be started: No such file or directory"):
        asyncio.run(images.Tools(str(tmp_path)).describe(0, "0000:34:00.0"))


# --- labels


def test_facts_of_boards_are_labels():
    shelled = Board("0000:3b:00", KINDS["u250"], shell="xilinx_u250_gen3x16_xdma_shell_4_1")
    assert labels.facts([shelled, F2], "2.16.204", {"0000:34:00": "0x10212415"}) == {
        "fpga.hybrid/xrt": "2.16.204",
        "fpga.hybrid/shell.u250": "xilinx_u250_gen3x16_xdma_shell_4_1",
        "fpga.hybrid/shell.aws-vu47p-f2": "0x10212415",
    }


def test_different_shells_of_one_kind_are_mixed():
    boards = [Board(slot, KINDS["u250"], shell=slot) for slot in ("a", "b")]
    assert labels.facts(boards, "", {}) == {"fpga.hybrid/shell.u250": "mixed"}


@given(st.text())
def test_whatever_a_shell_is_called_the_label_is_one(text):
    made = labels.value(text)
    assert len(made) <= 63
    assert not made or (made[0].isalnum() and made[-1].isalnum() and made.isascii())


KUBECTL = """#!/bin/sh
cd FOLDER
echo "$@" >> calls
case "$3" in
auth) cat who ;;
get) cat labels.json ;;
patch)
    [ ! -e refuse ] || { echo "forbidden: not yours" >&2; exit 1; }
    echo "$8" > patch
    ;;
esac
"""


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A kubectl double: a node in a file, and the words of whoever is asked."""
    (tmp_path / "labels.json").write_text('{"fpga.hybrid/shell.u280": "old", "fpga.hybrid/pool": "f2", "kubernetes.io/os": "linux"}')
    (tmp_path / "who").write_text("system:node:worker1")
    script = tmp_path / "kubectl"
    script.write_text(KUBECTL.replace("FOLDER", str(tmp_path)))
    script.chmod(0o755)
    (tmp_path / "kubelet.conf").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_the_node_gets_our_labels_and_loses_what_is_true_no_more(node):
    labeller = Labeller(node / "kubelet.conf")
    asyncio.run(labeller.tell({"fpga.hybrid/xrt": "2.16.204"}))
    patch = json.loads((node / "patch").read_text())["metadata"]["labels"]
    assert patch == {"fpga.hybrid/shell.u280": None, "fpga.hybrid/xrt": "2.16.204"}  # not the pool's label, not the kubelet's
    assert "patch node worker1" in (node / "calls").read_text()
    called = (node / "calls").read_text()
    asyncio.run(labeller.tell({"fpga.hybrid/xrt": "2.16.204"}))
    assert (node / "calls").read_text() == called


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda folder: (folder / "kubelet.conf").unlink(), "kubelet.conf is not there: this host is no node yet"),
        (lambda folder: (folder / "who").write_text("kubernetes-admin"), "is that of 'kubernetes-admin', expected system:node:NAME"),
        (lambda folder: (folder / "refuse").touch(), "kubectl patch: forbidden: not yours"),
        (lambda folder: (folder / "labels.json").write_text("<html>"), "kubectl get: found '<html>', expected the node's labels as JSON"),
        (lambda folder: (folder / "labels.json").write_text("[1]"), r"kubectl get: found '\[1\]', expected the node's labels as JSON"),
        (lambda folder: (folder / "kubectl").write_text("#!/no/such/shell\n"), "kubectl cannot be started: No such file or directory"),
    ],
)
def test_why_the_node_cannot_be_labelled_is_said(node, prepare, says):
    prepare(node)
    with pytest.raises(LabelError, match=says):
        asyncio.run(Labeller(node / "kubelet.conf").tell({"fpga.hybrid/xrt": "1"}))


# --- metrics


def test_the_pages():
    problems: list[str] = []

    def page(path):
        return metrics.page(path, lambda: b"fpga_x 1\n", lambda: problems)

    assert page("/metrics").content == b"fpga_x 1\n"
    assert (page("/healthz").status, page("/healthz").content) == ("200 OK", b"ok\n")
    problems.append("the bus is gone")
    assert (page("/healthz").status, page("/healthz").content) == ("503 Service Unavailable", b"the bus is gone\n")
    assert page("/").status == "404 Not Found"


def test_what_is_so_now_is_measured_when_it_is_asked_for(tmp_path):
    daemon = Daemon(Options(kubelet=tmp_path))
    daemon.metrics.watch(daemon)
    daemon.ownership = ownership(copies(), Resource("xilinx/u250", {"u250": 1}))
    daemon.ownership.allocate("inaccel.com/xgboost.exact", ["0000:3b:00/0"])
    text = daemon.metrics.text().decode()
    assert 'fpga_hybrid_board_ready{board="u250",slot="0000:3b:00"} 1.0' in text
    assert 'fpga_hybrid_board_devices_taken{board="u250",resource="inaccel.com/xgboost.exact",slot="0000:3b:00"} 1.0' in text
    assert 'fpga_hybrid_devices{health="unhealthy",resource="xilinx/u250"} 1.0' in text
    assert 'fpga_hybrid_devices{health="healthy",resource="inaccel.com/xgboost.exact"} 4.0' in text


def ask(request: bytes) -> bytes:
    async def story():
        server = await metrics.serve("127.0.0.1", 0, lambda path: metrics.Page("200 OK", path.encode()))
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        server.close()
        return answer

    return asyncio.run(story())


def test_the_port_answers_get():
    answer = ask(b"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n/metrics")


@pytest.mark.parametrize("request_", [b"POST / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"\r\n\r\n"])
def test_the_port_answers_nothing_else(request_):
    assert ask(request_).startswith(b"HTTP/1.1 405")


def test_who_hangs_up_or_talks_too_much_gets_nothing():
    assert ask(b"GET / HT") == b""
    assert ask(b"x" * 200000) == b""


# --- systemd, sockets, command line


def test_systemd_is_told(tmp_path, monkeypatch):
    systemd.notify(READY="1")  # nobody there
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "s"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))
        systemd.notify(READY="1", STATUS="2 xilinx/u250")
        assert receiver.recv(100) == b"READY=1\nSTATUS=2 xilinx/u250"
    (tmp_path / "s").unlink()
    systemd.notify(WATCHDOG="1")  # gone again


@given(st.from_regex(r"[a-z0-9.-]{1,60}/[A-Za-z0-9._-]{1,63}", fullmatch=True), st.integers(1, 10**6))
def test_a_sockets_name_fits_whatever_the_resource_is_called(resource, number):
    assert len(f"/var/lib/kubelet/device-plugins/{kubelet.socket_name(resource, number)}") <= 107


def test_a_kubelet_that_is_gone_does_not_listen(tmp_path):
    one = kubelet.Kubelet(tmp_path)
    one.plugins.mkdir()
    assert not one.listens()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(one.socket))
        assert not one.listens()
        server.listen()
        assert one.listens()
    assert stat.S_ISSOCK(one.socket.stat().st_mode)
    assert not one.listens()


@pytest.mark.parametrize(
    "folder",
    [
        "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0a_1b.slice",
        "kubepods.slice/kubepods-pod0a_1b.slice",
        "kubepods/burstable/pod0a-1b",
        "kubepods/pod0a-1b",
        "systemd/kubepods/burstable/pod0a-1b",  # version 1
        "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod0a_1b.slice",  # kubelet --cgroup-root
    ],
)
def test_a_pod_that_runs_has_a_cgroup_whatever_the_driver(tmp_path, folder):
    one = kubelet.Kubelet(tmp_path, tmp_path / "cgroup")
    assert not one.runs("0a-1b")
    (tmp_path / "cgroup" / folder).mkdir(parents=True)
    assert one.runs("0a-1b")
    assert not one.runs("0a-1")
    assert not one.runs("*")


def test_the_command_lines_defaults_are_the_options():
    assert command_line.options([]) == Options()


def test_the_command_line_is_understood():
    words = "--config /c --slot 0000:34:00=aws-vu47p-f2 --slot 0000:36:00=aws-vu47p-f2 --metrics none --cdi /run/cdi --grace 5 --hand-out-management"
    found = command_line.options(words.split())
    assert found.config == Path("/c")
    assert found.slots == dict.fromkeys(["0000:34:00", "0000:36:00"], KINDS["aws-vu47p-f2"])
    assert (found.metrics, found.cdi, found.grace.seen, found.management) == (None, Path("/run/cdi"), 5.0, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--slot 0000:34:00=u250", "expected domain:bus:device=board as 0000:34:00=aws-vu47p-f2"),
        ("--slot 34=aws-vu47p-f2", "expected domain:bus:device=board"),
        ("--image-seconds 30", "at most 27: the kubelet gives up after 30"),
        ("--image-seconds x", "found 'x', expected more than 0"),
        ("--metrics 9406", "expected address:port, or none"),
        ("--metrics 127.0.0.1:0", "expected address:port"),
    ],
)
def test_a_wrong_word_is_refused_with_what_is_expected(words, says, capsys):
    with pytest.raises(SystemExit):
        command_line.options(words.split())
    assert says in capsys.readouterr().err
