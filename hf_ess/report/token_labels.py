"""Which tokens to write under an axis, and how, with a font that has not every glyph."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from hf_ess.plain_text import printable
from hf_ess.report.text import shortened

FONT = "DejaVu Sans"  # the one that matplotlib itself ships, so that it is always there
MISSING_GLYPH = "\N{WHITE SQUARE}"
SPACE = "\N{OPEN BOX}"
LINE_BREAK = "\N{RETURN SYMBOL}"
MARKERS = re.compile(
    r"<\|.*\|>|<\uff5c.*\uff5c>|</?(s|pad|eos|bos|unk|start_of_turn|end_of_turn)>"
    r"|\[(SEP|CLS|PAD|MASK|UNK)\]"
)


def drawable(text: str) -> str:
    """The text with what the font cannot draw replaced by a square, so that nothing warns.

    Example:
        >>> drawable("caf\u00e9 \u65e5")
        'caf\u00e9 \u25a1'
    """
    has_glyph = _glyph_test()
    return "".join(
        character if has_glyph(character) else MISSING_GLYPH for character in printable(text)
    )


def token_label(token: str, limit: int = 14) -> str:
    r"""How a token is written under an axis: one short line, blanks made visible.

    Example:
        >>> token_label(" the"), token_label("\n\n"), token_label("  ")
        ('the', '\u23ce\u23ce', '\u2423\u2423')
    """
    visible = token.replace("\r", "").replace("\n", LINE_BREAK).replace("\t", " ")
    word = visible.strip()
    return drawable(shortened(word, limit) if word else SPACE * min(len(visible), limit))


def is_marker(token: str) -> bool:
    """Whether a token separates texts, turns or sequences, such as `<|endoftext|>`.

    Example:
        >>> is_marker("<|endoftext|>"), is_marker("the")
        (True, False)
    """
    return MARKERS.fullmatch(token.strip()) is not None


def separators(tokens: Sequence[str], most: int = 40) -> list[int]:
    r"""Where to draw a line: at markers, and at line breaks unless there are too many of them.

    Example:
        >>> separators(["a", "\n", "b", "</s>"])
        [1, 3]
    """
    markers = [i for i, token in enumerate(tokens) if is_marker(token)]
    breaks = [i for i, token in enumerate(tokens) if "\n" in token]
    found = sorted({*markers, *breaks})
    if len(found) <= most:
        return found
    return markers if len(markers) <= most else []


def labelled_tokens(
    candidates: Sequence[int], preferred: Sequence[int], span: int, most: int
) -> list[int]:
    """A subset that can be read side by side: the preferred, then others, never too close.

    Example:
        >>> labelled_tokens([0, 10, 20, 30], preferred=[11], span=40, most=8)
        [0, 11, 20, 30]
    """
    gap = span / most
    chosen: list[int] = []
    for index in [*preferred, *candidates]:
        if all(abs(index - other) >= gap for other in chosen):
            chosen.append(index)
    return sorted(chosen)


@lru_cache(maxsize=1)
def _glyph_test() -> Callable[[str], bool]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(family=[FONT])))
    return lambda character: font.get_char_index(ord(character)) != 0
