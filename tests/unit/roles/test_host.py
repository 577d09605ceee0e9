# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps the time of a host."""

from __future__ import annotations

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.unit.site import ROOT

VARIABLES = yaml.safe_load((ROOT / "roles" / "host" / "vars" / "main.yml").read_text())
TIMESYNCD = {"unit": "systemd-timesyncd.service", "active": True, "enabled": True, "ours": False, "configured": False}
CHRONY = {**TIMESYNCD, "unit": "chrony.service"}
STOPPED = {**TIMESYNCD, "active": False}
CONFIGURED = {**TIMESYNCD, "configured": True}


@pytest.mark.parametrize(
    ("service", "container", "servers"),
    [
        (STOPPED, None, "[Time]\nNTP=ntp.example.org\n"),
        (CONFIGURED, None, "[Time]\nNTP=ntp.example.org\n"),  # the second run: it runs now, and stays ours
        (TIMESYNCD, None, ""),  # somebody else's
        (CHRONY, None, ""),
        (STOPPED, "podman", ""),
        (None, None, ""),
    ],
)
def test_a_stopped_timesyncd_gets_our_servers_and_keeps_them(service, container, servers):
    names = ("__host_timesyncd", "__host_time_ours", "__host_chrony")
    follows = {name: trust_as_template(VARIABLES[name]) for name in names}
    told = next(file["content"] for file in VARIABLES["__host_time_files"] if "timesyncd" in file["path"])
    known = {"__host": {"time_service": service, "container": container}, "host_time_servers": ["ntp.example.org"], **follows}
    assert (Templar(loader=DataLoader(), variables=known).template(trust_as_template(told)) or "") == servers
