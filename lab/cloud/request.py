"""One AWS API call as it stands on the wire: which action of which service, signed by whom, with which parameters."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

#: Signing names whose IAM prefix is another one.
IAM_PREFIXES = {"tagging": "tag", "monitoring": "cloudwatch"}
#: What these end with is a secret, or may carry one; neither recorded nor shown.
SECRET_PARAMETERS = re.compile(r"(^|\.)(Value|UserData)$")
SECRET_ACTIONS = {("ssm", "PutParameter")}
READS = re.compile(r"(Describe|Get|List|Simulate|Lookup|Search|Head|BatchGet|AssumeRole)")
CREDENTIAL = re.compile(r"Credential=(?P<key>[^/,\s]+)/[0-9]*/(?P<region>[^/]*)/(?P<service>[^/]+)/aws4_request")

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """service is the signing name (ec2, autoscaling, ssm, iam, sts, servicequotas, tagging, ...).

    params of the query protocols are flat and textual ("Filter.1.Name"), those of the JSON protocols are the object that was sent.
    """

    service: str
    action: str
    region: str
    access_key: str
    protocol: str  # ec2 | query | json
    params: Params

    @property
    def iam_action(self) -> str:
        return f"{IAM_PREFIXES.get(self.service, self.service)}:{self.action}"

    @property
    def is_write(self) -> bool:
        return not READS.match(self.action) and not self.is_dry_run

    @property
    def is_dry_run(self) -> bool:
        return self.protocol == "ec2" and str(self.params.get("DryRun", "")).lower() == "true"

    @property
    def digest(self) -> str:
        """Equal parameters have equal digests, in whatever order they were sent."""
        return hashlib.sha256(json.dumps(self.params, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def shown_params(self) -> dict[str, Any]:
        """Parameters without what may be a secret: of that its digest."""
        hide = (self.service, self.action) in SECRET_ACTIONS
        return {key: _hidden(value) if hide and SECRET_PARAMETERS.search(key) else value for key, value in self.params.items()}

    def members(self, prefix: str) -> list[Any]:
        """A list, whichever protocol brought it: Prefix.1, Prefix.member.1 (each textual) or a JSON list."""
        direct = self.params.get(prefix)
        if isinstance(direct, list):
            return direct
        found: dict[int, Any] = {}
        pattern = re.compile(rf"{re.escape(prefix)}\.(?:member\.)?(\d+)$")
        for key, value in self.params.items():
            if match := pattern.match(key):
                found[int(match[1])] = value
        return [found[index] for index in sorted(found)]

    def structures(self, prefix: str) -> list[dict[str, Any]]:
        """A list of structures, flattened one level: Prefix.1.Key -> {"Key": ...}; deeper levels keep their dotted rest."""
        direct = self.params.get(prefix)
        if isinstance(direct, list):
            return [dict(entry) for entry in direct]
        found: dict[int, dict[str, Any]] = {}
        pattern = re.compile(rf"{re.escape(prefix)}\.(?:member\.)?(\d+)\.(.+)$")
        for key, value in self.params.items():
            if match := pattern.match(key):
                found.setdefault(int(match[1]), {})[match[2]] = value
        return [found[index] for index in sorted(found)]

    def tags(self, prefix: str) -> dict[str, str]:
        return {str(tag.get("Key")): str(tag.get("Value") or "") for tag in self.structures(prefix)}

    def specified_tags(self, resource_type: str, prefix: str = "TagSpecification") -> dict[str, str]:
        """EC2's tags on creation, for one type of resource."""
        for specification in self.structures(prefix):
            if specification.get("ResourceType") == resource_type:
                flat = Request(self.service, self.action, self.region, self.access_key, self.protocol, specification)
                return flat.tags("Tag") or flat.tags("Tags")
        return {}


def parse(environ: Mapping[str, Any], body: bytes) -> Request | None:
    """The call in a WSGI request; None if it is none that was signed with signature version 4, in the header."""
    match = CREDENTIAL.search(str(environ.get("HTTP_AUTHORIZATION", "")))
    if not match:
        return None
    service = match["service"]
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    if target:
        try:
            params = json.loads(body or b"{}")
        except ValueError:
            params = {}
        action, protocol = target.rpartition(".")[2], "json"
    else:
        text = body.decode("utf-8", "replace") if body else str(environ.get("QUERY_STRING", ""))
        params = dict(parse_qsl(text, keep_blank_values=True))
        action, protocol = str(params.pop("Action", "")), "ec2" if service == "ec2" else "query"
        params.pop("Version", None)
    if not action:
        return None
    return Request(service, action, match["region"], match["key"], protocol, params if isinstance(params, dict) else {})


def _hidden(value: Any) -> str:
    return "sha256:" + hashlib.sha256(str(value).encode()).hexdigest()[:16]
