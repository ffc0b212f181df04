"""Texts of unrelated passages: what is kept from one to the next is kept for nothing.

The sentences are ours; that there are four short ones on unrelated subjects is after Parnichkun
et al., ICML 2025, appendix D.8. The passage after the last separator is long, so that none of the
separators is near the end, where every state shrinks.
"""

from __future__ import annotations

from importlib.resources import files

from hf_ess.corpus import paragraphs
from hf_ess.errors import InvalidInputError

SENTENCES = (
    "The ferry to the island leaves at seven and takes the mail along",
    "Two parallel lines never meet, however far they are drawn",
    "My grandmother salted the beans before the water boiled",
    "The orchestra tuned twice because the oboe had caught a cold",
    "Copper turns green in the rain and keeps what lies beneath it",
)
SHORT_SENTENCES = 4
_ON_COPPER = (
    ". A new roof is as bright as a coin for a summer, brown after the second winter, and black "
    "before the children of the house are grown. The green comes last, from the side that the "
    "weather comes from, and it takes thirty years to reach the other. Roofers who are in a hurry "
    "paint it on, and whoever knows the trade can tell from the street: the rain never draws so "
    "straight an edge"
)
_PASSAGES_END = "<|endoftext|>"
_FILES = {"code": "modulate-code", "shots": "modulate-shots"}
TEXT_NAMES = ("short", "long", "code", "shots")


def passages_of(name: str) -> tuple[str, ...]:
    """The passages of a text that comes with hf_ess.

    Args:
        name: "short", four sentences and a longer passage; "long", six passages; "code", five
            functions in C; "shots", five reviews with their verdicts.

    Raises:
        InvalidInputError: there is no such text.

    Example:
        >>> [len(passages_of(name)) for name in TEXT_NAMES]
        [5, 6, 5, 5]
    """
    if name == "short":
        return (*SENTENCES[:SHORT_SENTENCES], SENTENCES[SHORT_SENTENCES] + _ON_COPPER)
    if name == "long":
        return tuple(part.strip() for part in _read("demo").split(_PASSAGES_END))
    if name in _FILES:
        return paragraphs(_read(_FILES[name]))
    raise InvalidInputError(
        f"There is no text {name!r}.", fix=f"Choose among {', '.join(TEXT_NAMES)}."
    )


def _read(name: str) -> str:
    return files("hf_ess").joinpath("data", f"{name}.txt").read_text("utf-8")
