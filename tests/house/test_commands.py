"""What pages tell a reader to type is there, with the options that they name."""

from __future__ import annotations

import re
import shlex

import pytest
import typer
from house.markdown_pages import ROOT, all_pages

from hf_ess.cli.app import app

CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`((?:hf-ess|make|python|torchrun) [^`]+)`(?!`)")
INSERTED = re.compile(r"\$\([^)]*\)|\$\{?\w+\}?")
SCRIPT = re.compile(r"\bpython (\S+\.py)((?: [^`#|]+)?)")


def commands_of(text: str) -> list[str]:
    """What a page tells a reader to type, in blocks and in sentences."""
    blocks = [block.replace("\\\n", " ") for block in CONSOLE.findall(text)]
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    flowing = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return lines + [" ".join(inline.split()) for inline in INLINE.findall(flowing)]


PAGES = {
    str(page.relative_to(ROOT)): commands
    for page in all_pages()
    if (commands := commands_of(page.read_text(encoding="utf-8")))
}


def check_hf_ess(command: str) -> None:
    """Parses a line as hf-ess would, without running it.

    Raises:
        Exception: of typer, on an unknown command, option or value.
    """
    alone = re.split(r"\s[&|>]", INSERTED.sub("INSERTED", command))[0]
    _, *words = shlex.split(alone, comments=True)
    here = typer.main.get_command(app)
    while words and hasattr(here, "commands"):
        here = here.commands[words.pop(0)]
    if words:
        here.make_context("hf-ess", words)


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page(page):
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for command in PAGES[page]:
        if command.startswith("hf-ess "):
            check_hf_ess(command)
        elif command.startswith("make "):
            assert command.split()[1] in targets, command
        for script, words in SCRIPT.findall(command):
            assert (ROOT / script).is_file(), command
            source = (ROOT / script).read_text(encoding="utf-8")
            for option in re.findall(r"--[\w-]+", words):
                assert f'"{option}"' in source, command


def test_commands_are_found():
    block = "$ hf-ess analyze M \\\n    --text x  # y\nz\n$ make q\n"
    text = f"Run `hf-ess env` or\n\n```console\n{block}```"
    assert commands_of(text) == ["hf-ess analyze M      --text x  # y", "make q", "hf-ess env"]
    assert sum(map(len, PAGES.values())) > 80


@pytest.mark.parametrize("wrong", ["hf-ess analyse M", "hf-ess lab run x", "hf-ess push r --nope"])
def test_wrong_commands_are_found(wrong):
    with pytest.raises((KeyError, typer.TyperException)):
        check_hf_ess(wrong)
