# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""examples/jobs are manifests that a real API server takes, without a field that it does not know and without a word of warning."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.integration.admission.server import ApiServer

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "jobs"
JOBS = sorted(path for path in FOLDER.glob("*.yml") if path.stem != "cluster_accelerators")


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_an_example_is_taken_as_it_is_written(api: ApiServer, path: Path) -> None:
    made, warnings = api.create_with_warnings(yaml.safe_load(path.read_text()))
    assert made["metadata"]["name"] == path.stem
    assert warnings == []
