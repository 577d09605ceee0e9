# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""moto on a free port, as it is and with AWS' manners; modules run in this process, as they would on a host."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import botocore.session
import pytest

ROOT = Path(__file__).resolve().parents[3]
COLLECTIONS = ROOT / "collections"
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(COLLECTIONS))
# moto reads it when it is imported.
os.environ["MOTO_AMIS_PATH"] = str(Path(__file__).parent / "amis.json")
for path in (str(COLLECTIONS), str(ROOT)):
    if path not in sys.path:
        sys.path.insert(0, path)

from ansible.module_utils.testing import patch_module_args  # noqa: E402
from ansible.plugins.loader import init_plugin_loader  # noqa: E402

init_plugin_loader([str(COLLECTIONS)])

from tests.integration.aws.aws_like import aws_like  # noqa: E402
from tests.integration.aws.server import REGION, Call, Moto  # noqa: E402

Result = dict[str, Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.aws)


@pytest.fixture(scope="session", autouse=True)
def models_read_once() -> Iterator[None]:
    """botocore reads its models, which are large, anew for every session; the modules make one per client and run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", functools.cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session")
def server() -> Iterator[Moto]:
    moto = Moto()
    yield moto
    moto.stop()


@pytest.fixture(params=["aws_like"])
def moto(request: pytest.FixtureRequest, server: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[Moto]:
    """With AWS' manners, or for tests that ask for it also as it is."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("ansible_collections.amazon.aws.plugins.module_utils.cloud.time.sleep", lambda seconds: None)
    server.reset()
    with aws_like() if request.param == "aws_like" else contextlib.nullcontext():
        yield server
    for call in server.everything:
        check_call(call)


@pytest.fixture
def module(moto: Moto) -> Callable[..., Result]:
    """Runs a module of ours in this process: module(name, options, check=...) gives what it prints."""

    def run(name: str, options: dict[str, Any], *, check: bool = False) -> Result:
        connection = {"region": REGION, "endpoint_url": moto.url, "access_key": "test", "secret_key": "test", "aws_config": {"retries": {"max_attempts": 0}}}
        arguments = {**connection, **options, "_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": "/tmp"}
        printed = io.StringIO()
        main = import_module(f"ansible_collections.fpga.hybrid.plugins.modules.{name}").main
        with patch_module_args(arguments), contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
            main()
        answer: Result = json.loads(printed.getvalue())
        return answer

    return run


def check_call(call: Call) -> None:
    """The wire test: what holds for every call of every test here, whatever it is about."""
    params = call.params
    if call.operation in ("CreateAutoScalingGroup", "UpdateAutoScalingGroup"):
        assert "DesiredCapacity" not in params
        assert not any(value.startswith("$") for key, value in params.items() if key.endswith("Version"))
    if call.operation in ("CreateLaunchTemplate", "CreateLaunchTemplateVersion"):
        assert "SourceVersion" not in params
        prefix = "LaunchTemplateData"
        assert {key.removeprefix(f"{prefix}.MetadataOptions."): value for key, value in params.items() if ".MetadataOptions." in key} == {
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": "1",
            "HttpEndpoint": "enabled",
            "InstanceMetadataTags": "disabled",
        }
        assert params[f"{prefix}.BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
        assert base64.b64decode(params[f"{prefix}.UserData"], validate=True).startswith((b"#cloud-config\n", b"#!"))
    if call.operation == "CreateLaunchConfiguration":
        assert (params["MetadataOptions.HttpTokens"], params["MetadataOptions.HttpPutResponseHopLimit"]) == ("required", "1")
        assert params["BlockDeviceMappings.member.1.Ebs.Encrypted"] == "true"
        assert base64.b64decode(params["UserData"], validate=True).startswith((b"#cloud-config\n", b"#!"))
    if call.operation in ("CreateOrUpdateTags", "DeleteTags"):
        assert 1 <= len({key.split(".")[2] for key in params if key.startswith("Tags.member.")}) <= 25
