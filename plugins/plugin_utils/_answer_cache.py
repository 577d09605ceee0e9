# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""Keeps finished hosts between runs, in whatever cache plugin the user has chosen."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.inventory import get_cache_plugin

from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_inventory import Finished

#: Of what is kept: another layout never meets an older one.
FORMAT = 1
#: What decides which account is asked, besides the inventory file.
ACCOUNT_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CONFIG_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_EC2",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_URL",
)


def settings_hash(*settings: object) -> str:
    """Of everything that finished hosts depend on, except what EC2 says: changed settings and other accounts never meet an old answer."""
    account = {name: os.environ.get(name) for name in ACCOUNT_VARIABLES}
    return hashlib.sha256(repr((FORMAT, account, settings)).encode()).hexdigest()[:16]


def open_cache(plugin: str, connection: str | None, prefix: str | None) -> Any:
    """Core's cache, but nothing expires in it: how old an answer may be is ours to say, because an outage allows for more."""
    options = {"_uri": connection, "_prefix": prefix, "_timeout": 0}
    return get_cache_plugin(plugin, **{name: value for name, value in options.items() if value is not None})


@dataclass(frozen=True)
class Stored:
    hosts: Finished
    age: float

    def __str__(self) -> str:
        asked = time.strftime("%Y-%m-%d %H:%M", time.gmtime(time.time() - self.age))
        return f"the answer of {asked} UTC, {self.age / 60:.0f} minutes old"


class AnswerCache:
    """One answer in a cache of core's. `warn` is told what can't be read or kept; neither ends a run."""

    def __init__(self, cache: MutableMapping[str, Any], key: str, warn: Callable[[str], None]) -> None:
        self._cache = cache
        self._key = key
        self._warn = warn

    def load(self) -> Stored | None:
        try:
            entry = self._cache[self._key]
            return Stored(Finished.from_json(entry["hosts"]), max(0.0, time.time() - entry["asked"]))
        except KeyError:
            return None
        except (AnsibleError, TypeError, ValueError) as error:
            self._warn(f"The cached answer of AWS can't be read ({error}). It is not used.")
            return None

    def store(self, finished: Finished) -> None:
        """As one text: core's cache compares and copies what it is given, object by object."""
        try:
            self._cache[self._key] = {"asked": time.time(), "hosts": finished.to_json()}
        except TypeError as error:
            self._warn(f"The answer of AWS is not cached: a composed variable is no JSON ({error}).")
