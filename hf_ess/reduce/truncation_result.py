"""What truncation gives back: the smaller model, and what was proved about each of its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_ess.plain_text import printable
from hf_ess.report.tables import Column, fitted_tables, plain_text, share

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, ConsoleOptions, RenderResult


@dataclass(frozen=True, eq=False)
class LayerTruncation:
    """What became of the state of one layer.

    A `Truncation` holds one for each layer.

    Attributes:
        name: dotted name of the mixer.
        index: number of the layer.
        before: channels of its state before.
        size: channels of its state now, for each group.
        kept: int64 `[S, n]`, the channels that stayed, of each set of groups that chose together.
        factors: `[S, n]` on what C reads of them; 1 where nothing was rescaled. Where C was fitted
            anew, they are only where that began.
        error: `[B, G]`, an upper bound on `||M - M_kept||_F`, and so on the spectral error of
            every block, of the layer at the inputs that it had in the whole model.
        unbeatable: `[B, G]`, no state of that size has a smaller largest spectral error.
        norm: `[B, G]`, `||M||_F` without the direct term.
        note: why channels were not rescaled, or the size is another than asked for.
    """

    name: str
    index: int
    before: int
    size: int
    kept: NDArray[np.int64]
    factors: NDArray[np.float64]
    error: NDArray[np.float64]
    unbeatable: NDArray[np.float64]
    norm: NDArray[np.float64]
    note: str = ""

    @property
    def relative_error(self) -> float:
        """Root of the sum of squares of the errors over that of the norms; 0 for no operator."""
        whole = float(np.linalg.norm(self.norm))
        return float(np.linalg.norm(self.error)) / whole if whole else 0.0


@dataclass(frozen=True, eq=False)
class Truncation:
    """A model with smaller states.

    `hf_ess.reduce.truncate` gives it back.

    Attributes:
        model: of the same class; it saves and loads, and is analysed as any other.
        layers: what became of each layer with a state.
        choose: how channels were chosen.
    """

    model: Any
    layers: tuple[LayerTruncation, ...]
    choose: str

    def summary(self, width: int = 120) -> str:
        """Sizes, errors and notes as plain text, at most `width` wide."""
        return plain_text(TruncationView(self), width)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each layer: sizes, largest certified error, what cannot be beaten, note."""
        import pandas as pd

        return pd.DataFrame(
            {
                "layer": layer.index,
                "name": layer.name,
                "before": layer.before,
                "size": layer.size,
                "largest_error": layer.error.max(),
                "unbeatable": layer.unbeatable.max(),
                "relative_error": layer.relative_error,
                "note": layer.note,
            }
            for layer in self.layers
        )


class TruncationView:
    """The table and notes of a truncation, to be printed by rich at the width of its console."""

    def __init__(self, truncation: Truncation) -> None:
        self.truncation = truncation

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        layers = self.truncation.layers
        first, *rest = [
            Column("layer", [layer.name for layer in layers], justify_right=False),
            Column("state\nbefore", [str(layer.before) for layer in layers]),
            Column("state\nnow", [str(layer.size) for layer in layers]),
            Column("error\nat most", [f"{layer.error.max():.2g}" for layer in layers]),
            Column("no state\nbelow", [f"{layer.unbeatable.max():.2g}" for layer in layers]),
            Column("share of\n||M||", [share(layer.relative_error) for layer in layers]),
        ]
        title = f"Truncated states, chosen by {self.truncation.choose}"
        yield from fitted_tables(title, first, rest, options.max_width)
        notes = (f"{layer.name}: {layer.note}" for layer in layers if layer.note)
        yield from (Text(printable(note)) for note in notes)
