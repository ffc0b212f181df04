"""The arrays of a report as a flat, named dictionary, and back.

Counts are kept as int32 with -1 for an absent entry, and an array that is the same in every group
is kept once: a report on a Mamba, with a thousand groups per layer, shrinks to less than half.
Both are undone exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_ess.errors import InvalidInputError
from hf_ess.report.layer import GRIDS, LayerESS
from hf_ess.report.records import SampleInfo

Arrays = dict[str, NDArray[Any]]
PER_TOLERANCE = ("tolerance_ess", "undecided", "below_floor")
# Arrays that reports of the first schema version lack; `LayerESS` knows what they stood for.
ADDED = ("entropy_half_width",)
# Of one kind in one layer: 16,384 channels at as many positions.
MOST_NUMBERS = 2**28
LARGEST_COUNT = np.iinfo(np.int32).max


def report_arrays(layers: list[LayerESS], samples: list[SampleInfo]) -> Arrays:
    """Every array of a report under a name such as `layer.00003.tolerance_ess.1`."""
    arrays: Arrays = {}
    for number, layer in enumerate(layers):
        prefix = _layer_prefix(number)
        arrays[prefix + "residual"] = layer.residual
        for name in ("entropy_ess", *GRIDS):
            arrays[prefix + name] = pack(getattr(layer, name))
        for name in PER_TOLERANCE:
            for rank, tolerance in enumerate(layer.tolerances):
                arrays[f"{prefix}{name}.{rank}"] = pack(getattr(layer, name)[tolerance])
        if layer.singular_values is not None:
            arrays[prefix + "singular_values"] = np.ascontiguousarray(layer.singular_values)
    for number, sample in enumerate(samples):
        if sample.token_ids is not None:
            arrays[ids_name(number)] = sample.token_ids
    return arrays


def ids_name(number: int) -> str:
    """What the token ids of the sample of that number are called."""
    return f"sample.{number:05d}.token_ids"


def layer_arrays(
    arrays: Mapping[str, NDArray[Any]], number: int, groups: int, tolerances: tuple[float, ...]
) -> dict[str, Any]:
    """The keyword arguments of `LayerESS` that are arrays, for the layer of that number.

    Raises:
        KeyError: an array is missing.
    """
    prefix = _layer_prefix(number)
    fields: dict[str, Any] = {"residual": arrays[prefix + "residual"]}
    for name in ("entropy_ess", *GRIDS):
        if prefix + name in arrays or name not in ADDED:
            fields[name] = unpack(arrays[prefix + name], groups)
    for name in PER_TOLERANCE:
        fields[name] = {
            tolerance: unpack(arrays[f"{prefix}{name}.{rank}"], groups)
            for rank, tolerance in enumerate(tolerances)
        }
    fields["singular_values"] = arrays.get(prefix + "singular_values")
    return fields


def pack(values: NDArray[Any]) -> NDArray[Any]:
    """The smaller form of `[B, G, P]`: one group if all are alike, int32 if all are counts.

    Example:
        >>> pack(np.array([[[3.0, np.nan], [3.0, np.nan]]]))
        array([[[ 3, -1]]], dtype=int32)
    """
    first = values[:, :1]
    alike = np.array_equal(
        values, np.broadcast_to(first, values.shape), equal_nan=values.dtype.kind == "f"
    )
    kept = np.ascontiguousarray(first if alike else values)
    if kept.dtype.kind != "f":
        return kept
    absent = np.isnan(kept)
    filled = np.where(absent, -1.0, kept)
    is_count = (kept[~absent] >= 0).all() and (filled <= LARGEST_COUNT).all()
    negative_zero = np.signbit(filled) & (filled == 0)
    if is_count and (filled == np.floor(filled)).all() and not negative_zero.any():
        return np.ascontiguousarray(filled.astype(np.int32))
    return kept


def unpack(packed: NDArray[Any], groups: int) -> NDArray[Any]:
    """The array that was given to `pack`, `[B, G, P]`.

    Raises:
        InvalidInputError: there would be more numbers than any analysis has of a layer.
    """
    if packed.shape[0] * groups * packed.shape[2] > MOST_NUMBERS:
        raise InvalidInputError(
            f"{groups} groups at {packed.shape[2]} positions of {packed.shape[0]} samples are more "
            "than can be meant."
        )
    values = packed
    if packed.dtype == np.int32:
        values = np.where(packed < 0, np.nan, packed.astype(np.float64))
    return np.broadcast_to(values, (values.shape[0], groups, values.shape[2]))


def _layer_prefix(number: int) -> str:
    return f"layer.{number:05d}."
