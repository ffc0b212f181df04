"""Texts to begin with: what a state does at separators, in code, in examples, in a long text."""

from __future__ import annotations

from importlib.resources import files

from hf_ess.errors import InvalidInputError
from hf_ess.modulation.texts import SENTENCES

SEPARATED = "separators"

# Names as people read them, and what they stand for.
EXAMPLES = (
    ("Five unrelated sentences", SEPARATED),
    ("Six passages", "demo"),
    ("Code", "example-code"),
    ("Few-shot", "example-shots"),
    ("A long article", "example-article"),
)
SEPARATORS = (
    ("End of text", "<|endoftext|>"),
    ("Full stop", ". "),
    ("Line break", "\n"),
    ("Semicolon", "; "),
    ("Space", " "),
)


def separator_prompt(separator: str = SEPARATORS[0][1]) -> str:
    r"""Short sentences on unrelated subjects with a separator between them, and none at the end.

    After Parnichkun et al., ICML 2025, appendix D.8, who find that some models let their state go
    at the separator. The last sentence keeps the last separator away from the end of the text,
    where every state shrinks.

    Example:
        >>> separator_prompt("; ").count(";")
        4
    """
    return separator.join(SENTENCES)


def example_text(name: str, separator: str = SEPARATORS[0][1]) -> tuple[str, bool]:
    """The text of an example, and whether it has separators to choose.

    Raises:
        InvalidInputError: there is no example, or no separator, of that name.

    Example:
        >>> example_text("example-code")[0].splitlines()[0]
        'from collections import deque'
    """
    if name not in {value for _, value in EXAMPLES}:
        raise InvalidInputError("There is no example of that name.", fix="Choose one of the list.")
    if separator not in {value for _, value in SEPARATORS}:
        raise InvalidInputError("There is no such separator.", fix="Choose one of the list.")
    if name == SEPARATED:
        return separator_prompt(separator), True
    return files("hf_ess").joinpath("data", f"{name}.txt").read_text("utf-8").strip(), False
