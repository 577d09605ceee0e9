#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: kubeadm makes the token."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_token
short_description: One short-lived join token, and the hash of the CA to pin
version_added: 0.9.0
description:
  - Runs on a control plane. Gives out the token of ours that still lives long enough, or makes one.
    So all hosts of a play that join use one token, whatever the play's strategy, and a play in which nobody joins makes none.
  - Always run it with C(no_log), because the token is in its result.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  ttl:
    description: How long a new token lives, in minutes.
    type: int
    default: 20
  at_least:
    description: A token that has fewer minutes left is not given out again.
    type: int
    default: 10
attributes:
  check_mode:
    description: Makes no token; a made-up one is never returned.
    support: full
  diff_mode:
    description: A token is not shown.
    support: none
"""

EXAMPLES = r"""
- name: Get a join token
  fpga.hybrid.kubeadm_token:
  delegate_to: "{{ groups['control_plane'] | first }}"
  no_log: true
  register: __kubeadm_token
"""

RETURN = r"""
token:
  description: The token; null in check mode when none of ours lives.
  type: str
  returned: always
expires:
  description: When it ends.
  type: str
  returned: always
ca_cert_hashes:
  description: Hashes of the CA's public key, computed from its certificate.
  type: list
  elements: str
  returned: always
"""

import datetime
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import TOKEN_DESCRIPTION, KubeadmError
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import KubeError, decode, run


def usable(tokens: list[dict[str, t.Any]], now: datetime.datetime, minutes: int) -> dict[str, t.Any] | None:
    """The token of ours that lives longest, if that is long enough."""
    alive = [
        token
        for token in tokens
        if token.get("description") == TOKEN_DESCRIPTION
        and token.get("expires")
        and "authentication" in token.get("usages", [])
        and datetime.datetime.fromisoformat(token["expires"].replace("Z", "+00:00")) - now >= datetime.timedelta(minutes=minutes)
    ]
    return max(alive, key=lambda token: str(token["expires"])) if alive else None


def listed(host: Host) -> list[dict[str, t.Any]]:
    code, out, err = host.run(["kubeadm", "token", "list", "-o", "json", "--kubeconfig", host.paths.admin])
    if code != 0:
        raise KubeError(f"kubeadm token list: {err.strip()}")
    tokens: list[dict[str, t.Any]] = decode(out)
    return tokens


def main() -> None:
    module = AnsibleModule(
        argument_spec={"ttl": {"type": "int", "default": 20}, "at_least": {"type": "int", "default": 10}},
        supports_check_mode=True,
    )
    host = Host(run)
    try:
        hashes = host.ca_hashes()
        if not hashes:
            raise KubeadmError(f"There is no {host.paths.ca}: this host is no control plane. Run the init first (playbook site.yml without --limit).")
        changed = False
        with host.lock(timeout=120):
            now = datetime.datetime.now(tz=datetime.timezone.utc)
            token = usable(listed(host), now, module.params["at_least"])
            if token is None and not module.check_mode:
                changed = True
                argv = ["kubeadm", "token", "create", "--ttl", f"{module.params['ttl']}m", "--description", TOKEN_DESCRIPTION]
                code, out, err = host.run([*argv, "--kubeconfig", host.paths.admin])
                if code != 0:
                    raise KubeError(f"kubeadm token create: {err.strip()}")
                token = {"token": out.strip(), "expires": str(now + datetime.timedelta(minutes=module.params["ttl"]))}
    except (KubeadmError, KubeError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, token=(token or {}).get("token"), expires=(token or {}).get("expires"), ca_cert_hashes=hashes)


if __name__ == "__main__":
    main()
