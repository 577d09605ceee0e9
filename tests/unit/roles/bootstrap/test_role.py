# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role puts on a host: everything the program imports, nothing else, and fit to run with Python alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fpga_hybrid import failure
from tests.unit.roles.rendered import ROOT, UTILITIES, imports, render

ROLE = ROOT / "roles" / "bootstrap"
VARIABLES = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())


def files() -> list[Path]:
    utilities = [ROOT / "plugins" / "module_utils" / f"{name}.py" for name in VARIABLES["__bootstrap_utilities"]]
    return [*sorted((ROLE / "files" / "fpga_hybrid").glob("*.py")), *utilities]


def test_exactly_those_utilities_are_installed_that_something_imports():
    assert {name for path in files() for name in imports(path)[0]} == set(VARIABLES["__bootstrap_utilities"])


def test_nothing_but_the_standard_library_is_imported():
    others = {name for path in files() for name in imports(path)[1]}
    assert others - {"fpga_hybrid"} <= set(sys.stdlib_module_names)


def test_no_file_is_a_program_by_itself():
    """A shebang in files/ is refused by ansible-test; the role writes the launcher's."""
    assert not [path for path in files() if path.read_text().startswith("#!")]


PLAY = """
- hosts: cp1
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: fpga.hybrid.bootstrap, tasks_from: library, public: true}
    - ansible.builtin.copy:
        content: "{{ {'files': __bootstrap_library + __bootstrap_program + __bootstrap_instance_program + __bootstrap_unit} | to_json }}"
        dest: "{{ lookup('ansible.builtin.env', 'ROLE_RESULT') }}"
        mode: "0600"
      check_mode: false
      vars: {role_path: "{{ lookup('ansible.builtin.env', 'ROLE_PATH') }}"}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The files as the role renders them, put where a test may; the role itself runs in check mode."""
    folder = tmp_path_factory.mktemp("role")
    variables = {
        "ansible_python_interpreter": sys.executable,
        "cluster_program_folder": str(folder / "opt"),
        "cluster_state_folder": str(folder / "etc"),
        "cluster_control_plane_endpoint": "api.example.org:6443",
        "cluster_on_prem_addresses": "vpn",
        "cluster_vpn_endpoint": "vpn.example.org",
        "cluster_proxy": {"https": "http://proxy.example.org:3128"},
    }
    hosts = {"cp1": {"roles": ["control_plane", "vpn_server"], "vars": {"ansible_host": "10.0.0.10", "vpn_address": "172.27.224.1"}}}
    for file in render(ROLE, PLAY, folder, hosts, variables, name="c")["files"]:
        path = folder / file["path"].lstrip("/") if file["path"].startswith("/etc") else Path(file["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["content"])
        path.chmod(int(file.get("mode", "0644"), 8))
    return folder


def test_what_is_installed_runs_by_itself(installed):
    """With the interpreter of the system, from another folder, without anything of the checkout in reach."""
    launcher = installed / "opt" / "bin" / "fpga-hybrid-bootstrap"
    assert launcher.read_text().startswith("#!/usr/bin/python3 -I\n")
    done = subprocess.run([launcher, "--help"], cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--discovery-token-ca-cert-hash" in done.stdout


def test_what_stays_with_the_instance_runs_by_itself_too(installed):
    launcher = installed / "opt" / "bin" / "fpga-hybrid-watch"
    assert launcher.read_text().startswith("#!/usr/bin/python3 -I\n")
    done = subprocess.run([launcher, "--help"], cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "evicts its pods on a" in " ".join(done.stdout.split())


def test_the_installed_library_is_the_checkouts(installed):
    found = {path.relative_to(installed / "opt" / "lib"): path.read_text() for path in (installed / "opt" / "lib").rglob("*.py")}
    expected = {Path("fpga_hybrid") / path.name: path.read_text() for path in (ROLE / "files" / "fpga_hybrid").glob("*.py")}
    folder = Path(UTILITIES.replace(".", "/"))
    expected |= {folder / f"{name}.py": (ROOT / "plugins" / "module_utils" / f"{name}.py").read_text() for name in VARIABLES["__bootstrap_utilities"]}
    assert found == expected


def test_the_unit_starts_bootstrap_once_and_knows_the_proxy(installed):
    unit = (installed / "etc/systemd/system/fpga-hybrid-bootstrap.service").read_text()
    lines = unit.splitlines()
    assert f"ExecStart={installed}/opt/bin/fpga-hybrid-bootstrap --config /etc/fpga-hybrid/node.json --bundle ssm --timeout 600" in lines
    assert not [line for line in lines if line.startswith("Restart")]
    assert 'Environment="HTTPS_PROXY=http://proxy.example.org:3128" "https_proxy=http://proxy.example.org:3128"' in lines
    (proxy,) = [line for line in lines if "NO_PROXY" in line]
    assert "169.254.169.254" in proxy
    assert "ConditionPathExists=/etc/fpga-hybrid/node.json" in lines


def test_who_stays_with_the_instance_comes_when_bootstrap_is_done_whatever_came_of_it(installed):
    bootstrap, watch = ((installed / f"etc/systemd/system/fpga-hybrid-{name}.service").read_text().splitlines() for name in ("bootstrap", "watch"))
    assert "Wants=fpga-hybrid-watch.service" in bootstrap
    assert "TimeoutStartSec=720" in bootstrap
    assert [line for line in watch if line.startswith("After=")] == ["After=fpga-hybrid-bootstrap.service network-online.target"]
    assert not [line for line in watch if line.startswith(("Requires", "BindsTo", "PartOf"))]
    assert f"ExecStart={installed}/opt/bin/fpga-hybrid-watch --config /etc/fpga-hybrid/node.json" in watch
    assert "ConditionPathExists=/etc/fpga-hybrid/node.json" in watch
    assert 'Environment="HTTPS_PROXY=http://proxy.example.org:3128" "https_proxy=http://proxy.example.org:3128"' in watch


def test_who_stays_with_the_instance_starts_on_a_full_disk_too(installed):
    """systemd makes the folders of PrivateTmp on the root disk, and a state folder that is not there yet: without room there would be no watch."""
    watch = (installed / "etc/systemd/system/fpga-hybrid-watch.service").read_text().splitlines()
    assert not [line for line in watch if line.startswith("PrivateTmp")]
    assert "TemporaryFileSystem=/tmp /var/tmp" in watch
    (state,) = [line.partition("=")[2] for line in watch if line.startswith("StateDirectory=")]
    write = yaml.safe_load((ROLE / "tasks" / "install.yml").read_text())[0]["fpga.hybrid.owned_files"]
    assert write["folders"] == [{"path": f"{{{{ cluster_data_folder }}}}/{state.removeprefix('fpga-hybrid/')}", "mode": "0755"}]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_the_units_are_such_as_systemd_reads_them(installed):
    units = sorted(map(str, (installed / "etc/systemd/system").glob("*.service")))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "fpga-hybrid" in line] == []


def test_the_readme_lists_every_exit_status():
    readme = (ROLE / "README.md").read_text()
    assert [line for line in readme.splitlines() if line.startswith("| ") and line.split("|")[1].strip().isdigit()] == [
        "| 0 | joined | a node of the cluster, now or already |",
        *(f"| {kind.status} | {kind.name} | {kind.meaning} |" for kind in failure.KINDS),
    ]
