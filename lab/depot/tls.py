"""The lab's own certificate authority, the depot's certificate and its password."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from lab.depot.base import Cache, DepotError, run
from lab.files import write_atomically

USER = "lab"
CA_DAYS = 3650
SERVER_DAYS = 800
RENEW_BEFORE = 60 * 24 * 3600


def ca(cache: Cache) -> Path:
    return cache.tls / "ca.crt"


def password_file(cache: Cache) -> Path:
    return cache.depot / "password"


def password(cache: Cache) -> str:
    return password_file(cache).read_text().strip()


def _lasts(certificate: Path) -> bool:
    try:
        run(["openssl", "x509", "-in", certificate, "-noout", "-checkend", str(RENEW_BEFORE)])
    except DepotError:
        return False
    return True


def _key(path: Path) -> None:
    if not path.exists():
        write_atomically(path, run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]), 0o600)


def ensure(cache: Cache, names: Sequence[str]) -> None:
    """Have an authority, a server certificate for exactly these subject alternative names, and a password."""
    cache.tls.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority, key = ca(cache), cache.tls / "ca.key"
    server, server_key, wanted = cache.tls / "server.crt", cache.tls / "server.key", cache.tls / "server.names"
    _key(key)
    if not _lasts(authority):
        extensions = ["basicConstraints=critical,CA:TRUE,pathlen:0", "keyUsage=critical,keyCertSign,cRLSign"]
        options = [part for extension in extensions for part in ("-addext", extension)]
        # Debian's openssl.cnf marks a self-signed certificate as an authority by itself; with our own extensions it would say so twice.
        config = cache.tls / "req.cnf"
        write_atomically(config, "[req]\ndistinguished_name = dn\n[dn]\n")
        pem = run(["openssl", "req", "-config", config, "-new", "-x509", "-key", key, "-days", str(CA_DAYS), "-subj", "/CN=fpga.hybrid lab", *options])
        write_atomically(authority, pem)
        wanted.unlink(missing_ok=True)
    _key(server_key)
    alternatives = ",".join(names)
    if not (_lasts(server) and wanted.exists() and wanted.read_text() == alternatives):
        request, extensions_file = cache.tls / "server.csr", cache.tls / "server.ext"
        write_atomically(request, run(["openssl", "req", "-config", cache.tls / "req.cnf", "-new", "-key", server_key, "-subj", "/CN=depot"]))
        write_atomically(
            extensions_file,
            f"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName={alternatives}\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
        )
        serial = f"0x{secrets.token_hex(16)}"
        sign: list[str | Path] = ["openssl", "x509", "-req", "-in", request, "-CA", authority, "-CAkey", key, "-set_serial", serial]
        write_atomically(server, run([*sign, "-days", str(SERVER_DAYS), "-extfile", extensions_file]))
        write_atomically(wanted, alternatives)
    if not password_file(cache).exists():
        write_atomically(password_file(cache), secrets.token_urlsafe(24) + "\n", 0o600)


def htpasswd(cache: Cache) -> str:
    """nginx's line for the password; a new salt each time, so write it only when the password is new."""
    hashed = run(["openssl", "passwd", "-6", "-stdin"], stdin=password(cache) + "\n").strip()
    return f"{USER}:{hashed}\n"
