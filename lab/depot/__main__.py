"""`python3 -m lab.depot`: the depot alone, as `lab/lab depot` has it."""

from __future__ import annotations

import argparse
import sys

from lab import depot
from lab.settings import LabError


def main() -> int:
    top = argparse.ArgumentParser(prog="lab.depot", description="The lab's mirror.")
    depot.add_verbs(top)
    options = top.parse_args()
    try:
        options.action(options)
    except LabError as error:
        print(f"depot: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
