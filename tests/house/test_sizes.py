"""Files and functions stay small enough to be read at once."""

from __future__ import annotations

import json
import subprocess
import sys

from house.markdown_pages import ROOT

FOLDERS = ("hf_ess", "model_adapters", "tests", "benchmarks", "docs", "spaces")
LONGEST = 400
LONG_FUNCTION = 36
TANGLED = "".join(f"    if x == {n}:\n        return {n}\n" for n in range(11))


def test_no_file_is_long():
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert len(lengths) > 400
    too_long = {f.relative_to(ROOT): n for f, n in lengths.items() if n > LONGEST}
    assert not too_long


def test_long_and_tangled_functions_are_found():
    long = "".join(f"    x{n} = 1\n" for n in range(LONG_FUNCTION))
    source = f"def long():\n{long}\n\ndef tangled(x):\n{TANGLED}"
    command = ["-m", "ruff", "check", "--output-format=json", "--stdin-filename=hf_ess/new.py", "-"]
    ended = subprocess.run(
        [sys.executable, *command],
        input=source,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert {"C901", "PLR0912", "PLR0915"} <= {found["code"] for found in json.loads(ended.stdout)}
