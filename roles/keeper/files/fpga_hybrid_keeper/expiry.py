# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends on a day that is known, and what is to be done before."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import KubeadmError, certificate_ends

DAY = 86400.0
RENEW = "On the control plane: `kubeadm certs renew all`, then restart its static pods."
BY_HAND = "It is replaced by hand (Kubernetes documentation, Manual Rotation of CA Certificates): plan it now."
BY_KUBELET = "The kubelet renews it by itself: `journalctl -u kubelet` says why it has not."
BY_SITE = "Run site.yml, which renews it."
_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}")


@dataclass(frozen=True)
class Expiry:
    """what: for a person. name: for a metric, the same for ever. ends: seconds since 1970."""

    name: str
    what: str
    ends: float
    remedy: str

    def warning(self, now: float, days: int) -> str:
        """A sentence, or nothing while there is time. The same from day to day, so that it is known again."""
        if self.ends - now > days * DAY:
            return ""
        moment = datetime.fromtimestamp(self.ends, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        return f"{self.what} has ended ({moment}). {self.remedy}" if self.ends <= now else f"{self.what} ends on {moment}. {self.remedy}"


# --- files of the control plane ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """Certificates of a control plane that kubeadm has made. kubernetes: /etc/kubernetes. kubelet: the kubelet's own certificate."""

    kubernetes: str
    kubelet: str

    def paths(self) -> list[Path]:
        folder = Path(self.kubernetes)
        found = [*folder.glob("pki/*.crt"), *folder.glob("pki/etcd/*.crt"), *folder.glob("*.conf"), Path(self.kubelet)]
        return sorted(path for path in found if path.is_file())

    def fingerprint(self) -> tuple[tuple[str, int], ...]:
        """Differs when one of them was renewed."""
        found = []
        for path in self.paths():
            try:
                found.append((str(path), os.stat(path).st_mtime_ns))
            except FileNotFoundError:  # replaced just now
                continue
        return tuple(found)

    def read(self) -> tuple[list[Expiry], str]:
        """What ends when, and which files could not be read."""
        found, trouble = [], []
        for path in self.paths():
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
                ends = certificate_ends(_embedded(text) if path.suffix == ".conf" else text)
            except (OSError, KubeadmError, ValueError) as error:
                trouble.append(f"{path}: {error}")
                continue
            if ends:
                found.append(self._expiry(path, min(ends)))
        return found, "; ".join(trouble)

    def _expiry(self, path: Path, ends: float) -> Expiry:
        if path == Path(self.kubelet):
            return Expiry("kubelet", f"The control plane's kubelet's certificate ({path})", ends, BY_KUBELET)
        name = str(path.relative_to(self.kubernetes)).removeprefix("pki/").removesuffix(".crt")
        if path.name.endswith("ca.crt"):
            return Expiry(name, f"The cluster's CA {path}", ends, BY_HAND)
        what = f"The certificate in {path}" if path.suffix == ".conf" else f"Certificate {path}"
        return Expiry(name, what, ends, RENEW)


def _embedded(kubeconfig: str) -> str:
    """The client's certificate of a kubeconfig, or nothing: kubelet.conf names a file. By its line, because Python's library has no YAML."""
    found = re.search(r"client-certificate-data[\"']?:\s*[\"']?([A-Za-z0-9+/=]+)", kubeconfig)
    return base64.b64decode(found[1]).decode("ascii", "replace") if found else ""


# --- the VPN's authority ----------------------------------------------------------------------------------------------------------------


def of_authority(answer: Mapping[str, Any]) -> list[Expiry]:
    """From what `fpga-hybrid-vpn list` says. Access Server keeps the dates of its own to itself."""
    return [*_own(answer), *_clients(answer.get("clients") or [])]


def _own(answer: Mapping[str, Any]) -> Iterator[Expiry]:
    remedy = {
        "ca": ("The VPN's CA", "Every host needs a new profile with its successor: plan it now."),
        "server": ("The VPN server's certificate", BY_SITE),
    }
    for name, (what, todo) in remedy.items():
        if answer.get(f"{name}_not_after"):
            yield Expiry(f"vpn/{name}", what, seconds(answer[f"{name}_not_after"]), todo)


def _clients(clients: Sequence[Mapping[str, Any]]) -> Iterator[Expiry]:
    for client in clients:
        if client.get("not_after") and not client.get("revoked"):
            name = str(client["name"])
            remedy = "End that instance: its group starts another one, with a new certificate." if _INSTANCE.fullmatch(name) else BY_SITE
            yield Expiry(f"vpn/clients/{name}", f"The VPN certificate of {name}", seconds(client["not_after"]), remedy)


def revocation_list(answer: Mapping[str, Any]) -> Expiry | None:
    moment = answer.get("crl_next_update")
    remedy = "On the VPN server: `fpga-hybrid-vpn renew-crl` says what keeps it. When it has ended, the server refuses everybody."
    return Expiry("vpn/crl", "The VPN's revocation list", seconds(moment), remedy) if moment else None


def seconds(moment: str) -> float:
    """Of a moment in ISO 8601, as the authority writes it."""
    found = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
