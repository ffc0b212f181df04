"""Positions for loss terms: a few are enough to push, and each costs a decomposition."""

from __future__ import annotations

from hf_ess.spectra import Positions, resolve_positions

FEW = "few"
COUNT = 4


def training_positions(positions: Positions, length: int) -> tuple[int, ...]:
    """Positions as `resolve_positions` takes them, or "few": at most four, evenly spread.

    Raises:
        InvalidInputError, InvalidTypeError: as `resolve_positions`.

    Example:
        >>> from hf_ess.training.few_positions import training_positions
        >>> training_positions("few", 100)
        (20, 40, 60, 80)
        >>> training_positions("few", 3)
        (1, 2)
    """
    if not isinstance(positions, str) or positions != FEW:
        return resolve_positions(positions, length)
    spread = {round(length * part / (COUNT + 1)) for part in range(1, COUNT + 1)}
    return resolve_positions(sorted(at for at in spread if 0 < at < length) or [1], length)
