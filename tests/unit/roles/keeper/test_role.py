# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role keeper puts on the control plane: fit to run with Python alone, read by the program itself, and only where there are pools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fpga_hybrid_keeper.keeper import WORDS
from fpga_hybrid_keeper.plan import PHASES, Action
from fpga_hybrid_keeper.settings import read
from tests.unit.playbook_site import HASTE
from tests.unit.roles.bootstrap.test_role import VARIABLES
from tests.unit.roles.rendered import ROOT, imports, render

ROLE = ROOT / "roles" / "keeper"
UTILITIES = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["__keeper_utilities"]
PACKAGE = [*sorted((ROLE / "files" / "fpga_hybrid_keeper").glob("*.py")), *(ROOT / "plugins" / "module_utils" / f"{name}.py" for name in UTILITIES)]
ID = "5c9e8f6a-0000-4000-8000-000000000001"


def test_it_needs_no_more_than_its_own_and_bootstraps_library_and_the_standard_one():
    utilities = {name for path in PACKAGE for name in imports(path)[0]}
    others = {name for path in PACKAGE for name in imports(path)[1]}
    assert utilities - {""} - set(VARIABLES["__bootstrap_utilities"]) == set(UTILITIES)
    assert others - {"fpga_hybrid", "fpga_hybrid_keeper"} <= set(sys.stdlib_module_names)


def test_every_action_has_its_words_and_every_phase_its_line():
    assert set(WORDS) == set(Action.__args__)
    readme = (ROLE / "README.md").read_text()
    assert [line.split("|")[1].strip() for line in readme.splitlines() if line.split("|")[1:2] and line.split("|")[1].strip() in PHASES] == list(PHASES)


PLAY = """
- hosts: control_plane
  gather_facts: false
  roles:
    - fpga.hybrid.keeper
  tasks:
    - ansible.builtin.copy:
        content: "{{ {'pools': cluster_node_pools, 'keeper': files} | to_json }}"
        dest: "{{ lookup('ansible.builtin.env', 'ROLE_RESULT') }}"
        mode: "0600"
      check_mode: false
      vars:
        role_path: "{{ lookup('ansible.builtin.env', 'ROLE_PATH') }}"
        files: "{{ __keeper_package + __keeper_files + (__keeper_files_remote if __keeper_is_remote else []) }}"
"""


def run_role(folder: Path, hosts: dict[str, list[str]], **variables: object) -> list[dict[str, str]]:
    """What the role writes, as a run in check mode renders it."""
    declared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "cluster_program_folder": str(folder / "opt"),
        "cluster_state_folder": str(folder / "etc"),
        "cluster_data_folder": str(folder / "var"),
        "cluster_control_plane_endpoint": "api.example.org",
        "cluster_on_prem_addresses": "vpn",
        "cluster_vpn_endpoint": "vpn.example.org",
        "cluster_aws_region": "us-east-1",
        "cluster_id": ID,
        **variables,
    }
    declared_hosts = {name: {"roles": roles, "vars": {"vpn_address": f"172.27.224.{number}"}} for number, (name, roles) in enumerate(hosts.items(), 1)}
    result = render(ROLE, PLAY, folder, declared_hosts, declared)
    assert result["pools"] == [], "what site.yml asks is known to the tasks of a play"
    return list(result["keeper"])


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("role")
    proxy = {"cluster_proxy": {"https": "http://proxy.example.org:3128"}}
    files = run_role(folder, {"cp1": ["control_plane", "vpn_server"]}, **proxy)
    return folder, {file["path"]: file["content"] for file in files}


def test_the_configuration_is_one_that_the_program_takes(written, tmp_path):
    folder, files = written
    path = tmp_path / "keeper.json"
    path.write_text(files[f"{folder}/etc/keeper.json"])
    found = read(str(path))
    assert (found.cluster_name, found.cluster_id, found.region) == ("lab", ID, "us-east-1")
    assert (found.endpoint, found.endpoint_address) == ("api.example.org:6443", "172.27.224.1")
    assert (found.endpoint_url, found.account) == (None, "")
    assert (found.credentials, found.ssm_prefix) == (f"{folder}/etc/keeper.aws", "/fpga-hybrid/lab")
    assert found.vpn == (f"{folder}/opt/bin/fpga-hybrid-vpn",)
    assert (found.interval, found.grace, found.state, found.network_told) == (5, 20, f"{folder}/var/keeper", True)
    assert found.limits == {"instances": 4, "instance_hours_per_day": 24}
    own = found.upkeep
    assert (own.node, own.etcd, own.kubernetes) == ("cp1", "https://127.0.0.1:2379", "/etc/kubernetes")
    assert own.saved == {
        "kubernetes/pki": "/etc/kubernetes/pki",
        "fpga-hybrid/cluster.json": f"{folder}/etc/cluster.json",
        "fpga-hybrid/keeper/record.json": f"{folder}/var/keeper/record.json",
        "fpga-hybrid/vpn": f"{folder}/etc/vpn",
    }
    assert (own.snapshots_kept, own.warn_days, own.metrics_file) == (7, 30, f"{folder}/var/keeper/metrics.prom")
    assert (own.snapshot_command, own.warning_command) == ((), ())


def test_what_is_installed_runs_by_itself(written):
    folder, files = written
    for name, content in files.items():
        if name.startswith(f"{folder}/opt"):
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            path.chmod(0o755)
    library = folder / "opt" / "lib"
    shutil.copytree(ROOT / "roles" / "bootstrap" / "files" / "fpga_hybrid", library / "fpga_hybrid")
    utilities = library / "ansible_collections/fpga/hybrid/plugins/module_utils"
    utilities.mkdir(parents=True, exist_ok=True)
    for name in VARIABLES["__bootstrap_utilities"]:
        shutil.copy(ROOT / "plugins" / "module_utils" / f"{name}.py", utilities)
    launcher = folder / "opt" / "bin" / "fpga-hybrid-keeper"
    assert launcher.read_text().startswith("#!/usr/bin/python3 -I\n")
    done = subprocess.run([launcher, "--help"], cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--dry-run" in done.stdout
    done = subprocess.run([launcher, "status", "--config", "/nowhere"], cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert (done.returncode, "/nowhere cannot be read" in done.stderr) == (2, True)
    done = subprocess.run([launcher, "--once", "--config", "/nowhere"], cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert (done.returncode, "/nowhere cannot be read" in done.stderr) == (2, True)


def test_the_unit_may_write_its_own_folders_only_and_knows_the_proxy(written):
    folder, files = written
    lines = files["/etc/systemd/system/fpga-hybrid-keeper.service"].splitlines()
    assert f"ExecStart={folder}/opt/bin/fpga-hybrid-keeper --config {folder}/etc/keeper.json" in lines
    assert f"ReadWritePaths={folder}/var/keeper {folder}/etc/vpn" in lines
    assert {"ProtectSystem=strict", "CapabilityBoundingSet=", "NoNewPrivileges=yes", "Type=notify"} <= set(lines)
    assert 'Environment="HTTPS_PROXY=http://proxy.example.org:3128" "https_proxy=http://proxy.example.org:3128"' in lines


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_takes_the_unit_and_finds_little_to_blame(written, tmp_path):
    _folder, files = written
    path = tmp_path / "fpga-hybrid-keeper.service"
    text = files["/etc/systemd/system/fpga-hybrid-keeper.service"]
    path.write_text("\n".join("ExecStart=/bin/true" if line.startswith("ExecStart=") else line for line in text.splitlines()))
    done = subprocess.run(["systemd-analyze", "verify", "--recursive-errors=no", path], capture_output=True, text=True, check=False)
    assert "fpga-hybrid-keeper.service" not in done.stdout + done.stderr
    done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=40", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


OWN = {
    "keeper_snapshot_command": ["/usr/local/bin/carry", "--to", "store"],
    "keeper_metrics_file": "/var/lib/node_exporter/fpga.prom",
    "cluster_cloud_limits": {"instances": None, "instance_hours_per_day": "12"},  # text, as -e instance_hours_per_day=12 would have it
}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """Of a control plane whose VPN server is another host, with settings of its own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "host_key.pub").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 root@vpn1\n")
    hosts = {"vpn1": ["vpn_server"], "cp1": ["control_plane"]}
    return folder, {file["path"]: file["content"] for file in run_role(folder, hosts, __keeper_host_key_file=str(folder / "host_key.pub"), **OWN)}


def test_a_ceiling_that_is_null_is_none_to_keeper_and_one_that_came_as_text_is_a_number(elsewhere):
    folder, files = elsewhere
    path = folder / "keeper.json"
    path.write_text(files[f"{folder}/etc/keeper.json"])
    assert read(str(path)).limits == {"instances": None, "instance_hours_per_day": 12}


def test_a_vpn_server_that_is_another_host_is_asked_over_ssh_with_a_key_of_its_own(elsewhere):
    folder, files = elsewhere
    config = json.loads(files[f"{folder}/etc/keeper.json"])
    assert config["vpn"][:4] == ["ssh", "-T", "-i", f"{folder}/etc/keeper.ssh"]
    assert config["vpn"][-2:] == ["root@172.27.224.1", "fpga-hybrid-vpn"]
    assert "-oStrictHostKeyChecking=yes" in config["vpn"]
    assert files[f"{folder}/etc/keeper.known_hosts"] == "fpga-hybrid-vpn ssh-ed25519 AAAAC3NzaC1lZDI1NTE5\n"
    assert f"ReadWritePaths={folder}/var/keeper -/var/lib/node_exporter\n" in files["/etc/systemd/system/fpga-hybrid-keeper.service"]
    assert "fpga-hybrid/vpn" not in config["upkeep"]["saved"], "that host's own"
    assert config["upkeep"]["snapshot_command"] == OWN["keeper_snapshot_command"]
    assert config["upkeep"]["metrics_file"] == OWN["keeper_metrics_file"]


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (None, None),
        ('{"region": "us-east-1", "kept": {}}', None),
        ('{"trunc', "Look for the tag fpga.hybrid/kept-until"),
        ("", "Look for the tag fpga.hybrid/kept-until"),
        (
            '{"region": "us-east-1", "kept": {"i-0123456789abcdef2": {}, "i-0123456789abcdef1": {}}}',
            "ec2 terminate-instances --region us-east-1 --instance-ids i-0123456789abcdef1 i-0123456789abcdef2",
        ),
    ],
    ids=["no record", "none is kept", "a damaged record", "an empty record", "two are kept"],
)
def test_whoever_removes_keeper_is_told_of_instances_that_it_was_to_end(tmp_path, record, told):
    """Out of their groups, nobody else ends them."""
    (tmp_path / "keeper").mkdir()
    if record is not None:
        (tmp_path / "keeper" / "record.json").write_text(record)
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [{"ansible.builtin.include_tasks": str(ROLE / "tasks" / "kept.yml")}]}]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", str(tmp_path / "play.yml")]
    variables = {"cluster_data_folder": str(tmp_path), "ansible_python_interpreter": sys.executable}
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **HASTE}
    done = subprocess.run([*command, "-e", json.dumps(variables)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("WARNING" in done.stdout) == bool(told)
    assert (told or "") in " ".join(done.stdout.split())
