"""Making a Space of the Hub, or bringing one up to date, by one commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hf_ess.errors import InvalidInputError
from hf_ess.hub.answers import explained
from hf_ess.hub.blobs import has_content
from hf_ess.hub.repositories import parsed_place
from hf_ess.space.repository import PAGE, is_ours, space_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SPACE = "space"
# A page that carries this line is written by us; without it somebody made it their own.
PAGE_MARK = b"<!-- Written by `hf-ess space push`."
# The Hub's own first page of a new Space points there.
FIRST_PAGE_MARK = b"spaces-config-reference"


@dataclass
class SpacePush:
    """What pushing a Space did, or would do.

    Attributes:
        repo_id: `user/name`.
        url: of the Space.
        created: the Space did not exist before.
        written: paths that are new or changed.
        removed: paths of sources that are gone.
        kept: paths that the owner of the Space made their own.
        commit_url: None where nothing had to be changed, or nothing was sent.
        hardware: that was asked for, None where it is that already.
    """

    repo_id: str
    url: str
    created: bool
    written: list[str]
    removed: list[str]
    kept: list[str] = field(default_factory=list)
    commit_url: str | None = None
    hardware: str | None = None


def push_space(
    repo_id: str,
    api: HfApi,
    *,
    package: str | None = None,
    hardware: str | None = None,
    private: bool | None = None,
    dry_run: bool = False,
) -> SpacePush:
    """Creates or updates a Space that runs the page; does nothing where nothing changed.

    Secrets, variables and files that are not of the page stay as they are. So does a README.md
    whose owner removed the line that says who wrote it.

    Args:
        repo_id: `user/name` of the Space.
        api: the client, which knows the endpoint and the token.
        package: what the Space installs; None sends the sources that run here along.
        hardware: flavor of the machine; None leaves it, or takes the free one.
        private: whether only its owners see it; None leaves it, and a new Space is private.
        dry_run: only say what would be done.

    Raises:
        InvalidInputError: the name or the package cannot be used.
        HubError: the Hub refuses, or cannot be reached.
    """
    repo_id = _space_id(repo_id)
    files = space_files(package)
    with explained(f"The Space {repo_id} was not pushed"):
        found = _found(repo_id, api)
        there = {} if found is None else {each.rfilename: each for each in found.siblings}
        keeps_page = _keeps_page(repo_id, api, there)
        push = SpacePush(
            repo_id=repo_id,
            url=f"{api.endpoint}/spaces/{repo_id}",
            created=found is None,
            written=[
                path
                for path, content in sorted(files.items())
                if not (path in there and has_content(there[path], content))
                and not (path == PAGE and keeps_page)
            ],
            removed=sorted(path for path in there if is_ours(path) and path not in files),
            kept=[PAGE] if keeps_page else [],
        )
        push.hardware = _wanted_hardware(repo_id, api, hardware, found is not None)
        if not dry_run:
            _settle(push, api, private, found)
            _commit(push, api, files, None if found is None else found.sha)
    return push


def _space_id(name: str) -> str:
    place = parsed_place(name if name.startswith(("spaces/", "http", "hf:")) else f"spaces/{name}")
    if place.repo_type != SPACE or "/" not in place.repo_id or place.folder or place.revision:
        raise InvalidInputError(f"{name!r} names no Space.", fix="Name it as user/name.")
    return place.repo_id


def _found(repo_id: str, api: HfApi) -> Any:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.repo_info(repo_id, repo_type=SPACE, files_metadata=True)
    except RepositoryNotFoundError:
        return None


def _keeps_page(repo_id: str, api: HfApi, there: dict[str, Any]) -> bool:
    if PAGE not in there:
        return False
    with open(api.hf_hub_download(repo_id, PAGE, repo_type=SPACE), "rb") as file:
        page = file.read()
    return PAGE_MARK not in page and FIRST_PAGE_MARK not in page


def _wanted_hardware(repo_id: str, api: HfApi, hardware: str | None, exists: bool) -> str | None:
    if hardware is None or not exists:
        return hardware
    runtime = api.get_space_runtime(repo_id)
    return None if hardware in (runtime.hardware, runtime.requested_hardware) else hardware


def _settle(push: SpacePush, api: HfApi, private: bool | None, found: Any) -> None:
    """The Space itself, who sees it, and its machine."""
    if found is None:
        api.create_repo(
            push.repo_id,
            repo_type=SPACE,
            space_sdk="gradio",
            private=private is not False,
            space_hardware=push.hardware,
        )
        return
    if private is not None and private != found.private:
        api.update_repo_settings(push.repo_id, repo_type=SPACE, private=private)
    if push.hardware is not None:
        api.request_space_hardware(push.repo_id, push.hardware)


def _commit(push: SpacePush, api: HfApi, files: dict[str, bytes], head: str | None) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations = [CommitOperationAdd(path, files[path]) for path in push.written]
    operations += [CommitOperationDelete(path) for path in push.removed]
    if not operations:
        return
    landed = api.create_commit(
        push.repo_id,
        operations,
        commit_message="Effective state-size: the page of hf_ess",
        repo_type=SPACE,
        parent_commit=head,
    )
    push.commit_url = str(landed.commit_url)
