# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kind of policies a cluster gets."""

from __future__ import annotations

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.unit.site import ROOT


@pytest.mark.parametrize(("minor", "kind"), [("1.35", "validating"), ("1.36", "mutating"), ("1.37", "mutating"), ("1.100", "mutating")])
def test_policies_that_change_pods_come_with_the_minor_that_serves_them(minor, kind):
    defaults = yaml.safe_load((ROOT / "roles" / "fpga_policy" / "defaults" / "main.yml").read_text())
    templar = Templar(loader=DataLoader(), variables={"cluster_minor": minor})
    assert templar.template(trust_as_template(defaults["fpga_policy_kind"])) == kind
