"""A model card as text, taken into parts that join to the very same text again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from huggingface_hub.repocard import REGEX_YAML_BLOCK

from hf_ess.errors import InvalidInputError

NEWLINE = re.compile(r"\r\n|\r|\n")
_BYTE_ORDER_MARK = "\ufeff"
_OPENING = re.compile(r"\s*---(?:\r\n|\r|\n)")
# The Hub's expression wants a line break of its own before the closing fence, so that it
# sees no front matter where there is nothing between the fences.
_NOTHING_BETWEEN = re.compile(r"\s*---(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|\Z)")


@dataclass(frozen=True)
class CardParts:
    """A card, part by part; `text` joins them.

    Args:
        mark: a byte order mark, or nothing.
        opening: the line that opens the front matter, with whitespace before it; empty if the
            card has no front matter.
        yaml: the lines between the fences; the last one has its line break.
        closing: the line that closes the front matter.
        body: everything after it.
    """

    mark: str
    opening: str
    yaml: str
    closing: str
    body: str

    @property
    def head(self) -> str:
        return self.mark + self.opening + self.yaml + self.closing

    @property
    def text(self) -> str:
        return self.head + self.body

    @property
    def has_front_matter(self) -> bool:
        return bool(self.opening)

    @property
    def front_matter_stays_open(self) -> bool:
        """Whether a line of three dashes begins the card, and nothing that the Hub sees ends it."""
        return not self.opening and _OPENING.match(self.body) is not None


def card_text(card: bytes) -> str:
    """The text of a card.

    Raises:
        InvalidInputError: the card is not UTF-8.

    Example:
        >>> card_text(b"# A model")
        '# A model'
    """
    try:
        return card.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"The model card is not UTF-8: byte {error.start} cannot be read.",
            causes=("it was saved in another encoding, such as UTF-16 or Latin-1",),
            fix="Save README.md as UTF-8; until then it is left as it is.",
        ) from error


def card_parts(text: str) -> CardParts:
    r"""Splits a card where `huggingface_hub` does, but also sees front matter without any line.

    Example:
        >>> parts = card_parts("---\nlicense: mit\n---\n# A model")
        >>> parts.yaml, parts.body
        ('license: mit\n', '# A model')
    """
    mark = _BYTE_ORDER_MARK if text.startswith(_BYTE_ORDER_MARK) else ""
    rest = text[len(mark) :]
    block = REGEX_YAML_BLOCK.match(rest) or _NOTHING_BETWEEN.match(rest)
    opening = _OPENING.match(rest)
    if block is None or opening is None:
        return CardParts(mark, "", "", "", rest)
    closing = block.group().rindex("---")
    return CardParts(
        mark,
        opening.group(),
        rest[opening.end() : closing],
        rest[closing : block.end()],
        rest[block.end() :],
    )


def newline_style(text: str) -> str | None:
    r"""The line break that a text uses most, the plain one in doubt; None if it has no line break.

    Example:
        >>> newline_style("a\r\nb\r\nc\n")
        '\r\n'
    """
    windows = text.count("\r\n")
    counts = {
        "\n": text.count("\n") - windows,
        "\r\n": windows,
        "\r": text.count("\r") - windows,
    }
    style = max(counts, key=counts.__getitem__)
    return style if counts[style] else None


def line_breaks_at_end(text: str) -> list[str]:
    r"""The line breaks that a text ends with.

    Example:
        >>> line_breaks_at_end("a\r\n\n")
        ['\r\n', '\n']
    """
    return NEWLINE.findall(text[len(text.rstrip("\r\n")) :])


def joint(left: str, newline: str, right: str) -> str:
    r"""The line break to put between two texts, such that no neighbour melts into it.

    Example:
        >>> joint("a\r", "\n", "b")
        '\r\n'
    """
    melts = (left.endswith("\r") and newline == "\n") or (newline == "\r" and right[:1] == "\n")
    return "\r\n" if melts else newline
