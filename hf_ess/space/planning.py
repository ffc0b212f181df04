"""At which positions a text is measured, so that its singular values can be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hf_ess.errors import LimitError
from hf_ess.space.limits import Limits
from hf_ess.spectra import Positions
from hf_ess.spectra.positions import resolve_positions

FLOAT32_BYTES = 4
# With fewer positions a curve says nothing; then the singular values are given up instead.
FEWEST = 16


@dataclass(frozen=True)
class MixerSize:
    """How many spectra one layer has at a position, and how many values each at most."""

    groups: int
    state_size: int | None


@dataclass(frozen=True)
class Plan:
    """What will be measured.

    Attributes:
        positions: ascending, within `1..L-1`.
        keep_singular_values: whether they fit.
        note: what was left out and why, empty if nothing.
    """

    positions: tuple[int, ...]
    keep_singular_values: bool = True
    note: str = ""


def plan(positions: Positions, length: int, mixers: Sequence[MixerSize], limits: Limits) -> Plan:
    """The positions of a text that are measured, and whether their singular values are kept.

    "auto" is every position of a short text, and at most 64, evenly spread, of a longer one;
    fewer where the singular values would take more bytes than the limit.

    Args:
        positions: "auto", "all", a stride, or positions.
        length: L.
        mixers: of the model.
        limits: of the server.

    Raises:
        InvalidInputError: positions that a text of this length does not have.
        LimitError: more positions are asked for than the limits allow.

    Example:
        >>> wide = [MixerSize(groups=9, state_size=None)] * 30
        >>> len(plan("auto", 200, wide, Limits()).positions)
        199
        >>> len(plan("auto", 400, wide, Limits()).positions)
        57
    """
    automatic = isinstance(positions, str) and positions == "auto"
    word = "all" if automatic and length <= limits.every_position else positions
    chosen = resolve_positions(word, length)
    fitting = limits.spectra_bytes // max(_bytes_per_position(length, mixers), 1)
    if not automatic:
        _check(chosen, fitting, limits)
        return Plan(chosen)
    if len(chosen) <= fitting:
        return Plan(chosen)
    if fitting < FEWEST:
        note = (
            "The singular values of this model do not fit into the memory of this server, so that "
            "only the tolerances of the report are counted."
        )
        return Plan(resolve_positions("auto", length), keep_singular_values=False, note=note)
    thinned = resolve_positions(-(-(length - 1) // fitting), length)
    note = (
        f"{len(thinned)} of {length - 1} positions are measured: the singular values of more would "
        "not fit into the memory of this server."
    )
    return Plan(thinned, note=note)


def _bytes_per_position(length: int, mixers: Sequence[MixerSize]) -> int:
    largest = max(length // 2, 1)
    return sum(
        FLOAT32_BYTES * mixer.groups * min(mixer.state_size or largest, largest) for mixer in mixers
    )


def _check(chosen: tuple[int, ...], fitting: int, limits: Limits) -> None:
    most = min(limits.positions, fitting)
    if len(chosen) > most:
        raise LimitError(
            f"{len(chosen)} positions are asked for; this server measures {most} of this model "
            "and text.",
            fix='Ask for fewer, for example by a stride, or for "auto".',
        )
