# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""Asks EC2 for instances, all regions at once.

botocore does everything that touches the network (credentials, endpoints, signatures, TLS, proxies, retries), as it does for
amazon.aws. Only the answers to DescribeInstances are read by our own parser, which is where its time went.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import ParseError

from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_failures import THROTTLED, Attempt, Failure, code_of, explain
from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_records import Record, RecordReader

BOTOCORE_MISSING: ImportError | None = None
try:
    import botocore.config
    import botocore.parsers
    import botocore.session
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
except ImportError as missing:
    BOTOCORE_MISSING = missing

#: The most that DescribeInstances gives at once, and what EC2 asks of us: calls without it are throttled sooner (EC2 guide, "Pagination").
PAGE = 1000
#: What may be worked on: aws_ec2's choice, less `pending`.
STATES = ("running", "stopping", "stopped")
WORKERS = 16
#: Attempts of botocore's for one call, where neither environment nor profile says otherwise: an AWS that is down must not hold up a run for minutes.
ATTEMPTS = 3
CONNECT_TIMEOUT = 5
#: Pauses after throttling, in seconds, each multiplied by a random number from 0 to 1; each follows on botocore's own attempts.
THROTTLE_PAUSES = (2, 4, 8, 16)


@dataclass(frozen=True)
class Access:
    """Which account, as whom, and where. Nothing given: botocore's usual chain, from AWS_PROFILE to the instance's role."""

    profile: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    assume_role_arn: str | None = None
    endpoint_url: str | None = None


class QueryError(Exception):
    """AWS could not be asked at all."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


@dataclass
class Answer:
    """attributes: all that can be said of an instance, whether or not it was asked for; empty where no region could be asked."""

    records: list[Record]
    failures: list[Failure]
    attributes: frozenset[str]


class _PageParser:
    """Leaves successful answers to DescribeInstances as they came. All others (STS's among them) and every error are read as botocore reads them."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser

    def parse(self, response: Mapping[str, Any], shape: Any) -> Any:
        if response["status_code"] >= 300 or getattr(shape, "name", "") != "DescribeInstancesResult":
            return self._parser.parse(response, shape)
        return {"Page": response["body"], "ResponseMetadata": {"HTTPStatusCode": response["status_code"], "HTTPHeaders": dict(response["headers"])}}


def _parser_factory() -> Any:
    class Factory(botocore.parsers.ResponseParserFactory):
        def create_parser(self, protocol_name: str) -> Any:
            return _PageParser(super().create_parser(protocol_name))

    return Factory()


class Cloud:
    """An account. Clients are made one after the other (botocore's sessions are not for threads), the calls run side by side."""

    def __init__(self, access: Access, sleep: Callable[[float], None] = time.sleep) -> None:
        self._access = access
        self._sleep = sleep
        # AWS_URL is amazon.aws's own; the variables and profile settings of botocore's need no help.
        self._endpoint_url = access.endpoint_url or os.environ.get("AWS_URL") or None
        self._clients: dict[str, Any] = {}
        self._origin = ""
        if BOTOCORE_MISSING:
            raise QueryError(self._failure("", BOTOCORE_MISSING))
        try:
            self._session = self._open()
        except (BotoCoreError, ClientError) as error:
            raise QueryError(self._failure("", error)) from error

    def regions(self) -> list[str]:
        """The regions that are enabled for the account."""
        home = self._session.get_config_variable("region") or "us-east-1"
        try:
            found = self._patiently(self._client(home).describe_regions)
        except (BotoCoreError, ClientError) as error:
            raise QueryError(self._failure(home, error, "ec2:DescribeRegions")) from error
        return sorted(region["RegionName"] for region in found["Regions"])

    def instances(self, regions: Sequence[str], filters: Mapping[str, Sequence[str]], wanted: Iterable[str] | None = None) -> Answer:
        """Instances of all regions, by id, each once. A region that fails is a failure of the answer; the others' are there."""
        readers: dict[str, RecordReader] = {}
        failures: dict[str, Failure] = {}
        for region in regions:
            try:
                readers[region] = self._reader(region, wanted)
            except BotoCoreError as error:
                failures[region] = self._failure(region, error)

        def ask(region: str) -> list[Record]:
            try:
                return self._pages(region, filters, readers[region])
            except (BotoCoreError, ClientError, ParseError) as error:
                failures[region] = self._failure(region, error)
                return []

        with ThreadPoolExecutor(min(len(readers), WORKERS) or 1) as threads:
            found = {record["instance_id"]: record for records in threads.map(ask, readers) for record in records}
        attributes = next((reader.attributes for reader in readers.values()), frozenset())
        return Answer([found[key] for key in sorted(found)], [failures[region] for region in regions if region in failures], attributes)

    def _open(self) -> Any:
        access = self._access
        session = botocore.session.Session(profile=access.profile)
        session.register_component("response_parser_factory", _parser_factory())
        session.user_agent_extra = "fpga.hybrid-inventory"
        if access.access_key:
            session.set_credentials(access.access_key, access.secret_key, access.session_token)
        credentials = session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        self._origin = f"{credentials.method}, key ...{(credentials.access_key or '')[-4:]}"
        if access.assume_role_arn:
            region = session.get_config_variable("region") or "us-east-1"
            sts = session.create_client("sts", region_name=region, endpoint_url=self._endpoint_url, config=self._config(session))
            role = sts.assume_role(RoleArn=access.assume_role_arn, RoleSessionName="fpga.hybrid-inventory")["Credentials"]
            session.set_credentials(role["AccessKeyId"], role["SecretAccessKey"], role["SessionToken"])
            self._origin = access.assume_role_arn
        return session

    @staticmethod
    def _config(session: Any) -> Any:
        configured = session.get_config_variable("retry_mode") or session.get_config_variable("max_attempts")
        retries = {} if configured else {"retries": {"mode": "standard", "total_max_attempts": ATTEMPTS}}
        return botocore.config.Config(connect_timeout=CONNECT_TIMEOUT, **retries)

    def _client(self, region: str) -> Any:
        if region not in self._clients:
            self._clients[region] = self._session.create_client("ec2", region_name=region, endpoint_url=self._endpoint_url, config=self._config(self._session))
        return self._clients[region]

    def _reader(self, region: str, wanted: Iterable[str] | None = None) -> RecordReader:
        return RecordReader(self._client(region).meta.service_model.operation_model("DescribeInstances").output_shape, wanted)

    def _pages(self, region: str, filters: Mapping[str, Sequence[str]], reader: RecordReader) -> list[Record]:
        wanted = {"instance-state-name": STATES, **filters}
        call: dict[str, Any] = {"MaxResults": PAGE, "Filters": [{"Name": name, "Values": list(values)} for name, values in wanted.items()]}
        records: list[Record] = []
        while True:
            page, token = reader.read(self._patiently(self._client(region).describe_instances, **call)["Page"], region)
            records += page
            if not token:
                return records
            call["NextToken"] = token

    def _patiently(self, function: Callable[..., Any], **arguments: Any) -> Any:
        for pause in THROTTLE_PAUSES:
            try:
                return function(**arguments)
            except ClientError as error:
                if code_of(error) not in THROTTLED:
                    raise
                self._sleep(pause * random.random())  # noqa: S311
        return function(**arguments)

    def _failure(self, region: str, error: Exception, action: str = "ec2:DescribeInstances") -> Failure:
        endpoint, known = self._endpoint_url or f"EC2's endpoint of {region}", {region}
        if not self._endpoint_url and region:
            known = {name for partition in self._session.get_available_partitions() for name in self._session.get_available_regions("ec2", partition)}
        return explain(error, Attempt(region, endpoint, self._origin, action, known))
