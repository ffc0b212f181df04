"""Layers of trained models distilled into students with smaller states, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

import hf_ess
from hf_ess.lab.testing import tested
from hf_ess.reduce import distill, smaller_layer
from hf_ess.report import LayerESS
from hf_ess.synthetics import SyntheticForCausalLM, TrainedCheckpoint

# No test set has it.
SEED = 2**31
PROBED = 8
TOLERANCE = 1e-1
BATCH = 32


@dataclass(frozen=True)
class Distilled:
    """What a student came to, on texts that were held out.

    Attributes:
        operator_error_before: of the student as it was given.
        operator_error_matched: after the phase of the operators.
        operator_error: after both phases.
        activation_error: after both phases.
        accuracy: of the whole model with the student, on its test texts.
    """

    operator_error_before: float
    operator_error_matched: float
    operator_error: float
    activation_error: float
    accuracy: float


class Teacher:
    """A trained model, the ESS of its layers, and new texts of its task to distil on.

    Args:
        source: a folder of a run or a checkpoint, or the name of a shipped one.
        texts: how many texts.
        device: where it runs.

    Attributes:
        layers: those that are verified and have a state of fixed size; their ESS is that in the
            middle of the text.

    Raises:
        InvalidInputError, ModelLoadError: there is no such model, or it is damaged.
    """

    def __init__(self, source: str, texts: int, device: str = "cpu") -> None:
        self.checkpoint = TrainedCheckpoint.read(source)
        self.model: SyntheticForCausalLM = self.checkpoint.model().to(device)
        self.ids = self.checkpoint.task.texts(texts, seed=SEED).input_ids.to(device)
        report = hf_ess.analyze(
            self.model,
            self.ids[:PROBED],
            positions=[self.ids.shape[1] // 2],
            tolerances=[TOLERANCE],
            batch_size=PROBED,
            progress=False,
        )
        self.layers = [
            layer for layer in report.layers if layer.verified and layer.state_size is not None
        ]

    def accuracy(self, model: SyntheticForCausalLM | None = None) -> float:
        """Of the teacher, or of another model, on the teacher's test texts."""
        chosen = self.model if model is None else model
        return tested(chosen, self.checkpoint.texts(), BATCH)[1]

    def distilled(
        self, layer: LayerESS, student: nn.Module | int, steps: tuple[int, int]
    ) -> Distilled:
        """Trains a student on the operators of a layer, then on its outputs.

        Args:
            layer: one of `layers`.
            student: a state size, for a new layer, or a module.
            steps: of the two phases.

        Raises:
            HfEssError: as `hf_ess.reduce.distill`.

        Source: Parnichkun et al., ICML 2025, appendix D.6.
        """
        options: dict[str, Any] = {"batch_size": min(BATCH, len(self.ids)), "progress": False}
        if isinstance(student, int):
            student = smaller_layer(self.model, layer.name, student)
        first = distill(
            self.model, layer.name, student, self.ids,
            operator_steps=steps[0], activation_steps=0, **options,
        ).layers[0]  # fmt: skip
        done = distill(
            self.model, layer.name, first.student, self.ids,
            operator_steps=0, activation_steps=steps[1], **options,
        )  # fmt: skip
        after = done.layers[0].after
        return Distilled(
            operator_error_before=_error(first.before.operator),
            operator_error_matched=_error(first.after.operator),
            operator_error=_error(after.operator),
            activation_error=after.activation,
            accuracy=self.accuracy(done.model),
        )


def smallest_ess(layer: LayerESS) -> dict[str, float]:
    """The smallest ESS of a layer over texts and channels, as entropy and as tolerance.

    Source: Parnichkun et al., ICML 2025, appendix D.6.
    """
    return {
        "entropy_ess": float(layer.entropy_ess.min()),
        "tolerance_ess": float(layer.tolerance_ess[TOLERANCE].min()),
    }


def _error(value: float | None) -> float:
    return float("nan") if value is None else value
