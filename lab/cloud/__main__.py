"""python -m lab.cloud --listen ADDRESS:PORT [--hosts IMAGE]"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import sys
import threading

from lab.settings import LabError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.cloud", description="The lab's AWS: moto, and in front of it a proxy for what moto lacks.")
    parser.add_argument("--listen", default="127.0.0.1:5000", metavar="ADDRESS:PORT", help="where to serve; port 0 takes a free one (default: %(default)s)")
    parser.add_argument("--hosts", metavar="IMAGE", help="give every instance a host of this image, in the lab's network vpc (as root, over a running lab)")
    options = parser.parse_args()
    address, colon, port = options.listen.rpartition(":")
    if not (colon and address and port.isdecimal() and int(port) < 65536):
        parser.error("--listen wants ADDRESS:PORT, for example 127.0.0.1:5000")
    from lab.cloud.server import Cloud  # takes seconds

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with contextlib.ExitStack() as running:
        try:
            cloud = running.enter_context(Cloud(address, int(port)))
        except OSError as error:
            remedy = "Is the lab up (`lab/lab up`)? Its addresses come and go with it" if error.errno == errno.EADDRNOTAVAIL else "Take another address"
            sys.exit(f"error: cannot listen on {address}:{port}: {os.strerror(error.errno or 0)}. {remedy}, or port 0 for a free one.")
        try:
            cars = None
            if options.hosts:
                from lab.cloud.sidecar import SideCar

                cars = running.enter_context(SideCar(cloud, options.hosts))
            print(f"ready {cloud.url} (control: {cloud.control_url}/)", flush=True)
            while not ended.wait(1):
                if cars is not None:
                    cars.check()
        except LabError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
