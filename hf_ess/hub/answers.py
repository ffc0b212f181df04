"""What the answers of the Hub mean, and what to do about them, for every request made here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from hf_ess.errors import HfEssError, HubError

LOG_IN = "Run `hf auth login`, or set HF_TOKEN."
RACES = frozenset({409, 412})
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529})


class Meaning(NamedTuple):
    """Why the Hub answers with some status, and what to do."""

    cause: str
    fix: str


MEANINGS: Mapping[int, Meaning] = {
    401: Meaning("the token is wrong or has expired, or there is none", LOG_IN),
    403: Meaning(
        "the token may only read, or its owner may not write there",
        "Make a token that may write, at https://huggingface.co/settings/tokens, or ask the "
        "owners to add you; anyone may propose a change with --create-pr (create_pr=True).",
    ),
    404: Meaning(
        "it does not exist, or is private and the token cannot see it",
        "Check the name, and the account that you are logged in to (`hf auth whoami`).",
    ),
    409: Meaning("others change the same thing at the same time", "Try again in a while."),
    412: Meaning("others change the same branch at the same time", "Try again in a while."),
    413: Meaning("it is larger than the Hub takes", "Analyse fewer texts or positions."),
    429: Meaning("too many requests in a short time", "Wait some minutes and try again."),
}
_TROUBLE = Meaning("the Hub has a problem of its own", "Try again later.")
_WRONG = Meaning(
    "something in the request is not as the Hub wants it", "Change what the answer names."
)


@contextmanager
def explained(
    what: str,
    meanings: Mapping[int, Meaning] = MEANINGS,
    raised: type[HfEssError] = HubError,
    unreachable: str = "Check the connection and try again.",
) -> Iterator[None]:
    """Turns errors of huggingface_hub and of the network into one that says what to do.

    Args:
        what: what did not happen, the beginning of the message.
        meanings: why the Hub answers with a status, by status.
        raised: class of the error.
        unreachable: what to do where there is no connection.

    Raises:
        HubError: or `raised`, instead of every error of the client that is known here.

    Example:
        >>> from huggingface_hub.errors import OfflineModeIsEnabled
        >>> from hf_ess import HubError
        >>> try:
        ...     with explained("Nothing was sent"):
        ...         raise OfflineModeIsEnabled
        ... except HubError as error:
        ...     print(error.what, error.fix)
        Nothing was sent: offline mode is on. Unset HF_HUB_OFFLINE.
    """
    from huggingface_hub import errors

    known = (errors.HTTPError, errors.OfflineModeIsEnabled, errors.LocalTokenNotFoundError)
    try:
        yield
    except HfEssError:
        raise
    except Exception as error:
        cause = origin(error)
        if isinstance(cause, (*known, errors.HFValidationError, json.JSONDecodeError)):
            raise _translated(what, cause, meanings, raised, unreachable) from error
        raise


def origin(error: BaseException) -> BaseException:
    """The error of the network behind those that the client wraps around it, or the error."""
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, (HTTPError, OfflineModeIsEnabled)):
        inner = inner.__cause__
    return error if inner is None else inner


def status_of(error: BaseException) -> int | None:
    """The status with which the Hub refused, None where it gave no answer."""
    response = getattr(origin(error), "response", None)
    return None if response is None else int(response.status_code)


def wanted_pause(error: BaseException) -> float | None:
    """Seconds that the Hub asks to wait for (Retry-After or RateLimit), None if it does not."""
    from huggingface_hub.utils import parse_ratelimit_headers

    response = getattr(origin(error), "response", None)
    if response is None:
        return None
    asked = str(response.headers.get("Retry-After", "")).strip()
    if asked.isdigit():
        return float(asked)
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    return None


def _translated(
    what: str,
    error: Any,
    meanings: Mapping[int, Meaning],
    raised: type[HfEssError],
    unreachable: str,
) -> HfEssError:
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return raised(f"{what}: offline mode is on.", fix="Unset HF_HUB_OFFLINE.")
    if isinstance(error, errors.LocalTokenNotFoundError):
        return raised(f"{what}: there is no token of the Hub.", fix=LOG_IN)
    if isinstance(error, errors.HFValidationError):
        return raised(f"{what}: {error}", fix="Name a repository as user/name.")
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(what, error, meanings, raised)
    said = f"{type(error).__name__}: {error}"
    causes = ["there is no network", "HF_ENDPOINT or a proxy is set wrongly"]
    return raised(f"{what}: the Hub cannot be reached ({said}).", causes=causes, fix=unreachable)


def _refused(
    what: str, error: Any, meanings: Mapping[int, Meaning], raised: type[HfEssError]
) -> HfEssError:
    from huggingface_hub.errors import GatedRepoError

    status = error.response.status_code
    cause, fix = meanings.get(status, _TROUBLE if status >= 500 else _WRONG)
    if isinstance(error, GatedRepoError):
        cause, fix = "the repository is gated", "Ask for access on its page, and log in."
    said = error.server_message or str(error).splitlines()[0]
    return raised(f"{what}: the Hub answered {status}, {said}", causes=[cause], fix=fix)
