"""Publishing a report in the repository of its model: files, a section of the card, metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import unified_diff
from typing import TYPE_CHECKING

from hf_ess.errors import InvalidInputError
from hf_ess.hub.answers import explained
from hf_ess.hub.card_addition import card_addition
from hf_ess.hub.card_text import EditedCard, with_addition
from hf_ess.hub.commits import Head, Target, landed_after, read_head, send
from hf_ess.hub.eval_results import EVALUATION_PATH, with_evaluation
from hf_ess.hub.leaks import refuse_leaks
from hf_ess.hub.patience import RaceLostError, may_have_landed, persistently
from hf_ess.hub.publication_files import (
    ARRAYS_PATH,
    IMAGE_PATHS,
    REPORT_PATH,
    PublicationFiles,
)
from hf_ess.hub.pull_requests import TITLE, open_pull_request
from hf_ess.hub.refused_cards import CARD_PATH, PUSH_WITHOUT_CARD
from hf_ess.hub.repositories import check_can_write, hub_client, known_token, model_repository
from hf_ess.hub.target_repository import find_or_make
from hf_ess.report import ESSReport

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, Discussion, HfApi

MAIN = "main"
MESSAGE = "Publish effective state-size (ESS)"
_READ = (CARD_PATH, REPORT_PATH, EVALUATION_PATH)
_PATHS = (*_READ, ARRAYS_PATH, *IMAGE_PATHS)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class PushResult:
    """What a push did.

    `hf_ess.hub.push_report` gives it back.

    Attributes:
        repo_id: the repository of the model.
        changed: whether a commit was made, or would be if this was no dry run; False where
            everything was there already.
        commit_url: address of the commit, None if there is none.
        oid: SHA of the commit.
        pr_url: address of the pull request, the one that was open already too.
        pr_num: its number.
        paths: the files that were written, or would be.
        notes: what could not be done, and why.
        card_diff: what changes in the card, as `diff -u` shows it; empty if nothing does.
    """

    repo_id: str
    changed: bool
    commit_url: str | None = None
    oid: str | None = None
    pr_url: str | None = None
    pr_num: int | None = None
    paths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    card_diff: str = ""


def push_report(
    report: ESSReport,
    repo_id: str,
    *,
    create_pr: bool = False,
    revision: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    include_text: bool = False,
    benchmark: tuple[str, str] | None = None,
    dry_run: bool = False,
    message: str | None = None,
    card: bool = True,
) -> PushResult:
    """Publishes a report in a model repository by one commit, or one pull request.

    Written are `ess/report.json`, `ess/arrays.safetensors`, three plots, and in `README.md` the
    section between our markers, the tag `hf_ess` and an entry of `model-index`; all other text
    stays byte for byte as it is. What is there already is not written again: a second push of
    the same report makes no commit.

    Args:
        report: what to publish.
        repo_id: `user/model`.
        create_pr: propose the change to main by a pull request; an open one of ours is updated.
        revision: another branch than main.
        private: makes a missing repository, private or public; None makes none.
        token: of the Hub; None for the one of `hf auth login` or HF_TOKEN.
        include_text: publish the text that was measured, and its tokens, too.
        benchmark: a benchmark dataset and its task, for `.eval_results/hf_ess.yaml`.
        dry_run: read and plan, and send nothing.
        message: first line of the commit.
        card: False leaves the card alone.

    Raises:
        InvalidInputError: no repository of a model is named, or arguments do not fit together.
        HubError: the Hub refused or could not be reached, the card is one that it does not
            take, or a file would hold a token, the home folder or the text.
        ReportError: the report has no verified layer.

    Example:
        >>> from hf_ess.hub import push_report
        >>> push_report(report, "user/model", create_pr=True).pr_url  # doctest: +SKIP
        'https://huggingface.co/user/model/discussions/1'
    """
    name = model_repository(repo_id)
    if revision is not None and _COMMIT.fullmatch(revision):
        raise InvalidInputError("A commit cannot be changed.", fix="Name a branch.")
    if create_pr and revision not in (None, MAIN):
        raise InvalidInputError(
            f"A pull request goes to main, not to {revision!r}.",
            fix="Push to the branch without a pull request, or leave the branch out.",
        )
    api = hub_client(token)
    if not dry_run:
        check_can_write(api)
    push = _Push(
        api=api,
        target=Target(name, revision or MAIN, opens=create_pr),
        files=PublicationFiles(report, include_text=include_text),
        benchmark=benchmark,
        card=card,
        message=message,
        tokens=tuple(filter(None, [known_token(api)])),
        dry_run=dry_run,
    )
    with explained(f"The push to {name} was not completed"):
        exists = persistently(lambda: find_or_make(api, push.target, private, dry_run))
        return persistently(push.attempt) if exists else push.preview()


@dataclass
class _Push:
    """One push, from the first attempt to the one that lands."""

    api: HfApi
    target: Target
    files: PublicationFiles
    benchmark: tuple[str, str] | None
    card: bool
    message: str | None
    tokens: tuple[str, ...]
    dry_run: bool
    unanswered: _Sent | None = field(default=None, init=False)

    def attempt(self) -> PushResult:
        """Reads what is there, and commits what is missing."""
        target, found = self.target, PushResult(self.target.repo_id, changed=False)
        if target.opens and (ours := self._pull_request()):
            target = Target(target.repo_id, str(ours.git_reference))
            found = replace(found, pr_url=ours.url, pr_num=ours.num)
        # First of all: others may have put another report on top of ours, which stays.
        if (landed := self._landed(target, found)) is not None:
            return landed
        head = read_head(self.api, target, _PATHS, _READ)
        plan = self._plan(head)
        if not plan.files:
            return replace(found, notes=plan.notes)
        found = plan.result(found)
        return found if self.dry_run else self._commit(target, head, plan.files, found)

    def preview(self) -> PushResult:
        """What a repository that is yet to be made would get."""
        plan = self._plan(Head(None, {}, {}))
        return plan.result(PushResult(self.target.repo_id, changed=False))

    def _commit(
        self, target: Target, head: Head, files: Mapping[str, bytes], found: PushResult
    ) -> PushResult:
        # The first line becomes the title by which a pull request is found again.
        summary = TITLE if target.opens else self.message or MESSAGE
        more = self.message or "" if target.opens else ""
        sent = _Sent(head, summary, found)
        try:
            commit = send(self.api, target, head, files, summary, more)
        except Exception as error:
            self.unanswered = sent if may_have_landed(error) else self.unanswered
            raise
        if commit.pr_num is not None:
            # It has landed, even if what follows fails.
            self.unanswered = sent
            first = self._pull_request()
            if first is not None and first.num != commit.pr_num:
                self.unanswered = None
                raise RaceLostError(
                    f"Others propose the same to {target.repo_id} all the time.",
                    fix="Try again in a while.",
                )
        return _with_commit(found, commit)

    def _pull_request(self) -> Discussion | None:
        return open_pull_request(self.api, self.target.repo_id, alone=not self.dry_run)

    def _landed(self, target: Target, found: PushResult) -> PushResult | None:
        """What a commit of ours did whose answer was lost, None if there is none."""
        sent = self.unanswered
        oid = landed_after(self.api, target, sent.head, sent.summary) if sent else None
        if sent is None or oid is None:
            return None
        # Another push of this user may have the same title, and stand on the same commit.
        there = read_head(self.api, Target(target.repo_id, oid), _PATHS, _READ)
        if self._plan(there).files:
            return None
        url = f"{self.api.endpoint}/{found.repo_id}/commit/{oid}"
        result = replace(sent.result, oid=oid, commit_url=url)
        return replace(result, pr_url=found.pr_url, pr_num=found.pr_num)

    def _plan(self, head: Head) -> _Plan:
        files: dict[str, bytes] = {}
        if not self.files.describes_same(head.contents.get(REPORT_PATH)):
            files |= {**self.files.data, **self.files.images}
        else:
            # Plots may differ by the version of what draws them, and are the same plots.
            missing = [path for path in IMAGE_PATHS if path not in head.listed]
            files |= {path: self.files.images[path] for path in missing}
            if not head.holds(ARRAYS_PATH, self.files.data[ARRAYS_PATH]):
                files[ARRAYS_PATH] = self.files.data[ARRAYS_PATH]
        before = head.contents.get(CARD_PATH)
        notes: tuple[str, ...] = ()
        if self.card:
            edited = self._edited(before)
            files |= {CARD_PATH: edited.content} if edited.content != before else {}
            notes = edited.notes
        if self.benchmark is not None:
            known = head.contents.get(EVALUATION_PATH)
            new = with_evaluation(known, self.files.report, self.target.repo_id, *self.benchmark)
            files |= {EVALUATION_PATH: new} if new != known else {}
        refuse_leaks(files, before=head.contents, tokens=self.tokens, texts=self.files.withheld)
        return _Plan(files, notes, before)

    def _edited(self, card: bytes | None) -> EditedCard:
        try:
            return with_addition(card, card_addition(self.files.report, self.target.repo_id))
        except InvalidInputError as error:
            fix = f"{error.fix} {PUSH_WITHOUT_CARD}"
            raise InvalidInputError(error.what, causes=error.causes, fix=fix) from error


@dataclass(frozen=True)
class _Sent:
    """A commit without an answer: on top of what, its first line, and what it would give."""

    head: Head
    summary: str
    result: PushResult


@dataclass(frozen=True)
class _Plan:
    """The files to write, remarks, and the card before."""

    files: Mapping[str, bytes]
    notes: tuple[str, ...]
    card_before: bytes | None

    def result(self, found: PushResult) -> PushResult:
        after = self.files.get(CARD_PATH)
        diff = "" if after is None else _difference(self.card_before or b"", after)
        paths = tuple(sorted(self.files))
        return replace(found, changed=bool(paths), paths=paths, notes=self.notes, card_diff=diff)


def _with_commit(found: PushResult, commit: CommitInfo) -> PushResult:
    return replace(
        found,
        commit_url=commit.commit_url,
        oid=commit.oid,
        pr_url=commit.pr_url or found.pr_url,
        pr_num=commit.pr_num or found.pr_num,
    )


def _difference(before: bytes, after: bytes) -> str:
    old, new = (text.decode("utf-8", "replace").splitlines() for text in (before, after))
    names = (f"a/{CARD_PATH}", f"b/{CARD_PATH}")
    return "\n".join(unified_diff(old, new, *names, lineterm=""))
