# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AMD's device plugin against a real API server: server-side apply refuses a field that it does not know."""

from __future__ import annotations

from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import ServerSideApply
from tests.unit.roles.test_fpga_amd import DIGEST, rendered


def test_the_manifest_is_taken_and_a_second_run_changes_nothing(api):
    apply = ServerSideApply(api.kubectl())
    wanted = [rendered("{{ __fpga_amd_daemonset }}", fpga_amd_image=DIGEST, fpga_amd_environment={"U30AllocUnit": "Device"})]
    apply.apply(wanted, apply.plan(wanted))
    assert not apply.plan(wanted).changed
