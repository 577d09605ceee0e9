# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga-hybrid-watch: stays with an instance for as long as it runs. It clears it on a spot notice, and ends it when its cluster has been gone too long."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _command, _files
from ansible_collections.fpga.hybrid.plugins.module_utils._duration import duration
from ansible_collections.fpga.hybrid.plugins.module_utils._node import node_violations
from fpga_hybrid import evidence, failure, kube, orphan, pods, spot
from fpga_hybrid.aws import Aws, AwsError
from fpga_hybrid.credentials import renewed
from fpga_hybrid.imds import Imds, ImdsError, Instance
from fpga_hybrid.kube import Api, KubeError

Object = dict[str, Any]

PROGRAM = "fpga-hybrid-watch"
STATE = "var/lib/fpga-hybrid/watch/state.json"
#: What bootstrap leaves.
STATUS = "var/lib/fpga-hybrid/bootstrap.json"
KUBECONFIG, CA = "etc/kubernetes/kubelet.conf", "etc/kubernetes/pki/ca.crt"
SCHEMA = 1
#: Seconds between two looks for a notice (AWS recommends 5), and between two at the API server.
NOTICE_PAUSE, API_PAUSE = 5.0, 10.0
#: Seconds for one answer: whoever waits for one does not see a notice.
PATIENCE = 5.0
#: Seconds until a report that could not be written is tried again.
REPORT_PAUSE = 30.0
#: Characters of bootstrap's own sentence, and lines, that go into a report.
FAILURE_SENTENCE = 1000
KEPT = 20


@dataclass(frozen=True)
class Sight:
    """One look at the API server. pods: what it says of this host's own, None where it does not."""

    alive: bool
    why: str = ""
    pods: list[Object] | None = None


class Watch:
    """declared: node.json, None where it cannot be read; then AWS is asked in the instance's own region, and nothing is reported."""

    def __init__(
        self,
        root: str,
        declared: Mapping[str, Any] | None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        run: Callable[..., _command.Output] = _command.run,
    ) -> None:
        self._root, self._declared = root, declared
        self._monotonic, self._sleep, self._call = monotonic, sleep, run
        self._aws_section: Mapping[str, Any] | None = (declared or {}).get("aws")
        self._timeouts = orphan.Timeouts.of(self._aws_section)
        self._imds = Imds()
        self._credentials = renewed(self._imds.credentials)
        self._known: Instance | None = None
        self._saved = _read_json(self._path(STATE))
        self._timer = orphan.Timer(self._saved)
        #: Of the pods that are the host's own, as the API server last told.
        self._own = {uid for uid in self._saved.get("own") or [] if isinstance(uid, str)}
        self._interruption: spot.Interruption | None = None
        self._rebalance = ""
        self._api: tuple[object, Api] | None = None
        self._next_look = self._next_end = self._next_report = 0.0
        self._why = ""
        self._attempts = 0
        self._report: Object | None = None
        self._said: dict[str, str] = {}
        self._lines: list[str] = []

    def run(self) -> None:
        while True:
            self.look()
            self._sleep(NOTICE_PAUSE)

    def look(self) -> None:
        """One turn. Whatever is wrong with one part is no reason to leave the others."""
        self._look_for_notice()
        if self._monotonic() >= self._next_look:
            self._look_for_rebalance()
            self._look_at_the_api_server()
            # Not by the beat: instances that started together should not ask together.
            self._next_look = self._monotonic() + API_PAUSE * random.uniform(0.8, 1.0)  # noqa: S311
        if self._interruption and not self._interruption.is_done:
            self._clear()
        if self._timer.is_over(self._timeouts):
            self._end()
        elif self._attempts:
            self._stay()
        self._send()

    # --- spot -----------------------------------------------------------------------------------------------------------------------------

    def _look_for_notice(self) -> None:
        text = self._metadata(spot.ACTION)
        if text is None:
            return
        notice = spot.Notice.of(text)
        if self._interruption and self._interruption.notice == notice:
            return
        left = notice.seconds(datetime.now(timezone.utc))
        self._interruption = spot.Interruption(notice, self._node_name(), self._monotonic() + left, self._say)
        sentence = f"EC2 takes this spot instance back ({notice.action} at {notice.at or 'an unknown time'}): it cordons its Node and evicts its pods."
        self._tell("interrupted", sentence)

    def _look_for_rebalance(self) -> None:
        text = self._metadata(spot.REBALANCE) or ""
        if text != self._rebalance:
            self._rebalance = text
            if text:
                self._say(f"EC2 recommends to rebalance ({text.strip()}): a notice has become likelier. Nothing is done about it.")

    def _clear(self) -> None:
        api = self._own_api()
        if self._interruption and api and self._node_name():
            self._interruption.step(api, self._monotonic())
            if self._interruption.is_clear and self._interruption.notice.action == spot.TERMINATE:
                self._make_way()

    def _make_way(self) -> None:
        """Its group would replace what EC2 takes, beside the instance that the autoscaler starts for the evicted pods: so an empty one goes by itself."""
        now = self._monotonic()
        if now >= self._next_end:
            self._next_end = now + self._ask_for_the_end("interrupted", longest=orphan.FIRST_PAUSE)

    # --- the API server -------------------------------------------------------------------------------------------------------------------

    def _look_at_the_api_server(self) -> None:
        sight = self._see()
        # No clock is asked but the monotonic one.
        now = self._monotonic()
        if sight.alive:
            self._repeat("api", "the API server answers")
            if sight.pods is not None:
                self._own = pods.of_the_host(sight.pods)
            self._timer.look(now, alive=True, busy=False)
        else:
            jobs, self._why = self._jobs(), sight.why
            self._repeat("api", f"{sight.why}. {self._what_follows(bool(jobs))}")
            self._timer.look(now, alive=False, busy=bool(jobs))
        self._save()

    def _what_follows(self, busy: bool) -> str:
        idle, most = (duration(int(seconds)) for seconds in (self._timeouts.idle, self._timeouts.busy))
        return f"This instance ends itself when that stays so: {f'after {most}, or {idle} after its job has ended' if busy else f'after {idle}'}"

    def _see(self) -> Sight:
        """Whoever holds a certificate of the cluster's CA and answers is the API server, also where it does not know us. One that only fails is none."""
        api = self._own_api()
        if api is None:
            return Sight(False, self._why_not_joined())
        try:
            answer = api.answer(kube.PODS, **kube.of_node(self._node_name()))
        except KubeError as error:
            return Sight(False, f"the API server is gone: {error}")
        if answer.status >= 500:
            return Sight(False, f"the API server does nothing but fail: {api.server}: HTTP status {answer.status}")
        if answer.status != 200:
            return Sight(True)
        with suppress(ValueError, AttributeError):
            return Sight(True, pods=kube.items(json.loads(answer.text)))
        return Sight(True)

    def _own_api(self) -> Api | None:
        """By the kubelet's certificate; None of a host that has not joined. One that cannot be used proves nothing against the API server."""
        status = _read_json(self._path(STATUS))
        endpoint, ca = kube.endpoint_in(_read(self._path(KUBECONFIG)) or ""), _read(self._path(CA))
        # Another cluster's, on a copy of its node, answers for that one.
        if endpoint is None or ca is None or (status.get("failure") or {}).get("kind") == failure.FOREIGN.name:
            return None
        known, certificate = status.get("endpoint") or {}, self._path(kube.CLIENT_CERTIFICATE)
        server = kube.Server.of(endpoint, known.get("address") if known.get("name") == endpoint else None)
        state = (server, ca, _state_of(certificate))
        if self._api and self._api[0] == state:
            return self._api[1]
        try:
            try:
                api = Api(server, ca, certificate=certificate, timeout=PATIENCE)
            except kube.UnauthorizedError as error:
                self._repeat("certificate", str(error))
                api = Api(server, ca, timeout=PATIENCE)
        except KubeError as error:
            self._repeat("certificate", str(error))
            return None
        self._api = (state, api)
        return api

    def _why_not_joined(self) -> str:
        found = _read_json(self._path(STATUS)).get("failure") or {}
        return f"this instance did not join ({found.get('kind') or 'for a reason that is not known'})"

    def _jobs(self) -> set[str]:
        return pods.running(self._root) - self._own

    # --- the end --------------------------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Asks AWS to end this instance and to make its group smaller by it. Goes on asking: nothing else stops its cost."""
        now = self._monotonic()
        if now < self._next_end:
            return
        self._attempts += 1
        if self._attempts == 1:
            gone = duration(int(self._timer.gone))
            jobs = sorted(self._jobs())
            ended = f", with {len(jobs)} pods that nobody asks after ({', '.join(jobs[:5])})" if jobs else ""
            self._tell("orphaned", f"{self._why}, for {gone}. This instance ends itself{ended}.")
            self._send()
        self._next_end = now + self._ask_for_the_end("orphaned") * random.uniform(0.8, 1.2)  # noqa: S311 - a site that went dark has several instances
        self._save()

    def _ask_for_the_end(self, state: str, longest: float = orphan.RARE_PAUSE) -> float:
        """Seconds until it is worth asking again. state: of the report where AWS will not, after which it is asked again within the longest pause."""
        instance = self._instance()
        if instance is None:
            return orphan.FIRST_PAUSE
        try:
            # Once each time: a second one, of a first whose answer was lost, is for the next look.
            arguments = {"InstanceId": instance.id, "ShouldDecrementDesiredCapacity": True}
            answer = self._aws(instance).call("autoscaling", "TerminateInstanceInAutoScalingGroup", arguments, attempts=1)
        except AwsError as error:
            if orphan.may_have_no_group(error) and self._timer.is_over(self._timeouts.alone) and self._has_no_group(instance):
                return self._power_off()
            found = orphan.refusal(error, max(1, self._attempts))
            if state == "interrupted":
                found = orphan.Refusal(f"{error}. EC2 ends it all the same, and its group may start another in its place.", found.pause)
            self._tell_news("end", state, f"This instance could not end itself: {found.sentence}")
            return min(found.pause, longest)
        activity = answer.get("Activity")
        self._repeat("end", f"AWS ends this instance: {(activity.get('Description') if isinstance(activity, dict) else '') or 'no more was said'}")
        return orphan.RARE_PAUSE

    def _has_no_group(self, instance: Instance) -> bool:
        """By AWS' own word, of its own region: a group would put another in its place."""
        if self._region(instance) != instance.region:
            return False
        try:
            answer = self._aws(instance).call("autoscaling", "DescribeAutoScalingInstances", {"InstanceIds": [instance.id]}, attempts=1)
        except AwsError as error:
            self._repeat("group", f"whether a group has this instance cannot be asked: {error}")
            return False
        return "AutoScalingInstances" in answer and not answer["AutoScalingInstances"]

    def _power_off(self) -> float:
        """Of one that no group has: nothing takes its place, and nobody else is there to end it. Its launch template makes an end of it."""
        self._tell_news("power off", "orphaned", "No group has this instance, and its time for a look is over: it powers itself off.")
        self._send()
        self._save()
        done = self._call(["systemctl", "poweroff"], timeout=60)
        if done.code != 0:
            reason = done.err.strip() or f"exit code {done.code}"
            self._tell_news("end", "orphaned", f"This instance could not power itself off ({reason}). End it yourself (aws ec2 terminate-instances).")
        return orphan.LONGEST_PAUSE

    def _tell_news(self, about: str, state: str, sentence: str) -> None:
        if self._said.get(about) != sentence:
            self._said[about] = sentence
            self._tell(state, sentence)

    def _stay(self) -> None:
        self._tell("returned", "The API server is back: this instance does not end itself.")
        self._attempts, self._next_end = 0, 0.0
        for about in ("end", "power off"):
            self._said.pop(about, None)

    # --- what is told ---------------------------------------------------------------------------------------------------------------------

    def _tell(self, state: str, sentence: str) -> None:
        """On the console at once; the parameter when it can be written."""
        self._say(sentence)
        self._next_report = 0.0
        evidence.to_console(self._root, f"{PROGRAM}: {self._node_name()}: {sentence}")
        status, declared = _read_json(self._path(STATUS)), self._declared or {}
        self._report = {
            "schema": SCHEMA,
            "state": state,
            "node_name": self._node_name() or None,
            "provider_id": self._known.provider_id if self._known else status.get("provider_id"),
            **{key: declared.get(key) for key in ("cluster_name", "cluster_id", "pool")},
            "at": evidence.stamp(),
            "sentence": sentence,
            "failure": _shortened(status.get("failure")),
        }

    def _send(self) -> None:
        if self._report is None or not self._aws_section or self._monotonic() < self._next_report:
            return
        self._next_report = self._monotonic() + REPORT_PAUSE
        instance = self._instance()
        if instance is None:
            return
        name = evidence.parameter(self._aws_section["ssm_prefix"], instance.id)
        try:
            evidence.put(self._aws(instance), name, evidence.fitted(self._report, self._lines, ("sentence",)))
        except AwsError as error:
            self._repeat("report", f"could not write the report to parameter {name}: {error}")
            return
        self._said.pop("report", None)
        self._report = None

    def _say(self, text: str) -> None:
        self._lines = [*self._lines[-KEPT + 1 :], text]
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)

    def _repeat(self, about: str, text: str) -> bool:
        """Says it when it is news."""
        news = self._said.get(about) != text
        if news:
            self._said[about] = text
            self._say(text)
        return news

    # --- the host -------------------------------------------------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)

    def _metadata(self, path: str) -> str | None:
        try:
            text = self._imds.get(path)
        except ImdsError as error:
            self._repeat("metadata", f"{error}. While that is so, no spot notice is seen, and this instance has no credentials to end itself")
            return None
        if self._said.pop("metadata", None):
            self._say("the metadata service answers")
        return text

    def _instance(self) -> Instance | None:
        if self._known is None:
            try:
                self._known = self._imds.instance()
            except ImdsError as error:
                self._repeat("identity", str(error))
        return self._known

    def _node_name(self) -> str:
        """The instance's id; bootstrap has noted it, for when the metadata service is away."""
        known = _read_json(self._path(STATUS)).get("node_name")
        instance = None if known else self._instance()
        return str(known or (instance.id if instance else ""))

    def _aws(self, instance: Instance) -> Aws:
        endpoint_url = (self._aws_section or {}).get("endpoint_url")
        return Aws(self._region(instance), self._credentials, endpoint_url, timeout=PATIENCE, patience=PATIENCE, sleep=self._sleep)

    def _region(self, instance: Instance) -> str:
        """As declared, which is another than the instance's where its template is another region's."""
        return str((self._aws_section or {}).get("region") or instance.region)

    def _save(self) -> None:
        """Only what has changed; a disk that is full takes nothing from what is known until the next reboot."""
        document = {"schema": SCHEMA, **self._timer.document(), "own": sorted(self._own)}
        if document == self._saved:
            return
        try:
            _files.write(self._path(STATE), _files.File(json.dumps(document) + "\n", 0o644))
        except OSError as error:
            self._repeat("state", f"could not write /{STATE}: {error.strerror}. A reboot would begin the count anew")
            return
        self._said.pop("state", None)
        self._saved = document


def _shortened(failure: object) -> Object | None:
    """bootstrap's, whose sentence may be all that kubeadm said: the report's own must have its place."""
    return {**failure, "sentence": str(failure.get("sentence") or "")[:FAILURE_SENTENCE]} if isinstance(failure, dict) else None


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError):
        return None


def _read_json(path: str) -> Object:
    with suppress(ValueError):
        value = json.loads(_read(path) or "{}")
        return value if isinstance(value, dict) else {}
    return {}


def _state_of(path: str) -> tuple[int, int] | None:
    """By which a file that was replaced is known."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def read_declaration(path: str) -> tuple[Object | None, str]:
    """node.json, or why it cannot be used: an instance with a wrong one costs as much as any other."""
    text = _read(path)
    if text is None:
        return None, f"{path} cannot be read"
    try:
        document = json.loads(text)
    except ValueError as error:
        return None, f"{path} is no JSON ({error})"
    violations = node_violations(document)
    return (None, f"{path} is not as a node.json must be: {'; '.join(violations)}") if violations else (dict(document), "")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Stays with an instance of a node pool: cordons it and evicts its pods on a spot notice, and ends it, with a smaller group, when its "
        "API server has been gone for the cluster's cluster_orphan_timeout.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", default="/etc/fpga-hybrid/node.json", help="what this node is: node.json")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)  # a folder in front of all files, for tests
    options = parser.parse_args(argv)
    declared, trouble = read_declaration(os.path.join(options.root, options.config.lstrip("/")))
    if trouble:
        print(f"{trouble}: {PROGRAM} goes by what the instance itself knows, and by the default times", file=sys.stderr, flush=True)
    elif declared and not declared["pool"]:
        print("node.json names no pool: this is no instance that could be ended. Nothing to do.", file=sys.stderr, flush=True)
        return 0
    os.umask(0o022)
    Watch(options.root, declared).run()
    return 0
