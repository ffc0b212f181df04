"""Repositories of a stub Hub: commits, branches, pull requests, and who may do what."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

URL_PREFIXES = {"model": "", "dataset": "datasets/", "space": "spaces/"}
LFS_SUFFIXES = (
    *(".7z", ".arrow", ".bin", ".bz2", ".gz", ".h5", ".model", ".npy", ".npz", ".onnx", ".parquet"),
    *(".pickle", ".pkl", ".pt", ".pth", ".safetensors", ".tar", ".tflite", ".tgz", ".zip", ".zst"),
)
GIT_ATTRIBUTES = "".join(
    f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES
).encode()
BEGINNING = datetime(2026, 1, 1, tzinfo=timezone.utc)


class ConflictError(Exception):
    """A commit does not start where its branch is."""


class MissingError(Exception):
    """A revision or a file that is not there; `code` is what the Hub calls it."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class File:
    """Content of one file, and whether git holds only a pointer to it."""

    content: bytes
    lfs: bool = False

    @property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self):
        return (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{self.sha256}\nsize {len(self.content)}\n"
        ).encode()

    @property
    def blob_id(self):
        content = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self):
        """By which a client recognises content that it has."""
        return self.sha256 if self.lfs else self.blob_id


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    author: str
    message: str
    description: str
    files: Mapping[str, File]
    changed: tuple[str, ...]
    at: datetime


@dataclass
class Discussion:
    """One discussion; a pull request has a ref and the commit that it started from."""

    num: int
    author: str
    title: str
    description: str
    at: datetime
    status: str = "open"
    base: str | None = None
    merged_as: str | None = None
    events: list[dict] = field(default_factory=list)

    @property
    def is_pull_request(self):
        return self.base is not None

    @property
    def ref(self):
        return f"refs/pr/{self.num}"


class Repo:
    """One repository.

    Attributes:
        commits: all that have landed on any ref, oldest first.
        gated: False, "auto" or "manual"; `granted` are the users who got access.
    """

    def __init__(self, repo_id, repo_type="model", *, private=False, gated=False):
        self.id, self.type, self.private, self.gated = repo_id, repo_type, private, gated
        self.owner = repo_id.split("/")[0]
        self.writers, self.granted = {self.owner}, {self.owner}
        self.lock = threading.RLock()
        self.commits, self.refs, self.discussions = [], {}, []
        self.commit({".gitattributes": File(GIT_ATTRIBUTES)}, author="system", message="initial")

    @property
    def path(self):
        return URL_PREFIXES[self.type] + self.id

    @property
    def pull_requests(self):
        return [discussion for discussion in self.discussions if discussion.is_pull_request]

    def _now(self):
        return BEGINNING + timedelta(seconds=len(self.commits) + len(self.discussions))

    def head(self, revision="main"):
        """Oid that a branch, a ref of a pull request or an oid stands for."""
        with self.lock:
            found = self.refs.get(revision, self.refs.get(f"refs/heads/{revision}"))
            if found is None and any(commit.oid == revision for commit in self.commits):
                found = revision
            if found is None:
                raise MissingError("RevisionNotFound", f"Invalid rev id: {revision}")
            return found

    def at(self, revision="main"):
        oid = self.head(revision)
        with self.lock:
            return next(commit for commit in self.commits if commit.oid == oid)

    def tree(self, revision="main"):
        return self.at(revision).files

    def files(self, revision="main"):
        """Contents by path."""
        return {path: file.content for path, file in self.tree(revision).items()}

    def history(self, revision="main"):
        """Commits of a revision, newest first."""
        with self.lock:
            by_oid = {commit.oid: commit for commit in self.commits}
            found, oid = [], self.head(revision)
            while oid is not None:
                found.append(by_oid[oid])
                oid = by_oid[oid].parent
            return found

    def file(self, path, revision="main"):
        try:
            return self.tree(revision)[path]
        except KeyError:
            raise MissingError("EntryNotFound", "Entry not found") from None

    def commit(self, changes, *, author, message, description="", revision="main", parent=None):
        """Lands a commit; None in place of a file deletes it.

        Args:
            parent: where the branch has to be.

        Raises:
            ConflictError: the branch is elsewhere.
        """
        with self.lock:
            head = self.head(revision) if self.commits else None
            if parent is not None and parent != head:
                raise ConflictError("A commit has happened since. Please refresh and try again.")
            commit = self._add(changes, head, author, message, description)
            self._move(revision, commit.oid)
            return commit

    def _add(self, changes, parent, author, message, description=""):
        before = self.tree(parent) if parent else {}
        files = {path: file for path, file in {**before, **changes}.items() if file is not None}
        changed = tuple(path for path in changes if before.get(path) != files.get(path))
        stamp = repr((parent, author, message, changed, len(self.commits), self.id, self.type))
        oid = hashlib.sha1(stamp.encode()).hexdigest()
        commit = Commit(oid, parent, author, message, description, files, changed, self._now())
        self.commits.append(commit)
        return commit

    def _move(self, revision, oid):
        key = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
        self.refs[key] = oid
        for discussion in self.pull_requests:
            if discussion.ref == key:
                commit = self.at(oid)
                data = {"subject": commit.message, "oid": oid}
                self._event(discussion, "commit", commit.author, data)

    def write(self, path, content, *, author=None, revision="main", message="Edit"):
        """What another writer would commit; `content` may be a function of what is there."""
        with self.lock:
            before = self.files(revision).get(path)
            new = content(before) if callable(content) else content
            file = None if new is None else File(new, path.endswith(LFS_SUFFIXES))
            return self.commit(
                {path: file}, author=author or self.owner, message=message, revision=revision
            )

    def branch(self, name, revision="main"):
        with self.lock:
            self.refs[f"refs/heads/{name}"] = self.head(revision)

    def discuss(self, author, title, description="", *, base=None, status="open"):
        """Opens a discussion, or with the oid of a base a pull request."""
        with self.lock:
            num = len(self.discussions) + 1
            opened = Discussion(num, author, title, description, self._now(), status, base)
            self.discussions.append(opened)
            if base is not None:
                self.refs[opened.ref] = base
            self.comment(opened, author, description)
            return opened

    def propose(self, changes, *, author, message, description="", parent=None):
        """A pull request with one commit, on main as it is or as it was at `parent`."""
        with self.lock:
            opened = self.discuss(author, message, description, base=self.head(parent or "main"))
            commit = self.commit(
                changes, author=author, message=message, revision=opened.ref, parent=opened.base
            )
            return opened, commit

    def comment(self, discussion, author, text):
        with self.lock:
            latest = {"raw": text, "html": "", "updatedAt": stamp(self._now())}
            data = {"edited": False, "hidden": False, "latest": latest, "history": []}
            return self._event(discussion, "comment", author, data)

    def discussion(self, num):
        for discussion in self.discussions:
            if discussion.num == num:
                return discussion
        raise MissingError("DiscussionNotFound", "Discussion not found")

    def change_status(self, num, status, author=None):
        with self.lock:
            discussion = self.discussion(num)
            discussion.status = status
            return self._event(
                discussion, "status-change", author or self.owner, {"status": status}
            )

    def merge(self, num, author=None):
        """Brings what a pull request changed onto main.

        Raises:
            ConflictError: main changed one of the same files since.
        """
        with self.lock:
            discussion = self.discussion(num)
            base, main, theirs = map(self.tree, (discussion.base, "main", discussion.ref))
            changes = {
                path: theirs.get(path)
                for path in {*base, *theirs}
                if base.get(path) != theirs.get(path)
            }
            clashes = [path for path in changes if base.get(path) != main.get(path)]
            if clashes:
                raise ConflictError(f"Conflicts in {', '.join(clashes)}")
            message = f"{discussion.title} (#{num})"
            landed = self.commit(changes, author=author or self.owner, message=message)
            discussion.merged_as = landed.oid
            self.change_status(num, "merged", author)
            return landed

    def _event(self, discussion, kind, author, data):
        event = {
            "id": f"{discussion.num:04x}{len(discussion.events):04x}",
            "type": kind,
            "createdAt": stamp(self._now()),
            "author": {"name": author},
            "data": data,
        }
        discussion.events.append(event)
        return event


def stamp(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
