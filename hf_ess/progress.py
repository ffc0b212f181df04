"""Progress bars: on stderr, and off with the usual Hugging Face switches."""

from __future__ import annotations

from typing import Any

from huggingface_hub.utils import tqdm


def progress_bar(total: int, description: str, *, enabled: bool, unit: str) -> Any:
    """A bar that `HF_HUB_DISABLE_PROGRESS_BARS`, `disable_progress_bars()` or `enabled` turn off.

    Example:
        >>> from hf_ess.progress import progress_bar
        >>> with progress_bar(2, "layers", enabled=False, unit="layer") as bar:
        ...     _ = bar.update(1)
    """
    return tqdm(
        total=total, desc=description, unit=unit, disable=not enabled, name="hf_ess", leave=False
    )
