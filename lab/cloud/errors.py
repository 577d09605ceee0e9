"""AWS's refusals, in the shape that each protocol gives them.

Sources: botocore's parsers and retry handlers (what a client understands), the services' API references ("Common Errors").
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from xml.sax.saxutils import escape

from lab.cloud.request import Request

Response = tuple[int, list[tuple[str, str]], bytes]


@dataclass(frozen=True)
class Refusal:
    """An AWS error: its code, its sentence, its HTTP status."""

    code: str
    message: str
    status: int = 400


def render(refusal: Refusal, protocol: str) -> Response:
    """protocol: ec2, query or json. All have a request id, and the code where the protocol's clients look for it."""
    request_id = str(uuid.uuid4())
    if protocol == "json":
        body = json.dumps({"__type": refusal.code, "message": refusal.message, "Message": refusal.message})
        return refusal.status, [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-RequestId", request_id)], body.encode()
    error = f"<Error><Code>{escape(refusal.code)}</Code><Message>{escape(refusal.message)}</Message></Error>"
    if protocol == "ec2":
        body = f"<Response><Errors>{error}</Errors><RequestID>{request_id}</RequestID></Response>"
    else:
        kind = "Sender" if refusal.status < 500 else "Receiver"
        body = f"<ErrorResponse>{error.replace('<Error>', f'<Error><Type>{kind}</Type>')}<RequestId>{request_id}</RequestId></ErrorResponse>"
    document = '<?xml version="1.0" encoding="UTF-8"?>\n' + body
    return refusal.status, [("Content-Type", "text/xml;charset=UTF-8"), ("x-amzn-RequestId", request_id)], document.encode()


def throttled(request: Request) -> Refusal:
    if request.service == "ec2":
        return Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)
    if request.protocol == "json":
        code = {"tagging": "ThrottledException", "servicequotas": "TooManyRequestsException"}.get(request.service, "ThrottlingException")
        return Refusal(code, "Rate exceeded")
    return Refusal("Throttling", "Rate exceeded")


def denied(request: Request, who: str, action: str, resource: str, because: str) -> Refusal:
    """because: "no identity-based policy allows" or "with an explicit deny in", as AWS words it."""
    detail = f"{who} is not authorized to perform: {action} on resource: {resource} {because}"
    if request.service == "ec2":
        return Refusal("UnauthorizedOperation", f"You are not authorized to perform this operation. User: {detail}", 403)
    if request.service == "autoscaling" and action.startswith("ec2:"):  # the launch template is tried out on the caller's behalf
        prefix = "You must use a valid fully-formed launch template. You are not authorized to perform this operation."
        return Refusal("ValidationError", f"{prefix} User: {detail}")
    if request.protocol == "json":
        return Refusal("AccessDeniedException", f"User: {detail}")
    return Refusal("AccessDenied", f"User: {detail}", 403)


def unknown_key(request: Request) -> Refusal:
    if request.service == "ec2":
        return Refusal("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
    message = "The security token included in the request is invalid."
    return Refusal("UnrecognizedClientException", message) if request.protocol == "json" else Refusal("InvalidClientTokenId", message, 403)


def wrong_signature(request: Request) -> Refusal:
    message = (
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. "
        "Consult the service documentation for details."
    )
    if request.service == "ec2":
        return unknown_key(request)
    return Refusal("InvalidSignatureException", message) if request.protocol == "json" else Refusal("SignatureDoesNotMatch", message, 403)


def expired(request: Request) -> Refusal:
    message = "The security token included in the request is expired"
    if request.service == "ec2":
        return Refusal("RequestExpired", "Request has expired.", 400)
    return Refusal("ExpiredTokenException", message) if request.protocol == "json" else Refusal("ExpiredToken", message, 403)


def dry_run() -> Refusal:
    return Refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
