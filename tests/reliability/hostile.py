"""What an attacker would write: names that command, pickles and modules that leave a mark."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

# The formula is none, so that TeX would fail on it.
# A name for everything that reads names: terminals, Markdown, HTML, spreadsheets, TeX, YAML, rich.
ESCAPES = "\x1b[31m\x1b]52;c;ZXZpbA==\x07\x1b]8;;https://evil.example\x1b\\link\x9b2J\x08\r"
DIRECTIONS = "\u202etxt.exe\u2066\u200b"
MARKUP = (
    "=cmd|'/c calc'!A1 <script>window.ran=1</script><img src=x onerror=window.ran=1> "
    "[red]rich[/red] [x](javascript:window.ran=1) | $\\frac{$ `code` ---\n# title: !!python {{x}}"
)
NAME = f"{ESCAPES}{DIRECTIONS}{MARKUP}"
# Characters that a terminal obeys, or that hide or turn what is read.
OBEYED = (*map(chr, [*range(9), *range(11, 32), *range(127, 160)]), *"\u202e\u2066\u200b")


def commands_in(text: str) -> list[str]:
    """Characters of the text that would command a terminal, line breaks and tabs aside."""
    return sorted({ascii(character) for character in text if character in OBEYED})


class Mark:
    """A file that hostile code writes when it runs."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mark"

    @property
    def is_there(self) -> bool:
        return self.path.exists()

    @property
    def pickled(self) -> bytes:
        """A pickle that writes it when it is loaded."""
        return pickle.dumps(_Command(f"touch '{self.path}'"), protocol=2)

    @property
    def module(self) -> str:
        """A module that writes it when it is imported."""
        return f"import pathlib\npathlib.Path({str(self.path)!r}).write_text('ran')\n"


class _Command:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def edit_json(path: Path, **changes: object) -> None:
    """Changes entries of a JSON file; None takes one out."""
    found = json.loads(path.read_text()) if path.exists() else {}
    kept = {name: value for name, value in (found | changes).items() if value is not None}
    path.write_text(json.dumps(kept))
