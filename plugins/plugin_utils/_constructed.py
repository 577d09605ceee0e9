# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""What core's constructed features need to be fast: each expression compiled once, and nothing fetched that no expression names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleParserError
from jinja2 import Environment, TemplateError, nodes

from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem
from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_inventory import DECLARED_ONLY, Finished, declared_only

#: Through these an expression reaches variables that it doesn't name.
INDIRECT = {"lookup", "query", "q", "vars", "hostvars"}


def expressions_of(compose: Mapping[str, Any], groups: Mapping[str, Any], keyed_groups: Iterable[Any]) -> list[str]:
    texts = [*compose.values(), *groups.values()]
    for keyed in keyed_groups:
        if isinstance(keyed, Mapping):
            texts += [keyed.get("key"), keyed.get("parent_group")]
    return [text for text in texts if isinstance(text, str)]


def variables_of(expressions: Iterable[str]) -> frozenset[str] | None:
    """The variables that the expressions name, or None when they may use any."""
    names: set[str] = set()
    environment = Environment(autoescape=False)  # noqa: S701  # parses only, renders nothing
    for text in expressions:
        if any(sign in text for sign in ("{{", "{%")):
            return None
        try:
            names.update(node.name for node in environment.parse(f"{{{{ {text} }}}}").find_all(nodes.Name))
        except TemplateError:
            return None  # the evaluation says what is wrong with it
    return None if names & INDIRECT else frozenset(names)


def compile_once(templar: Any) -> None:
    """Lets this templar, and no other, keep what it compiled. Core compiles an expression anew at each evaluation.

    The method belongs to core's private part: where it is gone, everything works as before, only slower.
    """
    engine = getattr(templar, "_engine", None)
    compile_expression: Callable[..., Any] | None = getattr(engine, "_compile_expression", None)
    if engine is None or compile_expression is None:
        return
    compiled: dict[Any, Any] = {}

    def once(expression: str, options: Any) -> Any:
        key = (expression, options)
        if key not in compiled:
            compiled[key] = compile_expression(expression, options)
        return compiled[key]

    engine._compile_expression = once


class Recorder:
    """Stands where core's constructed features expect the inventory, and writes what they do into a Finished."""

    def __init__(self, finished: Finished) -> None:
        self._finished = finished
        #: What the expressions see of the present host.
        self.variables: dict[str, Any] = {}

    def add_group(self, group: str) -> str:
        if group in DECLARED_ONLY:
            raise AnsibleParserError(str(declared_only(group, "a constructed rule would fill it")))
        self._finished.groups.setdefault(group, {})
        return group

    def add_host(self, host: str, group: str) -> None:
        self._finished.groups[group][host] = None

    def add_child(self, group: str, child: str) -> None:
        if child not in self._finished.groups:
            self._finished.groups[group][child] = None
        elif child != group:
            self._finished.children.setdefault(group, {})[child] = None

    def set_variable(self, host: str, name: str, value: Any) -> None:
        if name == "tags":
            raise AnsibleParserError(str(Problem("", "compose", "Ansible uses the name tags itself", "another one", "Call it ec2_tags.")))
        if not name.isidentifier():
            raise AnsibleParserError(str(Problem("", "compose", f"{name} can't be a variable's name", "another one: letters, digits and _", "Mend it.")))
        self._finished.hosts[host][name] = value
        self.variables[name] = value
