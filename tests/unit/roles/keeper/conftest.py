# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from tests.unit.roles.keeper.site import ApiServer, Site
from tests.unit.roles.test_openvpn_authority import authority  # noqa: F401


@pytest.fixture
def site(cloud, tmp_path, authority, monkeypatch):  # noqa: F811
    """A control plane and an AWS account in which a pool's group stands, empty."""
    with ApiServer(tmp_path) as api:
        found = Site(cloud, tmp_path, api, authority)
        monkeypatch.setenv("PATH", found.environment()["PATH"])
        found.make_group()
        yield found
