"""Models that stay loaded between measurements, as many as fit."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hf_ess.analysis.model_checks import forward_parameters
from hf_ess.errors import HfEssError, InvalidInputError, LimitError, ModelLoadError
from hf_ess.operators import future_share
from hf_ess.space.catalog import CatalogModel
from hf_ess.space.hub_models import cached_revision
from hf_ess.space.planning import MixerSize
from hf_ess.space.recent import Recent
from model_adapters import survey

# As short as the trial run of an analysis.
TRIAL_LENGTH = 13
# Numbers in masks that are no weights: those of GPT-2 are 12 million.
MASKS = 100_000_000


@dataclass(frozen=True)
class ModelInUse:
    """A loaded model with its tokenizer, and how many spectra its layers have."""

    model: nn.Module
    tokenizer: Any
    mixers: Sequence[MixerSize]

    @property
    def bytes(self) -> int:
        """Bytes of its weights."""
        weights = [*self.model.parameters(), *self.model.buffers()]
        return sum(weight.numel() * weight.element_size() for weight in weights)


class ModelsInUse:
    """Loads models by their catalogue entry; the one that came last always stays.

    Code that comes with a checkpoint is never run.

    Args:
        bytes_kept: of weights.
        device: where they are put.
        dtype: of their weights, that of the checkpoint by default.
    """

    def __init__(self, bytes_kept: int, device: str, dtype: str | None = None) -> None:
        self.device = device
        self.dtype = dtype
        self._kept: Recent[ModelInUse] = Recent(bytes_kept)

    def has(self, entry: CatalogModel) -> bool:
        """Whether the model is loaded already."""
        return self._kept.get(_key(entry)) is not None

    def get(self, entry: CatalogModel) -> ModelInUse:
        """The model, loaded if it is not.

        Raises:
            ModelLoadError: it cannot be loaded, or only with code of its own.
            InvalidInputError: it has no tokenizer.
            LimitError: there is no room on the disk to download it.
            UnsupportedModelError: it is no causal language model.
        """
        found = self._kept.get(_key(entry))
        if found is None:
            # First the old, then the new: both together may not fit.
            self._kept.make_room(entry.bytes or 0)
            free_memory()
            found = self._load(entry)
            self._kept.put(_key(entry), found, size=found.bytes)
        return found

    def _load(self, entry: CatalogModel) -> ModelInUse:
        from model_adapters.loading import load

        _check_disk(entry)
        try:
            loaded = load(
                entry.source,
                dtype=self.dtype,
                device=self.device,
                revision=None if entry.is_local else entry.revision or None,
                trust_remote_code=False,
                most_parameters=_most_parameters(entry),
            )
        except HfEssError as error:
            raise _for_visitors(entry, error) from error
        if loaded.tokenizer is None:
            raise InvalidInputError(
                f"{entry.name} has no tokenizer, so that it cannot read a text.",
                fix="Choose another model.",
            )
        return ModelInUse(loaded.model, loaded.tokenizer, _mixers(loaded.model, self.device))


def _most_parameters(entry: CatalogModel) -> int | None:
    """What the configuration of a model of the Hub may declare, by the size of its weights.

    Masks of older models are counted with their weights.
    """
    if entry.is_local or entry.parameters is None:
        return None
    return 2 * entry.parameters + MASKS


def _check_disk(entry: CatalogModel) -> None:
    """Refuses a download for which there is no room.

    Raises:
        LimitError: the disk is too full.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    unknowable = entry.is_local or entry.bytes is None
    if unknowable or (entry.revision and cached_revision(entry.source) == entry.revision):
        return
    folder = next(path for path in Path(HF_HUB_CACHE, "x").parents if path.exists())
    free = shutil.disk_usage(folder).free
    if free < (entry.bytes or 0):
        raise LimitError(
            f"The disk of this server has {free / 1e9:.1f} GB free, {entry.name} may need "
            f"{(entry.bytes or 0) / 1e9:.1f} GB.",
            fix="Choose a smaller model, or one of the list.",
        )


def free_memory() -> None:
    """Gives back what nothing refers to any more, on the GPU as well."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _mixers(model: nn.Module, device: str) -> list[MixerSize]:
    """The mixers of a model from a run on a few tokens; none where that fails."""
    ids = torch.ones((1, TRIAL_LENGTH), dtype=torch.int64, device=device)
    options = {"use_cache": False} if "use_cache" in forward_parameters(model) else {}
    try:
        with torch.no_grad():
            found = survey(
                model, lambda: model(input_ids=ids, **options), TRIAL_LENGTH, future_share
            )
    except Exception:
        # Whatever is wrong with the model, its analysis explains it better.
        return []
    return [MixerSize(mixer.groups, mixer.state_size) for mixer in found.mixers]


def _key(entry: CatalogModel) -> str:
    return f"{entry.name}\0{entry.revision}"


def _for_visitors(entry: CatalogModel, error: HfEssError) -> HfEssError:
    """The error without paths of the server, and without advice that only its operator can take."""
    if "trust_remote_code" in str(error):
        return ModelLoadError(
            f"{entry.name} needs Python code of its own, which is never run here.",
            fix="Choose a model that transformers knows by itself.",
        )
    if not entry.is_local:
        return error
    what, *causes = (
        words.replace(entry.source, entry.name) for words in (error.what, *error.causes)
    )
    return type(error)(what, causes=causes, fix=error.fix.replace(entry.source, entry.name))
