# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an EC2 instance is told about itself by its metadata service: version 2 only, bounded in time.

Source: EC2 User Guide, "Use the Instance Metadata Service" and "Instance identity documents".
"""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.parse
from dataclasses import dataclass
from datetime import datetime

from fpga_hybrid.credentials import Credentials, NoCredentialsError

#: As AWS' own programs take another address.
ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
ENDPOINT = "http://169.254.169.254"
TOKEN_SECONDS = 21600
IDENTITY_DOCUMENT = "/latest/dynamic/instance-identity/document"
CREDENTIALS = "/latest/meta-data/iam/security-credentials/"
INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}", re.ASCII)
ZONE = re.compile(r"[a-z0-9-]+", re.ASCII)


class ImdsError(Exception):
    """The service cannot be used; the message says what was found."""


class AbsentError(ImdsError):
    """Nobody answers at the address: no cloud."""


class SlowError(ImdsError):
    """Somebody takes connections and does not answer in time."""


class VersionOneError(ImdsError):
    """An EC2 service, or one like it, that gives no tokens."""


class NotAwsError(ImdsError):
    """Another cloud's service at the same address, for example OpenStack's."""


class DisabledError(ImdsError):
    """EC2's, switched off for this instance (HttpEndpoint disabled)."""


class NoRoleError(NoCredentialsError):
    """The instance has no role."""


@dataclass(frozen=True)
class Instance:
    id: str
    type: str
    zone: str
    region: str
    account: str

    @property
    def provider_id(self) -> str:
        """As the autoscaler compares it, as a whole (cluster-autoscaler, cloudprovider/aws)."""
        return f"aws:///{self.zone}/{self.id}"


class Imds:
    """timeout: seconds for one connection and for one answer, each."""

    def __init__(self, endpoint: str | None = None, timeout: float = 1.5) -> None:
        self.endpoint = endpoint or os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT
        self._parts = urllib.parse.urlsplit(self.endpoint)
        self._timeout = timeout
        self._token: str | None = None

    def get(self, path: str) -> str | None:
        """The text at a path, None where there is none (a spot notice that has not come, say)."""
        for _attempt in range(2):
            status, text = self._request("GET", path, {"X-aws-ec2-metadata-token": self._token or self._new_token()})
            if status != http.HTTPStatus.UNAUTHORIZED:
                break
            self._token = None  # it has expired
        if status == http.HTTPStatus.NOT_FOUND:
            return None
        if status != http.HTTPStatus.OK:
            raise SlowError(f"{self.endpoint}{path} answered with HTTP status {status}")
        return text

    def instance(self) -> Instance:
        text = self.get(IDENTITY_DOCUMENT)
        found = identity(text or "")
        if found is None:
            raise NotAwsError(f"{self.endpoint} gives tokens but no EC2 identity document (found {(text or 'nothing')[:80]!r})")
        return found

    def credentials(self) -> Credentials:
        try:
            role = (self.get(CREDENTIALS) or "").strip().partition("\n")[0]
            answer = json.loads(self.get(f"{CREDENTIALS}{role}") or "{}") if role else None
        except (ImdsError, ValueError) as error:
            raise NoCredentialsError(f"the instance metadata service gave no credentials: {error}") from error
        if answer is None:
            raise NoRoleError("the instance has no role")
        try:
            expires = datetime.fromisoformat(answer["Expiration"].replace("Z", "+00:00")).timestamp()
            return Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"], expires)
        except (KeyError, ValueError) as error:
            code = answer.get("Code", "no code")
            raise NoCredentialsError(f"the instance metadata service gave no credentials for role {role} ({code}, {error!r})") from None

    def _new_token(self) -> str:
        status, text = self._request("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)})
        if status == http.HTTPStatus.OK and text.strip():
            self._token = text.strip()
            return self._token
        if status == http.HTTPStatus.FORBIDDEN:
            raise DisabledError(f"{self.endpoint} refuses to answer this instance (HTTP status {status})")
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or status == http.HTTPStatus.TOO_MANY_REQUESTS:
            raise SlowError(f"{self.endpoint} gave no token (HTTP status {status})")
        # Asked without a token only to tell the two apart in words. Nothing of it is used.
        _status, document = self._request("GET", IDENTITY_DOCUMENT, {})
        if identity(document):
            raise VersionOneError(f"{self.endpoint} answers without tokens, and gives none (HTTP status {status})")
        raise NotAwsError(f"{self.endpoint} is not EC2's: it gives neither tokens (HTTP status {status}) nor an identity document")

    def _request(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """Without a proxy, whatever the environment says."""
        connection = http.client.HTTPConnection(self._parts.hostname or "", self._parts.port, timeout=self._timeout)
        try:
            try:
                connection.connect()
            except OSError as error:
                raise AbsentError(f"nobody answers at {self.endpoint} ({error})") from error
            try:
                connection.request(method, path, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.read().decode("utf-8", "replace")
            except (OSError, http.client.HTTPException) as error:
                raise SlowError(f"{self.endpoint} takes connections, but gave no answer ({error or type(error).__name__})") from error
        finally:
            connection.close()


def identity(text: str) -> Instance | None:
    """From an identity document; None where the text is none."""
    try:
        document = json.loads(text)
        found = Instance(
            id=str(document["instanceId"]),
            type=str(document["instanceType"]),
            zone=str(document["availabilityZone"]),
            region=str(document["region"]),
            account=str(document.get("accountId") or ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if INSTANCE_ID.fullmatch(found.id) and ZONE.fullmatch(found.zone) and ZONE.fullmatch(found.region) else None
