"""What pages tell a reader to type is there, with the options that they name."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer
from house.markdown_pages import ROOT, all_pages

from hf_ess.cli.app import app

CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`((?:hf-ess|make|python|torchrun)\s[^`]+)`(?!`)")
INSERTED = re.compile(r"\$\([^)]*\)|\$\{?\w+\}?")
SCRIPT = re.compile(r"\bpython (\S+\.py)((?: [^`#|]+)?)")


def commands_of(text: str) -> list[str]:
    """What a page tells a reader to type."""
    blocks = [block.replace("\\\n", " ") for block in CONSOLE.findall(text)]
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def mentioned_in(text: str) -> list[str]:
    """Commands in the sentences of a page, whole or in part."""
    flowing = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(inline.split()) for inline in INLINE.findall(flowing)]


PAGES = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in all_pages()}
TYPED = {page: commands for page, text in PAGES.items() if (commands := commands_of(text))}
MENTIONED = {page: commands for page, text in PAGES.items() if (commands := mentioned_in(text))}


def parsed(command: str) -> tuple[Any, list[str]]:
    """The command of hf-ess that a line names, and the words that follow.

    Raises:
        KeyError: there is no such command.
    """
    alone = re.split(r"\s[&|>]", INSERTED.sub("INSERTED", command))[0]
    _, *words = shlex.split(alone, comments=True)
    here = typer.main.get_command(app)
    while words and hasattr(here, "commands"):
        here = here.commands[words.pop(0)]
    return here, words


def check_typed(command: str) -> None:
    """Parses a line as hf-ess would, without running it.

    Raises:
        KeyError: there is no such command.
        TyperException: it does not take such options or values.
    """
    here, words = parsed(command)
    if words:
        here.make_context("hf-ess", words)


def check_mentioned(command: str) -> None:
    """Looks for the options that are mentioned.

    Raises:
        KeyError: there is no such command, or it has no such option.
    """
    here, words = parsed(command)
    known = {option for parameter in here.params for option in parameter.opts}
    for word in words:
        if word.startswith("--") and word not in known:
            raise KeyError(word)


def check_others(command: str) -> None:
    """Looks for targets of make, and for scripts and the options that they read."""
    if command.startswith("make "):
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert command.split()[1] in re.findall(r"^(\w[\w-]*):", makefile, re.MULTILINE), command
    for script, words in SCRIPT.findall(command):
        assert (ROOT / script).is_file(), command
        source = (ROOT / script).read_text(encoding="utf-8")
        for option in re.findall(r"--[\w-]+", words):
            assert f'"{option}"' in source, command


def check_all(commands, check_ours):
    for command in commands:
        check_others(command)
        if command.startswith("hf-ess "):
            check_ours(command)


@pytest.mark.parametrize("page", TYPED)
def test_commands_that_are_typed(page):
    check_all(TYPED[page], check_typed)


@pytest.mark.parametrize("page", MENTIONED)
def test_commands_that_are_mentioned(page):
    check_all(MENTIONED[page], check_mentioned)


def test_commands_are_found():
    block = "$ hf-ess analyze M \\\n    --text x  # y\nz\n$ make q\n"
    text = f"Run `hf-ess\nenv` or\n\n```console\n{block}```"
    assert commands_of(text) == ["hf-ess analyze M      --text x  # y", "make q"]
    assert mentioned_in(text) == ["hf-ess env"]
    assert sum(map(len, [*TYPED.values(), *MENTIONED.values()])) > 80


@pytest.mark.parametrize("wrong", ["hf-ess analyse M", "hf-ess lab run x", "hf-ess push r --nope"])
def test_wrong_commands_are_found(wrong):
    with pytest.raises((KeyError, typer.TyperException)):
        check_typed(wrong)
    with pytest.raises(KeyError):
        check_mentioned(wrong)
