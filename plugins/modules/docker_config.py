#!/usr/bin/python

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_config
short_description: Configure Docker's engine beside whoever uses it already
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Sets the systemd cgroup driver and C(live-restore) in C(/etc/docker/daemon.json), and keeps all other keys of the file.
  - Leaves C(live-restore) alone on a host that is part of a swarm, because Docker allows only one of them.
  - Looks first and writes last. The result in check mode is the one of a real run.
  - Restarts nothing; RV(restart_needed) says whether the running service must be restarted.
extends_documentation_fragment:
  - fpga.hybrid.service_config
options:
  default_runtime:
    description: The runtime of containers that name none. Unset leaves it as it is.
    type: str
  extra_config:
    description: A tree in the words of C(daemon.json), laid over everything else.
    type: dict
    default: {}
  registry_url:
    description: A registry whose certificate authority Docker is to trust.
    type: str
  registry_ca:
    description: PEM text of that authority.
    type: str
  cri_dockerd:
    description: Whether the kubelet is to reach Docker through cri-dockerd, whose unit then gets the arguments it needs.
    type: bool
    default: false
  sandbox_image:
    description: The image of the container that holds a pod's namespaces. Used only with O(cri_dockerd).
    type: str
"""

EXAMPLES = r"""
- name: Configure Docker
  fpga.hybrid.docker_config:
    extra_config:
      runtimes:
        inaccel: {path: inaccel-runc}
    default_runtime: inaccel
  register: __docker_config
"""

RETURN = r"""
version:
  description: The installed engine's version, or null.
  returned: success
  type: str
  sample: 26.1.5
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
  description: How many containers run that are not the cluster's.
  returned: success
  type: int
"""

import os
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _docker, _files
from ansible_collections.fpga.hybrid.plugins.module_utils._containerd import proxy_environment, unit_files
from ansible_collections.fpga.hybrid.plugins.module_utils._files import File
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record, RecordError
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import (
    EngineError,
    Program,
    Unit,
    as_numbers,
    find_program,
    refusal,
    run,
    running_containers,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._service_config import (
    Format,
    Merged,
    Plan,
    plan_given_back,
    plan_merged,
    read_tree,
    service_argument_spec,
)

OWNER = "docker"
FORMAT = Format(parse=_docker.parse, render=_docker.render)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "default_runtime": {"type": "str"},
            "extra_config": {"type": "dict", "default": {}},
            "registry_url": {"type": "str"},
            "registry_ca": {"type": "str"},
            "cri_dockerd": {"type": "bool", "default": False},
            "sandbox_image": {"type": "str"},
            **service_argument_spec(),
        },
        supports_check_mode=True,
    )
    try:
        record = Record.load()
        program = find_program("dockerd")
        unit = Unit.read("docker.service")
        if module.params["state"] == "present":
            plan = plan_present(module.params, program, unit, record)
        else:
            plan = plan_absent(unit, record, remove_data=module.params["remove_data"] and (program is None or module.check_mode))
        containers = others_containers()
        if plan.restart_needed and containers and not module.params["allow_disruption"]:
            survive = what_happens(reset=module.params["state"] == "absent")
            raise EngineError(refusal("Docker", {"docker": containers}, plan.differences(), survive, look="docker ps"))
        doomed, diff = plan.doomed(record), plan.diff(record)
        if not module.check_mode:
            plan.apply(record)
            if plan.restart_needed:
                Unit.forget_starts("docker.service")
    except (EngineError, RecordError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(plan.changes or doomed),
        diff=diff,
        version=program.version if program else None,
        files=[change.path for change in plan.changes] + doomed,
        restart_needed=plan.restart_needed,
        unit_changed=plan.unit_changed,
        start_needed=plan.start_needed,
        containers=containers,
    )


def what_happens(*, reset: bool) -> str:
    """What a restart that goes on nevertheless would mean for the containers."""
    if reset:
        return "Going on stops them, unless live-restore was set before us: its setting is given back before the restart."
    if in_swarm({}):
        return "This host is in a swarm, which excludes live-restore: a restart stops them."
    return "live-restore is switched on before the restart, so they keep running; what breaks is open exec and attach sessions."


def plan_present(params: dict[str, t.Any], program: Program | None, unit: Unit, record: Record) -> Plan:
    environment = proxy_environment(params["proxy"].get("http"), params["proxy"].get("https"), ",".join(params["no_proxy"]))
    wanted = {**_docker.registry_files(params["registry_url"], params["registry_ca"]), **unit_files(OWNER, params["service_overrides"], environment)}
    if params["cri_dockerd"]:
        cri = find_program("cri-dockerd")
        wanted.update(_docker.cri_dockerd_files(cri.path if cri else "/usr/bin/cri-dockerd", params["sandbox_image"]))

    file, found = read_tree(_docker.CONFIG, FORMAT)
    options = _docker.Options(params["default_runtime"], params["extra_config"], swarm=in_swarm(found))
    merged = plan_merged(_docker.CONFIG, file, found, lambda tree: _docker.wanted(tree, options), form=FORMAT, record=record)
    ours = merged.memory.ours if merged.memory else {}
    if problems := _docker.problems(merged.tree, ours, arguments_of(unit.main_pid)):
        raise EngineError("\n".join([*problems, "Nothing was changed."]))
    if program and merged.change.changed:
        validate(program, merged)
    return _plan(unit, merged, wanted, record)


def plan_absent(unit: Unit, record: Record, *, remove_data: bool) -> Plan:
    return _plan(unit, plan_given_back(_docker.CONFIG, FORMAT, record), {}, record, remove_data=remove_data)


def _plan(unit: Unit, merged: Merged | None, wanted: dict[str, File], record: Record, *, remove_data: bool = False) -> Plan:
    return Plan(
        unit=unit,
        merged=merged,
        files=tuple(_files.plan(OWNER, wanted, record)),
        wanted=wanted,
        owner=OWNER,
        form=FORMAT,
        data=(str(merged.tree.get("data-root", "/var/lib/docker")), "/etc/docker") if merged else (),
        remove_data=remove_data,
        # Docker reads authorities at each pull; cri-dockerd is a service of its own.
        read_live=lambda path: path.startswith((_docker.CERTS + "/", "/etc/systemd/system/cri-docker.service.d/")),
    )


def in_swarm(found: dict[str, t.Any]) -> bool:
    return os.path.exists(os.path.join(str(found.get("data-root", "/var/lib/docker")), "swarm", "docker-state.json"))


def arguments_of(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().split("\0") if pid else []
    except OSError:
        return []


def others_containers() -> int:
    """Docker's own list if it answers, else the shims that run in its namespace."""
    shims: int = running_containers()["moby"]
    if not shims:
        return 0
    listed = run(["docker", "ps", "--format", "{{.Names}}"], timeout=15)
    return _docker.foreign_containers(listed.out.splitlines()) if listed.code == 0 else shims


def validate(program: Program, merged: Merged) -> None:
    """Let dockerd itself read the new file, before it is put in place (it can since 23.0)."""
    if as_numbers(program.version or "0") < (23,):
        return
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as copy:
        copy.write(FORMAT.render(merged.tree))
        copy.flush()
        answer = run([program.path, "--validate", "--config-file", copy.name])
    if answer.code:
        said = (answer.err or answer.out).strip()
        raise EngineError(f"Docker {program.version} refuses what {merged.path} would be: {said}. Look at docker_extra_config. Nothing was changed.")


if __name__ == "__main__":
    main()
