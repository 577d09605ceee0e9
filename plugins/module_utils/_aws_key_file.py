# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file with an AWS key as AWS' own programs have it. What is wrong with one is said without a word of what stands in it.

Hosts read it by roles/bootstrap/files/fpga_hybrid/credentials.py, which can import nothing of this collection; a test holds the two together.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import configparser

#: Key in the file -> environment variable of AWS' programs.
KEYS = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
TOKEN = "aws_session_token"  # noqa: S105  (its name)
EXPECTED = f"section [default] with {' and '.join(KEYS)}"


class KeyFileError(Exception):
    """The file is none, or lacks something. remedy: what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        self.remedy = remedy
        super().__init__(message)


def parse(text: str, *, lasting: bool = False) -> dict[str, str]:
    """Its default section, with both keys. lasting: for somebody who keeps what it says, so a key that ends by itself is refused. Raises KeyFileError."""
    # Values are taken as they are: a secret key may hold what other readers take for a reference.
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as error:
        # Not the parser's own words: they quote the line.
        without_section = isinstance(error, configparser.MissingSectionHeaderError)
        remedy = "Write [default] above the two lines." if without_section else "Write each key once, as name = value."
        raise KeyFileError(f"it is no credentials file ({type(error).__name__})", remedy) from None
    found = dict(parser["default"]) if parser.has_section("default") else {}
    if missing := [key for key in KEYS if not found.get(key)]:
        raise KeyFileError(f"section default has no {' and no '.join(missing)}", "Mend the file, or name another.")
    if lasting and found.get(TOKEN):
        raise KeyFileError(f"it has an {TOKEN}, so its key ends by itself", "Put the key of a user of its own there (playbook iam.yml).")
    return found
