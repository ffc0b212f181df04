"""Files that a stub Hub hands out."""

from __future__ import annotations

import re

from hub import stub_access as access
from hub import stub_xet
from hub.stub_replies import RefusalError, Reply
from hub.stub_repos import MissingError

RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def resolve(hub, repo, request, revision, path):
    """The file itself, or for a large one where it lies."""
    access.readable(repo, request)
    commit = repo.at(revision)
    here = {"X-Repo-Commit": commit.oid}
    try:
        file = repo.file(path, commit.oid)
    except MissingError as error:
        raise RefusalError(404, str(error), error.code, here) from error
    if not file.lfs:
        return ranged(request, file.content, here | {"ETag": f'"{file.etag}"'})
    linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
    lies = stub_xet.headers(hub, repo, commit, file)
    where = {"Location": f"{hub.storage_url}/stored/{file.sha256}"}
    return Reply(b"", 302, "text/plain", here | linked | where | lies)


def ranged(request, content, headers):
    """The content, or the part of it that was asked for."""
    headers = headers | {"Accept-Ranges": "bytes"}
    asked = RANGE.fullmatch(request.range or "")
    if asked is None:
        return Reply(content, 200, "application/octet-stream", headers)
    start, end = int(asked[1]), int(asked[2] or len(content) - 1)
    if start >= len(content):
        raise RefusalError(416, "Range not satisfiable")
    part = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
    return Reply(content[start : end + 1], 206, "application/octet-stream", headers | part)


def tree(hub, repo, request, rest):
    access.readable(repo, request)
    revision, folder = rest[0], "/".join(rest[1:])
    inside = _entries(repo.tree(revision), folder)
    if folder and not inside:
        raise MissingError("EntryNotFound", f"{folder} does not exist on {revision!r}")
    if request.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
        depth = folder.count("/") + 1 if folder else 0
        inside = {path: said for path, said in inside.items() if path.count("/") == depth}
    return Reply(list(inside.values()))


def paths_info(hub, repo, request, rest):
    access.readable(repo, request)
    known = _entries(repo.tree(rest[0]), "")
    return Reply([known[path] for path in request.form.get("paths", []) if path in known])


def _entries(files, folder):
    """Files and folders below a folder, by path."""
    found = {}
    for path, file in sorted(files.items()):
        if folder and not path.startswith(f"{folder}/"):
            continue
        parts = path.split("/")
        for length in range(folder.count("/") + 2 if folder else 1, len(parts)):
            above = "/".join(parts[:length])
            found[above] = {"type": "directory", "path": above, "oid": "0" * 40, "size": 0}
        said = {"type": "file", "path": path, "oid": file.blob_id, "size": len(file.content)}
        if file.lfs:
            said["lfs"] = {
                "oid": file.sha256,
                "size": len(file.content),
                "pointerSize": len(file.pointer),
            }
        found[path] = said
    return found
