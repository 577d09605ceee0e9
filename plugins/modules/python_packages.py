#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: python_packages
short_description: Python packages with their hashes, in one virtual environment that several roles share
version_added: 0.9.0
description:
  - Makes the environment, installs what is missing, in another version or damaged, and removes what no role needs any more.
  - Installs wheels only, and only files with one of the given hashes.
  - What lies in the environment decides, compared with the list of files that each package came with; nothing is downloaded where nothing is to be done.
requirements:
  - On the host, the module venv of O(python) (Debian package python3-venv).
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
attributes:
  check_mode:
    support: full
    description: Predicts.
  diff_mode:
    support: full
    description: Shows each package.
options:
  owner:
    description: The role that needs the packages.
    type: str
    required: true
  state:
    description: V(absent) gives up what O(owner) needed. The environment goes with its last owner.
    type: str
    choices: [present, absent]
    default: present
  requirements:
    description: Text of a requirements file as C(pip-compile --generate-hashes) writes it. Needed unless O(state=absent).
    type: str
  venv:
    description: The environment.
    type: path
    default: /opt/fpga-hybrid/venv
  python:
    description: The interpreter that it is made for. One made by another minor version is made anew.
    type: path
    default: /usr/bin/python3
  index:
    description: Where the wheels are, instead of PyPI or what pip is told by the host's own configuration.
    type: dict
    default: {}
    suboptions:
      url:
        description: A PEP 503 index.
        type: str
      ca:
        description: PEM text of the certificate authority to trust for it.
        type: str
      username:
        description: For HTTP basic authentication.
        type: str
      password:
        description: For HTTP basic authentication.
        type: str
      key:
        description: Not used. It stands in every mirror's entry.
        type: str
  proxy:
    description: Proxies for HTTP and HTTPS, and what doesn't go through them.
    type: dict
    default: {}
    suboptions:
      http:
        description: For C(http://).
        type: str
      https:
        description: For C(https://).
        type: str
      no_proxy:
        description: Hosts and networks that are reached directly.
        type: list
        elements: str
        default: []
"""

EXAMPLES = r"""
- name: Bring what the device plugin imports
  fpga.hybrid.python_packages:
    owner: fpga_device_plugin
    requirements: "{{ lookup('ansible.builtin.file', 'requirements.txt') }}"
    index: "{{ cluster_mirrors.python | default({}) }}"
"""

RETURN = r"""
changes:
  description: What was, or would be, changed, one line each.
  returned: success
  type: list
  elements: str
"""

import os
import shutil
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _venv
from ansible_collections.fpga.hybrid.plugins.module_utils._fetch import PROXY
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record, RecordError

#: Of the record: owner -> what it needs, name -> version.
SECTION = "python"


class Environment:
    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._params = module.params
        self.path: str = module.params["venv"]

    def plan(self, wanted: dict[str, _venv.Requirement], kept: list[str]) -> _venv.Plan:
        broken = _venv.broken(self.path, self._params["python"], self._version()) if wanted else ""
        folder = "" if broken else _venv.site_packages(self.path)
        return _venv.plan(wanted, kept, _venv.installed(folder) if folder else [], broken)

    def apply(self, plan: _venv.Plan, wanted: dict[str, _venv.Requirement]) -> None:
        if plan.make:
            shutil.rmtree(self.path, ignore_errors=True)
            code, out, err = self._module.run_command([self._params["python"], "-m", "venv", self.path])
            if code:
                raise _venv.VenvError(f"{self._params['python']} makes no environment ({(out + err).strip()[-300:]}). Debian's package for it is python3-venv.")
        if plan.remove:
            code, output = self._pip("uninstall", "--yes", *plan.remove)
            if code:
                raise _venv.VenvError(f"pip could not remove {', '.join(plan.remove)}: {output.strip()[-300:]}")
        if plan.install:
            self._install([wanted[name] for name in plan.install])

    def _install(self, wanted: list[_venv.Requirement]) -> None:
        # Everything that is needed stands in the requirements; pip has nothing to resolve.
        options = ["--require-hashes", "--only-binary=:all:", "--no-deps", "--force-reinstall", "--no-compile", "--no-cache-dir"]
        index = self._params["index"]
        with tempfile.TemporaryDirectory() as folder:  # 0700

            def write(name: str, text: str) -> str:
                path = os.path.join(folder, name)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                return path

            ca = write("ca.pem", index["ca"]) if index.get("ca") else ""
            configuration = _venv.pip_configuration(index, ca)
            environment = {"PIP_CONFIG_FILE": write("pip.conf", configuration)} if configuration else {}
            code, output = self._pip("install", *options, "--requirement", write("requirements.txt", _venv.requirements_file(wanted)), environment=environment)
        if code:
            raise _venv.VenvError(_venv.complaint(output, index, wanted))

    def _pip(self, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
        proxy = self._params["proxy"]
        environment = {
            **{f"{scheme}_proxy": proxy[scheme] for scheme in ("http", "https") if proxy.get(scheme)},
            **({"no_proxy": ",".join(proxy["no_proxy"])} if proxy.get("no_proxy") else {}),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            **(environment or {}),
        }
        program = os.path.join(self.path, "bin", "pip")
        code, out, err = self._module.run_command([program, "--no-color", *arguments], environ_update=environment)
        return code, out + err

    def _version(self) -> str:
        code, out, err = self._module.run_command([self._params["python"], "-c", "import platform; print(platform.python_version())"])
        if code:
            raise _venv.VenvError(
                f"{self._params['python']} does not run ({(out + err).strip()[-300:]}), expected Python 3.10 or newer. Install Debian's python3."
            )
        return str(out).strip()


def main() -> None:
    mirror: dict[str, Any] = {**{name: {"type": "str"} for name in ("url", "ca", "username")}, "key": {"type": "str", "no_log": False}}
    module = AnsibleModule(
        argument_spec={
            "owner": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "requirements": {"type": "str"},
            "venv": {"type": "path", "default": "/opt/fpga-hybrid/venv"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "index": {"type": "dict", "default": {}, "options": {**mirror, "password": {"type": "str", "no_log": True}}},
            "proxy": {**PROXY, "default": {}},
        },
        required_if=[("state", "present", ["requirements"])],
        supports_check_mode=True,
    )
    environment = Environment(module)
    owner, present = module.params["owner"], module.params["state"] == "present"
    try:
        record = Record.load()
        others = {name: needed for name, needed in record.section(SECTION).items() if name != owner}
        wanted = _venv.parse(module.params["requirements"]) if present else {}
        _venv.check_others(owner, wanted, others)
        last = not present and not others
        known = present or record.get(SECTION, owner) is not None
        plan = environment.plan(wanted, [name for needed in others.values() for name in needed]) if known and not last else None
        lines = plan.lines if plan else ["environment: nobody needs it"] if last and known and os.path.exists(environment.path) else []
        if not module.check_mode:
            if present:
                record.put(SECTION, owner, {name: requirement.version for name, requirement in wanted.items()})
                record.save()
            if plan:
                environment.apply(plan, wanted)
            elif lines:
                shutil.rmtree(environment.path)
            if not present:
                record.forget(SECTION, owner)
                record.save()
    except (RecordError, _venv.VenvError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(lines), changes=lines, diff={"before": "", "after": "".join(f"{line}\n" for line in lines)})


if __name__ == "__main__":
    main()
