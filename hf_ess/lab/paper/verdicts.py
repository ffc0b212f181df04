"""A verdict from what became of the parts of a claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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


def undecided_in_words(parts: Mapping[str, bool | None]) -> str:
    """A sentence on the parts that the rows do not decide, empty if there are none.

    Example:
        >>> undecided_in_words({"it grows": None, "it falls": True})
        ' Not decided: it grows.'
    """
    claims = [claim for claim, holds in parts.items() if holds is None]
    return f" Not decided: {'; '.join(claims)}." if claims else ""


def failed_in_words(parts: Mapping[str, bool | None]) -> str:
    """A sentence on the parts that do not hold, and one on those that are not decided.

    Example:
        >>> failed_in_words({"it grows": False, "it falls": True})
        ' Not so here: it grows.'
    """
    claims = [claim for claim, holds in parts.items() if holds is False]
    return f" Not so here: {'; '.join(claims) or 'nothing'}.{undecided_in_words(parts)}"
