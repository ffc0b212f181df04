"""Git LFS with basic transfers: where a stub Hub takes large files, and hands them out."""

from __future__ import annotations

import hashlib

from hub import stub_access as access
from hub.stub_files import ranged
from hub.stub_replies import RefusalError, Reply


def negotiate(hub, repo, request):
    """Says where to put the objects that are not there yet."""
    asked = request.json
    revision = asked.get("ref", {}).get("name", "main")
    if "ref" in asked:
        access.changeable(repo, request, revision)
    else:
        # Without a revision it is for a pull request, which everybody may open.
        access.known(request)
        access.readable(repo, request)
    return Reply(
        {"transfer": "basic", "objects": [_transfer(hub, each) for each in asked["objects"]]},
        kind="application/vnd.git-lfs+json",
    )


def _transfer(hub, wanted):
    said = {"oid": wanted["oid"], "size": wanted["size"]}
    if hub.object(wanted["oid"]) is None:
        said["actions"] = {
            "upload": {"href": f"{hub.storage_url}/stored/{wanted['oid']}", "header": {}},
            "verify": {"href": f"{hub.url}/verify/{wanted['oid']}", "header": {}},
        }
    return said


def stored(hub, request, sha256):
    """Puts or gets one object; the address is enough, as with signed ones."""
    if request.method == "PUT":
        if hashlib.sha256(request.body).hexdigest() != sha256:
            raise RefusalError(400, "The content is not what was announced")
        with hub.lock:
            hub.objects[sha256] = request.body
        return Reply(b"", kind="text/plain")
    content = hub.object(sha256)
    if content is None:
        raise RefusalError(404, "The specified key does not exist.")
    return ranged(request, content, {"ETag": f'"{sha256}"'})


def verify(hub, request, sha256):
    access.known(request)
    content = hub.object(sha256)
    if content is None or len(content) != request.json["size"]:
        raise RefusalError(404, f"{sha256} was not uploaded")
    return Reply({})
