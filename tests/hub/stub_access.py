"""Who may read, propose to and change a repository of a stub Hub."""

from __future__ import annotations

from hub.stub_replies import (
    NO_REPO,
    NO_SCOPE,
    NO_USER,
    NO_WRITER,
    READ_TOKEN,
    WRONG_TOKEN,
    restricted,
)


def known(request):
    """The user of a request who has to be one."""
    if request.user is None:
        raise WRONG_TOKEN if request.authorization else NO_USER
    return request.user


def is_writer(repo, user):
    return user is not None and (user.name in repo.writers or repo.owner in user.namespaces)


def found(repo, request):
    """The repository, if there is one that the user may know of."""
    if request.authorization and request.user is None:
        raise WRONG_TOKEN
    if repo is None or (repo.private and not is_writer(repo, request.user)):
        raise NO_USER if request.user is None else NO_REPO
    return repo


def readable(repo, request):
    """The repository, if the user may read its files."""
    found(repo, request)
    user = request.user
    if repo.gated and not is_writer(repo, user) and (user is None or user.name not in repo.granted):
        raise restricted(repo.id, user)
    return repo


def changeable(repo, request, revision="main"):
    """The repository, if the user may commit to a revision, or open a pull request if asked to."""
    user = known(request)
    readable(repo, request)
    if user.role == "read":
        raise READ_TOKEN
    if not user.may_change(repo.id):
        raise NO_SCOPE
    if is_writer(repo, user) or request.query.get("create_pr") == ["1"]:
        return repo
    if any(each.ref == revision and each.author == user.name for each in repo.pull_requests):
        return repo
    raise NO_WRITER
