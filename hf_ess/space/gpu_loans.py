"""Where a GPU is lent call by call (ZeroGPU), a measurement runs inside of the loan."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from hf_ess.errors import CancelledError, HfEssError, ProcessFailedError
from hf_ess.report import ESSReport
from hf_ess.space.instrument import Measure
from hf_ess.space.measuring import Measurer, OnStep, Request, Step, stream

# A loan is never longer; the visitor's quota is charged by what is asked for.
LONGEST_LOAN = 120


def lending_package() -> Any | None:
    """The package `spaces` of the Hub's Spaces, None elsewhere.

    It has to be imported before anything asks for a GPU.
    """
    try:
        import spaces
    except ImportError:
        return None
    # A folder of that name, such as the one in our repository, can be imported as well.
    return spaces if hasattr(spaces, "GPU") else None


def measure_on_loan(measurer: Measurer) -> Measure:
    """`measurer.measure`, on a GPU that is lent where GPUs are lent.

    The loan forks this process: what comes back is pickled, and of an exception nothing but its
    name would come back. So errors come as values. A measurement that is cancelled ends with the
    loan, after the layer that runs.

    Raises:
        HfEssError: by what is returned: what `Measurer.measure` raises.
    """
    package = lending_package()
    if package is None:
        return measurer.measure

    def steps(request: Request) -> Iterator[Step | ESSReport | HfEssError]:
        try:
            yield from stream(measurer, request)
        except HfEssError as error:
            yield error

    lent = package.GPU(duration=min(measurer.limits.seconds, LONGEST_LOAN))(steps)

    def measure(
        request: Request, on_step: OnStep | None = None, cancel: threading.Event | None = None
    ) -> ESSReport:
        running = lent(request)
        try:
            for told in running:
                if isinstance(told, ESSReport):
                    return told
                if isinstance(told, HfEssError):
                    raise told
                if cancel is not None and cancel.is_set():
                    raise CancelledError(
                        "The measurement was cancelled.", fix="Start it again at any time."
                    )
                if on_step is not None:
                    on_step(told)
        finally:
            running.close()
        raise ProcessFailedError(
            "The GPU was taken back before the measurement was done.",
            causes=["it took longer than the loan"],
            fix="Shorten the text, or choose a smaller model.",
        )

    return measure
