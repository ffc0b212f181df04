"""Errors and warnings of hf_ess.

Every error says what happened, the likely causes, and what to do, and derives both from
`HfEssError` and from the builtin exception that a Python user would catch. What names and answers
from elsewhere bring into a message can neither command a terminal nor tell a secret.
"""

from __future__ import annotations

from collections.abc import Sequence

from hf_ess.plain_text import safe_to_show


class HfEssError(Exception):
    """Base of every error that hf_ess raises on purpose.

    Args:
        what: one sentence that says what happened.
        causes: likely causes, most likely first.
        fix: what to do about it.

    Example:
        >>> from hf_ess.errors import InvalidInputError
        >>> print(InvalidInputError("The text is empty.", fix="Pass at least two tokens."))
        The text is empty.
        What to do: Pass at least two tokens.
    """

    def __init__(self, what: str, *, causes: Sequence[str] = (), fix: str = "") -> None:
        self.what = safe_to_show(what)
        self.causes = tuple(map(safe_to_show, causes))
        self.fix = safe_to_show(fix)
        lines = [self.what]
        if self.causes:
            lines.append("Likely causes:")
            lines.extend(f"  - {cause}" for cause in self.causes)
        if self.fix:
            lines.append(f"What to do: {self.fix}")
        super().__init__("\n".join(lines))


class InvalidInputError(HfEssError, ValueError):
    """An argument has a value that cannot be analysed (empty text, position out of range, ...)."""


class InvalidTypeError(HfEssError, TypeError):
    """An argument is of a type that cannot be analysed."""


class UnsupportedModelError(HfEssError, ValueError):
    """The model has no causal mixer that hf_ess can measure (an encoder, a vision model, ...)."""


class UnsupportedMixerError(HfEssError, NotImplementedError):
    """One call of one mixer cannot be turned into an operator; the rest of the model still can."""


class NotCausalError(HfEssError, ValueError):
    """An operator lets the present see the future, so that its blocks carry no state."""


class NotDifferentiableError(HfEssError, RuntimeError):
    """A gradient is asked for of something that keeps no graph back to the model's weights."""


class NonFiniteError(HfEssError, ValueError):
    """NaN or infinity where numbers are needed; the message names the layer or the argument."""


class ModelLoadError(HfEssError, OSError):
    """A model cannot be loaded from the Hub, a folder or a GGUF file."""


class ReportError(HfEssError, ValueError):
    """A saved report cannot be read, or a report has no verified layer to average over."""


class NotComparableError(HfEssError, ValueError):
    """Reports measure different things; the message lists all of it, and in which reports."""


class OutputPathError(HfEssError, OSError):
    """The folder for a report cannot be written, or its disk is full."""


class MemoryBudgetError(HfEssError, MemoryError):
    """One operator of one layer does not fit into the memory budget."""


class OutOfMemoryError(HfEssError, MemoryError):
    """A device has no memory left, also not for the smallest pieces of the work."""


class AdapterError(HfEssError, RuntimeError):
    """An adapter is registered wrongly or broke its contract."""


class MissingDependencyError(HfEssError, ImportError):
    """An optional package is needed for this call and is not installed."""


class ProcessFailedError(HfEssError, RuntimeError):
    """Another of the processes that share an analysis failed, or ended without a word."""


class JobError(HfEssError, RuntimeError):
    """A job on the machines of the Hub was not started, or failed."""


class HubError(HfEssError, OSError):
    """The Hub refused, could not be reached, or does not hold what was asked for."""


class AddressError(HfEssError, OSError):
    """A server cannot listen where it should."""


class LimitError(HfEssError, ValueError):
    """A request is larger than a server allows, or comes while it has too much to do."""


class CancelledError(HfEssError, RuntimeError):
    """A measurement was cancelled by whoever asked for it."""


class NumericalFloorWarning(UserWarning):
    """A tolerance lies below the rounding floor of the spectra; its counts are noise."""


class UnverifiedOperatorWarning(UserWarning):
    """Some layers could not be verified or analysed and are left out of every average."""


class TrainingWatchWarning(UserWarning):
    """A watched training shows a collapse or a saturation, or could not be measured."""
