# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replays DescribeInstances: what moto can't do in bearable time for thousands of instances.

Nothing is simulated. Every page is rendered before the server says "ready", so that a request costs the server almost no CPU and the
time measured is the client's. One instance is one reservation and about 3.6 KB of XML: 7 tags, an interface, a volume, three times.
The same index always gives the same instance, so that two clients can be compared host by host.

    python -m tests.bench.aws.replay INSTANCES [--port PORT] [--delay SECONDS]

Serves DescribeInstances (MaxResults, NextToken, filter instance-state-name; every region has the same instances), DescribeRegions and
DescribeAvailabilityZones. Everything else is refused with an EC2 error: the full list in answer to a wrong query would look like a fast one.
GET /calls returns the calls since the last GET /calls as [action, region, MaxResults, NextToken] and forgets them.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
ACCOUNT = "123456789012"
PAGE = 1000
REGIONS = (
    *("ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1", "eu-central-1"),
    *("eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2"),
)
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
# Of ten instances: 3 f1.2xlarge, 3 f1.4xlarge, 2 f2.6xlarge, 2 m5.large; 4 fpga, 3 cpu, 3 gpu.
TYPES = ("f1.2xlarge", "f1.4xlarge", "f2.6xlarge", "m5.large", "f1.2xlarge", "f1.4xlarge", "f2.6xlarge", "m5.large", "f1.2xlarge", "f1.4xlarge")
ROLES = ("fpga", "cpu", "gpu", "fpga", "cpu", "gpu", "fpga", "cpu", "gpu", "fpga")


def to_xml(value: Any) -> str:
    """EC2's Query protocol: a mapping is elements, a list is <item> elements, None an empty element, anything else its text."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return "".join(f"<{key}>{to_xml(inner)}</{key}>" if inner is not None else f"<{key}/>" for key, inner in value.items())
    if isinstance(value, list):
        return "".join(f"<item>{to_xml(inner)}</item>" for inner in value)
    return str(value).lower() if isinstance(value, bool) else escape(str(value))


def hex_id(prefix: str, salt: int, index: int) -> str:
    """An id that looks random, is unique for (prefix, salt, index), and never changes."""
    return f"{prefix}-{(salt * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03) % (1 << 68):017x}"


def instance(index: int) -> dict[str, Any]:
    """Instance number `index`, with the elements and types of the real answer."""
    low, mid, high = index & 255, index >> 8 & 255, index >> 16
    private, public = f"10.{high & 255}.{mid}.{low}", f"198.{18 + (high & 1)}.{mid}.{low}"
    zone = ZONES[index % len(ZONES)]
    subnet, vpc = hex_id("subnet", 2, index % len(ZONES)), hex_id("vpc", 1, 0)
    launched = f"2026-01-{1 + index % 28:02d}T{index % 24:02d}:{index % 60:02d}:00.000Z"
    groups = [{"groupId": hex_id("sg", 3, 0), "groupName": "fpga-workers"}]
    public_dns = f"ec2-{public.replace('.', '-')}.compute-1.amazonaws.com"
    association = {"publicIp": public, "publicDnsName": public_dns, "ipOwnerId": ACCOUNT}
    tags = {
        "Name": f"w{index}",
        "role": ROLES[index % len(ROLES)],
        "env": "dev",
        "asg": f"g{index % 8}",
        "k8s.io/cluster-autoscaler/enabled": "true",
        "k8s.io/cluster-autoscaler/hybrid-fpga": "owned",
        "k8s.io/cluster-autoscaler/node-template/resources/xilinx/aws-vu47p-f2": "1",
    }
    return {
        "instanceId": hex_id("i", 5, index),
        "imageId": hex_id("ami", 6, 0),
        "instanceState": {"code": 16, "name": "running"},
        "privateDnsName": f"ip-{private.replace('.', '-')}.ec2.internal",
        "dnsName": public_dns,
        "reason": None,
        "keyName": "lab",
        "amiLaunchIndex": 0,
        "productCodes": None,
        "instanceType": TYPES[index % len(TYPES)],
        "launchTime": launched,
        "placement": {"availabilityZone": zone, "groupName": None, "tenancy": "default"},
        "monitoring": {"state": "disabled"},
        "subnetId": subnet,
        "vpcId": vpc,
        "privateIpAddress": private,
        "ipAddress": public,
        "sourceDestCheck": True,
        "groupSet": groups,
        "architecture": "x86_64",
        "rootDeviceType": "ebs",
        "rootDeviceName": "/dev/sda1",
        "blockDeviceMapping": [
            {
                "deviceName": "/dev/sda1",
                "ebs": {"volumeId": hex_id("vol", 7, index), "status": "attached", "attachTime": launched, "deleteOnTermination": True},
            }
        ],
        "virtualizationType": "hvm",
        "clientToken": f"{index:08x}-0000-4000-8000-{index:012x}",
        "tagSet": [{"key": key, "value": value} for key, value in tags.items()],
        "hypervisor": "xen",
        "networkInterfaceSet": [
            {
                "networkInterfaceId": hex_id("eni", 8, index),
                "subnetId": subnet,
                "vpcId": vpc,
                "description": None,
                "ownerId": ACCOUNT,
                "status": "in-use",
                "macAddress": f"02:00:{high & 255:02x}:{mid:02x}:{low:02x}:01",
                "privateIpAddress": private,
                "sourceDestCheck": True,
                "groupSet": groups,
                "attachment": {
                    "attachmentId": hex_id("eni-attach", 9, index),
                    "deviceIndex": 0,
                    "status": "attached",
                    "attachTime": launched,
                    "deleteOnTermination": True,
                    "networkCardIndex": 0,
                },
                "association": association,
                "privateIpAddressesSet": [{"privateIpAddress": private, "primary": True, "association": association}],
                "ipv6AddressesSet": None,
                "interfaceType": "interface",
            }
        ],
        "ebsOptimized": False,
        "enaSupport": True,
        "sriovNetSupport": "simple",
        "bootMode": "uefi",
        "usageOperation": "RunInstances",
        "metadataOptions": {
            "state": "applied",
            "httpTokens": "required",
            "httpPutResponseHopLimit": 1,
            "httpEndpoint": "enabled",
            "httpProtocolIpv6": "disabled",
            "instanceMetadataTags": "disabled",
        },
    }


def response(action: str, body: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{action}Response xmlns="{NAMESPACE}">'
        f"<requestId>00000000-0000-4000-8000-000000000000</requestId>{body}</{action}Response>"
    ).encode()


def reservations(instances: list[dict[str, Any]]) -> str:
    """The content of a reservationSet, one reservation for each instance."""
    wrapped = [{"reservationId": hex_id("r", 4, k), "ownerId": ACCOUNT, "groupSet": None, "instancesSet": [one]} for k, one in enumerate(instances)]
    return to_xml(wrapped)


def error_answer(code: str, message: str) -> bytes:
    content = to_xml({"Error": {"Code": code, "Message": message}})
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors>{content}</Errors><RequestID>0</RequestID></Response>'.encode()


class RefusedError(Exception):
    """Answered with an EC2 error: code, message."""


class Replay:
    """All answers, rendered once."""

    def __init__(self, instances: int) -> None:
        self.count = instances
        self.calls: list[tuple[str | None, ...]] = []
        self._lock = threading.Lock()
        self._pages: dict[tuple[int, int], bytes] = {}
        self._items = [
            to_xml([{"reservationId": hex_id("r", 4, k), "ownerId": ACCOUNT, "groupSet": None, "instancesSet": [instance(k)]}]) for k in range(instances)
        ]
        for start in range(0, max(instances, 1), PAGE):
            self._page(start, PAGE)

    def _page(self, start: int, size: int) -> bytes:
        with self._lock:
            if (start, size) not in self._pages:
                end = min(start + size, self.count)
                more = f"<nextToken>{end}</nextToken>" if end < self.count else ""
                self._pages[start, size] = response("DescribeInstances", f"<reservationSet>{''.join(self._items[start:end])}</reservationSet>{more}")
            return self._pages[start, size]

    def answer(self, query: dict[str, str], region: str) -> bytes:
        action = query.get("Action", "")
        if action == "DescribeInstances":
            return self._describe_instances(query)
        if action == "DescribeRegions":
            return response(action, to_xml({"regionInfo": [{"regionName": name, "regionEndpoint": f"ec2.{name}.amazonaws.com"} for name in REGIONS]}))
        if action == "DescribeAvailabilityZones":
            zones = [{"zoneName": region + letter, "zoneState": "available", "regionName": region} for letter in "abcdef"]
            return response(action, to_xml({"availabilityZoneInfo": zones}))
        raise RefusedError("InvalidAction", f"this replay server does not serve {action or 'a request without Action'}")

    def _describe_instances(self, query: dict[str, str]) -> bytes:
        if any(key.startswith("InstanceId.") for key in query):
            raise RefusedError("UnsupportedOperation", "this replay server does not select instance ids")
        for key, name in query.items():
            if re.fullmatch(r"Filter\.\d+\.Name", key):
                if name != "instance-state-name":
                    raise RefusedError("UnsupportedOperation", f"this replay server does not filter by {name}")
                if "running" not in (value for other, value in query.items() if other.startswith(key.removesuffix("Name") + "Value.")):
                    return response("DescribeInstances", "<reservationSet/>")
        size, token = query.get("MaxResults", str(PAGE)), query.get("NextToken", "0")
        if not size.isdigit() or not 5 <= int(size) <= 1000:
            raise RefusedError("InvalidParameterValue", "MaxResults must be 5 to 1000")
        if not token.isdigit() or int(token) > self.count:
            raise RefusedError("InvalidNextToken", "this NextToken was not given out by this server")
        return self._page(int(token), int(size))


def server(replay: Replay, port: int = 0, delay: float = 0) -> ThreadingHTTPServer:
    """Listens on loopback; whoever calls runs serve_forever."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 20

        def log_message(self, *_arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            calls, replay.calls = replay.calls, []
            self._send(200 if self.path == "/calls" else 404, json.dumps(calls).encode(), "application/json")

        def do_POST(self) -> None:
            query = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()))
            scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/", self.headers.get("Authorization", ""))
            region = scope[1] if scope else "us-east-1"
            replay.calls.append((query.get("Action"), region, query.get("MaxResults"), query.get("NextToken")))
            time.sleep(delay)
            try:
                self._send(200, replay.answer(query, region), "text/xml;charset=UTF-8")
            except RefusedError as error:
                self._send(400, error_answer(*error.args), "text/xml;charset=UTF-8")

        def _send(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    listening = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    listening.daemon_threads = True
    return listening


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("instances", type=int)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--delay", type=float, default=0, help="seconds to wait before each answer: the network's latency")
    options = parser.parse_args()
    listening = server(Replay(options.instances), options.port, options.delay)
    print(f"ready: http://127.0.0.1:{listening.server_address[1]}", flush=True)
    listening.serve_forever()


if __name__ == "__main__":
    main()
