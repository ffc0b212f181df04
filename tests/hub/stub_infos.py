"""Users, and what a stub Hub says of whole repositories."""

from __future__ import annotations

from hub import stub_access as access
from hub import stub_cards
from hub.stub_replies import READ_TOKEN, RefusalError, Reply
from hub.stub_repos import URL_PREFIXES, stamp


def whoami(hub, request):
    user = access.known(request)
    token = {"displayName": "test", "role": user.role}
    if user.role == "fineGrained":
        token["fineGrained"] = {
            "global": [],
            "scoped": [
                {"entity": {"type": "model", "name": scope}, "permissions": ["repo.write"]}
                for scope in user.scopes
            ],
        }
    return Reply(
        {
            "type": "user",
            "id": f"id-{user.name}",
            "name": user.name,
            "fullname": user.name.title(),
            "orgs": [{"type": "org", "name": org, "roleInOrg": "write"} for org in user.orgs],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


def validate_yaml(hub, request):
    asked = request.json
    errors, warnings, _ = stub_cards.examine(asked["content"], asked["repoType"])
    found = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    return Reply(found, 400 if errors else 200)


def create_repo(hub, request):
    user = access.known(request)
    asked = request.json
    kind, namespace = asked.get("type", "model"), asked.get("organization") or user.name
    repo_id = f"{namespace}/{asked['name']}"
    url = f"{hub.url}/{URL_PREFIXES[kind]}{repo_id}"
    if user.role == "read":
        raise READ_TOKEN
    if namespace not in user.namespaces or not user.may_change(repo_id):
        raise RefusalError(
            403, f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"'
        )
    with hub.lock:
        if URL_PREFIXES[kind] + repo_id in hub.repos:
            return Reply({"error": f"You already created this {kind} repo", "url": url}, 409)
        hub.repo(repo_id, repo_type=kind, private=asked.get("visibility") == "private")
    return Reply({"url": url, "name": repo_id, "id": f"id-{repo_id}"})


def info(hub, repo, request, rest):
    access.found(repo, request)
    commit = repo.at(*rest[:1])
    card = commit.files.get("README.md")
    data = stub_cards.card_data(card.content.decode(errors="replace")) if card else None
    expanded = request.query.get("expand")
    said = {
        "_id": f"id-{repo.id}",
        "id": repo.id,
        "author": repo.owner,
        "sha": commit.oid,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "tags": [tag for tag in (data or {}).get("tags") or [] if isinstance(tag, str)],
        "createdAt": stamp(repo.commits[0].at),
        "lastModified": stamp(commit.at),
        "downloads": 0,
        "likes": 0,
        "siblings": [
            _sibling(path, file, "blobs" in request.query)
            for path, file in sorted(commit.files.items())
        ],
    }
    if data:
        said["cardData"] = data
        if "model-index" in data:
            said["model-index"] = data["model-index"]
    if repo.type == "space":
        said["sdk"] = "static"
    if expanded:
        said = {key: value for key, value in said.items() if key in {"_id", "id", *expanded}}
    return Reply(said)


def _sibling(path, file, detailed):
    said = {"rfilename": path}
    if detailed:
        said |= {"size": len(file.content), "blobId": file.blob_id}
        if file.lfs:
            pointer = {"sha256": file.sha256, "pointerSize": len(file.pointer)}
            said["lfs"] = {**pointer, "size": len(file.content)}
    return said


def refs(hub, repo, request, rest):
    access.found(repo, request)
    with repo.lock:
        listed = [
            {"name": ref.removeprefix("refs/heads/"), "ref": ref, "targetCommit": oid}
            for ref, oid in repo.refs.items()
        ]
    proposed = [each for each in listed if each["ref"].startswith("refs/pr/")]
    said = {"branches": [each for each in listed if each not in proposed]}
    said |= {"converts": [], "tags": []}
    if "include_prs" in request.query:
        said["pullRequests"] = proposed
    return Reply(said)


def commits(hub, repo, request, rest):
    access.readable(repo, request)
    return Reply(
        [
            {
                "id": commit.oid,
                "title": commit.message,
                "message": commit.description,
                "date": stamp(commit.at),
                "authors": [{"user": commit.author}],
            }
            for commit in repo.history(*rest[:1])
        ]
    )


def auth_check(hub, repo, request, rest):
    check = access.changeable if rest == ["write"] else access.readable
    check(repo, request)
    return Reply({})


def create_branch(hub, repo, request, rest):
    access.changeable(repo, request)
    with repo.lock:
        if f"refs/heads/{rest[0]}" in repo.refs:
            raise RefusalError(409, f"Reference already exists: {rest[0]}")
        repo.branch(rest[0], request.json.get("startingPoint", "main"))
    return Reply({})
