# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation shows is what a module takes: EXAMPLES and DOCUMENTATION of each, held against its own argument spec."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = "ansible_collections.fpga.hybrid.plugins.modules"
#: A module whose work an action plugin does has documentation and no code.
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if "def main(" in path.read_text())
DOCUMENTED_ONLY = sorted({path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")} - set(MODULES))
#: What stands for a template, which could be anything of the option's type.
SAMPLES = {"str": "x", "path": "/x", "int": 1, "float": 1.0, "bool": True, "list": [], "dict": {}, "raw": "x"}
#: What the action plugin of the same name puts in.
FROM_ACTION = {"run_lock": {"holder": {}}}
RULES = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")


class SpecError(Exception):
    """Raised where a module would go on to do its work; holds what it told AnsibleModule."""


def spec_of(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def stop(_self: AnsibleModule, argument_spec: dict[str, Any], **more: Any) -> None:
        raise SpecError({**more, "argument_spec": argument_spec})

    monkeypatch.setattr(AnsibleModule, "__init__", stop)
    with pytest.raises(SpecError) as told:
        import_module(f"{PACKAGE}.{name}").main()
    spec: dict[str, Any] = told.value.args[0]
    return spec


def without_templates(value: Any, option: dict[str, Any]) -> Any:
    if isinstance(value, str) and "{{" in value:
        return (option.get("choices") or [SAMPLES[option.get("type", "str")]])[0]
    inner = option.get("options")
    if isinstance(value, dict) and inner:
        return {key: without_templates(one, inner.get(key, {})) for key, one in value.items()}
    if isinstance(value, list):
        element = {"type": option.get("elements", "raw"), **({"options": inner} if inner else {})}
        return [without_templates(one, element) for one in value]
    return value


def tasks_of(name: str) -> list[dict[str, Any]]:
    """The options of each task of the module's examples that is for the module itself."""
    tasks = yaml.safe_load(import_module(f"{PACKAGE}.{name}").EXAMPLES)
    return [task[f"fpga.hybrid.{name}"] or {} for task in tasks if f"fpga.hybrid.{name}" in task]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_takes_what_its_examples_give_it(name, monkeypatch):
    spec = spec_of(name, monkeypatch)
    validator = ArgumentSpecValidator(spec["argument_spec"], **{rule: spec.get(rule) for rule in RULES})
    tasks = tasks_of(name)
    assert tasks
    for task in tasks:
        given = FROM_ACTION.get(name, {}) | {key: without_templates(value, spec["argument_spec"].get(key, {})) for key, value in task.items()}
        assert validator.validate(given).error_messages == []


def documented(name: str) -> dict[str, Any]:
    """Options of the module and of our own fragments; None for one whose fragments are another collection's."""
    documentation = yaml.safe_load(import_module(f"{PACKAGE}.{name}").DOCUMENTATION)
    options = dict(documentation.get("options") or {})
    fragments = documentation.get("extends_documentation_fragment") or []
    for fragment in [fragments] if isinstance(fragments, str) else fragments:
        if fragment.startswith("fpga.hybrid."):
            _namespace, _collection, file, *section = fragment.split(".")
            holder = import_module(f"ansible_collections.fpga.hybrid.plugins.doc_fragments.{file}").ModuleDocFragment
            options |= yaml.safe_load(getattr(holder, (section or ["DOCUMENTATION"])[0].upper())).get("options") or {}
    return options


@pytest.mark.parametrize("name", MODULES)
def test_a_module_takes_what_it_documents(name, monkeypatch):
    spec = spec_of(name, monkeypatch)["argument_spec"]
    options = documented(name)
    assert set(options) <= set(spec)
    for key, option in options.items():
        assert (option["type"], bool(option.get("required")), option.get("choices")) == (
            spec[key].get("type", "str"),
            bool(spec[key].get("required")),
            spec[key].get("choices") and list(spec[key]["choices"]),
        ), key


@pytest.mark.parametrize("name", DOCUMENTED_ONLY)
def test_an_action_s_examples_show_what_is_documented(name):
    options = documented(name)
    tasks = tasks_of(name)
    assert tasks
    for task in tasks:
        assert set(task) <= set(options)
        assert {key for key, option in options.items() if option.get("required")} <= set(task)
