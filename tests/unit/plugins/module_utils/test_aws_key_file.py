# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with an AWS key: the controller's side and the hosts' own reader, which cannot share their code, take and refuse the same ones."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils._aws_key_file import KEYS, TOKEN, KeyFileError, parse
from fpga_hybrid.credentials import Credentials, NoCredentialsError, shared_file

NAME = st.sampled_from([*KEYS, TOKEN, "AWS_ACCESS_KEY_ID", "region"])
VALUE = st.text("abC0+/%$={}# ;", max_size=8)
LINE = st.one_of(
    st.sampled_from(["[default]", "[other]", "[DEFAULT]", "", "# x", "words"]),
    st.builds("{}{}{}".format, NAME, st.sampled_from(["=", " = ", ":"]), VALUE),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.lists(LINE), st.lists(LINE).map(lambda more: ["[default]", "aws_access_key_id = A", "aws_secret_access_key = b%c=", *more])).map("\n".join))
def test_both_readers_take_the_same_files_and_the_same_keys(tmp_path, text):
    path = tmp_path / "key"
    path.write_text(text)
    ours: Credentials | None
    theirs: Credentials | None
    try:
        found = parse(text)
        ours = Credentials(*(found[key] for key in KEYS), found.get(TOKEN) or None)
    except KeyFileError:
        ours = None
    try:
        theirs = shared_file(str(path))()
    except NoCredentialsError:
        theirs = None
    assert ours == theirs


BOTH = "aws_access_key_id = A\naws_secret_access_key = b\n"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (BOTH, "Write [default] above the two lines."),
        (f"[default]\n{BOTH}aws_access_key_id = B\n", "Write each key once, as name = value."),
        (f"[default]\n{BOTH}words\n", "Write each key once, as name = value."),
    ],
)
def test_the_remedy_is_for_what_is_wrong(text, remedy):
    with pytest.raises(KeyFileError) as error:
        parse(text)
    assert error.value.remedy == remedy


def test_a_key_that_ends_by_itself_is_none_for_who_keeps_it():
    text = f"[default]\n{BOTH}aws_session_token = planted\n"
    assert parse(text)[TOKEN] == "planted"
    with pytest.raises(KeyFileError, match="it has an aws_session_token, so its key ends by itself"):
        parse(text, lasting=True)


@pytest.mark.parametrize("text", ["", "[default]\n", "[default]\naws_access_key_id = planted\n", "[default]\nplanted\n", "planted\n"])
def test_what_is_wrong_is_said_without_a_word_of_what_stands_in_it(text):
    with pytest.raises(KeyFileError) as error:
        parse(text)
    assert error.value.remedy
    assert "planted" not in str(error.value) + error.value.remedy
