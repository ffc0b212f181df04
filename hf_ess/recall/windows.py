"""Texts longer than the context, cut into windows in which every token is scored once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hf_ess.errors import InvalidInputError


@dataclass(frozen=True)
class Window:
    """One context of one text.

    Attributes:
        text: number of the text.
        start: its first token.
        stop: the token after its last.
        scored_from: the first token, counted in the text, whose probability is taken here.
    """

    text: int
    start: int
    stop: int
    scored_from: int

    @property
    def shape(self) -> tuple[int, int]:
        """Tokens, and how many of them are context only."""
        return self.stop - self.start, self.scored_from - self.start


@dataclass(frozen=True)
class Windowing:
    """How long texts are cut.

    Attributes:
        window: tokens of one context, None for whole texts.
        stride: tokens by which a window lies behind the one before; None without windows.
    """

    window: int | None
    stride: int | None

    @classmethod
    def chosen(cls, window: int | None, stride: int | None, longest: int | None) -> Windowing:
        """The windows that a user asked for.

        Args:
            window: None for the context that the model was made for.
            stride: None for half of a window.
            longest: the context of the model, None where it has no limit.

        Raises:
            InvalidInputError: a window beyond the context of the model, a stride that leaves no
                context, or a stride and nothing to cut by.
        """
        if window is not None and longest is not None and window > longest:
            raise InvalidInputError(
                f"A window of {window} tokens is longer than the {longest} that the model was "
                "made for.",
                fix=f"Choose a window of at most {longest} tokens.",
            )
        length = longest if window is None else window
        if length is None:
            if stride is not None:
                raise InvalidInputError(
                    "There is a stride and no window: the model has no limit of its own.",
                    fix="Give a window, too.",
                )
            return cls(None, None)
        step = max(1, length // 2) if stride is None else stride
        if step >= length:
            raise InvalidInputError(
                f"A stride of {step} tokens leaves no context in windows of {length}.",
                fix=f"Choose a stride of at most {length - 1}; {length // 2} is half a window.",
            )
        return cls(length, step)

    def of_text(self, text: int, length: int) -> Iterator[Window]:
        """The windows of one text of at least two tokens.

        Example:
            >>> [(w.start, w.stop, w.scored_from) for w in Windowing(6, 2).of_text(0, 9)]
            [(0, 6, 1), (2, 8, 6), (4, 9, 8)]
        """
        if self.window is None or self.stride is None or length <= self.window:
            yield Window(text, 0, length, 1)
            return
        start, scored = 0, 1
        while scored < length:
            stop = min(start + self.window, length)
            yield Window(text, start, stop, scored)
            start, scored = start + self.stride, stop


def batches_of_one_shape(windows: Sequence[Window], size: int) -> Iterator[list[Window]]:
    """Windows that run together: of one shape, so that nothing is padded."""
    by_shape: dict[tuple[int, int], list[Window]] = {}
    for window in windows:
        by_shape.setdefault(window.shape, []).append(window)
    for alike in by_shape.values():
        for first in range(0, len(alike), size):
            yield alike[first : first + size]
