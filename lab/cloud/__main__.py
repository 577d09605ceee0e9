"""python -m lab.cloud --listen ADDRESS:PORT"""

from __future__ import annotations

import argparse
import signal
import sys
import threading


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.cloud", description="The lab's AWS: moto, and in front of it a proxy for what moto lacks.")
    parser.add_argument("--listen", default="127.0.0.1:5000", metavar="ADDRESS:PORT", help="where to serve; port 0 takes a free one (default: %(default)s)")
    address, colon, port = parser.parse_args().listen.rpartition(":")
    if not (colon and address and port.isdecimal() and int(port) < 65536):
        parser.error("--listen wants ADDRESS:PORT, for example 127.0.0.1:5000")
    from lab.cloud.server import Cloud  # takes seconds

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        with Cloud(address, int(port)) as cloud:
            print(f"ready {cloud.url} (control: {cloud.control_url}/)", flush=True)
            ended.wait()
    except OSError as error:
        sys.exit(f"error: cannot listen on {address}:{port}: {error.strerror or error}. Take another address, or port 0 for a free one.")


if __name__ == "__main__":
    main()
