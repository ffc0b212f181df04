"""A verdict from what became of the parts of a claim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hf_ess.lab.paper.experiment import Verdict


def beyond(interval: Sequence[float], limit: float) -> bool | None:
    """Whether an interval lies above a limit; None where it holds the limit, or is NaN.

    Example:
        >>> beyond((0.1, 0.4), 0), beyond((-0.4, -0.1), 0), beyond((-0.1, 0.4), 0)
        (True, False, None)
    """
    low, high = interval
    if low > limit:
        return True
    return False if high < limit else None


def verdict_on(parts: Iterable[bool | None]) -> Verdict:
    """Of a claim whose parts hold (True), fail (False), or are not decided by the rows (None).

    Reproduced if all hold, contradicted if some fail and none holds, not decidable if no part is
    decided, and otherwise partly reproduced.

    Example:
        >>> verdict_on([True, None]).value, verdict_on([False, None]).value
        ('partly reproduced', 'contradicted')
    """
    found = list(parts)
    if not any(part is not None for part in found):
        return Verdict.undecidable
    if all(found):
        return Verdict.reproduced
    return Verdict.partly if any(found) else Verdict.contradicted
