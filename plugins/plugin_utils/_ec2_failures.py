# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""Why AWS gave no instances, each in a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

UNREACHABLE = "unreachable"  # no answer, or none that says anything: an outage
REFUSED = "refused"  # AWS, or botocore before it, says no
DENIED = "denied"  # the identity is right and may not


@dataclass(frozen=True)
class Failure:
    """Why one region, or AWS as a whole (region ""), gave no hosts."""

    region: str
    kind: str
    problem: Problem

    def __str__(self) -> str:
        return str(self.problem)


@dataclass(frozen=True)
class Attempt:
    """What was tried: where, as whom, for which action; the regions that this botocore knows."""

    region: str
    endpoint: str
    origin: str
    action: str
    known_regions: Collection[str] = ()


@dataclass(frozen=True)
class Explanation:
    """For one sort of error; the texts may name {said}, {origin}, {endpoint}, {action}, {status}, {region}."""

    kind: str
    found: str
    expected: str
    remedy: str


# Codes: EC2 API reference, "Error codes"; for throttling also botocore.retries.standard.
THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
WRONG_CREDENTIALS = {
    "AuthFailure",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
NOT_ALLOWED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
BAD_FILTER = {"FilterLimitExceeded", "InvalidParameter", "InvalidParameterValue", "MalformedQueryString"}

ANSWERS: tuple[tuple[Collection[str], Explanation], ...] = (
    (THROTTLED, Explanation(UNREACHABLE, "throttled, also when asked again ({said})", "an answer", "Try later, or ask less often: cache.")),
    (
        WRONG_CREDENTIALS,
        Explanation(
            REFUSED,
            "wrong credentials ({origin}): {said}",
            "credentials that AWS knows",
            "Mend them. The same is said where a region is not enabled for the account, and where this machine's clock is wrong.",
        ),
    ),
    (EXPIRED, Explanation(REFUSED, "expired credentials ({origin}): {said}", "valid ones", "Log in again; if they are fresh, set this machine's clock.")),
    (NOT_ALLOWED, Explanation(DENIED, "no permission ({origin}): {said}", "an identity that may {action}", "Add the action to its policy.")),
    ({"OptInRequired"}, Explanation(REFUSED, "{said}", "a region that is enabled for the account", "Enable it, or take it out of aws.regions.")),
    (BAD_FILTER, Explanation(REFUSED, "{said}", "filters of DescribeInstances", "Mend aws.filters.")),
)
TROUBLE = Explanation(UNREACHABLE, "{endpoint} is in trouble (HTTP {status}): {said}", "an answer", "Try later.")
OTHER_ANSWER = Explanation(REFUSED, "{said}", "instances", "Check that the identity ({origin}) belongs to the cluster's account.")

NO_ANSWER = Explanation(
    UNREACHABLE,
    "no answer ({said})",
    "one of {endpoint}",
    "Check the network, HTTPS_PROXY and NO_PROXY, and aws.endpoint_url if it is set.",
)
#: By the name of the exception's class or the nearest of its bases, botocore's unless said otherwise.
EXCEPTIONS = {
    # What the XML parser raises is one.
    "SyntaxError": Explanation(
        UNREACHABLE, "{endpoint} gave something that is no answer of EC2's ({said})", "XML", "Check aws.endpoint_url and the proxy on the way."
    ),
    "SSLError": Explanation(
        UNREACHABLE, "no trust in {endpoint} ({said})", "a certificate of a known authority", "Name the authority's file in AWS_CA_BUNDLE."
    ),
    "ConnectionError": NO_ANSWER,
    "HTTPClientError": NO_ANSWER,
    "IncompleteReadError": NO_ANSWER,
    "NoCredentialsError": Explanation(
        REFUSED,
        "no AWS credentials",
        "an identity that may {action}",
        "Set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or aws.profile in the inventory.",
    ),
    "InvalidRegionError": Explanation(REFUSED, "{region!r} is no name of a region", "a region such as us-east-1", "Mend aws.regions."),
    "ImportError": Explanation(
        REFUSED, "Ansible's Python lacks a package ({said})", "botocore, to ask AWS for instances", "Install boto3 into the environment of ansible-core."
    ),
    "Exception": Explanation(REFUSED, "botocore says: {said}", "credentials and settings that it can use", "Mend the profile or the environment."),
}
UNKNOWN_REGION = Explanation(REFUSED, "no region of this name is known, and {said}", "a region such as us-east-1", "Mend aws.regions.")


def code_of(error: Any) -> str:
    """Of an error that AWS itself has answered (botocore's ClientError)."""
    return str(error.response.get("Error", {}).get("Code", ""))


def explain(error: Any, attempt: Attempt) -> Failure:
    said, status = str(error).rstrip(". "), 0
    kinds = [kind.__name__ for kind in type(error).__mro__]
    if "ClientError" in kinds:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        said = f"AWS says {code_of(error)}: {error.response.get('Error', {}).get('Message', '')}".rstrip(". ")
        explanation = _of_answer(code_of(error), status)
    elif "EndpointConnectionError" in kinds and attempt.region and attempt.region not in attempt.known_regions:
        explanation = UNKNOWN_REGION
    else:
        explanation = next(EXCEPTIONS[kind] for kind in kinds if kind in EXCEPTIONS)
    action = "sts:AssumeRole" if getattr(error, "operation_name", "") == "AssumeRole" else attempt.action
    words: dict[str, Any] = {"said": said, "status": status, "action": action, "region": attempt.region, "endpoint": attempt.endpoint, "origin": attempt.origin}
    found, expected, remedy = (text.format(**words) for text in (explanation.found, explanation.expected, explanation.remedy))
    return Failure(attempt.region, explanation.kind, Problem("", f"aws, {attempt.region}" if attempt.region else "aws", found, expected, remedy))


def _of_answer(code: str, status: int) -> Explanation:
    if status == 429:
        code = "Throttling"
    known = next((explanation for codes, explanation in ANSWERS if code in codes), None)
    return known or (TROUBLE if status >= 500 else OTHER_ANSWER)
