# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What README, CONTRIBUTING and the guides name is there: playbooks, steps, variables, units, files, headings; and the hosts that they show are sound."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from ansible_collections.fpga.hybrid.plugins.module_utils import _verify
from ansible_collections.fpga.hybrid.plugins.module_utils._declaration import Host, validate
from fpga_hybrid import failure
from tests import run

ROOT = Path(__file__).resolve().parents[2]
DOCS = {str(path.relative_to(ROOT)): path.read_text() for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]}
PLAYBOOKS = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
ROLES = {path.name for path in (ROOT / "roles").iterdir()}
PLUGINS = {path.stem for folder in ("modules", "inventory", "action") for path in (ROOT / "plugins" / folder).glob("*.py")}
#: Variables that are given on a command line, and which a playbook or a role's first lines turn into another.
SHORT = {"allow_disruption", "aws_iam", "break_lock", "confirm", "dest", "force", "purge", "resume", "state"}


class Loader(yaml.SafeLoader):
    """Takes Ansible's own tag."""


Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


def loaded(path: Path) -> dict:
    return (yaml.load(path.read_text(), Loader) or {}) if path.exists() else {}


def declared() -> set[str]:
    """Every variable that a role documents, computes or has a default for, and cluster_name, which the inventory publishes."""
    names = {"cluster_id", "cluster_name", *SHORT}
    for role in (ROOT / "roles").iterdir():
        names |= {*loaded(role / "defaults/main.yml"), *loaded(role / "vars/main.yml")}
        for entry in loaded(role / "meta/argument_specs.yml").get("argument_specs", {}).values():
            names |= set(entry.get("options") or {})
    return names


VARIABLES = declared()


@pytest.mark.parametrize("doc", DOCS)
def test_links_lead_to_files_and_headings_that_are_there(doc):
    for target in re.findall(r"\]\(([^)\s]+)\)", DOCS[doc]):
        if "://" in target:
            continue
        name, _hash, anchor = target.partition("#")
        path = (ROOT / doc).parent / name if name else ROOT / doc
        assert path.exists(), f"{doc}: {target}"
        if anchor:
            headings = {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)}
            assert anchor in headings, f"{doc}: {target}"


@pytest.mark.parametrize("doc", DOCS)
def test_playbooks_that_a_command_names_are_there(doc):
    named = set()
    for command in re.findall(r"ansible-playbook ([^`\n|]+)", DOCS[doc]):
        named |= set(re.findall(r"(?:^|[\s/])(\w+)\.yml\b", command))
        named |= set(re.findall(r"\bfpga\.hybrid\.(\w+)", command))
    named |= set(re.findall(r"`playbooks/(\w+)\.yml", DOCS[doc]))
    assert named - PLAYBOOKS == set()


@pytest.mark.parametrize("doc", DOCS)
def test_what_is_named_by_its_full_name_is_there(doc):
    assert set(re.findall(r"\bfpga\.hybrid\.([a-z_]+)\b", DOCS[doc])) - PLAYBOOKS - ROLES - PLUGINS == set()


@pytest.mark.parametrize("doc", DOCS)
def test_variables_that_a_document_names_are_declared_somewhere(doc):
    owners = "|".join(ROLES)
    named = set(re.findall(rf"(?<![\w./-])((?:{owners})_[a-z_]+[a-z])(?![\w./(]|=ok)", DOCS[doc]))
    named |= set(re.findall(r"-e (\w+)=", DOCS[doc]))
    assert named - VARIABLES - ROLES - PLUGINS - PLAYBOOKS - set(run.STEPS) == set()


@pytest.mark.parametrize("doc", DOCS)
def test_paths_of_this_repository_are_there(doc):
    for path in re.findall(r"`((?:docs|examples|inventories|lab|playbooks|plugins|roles|tests|requirements|changelogs|collections)/[\w./*-]*)`", DOCS[doc]):
        assert list(ROOT.glob(path.rstrip("/"))), f"{doc}: {path}"


@pytest.mark.parametrize("doc", DOCS)
def test_make_and_run_py_know_what_a_document_asks_of_them(doc):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^ {4}|`)make ([a-z-]+)", DOCS[doc], re.MULTILINE)) - targets == set()
    steps = {*run.STEPS, "lint", "quick", "ci", "all", "STEP"}
    assert set(re.findall(r"tests/run\.py (\w+)", DOCS[doc])) - steps == set()


@pytest.mark.parametrize("doc", DOCS)
def test_units_and_programs_of_ours_are_there(doc):
    ours = {path.name.split(".")[0] for path in (ROOT / "roles").rglob("templates/*.service.j2")} | {"server", "client"}
    code = "\n".join(path.read_text() for path in (ROOT / "roles").rglob("*.yml"))
    for name in set(re.findall(r"(?<![\w/.-])fpga-hybrid-(?!lab|0\.|verify)([a-z-]+[a-z])", DOCS[doc])):
        assert name in ours or f"fpga-hybrid-{name}" in code, f"{doc}: fpga-hybrid-{name}"


@pytest.mark.parametrize("doc", DOCS)
def test_shell_and_yaml_can_be_read(doc):
    for script in re.findall(r"^```sh\n(.*?)^```$", DOCS[doc], re.MULTILINE | re.DOTALL):
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    for block in re.findall(r"^```yaml\n(.*?)^```$", DOCS[doc], re.MULTILINE | re.DOTALL):
        yaml.safe_load(block)


SOUND = {
    "cluster_name": "c",
    "cluster_control_plane_endpoint": "api.example.org:6443",
    "cluster_vpn_endpoint": "vpn.example.org",
    "cluster_vpn_server_address": "172.27.224.1",
    "cluster_vpn_dial_port": 1194,
    "cluster_ssm_prefix": "/fpga-hybrid/c",
    **{name: value for name, value in loaded(ROOT / "roles/cluster/defaults/main.yml").items() if "{{" not in str(value)},
}


def topologies():
    """Each section of the guide with hosts: what it declares, together with the room before it where it adds to that."""
    room: dict = {}
    for section in re.split(r"^## ", DOCS["docs/topologies.md"], flags=re.MULTILINE)[1:]:
        title, text = section.split("\n", 1)
        for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            found = yaml.safe_load(block)
            hosts = found.get("hosts", {**room, **found})
            settings = yaml.safe_load("\n".join(re.findall(r"^ {4}(cluster_\w+: .*)$", text, re.MULTILINE))) or {}
            room = room or hosts
            yield pytest.param(hosts, {"cluster_on_prem_addresses": "lan", "cluster_lan_networks": ["192.168.1.0/24"], **settings}, id=title)


@pytest.mark.parametrize(("hosts", "settings"), list(topologies()))
def test_the_hosts_that_a_topology_shows_are_a_sound_declaration(hosts, settings):
    assert all(set(host["roles"]) <= {"control_plane", "vpn_server", "worker"} for host in hosts.values())
    declaration = {**SOUND, **settings}
    known = [Host(name, "vpn_server" in host["roles"], host.get("vars", {}), "worker" in host["roles"]) for name, host in hosts.items()]
    assert validate(declaration, known) == []
    without = [replace(host, variables={}) for host in known]
    assert validate(declaration, without) != [], "hosts without an address are sound as well"


def test_the_sentence_of_the_port_to_forward_is_the_programs():
    from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_host

    source = Path(_openvpn_host.__file__).read_text()
    assert "which is cluster_vpn_endpoint, must be forwarded to this host," in source
    assert "which is cluster_vpn_endpoint, must be forwarded to this host, 192.168.1.10:1194." in DOCS["docs/topologies.md"]


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_readme_leads_to_each_document(file):
    assert f"](docs/{file})" in DOCS["README.md"] or f"](docs/{file}#" in DOCS["README.md"]


def test_identities_that_the_guide_names_are_those_there_are():
    table = DOCS["docs/adding-aws.md"].split("| identity |")[1].split("\n\n")[0]
    policies = (ROOT / "plugins/module_utils/_iam_identities.py").read_text()
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert len(named) == 5
    assert [name for name in named if f'"{name}"' not in policies] == []


def test_every_kind_of_failed_join_has_a_place_to_begin_at():
    table = DOCS["docs/an-instance-that-does-not-join.md"].split("## Each exit status")[1]
    rows = re.findall(r"^\| (\d+) \| ([\w-]+) \| (.+) \|$", table, re.MULTILINE)
    assert [(int(status), kind) for status, kind, _where in rows] == [(kind.status, kind.name) for kind in failure.KINDS]


def test_every_line_about_pools_is_explained():
    table = DOCS["docs/cost.md"].split("## What you see of it")[1].split("## ")[0]
    assert set(re.findall(r"^\| `([a-z ]+)` \|", table, re.MULTILINE)) == set(_verify.ABOUT_POOLS)


#: Of the issue by which they came; a runbook says of each what is seen, what happens by itself, and what a person does.
FAULTS = (
    *("Wrong CA hash", "VPN server is down during a join", "VPN is down during a job", "reboots", "terminated while its job runs", "spot", "No capacity"),
    *(
        "throttles or denies",
        "keeper is killed",
        "cannot reach AWS, or reaches the wrong account",
        "control plane restarts during a scale-up",
        "site goes dark",
    ),
    *("revoked node comes back", "started by hand in our group", "group was changed by hand", "launch template was deleted", "clock is off", "disk is full"),
    *("without the device plugin", "paused after failed joins", "ceiling is reached", "suspended Launch"),
)


def test_each_fault_has_a_runbook_that_says_what_is_seen_what_happens_and_what_to_do():
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", DOCS["docs/runbooks.md"], re.MULTILINE | re.DOTALL))
    assert [fault for fault in FAULTS if sum(fault in title for title in sections) != 1] == []
    assert len(sections) == len(FAULTS)
    for title, text in sections.items():
        assert re.findall(r"^\*\*(.*?):\*\* \S", text, re.MULTILINE) == ["Seen", "By itself", "You"], title


def test_the_picture_can_be_drawn_and_says_what_it_shows():
    picture = ElementTree.parse(ROOT / "docs" / "overview.svg").getroot()
    assert picture.tag.endswith("}svg")
    assert "title" in [element.tag.rpartition("}")[2] for element in picture]
    assert "172.27.224.0/20" in "".join(picture.itertext()), "another network than the default one"
