"""How often a training is measured: every n steps, or as often as a share of its time pays for."""

from __future__ import annotations

from typing import Literal

from hf_ess.arguments import check_number, check_whole
from hf_ess.errors import InvalidTypeError

Every = int | Literal["auto"]
AUTO: Literal["auto"] = "auto"


class Pace:
    """Says when the next measurement is due.

    With "auto" it is due as soon as the share of the time that the steps have taken pays for all
    measurements so far and for another one like the latest, and the share of the time since then
    pays for that one alone. What an expensive first measurement took is so paid back, without a
    burst of measurements afterwards.

    Args:
        every: number of steps, or "auto".
        share: of the time of the steps, for "auto".

    Attributes:
        seconds_trained: by all steps.
        seconds_measured: by all measurements.
        latest: seconds of the latest measurement.

    Raises:
        InvalidTypeError: every is neither a whole number nor "auto", or share is no number.
        InvalidInputError: every is below 1, or share is not above 0 and at most 1.

    Example:
        >>> from hf_ess.training.pace import Pace
        >>> pace = Pace("auto", share=0.1)
        >>> pace.measured(1.0)
        >>> steps = 0
        >>> while not pace.is_due(steps):
        ...     steps += 1
        ...     pace.trained(0.5)
        >>> steps
        40
    """

    def __init__(self, every: Every = AUTO, share: float = 0.02) -> None:
        if isinstance(every, str) and every != AUTO:
            raise InvalidTypeError(f'every must be a number of steps or "auto", got {every!r}.')
        if every != AUTO:
            check_whole("every", every, least=1)
        check_number(
            "share",
            share,
            above=0,
            most=1,
            fix="Use for example 0.02 to spend at most 2 % of the time of the steps.",
        )
        self.every = every
        self.share = share
        self.restart()

    def restart(self) -> None:
        """Forgets all times, for another training."""
        self.seconds_trained = 0.0
        self.seconds_measured = 0.0
        self.latest = 0.0
        self._trained_then = 0.0

    def trained(self, seconds: float) -> None:
        """A step of the training took so long."""
        self.seconds_trained += seconds

    def measured(self, seconds: float) -> None:
        """A measurement took so long."""
        self.seconds_measured += seconds
        self.latest = seconds
        self._trained_then = self.seconds_trained

    def is_due(self, step: int) -> bool:
        """Whether to measure after this step, counted from 1."""
        if isinstance(self.every, int):
            return step % self.every == 0
        pays = self.share * self.seconds_trained - self.seconds_measured >= self.latest
        since = self.seconds_trained - self._trained_then
        return pays and step > 0 and self.share * since >= self.latest
