# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller with playbooks and modules, and the lab's AWS to use them on, whose IAM holds everyone to exactly their policies."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.testing import patch_module_args
from botocore.exceptions import ClientError

from tests.unit.playbook_site import HASTE

if TYPE_CHECKING:
    from lab.cloud.server import Cloud

ROOT = Path(__file__).resolve().parents[3]
ACCOUNT = "123456789012"
ID = "5c9e8f6a-0000-4000-8000-000000000001"
OTHER_ID = "5c9e8f6a-0000-4000-8000-000000000002"
POOL = {"name": "f2-6xlarge", "instance_type": "f2.6xlarge", "max_size": 2, "availability_zones": ["us-east-1a", "us-east-1b"]}
DECLARATION = {
    "cluster_name": "lab",
    "cluster_id": ID,
    "cluster_control_plane_endpoint": "api.test.example:6443",
    "cluster_on_prem_addresses": "vpn",
    "cluster_vpn_endpoint": "192.0.2.1",
    "cluster_kubernetes_version": "1.36.3",
    "cluster_aws_region": "us-east-1",
    "cluster_aws_account_id": ACCOUNT,
    "cluster_node_pools": [POOL],
}
#: The control plane: nothing listens there, so a task that asked it would fail.
INVENTORY = """\
all:
  children:
    on_prem: {hosts: {cp1: {ansible_host: 127.0.0.1, ansible_port: 1, vpn_address: 172.27.224.1}}}
    control_plane: {hosts: {cp1: {}}}
    vpn_server: {hosts: {cp1: {}}}
"""


def denied(act: Callable[[], object]) -> str:
    """What AWS says to a call that the caller has no right to."""
    with pytest.raises(ClientError, match="not authorized") as error:
        act()
    return str(error.value)


class Site:
    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud, self.folder = cloud, folder
        (folder / "site.yml").write_text(INVENTORY)
        self.image = cloud.client("ec2").register_image(Name="fpga-hybrid-1.36", RootDeviceName="/dev/xvda", Architecture="x86_64")["ImageId"]
        cloud.forget_calls()

    # --- playbooks

    def play(self, playbook: str, *options: str, credentials: dict[str, str] | None = None, **variables: Any) -> subprocess.CompletedProcess[str]:
        images = {"1.36": {"us-east-1": self.image}}
        values = {**DECLARATION, "cluster_aws_endpoint_url": self.cloud.url, "cluster_aws_images": images, **variables}
        (self.folder / "vars.json").write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
        extra = ["-i", str(self.folder / "site.yml"), "-e", f"@{self.folder / 'vars.json'}"]
        return self._ansible_playbook(*extra, f"playbooks/{playbook}.yml", *options, folder=ROOT, credentials=credentials)

    def tasks(self, tasks: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
        """A play of these tasks on the controller, started in the site's folder."""
        (self.folder / "tasks.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
        return self._ansible_playbook("-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}", "tasks.yml", folder=self.folder)

    def _ansible_playbook(self, *arguments: str, folder: Path, credentials: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        own = {"ANSIBLE_NOCOLOR": "1", "no_proxy": "127.0.0.1", "PWD": str(folder), **HASTE}
        environment = {**os.environ, **self.cloud.environment(credentials), **own}
        command = [str(Path(sys.executable).parent / "ansible-playbook"), *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    def does(self, playbook: str, *options: str, credentials: dict[str, str] | None = None, **variables: Any) -> str:
        done = self.play(playbook, *options, credentials=credentials, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refuses(self, playbook: str, *options: str, credentials: dict[str, str] | None = None, **variables: Any) -> str:
        """The output, on one line, of a run that fails before its first write."""
        self.cloud.forget_calls()
        done = self.play(playbook, *options, credentials=credentials, **variables)
        assert done.returncode == 2, done.stdout + done.stderr
        assert self.cloud.calls(writes=True) == []
        return " ".join(done.stdout.split())

    # --- modules, in this process

    def module(self, name: str, *, check: bool = False, credentials: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
        """What a module of ours prints."""
        keys = self.cloud.environment(credentials)
        names = {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY", "session_token": "AWS_SESSION_TOKEN"}
        given = {option: keys[variable] for option, variable in names.items() if variable in keys}
        connection = {"region": "us-east-1", "endpoint_url": self.cloud.url, "aws_config": {"retries": {"max_attempts": 0}}, **given}
        arguments = {**connection, **options, "_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": str(self.folder)}
        printed = io.StringIO()
        main = import_module(f"ansible_collections.fpga.hybrid.plugins.modules.{name}").main
        with patch_module_args(arguments), contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
            main()
        answer: dict[str, Any] = json.loads(printed.getvalue())
        return answer

    def preflight(self, *, credentials: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
        """What module pools_preflight says; it may write nothing."""
        self.cloud.forget_calls()
        defaults = {
            "cluster_name": "lab",
            "cluster_id": ID,
            "ssm_prefix": "/fpga-hybrid/lab",
            "account_id": ACCOUNT,
            "security_group": "lab-nodes",
            "pools": [POOL],
        }
        answer = self.module("pools_preflight", credentials=credentials, **{**defaults, **options})
        assert self.cloud.calls(writes=True) == []
        return answer

    def policies(self, **options: Any) -> dict[str, dict[str, Any]]:
        """What module iam_policies writes for the declaration."""
        cluster = {"name": "lab", "id": ID, "region": "us-east-1", "account_id": ACCOUNT}
        arguments = {"dest": str(self.folder / "iam"), "cluster": cluster, "pools": [POOL], **options, "_ansible_remote_tmp": str(self.folder)}
        printed = io.StringIO()
        main = import_module("ansible_collections.fpga.hybrid.plugins.modules.iam_policies").main
        with patch_module_args(arguments), contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
            main()
        policies: dict[str, dict[str, Any]] = json.loads(printed.getvalue())["policies"]
        return policies
