"""Loss terms push only operators that are those of their layers, which is seen once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from hf_ess.analysis.measurement import LARGEST_FUTURE_SHARE
from hf_ess.analysis.rebuilding import why_unverified
from hf_ess.operators import future_share
from hf_ess.spectra import DEFAULT_MEMORY_BUDGET, has_own_route
from model_adapters import LayerOperator

# Name of the module, which of its runs, and whether it dropped entries.
Run = tuple[str, int, bool]
# Of every model that is still there, the runs of modules whose operators were found to be right.
_PROVED: WeakKeyDictionary[nn.Module, set[Run]] = WeakKeyDictionary()


@torch.no_grad()
def objection(model: nn.Module, layer: LayerOperator) -> str:
    """Why the recorded operator is not the one that the layer applied, empty where it is.

    It has to be causal and to rebuild the output. Where the mixer drops entries in training the
    output is another one, and only causality is seen. What was found to be right is not looked at
    again for the same model.
    """
    proved = _PROVED.setdefault(model, set())
    if (layer.name, layer.call, False) in proved:
        return ""
    drops = _drops(dict(model.named_modules()).get(layer.name, model))
    run = layer.name, layer.call, drops
    if run in proved or not bool(torch.isfinite(layer.outputs).all()):
        return ""  # NaN and infinity have errors of their own
    reason = _future(layer) or ("" if drops else why_unverified(layer))
    if not reason:
        proved.add(run)
    return reason


def _future(layer: LayerOperator) -> str:
    """Why an operator is not causal; recurrences are by construction."""
    if has_own_route(layer.operator):
        return ""
    chunks = layer.operator.group_chunks(DEFAULT_MEMORY_BUDGET)
    share = max(future_share(layer.operator.to_dense(groups)) for groups in chunks)
    if share <= LARGEST_FUTURE_SHARE:
        return ""
    return f"it is not causal: weights on future tokens reach {share:.1e} of the largest weight"


def _drops(mixer: nn.Module) -> bool:
    """Whether anything in a mixer is dropped at random now."""
    return mixer.training and any(rate > 0 for rate in _rates(mixer))


def _rates(mixer: nn.Module) -> Iterator[float]:
    """Of its dropout modules, and what it and its configuration name as dropout of attention."""
    for module in mixer.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            yield module.p
    yield from _numbers(mixer, ("drop",))
    yield from _numbers(getattr(mixer, "config", None), ("drop", "att"))


def _numbers(owner: Any, parts: Sequence[str]) -> Iterator[float]:
    """Attributes that are numbers, in whose names all of these parts are."""
    for name, value in getattr(owner, "__dict__", {}).items():
        if all(part in name for part in parts) and type(value) in (int, float):
            yield value
