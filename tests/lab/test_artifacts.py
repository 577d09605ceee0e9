# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""artifacts.yml against what the depot really served: a mirror made by the list would have been enough."""

from __future__ import annotations

import json
import re
import subprocess
from urllib.parse import unquote, urlsplit

import pytest

from tests.lab.site import CACHE, ROOT, on, playbook

pytestmark = pytest.mark.lab

REQUEST = re.compile(r" (?P<address>10\.203\.\d+\.\d+) \d+ 200 GET (?P<path>\S+) ")
HOSTS = {"10.203.10.11": "cp1", "10.203.10.12": "worker1", "10.203.20.13": "worker2", "10.203.10.14": "worker3"}
# Images of jobs that the lab's tests start: the site's own, no part of what a declaration needs.
JOBS = "/v2/lab.fpga-hybrid.test/"
# Lists and descriptions: a repository has them whatever it holds.
INDEX = re.compile(r"/(InRelease|Release|Release\.gpg|Packages(\.\w+)?|by-hash/.*|index\.yaml|SHA256SUMS)$|^/v2/$|^/v2/.*/blobs/|^/python/|/$")


def made(host: str) -> str:
    """When a lab host was made, as the depot's log writes times: earlier hosts at its address are not this cluster's."""
    command = ["podman", "inspect", "--format", '{{.Created.UTC.Format "2006-01-02T15:04:05"}}', f"fpga-hybrid-{host}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def served() -> set[str]:
    """Paths that the lab's four hosts were given by the depot."""
    since = {address: made(host) for address, host in HOSTS.items()}
    lines = (CACHE / "depot" / "log" / "served" / "access.log").read_text().splitlines()
    requests = ((line, REQUEST.search(line)) for line in lines)
    paths = {unquote(request["path"]).split("?")[0] for line, request in requests if request and line >= since.get(request["address"], "9")}
    return {path for path in paths if not INDEX.search(path) and not path.startswith(JOBS)}


@pytest.fixture(scope="module")
def listed(tmp_path_factory) -> list[dict]:
    file = tmp_path_factory.mktemp("artifacts") / "list.json"
    playbook("artifacts", "-e", f"artifacts_dest={file}").check()
    return json.loads(file.read_text())["artifacts"]


def with_dependencies(names: set[str]) -> set[str]:
    """The names and everything that they depend on, as the hosts' own package managers see it."""
    # a host without boards knows no package of their driver
    known = f"apt-cache pkgnames | grep -x -F -e {' -e '.join(sorted(names))}"
    command = f"apt-cache depends --recurse --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances $({known})"
    return {line.strip().split()[-1].strip("<>") for host in ("cp1", "worker1", "worker3") for line in on(host, command).splitlines()}


def test_nothing_was_served_that_the_list_lacks(listed):
    paths = served()
    assert paths, "the depot's log knows no request of the lab's hosts: build the cluster first"
    packages = with_dependencies({item["name"] for item in listed if item["kind"] == "package"})
    images = {(f"{item['origin']}/{item['name']}", item["version"]) for item in listed if item["kind"] == "image"}
    urls = {urlsplit(item["source"]).path for item in listed if item["kind"] in {"key", "file"}}
    missing = set()
    for path in paths:
        if path.endswith(".deb"):
            wanted = path.rpartition("/")[2].split("_")[0] in packages
        elif match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            # by digest: the parts of an image that was asked for by its tag
            wanted = (match[1], match[2]) in images or (match[2].startswith("sha256:") and match[1] in {name for name, _tag in images})
        else:
            wanted = path in urls
        if not wanted:
            missing.add(path)
    assert missing == set()


def test_each_image_is_listed_by_digest_and_each_file_with_its_checksum(listed):
    listed = [item for item in listed if item["kind"] in {"image", "file"}]
    assert {item["kind"] for item in listed} == {"image", "file"}
    assert [f"{item['kind']} {item['name']}" for item in listed if not re.fullmatch("sha256:[0-9a-f]{64}", item["checksum"])] == []


def test_the_image_that_only_the_lab_has_is_not_in_a_product_list(listed):
    assert not [item for item in listed if "lab.fpga-hybrid.test" in item["origin"]]
    assert (
        subprocess.run(
            ["git", "grep", "-l", "lab.fpga-hybrid.test", "--", "roles", "plugins", "playbooks"], cwd=ROOT, capture_output=True, check=False
        ).returncode
        == 1
    )
