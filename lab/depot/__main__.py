"""`python3 -m lab.depot`: the depot alone, as `lab/lab depot` has it."""

from __future__ import annotations

import argparse
import sys

from lab import depot
from lab.settings import LabError


def main() -> int:
    top = argparse.ArgumentParser(prog="lab.depot", description="The site's mirror of the lab.")
    verbs = top.add_subparsers(required=True, metavar="VERB", dest="verb")
    build = verbs.add_parser("build", help="build, fetch and pack what is missing")
    build.add_argument("--refresh", action="store_true", help="fetch Debian's updates too")
    verbs.add_parser("up", help="serve it")
    verbs.add_parser("remove", help="take the container away; the cache stays")
    verbs.add_parser("status", help="what is missing, whether it serves")
    verbs.add_parser("list", help="all that it has")
    options = top.parse_args()
    try:
        if options.verb == "build":
            depot.build(refresh=options.refresh)
        elif options.verb == "up":
            depot.up()
        elif options.verb == "remove":
            depot.remove()
        else:
            print({"status": depot.status, "list": depot.listing}[options.verb](), end="")
    except LabError as error:
        print(f"depot: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
