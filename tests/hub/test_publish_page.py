"""Everything on the page about publishing runs as it stands there, against the stub Hub."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from hub.pushing import CARD, DATA, WRITTEN, ours

from hf_ess.hub.card_text import without_addition

PAGE = Path(__file__).parent.parent.parent / "docs" / "publish.md"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run_page(run_command, monkeypatch, tmp_path):
    """Runs the blocks in order; what each command printed, by its words."""
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    namespace = {"__name__": "__main__"}
    printed = {}
    for match in BLOCK.finditer(text):
        language, block = match.groups()
        if language == "python":
            line = text[: match.start(2)].count("\n")
            exec(compile("\n" * line + block, str(PAGE), "exec"), namespace)
            continue
        for line in block.splitlines():
            name, *words = shlex.split(line.removeprefix("$ "))
            assert name == "hf-ess"
            status, stdout, stderr = run_command(*words)
            assert status == 0, (line, stderr)
            printed[" ".join(words)] = stdout
    return printed


def test_every_block(hub, run_command, monkeypatch, tmp_path, capsys):
    mine = hub.repo("me/model", {"README.md": CARD})
    other = hub.repo("me/other", {})
    team = hub.repo("team/model", {"README.md": CARD})
    printed = run_page(run_command, monkeypatch, tmp_path)
    for repo in (mine, other):
        assert repo.files("main").keys() >= WRITTEN
        assert len(ours(repo)) == 1
    assert without_addition(mine.files("main")["README.md"]).decode() == CARD
    assert team.files("main")["README.md"].decode() == CARD
    assert not team.files("main").keys() & DATA
    assert len(team.pull_requests) == 1
    assert printed["push report team/model --create-pr"].startswith(hub.url)
    assert printed["card report"].startswith("<!-- hf_ess:begin -->")
    assert "+<!-- hf_ess:begin -->" in printed["push report me/other --dry-run"]
    assert "1.00" in printed["compare report me/model"]
    assert printed["leaderboard me/model me/other --format markdown"].count("\n|") >= 3
    # The first block also printed the address of its commit.
    assert f"{hub.url}/me/model/commit/" not in capsys.readouterr().err
