# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small AWS client: Signature Version 4, the query protocol (EC2, Auto Scaling, STS) and JSON 1.1 (SSM).

    aws = Aws("us-east-1", credentials.environment())
    aws.call("ssm", "GetParameter", {"Name": "/a/b", "WithDecryption": True})["Parameter"]["Value"]
    aws.call("ec2", "DescribeInstances", {"Filters": [{"Name": "tag:x", "Values": ["y"]}]})["reservationSet"]

Parameters are named as in AWS' own reference; answers are plain dictionaries, lists and texts, named as they come over the wire.
Every failure is an AwsError of a kind that a caller can decide by.
"""

from __future__ import annotations

import email.utils
import hashlib
import hmac
import http.client
import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from xml.etree import ElementTree

from fpga_hybrid.credentials import Credentials, NoCredentialsError

Answer = dict[str, Any]


class AwsError(Exception):
    """What AWS, or the way to it, said. code is AWS' own, or empty where no answer came."""

    def __init__(self, call: str, code: str, message: str) -> None:
        super().__init__(f"{call}: {code + ': ' if code else ''}{message}")
        self.call, self.code, self.message = call, code, message


class DeniedError(AwsError):
    """The credentials are good, their policies do not allow it. So does a condition on a tag of something that does not exist yet."""


class BadCredentialsError(AwsError):
    """AWS does not know the key, or it has expired."""


class ClockError(AwsError):
    """The signature's time is not AWS' time, also after it was corrected by AWS' own clock."""


class WrongRegionError(AwsError):
    """Signed for another region than that of the endpoint."""


class NotFoundError(AwsError):
    pass


class ThrottledError(AwsError):
    """Still too many calls after all attempts."""


class UnavailableError(AwsError):
    """AWS failed (5xx), also after all attempts."""


class UnreachableError(AwsError):
    """No answer came, also after all attempts."""


@dataclass(frozen=True)
class Service:
    """version: of the query protocol's API. target: the prefix of JSON's operation names. list_word: between a list's name and its numbers."""

    version: str = ""
    target: str = ""
    list_word: str = ""


#: Source: the service models of botocore (apiVersion, targetPrefix, protocol).
SERVICES = {
    "ec2": Service("2016-11-15"),
    "autoscaling": Service("2011-01-01", list_word="member"),
    "sts": Service("2011-06-15", list_word="member"),
    "ssm": Service(target="AmazonSSM"),
}
#: EC2's query names the items of a list by the singular, which is not always the parameter's name without its s.
EC2_SINGULAR = {
    "Filters": "Filter",
    "Values": "Value",
    "InstanceIds": "InstanceId",
    "ResourceIds": "ResourceId",
    "Resources": "ResourceId",
    "Tags": "Tag",
    "GroupIds": "GroupId",
    "ImageIds": "ImageId",
    "RegionNames": "RegionName",
    "InstanceTypes": "InstanceType",
}

# Source: botocore/data/_retry.json and the services' references, "Common Errors".
_THROTTLED = {
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TooManyUpdates",
    "TransactionInProgressException",
}
_UNAVAILABLE = {"InternalError", "InternalFailure", "InternalServerError", "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable", "Unavailable"}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess", "OptInRequired"}
_BAD_CREDENTIALS = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_CLOCK = {"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"}
_CLOCK_WORDS = ("Signature expired", "Signature not yet current")
_REGION_WORDS = ("scoped to a valid region", "scoped to correct region")

#: AWS refuses signatures that are more than five minutes off.
CLOCK_LIMIT = 240.0
ATTEMPTS = 5
LONGEST_PAUSE = 10.0
TIMESTAMP = "%Y%m%dT%H%M%SZ"


# --- Signature Version 4 ----------------------------------------------------------------------------------------------------------------


def sign(url: str, headers: Mapping[str, str], body: bytes, credentials: Credentials, region: str, service: str, now: datetime) -> dict[str, str]:
    """The headers of a POST with those that sign it.

    Source: IAM User Guide, "Create a signed AWS API request". Our URLs have no query. Tests compare with botocore's signer.
    """
    parts = urllib.parse.urlsplit(url)
    when = now.astimezone(timezone.utc).strftime(TIMESTAMP)
    signed = {**headers, "X-Amz-Date": when, **({"X-Amz-Security-Token": credentials.token} if credentials.token else {})}
    canonical = {name.lower(): " ".join(value.split()) for name, value in signed.items()}
    canonical["host"] = host_header(parts)
    names = ";".join(sorted(canonical))
    request = "\n".join(
        [
            "POST",
            urllib.parse.quote(parts.path or "/", safe="/~"),
            "",
            *(f"{name}:{canonical[name]}" for name in sorted(canonical)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    scope = f"{when[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", when, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    authorization = f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**signed, "Authorization": authorization}


def host_header(parts: urllib.parse.SplitResult) -> str:
    """As http.client sends it: the port only where it is not the scheme's own."""
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return host if parts.port in (None, usual) else f"{host}:{parts.port}"


# --- protocols --------------------------------------------------------------------------------------------------------------------------


def query_body(service: str, action: str, params: Mapping[str, Any]) -> str:
    fields = [("Action", action), ("Version", SERVICES[service].version)]
    for name, value in params.items():
        fields += _flat(service, name, value)
    return urllib.parse.urlencode(fields)


def _flat(service: str, name: str, value: Any) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield from _flat(service, f"{name}.{key}", member)
    elif isinstance(value, (list, tuple)):
        head, dot, last = name.rpartition(".")
        word = SERVICES[service].list_word
        stem = f"{name}.{word}" if word else f"{head}{dot}{EC2_SINGULAR.get(last, last)}"
        for number, item in enumerate(value, 1):
            yield from _flat(service, f"{stem}.{number}", item)
    elif isinstance(value, bool):
        yield name, "true" if value else "false"
    else:
        yield name, str(value)


def xml_answer(action: str, text: bytes) -> Answer:
    """An element whose children are all `item` or `member` is a list, an empty one is None: which it would be, the wire does not say."""
    root = _value(_parsed(text))
    answer = root if isinstance(root, dict) else {}
    result = answer.get(f"{action}Result", answer)
    return result if isinstance(result, dict) else {}


def _parsed(text: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314 - from AWS; expat itself bounds what entities may grow to


def _value(element: ElementTree.Element) -> Any:
    children = list(element)
    if not children:
        return element.text
    names = [child.tag.rpartition("}")[2] for child in children]
    if set(names) in ({"item"}, {"member"}):
        return [_value(child) for child in children]
    return dict(zip(names, map(_value, children)))


def error_of(call: str, status: int, headers: Mapping[str, str], body: bytes) -> AwsError:
    """What an answer that is no success means. Proxies and load balancers answer in HTML: then the status has to do."""
    code, message = _code_and_message(headers, body)
    message = message or f"HTTP status {status}"
    return _kind(status, code, message)(call, code, message)


def _code_and_message(headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    text = body.strip()
    if text.startswith(b"{"):
        try:
            document = json.loads(text)
        except ValueError:
            return "", ""
        code = str(document.get("__type") or headers.get("x-amzn-errortype") or "").partition(":")[0].rpartition("#")[2]
        return code, str(document.get("message") or document.get("Message") or "")
    try:
        found = {child.tag.rpartition("}")[2]: child.text or "" for error in _errors(text) for child in error}
    except ElementTree.ParseError:
        return "", ""
    return found.get("Code", ""), found.get("Message", "")


def _errors(text: bytes) -> list[ElementTree.Element]:
    """EC2 has Response/Errors/Error, the others ErrorResponse/Error."""
    return [element for element in _parsed(text).iter() if element.tag.rpartition("}")[2] == "Error"]


def _kind(status: int, code: str, message: str) -> type[AwsError]:
    if code in _CLOCK or any(words in message for words in _CLOCK_WORDS):
        return ClockError
    if any(words in message for words in _REGION_WORDS):
        return WrongRegionError
    for codes, kind in ((_THROTTLED, ThrottledError), (_DENIED, DeniedError), (_BAD_CREDENTIALS, BadCredentialsError), (_UNAVAILABLE, UnavailableError)):
        if code in codes:
            return kind
    if code.endswith(("NotFound", "NotFoundException")) or (code == "ValidationError" and "not found" in message):
        return NotFoundError
    if status == http.HTTPStatus.TOO_MANY_REQUESTS:
        return ThrottledError
    return UnavailableError if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR else AwsError


# --- the client -------------------------------------------------------------------------------------------------------------------------


class Aws:
    """Calls of one identity in one region.

    patience: seconds after which no further attempt begins. clock_offset: seconds that this host's clock is behind AWS', once AWS has answered.
    """

    def __init__(
        self,
        region: str,
        credentials: Callable[[], Credentials],
        endpoint_url: str | None = None,
        timeout: float = 10.0,
        patience: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.region = region
        self.endpoint_url = endpoint_url
        self.clock_offset: float | None = None
        self._credentials = credentials
        self._timeout = timeout
        self._patience = patience
        self._sleep = sleep
        self._correction = 0.0

    def url(self, service: str) -> str:
        if self.endpoint_url:
            return self.endpoint_url if urllib.parse.urlsplit(self.endpoint_url).path else f"{self.endpoint_url}/"
        domain = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return f"https://{service}.{self.region}.{domain}/"

    def call(self, service: str, action: str, params: Mapping[str, Any] | None = None, attempts: int = ATTEMPTS) -> Answer:
        """attempts: 1 for what must not be done twice when the first answer was lost."""
        end = time.monotonic() + self._patience
        attempt, corrected = 1, False
        while True:
            try:
                return self._once(service, action, params or {})
            except ClockError:
                if corrected or self.clock_offset is None:
                    raise
                corrected, self._correction = True, self.clock_offset
            except (ThrottledError, UnavailableError, UnreachableError):
                pause = random.uniform(0, min(LONGEST_PAUSE, 0.5 * 2**attempt))  # noqa: S311 - so that many hosts do not come back at once
                if attempt >= attempts or time.monotonic() + pause >= end:
                    raise
                self._sleep(pause)
                attempt += 1

    def pages(self, service: str, action: str, params: Mapping[str, Any] | None = None) -> Iterator[Answer]:
        """Each page of an answer that comes in several."""
        token: str | None = None
        while True:
            answer = self.call(service, action, {**(params or {}), **({"NextToken": token} if token else {})})
            yield answer
            token = answer.get("NextToken") or answer.get("nextToken")
            if not token:
                return

    def _once(self, service: str, action: str, params: Mapping[str, Any]) -> Answer:
        call = f"{service}:{action} in {self.region}"
        try:
            credentials = self._credentials()
        except NoCredentialsError as error:
            raise BadCredentialsError(call, "", str(error)) from error
        target = SERVICES[service].target
        if target:
            headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"{target}.{action}"}
            body = json.dumps({name: value for name, value in params.items() if value is not None}).encode()
        else:
            headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
            body = query_body(service, action, params).encode()
        url = self.url(service)
        now = datetime.fromtimestamp(time.time() + self._correction, timezone.utc)
        request = urllib.request.Request(url, body, sign(url, headers, body, credentials, self.region, service, now))  # noqa: S310 - the endpoint is ours
        status, answer_headers, text = self._send(call, request)
        if status != http.HTTPStatus.OK:
            raise self._blaming_the_clock(error_of(call, status, answer_headers, text))
        try:
            answer = json.loads(text or b"{}") if target else xml_answer(action, text)
        except (ValueError, ElementTree.ParseError) as error:
            raise UnavailableError(call, "", f"an answer that cannot be read ({error}): {text[:80]!r}") from error
        return answer if isinstance(answer, dict) else {}

    def _blaming_the_clock(self, error: AwsError) -> AwsError:
        """EC2 calls a signature of another time bad credentials."""
        wrong = abs((self.clock_offset or 0.0) - self._correction) > CLOCK_LIMIT
        return ClockError(error.call, error.code, error.message) if wrong and isinstance(error, BadCredentialsError) else error

    def _send(self, call: str, request: urllib.request.Request) -> tuple[int, Mapping[str, str], bytes]:
        try:
            try:
                with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310
                    status, headers, text = answer.status, answer.headers, answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    status, headers, text = error.code, error.headers, error.read()
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise UnreachableError(call, "", f"no answer from {request.host} ({reason or type(reason).__name__})") from error
        self._note_time(headers.get("Date"))
        return status, headers, text

    def _note_time(self, date: str | None) -> None:
        try:
            self.clock_offset = email.utils.parsedate_to_datetime(date or "").timestamp() - time.time()
        except (TypeError, ValueError):
            return
