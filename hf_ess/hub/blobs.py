"""Whether a file of a repository has a content, without downloading it."""

from __future__ import annotations

import hashlib
from typing import Any


def has_content(file: Any, content: bytes) -> bool:
    """Whether the Hub lists a file with the hash of this content.

    Args:
        file: as the client lists it: with `lfs` where it is large, else with its `blob_id` of git.
        content: what it may hold.

    Example:
        >>> from types import SimpleNamespace
        >>> blob = SimpleNamespace(lfs=None, blob_id="e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
        >>> has_content(blob, b""), has_content(blob, b"a")
        (True, False)
    """
    if file.lfs is not None:
        return bool(file.lfs.sha256 == hashlib.sha256(content).hexdigest())
    blob = b"blob %d\0" % len(content) + content
    return bool(file.blob_id == hashlib.sha1(blob, usedforsecurity=False).hexdigest())
