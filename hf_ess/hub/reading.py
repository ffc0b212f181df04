"""Reading reports that lie on the Hub, or in a folder of this machine."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hf_ess.errors import HfEssError, HubError, InvalidInputError, ReportError
from hf_ess.hub.answers import explained
from hf_ess.hub.patience import persistently
from hf_ess.hub.repositories import Place, hub_client, parsed_place
from hf_ess.report import ESSReport
from hf_ess.report.storage import ARRAYS_NAME, JSON_NAME

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PUBLISHED_FOLDER = "ess"
_MOST_FOLDERS_NAMED = 10
# What begins so means a folder, whether it exists or not.
_PATH = re.compile(r"[/\\~]|\.{1,2}([/\\]|$)|[A-Za-z]:[/\\]")


def read_report(
    where: str | os.PathLike[str], *, revision: str | None = None, token: str | None = None
) -> ESSReport:
    """The report in a folder, or in a repository of the Hub.

    A folder that exists comes first. What begins with `/`, `./`, `../` or `~` is a folder in any
    case; everything else is a name on the Hub: `user/model` for what `hf-ess push` published,
    `datasets/user/name/folder` for what `hf-ess analyze --job-output` wrote, either with
    `@revision`, or an address of the Hub.

    Args:
        where: the folder or the name.
        revision: branch, tag or commit on the Hub.
        token: of the Hub; None for the one of `hf auth login` or HF_TOKEN.

    Raises:
        ReportError: there is no report in the folder, or it is damaged or too new.
        HubError: there is none on the Hub, or it cannot be reached.
        InvalidInputError: it is neither a folder nor a name on the Hub.

    Example:
        >>> from hf_ess.hub import read_report
        >>> read_report("user/model").average_ess()  # doctest: +SKIP
        7.31
    """
    path = Path(where).expanduser()
    if not isinstance(where, str) or path.is_dir() or _PATH.match(where):
        return ESSReport.load(path)
    try:
        place = parsed_place(where)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"{where!r} is neither a folder with a report nor a repository of the Hub.",
            fix="Give a folder that `hf-ess analyze --out` wrote, or a repository as user/model.",
        ) from error
    return _read(place, revision or place.revision, place.folder or None, token)


def report_from_hub(
    repo_id: str,
    *,
    revision: str | None = None,
    folder: str = PUBLISHED_FOLDER,
    repo_type: str = "model",
    token: str | None = None,
) -> ESSReport:
    """The report that is published in a repository of the Hub.

    Both of its files come from one commit, whatever is pushed meanwhile. In offline mode, or
    where the Hub cannot be reached, it is the one that was read last, if it was.

    Args:
        repo_id: `user/model`.
        revision: branch, tag or commit; None for main.
        folder: where in the repository.
        repo_type: "model", "dataset" or "space".
        token: of the Hub; None for the one of `hf auth login` or HF_TOKEN.

    Raises:
        HubError: there is no such repository, revision or report, or no connection.
        ReportError: the report is damaged, or was written by a newer hf_ess.

    Example:
        >>> from hf_ess.hub import report_from_hub
        >>> report_from_hub("user/model").average_ess()  # doctest: +SKIP
        7.31
    """
    place = parsed_place(repo_id)
    kind = place.repo_type if place.repo_type != "model" else repo_type
    named = Place(place.repo_id, kind)
    return _read(named, revision or place.revision, place.folder or folder, token)


def _read(place: Place, revision: str | None, folder: str | None, token: str | None) -> ESSReport:
    place = replace(place, folder=folder or "", revision=revision)
    api = hub_client(token)
    # A dataset repository of jobs may hold one report at its top.
    inside = (PUBLISHED_FOLDER if place.repo_type == "model" else "") if folder is None else folder
    with explained(f"The report of {place.path} cannot be read"):
        files = persistently(lambda: _downloaded(api, place, revision, inside))
    try:
        return ESSReport.load(files)
    except ReportError as error:
        raise ReportError(
            f"The report of {place.path} cannot be used: {error.what}",
            causes=error.causes,
            fix=error.fix,
        ) from error


def _downloaded(api: HfApi, place: Place, revision: str | None, folder: str) -> Path:
    from huggingface_hub.errors import (
        GatedRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        # Recorded in the cache too, for offline mode.
        pinned = api.resolve_revision(place.repo_id, repo_type=place.repo_type, revision=revision)
        names = [str(PurePosixPath(folder, name)) for name in (JSON_NAME, ARRAYS_NAME)]
        paths = [
            api.hf_hub_download(
                place.repo_id, name, repo_type=place.repo_type, revision=pinned.resolved
            )
            for name in names
        ]
    except GatedRepoError:
        raise
    except RepositoryNotFoundError as error:
        raise HubError(
            f"There is no {place.repo_type} repository {place.repo_id!r} on the Hub that you can "
            "see, and no folder of that name here.",
            causes=["its name is written wrongly", "it is private, and you are not logged in"],
            fix="Check the name and `hf auth whoami`.",
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(
            f"{place.path} has no branch, tag or commit {revision!r}.", fix="Check --revision."
        ) from error
    except RemoteEntryNotFoundError as error:
        raise _no_report(api, place, revision, folder) from error
    return Path(paths[0]).parent


def _no_report(api: HfApi, place: Place, revision: str | None, folder: str) -> HfEssError:
    listed = api.list_repo_files(place.repo_id, repo_type=place.repo_type, revision=revision)
    others = sorted({str(PurePosixPath(x).parent) for x in listed if x.endswith(f"/{JSON_NAME}")})
    where = f"in {folder!r}" if folder else "at its top"
    if others:
        named = ", ".join(f"{place.path}/{each}" for each in others[:_MOST_FOLDERS_NAMED])
        return HubError(
            f"{place.path} holds no report {where}.", fix=f"It has folders with one: {named}"
        )
    return HubError(
        f"{place.path} holds no report of hf_ess {where}.",
        causes=["nobody has published one yet"],
        fix=f"Make one: `hf-ess analyze {place.repo_id} --file TEXT --out report`, then "
        f"`hf-ess push report {place.repo_id}`.",
    )
