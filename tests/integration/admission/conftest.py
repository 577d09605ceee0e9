# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kubernetes API server of the tests' own, for everything that it judges by itself. No node, no controller, no scheduler."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(ROOT / "collections"))
for path in (str(ROOT / "collections"), str(ROOT)):
    if path not in sys.path:
        sys.path.insert(0, path)

from lab.cloud.testing import cloud, cloud_process  # noqa: E402, F401
from tests.integration.admission.server import ApiServer, missing, serve  # noqa: E402


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One for all tests; what they make in it has names of its own."""
    if lacking := missing():
        pytest.skip(f"the lab has not built {', '.join(lacking)} yet: `make lab` does")
    with serve(tmp_path_factory.mktemp("api")) as server:
        yield server
