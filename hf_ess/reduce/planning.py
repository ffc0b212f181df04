"""From a report to a plan: the state that suffices for each layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hf_ess.arguments import check_whole
from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.reduce.block_facts import (
    becomes_recurrence,
    bound_between,
    needed,
    smallest_errors,
)
from hf_ess.reduce.budget import tolerances_within
from hf_ess.reduce.reduction_plan import LayerPlan, ReductionPlan
from hf_ess.report import ESSReport, LayerESS, aggregates
from hf_ess.report.names import resolve_metric

SAMPLED = (
    "only some positions were measured: between two of them tolerance-ESS moves by at most 1 from "
    "one to the next, which bounds what suffices there (`between`)"
)
RELATIVE = (
    "tolerances are fractions of each block's largest singular value, and so are the errors; "
    "nothing follows for positions that were not measured"
)


def plan(
    report: ESSReport,
    *,
    tolerance: float | None = None,
    state_budget: int | None = None,
    length: int | None = None,
) -> ReductionPlan:
    """What state suffices for each verified layer of a report, with certified errors.

    A state of n numbers makes blocks `H_i` of rank n, and the nearest of them is singular value
    n + 1 away in the spectral norm. So the largest tolerance-ESS(tau) of a layer carries every
    block with an error of at most tau, and the error of the singular values; some time-varying
    recurrence does so for all blocks at once (Hankel-norm approximation), but an architecture with
    fixed decays may not: `truncate` certifies what it reaches.

    With a `state_budget`, each layer begins at the smallest tolerance of the report; then the layer
    whose next larger tolerance frees most numbers for what the tolerance rises takes that, until
    all states together hold at most so many numbers; in the end steps that turned out not to be
    needed are taken back. Numbers are counted over layers with a state of fixed size, as the sum of
    groups x multiplicity x state size. Caches of attention that grow are no part of it; attention
    within a window has a state of fixed size, the window less one.

    Args:
        report: of `analyze`, with absolute or relative tolerances, without a window.
        tolerance: one of the report's; or
        state_budget: the largest number of state numbers.
        length: tokens for which growing caches are counted, by default the longest text.

    Raises:
        InvalidInputError: not exactly one of tolerance and budget, a tolerance that the report does
            not have, a budget that cannot be met, a windowed report, or one of another scope
            than "core".
        InvalidTypeError: an argument of a wrong type.
        ReportError: no layer is verified.

    Source: Parnichkun et al., ICML 2025, theorem 3.2 and eq. 2; Eckart and Young, 1936; Dewilde and
    van der Veen, 1993, for all blocks at once. Budgets and the criterion on attention are ours.

    Example:
        >>> import torch, hf_ess
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> model = build_model(SyntheticConfig(["S6", "SA"], vocab_size=32, hidden_size=16))
        >>> report = hf_ess.analyze(model, torch.randint(32, (1, 24)), progress=False)
        >>> small = hf_ess.reduce.plan(report, tolerance=0.1)
        >>> small.layers[0].state_size, 1 <= small.layers[0].size <= 16
        (16, True)
        >>> float(small.layers[0].error_above.max()) < 0.101
        True
    """
    _check(report, tolerance, state_budget)
    longest = max(sample.length for sample in report.samples)
    if state_budget is None:
        level = resolve_metric(tolerance if tolerance is not None else 0.0, report.tolerances)
        levels = [float(level)] * len(report.layers)
    else:
        levels = _within_budget(report, state_budget)
    layers = [
        _planned(report, layer, level) for layer, level in zip(report.layers, levels, strict=True)
    ]
    return ReductionPlan(
        layers=(*layers, *_unsupported(report)),
        tolerance=float(levels[0]) if state_budget is None else None,
        state_budget=state_budget,
        relative=report.relative,
        length=longest if length is None else check_whole("length", length, least=1),
        model=str(report.provenance.get("model") or ""),
        report=report.fingerprint(),
        remarks=_remarks(report, longest),
    )


def _check(report: ESSReport, tolerance: float | None, state_budget: int | None) -> None:
    if not isinstance(report, ESSReport):
        raise InvalidTypeError(f"A plan needs an ESSReport, got {type(report).__name__}.")
    if (tolerance is None) == (state_budget is None):
        raise InvalidInputError("Give either a tolerance or a state_budget.")
    if isinstance(tolerance, str):
        raise InvalidInputError(
            f"Only a tolerance says something about errors, got {tolerance!r}.",
            fix=f"Give one of the tolerances {', '.join(f'{x:g}' for x in report.tolerances)}.",
        )
    if state_budget is not None:
        check_whole("state_budget", state_budget, least=1)
    if report.window is not None:
        raise InvalidInputError(
            "A windowed report cannot be planned with: its counts are lower bounds on the state.",
            fix="Analyse without a window.",
        )
    if report.scope != "core":
        raise InvalidInputError(
            f"This report is of scope {report.scope!r}, whose operators are not those that the "
            "state of a mixer carries.",
            fix='Analyse with scope="core".',
        )
    # Python's -O takes assertions out, and with them a property's error.
    aggregates.verified_layers(report.layers)


def _within_budget(report: ESSReport, budget: int) -> list[float]:
    """A tolerance for each layer with which all states together keep to the budget."""
    levels = sorted(report.tolerances)
    planable = [
        layer.state_size is not None and not _obstacle(report, layer) for layer in report.layers
    ]
    if not any(planable):
        raise InvalidInputError(
            "No layer has a state of fixed size that a budget could bound.",
            causes=["all layers are attention or long convolutions, or none is verified"],
            fix="Give a tolerance, to see which layers could become recurrences.",
        )
    numbers = [
        [layer.channels * _size(needed(layer, level)) for level in levels]
        for layer, known in zip(report.layers, planable, strict=True)
        if known
    ]
    steps = iter(tolerances_within(numbers, budget, levels))
    return [levels[next(steps)] if known else levels[0] for known in planable]


def _size(counts: np.ndarray) -> int:
    """The largest count; a state of nothing has no form, so at least 1."""
    return max(1, int(np.nanmax(counts)))


def _planned(report: ESSReport, layer: LayerESS, tolerance: float) -> LayerPlan:
    reason = _obstacle(report, layer)
    if reason:
        return _layer_plan(layer, reason=reason)
    counts = needed(layer, tolerance)
    size = _size(counts)
    below, above = smallest_errors(report, layer, size)
    remarks = []
    recurrence = None
    if layer.state_size is None:
        recurrence, why = becomes_recurrence(report, layer, tolerance)
        verdict = {True: "could become a recurrence", False: "keep it", None: "unknown"}
        remarks.append(f"{verdict[recurrence]}: {why}")
    if float(np.nanmax(counts)) == 0:
        remarks.append("it carries nothing above the tolerance")
    certified = not layer.below_floor[tolerance].any()
    if not certified:
        remarks.append("the tolerance is below the rounding error of some blocks")
    return _layer_plan(
        layer,
        size=size,
        by_group=tuple(int(count) for count in np.nanmax(counts, axis=(0, 2))),
        between=max(size, bound_between(report, layer, tolerance)),
        tolerance=tolerance,
        error_below=below,
        error_above=above,
        certified=certified,
        recurrence=recurrence,
        remark="; ".join(remarks),
    )


def _obstacle(report: ESSReport, layer: LayerESS) -> str:
    """Why nothing can be planned for a layer, empty if something can."""
    if not layer.verified:
        return f"not verified: {layer.reason}"
    if np.isnan(layer.entropy_ess).all():
        return "no block of it was measured"
    measured = ~np.isnan(layer.entropy_ess)
    if report.relative and np.isnan(layer.largest_singular_value[measured]).any():
        return "its tolerances are relative to singular values that were not computed"
    return ""


def _layer_plan(layer: LayerESS, **more: object) -> LayerPlan:
    make: Callable[..., LayerPlan] = LayerPlan
    return make(
        index=layer.index,
        name=layer.name,
        call=layer.call,
        mixer=layer.mixer,
        groups=layer.groups,
        multiplicity=layer.multiplicity,
        state_size=layer.state_size,
        **more,
    )


def _unsupported(report: ESSReport) -> list[LayerPlan]:
    return [
        LayerPlan(
            index=layer.index,
            name=layer.name,
            call=0,
            mixer=layer.mixer,
            groups=0,
            multiplicity=0,
            state_size=None,
            reason=f"not analysed: {layer.reason}",
        )
        for layer in report.unsupported
    ]


def _remarks(report: ESSReport, longest: int) -> tuple[str, ...]:
    remarks = []
    if not report.complete:
        remarks.append(f"the report is incomplete ({report.incomplete_reason}): layers are missing")
    if report.relative:
        remarks.append(RELATIVE)
    elif len(report.positions) < longest - 1:
        remarks.append(SAMPLED)
    return tuple(remarks)
