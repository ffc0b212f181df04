"""What a mutant that survived has changed, and why that is no gap in the tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

EXPLAINED = Path(__file__).parent / "mutation_explained.json"
# Prints the differences of mutants from the code, as JSON; mutmut knows where it is by the folder.
SHOW = """
import json, sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
print(json.dumps({name: get_diff_for_mutant(name) for name in sys.argv[1:]}))
"""
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
LEAST_WORDS = 3
HINTS = re.compile(r"\b(?:fix|causes)=")


def survivors_in(folder: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """For each mutant what it removed from the code and what it put there instead."""
    if not names:
        return []
    shown = subprocess.run(
        [sys.executable, "-c", SHOW, *names],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    differences = json.loads(shown.stdout.splitlines()[-1])
    return [{"mutant": name, **_changed(text)} for name, text in differences.items()]


def _changed(difference: str) -> dict[str, str]:
    lines = difference.splitlines()[2:]
    sides = {"removed": "-", "added": "+"}
    return {
        side: " ".join(line[1:].strip() for line in lines if line.startswith(sign))
        for side, sign in sides.items()
    }


def explained(survivors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with a reason, empty where there is none."""
    known = json.loads(EXPLAINED.read_text(encoding="utf-8"))
    return [one | {"reason": _reason(one, known)} for one in survivors]


def _reason(survivor: dict[str, Any], known: dict[str, Any]) -> str:
    removed, added = survivor["removed"], survivor["added"]
    if _only_words(removed, added):
        return "words of a message"
    if HINTS.search(removed) and _without_hints(removed) == _without_hints(added):
        return "hints of an error"
    for kind in known["kinds"]:
        if re.search(kind["removed"], removed) and re.search(kind["added"], added):
            return str(kind["reason"])
    function = re.sub(r"__mutmut_\d+$", "", survivor["mutant"])
    for change in known["changes"]:
        if (change["function"], change["removed"], change["added"]) == (function, removed, added):
            return str(change["reason"])
    return ""


def _only_words(removed: str, added: str) -> bool:
    """Whether nothing but a sentence was changed."""
    if _sentence_left_out(removed) == added:
        return True
    if STRING.sub('""', removed) != STRING.sub('""', added):
        return False
    before, after = STRING.findall(removed), STRING.findall(added)
    changed = [old for old, new in zip(before, after, strict=True) if old != new]
    return all(len(text.split()) >= LEAST_WORDS for text in changed)


def _sentence_left_out(code: str) -> str:
    return re.sub(r"^(raise \w+\()" + STRING.pattern + r"\)$", r"\1None)", code)


def _without_hints(code: str) -> str:
    """Code without `fix=` and `causes=`, whatever they were, and without what is between."""
    bare = STRING.sub('""', code)
    bare = re.sub(r"\b(?:fix|causes)=(?:None|\[[^\]]*\]|f?(?:\"\" ?)+),?", "", bare)
    return re.sub(r"[\s,()]+", "", bare)
