"""/lib/modules for the hosts: `modprobe br_netfilter` must succeed where the machine's kernel has it, loadable or built in."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from lab.run import run
from lab.settings import STATE

#: Modules that Kubernetes, Calico, Docker and OpenVPN load or look for: (path as in modules.builtin, kernel option).
KNOWN = {
    "fs/overlayfs/overlay": "OVERLAY_FS",
    "net/bridge/bridge": "BRIDGE",
    "net/bridge/br_netfilter": "BRIDGE_NETFILTER",
    "net/netfilter/nf_conntrack": "NF_CONNTRACK",
    "net/netfilter/nf_nat": "NF_NAT",
    "net/netfilter/nf_tables": "NF_TABLES",
    "net/netfilter/x_tables": "NETFILTER_XTABLES",
    "net/ipv4/netfilter/ip_tables": "IP_NF_IPTABLES",
    "net/ipv4/netfilter/iptable_filter": "IP_NF_FILTER",
    "net/ipv4/netfilter/iptable_nat": "IP_NF_NAT",
    "net/ipv6/netfilter/ip6_tables": "IP6_NF_IPTABLES",
    "net/netfilter/xt_conntrack": "NETFILTER_XT_MATCH_CONNTRACK",
    "net/netfilter/xt_set": "NETFILTER_XT_SET",
    "net/netfilter/ipset/ip_set": "IP_SET",
    "net/netfilter/ipvs/ip_vs": "IP_VS",
    "net/netfilter/ipvs/ip_vs_rr": "IP_VS_RR",
    "net/netfilter/ipvs/ip_vs_wrr": "IP_VS_WRR",
    "net/netfilter/ipvs/ip_vs_sh": "IP_VS_SH",
    "drivers/net/vxlan/vxlan": "VXLAN",
    "drivers/net/tun": "TUN",
    "drivers/net/veth": "VETH",
    "drivers/net/dummy": "DUMMY",
    "net/ipv4/ipip": "NET_IPIP",
}


def kernel_config(release: str) -> set[str]:
    """Options that this kernel has built in (=y); empty if it tells nobody."""
    running, installed = Path("/proc/config.gz"), Path(f"/boot/config-{release}")
    if running.exists():
        text = gzip.decompress(running.read_bytes()).decode()
    elif installed.exists():
        text = installed.read_text()
    else:
        return set()
    return set(re.findall(r"^CONFIG_(\w+)=y$", text, re.MULTILINE))


def built_in(options: Iterable[str]) -> list[str]:
    present = set(options)
    return [f"kernel/{path}.ko" for path, option in KNOWN.items() if option in present]


# Hosts are made side by side.
ONE_AT_A_TIME = threading.Lock()


def folder() -> Path:
    """The folder to mount read-only at /lib/modules: the machine's own if it has one for its kernel, else one that tells what is built in."""
    release = os.uname().release
    own = Path("/lib/modules")
    if (own / release / "modules.dep").exists():
        return own
    with ONE_AT_A_TIME:
        return made_up(release)


def made_up(release: str) -> Path:
    made = STATE / "modules"
    target = made / "lib/modules" / release
    builtin = "".join(f"{line}\n" for line in built_in(kernel_config(release)))
    if not (target / "modules.builtin.bin").exists() or (target / "modules.builtin").read_text() != builtin:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        (target / "modules.builtin").write_text(builtin)
        (target / "modules.order").write_text("")
        run("depmod", "--basedir", made, release)
    return made / "lib/modules"
