"""What state suffices for each layer, with what it costs and saves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hf_ess.errors import InvalidInputError
from hf_ess.report.choices import chosen

if TYPE_CHECKING:
    import pandas as pd

BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
FORMAT = 1
Level = Literal["layer", "group"]


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerPlan:
    """What state suffices for one layer.

    A `ReductionPlan` holds one for each layer.

    State sizes are numbers for each channel: a layer carries groups x multiplicity x size of them.

    Attributes:
        index: number of the layer.
        name: dotted name of the mixer.
        call: which run of it within a forward pass.
        mixer: what kind of mixer it is.
        groups: G.
        multiplicity: channels of a group, which share an operator and have a state each.
        state_size: N now; None where it grows with the text (attention, long convolutions).
        size: what suffices, at least 1: the largest tolerance-ESS over samples, groups and
            positions; None where nothing is planned.
        by_group: the same for each group by itself, `[G]`; may be 0.
        between: what suffices at positions that were not measured too.
        tolerance: the tolerance of the report that this is for.
        error_below: `[B, G, P]`, no state of that size carries the block with a smaller spectral
            error (the largest tolerance that singular value size + 1 exceeds for certain).
        error_above: `[B, G, P]`, some state of that size carries the block with at most this.
        certified: whether no count is rounding noise.
        recurrence: where the state grows, whether a recurrence could carry it; None where it does
            not grow, or this is unknown.
        reason: why nothing is planned, empty if something is.
        remark: what else has to be known.
    """

    index: int
    name: str
    call: int
    mixer: str
    groups: int
    multiplicity: int
    state_size: int | None
    size: int | None = None
    by_group: tuple[int, ...] = ()
    between: int | None = None
    tolerance: float | None = None
    error_below: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0, 0)))
    error_above: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0, 0)))
    certified: bool = True
    recurrence: bool | None = None
    reason: str = ""
    remark: str = ""

    @property
    def channels(self) -> int:
        """Groups times multiplicity."""
        return self.groups * self.multiplicity

    @property
    def shrinks(self) -> bool:
        """Whether it has a state of fixed size, for which a size is planned."""
        return self.state_size is not None and self.size is not None

    def numbers_now(self, length: int) -> int:
        """Numbers in the state; where it grows, after `length` tokens, one for each channel.

        Query heads that share keys and values count as having their own: so they would in a
        recurrence; their cache holds fewer.
        """
        return self.channels * (length if self.state_size is None else self.state_size)

    def numbers_then(self, length: int) -> int:
        """The same with the planned size; what grows is left as it is."""
        if self.state_size is None or self.size is None:
            return self.numbers_now(length)
        return self.channels * self.size

    @property
    def largest_error(self) -> float:
        """The largest of `error_above`, NaN without a plan."""
        return float(np.nanmax(self.error_above)) if self.error_above.size else float("nan")

    @property
    def unbeatable(self) -> float:
        """The largest of `error_below`, NaN without a plan."""
        return float(np.nanmax(self.error_below)) if self.error_below.size else float("nan")


@dataclass(frozen=True, eq=False, kw_only=True)
class ReductionPlan:
    """What state suffices for each layer of a model, by a report on some texts.

    It holds for those texts; others may need more.

    Attributes:
        layers: one `LayerPlan` for each layer of the report.
        tolerance: what was asked for, None with a budget.
        state_budget: numbers of state that were allowed, None with a tolerance.
        relative: whether tolerances are fractions of the largest singular value of each block.
        length: L tokens, for which caches that grow are counted.
        model: what the report says the model is, may be empty.
        report: SHA-256 of the content of the report.
        remarks: what the report does not say.
    """

    layers: tuple[LayerPlan, ...]
    tolerance: float | None
    state_budget: int | None
    relative: bool
    length: int
    model: str
    report: str
    remarks: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """The planned size of each layer with a state of fixed size, by its name.

        Of a mixer that runs several times the largest.
        """
        sizes: dict[str, int] = {}
        for layer in self.layers:
            if layer.shrinks:
                sizes[layer.name] = max(layer.size or 0, sizes.get(layer.name, 0))
        return sizes

    @property
    def state_numbers_now(self) -> int:
        """Numbers in all states of fixed size for which something is planned."""
        return sum(layer.numbers_now(self.length) for layer in self.layers if layer.shrinks)

    @property
    def state_numbers_then(self) -> int:
        """The same with the planned sizes."""
        return sum(layer.numbers_then(self.length) for layer in self.layers if layer.shrinks)

    @property
    def recurrences(self) -> tuple[LayerPlan, ...]:
        """Layers of growing state that a recurrence of the planned size could carry."""
        return tuple(layer for layer in self.layers if layer.recurrence)

    def bytes_now(self, dtype: str = "float32") -> int:
        """Memory of these states for one text in a dtype.

        Raises:
            InvalidInputError: an unknown dtype.
        """
        return self.state_numbers_now * chosen("dtype", dtype, BYTES)

    def bytes_then(self, dtype: str = "float32") -> int:
        """The same with the planned sizes.

        Raises:
            InvalidInputError: an unknown dtype.
        """
        return self.state_numbers_then * chosen("dtype", dtype, BYTES)

    def to_pandas(self, level: Level = "layer") -> pd.DataFrame:
        """A row for each layer, or for each group.

        Raises:
            InvalidInputError: an unknown level.
        """
        import pandas as pd

        build = chosen("level", level, {"layer": _layer_rows, "group": _group_rows})
        return pd.DataFrame([row for layer in self.layers for row in build(self, layer)])

    def summary(self, width: int = 120) -> str:
        """The plan as plain text, at most `width` wide."""
        from hf_ess.reduce.plan_text import PlanView
        from hf_ess.report.tables import plain_text

        return plain_text(PlanView(self), width)

    def to_json(self) -> str:
        """The plan as JSON, None for NaN; `from_json` reads it."""
        content = asdict(self) | {"format": FORMAT}
        return json.dumps(_listed(content), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ReductionPlan:
        """The plan that `to_json` wrote.

        Raises:
            InvalidInputError: it is no plan, or one of another version.
        """
        try:
            content = json.loads(text)
            if content.pop("format") != FORMAT:
                raise ValueError("it is of another version")
            layers = tuple(_layer(layer) for layer in content.pop("layers"))
            content["remarks"] = tuple(content["remarks"])
            return cls(layers=layers, **content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidInputError(
                f"This is no plan: {error}.", fix="Pass what ReductionPlan.to_json gave."
            ) from error

    def __repr__(self) -> str:
        return (
            f"ReductionPlan({len(self.sizes)} of {len(self.layers)} layers, "
            f"{self.state_numbers_now} -> {self.state_numbers_then} numbers of state)"
        )


def _layer(content: dict[str, Any]) -> LayerPlan:
    unknown = set(content) - {item.name for item in fields(LayerPlan)}
    if unknown:
        raise ValueError(f"layers have no {', '.join(sorted(unknown))}")
    for name in ("error_below", "error_above"):
        errors = np.array(content[name], dtype=np.float64)
        content[name] = errors if errors.ndim == 3 else np.zeros((0, 0, 0))
    return LayerPlan(**content | {"by_group": tuple(content["by_group"])})


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_listed(item) for item in value]
    if isinstance(value, np.ndarray):
        return _listed(value.tolist())
    return None if isinstance(value, float) and np.isnan(value) else value


def _layer_rows(plan: ReductionPlan, layer: LayerPlan) -> list[dict[str, Any]]:
    absent = float("nan")
    return [
        {
            "layer": layer.index,
            "name": layer.name,
            "mixer": layer.mixer,
            "groups": layer.groups,
            "multiplicity": layer.multiplicity,
            "state_size": absent if layer.state_size is None else layer.state_size,
            "size": absent if layer.size is None else layer.size,
            "between": absent if layer.between is None else layer.between,
            "tolerance": absent if layer.tolerance is None else layer.tolerance,
            "largest_error": layer.largest_error,
            "unbeatable": layer.unbeatable,
            "numbers_now": layer.numbers_now(plan.length),
            "numbers_then": layer.numbers_then(plan.length),
            "certified": layer.certified,
            "recurrence": layer.recurrence,
            "reason": layer.reason,
        }
    ]


def _group_rows(plan: ReductionPlan, layer: LayerPlan) -> list[dict[str, Any]]:
    identity = {"layer": layer.index, "name": layer.name, "mixer": layer.mixer}
    return [
        identity | {"group": group, "size": size, "tolerance": layer.tolerance}
        for group, size in enumerate(layer.by_group)
    ]
