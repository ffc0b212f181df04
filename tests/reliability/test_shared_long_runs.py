"""Several processes share a long run and its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from launching import torchrun
from reliability.shared_corpus import LENGTHS, analysed

SCRIPT = Path(__file__).with_name("shared_corpus.py")


def test_two_processes_one_of_which_fails(tmp_path, tried):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = analysed(None).fingerprint()
        ended = torchrun(2, SCRIPT, tmp_path)
        assert ended.returncode == 0, ended.stderr
        first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (0, 1))
        assert first["first"] == "ProcessFailedError: Process 1 of 2 failed: " + second["first"]
        assert second["first"] == "OutputPathError: no space left"
        assert 2 <= second["kept"] < len(LENGTHS)
        assert first["again"] == second["again"] == alone
        # A single process takes over what several made.
        assert analysed(tmp_path / "checkpoint").fingerprint() == alone
    finally:
        torch.set_num_threads(threads)
    tried(
        "Long runs",
        "Two processes share a corpus and its checkpoint; the disk of one is full; both go on",
        "Each says what happened; then the report of a single process, to the bit, which a single "
        "one can finish, too",
    )
