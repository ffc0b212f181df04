"""Large files in Xet storage: what `hf_xet` uploads to, here a folder on this machine.

`hf_xet` itself writes and reads the folder; it only has to be told where it is. What the Hub knows
from its storage stands in the folder's shards: by which hash a content of some SHA-256 lies there.
"""

from __future__ import annotations

import struct
import tempfile
import time
from pathlib import Path

from hub import stub_access as access
from hub.stub_replies import Reply

RECORD = 48
WITH_CHECKS, WITH_SHA256 = 1 << 31, 1 << 30
LAST = b"\xff" * 32


class XetStorage:
    """Contents that `hf_xet` has put into a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)

    @property
    def address(self):
        return f"local://{self.folder}"

    def hash_of(self, sha256):
        """By which a content lies here; None where it does not."""
        for shard in self.folder.glob("xet/xorbs/shards/*.mdb"):
            for known, xet_hash in _files(shard.read_bytes()):
                if known == sha256:
                    return xet_hash
        return None

    def content(self, sha256, size):
        xet_hash = self.hash_of(sha256)
        if xet_hash is None:
            return None
        import hf_xet

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "content")
            session = hf_xet.XetSession()
            expiry = int(time.time()) + 3600
            with session.new_file_download_group(
                endpoint=self.address, token="any", token_expiry_unix_secs=expiry
            ) as group:
                group.start_download_file(hf_xet.XetFileInfo(xet_hash, size), str(path))
            return path.read_bytes()


def _files(shard):
    """SHA-256 and hash of each file that a shard describes."""
    at = RECORD
    while (head := shard[at : at + RECORD])[:32] != LAST:
        flags, parts = struct.unpack_from("<II", head, 32)
        at += RECORD * (1 + parts * (2 if flags & WITH_CHECKS else 1))
        if flags & WITH_SHA256:
            yield _hex(shard[at : at + 32]), _hex(head[:32])
            at += RECORD


def _hex(digest):
    return b"".join(digest[start : start + 8][::-1] for start in range(0, 32, 8)).hex()


def headers(hub, repo, commit, file):
    """With which a client finds a file in the storage, if it is there."""
    xet_hash = hub.xet.hash_of(file.sha256) if hub.xet else None
    if xet_hash is None:
        return {}
    route = f"{hub.url}/api/{repo.type}s/{repo.id}/xet-read-token/{commit.oid}"
    return {"X-Xet-Hash": xet_hash, "X-Xet-Refresh-Route": route}


def read_token(hub, repo, request, rest):
    access.readable(repo, request)
    return _connection(hub)


def write_token(hub, repo, request, rest):
    access.changeable(repo, request, *rest[:1])
    return _connection(hub)


def _connection(hub):
    expiry = int(time.time()) + 3600
    said = {"accessToken": "any", "exp": expiry, "casUrl": hub.xet.address}
    sent = {"X-Xet-Cas-Url": hub.xet.address, "X-Xet-Access-Token": "any"}
    return Reply(said, headers=sent | {"X-Xet-Token-Expiration": str(expiry)})
