"""Answers of a stub Hub, and its refusals with the words and codes of the Hub."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reply:
    """One answer: bytes, or what becomes JSON."""

    content: object
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


class RefusalError(Exception):
    """An answer that says no; `code` is what the client takes the class of its error from."""

    def __init__(self, status, message, code=None, headers=None):
        super().__init__(message)
        sent = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.reply = Reply({"error": message}, status, headers=sent | (headers or {}))


NO_USER = RefusalError(401, "Invalid username or password.")
WRONG_TOKEN = RefusalError(401, "Invalid credentials in Authorization header")
NO_REPO = RefusalError(404, "Repository not found", "RepoNotFound")
READ_TOKEN = RefusalError(403, "you must use a write token to upload to a repository.")
NO_SCOPE = RefusalError(403, "this token lacks the permission repo.write for this repository")
NO_WRITER = RefusalError(403, "pass `create_pr=1` as a query parameter to create a Pull Request")


def restricted(repo_id, user):
    """A gated repository for somebody who did not get access."""
    return RefusalError(
        401 if user is None else 403,
        f"Access to model {repo_id} is restricted and you are not in the authorized list.",
        "GatedRepo",
    )
