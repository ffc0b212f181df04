"""Our own pull request in a repository: found again by its author and its title."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import Discussion, HfApi

# By which it is found again, whatever message its commits have.
TITLE = "Add effective state-size (ESS)"


def open_pull_request(api: HfApi, repo_id: str) -> Discussion | None:
    """The oldest open pull request that this user made here with our title."""
    user = api.whoami(cache=True)["name"]
    ours = [
        each
        for each in api.get_repo_discussions(
            repo_id, author=user, discussion_type="pull_request", discussion_status="open"
        )
        if each.title == TITLE and each.author == user and each.status in ("open", "draft")
    ]
    return min(ours, key=lambda each: each.num, default=None)


def close_if_second(api: HfApi, repo_id: str, opened: int) -> bool:
    """Closes the pull request that was just opened if there is an older one of ours.

    Two writers who found none may have opened one each; the older one is to be updated then.
    """
    first = open_pull_request(api, repo_id)
    if first is None or first.num >= opened:
        return False
    comment = f"Opened at the same time as #{first.num}, which goes on."
    api.change_discussion_status(repo_id, opened, "closed", comment=comment)
    return True
