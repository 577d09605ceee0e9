# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for the collection as a whole, whatever its parts are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


def load(path: Path):
    return yaml.safe_load(path.read_text())


def test_awx_installs_the_ranges_that_galaxy_declares():
    """AWX reads collections/requirements.yml, everybody else galaxy.yml: they may not drift apart."""
    declared = load(ROOT / "galaxy.yml")["dependencies"]
    installed = {entry["name"]: entry["version"] for entry in load(ROOT / "collections" / "requirements.yml")["collections"]}
    assert installed == declared


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_agree_with_defaults(role):
    """Ansible does not apply the defaults of argument_specs: what they say must be what defaults/main.yml does."""
    specs = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    defaults_file = ROOT / "roles" / role / "defaults" / "main.yml"
    defaults = (load(defaults_file) or {}) if defaults_file.exists() else {}
    documented = {name: option for spec in specs.values() for name, option in (spec.get("options") or {}).items()}
    assert not set(defaults) - set(documented), "defaults without an argument spec"
    for name, option in documented.items():
        if name in defaults and isinstance(defaults[name], str) and "{{" in defaults[name]:
            assert "default" not in option, f"{name}: computed, so its spec describes the default in words"
        else:
            assert option.get("default") == defaults.get(name), name
        assert name not in defaults or not option.get("required"), f"{name} is required and has a default"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_stands_on_the_declaration(role):
    """Every default stands in one place only: the role `cluster`, which every other role names as its dependency."""
    dependencies = [entry["role"] for entry in load(ROOT / "roles" / role / "meta" / "main.yml").get("dependencies", [])]
    # site_repository makes the place where a declaration will be written
    assert dependencies == ([] if role in {"cluster", "site_repository"} else ["fpga.hybrid.cluster"])


def defaults_of(role: str) -> set[str]:
    path = ROOT / "roles" / role / "defaults" / "main.yml"
    return set(load(path) or {}) if path.exists() else set()


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"cluster"}))
def test_another_roles_variable_is_used_only_where_it_has_a_value(role):
    """A role's defaults hold for itself, and for another only after include_role with `public`; otherwise the user may have set the variable, or not.

    A name in quotes is a text: what an error calls the variable.
    """
    files = [path for folder in ("defaults", "vars", "tasks", "templates") for path in (ROOT / "roles" / role / folder).rglob("*") if path.is_file()]
    code = "\n".join(re.sub(r"(^|\s)#.*", "", line) for path in files for line in path.read_text().splitlines())
    included = set(re.findall(r"name: fpga\.hybrid\.(\w+)\n\s+public: true", code))
    foreign = {name for other in set(ROLES) - {role, "cluster"} - included for name in defaults_of(other)}
    unguarded = {name for name in foreign if re.search(rf"(?<![\w.']){name}\b(?!\s*:)(?!\s*\|\s*default)", code)}
    assert not unguarded


def test_ansible_builder_finds_what_an_execution_environment_needs(tmp_path):
    """As in an image's build: the collection stands below ansible_collections, and the builder asks it."""
    home = tmp_path / "ansible_collections" / "fpga"
    home.mkdir(parents=True)
    (home / "hybrid").symlink_to(ROOT)
    files = {"--write-pip": tmp_path / "requirements.txt", "--write-bindep": tmp_path / "bindep.txt"}
    command = [Path(sys.executable).parent / "ansible-builder", "introspect", *(word for pair in files.items() for word in pair), tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "netaddr" in files["--write-pip"].read_text()
    assert "openssh-client [platform:dpkg]" in files["--write-bindep"].read_text()


def test_the_modules_that_take_a_kubeconfig_are_an_action_group():
    takers = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if '"kubeconfig": {"type": "path"' in path.read_text())
    assert load(ROOT / "meta" / "runtime.yml")["action_groups"]["kubectl"] == takers
