# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stories of one owner's packages on a made-up Debian: a folder for files, and a double of dpkg and apt that keeps state."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import urllib.error
from dataclasses import replace

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _apt_host, _fetch
from ansible_collections.fpga.hybrid.plugins.module_utils._apt import AptError, Package, Proxy, Source, ways
from ansible_collections.fpga.hybrid.plugins.module_utils._apt_host import POLICY, POLICY_KEPT, POLICY_TEXT, Host, Request, Worker
from ansible_collections.fpga.hybrid.plugins.module_utils._record import PATH, Record

BODY = b"\x04\x5f\x00\x00\x00\x16" + bytes(range(40))
KEY = b"\x99" + len(BODY).to_bytes(2, "big") + BODY
OTHER_KEY = KEY[:-1] + b"\xff"

SOURCE = Source(
    "https://depot/docker/linux/debian", "bookworm", ("stable",), key_url="https://depot/docker/linux/debian/gpg", ca="CA", username="lab", password="pw"
)
CONTAINERD = Package("containerd.io", "2.*", hold=True)
REQUEST = Request("containerd", SOURCE, (CONTAINERD,), variable="docker")
SOURCE_FILE = "/etc/apt/sources.list.d/fpga-hybrid-containerd.sources"
KEY_FILE = "/etc/apt/keyrings/fpga-hybrid-containerd.asc"


class Debian:
    """dpkg and apt as far as the module uses them."""

    def __init__(self, root):
        self.root = root
        self.installed = {"bash": "5.2"}
        self.held = set()
        self.unfinished = {}
        #: name -> {version: url}; dependencies by name; what the lists know is what was there at the last update
        self.mirror = {"containerd.io": {"3.0-1": SOURCE.url, "2.4.2-1": SOURCE.url, "1.7-1": SOURCE.url}}
        self.depends = {"containerd.io": ["libseccomp2"]}
        self.suggests: dict[str, tuple[str, ...]] = {}
        self.lists = {}
        self.calls = []
        self.fails = {}
        self.policy_seen = None
        self.write("/etc/apt/sources.list", "deb http://deb.example.org/debian bookworm main\n")

    def path(self, path):
        return self.root / path.lstrip("/")

    def write(self, path, text):
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)

    def read(self, path):
        return self.path(path).read_text() if self.path(path).exists() else None

    def __call__(self, command, environment):
        assert environment["DEBIAN_FRONTEND"] == "noninteractive"
        words = [word for word in command if not word.startswith("-")]
        self.calls.append(" ".join(command))
        program = words[0]
        for pattern, answers in self.fails.items():
            if pattern in self.calls[-1] and answers:
                return 100, "", answers.pop(0)
        if program == "dpkg-query":
            return self.query(words[1:])
        if program == "dpkg-deb":
            return 0, self.read(words[1]), ""
        if program == "apt-cache":
            return 0, self.policy(words[2:]), ""
        if program == "apt-mark":
            {"hold": self.held.update, "unhold": self.held.difference_update}[words[1]](words[2:])
            return 0, "", ""
        if program == "dpkg":
            for path in self.path("/var/lib/dpkg/updates").iterdir():
                path.unlink()
            self.unfinished.clear()
            return 0, "", ""
        return self.apt_get([word for word in words[1:] if "::" not in word], simulate="--simulate" in command)

    def query(self, names):
        lines = []
        for name in names or self.installed:
            if name in self.installed:
                status = f"{'h' if name in self.held else 'i'}{'U' if name in self.unfinished else 'i'} "
                lines.append(f"{name}\t{status}\t{self.installed[name]}")
        return 0, "\n".join(lines), ""

    def policy(self, names):
        out = []
        for name in names:
            versions = self.lists.get(name)
            if versions:
                out += [f"{name}:", "  Installed: (none)", f"  Candidate: {next(iter(versions))}", "  Version table:"]
                for version, url in versions.items():
                    out += [f"     {version} 500", f"        500 {url} bookworm/stable amd64 Packages"]
        return "\n".join(out)

    def apt_get(self, words, simulate):
        verb, names = words[0], words[1:]
        if verb == "update":
            self.lists = {name: dict(versions) for name, versions in self.mirror.items()}
        elif verb == "install":
            self.policy_seen = self.read(POLICY)
            for name, version in (self.read(word).split() if word.startswith("/") else word.split("=") for word in names):
                assert name not in self.held
                for wanted in (name, *self.depends.get(name, ())):
                    self.installed.setdefault(wanted, "1")
                self.installed[name] = version
                self.unfinished.pop(name, None)
        elif verb == "purge":
            also = [user for user in self.installed for name in names if name in self.depends.get(user, ()) and user not in names]
            if simulate:
                return 0, "".join(f"Purg {name} [1]\n" for name in (*names, *also)), ""
            for name in names:
                assert name not in self.held
                self.installed.pop(name, None)
        elif verb == "autoremove":
            keepers = [self.depends] + ([] if "APT::AutoRemove::SuggestsImportant=false" in self.calls[-1] else [self.suggests])
            needed = {d for name in self.installed for reasons in keepers for d in reasons.get(name, ())}
            return 0, "".join(f"Remv {name} [1]\n" for name in ("libseccomp2", "old-of-the-user") if name in self.installed and name not in needed), ""
        return 0, "", ""

    def ran(self, pattern):
        return [call for call in self.calls if pattern in call]


#: A package file, as far as the double reads it.
ARCHIVE = "/var/cache/xrt.deb"
SHA256 = hashlib.sha256(b"xrt 2.16.204").hexdigest()


def of_file(**changes):
    return Request("xrt", None, (Package("xrt", None, hold=True, path=ARCHIVE, sha256=changes.get("sha256", SHA256)),))


@pytest.fixture
def debian(tmp_path):
    return Debian(tmp_path)


@pytest.fixture
def fetched():
    """What the repository's server gives as its key, and how often it was asked."""
    return {"key": KEY, "times": 0}


@pytest.fixture
def run(debian, fetched):
    def fetcher(url, source, proxy):
        fetched["times"] += 1
        if isinstance(fetched["key"], Exception):
            raise fetched["key"]
        return fetched["key"]

    def do(request=REQUEST, check=False, absent=False):
        debian.calls.clear()
        worker = Worker(Host(debian, root=str(debian.root), lock_timeout=0), Record.load(str(debian.root) + PATH), request, check, fetcher)
        return worker.absent() if absent else worker.present()

    return do


def record(debian):
    return json.loads(debian.read(PATH))["apt"]["containerd"]


def test_a_fresh_host_gets_source_key_pin_package_and_hold(debian, run):
    result = run()
    assert debian.installed["containerd.io"] == "2.4.2-1"
    assert debian.held == {"containerd.io"}
    assert result.packages == {"containerd.io": {"installed": "2.4.2-1", "was": None, "held": True}}
    assert oct(os.stat(debian.path("/etc/apt/auth.conf.d/fpga-hybrid-containerd.conf")).st_mode)[-3:] == "600"
    assert record(debian)["brought"] == ["libseccomp2"]


def test_a_converged_host_costs_one_query_and_no_network(debian, run, fetched):
    run()
    result = run()
    assert result.changes == []
    assert result.before == result.after
    assert len(debian.calls) == 1
    assert debian.calls[0].startswith("dpkg-query")
    assert fetched["times"] == 1


def test_check_mode_on_a_fresh_host_touches_nothing_and_says_what_would_be(debian, run, fetched):
    before = sorted(debian.root.rglob("*"))
    result = run(check=True)
    assert sorted(debian.root.rglob("*")) == before
    assert fetched["times"] == 0
    assert not debian.ran("apt-get")
    assert "containerd.io 2.* installed" in result.changes
    assert result.packages["containerd.io"]["installed"] is None
    exact = run(replace(REQUEST, packages=(Package("containerd.io", "2.4.2-1"),)), check=True)
    assert exact.packages["containerd.io"]["installed"] == "2.4.2-1"


def test_no_secret_is_in_what_is_told(debian, run):
    secret = replace(REQUEST, source=replace(SOURCE, password="hunter2"))
    for result in (run(secret, check=True), run(secret)):
        assert "hunter2" not in "\n".join((*result.changes, *result.before, *result.after))


DRIFTS = {
    "hold": (lambda d: d.held.clear(), ["containerd.io held again: its hold had been removed"]),
    "package": (
        lambda d: (d.held.clear(), d.installed.pop("containerd.io")),
        ["containerd.io 2.4.2-1 installed: it had been removed", "containerd.io held again: its hold had been removed"],
    ),
    "source": (lambda d: d.write(SOURCE_FILE, "Types: deb\n"), [f"source {SOURCE_FILE} mended: it had been edited"]),
    "source removed": (lambda d: d.path(SOURCE_FILE).unlink(), [f"source {SOURCE_FILE} written again: it had been removed"]),
    "key": (lambda d: d.write(KEY_FILE, "broken"), [f"trusted key {KEY_FILE} mended: it had been edited"]),
    "version": (
        lambda d: (d.held.clear(), d.installed.update({"containerd.io": "1.7-1"})),
        ["containerd.io 2.4.2-1 installed: it was 1.7-1", "containerd.io held again: its hold had been removed"],
    ),
    "version under our hold": (lambda d: d.installed.update({"containerd.io": "1.7-1"}), ["containerd.io 2.4.2-1 installed: it was 1.7-1"]),
    "mode of the credentials": (
        lambda d: d.path("/etc/apt/auth.conf.d/fpga-hybrid-containerd.conf").chmod(0o644),
        ["credentials /etc/apt/auth.conf.d/fpga-hybrid-containerd.conf: mode or owner mended"],
    ),
    "unfinished": (lambda d: d.unfinished.update({"containerd.io": 1}), ["containerd.io 2.4.2-1 installed: its installation had not ended: it was unpacked"]),
}  # fmt: skip


@pytest.mark.parametrize("name", DRIFTS)
def test_what_drifted_is_mended_and_nothing_else(name, debian, run):
    run()
    breaks, says = DRIFTS[name]
    breaks(debian)
    assert len(run(check=True).changes) == len(says)
    assert run().changes == says
    assert run().changes == []
    assert debian.installed["containerd.io"] == "2.4.2-1"
    assert debian.held == {"containerd.io"}


def test_an_interrupted_dpkg_is_brought_to_its_end(debian, run):
    run()
    debian.write("/var/lib/dpkg/updates/0001", "Package: x\n")
    assert run(check=True).changes == ["dpkg was interrupted earlier: its work was brought to an end (dpkg --configure -a)"]
    assert run().changes
    assert debian.ran("dpkg --force-confdef --force-confold --configure -a")
    assert run().changes == []


# Keys


def test_another_key_on_the_server_does_not_matter_while_ours_is_intact(debian, run, fetched):
    run()
    fetched["key"] = OTHER_KEY
    assert run().changes == []


def test_a_changed_key_is_refused_when_it_has_to_be_fetched_again(debian, run, fetched):
    run()
    debian.write(KEY_FILE, "broken")
    fetched["key"] = OTHER_KEY
    with pytest.raises(AptError, match="this host has trusted") as error:
        run()
    assert "cluster_mirrors.docker.key" in str(error.value)
    assert "accept_new_key" in str(error.value)
    assert debian.read(KEY_FILE) == "broken"


def test_a_changed_key_is_taken_when_asked(debian, run, fetched):
    run()
    fetched["key"] = OTHER_KEY
    assert run(replace(REQUEST, accept_new_key=True)).changes == [f"trusted key {KEY_FILE} brought up to date"]
    assert run().changes == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (urllib.error.HTTPError("u", 404, "Not Found", None, io.BytesIO()), "key"),
        (urllib.error.HTTPError("u", 401, "Unauthorized", None, io.BytesIO()), "login"),
        (urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")), "connect"),
        (urllib.error.URLError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), "tls"),
        (TimeoutError("timed out"), "connect"),
        (b"<html>please log in</html>", "key"),
    ],
)
def test_a_key_that_cannot_be_had(answer, kind, debian, run, fetched):
    fetched["key"] = answer
    with pytest.raises(AptError) as error:
        run()
    assert error.value.kind == kind
    assert "cluster_mirrors.docker." in str(error.value)
    assert debian.read(SOURCE_FILE) is None


# Mirrors that fail


def test_a_source_that_does_not_work_is_taken_back_so_that_the_hosts_own_apt_goes_on(debian, run):
    debian.fails["SourceList"] = ["E: Failed to fetch https://depot/x  401  Unauthorized [IP: 10.0.0.1 443]"]
    with pytest.raises(AptError, match=r"cluster_mirrors\.docker\.password"):
        run()
    assert not list(debian.path("/etc/apt").rglob("*fpga-hybrid*"))
    run()
    assert debian.installed["containerd.io"] == "2.4.2-1"


def test_a_source_that_worked_keeps_its_old_files_when_a_change_to_it_does_not(debian, run):
    run()
    old = debian.read(SOURCE_FILE)
    debian.fails["SourceList"] = ["E: The repository 'https://depot/x Release' does not have a Release file."]
    with pytest.raises(AptError):
        run(replace(REQUEST, source=replace(SOURCE, suite="trixie")))
    assert debian.read(SOURCE_FILE) == old


def test_a_mirror_that_fails_for_a_while_does_not_make_us_forget_which_key_we_trust(debian, run, fetched):
    run()
    debian.fails["SourceList"] = ["E: Failed to fetch https://depot/x  Connection refused"]
    with pytest.raises(AptError):
        run(replace(REQUEST, source=replace(SOURCE, suite="trixie")))
    debian.write(KEY_FILE, "broken")
    fetched["key"] = OTHER_KEY
    with pytest.raises(AptError, match="this host has trusted"):
        run()


def test_a_killed_run_that_had_written_the_source_is_not_taken_for_success(debian, run):
    """The files are there, but the source has never worked: the next run tries it, however little differs."""
    run(replace(REQUEST, packages=()))
    (stamp,) = debian.path("/var/lib/fpga-hybrid/apt").iterdir()
    stamp.unlink()
    run(replace(REQUEST, packages=()))
    assert debian.ran("update")


def test_lists_older_than_the_mirror_are_updated_once_more(debian, run):
    new = debian.mirror["containerd.io"].pop("2.4.2-1")
    run(replace(REQUEST, packages=()))
    debian.mirror["containerd.io"]["2.4.2-1"] = new
    run()
    assert debian.installed["containerd.io"] == "2.4.2-1"
    assert len(debian.ran("update")) == 1


PROXY = Proxy("http://proxy.example.org:3128", "http://proxy.example.org:3129", no_proxy=("depot",))


def test_the_hosts_own_sources_are_reached_over_the_proxy_before_the_host_has_any_setting(debian, run):
    debian.mirror["chrony"] = {"4.3": "http://deb.example.org/debian"}
    run(Request("host", None, (Package("chrony"),), proxy=PROXY))
    for verb in ("update", "install"):
        (call,) = debian.ran(f" {verb}")
        assert "-o Acquire::http::Proxy=http://proxy.example.org:3128 -o Acquire::https::Proxy=http://proxy.example.org:3129 " in call
    run(Request("host", None, (Package("chrony"), Package("kmod"))), check=True)
    assert not debian.ran("Proxy")


def test_a_source_that_is_reached_directly_stays_so_where_its_dependencies_come_over_the_proxy(debian, run):
    run(replace(REQUEST, proxy=PROXY))
    (call,) = debian.ran(" install")
    assert "-o Acquire::http::Proxy=http://proxy.example.org:3128" in call
    assert "-o Acquire::https::Proxy::depot=DIRECT" in call


@pytest.mark.skipif(not shutil.which("apt-config"), reason="apt takes these options on Debian")
def test_apt_reads_the_options_as_settings(tmp_path):
    done = subprocess.run(["apt-config", *ways(SOURCE, PROXY), "dump"], capture_output=True, text=True, check=True)
    assert 'Acquire::http::Proxy "http://proxy.example.org:3128";' in done.stdout
    assert 'Acquire::https::Proxy::depot "DIRECT";' in done.stdout


def test_a_file_that_is_gone_makes_it_update_everything_and_try_again(debian, run):
    debian.fails["install"] = ["E: Failed to fetch http://deb.example.org/x.deb  404  Not Found [IP: 1.2.3.4 80]"]
    run()
    assert debian.installed["containerd.io"] == "2.4.2-1"


def test_a_file_that_stays_gone_is_told_with_the_source_it_belongs_to(debian, run):
    debian.fails["install"] = ["E: Failed to fetch http://deb.example.org/x.deb  404  Not Found [IP: 1.2.3.4 80]"] * 2
    with pytest.raises(AptError, match="one of this host's own apt sources names files that it does not have"):
        run()


def test_an_error_of_another_owners_mirror_names_that_one(debian, run):
    debian_source = Source("https://depot/debian", "bookworm", ("main",))
    run(Request("host", debian_source, (), variable="debian"))
    debian.fails["install"] = ["E: Failed to fetch https://depot/debian/pool/libseccomp2.deb  Hash Sum mismatch"] * 2
    with pytest.raises(AptError, match=r"https://depot/debian bookworm main delivers differs.*cluster_mirrors\.debian\.url"):
        run()


def test_a_version_that_is_not_there_leaves_no_trace_in_the_record(debian, run):
    with pytest.raises(AptError, match=r"there is 3\.0-1, 2\.4\.2-1, 1\.7-1"):
        run(replace(REQUEST, packages=(Package("containerd.io", "9.*"),)))
    assert record(debian)["packages"] == {}


def test_another_program_that_works_with_packages_is_waited_for_only_so_long(debian, run):
    debian.fails["update"] = ["E: Could not get lock /var/lib/apt/lists/lock. It is held by process 4711 (apt-get)"]
    with pytest.raises(AptError, match="did not end in time"):
        run()


# Services


def test_services_stay_off_while_packages_are_installed(debian, run):
    run(replace(REQUEST, start_services=False))
    assert debian.policy_seen == POLICY_TEXT
    assert debian.read(POLICY) is None


def test_a_policy_of_somebody_else_comes_back_even_when_the_installation_fails(debian, run):
    debian.write(POLICY, "theirs")
    debian.fails["install"] = ["E: You don't have enough free space in /var/cache/apt/archives/."]
    with pytest.raises(AptError, match="no room left on the disk"):
        run(replace(REQUEST, start_services=False))
    assert debian.read(POLICY) == "theirs"


def test_what_a_killed_run_left_of_the_policy_is_cleaned_up(debian, run):
    run()
    debian.write(POLICY, POLICY_TEXT)
    debian.write(POLICY_KEPT, "theirs")
    assert run().changes == []
    assert debian.read(POLICY) == "theirs"


# What was there before us


def test_absent_removes_what_we_brought_and_what_only_that_needed(debian, run):
    debian.installed["old-of-the-user"] = "1"
    run()
    result = run(absent=True)
    assert debian.installed == {"bash": "5.2", "old-of-the-user": "1"}
    assert not list(debian.path("/etc/apt").rglob("*fpga-hybrid*"))
    assert "apt" not in json.loads(debian.read(PATH))
    assert result.changed
    assert not run(absent=True).changed


def test_a_package_that_was_there_stays_and_its_hold_is_given_back(debian, run):
    debian.installed["containerd.io"] = "2.1"
    assert run().packages["containerd.io"] == {"installed": "2.1", "was": "2.1", "held": True}
    assert "containerd.io no longer held, as it was before" in run(absent=True).changes
    assert debian.installed["containerd.io"] == "2.1"
    assert debian.held == set()


def test_check_mode_of_absent_predicts_and_touches_nothing(debian, run):
    run()
    predicted = run(absent=True, check=True)
    assert debian.installed["containerd.io"] == "2.4.2-1"
    assert debian.read(SOURCE_FILE)
    assert set(predicted.changes) <= set(run(absent=True).changes)


def test_a_package_that_two_owners_want_goes_with_the_last(debian, run):
    other = Request("docker", None, (Package("containerd.io"),))
    run()
    run(other)
    run(absent=True)
    assert "containerd.io" in debian.installed
    run(other, absent=True)
    assert "containerd.io" not in debian.installed


def test_what_we_brought_goes_although_a_package_of_the_host_suggests_it(debian, run):
    """As Debian's python3.11 does with python3.11-venv, whose dependencies then need a package that another role brought."""
    run()
    debian.installed["python3.11"] = "3.11.2"
    debian.suggests["python3.11"] = ("libseccomp2",)
    assert "libseccomp2 removed: nothing needs it any more" in run(absent=True).changes
    assert "libseccomp2" not in debian.installed


def test_a_dependency_that_we_brought_is_ours_when_another_role_asks_for_it_by_name(debian, run):
    other = Request("host", None, (Package("libseccomp2"),))
    run()
    assert run(other).packages["libseccomp2"]["was"] is None
    run(absent=True)
    assert "libseccomp2" in debian.installed
    run(other, absent=True)
    assert "libseccomp2" not in debian.installed


def test_something_of_the_users_that_needs_our_package_stops_the_removal(debian, run):
    run()
    debian.installed["docker-of-the-user"] = "1"
    debian.depends["docker-of-the-user"] = ["containerd.io"]
    with pytest.raises(AptError, match="docker-of-the-user needs what we installed"):
        run(absent=True)
    assert "containerd.io" in debian.installed


def test_a_run_killed_while_installing_leaves_a_record_that_this_is_ours(debian, run):
    real = debian.apt_get

    def killed(words, simulate):
        real(words, simulate)
        if words[0] == "install":
            raise KeyboardInterrupt
        return 0, "", ""

    debian.apt_get = killed
    with pytest.raises(KeyboardInterrupt):
        run()
    debian.apt_get = real
    assert run().packages["containerd.io"]["was"] is None
    run(absent=True)
    assert debian.installed == {"bash": "5.2"}


def test_a_repository_that_the_administrator_configured_is_used_as_it_is(debian, run):
    debian.write("/etc/apt/sources.list.d/docker.list", f"deb [signed-by=/x] {SOURCE.url} bookworm stable\n")
    result = run()
    assert debian.installed["containerd.io"] == "2.4.2-1"
    assert debian.read(SOURCE_FILE) is None
    assert result.changes == [
        "version pin /etc/apt/preferences.d/fpga-hybrid-containerd.pref written",
        "containerd.io 2.4.2-1 installed",
        "containerd.io held",
    ]


def test_two_processes_do_not_work_on_one_host_at_once(debian):
    host = Host(debian, root=str(debian.root), lock_timeout=0)
    other = Host(debian, root=str(debian.root), lock_timeout=0)
    with host.locked(), pytest.raises(AptError, match="another run"), other.locked():
        pass
    with other.locked():
        pass


def test_a_removal_with_nothing_to_remove_leaves_no_folder_behind(debian, run):
    """reset.yml ends with our folders; a second one must not find them anew."""
    with Host(debian, root=str(debian.root), lock_timeout=0).locked():
        assert run(absent=True).changes == []
    assert not debian.path(os.path.dirname(PATH)).exists()


def test_credentials_go_only_to_the_mirrors_own_host(monkeypatch):
    sent = []

    class Opener:
        def open(self, request, timeout):
            sent.append(request.unredirected_hdrs.get("Authorization"))
            return io.BytesIO(b"key")

    monkeypatch.setattr(_fetch.ssl, "create_default_context", lambda **_: None)
    monkeypatch.setattr(_fetch.urllib.request, "build_opener", lambda *_: Opener())
    _apt_host.fetch("https://depot/gpg", SOURCE, Proxy())
    _apt_host.fetch("https://elsewhere/gpg", SOURCE, Proxy())
    assert sent == ["Basic bGFiOnB3", None]


# Out of a file


def test_a_package_comes_out_of_a_file_once_and_goes_like_any_other(debian, run):
    debian.write(ARCHIVE, "xrt 2.16.204")
    result = run(of_file())
    assert debian.installed["xrt"] == "2.16.204"
    assert debian.held == {"xrt"}
    assert result.changes == ["xrt 2.16.204 installed", "xrt held"]
    assert not run(of_file()).changed
    run(of_file(), absent=True)
    assert "xrt" not in debian.installed


@pytest.mark.parametrize(
    ("content", "sha256", "said"),
    [
        ("xrt 2.16.204", "0" * 64, "expected 0000"),
        ("dkms 3", hashlib.sha256(b"dkms 3").hexdigest(), "holds dkms 3, expected xrt"),
        (None, SHA256, "cannot be read"),
    ],
)
def test_a_file_that_is_not_the_package_is_refused(content, sha256, said, debian, run):
    if content:
        debian.write(ARCHIVE, content)
    with pytest.raises(AptError) as refused:
        run(of_file(sha256=sha256))
    assert said in str(refused.value)
    assert "xrt" not in debian.installed


def test_a_check_predicts_a_file_that_is_still_to_be_fetched(debian, run):
    assert run(of_file(), check=True).changes == ["xrt (newest) installed", "xrt held"]
    debian.write(ARCHIVE, "xrt 2.16.204")
    assert run(of_file(), check=True).changes == ["xrt 2.16.204 installed", "xrt held"]
    assert "xrt" not in debian.installed
