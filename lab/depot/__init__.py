"""The lab's depot: the site's mirror, made from pinned sources with checksums."""

from __future__ import annotations
