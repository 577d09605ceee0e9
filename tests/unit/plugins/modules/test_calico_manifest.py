# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""calico_manifest, where the manifest cannot be had."""

from __future__ import annotations

import hashlib

MANIFEST = {"pod_network": "10.244.0.0/16", "mtu": 1350}


def test_a_manifest_that_cannot_be_fetched_is_told_with_what_to_do(call, tmp_path):
    answer = call("calico_manifest", url="http://127.0.0.1:9/calico.yaml", checksum=f"sha256:{'0' * 64}", dest=str(tmp_path / "calico.json"), **MANIFEST)
    assert answer["msg"].startswith("http://127.0.0.1:9/calico.yaml cannot be fetched")
    assert "cluster_mirrors.files" in answer["msg"]
    assert list(tmp_path.iterdir()) == []


def test_another_manifest_than_the_pinned_one_is_not_taken(call, tmp_path):
    there = tmp_path / "upstream.yaml"
    there.write_text("kind: List\n")
    answer = call("calico_manifest", url=there.as_uri(), checksum=f"sha256:{'0' * 64}", dest=str(tmp_path / "calico.json"), **MANIFEST)
    assert hashlib.sha256(b"kind: List\n").hexdigest() in answer["msg"]
    assert list(tmp_path.iterdir()) == [there]
