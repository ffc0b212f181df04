"""Names of repositories of the Hub as people write them, and the client that asks for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_ess.errors import HubError, InvalidInputError
from hf_ess.hub.answers import LOG_IN

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_URL = re.compile(r"(?:https?|hf)://")
_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
# Folders of the cache on this machine are named after what is asked for.
_ELSEWHERE = re.compile(r"^/|\\|(?:^|/)\.{1,2}(?:/|$)|[\x00-\x1f\x7f]")
_SENDABLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Place:
    """A repository of the Hub, and maybe a folder and a revision in it.

    Attributes:
        repo_id: `user/name`, or the name alone of the few models that have no user.
        repo_type: "model", "dataset" or "space".
        folder: empty where none is named.
        revision: branch, tag or commit; None where none is named.

    Raises:
        InvalidInputError: the folder or the revision would lead out of the repository.
    """

    repo_id: str
    repo_type: str = "model"
    folder: str = ""
    revision: str | None = None

    def __post_init__(self) -> None:
        for what, name in (("folder", self.folder), ("revision", self.revision or "")):
            if _ELSEWHERE.search(name):
                raise InvalidInputError(
                    f"{name!r} is no {what} of a repository.",
                    fix="Name what lies in it, without . and .. on the way.",
                )

    @property
    def path(self) -> str:
        """The repository as the Hub writes it in addresses."""
        return self.repo_id if self.repo_type == "model" else f"{self.repo_type}s/{self.repo_id}"


def parsed_place(name: str) -> Place:
    """What a name means: `user/name`, `datasets/user/name/folder`, `...@revision`, or a URL.

    Raises:
        InvalidInputError: it is none of these.

    Example:
        >>> parsed_place("datasets/user/name/folder")
        Place(repo_id='user/name', repo_type='dataset', folder='folder', revision=None)
        >>> parsed_place("https://huggingface.co/user/name").repo_id
        'user/name'
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfUriError
    from huggingface_hub.utils import parse_hf_uri

    text = name.strip()
    if _ID.fullmatch(text) and "/" not in text:
        return Place(text)
    try:
        uri = parse_hf_uri(
            text if _URL.match(text) else f"hf://{text}", endpoint=constants.ENDPOINT
        )
    except HfUriError as error:
        raise InvalidInputError(
            f"{name!r} is no repository of the Hub.",
            causes=[error.msg] if hasattr(error, "msg") else [],
            fix="Name it as user/name.",
        ) from error
    if uri.type not in ("model", "dataset", "space"):
        raise InvalidInputError(
            f"{name!r} is a {uri.type} of the Hub, which holds no reports.",
            fix="Name a repository as user/name.",
        )
    return Place(uri.id, uri.type, uri.path_in_repo, uri.revision)


def model_repository(name: str) -> str:
    """The id of the model repository that a name means.

    Raises:
        InvalidInputError: it is a dataset, a Space, a place inside a repository, or no name.

    Example:
        >>> model_repository("models/user/name")
        'user/name'
    """
    place = parsed_place(name)
    if place.repo_type != "model":
        raise only_models(name, place.repo_type)
    if place.folder or place.revision:
        raise InvalidInputError(
            f"{name!r} is a place inside of a repository.",
            fix=f"Push to {place.repo_id!r}; another branch is --revision (revision=...).",
        )
    return place.repo_id


def only_models(name: str, repo_type: str) -> InvalidInputError:
    """The error for a repository that holds no model."""
    return InvalidInputError(
        f"{name!r} is a {repo_type}: reports are pushed to repositories of models only.",
        fix="Name the repository of the model that was measured, as user/name.",
    )


def hub_client(token: str | None = None) -> HfApi:
    """The client of huggingface_hub, with a name by which the Hub knows this package.

    Raises:
        InvalidInputError: the token holds characters that cannot be sent.
    """
    from huggingface_hub import HfApi

    from hf_ess import __version__

    # A request with such a header fails with a message that quotes it.
    if token is not None and not _SENDABLE.fullmatch(token):
        raise InvalidInputError(
            "The token is empty, or holds blanks or characters that no token has.",
            fix="Copy it again from https://huggingface.co/settings/tokens.",
        )
    return HfApi(token=token, library_name="hf_ess", library_version=__version__)


def known_token(api: HfApi) -> str | None:
    """The token with which the client asks, None if there is none."""
    from huggingface_hub import get_token

    token = api.token or get_token()
    return token if isinstance(token, str) else None


def check_can_write(api: HfApi) -> None:
    """Refuses to begin without a token.

    Raises:
        HubError: there is none.
    """
    if known_token(api) is None:
        raise HubError("Pushing needs a token of the Hub, and there is none.", fix=LOG_IN)
