"""What is said of a model in which there is nothing to measure."""

from __future__ import annotations

from torch import nn

from hf_ess.errors import UnsupportedModelError
from model_adapters import Survey

JACOBIAN_HINT = 'method="jacobian" measures its Jacobian'


def nothing_to_measure(model: nn.Module, found: Survey) -> UnsupportedModelError:
    """What `analyze` says of a model in which there is nothing to measure."""
    known = [*found.refused, *found.unclaimed]
    return UnsupportedModelError(
        f"{type(model).__name__} has no causal mixer that an adapter knows.",
        causes=[f"{layer.name} ({layer.mixer}): {layer.reason}" for layer in known[:5]],
        fix="`hf-ess adapters` lists what is supported; a package can register more. "
        f"Where a mixer was found, {JACOBIAN_HINT}.",
    )
