"""What roles fetch as plain files: Calico's manifests, charts and Python wheels."""

from __future__ import annotations

import html
import json
import platform
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from lab.depot import golang
from lab.depot.base import HERE, Cache, Stamp, digest_of, file_digest, lock, run, say, scratch
from lab.files import write_atomically
from lab.fpga import aws_sources

ROLES = HERE.parents[1] / "roles"
#: Stand-ins for charts that cannot be had, each in a folder of its version.
CHARTS = HERE / "charts"
#: Of the hosts: Debian 12's and 13's.
PYTHONS = ("3.11", "3.13")
#: What pip takes for wheels of these hosts: the names of glibc's age, up to Debian 12's 2.36.
PLATFORMS = (f"manylinux2014_{platform.machine()}", *(f"manylinux_2_{age}_{platform.machine()}" for age in (17, 24, 27, 28, 31, 34, 35, 36)))
#: Part of every stamp: raise it when this program writes something else from the same inputs.
FORMAT = "1"
CHART_NOTE = (
    "Packed by the lab of fpga.hybrid from Calico's Go module. The operator's image cannot be had in the lab: "
    "this chart can be fetched and rendered there, not run."
)


def calico_module(cache: Cache) -> Path:
    """Calico's sources in the module cache, downloaded and checked against go.sum if they are not there."""
    table = golang.read_table()
    goroot = golang.install_toolchain(cache, table)
    folder = golang.COMPONENTS / "calico"
    answer = run([goroot / "bin" / "go", "mod", "download", "-json", table.modules["calico"]], env=golang.environment(cache, goroot), cwd=folder)
    return Path(json.loads(answer)["Dir"])


def sums(files: Mapping[str, Path]) -> str:
    """As sha256sum writes them."""
    return "".join(f"{file_digest(path)}  {name}\n" for name, path in sorted(files.items()))


def publish_manifests(source: Path, target: Path) -> None:
    files = {path.name: path for path in source.glob("*.yaml")}
    for name, path in files.items():
        write_atomically(target / name, path.read_bytes())
    write_atomically(target / "SHA256SUMS", sums(files))


def labelled(chart: str) -> str:
    """Chart.yaml with a note on what this copy is."""
    return f"{chart.rstrip()}\nannotations:\n  fpga.hybrid/lab: {json.dumps(CHART_NOTE)}\n"


def publish_charts(cache: Cache, module: Path) -> None:
    """Package Calico's chart as upstream's release does, version given from outside, the lab's stand-ins as they are, and index the folder."""
    table = golang.read_table()
    helm = table.program("helm").path(cache)
    version = table.versions["calico"]
    target = cache.www / "charts"
    target.mkdir(parents=True, exist_ok=True)
    with scratch(cache) as folder:
        chart = folder / "tigera-operator"
        # The module cache is read-only, and so would be a plain copy.
        shutil.copytree(module / "charts" / "tigera-operator", chart, copy_function=shutil.copyfile)
        for path in [chart, *chart.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        description = chart / "Chart.yaml"
        description.write_text(labelled(description.read_text()))
        stand_ins = sorted(CHARTS.glob("*/*/"))
        # Nothing of the user's own helm settings, plugins or caches.
        env = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
        run([helm, "package", chart, "--version", version, "--app-version", version, "--destination", folder], env=env)
        for stand_in in stand_ins:
            run([helm, "package", stand_in, "--destination", folder], env=env)
        for stale in target.glob("*.tgz"):
            stale.unlink()
        for packed in folder.glob("*.tgz"):
            shutil.move(packed, target / packed.name)
        run([helm, "repo", "index", target, "--url", "https://depot/charts"], env=env)


def normalised(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def index_page(title: str, links: Iterable[tuple[str, str]]) -> str:
    body = "".join(f'<a href="{html.escape(target)}">{html.escape(text)}</a><br>\n' for text, target in links)
    return f"<!DOCTYPE html>\n<html><head><title>{html.escape(title)}</title></head>\n<body>\n{body}</body></html>\n"


def write_simple_index(wheels: Iterable[Path], target: Path) -> None:
    """A PEP 503 index of wheels that lie in target/../packages."""
    projects: dict[str, list[Path]] = {}
    for wheel in sorted(wheels):
        projects.setdefault(normalised(wheel.name.split("-")[0]), []).append(wheel)
    for project, files in projects.items():
        links = [(file.name, f"../../packages/{file.name}#sha256={file_digest(file)}") for file in files]
        write_atomically(target / project / "index.html", index_page(project, links))
    for stale in target.glob("*/"):
        if stale.name not in projects:
            shutil.rmtree(stale)
    write_atomically(target / "index.html", index_page("simple index", [(project, f"{project}/") for project in projects]))


def requirements() -> list[Path]:
    """What roles install in the hosts' virtual environments, with hashes: their own lock files."""
    return sorted(ROLES.glob("*/files/requirements.txt"))


def download_arguments(python: str, file: Path, target: Path) -> list[str | Path]:
    """pip's, for the wheels of one file that a host's Python takes; hashes and versions are the file's."""
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    what = ["--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--implementation", "cp", "--python-version", python, *platforms]
    return ["download", *what, "--dest", target, "--requirement", file]


def publish_wheels(cache: Cache) -> None:
    packages = cache.www / "python" / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    with scratch(cache) as folder:
        for file in requirements():
            for python in PYTHONS:
                golang.pip(cache, *download_arguments(python, file, folder))
        fetched = list(folder.glob("*.whl"))
        for wheel in fetched:
            shutil.copyfile(wheel, packages / wheel.name)
    names = {wheel.name for wheel in fetched}
    for stale in packages.iterdir():
        if stale.name not in names:
            stale.unlink()
    write_simple_index(packages.glob("*.whl"), cache.www / "python" / "simple")


def publish_aws_fpga(cache: Cache) -> None:
    """Where role aws_fpga looks for the SDK's sources in a mirror: those of the lab's double."""
    target = cache.www / "files" / "aws-fpga"
    path = target / f"{aws_sources.NAME}.tar.gz"
    write_atomically(path, aws_sources.archive())
    write_atomically(target / "SHA256SUMS", sums({path.name: path}))


def publish_key(cache: Cache, key: str) -> None:
    """Where a role looks for the key of the Debian mirror when its inventory gives none."""
    write_atomically(cache.depot / "key.asc", key)
    write_atomically(cache.www / "debian" / "Release.key", key)


def build(cache: Cache) -> None:
    table = golang.read_table()
    calico = golang.COMPONENTS / "calico"
    target = cache.www / "files" / "calico" / table.versions["calico"] / "manifests"
    index = cache.www / "python" / "simple" / "index.html"
    stamp = Stamp(cache.depot / "files.stamp")
    helm = str(table.program("helm").stamp(cache).read().get("sha256"))
    inputs = digest_of(
        FORMAT,
        table.versions["calico"],
        calico / "go.mod",
        calico / "go.sum",
        helm,
        *PYTHONS,
        *PLATFORMS,
        *requirements(),
        CHART_NOTE,
        *(part for path in sorted(CHARTS.rglob("*.*")) if path.is_file() for part in (str(path.relative_to(CHARTS)), path)),
        aws_sources.archive(),
    )
    if stamp.is_current(inputs, target / "SHA256SUMS", cache.www / "charts" / "index.yaml", index):
        return
    with lock(cache, "files"):
        module = calico_module(cache)
        publish_manifests(module / "manifests", target)
        publish_charts(cache, module)
        publish_wheels(cache)
        publish_aws_fpga(cache)
        stamp.write(inputs)
        say("depot: manifests, charts and wheels published")
