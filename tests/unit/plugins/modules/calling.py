# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules called as Ansible calls them, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """call(module's name, check, options...) gives what the module answers."""

    def run(name: str, /, check: bool = False, **options: Any) -> dict[str, Any]:
        module = import_module(f"ansible_collections.fpga.hybrid.plugins.modules.{name}")
        with patch_module_args({**options, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        return dict(json.loads(capsys.readouterr().out))

    return run
