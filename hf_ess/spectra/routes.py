"""Which way a formed operator is measured: decomposed block by block, or divided and conquered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hf_ess.errors import InvalidInputError
from hf_ess.spectra.engine import METHODS
from hf_ess.spectra.half import COST_OF_EIGENVALUES, NODE_WORK
from hf_ess.spectra.position_tree import half_length
from hf_ess.spectra.quadrature import NODES

DIVIDE_AND_CONQUER = "divide-and-conquer"
ROUTES = (*METHODS, DIVIDE_AND_CONQUER)
ACCURACIES = ("certified", "exact")
# Up to this length every block is decomposed: nothing is saved.
SHORT_FOR_DIVIDING = 128


@dataclass(frozen=True)
class Route:
    """How formed operators are measured.

    Attributes:
        method: "divide-and-conquer", or one of the methods of `block_singular_values`.
        reason: why.
    """

    method: str
    reason: str


def chosen_route(
    length: int,
    positions: Sequence[int],
    tolerances: int,
    *,
    method: str = "auto",
    accuracy: str = "certified",
    needs_values: str = "",
) -> Route:
    """The cheapest route that is accurate enough.

    Args:
        length: L.
        positions: where blocks are measured.
        tolerances: how many are counted.
        method: "auto", or the route that is asked for.
        accuracy: "exact" wants singular values of every block; "certified" is content with
            intervals of at most 1 % around entropy-ESS.
        needs_values: why singular values are needed in any case, empty if they are not.

    Raises:
        InvalidInputError: divide and conquer is asked for where singular values are needed.

    Example:
        >>> from hf_ess.spectra.routes import chosen_route
        >>> chosen_route(512, range(1, 512), 3).method
        'divide-and-conquer'
        >>> chosen_route(512, [256], 3)
        Route(method='auto', reason='few positions')
    """
    if method == DIVIDE_AND_CONQUER:
        if accuracy == "exact" or needs_values:
            raise InvalidInputError(
                f"method={method!r} computes no singular values, but they are needed: "
                f"{needs_values or 'accuracy is exact'}.",
                fix='Use method="auto".',
            )
        return Route(method, "asked for")
    if method != "auto":
        return Route(method, "asked for")
    if accuracy == "exact" or needs_values:
        return Route("auto", needs_values or "exact values are asked for")
    if length <= SHORT_FOR_DIVIDING:
        return Route("auto", "short")
    if _eigensolver_work(length, positions) <= _dividing_work(length, tolerances):
        return Route("auto", "few positions")
    return Route(DIVIDE_AND_CONQUER, "many positions: cheaper than their singular values")


def _eigensolver_work(length: int, positions: Sequence[int]) -> float:
    sizes = (min(position, length - position) for position in positions)
    return COST_OF_EIGENVALUES * 4 / 3 * sum(size**3 for size in sizes)


def _dividing_work(length: int, tolerances: int) -> float:
    """Both halves, at the shifts of the entropy and at two for each tolerance."""
    return (NODES + 2 * tolerances) * 2 * NODE_WORK * half_length(length) ** 3
