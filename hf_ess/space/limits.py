"""What a server does for its visitors at most, and how it says so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from hf_ess.arguments import check_whole
from hf_ess.errors import InvalidInputError, LimitError

PREFIX = "HF_ESS_MAX_"


@dataclass(frozen=True)
class Limits:
    """Limits that protect the machine; the operator sets each by an environment variable.

    `HF_ESS_MAX_TOKENS=2048` sets `tokens`, and so on: the prefix and the name in capitals.

    Attributes:
        characters: of a text, looked at before it is split into tokens.
        tokens: of a text.
        every_position: texts of up to so many tokens are measured at every position by default.
        positions: that one request may name.
        parameters: of a model.
        queue: measurements that wait, besides the one that runs.
        jobs_per_user: measurements of one user that wait or run.
        seconds: that one measurement may take.
        spectra_bytes: singular values of one measurement; positions are thinned to stay below.
        model_bytes: weights that stay loaded; the model in use always does.
        store_bytes: results kept on disk; the oldest unused ones are removed.

    Raises:
        InvalidTypeError: a limit is no whole number.
        InvalidInputError: it is not positive.

    Example:
        >>> Limits.from_environment({"HF_ESS_MAX_TOKENS": "256"}).tokens
        256
    """

    characters: int = 20_000
    tokens: int = 1024
    every_position: int = 256
    positions: int = 512
    parameters: int = 1_000_000_000
    queue: int = 20
    jobs_per_user: int = 1
    seconds: int = 600
    spectra_bytes: int = 256 * 2**20
    model_bytes: int = 4 * 2**30
    store_bytes: int = 2 * 2**30

    def __post_init__(self) -> None:
        for field in fields(self):
            check_whole(f"{PREFIX}{field.name.upper()}", getattr(self, field.name), least=1)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Limits:
        """The limits that the operator set, the defaults elsewhere.

        Raises:
            InvalidInputError: a variable does not hold a positive whole number.
        """
        found = os.environ if environment is None else environment
        chosen = {
            field.name: _whole_number(variable, words)
            for field in fields(cls)
            if (words := found.get(variable := PREFIX + field.name.upper()))
        }
        return cls(**chosen)

    def check_text(self, text: str) -> None:
        """Refuses a text by its characters, before anything is done with it.

        Raises:
            InvalidInputError: there is no text.
            LimitError: it is too long.
        """
        if not isinstance(text, str) or not text.strip():
            raise InvalidInputError(
                "There is no text to measure.",
                fix="Write or paste a text; some hundred words show most.",
            )
        if len(text) > self.characters:
            raise LimitError(
                f"The text has {len(text):,} characters; this server takes {self.characters:,}.",
                fix="Shorten the text, or measure it with hf_ess on your own machine.",
            )

    def check_tokens(self, tokens: int) -> None:
        """Refuses a text by its tokens.

        Raises:
            InvalidInputError: a single token has no past and future.
            LimitError: there are too many.
        """
        if tokens < 2:
            raise InvalidInputError(
                f"The text has {tokens} token(s) in this model; a state needs a past and a future.",
                fix="Write at least two words; some hundred show most.",
            )
        if tokens > self.tokens:
            raise LimitError(
                f"The text has {tokens:,} tokens in this model; this server takes {self.tokens:,}.",
                fix=f"Shorten it to about {100 * self.tokens // tokens} % of its length, or "
                "measure it with hf_ess on your own machine.",
            )

    def check_parameters(self, name: str, parameters: int) -> None:
        """Refuses a model by its size.

        Raises:
            LimitError: it is too large.
        """
        if parameters > self.parameters:
            raise LimitError(
                f"{name} has {_millions(parameters)} parameters; this server takes "
                f"{_millions(self.parameters)}.",
                fix="Choose a smaller model, or measure it with hf_ess on your own machine.",
            )


def _millions(number: int) -> str:
    return f"{number / 1e6:,.0f} million"


def _whole_number(variable: str, words: str) -> int:
    try:
        return int(words.replace("_", ""))
    except ValueError:
        raise InvalidInputError(
            f"{variable} must be a whole number, got {words!r}.", fix="Mend it, or unset it."
        ) from None
