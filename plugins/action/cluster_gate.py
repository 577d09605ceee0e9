# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first task of every play: is the declaration sound, which cluster is it, is the lock still ours?"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as core_version

from ansible_collections.fpga.hybrid.plugins.module_utils._controller import this_run
from ansible_collections.fpga.hybrid.plugins.module_utils._core import core_problem
from ansible_collections.fpga.hybrid.plugins.module_utils._declaration import HOST_VARIABLES, VARIABLES, Host, validate
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem, listing

#: Computed from other variables, which are then what is wrong.
COMPUTED = ("cluster_vpn_server_address", "cluster_vpn_dial_port", "cluster_ssm_prefix")
#: Seconds that a host waits for what the play's first host was told, before it asks for itself.
PATIENCE = 60


@dataclass(frozen=True)
class Verdict:
    """What the gate told a play's first host, for the others: a file in the folder that all processes of one ansible-playbook share."""

    path: Path

    def write(self, **told: Any) -> None:
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        draft.write_text(json.dumps(told), encoding="utf-8")
        draft.replace(self.path)

    def wait(self, seconds: float) -> dict[str, Any] | None:
        end = time.monotonic() + seconds
        while not self.path.exists():
            if time.monotonic() >= end:
                return None
            time.sleep(0.02)
        told: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return told


def names(value: str | list[str]) -> list[str]:
    """A list of names, which on a command line is written with commas."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


def left_over(control_plane: str) -> str:
    """What is said of a cluster that has no node pools any more."""
    out = " && ".join(f"ansible control_plane -m include_role -a 'name=fpga.hybrid.{role} tasks_from=reset'" for role in ("autoscaler", "keeper"))
    return (
        f"cluster_node_pools is empty, but the Cluster Autoscaler and keeper of former pools still run on {control_plane}. They are left there, because they "
        "end and clear away what runs in AWS. When none of that is left (kubectl get nodes -l fpga.hybrid/pool; playbook pools ends groups), take them "
        f"out: {out}"
    )


class ActionModule(ActionBase):
    """Works once a play, on its first living host; the others do as that one is told. So a refusal stops all of them.
    So does an earlier play's failure on a host that all others build on.

    That choice, unlike run_once and any_errors_fatal, holds under every strategy. What it reads from the control plane becomes a fact of that
    host (delegate_facts), so that every host of the run finds it there, also where --limit leaves the control plane out.
    """

    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        if problem := core_problem(core_version):
            return {"changed": False, "failed": True, "msg": problem}
        variables = task_vars or {}
        here = variables["inventory_hostname"]
        if lost := self._lost(variables):
            msg = f"Stopped, because {' and '.join(lost)} failed earlier in this run or could not be reached: see what it was told, mend that and start again."
            return {"changed": False, "failed": True, "msg": msg}
        first = next(iter(variables.get("ansible_play_hosts") or []), here)
        verdict = Verdict(Path(constants.DEFAULT_LOCAL_TMP) / f"fpga-hybrid-gate-{self._task.play._uuid}")
        told = None if here == first else verdict.wait(PATIENCE)
        if told is not None:
            return {"changed": False, **told}
        stopped = {"msg": f"Stopped, because {here} was: see what it was told."}
        try:
            result = self._judge(variables)
        except AnsibleConnectionFailure:
            verdict.write(unreachable=True, **stopped)
            raise
        except BaseException:
            verdict.write(failed=True, **stopped)
            raise
        if result.get("failed") or result.get("unreachable"):
            verdict.write(**{kind: True for kind in ("failed", "unreachable") if result.get(kind)}, **stopped)
        else:
            verdict.write()
        return result

    def _lost(self, variables: dict[str, Any]) -> list[str]:
        """The control plane and the VPN server, if this run had them and lost them: everybody else would be told something wrong without them.

        A play that has no host left is no reason for Ansible to stop before the next one, whose ansible_play_hosts_all may never have had
        them. Of all plays only its own list of removed hosts, which Ansible begins with everybody who was lost before, knows of them.
        """
        groups, removed = variables.get("groups") or {}, self._task.play._removed_hosts
        return [name for name in dict.fromkeys([*groups.get("control_plane", []), *groups.get("vpn_server", [])]) if name in removed]

    def _judge(self, variables: dict[str, Any]) -> dict[str, Any]:
        declaration, problems = self._declaration(variables)
        hosts, host_problems = self._hosts(variables)
        problems += host_problems
        failing = {problem.variable for problem in problems}
        problems += [problem for problem in validate(declaration, hosts) if problem.variable not in failing]
        if problems:
            return self._refuse(problems)
        groups = variables.get("groups") or {}
        if not groups.get("control_plane") or variables["inventory_hostname"] not in groups.get("on_prem", []):
            return {"changed": False}  # an image is being built, or the play is the controller's own
        return self._meet_cluster(declaration, hosts, variables)

    def _meet_cluster(self, declaration: dict[str, Any], hosts: list[Host], variables: dict[str, Any]) -> dict[str, Any]:
        me = asdict(this_run())
        arguments = {"folder": self._task.args["folder"], "renew_lock_of": me}
        control_plane, gone = variables["groups"]["control_plane"][0], self._task.args.get("gone")
        if control_plane in names(gone or []):
            return {"changed": False, "ansible_facts": {"fpga_hybrid": {"record": {}, "held_by": None}}}
        try:
            found: dict[str, Any] = self._execute_module("fpga.hybrid.cluster_state", module_args=arguments, task_vars=variables)
        except AnsibleConnectionFailure as error:
            if gone is None:
                raise
            remedy = f"If that host is gone for good, go on without it: --limit '!{control_plane}' -e reset_gone={control_plane}"
            return {"failed": True, "msg": f"The control plane {control_plane} cannot be reached: {error.message}. {remedy}"}
        if found.get("failed") or found.get("unreachable"):
            return found
        before = variables["hostvars"][control_plane].get("ansible_facts", {}).get("fpga_hybrid", {})
        holder = found["lock_holder"]
        if before.get("held_by") == me and holder != me:
            now = f"{holder['user']}@{holder['controller']} has it" if holder else "nobody has it"
            return self._refuse(
                [Problem("", "break_lock", f"this run's lock was taken away, {now}", "the lock of this run", "Start again when the other run has ended.")]
            )
        recorded = found["record"]["versions"]
        problems = validate(declaration, hosts, recorded)
        if found["record"]["cluster_name"] not in (None, declaration["cluster_name"]):
            name = found["record"]["cluster_name"]
            remedy = "Mend the name in the inventory file, or take the host out of the other cluster with its reset.yml."
            problems.append(Problem("", "cluster_name", f"found a control plane of cluster {name}", declaration["cluster_name"], remedy))
        if problems:
            return self._refuse(problems)
        left = [left_over(control_plane)] if found["keeper"] and not declaration.get("cluster_node_pools") and gone is None else []
        return {"changed": False, "ansible_facts": {"fpga_hybrid": {"record": found["record"], "held_by": holder}}, **({"warnings": left} if left else {})}

    @staticmethod
    def _refuse(problems: list[Problem]) -> dict[str, Any]:
        return {
            "failed": True,
            "msg": f"The cluster's declaration can't be used:\n{listing(problems)}",
            "problems": [problem.as_dict() for problem in problems],
        }

    def _declaration(self, variables: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """The variables one by one, so that a template that fails is reported by the name of its variable, beside all others."""
        declaration: dict[str, Any] = {}
        problems = []
        for name in VARIABLES:
            try:
                declaration[name] = self._templar.template(variables.get(name))
            except AnsibleError as error:
                if name not in COMPUTED:
                    problems.append(Problem("", name, f"its template fails: {error.message}", "a value", "Mend the template, or what it looks up."))
        return declaration, problems

    @staticmethod
    def _hosts(variables: dict[str, Any]) -> tuple[list[Host], list[Problem]]:
        """The declared hosts, whether or not --limit lets them take part: an address is taken also by a host that is left out."""
        groups, hosts, problems = variables.get("groups") or {}, [], []
        for name in groups.get("on_prem", []):
            known = {}
            for variable in HOST_VARIABLES:
                try:
                    if (value := variables["hostvars"][name].get(variable)) is not None:
                        known[variable] = value
                except AnsibleError as error:
                    problems.append(Problem(name, variable, f"its template fails: {error.message}", "a value", "Mend the template in the inventory."))
            hosts.append(Host(name, name in groups.get("vpn_server", []), known, name in groups.get("workers", [])))
        return hosts, problems
