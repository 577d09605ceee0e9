# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga-hybrid-keeper: enrols the cluster's EC2 instances, lifts their startup taints, and clears away what is left of those that have gone.

Python's standard library, and the package fpga_hybrid of role bootstrap, whose other end this is.
"""
