#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: xrt_flash
short_description: Flashes the shell into named Alveo cards
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Flashes a card only if its serial number is named, and only while it holds the image that it was sold with, or, where a shell has two parts, the first.
  - Where C(xbmgmt) fails, its card counts as not flashed, and the next run flashes it.
  - A card shows what it holds after a cold boot, that is, power off and on; until then it is not flashed again. What is due stands in
    C(/var/lib/fpga-hybrid/xrt-flashed.json).
attributes:
  check_mode:
    support: full
    description: Predicts. Numbers that no driver can tell yet are taken for right.
  diff_mode:
    support: full
    description: Shows the calls of C(xbmgmt).
options:
  host:
    description: The host's name, for messages.
    type: str
    required: true
  serials:
    description: Serial numbers of the cards that may be flashed. Other cards stay as they are.
    type: list
    elements: str
    default: []
  partitions:
    description: The second part of a shell by board, for boards whose shell has two.
    type: dict
    default: {}
  sysfs_root:
    description: Where the kernel's C(/sys) is.
    type: path
    default: /sys
  dev_root:
    description: Where the kernel's C(/dev) is.
    type: path
    default: /dev
"""

EXAMPLES = r"""
- name: Flash one card
  fpga.hybrid.xrt_flash:
    host: "{{ inventory_hostname }}"
    serials: [21290594G00C]
"""

RETURN = r"""
flashed:
  description: What was, or would be, flashed, each with C(slot), C(board), C(serial), C(stage).
  returned: success
  type: list
  elements: dict
cold_boot_due:
  description: Serial numbers of cards that show what they hold only after a cold boot.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _xrt
from ansible_collections.fpga.hybrid.plugins.module_utils._boards import alveo_cards
from ansible_collections.fpga.hybrid.plugins.module_utils._xrt_host import FLASHED, FlashError, host_of


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "serials": {"type": "list", "elements": "str", "default": []},
            "partitions": {"type": "dict", "default": {}},
            "sysfs_root": {"type": "path", "default": "/sys"},
            "dev_root": {"type": "path", "default": "/dev"},
        },
        supports_check_mode=True,
    )
    params = module.params
    host = host_of(module)
    cards = alveo_cards(host.sysfs, host.dev)
    before = host.pending()
    pending = _xrt.still_pending(cards, before)
    serials = params["serials"]
    if module.check_mode and not all(card.serial for card in cards):
        there = {card.serial for card in cards}
        unread = [serial for serial in serials if serial not in there]
        serials = [serial for serial in serials if serial in there]
        if unread:
            module.warn(f"{params['host']}: whether a card has the number {', '.join(unread)} cannot be read before the driver is there; a run looks then.")
    try:
        steps = _xrt.plan_flash(params["host"], cards, serials, params["partitions"], pending) if serials or not module.check_mode else []
        for step in steps:
            if not module.check_mode:
                # Before the call: one that is killed may have written.
                earlier = dict(pending)
                pending[step.card.serial] = step.stage
                host.remember(pending)
                try:
                    host.flash(step)
                except FlashError:  # it ended by itself, and says that it did not
                    host.remember(earlier)
                    raise
        if pending != before and not module.check_mode:
            host.remember(pending)
    except (ValueError, FlashError, OSError) as error:
        module.fail_json(msg=str(error))
    due = sorted({*pending, *(step.card.serial for step in steps)})
    if due:
        module.warn(
            f"{params['host']}: cold boot due. Cards {', '.join(due)} were flashed and show it only after power off and on (a warm reboot is not enough). "
            f"If that has been, and nothing came of it, remove /{FLASHED} to have them flashed once more."
        )
    flashed = [{"slot": step.card.slot, "board": step.card.board, "serial": step.card.serial, "stage": step.stage} for step in steps]
    lines = "".join(f"xbmgmt {' '.join(step.arguments)}\n" for step in steps)
    module.exit_json(changed=bool(steps), flashed=flashed, cold_boot_due=due, diff={"before": "", "after": lines})


if __name__ == "__main__":
    main()
