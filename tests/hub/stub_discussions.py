"""Discussions and pull requests as a stub Hub shows and changes them."""

from __future__ import annotations

from hub import stub_access as access
from hub.stub_replies import NO_WRITER, RefusalError, Reply
from hub.stub_repos import stamp

PAGE = 10


def look(hub, repo, request, rest):
    access.readable(repo, request)
    if rest:
        return Reply(_details(repo, repo.discussion(int(rest[0]))))
    asked = {key: values[0] for key, values in request.query.items()}
    with repo.lock:
        found = [each for each in reversed(repo.discussions) if _is_wanted(each, asked)]
    start = PAGE * int(asked.get("p", 0))
    page = [_summary(repo, each) for each in found[start : start + PAGE]]
    return Reply({"discussions": page, "count": len(found), "start": start})


def _is_wanted(discussion, asked):
    kind = "pull_request" if discussion.is_pull_request else "discussion"
    state = "open" if discussion.status in ("open", "draft") else "closed"
    return (
        asked.get("type", "all") in ("all", kind)
        and asked.get("status", "all") in ("all", state)
        and asked.get("author", discussion.author) == discussion.author
    )


def _summary(repo, discussion):
    return {
        "num": discussion.num,
        "title": discussion.title,
        "author": {"name": discussion.author},
        "status": discussion.status,
        "isPullRequest": discussion.is_pull_request,
        "createdAt": stamp(discussion.at),
        "repo": {"name": repo.id, "type": repo.type},
    }


def _details(repo, discussion):
    said = _summary(repo, discussion) | {"events": discussion.events, "diff": ""}
    if discussion.is_pull_request:
        said["changes"] = {"base": "refs/heads/main"}
        if discussion.merged_as:
            said["changes"]["mergeCommitId"] = discussion.merged_as
        said["filesWithConflicts"] = []
    return said


def change(hub, repo, request, rest):
    """Opens a discussion, or comments, closes, opens again or merges one."""
    user = access.known(request)
    access.readable(repo, request)
    asked = request.json if request.body else {}
    if not rest:
        base = repo.head() if asked["pullRequest"] else None
        status = "draft" if asked["pullRequest"] else "open"
        opened = repo.discuss(
            user.name, asked["title"], asked["description"], base=base, status=status
        )
        return Reply({"num": opened.num})
    discussion, action = repo.discussion(int(rest[0])), rest[1]
    if discussion.author != user.name and not access.is_writer(repo, user):
        raise NO_WRITER
    if action == "status":
        if "comment" in asked:
            repo.comment(discussion, user.name, asked["comment"])
        if discussion.status == asked["status"]:
            raise RefusalError(400, f"This discussion is already {asked['status']}")
        event = repo.change_status(discussion.num, asked["status"], user.name)
        return Reply({"newStatus": event})
    if action == "merge":
        repo.merge(discussion.num, user.name)
        return Reply({})
    if action == "comment":
        return Reply({"newMessage": repo.comment(discussion, user.name, asked["comment"])})
    raise RefusalError(404, f"The stub cannot {action} discussions.")
