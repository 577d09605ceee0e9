# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS credentials and where they come from. A source is a function without arguments, called before each request."""

from __future__ import annotations

import configparser
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Source = Callable[[], "Credentials"]

#: Temporary credentials are replaced this many seconds before they end; AWS gives new ones at least 5 minutes before.
RENEW_BEFORE = 240.0


class NoCredentialsError(Exception):
    """There are none; the message says where they were looked for."""


@dataclass(frozen=True)
class Credentials:
    """expires: Unix time, None where they do not."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: float | None = None


def environment(environ: Mapping[str, str] | None = None) -> Source:
    """environ: the process' own where it is not given."""

    def source() -> Credentials:
        variables = os.environ if environ is None else environ
        try:
            return Credentials(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"], variables.get("AWS_SESSION_TOKEN") or None)
        except KeyError as error:
            raise NoCredentialsError(f"the environment has no {error.args[0]}") from None

    return source


def shared_file(path: str, profile: str = "default") -> Source:
    """AWS' own credentials file. Read anew each time, so that replaced keys are taken without a restart."""

    def source() -> Credentials:
        # Values are taken as they are: a secret key may hold what other readers take for a reference.
        parser = configparser.RawConfigParser()
        try:
            with open(path, encoding="utf-8") as stream:
                parser.read_file(stream)
            section = parser[profile]
            return Credentials(section["aws_access_key_id"], section["aws_secret_access_key"], section.get("aws_session_token") or None)
        except OSError as error:
            raise NoCredentialsError(f"{path} cannot be read: {error.strerror}") from error
        except configparser.Error as error:
            # Not the parser's own words: they quote the line.
            raise NoCredentialsError(f"{path} is no credentials file ({type(error).__name__})") from None
        except KeyError as error:
            raise NoCredentialsError(f"{path} has no {error.args[0]} in profile {profile}") from None

    return source


def renewed(source: Source, now: Callable[[], float] = time.time) -> Source:
    """Keeps what a source gave until shortly before its end. A renewal that fails does no harm while the former ones are good."""
    kept: list[Credentials] = []

    def good(seconds: float) -> bool:
        return bool(kept) and (kept[0].expires is None or kept[0].expires - now() > seconds)

    def current() -> Credentials:
        if not good(RENEW_BEFORE):
            try:
                kept[:] = [source()]
            except NoCredentialsError:
                if not good(0):
                    raise
        return kept[0]

    return current
