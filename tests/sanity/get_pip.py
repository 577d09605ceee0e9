#!/usr/bin/env python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for get-pip.py, which ansible-test would download from a host that cannot be reached from everywhere.

Called as the real one is: `get_pip.py [options] pip==X ...`. Takes pip from the interpreter's own ensurepip, then the
versions asked for from the package index. ansible-test strips every PIP_ variable, so the certificates are named here.
"""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

ensurepip.bootstrap(default_pip=True)
environment = dict(os.environ)
if os.path.exists(CERTIFICATES):
    environment.setdefault("PIP_CERT", CERTIFICATES)
requirements = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements], env=environment)
