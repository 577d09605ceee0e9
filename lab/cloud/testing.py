"""pytest fixtures: import them into a conftest.py.

from lab.cloud.testing import cloud, cloud_process  # noqa: F401
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab.cloud.server import Cloud


@pytest.fixture(scope="session")
def cloud_process() -> Iterator[Cloud]:
    """One a session (a worker of xdist is one): moto takes seconds to import."""
    from lab.cloud.server import Cloud

    with Cloud() as running:
        yield running


@pytest.fixture
def cloud(cloud_process: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """An empty AWS account; the environment of the test leads to it and nowhere else."""
    cloud_process.reset()
    for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in cloud_process.environment().items():
        monkeypatch.setenv(name, value)
    return cloud_process
