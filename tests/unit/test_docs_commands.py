# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command of README, CONTRIBUTING and the guides is run here as far as it can be without a cluster, or stands in a list that says where it is run.

What a whole run of a playbook does is tested with that playbook. Here, what a reader types is typed: options, inventory, limits, names.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from ansible.cli.doc import DocCLI
from ansible.cli.galaxy import GalaxyCLI
from ansible.cli.playbook import PlaybookCLI

from lab import cli
from tests.unit.installed import BIN
from tests.unit.test_docs import DOCS, ROOT

#: Programs that are not ours and want what no unit test has, or of which a document shows one word only; and where they are run, if anywhere.
ELSEWHERE = {
    **dict.fromkeys(
        ("kubectl", "journalctl", "systemctl", "cat", "curl", "grep", "ip"), "looks at a cluster or host: tests/lab runs most of them on the lab's"
    ),
    "/opt/fpga-hybrid/bin/fpga-hybrid-vpn": "tests/unit/roles/test_openvpn_authority.py",
    "/opt/fpga-hybrid/bin/fpga-hybrid-keeper": "tests/unit/roles/keeper/test_shown.py",
    **dict.fromkeys(("mkdir", "sha256sum", "tar", "python3"), "a snapshot's: tests/integration/admission/test_keeper.py checks, unpacks and restores one"),
    "aws": "asks AWS, where nothing of this has been yet",
    "jq": "reads files that programs here write, whose keys the tests of those programs know",
    "ssh": "the lab's hosts, as every run of Ansible on them",
    "cd": "",
    "cp": "of roles/awx/files, in test_execution_environment",
    "export": "",
    "podman": "builds and pushes an image: no registry where the tests are",
    "nox": "where it is installed: noxfile.py",
    "openssl": "looks at a certificate",
    "antsibull-changelog": "lint, in tests/run.py documentation; a release, by who makes one",
}
#: Lines of code that are no commands: settings, output, HCL. Whatever begins otherwise is one.
OURS = ("ansible-playbook", "ansible-inventory", "ansible-doc", "ansible-galaxy", "ansible-builder", "ansible-vault", "make", "lab/lab", "python", "nox")
PROGRAMS = (*OURS, *ELSEWHERE)


def lines(text: str) -> Iterator[str]:
    """Lines that somebody is to type: of indented code, of code marked as shell or text, and what stands in backquotes and begins with a program of ours."""
    kind = ""
    for line in text.splitlines():
        if fence := re.match(r"```(\w*)", line):
            kind = "" if kind else fence[1] or "text"
        elif kind in ("", "text") and (found := re.match(r"(?: {4}|\$ )?(\S.*)" if kind else r" {4}(\S.*)", line)):
            yield found[1]
        if not kind:
            yield from (code for code in re.findall(r"`([^`]+)`", line) if code.split()[0] in OURS and " " in code)


def words_of(line: str) -> list[list[str]]:
    """The commands of a line, between its pipes and semicolons; without what follows a sharp."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|;&"):
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


def commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, text in DOCS.items():
        for line in lines(text) if name != "docs/test-all.md" else ():
            if line.split()[0] in PROGRAMS:
                yield from ((name, tuple(words)) for words in words_of(line) if words[0] in PROGRAMS)


COMMANDS = sorted({words: name for name, words in commands()}.items())


def those_of(*programs: str) -> list[object]:
    return [pytest.param(words, id=" ".join(words)) for words, _name in COMMANDS if words[0] in programs]


def test_the_commands_are_found():
    """Some of each kind of place, so that none of what follows is about nothing."""
    found = {words for words, _name in COMMANDS}
    assert {
        ("ansible-playbook", "site.yml", "--check", "--diff"),
        ("ansible-playbook", "cloud_audit.yml"),
        ("ansible-playbook", "-i", "inventories/example", "site.yml"),
        ("ansible-doc", "-t", "role", "fpga.hybrid.cluster"),
        ("lab/lab", "host", "exec", "cp1", "--", "kubectl", "get", "nodes", "-o", "wide"),
        ("make", "dist"),
    } <= found
    assert len(found) > 60


@pytest.mark.parametrize("doc", DOCS)
def test_a_line_of_indented_code_is_a_command_that_somebody_answers_for_or_a_setting_or_output(doc):
    unknown = []
    for line in re.findall(r"^ {4}(\S.*)$", re.sub(r"^```.*?^```$", "", DOCS[doc], flags=re.MULTILINE | re.DOTALL), re.MULTILINE):
        known = line.split()[0] in PROGRAMS or re.match(r"\w+: |#|\[ERROR\]|UDP port |-$|\d|/var/lib/[^ ]+$", line)
        unknown += [] if known else [line]
    assert unknown == []


@pytest.mark.parametrize("words", those_of("ansible-playbook"))
def test_ansible_playbook_knows_these_options(words):
    parser = PlaybookCLI(["ansible-playbook"])
    parser.init_parser()
    given = parser.parser.parse_args(list(words[1:]))
    assert given.args, "no playbook"
    assert [name for name in given.args if "/" in name] == [], "a repository that fpga.hybrid.init has made has its playbooks at the root, by these names"
    for value in given.extra_vars:
        assert re.fullmatch(r"@?[\w./-]+|\w+=.*", value), value


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example's inventory with the worker of the guides in it, in a checkout."""
    folder = tmp_path_factory.mktemp("example") / "inventory"
    shutil.copytree(ROOT / "inventories" / "example", folder)
    inventory = folder / "cluster.hybrid.yml"
    worker = "  worker9:\n    roles: [worker]\n    vars: {ansible_host: 192.168.1.19}\n"
    inventory.write_text(inventory.read_text().replace("hosts:\n", f"hosts:\n{worker}", 1))
    return folder


def run(*words: str) -> str:
    done = subprocess.run([str(BIN / words[0]), *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


LIMITED = [param for param in those_of("ansible-playbook") if "--limit" in param.values[0]]


@pytest.mark.parametrize("words", LIMITED)
def test_a_limit_leaves_the_hosts_that_it_says(words, example):
    """With the playbook of the checkout, which the stub of the same name imports."""
    playbook = next(word for word in words if word.endswith(".yml"))
    here = [f"playbooks/{playbook}" if word == playbook else word.replace("<cluster_name>", "InAccel") for word in words]
    listed = run(*here, "-i", str(example), "--list-hosts")
    hosts = set(re.findall(r"^ {6}(\w+)$", listed, re.MULTILINE)) - {"localhost"}
    wanted = {"control_plane": "master", "vpn_server": "master"}
    assert hosts == {wanted.get(name, name) for name in words[words.index("--limit") + 1].split(",")}


def test_the_checkouts_own_command_takes_the_example():
    assert "master" in run("ansible-playbook", "-i", "inventories/example", "site.yml", "--list-hosts")


@pytest.mark.parametrize("words", those_of("ansible-doc"))
def test_ansible_doc_shows_what_a_document_refers_to(words):
    parser = DocCLI(["ansible-doc"])
    parser.init_parser()
    parser.parser.parse_args(list(words[1:]))
    assert words[-1].removeprefix("fpga.hybrid.").upper()[:8] in run(*words).upper()


def test_make_knows_what_to_do_and_help_tells_it():
    """All at once, since make looks for a Python each time."""
    wanted = {word for param in those_of("make") for word in param.values[0][1:]}
    assert {"lab", "test-all", "BENCH=--only inventory"} <= wanted
    assert run_make("--dry-run", *sorted(wanted)).strip()
    told = run_make("help")
    assert [name for name in wanted if "=" not in name and name != "help" and f"make {name}" not in told] == []


def run_make(*words: str) -> str:
    done = subprocess.run(["make", "PYTHON=python3", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("words", those_of("lab/lab"))
def test_the_labs_program_takes_these_words(words):
    assert callable(cli.parser().parse_args(list(words[1:])).action)


@pytest.mark.parametrize("words", those_of("ansible-galaxy"))
def test_ansible_galaxy_takes_these_words(words):
    """tests/unit/installed.py installs the tarball by them."""
    parser = GalaxyCLI(["ansible-galaxy"])
    parser.init_parser()
    given = parser.parser.parse_args(list(words[1:]))
    assert given.type == "collection"
    assert given.args or (ROOT / given.requirements).is_file()


@pytest.mark.parametrize("words", [param for param in those_of("python") if len(param.values[0]) > 1])
def test_a_program_of_the_tests_takes_these_words(words):
    assert (ROOT / words[1]).is_file()
    assert "unit" in run("python", words[1], "--list")
