# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets plain pytest import `ansible_collections.fpga.hybrid` and `lab` from the checkout, and resolve plugins by FQCN."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / "collections"
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(COLLECTIONS))
# Else each reset of moto's EC2, two a test, makes its 1300 images anew, of which no test wants any.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
for path in (str(COLLECTIONS), str(ROOT / "roles" / "bootstrap" / "files"), str(ROOT)):
    if path not in sys.path:
        sys.path.insert(0, path)

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from lab.cloud.testing import cloud, cloud_process  # noqa: E402, F401
from tests.unit.installed import Installed, install  # noqa: E402

try:
    from ansible.plugins.loader import init_plugin_loader
except ImportError:
    """ansible-test shows tests of modules and module_utils no other part of Ansible, and finds the collection itself."""
else:
    init_plugin_loader([str(COLLECTIONS)])


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(tmp_path_factory.mktemp("installed"))


#: Whose tests run what coverage does not count (its source is plugins/): the tracer would double their time, and be told nothing.
UNCOUNTED = tuple(
    f"{ROOT / 'tests' / 'unit' / part}/" for part in ("bench", "lab", "roles/bootstrap", "roles/fpga_device_plugin", "roles/keeper", "roles/openvpn_as")
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if str(item.path).startswith(UNCOUNTED):
            item.add_marker("no_cover")


# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("project", deadline=None)
settings.load_profile("project")
