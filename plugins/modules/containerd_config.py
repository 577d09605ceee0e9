#!/usr/bin/python

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_config
short_description: Configure containerd for the kubelet, beside whoever uses it already
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Sets what Kubernetes needs in C(/etc/containerd/config.toml), in the schema of the installed containerd, and keeps all other keys of the file.
  - Writes C(hosts.toml) files for registries, and a drop-in for the service.
  - Looks first and writes last. The result in check mode is the one of a real run.
  - A file in an older schema is migrated by containerd itself. The result is read back through containerd, with its imports, before it is written.
  - Restarts nothing; RV(restart_needed) says whether the running service must be restarted.
extends_documentation_fragment:
  - fpga.hybrid.service_config
options:
  version:
    description: Range of the version that is going to be installed, for the choice of the schema in check mode on a host without containerd.
    type: str
    default: "2.*"
  sandbox_image:
    description: The image of the container that holds a pod's namespaces. Unset leaves containerd's own.
    type: str
  default_runtime_name:
    description: The runtime of pods that name no runtime class.
    type: str
    default: runc
  extra_config:
    description: A tree in the words of C(config.toml), laid over everything else.
    type: dict
    default: {}
  mirror:
    description: A registry that serves the images of several registries, each below a folder of its name.
    type: dict
    suboptions:
      url:
        description: Address of the registry, V(https://host[:port][/path]).
        type: str
        required: true
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
        description: Not used for registries; accepted because all entries of C(cluster_mirrors) have the same form.
        type: str
  mirrored:
    description: The registries that O(mirror) serves, for example V(registry.k8s.io).
    type: list
    elements: str
    default: []
  registries:
    description: Registries of the site's own.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The registry as it stands in front of an image, V(host[:port]).
        type: str
        required: true
      url:
        description: Where it is, V(https://host[:port][/path]). Unset means V(https://) and its name.
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
"""

EXAMPLES = r"""
- name: Configure containerd
  fpga.hybrid.containerd_config:
    sandbox_image: registry.k8s.io/pause:3.10.2
    mirror:
      url: https://mirror.site.example:5000
    mirrored: [registry.k8s.io, docker.io]
    extra_config:
      plugins:
        io.containerd.cri.v1.runtime:
          max_container_log_line_size: 32768
  register: __containerd_config
"""

RETURN = r"""
version:
  description: The installed containerd's version, or null.
  returned: success
  type: str
  sample: 2.4.2
schema:
  description: The schema of the file.
  returned: success
  type: int
  sample: 4
files:
  description: The files that differ.
  returned: success
  type: list
  elements: str
restart_needed:
  description: The service runs and has not read its configuration.
  returned: success
  type: bool
unit_changed:
  description: systemd has to read the unit again.
  returned: success
  type: bool
start_needed:
  description: The service does not run, is not enabled, or has to be restarted or read again by systemd.
  returned: success
  type: bool
containers:
  description: Containers that run and are not the cluster's, by containerd's namespace.
  returned: success
  type: dict
"""

import os
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _containerd, _files, _toml
from ansible_collections.fpga.hybrid.plugins.module_utils._files import File
from ansible_collections.fpga.hybrid.plugins.module_utils._merged_file import Tree
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record, RecordError
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import EngineError, Program, Unit, find_program, foreign, refusal, run, running_containers
from ansible_collections.fpga.hybrid.plugins.module_utils._service_config import (
    Format,
    Merged,
    Plan,
    plan_given_back,
    plan_merged,
    read_tree,
    service_argument_spec,
)

OWNER = "containerd"
FORMAT = Format(parse=_toml.loads, render=_containerd.render)


def main() -> None:
    registry = {"ca": {"type": "str"}, "username": {"type": "str"}, "password": {"type": "str", "no_log": True}}
    named = {"name": {"type": "str", "required": True}, "url": {"type": "str"}, **registry}
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "default": "2.*"},
            "sandbox_image": {"type": "str"},
            "default_runtime_name": {"type": "str", "default": "runc"},
            "extra_config": {"type": "dict", "default": {}},
            "mirror": {"type": "dict", "options": {"url": {"type": "str", "required": True}, "key": {"type": "str", "no_log": False}, **registry}},
            "mirrored": {"type": "list", "elements": "str", "default": []},
            "registries": {"type": "list", "elements": "dict", "default": [], "options": named},
            **service_argument_spec(),
        },
        supports_check_mode=True,
    )
    try:
        record = Record.load()
        program = find_program("containerd")
        version = program.version if program else None
        schema = _containerd.schema_for(version or module.params["version"])
        if module.params["state"] == "present":
            plan = plan_present(module.params, schema, program, record)
        else:
            plan = plan_absent(record, remove_data=module.params["remove_data"] and (program is None or module.check_mode))
        containers = foreign(running_containers())
        if plan.restart_needed and containers and not module.params["allow_disruption"]:
            survive = "A restart leaves containers running; what breaks is open exec and attach sessions."
            raise EngineError(refusal("containerd", containers, plan.differences(), survive, look="ctr namespaces ls; ctr -n NAME tasks ls"))
        doomed, diff = plan.doomed(record), plan.diff(record)
        if not module.check_mode:
            plan.apply(record)
    except (EngineError, RecordError, _toml.TomlError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(plan.changes or doomed),
        diff=diff,
        version=version,
        schema=schema,
        files=[change.path for change in plan.changes] + doomed,
        restart_needed=plan.restart_needed,
        unit_changed=plan.unit_changed,
        start_needed=plan.start_needed,
        containers=containers,
    )


def plan_present(params: dict[str, t.Any], schema: int, program: Program | None, record: Record) -> Plan:
    options = _containerd.Options(params["sandbox_image"], params["default_runtime_name"], params["extra_config"])
    registries = [_containerd.Registry(name=name, folder=name, **_address(params["mirror"])) for name in params["mirrored"] if params["mirror"]]
    registries += [_containerd.Registry(name=entry["name"], **_address(entry)) for entry in params["registries"]]
    environment = _containerd.proxy_environment(params["proxy"].get("http"), params["proxy"].get("https"), ",".join(params["no_proxy"]))
    wanted = {**_containerd.registry_files(registries), **_containerd.unit_files(OWNER, params["service_overrides"], environment)}

    file, found = read_tree(_containerd.CONFIG, FORMAT)
    if _containerd.newer_schema(found, schema):
        raise EngineError(
            f"{_containerd.CONFIG} is in schema {found['version']}, the installed containerd reads up to {schema}. "
            "Mend the file, or upgrade containerd. Nothing was changed."
        )
    if program and _containerd.needs_migration(found, schema):
        found = migrated(program, found, schema)
    merged = plan_merged(_containerd.CONFIG, file, found, lambda tree: _containerd.wanted(schema, tree, options), form=FORMAT, record=record)
    if problems := _containerd.problems(schema, merged.tree):
        raise EngineError("\n".join([*problems, "Nothing was changed."]))
    if program and merged.change.changed:
        check_effective(program, merged)
    return _plan(merged, wanted, record)


def plan_absent(record: Record, *, remove_data: bool) -> Plan:
    return _plan(plan_given_back(_containerd.CONFIG, FORMAT, record, keep=("version",)), {}, record, remove_data=remove_data)


def _plan(merged: Merged | None, wanted: dict[str, File], record: Record, *, remove_data: bool = False) -> Plan:
    return Plan(
        unit=Unit.read("containerd.service"),
        merged=merged,
        files=tuple(_files.plan(OWNER, wanted, record)),
        wanted=wanted,
        owner=OWNER,
        form=FORMAT,
        data=(str(merged.tree.get("root", "/var/lib/containerd")),) if merged else (),
        remove_data=remove_data,
        read_live=lambda path: path.startswith(_containerd.CERTS + "/"),  # containerd, docs/hosts.md: read at each pull
    )


def _address(entry: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"url": entry.get("url") or f"https://{entry['name']}", "ca": entry["ca"], "username": entry["username"], "password": entry["password"]}


def migrated(program: Program, found: Tree, schema: int) -> Tree:
    """The user's own settings in the installed containerd's schema, by containerd's own migration."""
    if schema == 2:
        raise EngineError(
            f"{_containerd.CONFIG} is in schema 1, containerd {program.version} wants 2. "
            "Migrate it with `containerd config migrate`, then run again. Nothing was changed."
        )
    # The bare name "cri" is an error since schema 2, and the kubelet's interface gets switched on anyway.
    enabled = {**found, "disabled_plugins": [name for name in found.get("disabled_plugins", []) if name not in _containerd.CRI_PLUGINS]}
    return _containerd.without_defaults(understood(program, enabled), understood(program, {}))


def check_effective(program: Program, merged: Merged) -> None:
    """Let containerd itself read the new file, before it is put in place."""
    memory, effective = merged.memory, understood(program, merged.tree)
    if memory and (lost := _containerd.not_effective({key: value for key, value in memory.ours.items() if key != "imports"}, effective)):
        keys = ", ".join(".".join(path) for path in lost)
        raise EngineError(
            f"containerd {program.version} would not take these keys as they are set: {keys}. Either it doesn't know them (look at containerd_extra_config), "
            f"or a file that {merged.path} imports ({', '.join(merged.tree.get('imports', [])) or 'none'}) sets them otherwise. Nothing was changed."
        )


def understood(program: Program, tree: Tree) -> Tree:
    """What containerd makes of a configuration: with its imports and all defaults, in its newest schema."""
    if "imports" in tree:  # relative ones would be looked for beside the copy
        tree = {**tree, "imports": [os.path.join(os.path.dirname(_containerd.CONFIG), path) for path in tree["imports"]]}
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".toml") as copy:
        copy.write(FORMAT.render(tree))
        copy.flush()
        answer = run([program.path, "--config", copy.name, "config", "dump"])
    if answer.code:
        said = (answer.err or answer.out).strip()
        raise EngineError(f"containerd {program.version} refuses the configuration for {_containerd.CONFIG}: {said}. Nothing was changed.")
    return _toml.loads(answer.out)


if __name__ == "__main__":
    main()
