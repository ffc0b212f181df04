"""Work on an operator that is done again in smaller pieces where memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from hf_ess.analysis.spectral import MeasurementSettings
from hf_ess.errors import MemoryBudgetError, OutOfMemoryError
from hf_ess.out_of_memory import give_memory_back, is_out_of_memory, shortage_of

T = TypeVar("T")

_log = logging.getLogger("hf_ess")


def in_smaller_pieces(
    work: Callable[[], T], shrink: Callable[[], bool], layer: str, settings: MeasurementSettings
) -> T:
    """What `work` gives; it is done anew, in smaller pieces, as often as memory runs out.

    Args:
        work: all of it; raises MemoryBudgetError where the pieces cannot be that small.
        shrink: makes the pieces smaller; False if they are the smallest already.
        layer: name of the layer, for messages.
        settings: whose workspaces are let go, and who know whether it was told before.

    Raises:
        OutOfMemoryError: memory ran out for the smallest pieces, too.
        MemoryBudgetError: the smallest pieces do not fit into the budget, and memory never ran out.
    """
    said = ""
    while True:
        try:
            return work()
        except MemoryBudgetError:
            if not said:
                raise
            break
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            said = shortage_of(error)
        # Outside of the handler, whose traceback holds what had been allocated.
        settings.workspaces.clear()
        give_memory_back()
        if not shrink():
            break
        _tell_once(layer, said, settings.shortages)
    raise OutOfMemoryError(
        f"Memory ran out while layer {layer} was measured, also in the smallest pieces.",
        causes=[said, "other programs use the memory of the device, too", "the text is long"],
        fix="Let fewer texts run together (batch_size), analyse shorter ones, measure windows "
        '(window) or fewer positions, or use another device (device, device_map="auto").',
    )


def _tell_once(layer: str, said: str, shortages: list[str]) -> None:
    if not shortages:
        _log.warning(
            "Memory ran out while layer %s was measured (%s). It is measured anew in smaller "
            "pieces, more slowly, and so are others where that happens again.",
            layer,
            said,
        )
    shortages.append(said)
