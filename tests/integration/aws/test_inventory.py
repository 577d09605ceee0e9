# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory as its users call it: Ansible's own programs, against moto in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml

pytestmark = pytest.mark.aws

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(sys.executable).parent
REGION = "us-east-1"
CLUSTER_ID = "7a5d2f0e-0000-4000-8000-000000000001"
HOSTS = {
    "cp1": {"roles": ["control_plane", "vpn_server"], "vars": {"ansible_host": "10.0.0.10", "vpn_address": "172.27.224.1"}},
    "worker1": {"roles": ["worker"], "vars": {"ansible_host": "10.0.0.11", "fpga_publish": {"u250": "boards"}}},
}
RULES = {
    "keyed_groups": [
        {"prefix": "role", "key": "tags.role | default('none')"},
        {"prefix": "type", "key": "instance_type"},
        {"prefix": "az", "key": "placement.availability_zone"},
    ],
    "compose": {"ansible_host": "private_ip_address", "k8s_provider_id": "'aws:///' ~ placement.availability_zone ~ '/' ~ instance_id"},
    "groups": {"has_fpga": "instance_type.startswith('f1') or instance_type.startswith('f2')"},
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """moto, in a process that no other test's moto shares."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [PROGRAMS / "moto_server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"},  # each reset would read hundreds of them again
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _attempt in range(300):
            try:
                urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait()


@cache
def client(service: str, url: str) -> Any:
    return botocore.session.Session().create_client(service, REGION, endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test")


@dataclass
class Account:
    """An AWS account with the cluster's two pools, the tutorial's group, a namesake's instance and a stranger's."""

    url: str
    key: tuple[str, str] = ("test", "test")
    instances: dict[str, list[str]] = field(default_factory=dict)
    clients: dict[str, Any] = field(default_factory=dict, repr=False)

    def client(self, service: str, region: str = REGION) -> Any:
        return botocore.session.Session().create_client(
            service, region, endpoint_url=self.url, aws_access_key_id=self.key[0], aws_secret_access_key=self.key[1]
        )

    def group(self, name: str, instance_type: str, tags: dict[str, str], size: int) -> None:
        ec2, autoscaling = self.client("ec2"), self.client("autoscaling")
        ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"ImageId": "ami-0123456789abcdef0", "InstanceType": instance_type})
        autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name,
            LaunchTemplate={"LaunchTemplateName": name, "Version": "1"},
            MinSize=0,
            MaxSize=5,
            DesiredCapacity=size,
            AvailabilityZones=["us-east-1a"],
            Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in tags.items()],
        )
        (found,) = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        self.instances[name] = sorted(instance["InstanceId"] for instance in found["Instances"])

    def tag(self, instance: str, **tags: str) -> None:
        self.client("ec2").create_tags(Resources=[instance], Tags=[{"Key": key.replace("__", "/"), "Value": value} for key, value in tags.items()])

    def pool(self, cluster: str, pool: str, instance_type: str, size: int, cluster_id: str = CLUSTER_ID, **tags: str) -> list[str]:
        name = f"{cluster}-{pool}"
        self.group(name, instance_type, {"fpga.hybrid/cluster-id": cluster_id, "fpga.hybrid/pool": pool, **tags}, size)
        return self.instances[name]


@pytest.fixture(scope="module")
def account(endpoint) -> Account:
    """Made once, since moto's reset takes seconds: what a test changes is a cluster of its own."""
    made = Account(endpoint)
    made.pool("InAccel", "f2-6xlarge", "f2.6xlarge", 2, role="fpga")
    made.pool("InAccel", "f2-12xlarge", "f2.12xlarge", 1)
    made.group("f1-2xlarge", "f1.2xlarge", {"k8s.io/cluster-autoscaler/InAccel": "owned", "k8s.io/cluster-autoscaler/enabled": "true"}, 1)
    made.pool("Other", "f2", "f2.6xlarge", 1, cluster_id="another")
    made.group("stranger", "m5.large", {"role": "web", "Name": "web1"}, 1)
    made.tag(made.instances["InAccel-f2-12xlarge"][0], **{"fpga.hybrid__vpn-address": "172.27.232.5"})
    return made


@pytest.fixture
def ours(account) -> list[str]:
    return sorted(account.instances["InAccel-f2-6xlarge"] + account.instances["InAccel-f2-12xlarge"] + account.instances["f1-2xlarge"])


@dataclass
class Controller:
    """A folder with inventories and a home of its own, from which Ansible's programs are called."""

    folder: Path
    account: Account

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ANSIBLE_")) and not name.lower().endswith("_proxy")}
        return {
            **kept,
            "HOME": str(self.folder / "home"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_INVENTORY_ENABLED": "fpga.hybrid.cluster,amazon.aws.aws_ec2",
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": self.account.key[0],
            "AWS_SECRET_ACCESS_KEY": self.account.key[1],
            "AWS_ENDPOINT_URL": self.account.url,
            "AWS_MAX_ATTEMPTS": "1",
        }

    def write(self, name: str = "cluster.hybrid.yml", **content: Any) -> Path:
        (self.folder / "home").mkdir(exist_ok=True)
        path = self.folder / name
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    def cluster(self, aws: dict[str, Any] | None = None, **more: Any) -> Path:
        declared = {"plugin": "fpga.hybrid.cluster", "cluster_name": "InAccel", "hosts": HOSTS, "aws": {"regions": [REGION], **(aws or {})}, **more}
        return self.write(**declared)

    def call(self, program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(PROGRAMS / program), *map(str, arguments)]
        return subprocess.run(command, cwd=self.folder, env={**self.environment, **environment}, capture_output=True, text=True, check=False, timeout=120)

    def list(self, inventory: Path, **environment: str) -> dict[str, Any]:
        finished = self.call("ansible-inventory", "-i", inventory, "--list", **environment)
        assert finished.returncode == 0, finished.stderr
        return plain(json.loads(finished.stdout))


def plain(value: Any) -> Any:
    """Without the marks that `ansible-inventory` puts on what is data and no template."""
    if isinstance(value, dict):
        return value["__ansible_unsafe"] if set(value) == {"__ansible_unsafe"} else {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def members(listed: dict[str, Any], group: str) -> list[str]:
    found = listed.get(group, {})
    return sorted({*found.get("hosts", []), *(host for child in found.get("children", []) for host in members(listed, child))})


@pytest.fixture
def controller(tmp_path, account) -> Controller:
    return Controller(tmp_path, account)


def test_the_cluster_s_instances_are_found_by_its_name(controller, account, ours):
    listed = controller.list(controller.cluster())
    assert members(listed, "aws") == ours
    assert members(listed, "workers") == sorted(["worker1", *ours])
    assert members(listed, "on_prem") == ["cp1", "worker1"]
    assert members(listed, "pool_f2_6xlarge") == account.instances["InAccel-f2-6xlarge"]
    assert members(listed, "fpga_aws_vu9p_f1") == account.instances["f1-2xlarge"]
    assert members(listed, "zone_us_east_1a") == ours


def test_the_cluster_s_instances_are_found_by_its_id(controller, account, ours):
    listed = controller.list(controller.cluster({"cluster_id": CLUSTER_ID}))
    assert members(listed, "aws") == sorted(set(ours) - set(account.instances["f1-2xlarge"]))


def test_few_variables_are_published(controller, account):
    (instance,) = account.instances["InAccel-f2-12xlarge"]
    variables = controller.list(controller.cluster())["_meta"]["hostvars"][instance]
    assert variables == {
        "cluster_name": "InAccel",
        "cluster_aws_region": REGION,
        "provider_id": f"aws:///us-east-1a/{instance}",
        "instance_type": "f2.12xlarge",
        "availability_zone": "us-east-1a",
        "lifecycle_state": "running",
        "vpn_address": "172.27.232.5",
    }


def test_a_new_instance_is_there_on_the_next_run_and_an_ended_one_is_not(controller, account):
    before = account.pool("Growing", "f2", "f2.6xlarge", 1, cluster_id="growing")
    inventory = controller.cluster(cluster_name="Growing")
    assert members(controller.list(inventory), "aws") == before
    account.client("autoscaling").set_desired_capacity(AutoScalingGroupName="Growing-f2", DesiredCapacity=2)
    account.client("ec2").terminate_instances(InstanceIds=before)
    now = members(controller.list(inventory), "aws")
    assert now
    assert not set(before) & set(now)
    listed = controller.list(controller.cluster({"filters": {"instance-state-name": ["terminated"]}}, cluster_name="Growing"))
    assert members(listed, "aws") == before
    assert listed["_meta"]["hostvars"][before[0]]["lifecycle_state"] == "terminated"


def test_rules_and_variables_are_those_of_aws_ec2(controller, account):
    """Every instance of moto's account, all variables, the six rules: the peer, asked in the same minute, says the same."""
    ours = controller.list(controller.write(plugin="fpga.hybrid.cluster", aws={"select": "all", "regions": [REGION], "full": True}, **RULES))
    theirs = controller.list(
        controller.write("peer.aws_ec2.yml", plugin="amazon.aws.aws_ec2", regions=[REGION], hostnames=["instance-id"], **RULES), AWS_URL=account.url
    )
    groups = set(theirs) - {"_meta", "all", "aws_ec2"}
    assert {"role_fpga", "role_none", "type_f2_6xlarge", "az_us_east_1a", "has_fpga"} <= groups
    assert {group: members(ours, group) for group in groups} == {group: members(theirs, group) for group in groups}
    assert members(ours, "aws") == members(theirs, "aws_ec2")
    for instance, expected in theirs["_meta"]["hostvars"].items():
        expected["ec2_tags"] = expected.pop("tags")
        assert {key: ours["_meta"]["hostvars"][instance].get(key) for key in expected} == expected


def test_graph_and_list_hosts_work(controller, ours):
    inventory = controller.cluster()
    graph = controller.call("ansible-inventory", "-i", inventory, "--graph")
    assert graph.returncode == 0, graph.stderr
    assert all(f"|--{instance}" in graph.stdout for instance in ours)
    listed = controller.call("ansible", "-i", inventory, "all", "--list-hosts")
    assert sorted(line.strip() for line in listed.stdout.splitlines()[1:]) == sorted(["cp1", "worker1", *ours])


def test_awx_can_synchronise_it(controller, ours, tmp_path):
    """AWX's own command line and environment, in a project whose root holds the file: collections/ is found beside it."""
    (tmp_path / "collections").symlink_to(ROOT / "collections")
    inventory = controller.cluster({"required": True})
    output = tmp_path / "output.json"
    settings = {
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_INVENTORY_EXPORT": "True",
        "ANSIBLE_VERBOSE_TO_STDERR": "True",
        "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
        "ANSIBLE_COLLECTIONS_PATH": "",
        "ANSIBLE_INVENTORY_ENABLED": "host_list,script,auto,yaml,ini,toml",
    }
    finished = controller.call("ansible-inventory", "--list", "--export", "-i", inventory, "--output", output, "--playbook-dir", tmp_path, **settings)
    assert finished.returncode == 0, finished.stderr
    listed = json.loads(output.read_text())
    assert members(listed, "aws") == ours
    assert plain(listed["all"]["vars"]) == {"cluster_name": "InAccel", "cluster_aws_region": REGION}
    assert "cluster_name" not in listed["_meta"]["hostvars"][ours[0]]


def test_no_shipped_playbook_addresses_an_instance(controller, ours):
    """With live instances and no route to them every run stays green, because no play has them among its hosts."""
    inventory = controller.cluster()
    everybody = controller.write("everybody.yml")
    everybody.write_text(yaml.safe_dump([{"hosts": "workers"}]))
    assert all(instance in controller.call("ansible-playbook", "-i", inventory, everybody, "--list-hosts").stdout for instance in ours)
    playbooks = sorted([ROOT / "site.yml", *(ROOT / "playbooks").glob("*.yml")])
    finished = controller.call("ansible-playbook", "-i", inventory, *playbooks, "--list-hosts")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("playbook: ") == len(playbooks)
    addressed = set(finished.stdout.split())
    assert {"cp1", "worker1"} <= addressed
    assert not addressed & set(ours)


def test_what_a_tag_says_is_never_evaluated(controller, account, tmp_path):
    trap = tmp_path / "trap"
    evil = f"{{{{ lookup('pipe', 'touch {trap}') }}}}"
    (instance,) = account.pool("Evil", "f2", "f2.6xlarge", 1, cluster_id="evil", role=evil, Name=evil)
    inventory = controller.cluster({"vars": ["ec2_tags"], "group_by": ["tag:role"]}, cluster_name="Evil", compose={"composed": "tags.Name"})
    shown = controller.call("ansible", "-i", inventory, instance, "-c", "local", "-m", "ansible.builtin.debug", "-a", "msg={{ [ec2_tags.role, composed] }}")
    assert shown.returncode == 0, shown.stdout
    assert json.loads(shown.stdout.partition("=>")[2])["msg"] == [evil, evil]
    assert not trap.exists()


def test_the_cache_serves_the_next_run_and_flush_cache_asks_anew(controller, account, tmp_path):
    before = account.pool("Cached", "f2", "f2.6xlarge", 1, cluster_id="cached")
    inventory = controller.cluster(cluster_name="Cached", cache=True, cache_plugin="jsonfile", cache_connection=str(tmp_path / "cache"))
    cold = controller.list(inventory)
    assert members(cold, "aws") == before
    account.client("autoscaling").set_desired_capacity(AutoScalingGroupName="Cached-f2", DesiredCapacity=3)
    assert controller.list(inventory) == cold
    flushed = controller.call("ansible-inventory", "-i", inventory, "--list", "--flush-cache")
    assert len(members(json.loads(flushed.stdout), "aws")) == 3


def test_an_aws_that_is_down_leaves_the_declared_hosts_or_the_last_answer(controller, account, ours, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{closed.getsockname()[1]}"
        kept = {"cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "cache")}
        inventory = controller.cluster({"stale_ok": True}, **kept)
        # The endpoint decides which account it is, so it can't be another one: a proxy that is gone is the outage.
        outage = {"HTTP_PROXY": down}
        nothing = controller.call("ansible-inventory", "-i", inventory, "--list", **outage)
        assert members(json.loads(nothing.stdout), "all") == ["cp1", "worker1"]
        assert "Failed to connect to proxy URL" in " ".join(nothing.stderr.split())
        assert members(controller.list(inventory), "aws") == ours
        stale = controller.call("ansible-inventory", "-i", inventory, "--list", **outage)
        assert members(json.loads(stale.stdout), "aws") == ours
        assert "Going on with the answer of" in " ".join(stale.stderr.split())
        required = controller.call("ansible-inventory", "-i", controller.cluster({"required": True}), "--list", **outage)
        assert required.returncode != 0
        assert "AWS gave no complete answer" in required.stderr


@pytest.fixture
def guarded(request, endpoint, account) -> Iterator[Account]:
    """The same account, as an identity that may read or may not; moto now looks who is calling."""
    iam = account.client("iam")
    user = f"reader-{request.node.name}"[:64]
    iam.create_user(UserName=user)
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["ec2:DescribeInstances"], "Resource": "*"}]}
    key = iam.create_access_key(UserName=user)["AccessKey"]

    def authentication(calls_before: str) -> None:
        request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", calls_before.encode(), {"Content-Type": "text/plain"}, method="POST")
        urllib.request.urlopen(request, timeout=30).close()

    if request.param:
        iam.put_user_policy(UserName=user, PolicyName="inventory", PolicyDocument=json.dumps(policy))
    authentication("0")
    yield Account(endpoint, (key["AccessKeyId"], key["SecretAccessKey"]), account.instances)
    authentication("inf")


@pytest.mark.parametrize("guarded", [True], indirect=True)
def test_one_permission_is_all_it_needs(guarded, controller, ours):
    controller.account = guarded
    assert members(controller.list(controller.cluster({"required": True})), "aws") == ours


@pytest.mark.parametrize("guarded", [False], indirect=True)
def test_without_it_the_action_is_named(guarded, controller):
    controller.account = guarded
    finished = controller.call("ansible-inventory", "-i", controller.cluster(), "--list")
    told = " ".join(finished.stderr.split())
    assert "no permission (env, key ..." in told
    assert "expected an identity that may ec2:DescribeInstances. Add the action to its policy." in told
    assert members(json.loads(finished.stdout), "all") == ["cp1", "worker1"]


@pytest.mark.parametrize("guarded", [True], indirect=True)
def test_wrong_credentials_are_said(guarded, controller):
    controller.account = Account(guarded.url, ("AKIAWRONGWRONGWRONG1", "wrong"))
    finished = controller.call("ansible-inventory", "-i", controller.cluster(), "--list")
    assert "wrong credentials (env, key ...ONG1): AWS says AuthFailure" in " ".join(finished.stderr.split())


def examples() -> list[Any]:
    source = (ROOT / "plugins" / "inventory" / "cluster.py").read_text()
    return list(yaml.safe_load_all(source.partition('EXAMPLES = r"""')[2].partition('"""')[0]))


@pytest.mark.parametrize("number", range(len(examples())))
def test_the_documentation_s_examples_run_as_written(controller, account, ours, tmp_path, number):
    controller.write("machines.yml", **HOSTS)
    inventory = controller.write(**examples()[number])
    configuration = tmp_path / "aws.config"
    configuration.write_text("[profile fpga]\naws_access_key_id = test\naws_secret_access_key = test\n")
    listed = controller.list(inventory, AWS_CONFIG_FILE=str(configuration))
    if number < 2:
        assert members(listed, "aws") == ours
    else:
        assert "web1" in members(listed, "aws")
        assert members(listed, "role_web") == ["web1"]
