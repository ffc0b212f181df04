"""How a stub Hub takes commits."""

from __future__ import annotations

import base64
import json
from fnmatch import fnmatch

from hub import stub_access as access
from hub import stub_cards
from hub.stub_replies import RefusalError, Reply
from hub.stub_repos import File, MissingError

LARGE_BYTES = 10 * (1 << 20)


def preupload(hub, repo, request, rest):
    """Which files go as large ones, which are ignored, and what is there in their place."""
    (revision,) = rest
    access.changeable(repo, request, revision)
    there = repo.tree(revision)
    asked = request.json
    ignored = asked.get("gitIgnore")
    if ignored is None:
        ignored = there[".gitignore"].content.decode() if ".gitignore" in there else ""
    attributes = there[".gitattributes"].content.decode() if ".gitattributes" in there else ""
    return Reply(
        {
            "commitOid": repo.head(revision),
            "files": [_mode(each, there, ignored, attributes) for each in asked["files"]],
        }
    )


def _mode(asked, there, ignored, attributes):
    path = asked["path"]
    patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
    large = (
        asked["size"] > LARGE_BYTES
        or b"\0" in base64.b64decode(asked["sample"])
        or _matches(path, patterns)
    )
    said = {
        "path": path,
        "uploadMode": "lfs" if large else "regular",
        "shouldIgnore": _matches(path, [line.strip() for line in ignored.splitlines()]),
    }
    if path in there:
        said["oid"] = there[path].etag
    return said


def _matches(path, patterns):
    parts = path.split("/")
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    return any(
        pattern and not pattern.startswith("#") and fnmatch(end, pattern)
        for pattern in patterns
        for end in (*ends, *(f"{part}/" for part in parts[:-1]))
    )


def commit(hub, repo, request, rest):
    """Lands a commit on a branch, or opens a pull request with it."""
    (revision,) = rest
    access.changeable(repo, request, revision)
    lines = [json.loads(line) for line in request.body.splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    operations = [(line["key"], line["value"]) for line in lines if line["key"] != "header"]
    given = {
        "author": request.user.name,
        "message": header["summary"],
        "description": header.get("description", ""),
        "parent": header.get("parentCommit"),
    }
    base = f"{hub.url}/{repo.path}"
    with repo.lock:
        if request.query.get("create_pr") == ["1"]:
            changes = _changes(hub, repo, operations, given["parent"] or revision)
            opened, landed = repo.propose(changes, **given)
            proposed = {"pullRequestUrl": f"{base}/discussions/{opened.num}"}
        else:
            changes = _changes(hub, repo, operations, revision)
            landed = repo.commit(changes, revision=revision, **given)
            proposed = {}
    said = {"success": True, "commitOid": landed.oid, "commitUrl": f"{base}/commit/{landed.oid}"}
    return Reply(said | {"hookOutput": ""} | proposed)


def _changes(hub, repo, operations, revision):
    there = repo.tree(revision)
    changes = {}
    for key, value in operations:
        path = value["path"]
        if key == "file":
            changes[path] = File(base64.b64decode(value["content"]))
            _check(path, changes[path].content, repo.type)
        elif key == "lfsFile":
            content = hub.object(value["oid"], value.get("size"))
            if content is None:
                raise RefusalError(
                    400, f"LFS pointer of {path} points to a file that does not exist"
                )
            changes[path] = File(content, lfs=True)
        elif key == "deletedFile":
            if path not in there:
                raise MissingError("EntryNotFound", "A file with this name doesn't exist")
            changes[path] = None
        elif key == "deletedFolder":
            inside = [each for each in there if each.startswith(f"{path.rstrip('/')}/")]
            changes |= dict.fromkeys(inside)
        else:
            raise RefusalError(400, f"Unknown operation {key}")
    return changes


def _check(path, content, repo_type):
    if len(content) > LARGE_BYTES:
        raise RefusalError(400, f"{path} is larger than 10 MiB and not a large file")
    if path == "README.md":
        errors, _, _ = stub_cards.examine(content.decode(), repo_type)
        if errors:
            raise RefusalError(400, f"Invalid metadata in README.md: {'; '.join(errors)}")
