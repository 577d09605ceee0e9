# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role writes, rendered by Ansible: the unit as systemd reads and rates it, the options as the program understands them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from fpga_device_plugin import __main__ as command_line

ROOT = Path(__file__).resolve().parents[4]
ROLE = ROOT / "roles" / "fpga_device_plugin"


def files(**variables):
    """path -> text of what role's vars name."""
    loader = DataLoader()
    loader.set_basedir(str(ROLE))
    known = {"inventory_hostname": "worker1", "groups": {"on_prem": ["worker1"]}, "role_path": str(ROLE), "ansible_managed": "Ansible", "cluster_mirrors": {}}
    for role in ("cluster", "fpga_device_plugin"):
        for part in ("defaults", "vars"):
            known |= loader.load_from_file(str(ROOT / "roles" / role / part / "main.yml"), trusted_as_template=True)
    templar = Templar(loader, {**known, **variables})
    found = templar.template(known["__fpga_device_plugin_program"]) + templar.template(known["__fpga_device_plugin_unit"])
    return {file["path"]: file["content"] for file in found}


def unit(**variables):
    return files(**variables)["/etc/systemd/system/fpga-hybrid-device-plugin.service"]


def arguments(text):
    return shlex.split(re.search(r"^ExecStart=(.*?[^\\])$", text, re.MULTILINE | re.DOTALL)[1].replace("\\\n", " "))


def test_the_program_is_all_of_its_modules_and_one_launcher():
    written = files()
    modules = {f"/opt/fpga-hybrid/lib/fpga_device_plugin/{path.name}" for path in (ROLE / "files" / "fpga_device_plugin").glob("*.py")}
    assert modules < set(written)
    launcher = written["/opt/fpga-hybrid/bin/fpga-hybrid-device-plugin"]
    assert launcher.startswith("#!/opt/fpga-hybrid/venv/bin/python -I\n")
    compile(launcher, "launcher", "exec")


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {
            "fpga_device_plugin_slots": {"0000:34:00": "aws-vu47p-f2"},
            "fpga_device_plugin_cdi": True,
            "fpga_device_plugin_hand_out_management": True,
            "fpga_device_plugin_label_node": False,
            "fpga_device_plugin_metrics": "none",
        },
    ],
)
def test_the_program_understands_its_options(variables):
    program, *words = arguments(unit(**variables))
    assert program == "/opt/fpga-hybrid/bin/fpga-hybrid-device-plugin"
    options = command_line.options(words)
    assert options.config == Path("/etc/fpga-hybrid/node.json")
    assert options.management is bool(variables)
    assert (options.kubeconfig is None) is bool(variables)
    assert set(options.slots) == set(variables.get("fpga_device_plugin_slots", {}))


def test_defaults_of_role_and_program_agree():
    options = command_line.options(arguments(unit())[1:])
    default = command_line.options([])
    for name in ("state", "sysfs", "dev", "tools", "image_seconds", "grace", "settle", "metrics", "config"):
        assert getattr(options, name) == getattr(default, name), name


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
@pytest.mark.parametrize(("images", "worst"), [(False, 3.0), (True, 4.5)])
def test_systemd_takes_the_unit_and_rates_it_well(tmp_path, images, worst):
    """0 is a unit that may do nothing, 10 one that may do all. What is left: it is root, and speaks to the API server."""
    path = tmp_path / "fpga-hybrid-device-plugin.service"
    path.write_text(
        unit(fpga_device_plugin_loads_images=images, fpga_device_plugin_cdi=True).replace("/opt/fpga-hybrid/bin/fpga-hybrid-device-plugin", "/bin/true")
    )
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False)
    assert path.name not in verified.stderr, verified.stderr
    rated = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", path], capture_output=True, text=True, check=False).stdout
    assert float(re.search(r"exposure level for \S+: ([0-9.]+)", rated)[1]) <= worst, rated


def test_pods_volumes_are_out_of_reach_from_the_first_start_on():
    """A folder that comes after the sandbox would not be hidden in it."""
    assert "InaccessiblePaths=-/var/lib/kubelet/pods\n" in unit()
    assert re.search(r"^ExecStartPre=\+/usr/bin/install .* /var/lib/kubelet/pods$", unit(), re.MULTILINE)


def test_only_hosts_with_images_can_write_the_kernels_files():
    assert "ProtectKernelTunables=yes" in unit()
    assert "CapabilityBoundingSet=\n" in unit()
    aws = unit(groups={"on_prem": []})
    assert "ProtectKernelTunables" not in aws
    assert "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_RAWIO\n" in aws
