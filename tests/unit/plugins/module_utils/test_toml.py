# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import builtins
import datetime
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _toml

SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.datetimes(timezones=st.none() | st.just(datetime.timezone.utc))
    | st.dates()
    | st.times()
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=12)
TREES = st.dictionaries(st.text(), VALUES, max_size=5)


@given(TREES)
def test_whatever_is_written_reads_back_the_same(tree):
    assert _toml.loads(_toml.dumps(tree)) == tree


@given(TREES)
def test_writing_what_was_read_gives_the_same_text(tree):
    text = _toml.dumps(tree)
    assert _toml.dumps(_toml.loads(text)) == text


def test_the_layout_is_containerds_own():
    tree = {"version": 4, "plugins": {"io.containerd.cri.v1.images": {"registry": {"config_path": "/certs"}, "max": 3}}}
    assert _toml.dumps(tree) == (
        'version = 4\n\n[plugins."io.containerd.cri.v1.images"]\nmax = 3\n\n[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = "/certs"\n'
    )


def test_an_empty_table_is_not_lost():
    assert _toml.loads(_toml.dumps({"plugins": {"x": {}}})) == {"plugins": {"x": {}}}


@pytest.mark.parametrize("tree", [{"a": None}, {"a": {"b": object()}}, {"a": [None]}, {1: "a"}])
def test_what_toml_cannot_say_is_refused_with_its_place(tree):
    with pytest.raises(_toml.TomlError, match=r"a|1"):
        _toml.dumps(tree)


def test_bad_text_is_refused_with_line_and_column():
    with pytest.raises(_toml.TomlError, match="line 2"):
        _toml.loads('version = 4\n[plugins."x\n')


def test_a_python_without_a_reader_says_which_package_brings_one(monkeypatch):
    """Ubuntu 22.04's Python 3.10."""
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name in ("tomllib", "tomli"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(_toml.TomlError, match="python3-tomli"):
        _toml.loads("")


def test_tomli_stands_in_for_tomllib(monkeypatch):
    import tomllib

    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", tomllib)
    assert _toml.loads("a = 1") == {"a": 1}
