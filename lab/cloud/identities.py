"""Who signed a call: a user or an assumed role of moto's IAM, or the account's root user."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.iam.models import get_account_id_from, iam_backends
from moto.sts.models import sts_backends

from lab.cloud.policies import Document
from lab.cloud.request import Request

PARTITION = "aws"
#: moto's.
DEFAULT_ACCOUNT = "123456789012"


@dataclass(frozen=True)
class Identity:
    """policies is None for the root user, whom no policy restricts."""

    arn: str
    account: str
    policies: tuple[Document, ...] | None = None
    boundary: Document | None = None
    #: Condition keys that follow from who it is.
    context: Mapping[str, str] = field(default_factory=dict)
    secret_key: str = ""
    session_token: str = ""
    expires: datetime | None = None

    @property
    def is_root(self) -> bool:
        return self.policies is None

    def is_expired(self) -> bool:
        return self.expires is not None and self.expires.replace(tzinfo=timezone.utc) <= datetime.now(timezone.utc)


def identify(access_key: str) -> Identity | None:
    """None for a key that moto's IAM doesn't know."""
    account = get_account_id_from(access_key)
    backend = iam_backends[account][PARTITION]
    known = backend.access_keys.get(access_key)
    if known is None or known.status != "Active":
        return None
    if known.role_arn:
        session = next((role for role in sts_backends[account][PARTITION].assumed_roles if role.access_key_id == access_key), None)
        return None if session is None else _assumed(account, backend, session)
    user = backend.users.get(known.user_name or "")
    return None if user is None else _user(account, backend, user, known.secret_access_key)


def root(account: str = DEFAULT_ACCOUNT) -> Identity:
    return Identity(arn=f"arn:{PARTITION}:iam::{account}:root", account=account)


def by_arn(arn: str) -> Identity | None:
    """The user or role that an IAM ARN names, for SimulatePrincipalPolicy."""
    account, kind_and_name = arn.split(":")[4], arn.rpartition(":")[2]
    backend = iam_backends[account][PARTITION]
    name = kind_and_name.rpartition("/")[2]
    if kind_and_name.startswith("user/") and name in backend.users:
        return _user(account, backend, backend.users[name], "")
    role = next((role for role in backend.roles.values() if role.name == name), None)
    if kind_and_name.startswith("role/") and role is not None:
        policies = _documents(role)
        return Identity(arn=role.arn, account=account, policies=policies, boundary=_boundary(backend, role), context={"aws:PrincipalArn": role.arn})
    return None


def _user(account: str, backend: Any, user: Any, secret_key: str) -> Identity:
    groups = backend.get_groups_for_user(user.name)
    return Identity(
        arn=user.arn,
        account=account,
        policies=(*_documents(user), *(document for group in groups for document in _documents(group))),
        context={"aws:PrincipalArn": user.arn, "aws:username": user.name, "aws:userid": user.id, "aws:PrincipalAccount": account, **_tags(user.tags)},
        secret_key=secret_key,
    )


def _assumed(account: str, backend: Any, session: Any) -> Identity:
    """An instance's credentials are a session named after the instance: so EC2 does it, and so ec2:SourceInstanceARN is known."""
    name = session.role_arn.rpartition("/")[2]
    role = next((role for role in backend.roles.values() if role.name == name), None)
    context = {
        "aws:PrincipalArn": session.role_arn,
        "aws:userid": session.user_id,
        "aws:PrincipalAccount": account,
        **_tags(role.tags if role else None),
    }
    if session.session_name.startswith("i-"):
        context["ec2:SourceInstanceARN"] = f"arn:{PARTITION}:ec2:{session.region_name}:{account}:instance/{session.session_name}"
    return Identity(
        arn=session.arn,
        account=account,
        policies=_documents(role) if role else (),
        boundary=_boundary(backend, role) if role else None,
        context=context,
        secret_key=session.secret_access_key,
        session_token=session.session_token,
        expires=session.expiration,
    )


def _tags(tags: Any) -> dict[str, str]:
    pairs = tags.values() if isinstance(tags, dict) else tags or []
    return {f"aws:PrincipalTag/{tag['Key']}": tag["Value"] for tag in pairs}


def _documents(holder: Any) -> tuple[Document, ...]:
    """The inline policies of a user, group or role, and the managed ones that hang on it."""
    inline = [json.loads(text) for text in holder.policies.values()]
    return (*inline, *(_managed(policy) for policy in holder.managed_policies.values()))


def _managed(policy: Any) -> Document:
    document: Document = json.loads(next(version.document for version in policy.versions if version.is_default))
    return document


def _boundary(backend: Any, role: Any) -> Document | None:
    arn = role.permissions_boundary_arn
    if not arn:
        return None
    policy = backend.managed_policies.get(arn)
    # A boundary that isn't there allows nothing.
    return _managed(policy) if policy is not None else {"Version": "2012-10-17", "Statement": []}


def signature_matches(identity: Identity, request: Request, environ: Mapping[str, Any], body: bytes) -> bool:
    """Signature version 4, computed anew with the identity's own secret key."""
    authorization = str(environ.get("HTTP_AUTHORIZATION", ""))
    signed = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    given = authorization.partition("Signature=")[2].strip()
    names = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
    headers = {name: str(environ.get(names.get(name, "HTTP_" + name.upper().replace("-", "_")), "")) for name in signed}
    query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
    sent = AWSRequest(
        method=environ["REQUEST_METHOD"], url=f"http://{environ.get('HTTP_HOST', '')}{environ.get('PATH_INFO', '/')}{query}", data=body, headers=headers
    )
    sent.context["timestamp"] = headers.get("x-amz-date", "")
    if identity.session_token and environ.get("HTTP_X_AMZ_SECURITY_TOKEN") != identity.session_token:
        return False
    auth = SigV4Auth(Credentials(request.access_key, identity.secret_key, identity.session_token or None), request.service, request.region)
    text = auth.string_to_sign(sent, auth.canonical_request(sent))
    return hmac.compare_digest(auth.signature(text, sent), given)
