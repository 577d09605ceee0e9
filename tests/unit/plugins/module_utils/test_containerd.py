# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
import tomllib

from ansible_collections.fpga.hybrid.plugins.module_utils import _containerd as c
from ansible_collections.fpga.hybrid.plugins.module_utils._merged_file import merge
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import EngineError

OPTIONS = c.Options("registry.k8s.io/pause:3.10.2")
RUNC = {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": True}}


@pytest.mark.parametrize(
    ("version", "schema"),
    [("1.7.24", 2), ("2.0.0", 3), ("2.2.9", 3), ("2.3.0", 4), ("2.4.2", 4), ("2.10.0", 4), ("2.*", 4), ("2.1.*", 3), ("3.0.1", 4)],
)
def test_schema_follows_the_version(version, schema):
    assert c.schema_for(version) == schema


def test_schema_2_has_one_plugin_for_all():
    plugins = c.wanted(2, {}, OPTIONS)["plugins"]
    assert plugins == {
        "io.containerd.grpc.v1.cri": {
            "registry": {"config_path": "/etc/containerd/certs.d"},
            "sandbox_image": "registry.k8s.io/pause:3.10.2",
            "containerd": {"default_runtime_name": "runc", "runtimes": {"runc": RUNC}},
        }
    }


@pytest.mark.parametrize("schema", [3, 4])
def test_schemas_since_2_0_have_one_plugin_for_images_and_one_for_containers(schema):
    tree = c.wanted(schema, {}, OPTIONS)
    assert tree["version"] == schema
    assert tree["plugins"]["io.containerd.cri.v1.images"]["pinned_images"] == {"sandbox": "registry.k8s.io/pause:3.10.2"}
    assert tree["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]["runc"] == RUNC


@pytest.mark.parametrize("name", ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"])
def test_the_kubelets_interface_is_switched_on_and_other_plugins_stay_off(name):
    """Docker's package switches it off."""
    found = {"disabled_plugins": [name, "io.containerd.snapshotter.v1.btrfs"]}
    assert c.wanted(4, found, OPTIONS)["disabled_plugins"] == ["io.containerd.snapshotter.v1.btrfs"]


def test_nothing_is_said_of_disabled_plugins_where_the_file_says_nothing():
    assert "disabled_plugins" not in c.wanted(4, {}, OPTIONS)


def test_a_search_path_with_our_folder_in_it_stays():
    path = "/etc/containerd/certs.d:/etc/docker/certs.d"
    found = {"plugins": {c.IMAGES: {"registry": {"config_path": path}}}}
    assert c.wanted(4, found, OPTIONS)["plugins"][c.IMAGES]["registry"]["config_path"] == path


def test_extra_config_wins():
    extra = {"plugins": {c.RUNTIME: {"disable_apparmor": True, "containerd": {"default_runtime_name": "crun"}}}}
    runtime = c.wanted(4, {}, c.Options(None, extra=extra))["plugins"][c.RUNTIME]
    assert runtime["disable_apparmor"] is True
    assert runtime["containerd"]["default_runtime_name"] == "crun"
    assert runtime["containerd"]["runtimes"]["runc"] == RUNC


# Migration


@pytest.mark.parametrize(
    ("found", "needed"),
    [
        ({}, False),
        ({"disabled_plugins": ["cri"]}, False),  # Docker's package: schema 1, but nothing in it has another meaning now
        ({"version": 4, "plugins": {"x": {"a": 1}}}, False),
        ({"version": 2, "root": "/data"}, False),
        ({"version": 2, "plugins": {c.CRI_V1: {"a": 1}}}, True),
        ({"version": 3, "grpc": {"address": "/x"}}, True),
        ({"disabled_plugins": ["btrfs"]}, True),
    ],
)
def test_a_file_is_migrated_only_if_the_schema_matters_to_it(found, needed):
    assert c.needs_migration(found, 4) is needed


def test_only_what_the_user_set_is_taken_from_a_dump():
    defaults = {"version": 4, "root": "/var/lib/containerd", "plugins": {"a": {"x": 1, "y": {"z": []}}}}
    dumped = merge(defaults, {"root": "/data", "plugins": {"a": {"y": {"z": ["own"]}}, "b": {"c": True}}})
    assert c.without_defaults(dumped, defaults) == {"root": "/data", "plugins": {"a": {"y": {"z": ["own"]}}, "b": {"c": True}}}


# Problems


def test_a_default_runtime_that_nobody_describes_is_refused_by_name():
    (problem,) = c.problems(4, c.wanted(4, {}, c.Options(None, "inaccel")))
    assert "inaccel" in problem
    assert "runc" in problem
    assert "containerd_extra_config" in problem


def test_a_default_runtime_that_contradicts_the_kubelets_cgroup_driver_is_refused():
    extra = {"plugins": {c.RUNTIME: {"containerd": {"runtimes": {"own": {"runtime_type": "io.containerd.runc.v2"}}}}}}
    (problem,) = c.problems(4, c.wanted(4, {}, c.Options(None, "own", extra)))
    assert "SystemdCgroup" in problem


def test_a_sandboxed_default_runtime_needs_no_cgroup_option():
    extra = {"plugins": {c.RUNTIME: {"containerd": {"runtimes": {"kata": {"runtime_type": "io.containerd.kata.v2"}}}}}}
    assert c.problems(4, c.wanted(4, {}, c.Options(None, "kata", extra))) == []


def test_old_mirrors_beside_ours_are_refused_because_containerd_would_not_start():
    found = {"plugins": {c.IMAGES: {"registry": {"mirrors": {"docker.io": {"endpoint": ["https://m"]}}}}}}
    (problem,) = c.problems(4, merge(found, c.wanted(4, found, OPTIONS)))
    assert "hosts.toml" in problem


def test_a_key_that_containerd_drops_or_an_import_overrides_is_found():
    ours = {"version": 4, "plugins": {"x": {"kown": True, "set": 1, "empty": {}}}}
    assert c.not_effective(ours, {"version": 4, "plugins": {"x": {"set": 2}}}) == [("plugins", "x", "kown"), ("plugins", "x", "set")]


# Registries


def hosts(registry):
    files = c.registry_files([registry])
    file = files[f"/etc/containerd/certs.d/{registry.name}/hosts.toml"]
    return tomllib.loads(file.text), file, files


def test_a_mirror_serves_each_registry_below_its_name_and_nothing_else_is_asked():
    tree, file, files = hosts(c.Registry("registry.k8s.io", "https://depot:5000", "PEM", "lab", "hunter2", folder="registry.k8s.io"))
    assert tree["server"] == "https://depot:5000/v2/registry.k8s.io"
    assert tree["override_path"] is True
    assert tree["header"]["Authorization"] == "Basic bGFiOmh1bnRlcjI="
    assert "host" not in tree
    assert file.mode == 0o600
    assert files[tree["ca"]].text == "PEM\n"


def test_a_mirror_may_itself_lie_below_a_path():
    tree = hosts(c.Registry("docker.io", "https://harbor.site/proxy/", folder="docker.io"))[0]
    assert tree["server"] == "https://harbor.site/v2/proxy/docker.io"


def test_a_registry_of_the_sites_own_is_addressed_as_it_is():
    tree = hosts(c.Registry("registry.site:5000", "https://registry.site:5000"))[0]
    assert tree == {"server": "https://registry.site:5000", "capabilities": ["pull", "resolve"]}


def test_one_authority_is_one_file():
    files = c.registry_files([c.Registry(name, "https://depot", "PEM", folder=name) for name in ("docker.io", "quay.io")])
    assert len([path for path in files if path.endswith(".crt")]) == 1


@pytest.mark.parametrize("url", ["depot:5000", "https://", "https://lab:secret@depot", "ftp://depot"])
def test_a_mirror_without_a_usable_address_is_refused_by_the_variables_name(url):
    with pytest.raises(EngineError, match=r"cluster_mirrors\.images\.url"):
        c.registry_files([c.Registry("docker.io", url, folder="docker.io")])


@pytest.mark.parametrize("name", ["", "depot/x", "../x"])
def test_a_registrys_name_cannot_lead_out_of_its_folder(name):
    with pytest.raises(EngineError):
        c.registry_files([c.Registry(name, "https://depot")])


def test_the_password_is_not_in_the_registrys_repr():
    assert "hunter2" not in repr(c.Registry("a", "https://a", None, "u", "hunter2"))


# The unit


def test_a_drop_in_holds_overrides_and_the_proxy_stands_in_a_file_of_its_own():
    """systemctl show tells everybody what Environment= says, and a proxy's URL may hold a password."""
    files = c.unit_files("containerd", {"LimitNOFILE": 20000, "ExecStartPre": ["a", "b"]}, c.proxy_environment(None, 'http://u:p"$@proxy', "10.0.0.0/8"))
    drop_in = files["/etc/systemd/system/containerd.service.d/10-fpga-hybrid.conf"].text
    assert drop_in.splitlines()[1:] == ["[Service]", "LimitNOFILE=20000", "ExecStartPre=a", "ExecStartPre=b", "EnvironmentFile=/etc/fpga-hybrid/containerd.env"]
    environment = files["/etc/fpga-hybrid/containerd.env"]
    assert environment.mode == 0o600
    assert 'https_proxy="http://u:p\\"\\$@proxy"' in environment.text
    assert "HTTP_PROXY" not in environment.text


def test_without_overrides_and_proxy_there_is_no_drop_in():
    assert c.unit_files("containerd", {}, c.proxy_environment(None, None, "10.0.0.0/8")) == {}
