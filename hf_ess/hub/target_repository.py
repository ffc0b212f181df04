"""The repository that is pushed to: there, of the right kind, or made if that is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_ess.errors import HfEssError, HubError, InvalidInputError
from hf_ess.hub.answers import MEANINGS, Meaning, explained
from hf_ess.hub.commits import Target
from hf_ess.hub.repositories import only_models

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NO_MEMBER = Meaning(
    "the token may only read, or its owner may not make repositories in this namespace",
    "Make a token that may write, at https://huggingface.co/settings/tokens, or name a "
    "repository of your own.",
)


def find_or_make(api: HfApi, target: Target, private: bool | None, dry_run: bool) -> bool:
    """Whether the repository exists, after it was made if it was missing and that is wanted.

    Args:
        api: the client.
        target: the repository and its branch.
        private: how to make it; None makes none.
        dry_run: makes nothing.

    Raises:
        InvalidInputError: it is a dataset or a Space, or public where private was wanted.
        HubError: it is missing, or the branch is.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        info = api.model_info(target.repo_id, revision=target.revision)
    except RevisionNotFoundError as error:
        raise _no_branch(target) from error
    except GatedRepoError:
        raise
    except RepositoryNotFoundError as error:
        other = _other_kind(api, target.repo_id)
        if other is not None:
            raise only_models(target.repo_id, other) from error
        if private is None:
            raise _no_repository(target.repo_id) from error
    else:
        if private and info.private is False:
            raise InvalidInputError(
                f"{target.repo_id} is public already, and a private one was asked for.",
                fix="Make it private in its settings on the Hub first, or push without that.",
            )
        return True
    if target.revision != "main":
        raise _no_branch(target)
    if not dry_run:
        with explained(f"{target.repo_id} was not made", {**MEANINGS, 403: _NO_MEMBER}):
            api.create_repo(target.repo_id, private=private, exist_ok=True)
    return not dry_run


def _other_kind(api: HfApi, repo_id: str) -> str | None:
    from huggingface_hub.errors import HfHubHTTPError

    for repo_type in ("dataset", "space"):
        try:
            api.repo_info(repo_id, repo_type=repo_type)
        except HfHubHTTPError:
            continue
        return repo_type
    return None


def _no_repository(repo_id: str) -> HfEssError:
    return HubError(
        f"There is no model repository {repo_id!r} on the Hub that you can see.",
        causes=["its name is written wrongly", "it is private, and the token is of another user"],
        fix="Check the name and `hf auth whoami`; --private or --public (private=True or False) "
        "makes a new one.",
    )


def _no_branch(target: Target) -> HfEssError:
    return HubError(
        f"{target.repo_id} has no branch {target.revision!r}.",
        fix=f"Make it with `hf repos branch create {target.repo_id} {target.revision}`, or push "
        "to main.",
    )
