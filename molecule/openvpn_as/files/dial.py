"""A client dials in: says the address that it gets, or why it is refused."""

import sys
from pathlib import Path

sys.path.insert(0, "/usr/local/openvpn_as/lab")

from access_server_double import AccessServer, RefusedError

try:
    print(AccessServer(Path("/usr/local/openvpn_as/etc/db")).connect(sys.argv[1]))
except RefusedError as refusal:
    sys.exit(str(refusal))
