"""Our own pull request in a repository: found again by its author and its title."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import Discussion, HfApi

# By which it is found again, whatever message its commits have.
TITLE = "Add effective state-size (ESS)"


def open_pull_request(api: HfApi, repo_id: str, *, alone: bool) -> Discussion | None:
    """The oldest open pull request that this user made here with our title.

    Writers who found none may have opened one each, and one that seemed to fail may be opened
    after all: the oldest goes on.

    Args:
        api: the client.
        repo_id: the repository.
        alone: closes the others.
    """
    ours = _open_pull_requests(api, repo_id)
    if alone:
        for needless in ours[1:]:
            _close(api, needless, ours[0])
    return ours[0] if ours else None


def _open_pull_requests(api: HfApi, repo_id: str) -> list[Discussion]:
    user = api.whoami(cache=True)["name"]
    listed = api.get_repo_discussions(
        repo_id, author=user, discussion_type="pull_request", discussion_status="open"
    )
    ours = [
        each
        for each in listed
        if each.title == TITLE and each.author == user and each.status in ("open", "draft")
    ]
    return sorted(ours, key=lambda each: each.num)


def _close(api: HfApi, needless: Discussion, first: Discussion) -> None:
    from huggingface_hub.errors import BadRequestError

    # Another writer may have closed it already.
    with suppress(BadRequestError):
        api.change_discussion_status(
            needless.repo_id,
            needless.num,
            "closed",
            comment=f"The same as #{first.num}, which goes on.",
        )
