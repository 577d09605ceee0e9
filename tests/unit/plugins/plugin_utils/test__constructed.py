# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What core's constructed features are helped with."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.fpga.hybrid.plugins.plugin_utils._constructed import Recorder, compile_once, expressions_of, variables_of
from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_inventory import Finished


def test_expressions_stand_in_all_three_options():
    found = expressions_of({"a": "b", "c": 1}, {"g": "d == 1"}, [{"key": "e", "prefix": "x", "parent_group": "p"}, {"prefix": "no key"}, "nonsense"])
    assert found == ["b", "d == 1", "e", "p"]


@pytest.mark.parametrize(
    ("expressions", "names"),
    [
        ([], set()),
        (["instance_type.startswith('f1') or tags['a'] == zone"], {"instance_type", "tags", "zone"}),
        (["placement.availability_zone | default(omit) | no_such_filter"], {"placement", "omit"}),
        (["[item.x for item in y]"], None),
        (["a +"], None),
        (["'{{ a }}'"], None),
        (["lookup('vars', 'a')"], None),
        (["a", "hostvars['b'].c"], None),
    ],
)
def test_variables_that_are_named_are_found_and_else_any_may_be_used(expressions, names):
    assert variables_of(expressions) == (None if names is None else frozenset(names))


@pytest.fixture
def templar():
    return Templar(loader=DataLoader(), variables={"a": 1})


def count_compilations(templar):
    compiled = []
    original = templar._engine._compile_expression
    templar._engine._compile_expression = lambda expression, options: compiled.append(expression) or original(expression, options)
    return compiled


def test_an_expression_is_compiled_once_for_all_hosts(templar):
    compiled = count_compilations(templar)
    compile_once(templar)
    expression = trust_as_template("a + 1")
    results = []
    for value in range(3):
        templar.available_variables = {"a": value}
        results.append((templar.evaluate_expression(expression), templar.evaluate_conditional(trust_as_template("a == 1"))))
    assert results == [(1, False), (2, True), (3, False)]
    assert compiled == ["a + 1", "a == 1"]


def test_an_expression_that_can_not_be_compiled_fails_each_time_as_it_would_without_us(templar):
    compile_once(templar)
    for _host in range(2):
        with pytest.raises(AnsibleError, match="Syntax error in expression"):
            templar.evaluate_expression(trust_as_template("a +"))


def test_other_templars_are_left_alone(templar):
    other = Templar(loader=DataLoader(), variables={"a": 1})
    compiled = count_compilations(other)
    compile_once(templar)
    other.evaluate_expression(trust_as_template("a"))
    other.evaluate_expression(trust_as_template("a"))
    assert compiled == ["a", "a"]


@pytest.mark.parametrize("future", [object(), type("Templar", (), {"_engine": object()})()])
def test_a_core_without_that_private_method_is_only_slower(future):
    compile_once(future)


@pytest.fixture
def recorder():
    return Recorder(Finished({"h": {}}, {"aws": {"h": None}}))


def test_what_core_does_is_written_into_the_finished_hosts(recorder):
    assert recorder.add_group("web") == "web"
    recorder.add_child("web", "h")
    recorder.add_group("sites")
    recorder.add_child("sites", "web")
    recorder.add_child("sites", "sites")
    recorder.add_group("db")
    recorder.add_host("h", "db")
    recorder.set_variable("h", "x", 1)
    assert recorder._finished == Finished({"h": {"x": 1}}, {"aws": {"h": None}, "web": {"h": None}, "sites": {}, "db": {"h": None}}, {"sites": {"web": None}})
    assert recorder.variables == {"x": 1}


@pytest.mark.parametrize("group", ["on_prem", "control_plane", "vpn_server", "all"])
def test_no_rule_fills_a_group_of_declared_hosts(recorder, group):
    with pytest.raises(AnsibleError, match=f"group {group}: a constructed rule would fill it; expected declared hosts only"):
        recorder.add_group(group)


@pytest.mark.parametrize("name", ["tags", "a-b"])
def test_a_variable_that_ansible_can_not_have_is_refused(recorder, name):
    with pytest.raises(AnsibleError, match=f"compose: .*{name}.*; expected another"):
        recorder.set_variable("h", name, 1)
