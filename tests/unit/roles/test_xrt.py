# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packages role xrt asks for, by where XRT comes from."""

from __future__ import annotations

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.fpga.hybrid.plugins.module_utils._apt import Package
from tests.unit.site import ROOT

ROLE = ROOT / "roles" / "xrt"
FILES = {"dkms": {"url": "dkms.deb", "sha256": "a" * 64}, "xrt": {"path": "/xrt.deb", "sha256": "b" * 64}}


def trusted(value):
    """As Ansible reads a role's file: every text in it is a template."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: trusted(one) for key, one in value.items()}
    return [trusted(one) for one in value] if isinstance(value, list) else value


def rendered(name, **declared):
    variables = {key: value for part in ("defaults", "vars") for key, value in yaml.safe_load((ROLE / part / "main.yml").read_text()).items()}
    variables |= {"cluster_mirrors": {}, "cluster_data_folder": "/var/lib/fpga-hybrid", "role_path": str(ROLE)}
    return Templar(loader=DataLoader(), variables={**trusted(variables), **declared}).template(trust_as_template(f"{{{{ {name} }}}}"))


def test_another_version_brings_its_file_and_a_file_of_another_version_is_refused():
    """Both by the version that is asked for, which dkms, a package of its own, does not have."""
    packages = {one["name"]: one for one in rendered("__xrt_packages", xrt_source="files", xrt_files=FILES, xrt_version="2.17.319")}
    assert packages["xrt"]["path"] == "/var/lib/fpga-hybrid/xrt/xrt.deb"
    assert packages["xrt"]["sha256"] == "b" * 64
    assert "version" not in packages["dkms"]
    asked = Package("xrt", packages["xrt"]["version"])
    assert [asked.accepts(version) for version in ("2.17.319", "2.17.319-1", "2.16.204")] == [True, True, False]


@pytest.mark.parametrize("source", ["amd", "files", "distro"])
def test_whatever_is_installed_is_held(source):
    packages = rendered("__xrt_packages", xrt_source=source, xrt_files=FILES)
    assert packages
    assert all(one["hold"] for one in packages)
