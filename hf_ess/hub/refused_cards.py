"""What to say when the Hub does not take a card: which line it is, and what to do."""

from __future__ import annotations

import re

import yaml

from hf_ess.errors import HubError
from hf_ess.hub.card_parts import NEWLINE, card_parts

CARD_PATH = "README.md"
PUSH_WITHOUT_CARD = "--no-card (card=False) writes the ess/ folder only."
_PLACE = re.compile(r"\((\d+):\d+\)")
_KEY = re.compile(r'"([\w.-]+)')


def refused_card(card: bytes, before: bytes | None, error: ValueError) -> HubError:
    """The error for a card whose metadata the Hub refuses.

    Args:
        card: as it would have been.
        before: as it is in the repository.
        error: what the client says.
    """
    said = " ".join(str(error).split())
    what = f"The Hub does not take the card, and nothing was changed: {said}"
    number = refused_line(card.decode(), said)
    if number is not None:
        line = NEWLINE.split(card.decode())[number - 1]
        was = before is not None and line in NEWLINE.split(before.decode())
        what += f"\nLine {number} of the card{', as it was before' if was else ''}: {line}"
    return HubError(
        what,
        causes=["the metadata at the top of the card was broken before"] if before else [],
        fix=f"Repair the card on its page on the Hub and push again. {PUSH_WITHOUT_CARD}",
    )


def refused_line(card: str, said: str) -> int | None:
    r"""The number of the line that the Hub means, from 1, None if that cannot be told.

    Args:
        card: the card with its front matter.
        said: the Hub's words: a place in the metadata, or the name of a key.

    Example:
        >>> refused_line("---\ntags: a\nlicense: 5\n---\n", '"license" must be a string')
        3
    """
    parts = card_parts(card)
    metadata, first = parts.yaml, len(NEWLINE.findall(parts.opening))
    count = len(NEWLINE.findall(metadata))
    candidates = [int(place[1]) for place in _PLACE.finditer(said)]
    try:
        yaml.compose(metadata, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        if error.problem_mark is not None:
            candidates.append(error.problem_mark.line + 1)
    except yaml.YAMLError:
        pass
    for key in _KEY.finditer(said):
        name = re.escape(re.split(r"[.\[]", key[1])[0])
        if line := re.search(rf"^['\"]?{name}['\"]?[ \t]*:", metadata, re.MULTILINE):
            candidates.append(metadata.count("\n", 0, line.start()) + 1)
    return next((first + number for number in candidates if number <= count), None)
