"""Reading a revision of a model repository, and changing it by one commit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hf_ess.errors import HubError
from hf_ess.hub.answers import origin
from hf_ess.hub.blobs import has_content
from hf_ess.hub.patience import RaceLostError
from hf_ess.hub.refused_cards import CARD_PATH, refused_card

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi, RepoFile

# A comment: the owner's .gitignore would leave out what the owner asks to publish.
NOTHING_IGNORED = "# nothing\n"


@dataclass(frozen=True)
class Target:
    """Where a commit goes: a branch, or a pull request that is open or will be.

    Attributes:
        revision: branch or `refs/pr/N`.
        opens: whether the commit opens a pull request.
    """

    repo_id: str
    revision: str
    opens: bool = False


@dataclass(frozen=True)
class Head:
    """What a revision held at one commit.

    Attributes:
        sha: the commit; None for a repository that is yet to be made.
        listed: those of the files that were asked for and exist, by path.
        contents: of those that were read.
    """

    sha: str | None
    listed: Mapping[str, RepoFile]
    contents: Mapping[str, bytes]

    def holds(self, path: str, content: bytes) -> bool:
        """Whether a file is there with this content."""
        return path in self.listed and has_content(self.listed[path], content)


def read_head(api: HfApi, target: Target, paths: Sequence[str], contents: Sequence[str]) -> Head:
    """Reads all from the one commit at which a revision is.

    Args:
        api: the client.
        target: the repository and its revision.
        paths: the files to look for.
        contents: those of them to read.

    Raises:
        HubError: what arrived is not what the repository lists.
    """
    sha = api.model_info(target.repo_id, revision=target.revision).sha
    found = api.get_paths_info(target.repo_id, list(paths), revision=sha)
    listed = {file.path: file for file in found if hasattr(file, "blob_id")}
    read = {
        path: _downloaded(api, target.repo_id, listed[path], sha)
        for path in contents
        if path in listed
    }
    return Head(sha, listed, read)


def send(
    api: HfApi, target: Target, head: Head, files: Mapping[str, bytes], summary: str, more: str
) -> CommitInfo:
    """Lands all files in one commit on top of the one that was read, or nothing.

    Raises:
        RaceLostError: the revision is not where it was.
        HubError: the Hub refuses the card, or large files cannot be stored.
        Exception: those of the client.
    """
    from huggingface_hub import CommitOperationAdd

    # An operation that failed once must not be used again.
    additions = [CommitOperationAdd(path, content) for path, content in files.items()]
    # One by one: several would be uploaded by other threads, which know no time limits.
    for addition in additions:
        with _storage_explained():
            api.preupload_lfs_files(
                target.repo_id,
                [addition],
                revision=target.revision,
                create_pr=target.opens,
                free_memory=False,
                gitignore_content=NOTHING_IGNORED,
            )
    # The client leaves out what it finds at the newest commit, and says that it has committed.
    if api.model_info(target.repo_id, revision=target.revision).sha != head.sha:
        raise RaceLostError(
            f"{target.repo_id} is changed by others all the time.", fix="Try again in a while."
        )
    try:
        return api.create_commit(
            target.repo_id,
            additions,
            commit_message=summary,
            commit_description=more,
            revision=target.revision,
            create_pr=target.opens,
            parent_commit=head.sha,
        )
    except ValueError as error:
        if CARD_PATH not in files or _is_answer(error):
            raise
        raise refused_card(files[CARD_PATH], head.contents.get(CARD_PATH), error) from error


def landed_after(api: HfApi, target: Target, before: Head, summary: str) -> str | None:
    """The commit of ours on top of what was read, if its answer was lost; None if none landed."""
    above = None
    for commit in api.list_repo_commits(target.repo_id, revision=target.revision):
        if commit.commit_id == before.sha:
            break
        above = commit
    return str(above.commit_id) if above is not None and above.title == summary else None


def _downloaded(api: HfApi, repo_id: str, file: RepoFile, sha: str | None) -> bytes:
    """The content, not through the cache, where files may have been edited."""
    with TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo_id, file.path, revision=sha, local_dir=folder)
        content = Path(path).read_bytes()
    if not has_content(file, content):
        raise HubError(
            f"{file.path} of {repo_id} did not arrive as the Hub lists it; nothing was changed.",
            causes=["a proxy between here and the Hub changes files"],
            fix="Try again, from another network if it happens again.",
        )
    return content


def _is_answer(error: ValueError) -> bool:
    """Whether an error that is also a ValueError says nothing of the card."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    return isinstance(error, (HfHubHTTPError, HFValidationError, json.JSONDecodeError))


@contextmanager
def _storage_explained() -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        if isinstance(origin(error), (HfHubHTTPError, HTTPError, OfflineModeIsEnabled)):
            raise
        raise HubError(
            f"The large files could not be stored, and nothing was changed: {error}",
            causes=["the connection to the storage of the Hub broke"],
            fix="Try again; HF_HUB_DISABLE_XET=1 takes another way.",
        ) from error
