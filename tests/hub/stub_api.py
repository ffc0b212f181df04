"""What a stub Hub answers: which request means what."""

from __future__ import annotations

import re
from urllib.parse import unquote

from hub import stub_commits, stub_discussions, stub_files, stub_infos, stub_large_files, stub_xet
from hub.stub_replies import NO_REPO, RefusalError
from hub.stub_repos import URL_PREFIXES, ConflictError, MissingError

TYPES = {f"{kind}s": kind for kind in URL_PREFIXES}
REPO = r"/(?:(?P<folder>datasets|spaces)/)?(?P<id>[^/]+/[^/]+?)"
RESOLVE = re.compile(REPO + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
BATCH = re.compile(REPO + r"\.git/info/lfs/objects/batch")
STORED = re.compile(r"/stored/(?P<sha256>[0-9a-f]{64})")
VERIFY = re.compile(r"/verify/(?P<sha256>[0-9a-f]{64})")

SERVICES = {
    ("GET", "whoami-v2"): stub_infos.whoami,
    ("POST", "validate-yaml"): stub_infos.validate_yaml,
    ("POST", "repos/create"): stub_infos.create_repo,
}
ACTIONS = {
    ("GET", "revision"): stub_infos.info,
    ("GET", "refs"): stub_infos.refs,
    ("GET", "commits"): stub_infos.commits,
    ("GET", "auth-check"): stub_infos.auth_check,
    ("POST", "branch"): stub_infos.create_branch,
    ("GET", "tree"): stub_files.tree,
    ("POST", "paths-info"): stub_files.paths_info,
    ("POST", "preupload"): stub_commits.preupload,
    ("POST", "commit"): stub_commits.commit,
    ("GET", "xet-read-token"): stub_xet.read_token,
    ("GET", "xet-write-token"): stub_xet.write_token,
    ("GET", "discussions"): stub_discussions.look,
    ("POST", "discussions"): stub_discussions.change,
}


def answer(hub, request):
    """The reply to a request.

    Raises:
        RefusalError: as the Hub refuses.
    """
    try:
        return _answer(hub, request)
    except MissingError as error:
        raise RefusalError(404, str(error), error.code) from error
    except ConflictError as error:
        raise RefusalError(412, str(error)) from error


def _answer(hub, request):
    if found := RESOLVE.fullmatch(request.path):
        repo = _repo(hub, found["folder"] or "models", unquote(found["id"]))
        revision, path = unquote(found["revision"]), unquote(found["path"])
        return stub_files.resolve(hub, repo, request, revision, path)
    if found := BATCH.fullmatch(request.path):
        repo = _repo(hub, found["folder"] or "models", unquote(found["id"]))
        return stub_large_files.negotiate(hub, repo, request)
    if found := STORED.fullmatch(request.path):
        return stub_large_files.stored(hub, request, found["sha256"])
    if found := VERIFY.fullmatch(request.path):
        return stub_large_files.verify(hub, request, found["sha256"])
    if request.path.startswith("/api/"):
        return _api(hub, request)
    raise RefusalError(404, "Sorry, we can't find the page you are looking for.")


def _repo(hub, folder, repo_id):
    return hub.repos.get(URL_PREFIXES[TYPES[folder]] + repo_id)


def _api(hub, request):
    service = SERVICES.get((request.method, request.path.removeprefix("/api/")))
    if service is not None:
        return service(hub, request)
    folder, *parts = [unquote(part) for part in request.path.split("/")[2:]]
    if folder not in TYPES or len(parts) < 2:
        raise NO_REPO
    action, *rest = parts[2:] or ["revision"]
    if (request.method, action) not in ACTIONS:
        raise RefusalError(404, f"The stub knows no {request.method} of {action}.")
    repo = _repo(hub, folder, "/".join(parts[:2]))
    return ACTIONS[request.method, action](hub, repo, request, rest)
