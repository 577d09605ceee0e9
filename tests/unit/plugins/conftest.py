# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No test meets the AWS account of whoever runs it."""

from __future__ import annotations

import os

import botocore.loaders
import pytest

from tests.unit.plugins.ec2_answers import serving

#: Reading EC2's model again in each test would be most of their time.
LOADER = botocore.loaders.create_loader()


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path_factory):
    """Neither variables nor files nor an instance's role: botocore finds nothing but what the test gives it, and tries everything once."""
    for name in os.environ:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path_factory.getbasetemp() / "no-such-file"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("botocore.session.create_loader", lambda _path: LOADER)


@pytest.fixture
def ec2_double():
    with serving() as double:
        yield double
