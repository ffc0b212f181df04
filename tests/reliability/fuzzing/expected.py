"""Which refusals of `analyze` a case calls for, by what it was given."""

from __future__ import annotations

from reliability.fuzzing.choices import NO_SUCH_LAYER, Choices
from reliability.fuzzing.running import Recorded

import hf_ess

# Below, one operator of a tiny model may not fit; above, all do.
AMPLE = 2**23


def certain_refusal(choices: Choices, records: list[Recorded]) -> str:
    """Why `analyze` has to refuse a case, empty if it must not; always an InvalidInputError."""
    arguments = choices.analyze_arguments()
    if min(choices.lengths) < 2:
        return "a text of one token"
    if NO_SUCH_LAYER in arguments.get("layers", ()):
        return "a layer that does not exist"
    if _needs_values(arguments) and arguments.get("method") == "divide-and-conquer":
        return "singular values from a method that computes none"
    if _beyond(arguments.get("positions"), max(choices.lengths)):
        return "a position beyond the text"
    indices = {record.layer.index for record in records}
    if records and not indices >= set(arguments.get("layers", ())):
        return "a layer that does not exist"
    return ""


def _needs_values(arguments: dict[str, object]) -> bool:
    named = ("relative", "window", "keep_singular_values")
    return any(name in arguments for name in named) or arguments.get("accuracy") == "exact"


def _beyond(positions: object, length: int) -> bool:
    if isinstance(positions, int):
        return positions >= length
    return isinstance(positions, list) and max(positions) >= length


def possible_refusals(
    choices: Choices, records: list[Recorded], finite: bool
) -> dict[type[Exception], str]:
    """Errors that are right for a case, with what they say of it."""
    possible: dict[type[Exception], str] = {}
    if reason := certain_refusal(choices, records):
        possible[hf_ess.InvalidInputError] = reason
    if not finite:
        possible[hf_ess.NonFiniteError] = "features beyond the range of the dtype"
    if choices.arguments.get("memory_budget", AMPLE) < AMPLE:
        possible[hf_ess.MemoryBudgetError] = "an operator beyond the memory budget"
    if not records:
        possible[hf_ess.UnsupportedModelError] = "no mixer that an adapter knows"
    return possible
