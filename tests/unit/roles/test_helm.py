# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When role helm adds the mirror of charts again: its condition, on files that helm 3.22 wrote."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).resolve().parents[3] / "roles" / "helm"
CA = "/etc/fpga-hybrid/helm/charts-ca.pem"


def written(**fields):
    """repositories.yaml as helm writes it, with a repository of somebody else before ours."""
    ours = {"caFile": "", "certFile": "", "insecure_skip_tls_verify": False, "keyFile": "", "name": "fpga-hybrid", "pass_credentials_all": False}
    ours = {**ours, "password": "", "url": "https://depot/charts", "username": "", **fields}
    return yaml.safe_dump({"apiVersion": "", "generated": "0001-01-01T00:00:00Z", "repositories": [{**ours, "name": "other", "url": "https://x"}, ours]})


def adds(charts, repositories):
    """Whether the task that adds the repository would run."""
    task = next(task for task in yaml.safe_load((ROLE / "tasks" / "mirror.yml").read_text()) if task["name"] == "Have helm know the mirror of charts")
    defined = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    variables = {name: _trusted(value) for name, value in defined.items() if name.startswith(("__helm_charts", "__helm_repository"))}
    content = {"content": base64.b64encode(repositories.encode()).decode()} if repositories else {}
    variables.update(cluster_mirrors={"charts": charts}, cluster_state_folder="/etc/fpga-hybrid", helm_mirror_name="fpga-hybrid", __helm_repositories=content)
    return Templar(loader=DataLoader(), variables=variables).evaluate_conditional(trust_as_template(task["when"]))


def _trusted(value):
    return {key: trust_as_template(text) for key, text in value.items()} if isinstance(value, dict) else trust_as_template(value)


PLAIN = {"url": "https://depot/charts"}


@pytest.mark.parametrize(
    ("charts", "repositories", "added"),
    [
        (PLAIN, "", True),
        (PLAIN, "repositories:\n", True),
        (PLAIN, written(), False),
        (PLAIN, written(url="https://former/charts"), True),
        ({**PLAIN, "ca": "PEM"}, written(), True),  # a CA that came later
        ({**PLAIN, "ca": "PEM"}, written(caFile=CA), False),
        (PLAIN, written(caFile=CA), True),  # a CA that is no longer needed
        ({**PLAIN, "username": "lab", "password": "new"}, written(username="lab", password="old"), True),
        ({**PLAIN, "username": "lab", "password": "new"}, written(username="lab", password="new"), False),
    ],
)
def test_the_mirror_is_added_again_when_anything_of_it_differs(charts, repositories, added):
    assert adds(charts, repositories) == added
