"""Speaks the registry protocol with the depot's own registry."""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import IO
from urllib.parse import urlencode

from lab.depot import oci
from lab.depot.base import DepotError

ACCEPT = ", ".join(sorted(oci.INDEXES | oci.MANIFESTS))
BLOCK = 1 << 20


class Registry:
    """One connection to a registry; use it with `with`."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, username: str, password: str) -> None:
        self._connection = http.client.HTTPSConnection(host, port, context=context, timeout=300, blocksize=BLOCK)
        self._headers = {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes | IO[bytes] | None = None, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
        try:
            self._connection.request(method, path, body=body, headers={**self._headers, **(headers or {})})
            answer = self._connection.getresponse()
            # The connection carries the next request only once this answer is read.
            content = answer.read()
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            raise DepotError(f"the depot's registry: {method} {path}: {error}. Is the depot up? lab/lab depot up") from error
        if answer.status >= 400 and answer.status != 404:
            raise DepotError(f"the depot's registry: {method} {path}: {answer.status} {answer.reason} {content[:300].decode(errors='replace')}")
        return answer

    def manifest_digest(self, repository: str, tag: str) -> str:
        """The digest under a tag; empty when there is none."""
        answer = self._ask("HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": ACCEPT})
        return answer.headers.get("Docker-Content-Digest", "") if answer.status == 200 else ""

    def has_blob(self, repository: str, digest: str) -> bool:
        return self._ask("HEAD", f"/v2/{repository}/blobs/{digest}").status == 200

    def mount_blob(self, repository: str, digest: str, other: str) -> bool:
        """Have a blob of another repository in this one without sending it again."""
        query = urlencode({"mount": digest, "from": other})
        answer = self._ask("POST", f"/v2/{repository}/blobs/uploads/?{query}", headers={"Content-Length": "0"})
        return answer.status == 201

    def push_blob(self, repository: str, descriptor: oci.Descriptor, content: bytes | IO[bytes]) -> None:
        if self.has_blob(repository, descriptor.digest):
            return
        begun = self._ask("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
        location = begun.headers["Location"]
        joint = "&" if "?" in location else "?"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}
        self._ask("PUT", f"{location}{joint}{urlencode({'digest': descriptor.digest})}", body=content, headers=headers)

    def delete_manifest(self, repository: str, digest: str) -> None:
        """Take an image with all its tags out; blobs stay for those who share them."""
        self._ask("DELETE", f"/v2/{repository}/manifests/{digest}")

    def push_manifest(self, repository: str, tag: str, content: bytes, media_type: str) -> str:
        """Returns its digest. An empty tag stores it under its digest alone."""
        digest = oci.digest(content)
        self._ask("PUT", f"/v2/{repository}/manifests/{tag or digest}", body=content, headers={"Content-Type": media_type})
        return digest
