# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts as lists of objects. helm only renders; L(_kubectl.py) applies, so that a second run and check mode know what would change."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

from ansible_collections.fpga.hybrid.plugins.module_utils._command import NOT_INSTALLED
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import KubeError, Object, Run, parse_yaml


class HelmError(KubeError):
    """A chart was not rendered; the message names chart, version and place, and what helm said."""


@dataclass(frozen=True)
class Chart:
    """A chart, and how it is to be rendered.

    name is a chart of C(repository) (an URL), or where that is empty a folder, or C(NAME/CHART) of a repository that helm has been told of.
    """

    release: str
    name: str
    version: str
    repository: str = ""
    namespace: str = "default"
    values: t.Mapping[str, t.Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.name} {self.version}" + (f" of {self.repository}" if self.repository else "")

    def command(self) -> list[str]:
        """Values go through standard input. Hooks (a Job that takes everything out before an uninstallation, tests) are no part of what is to stand."""
        repository = ["--repo", self.repository] if self.repository else []
        options = ["--version", self.version, "--namespace", self.namespace, "--include-crds", "--no-hooks", "--values", "-"]
        return ["helm", "template", self.release, self.name, *repository, *options]


def render(run: Run, chart: Chart) -> list[Object]:
    """The chart's objects, definitions included, hooks left out."""
    code, out, err = run(chart.command(), data=json.dumps(chart.values))
    # helm remembers what a repository had when it was told of it, and says so where that may be why a chart is missing.
    if code != 0 and "helm repo update" in err and run(["helm", "repo", "update", chart.name.partition("/")[0]])[0] == 0:
        code, out, err = run(chart.command(), data=json.dumps(chart.values))
    if code == NOT_INSTALLED:
        raise HelmError(f"helm is not installed here, so chart {chart.place} cannot be rendered. Role fpga.hybrid.helm installs it.")
    if code != 0:
        raise HelmError(f"helm cannot render chart {chart.place}: {err.strip()}")
    return parse_yaml(run, out, f"what chart {chart.place} renders")
