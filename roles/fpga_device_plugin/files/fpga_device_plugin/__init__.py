# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fpga.hybrid device plugin: a host's FPGA boards as resources of the kubelet, by board or by accelerator.

What is decided is pure and stands in boards, discovery, catalogue, ownership, packing and answer; what talks to others (the kubelet, AWS' tools,
the API server, Prometheus, systemd) in the other modules; daemon puts them together.
"""
