"""Small records of a report: one analysed text, one layer that could not be analysed."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_ess.errors import InvalidInputError


@dataclass(eq=False)
class SampleInfo:
    r"""One analysed sequence of tokens.

    Attributes:
        length: number of tokens L of this sample.
        text_sha256: SHA-256 of the UTF-8 text in hexadecimal, None where tokens were passed.
        tokens: the decoded text of each token (`" the"`, not `"\u0120the"`), None without a
            tokenizer.
        token_ids: int64 `[L]`, None where the text is withheld, as in a published report.
        token_ids_sha256: SHA-256 of the token ids as little-endian int64, in hexadecimal, by
            which equal texts are known where they are withheld; found from the ids.

    Raises:
        InvalidInputError: the number of tokens or ids is not the length, tokens come without
            ids, or the ids have another SHA-256.

    Example:
        >>> SampleInfo(length=2, token_ids=[5, 7], tokens=["a", " b"]).tokens
        ['a', ' b']
    """

    length: int
    text_sha256: str | None = None
    tokens: list[str] | None = None
    token_ids: NDArray[np.int64] | None = None
    token_ids_sha256: str | None = None

    def __post_init__(self) -> None:
        self.length = int(self.length)
        counts: dict[str, tuple[int, ...]] = {}
        if self.token_ids is not None:
            self.token_ids = np.asarray(self.token_ids, dtype=np.int64)
            counts["token_ids"] = self.token_ids.shape
        if self.tokens is not None:
            if self.text_withheld:
                raise InvalidInputError("SampleInfo has tokens, and their token_ids are withheld.")
            self.tokens = [str(token) for token in self.tokens]
            counts["tokens"] = (len(self.tokens),)
        for name, shape in counts.items():
            if shape != (self.length,):
                raise InvalidInputError(
                    f"SampleInfo.{name} has shape {list(shape)}, the sample has "
                    f"{self.length} tokens."
                )
        if self.token_ids is not None:
            self._hash_ids(self.token_ids)

    def _hash_ids(self, ids: NDArray[np.int64]) -> None:
        found = hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()
        if self.token_ids_sha256 not in (None, found):
            raise InvalidInputError("SampleInfo.token_ids do not have their token_ids_sha256.")
        self.token_ids_sha256 = found

    @property
    def text_withheld(self) -> bool:
        """Whether the token ids, and with them the text, are not in the report."""
        return self.token_ids is None


@dataclass(frozen=True)
class UnsupportedLayer:
    """A mixer that was found and not analysed.

    `ESSReport.unsupported` lists them.

    Attributes:
        name: dotted name of the module.
        index: layer number, -1 where the name holds none.
        mixer: what the module is, as far as known.
        reason: why it was not analysed.
    """

    name: str
    index: int
    mixer: str
    reason: str


def plain(value: object) -> object:
    """The value in the types of JSON; text where it has no such form.

    Example:
        >>> plain({"window": (64, 64), "limit": float("inf")})
        {'window': [64, 64], 'limit': 'inf'}
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)
