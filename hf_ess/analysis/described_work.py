"""What the numbers of an analysis depend on, so that no other work is taken for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.analysis.provenance import library_versions, model_provenance
from hf_ess.report.records import plain
from model_adapters.weights import is_packed

# Where a model was loaded from says nothing of its numbers.
NAMES = ("model", "model_is_local", "revision")
# Of a configuration; the same.
UNSAID = ("_name_or_path", "transformers_version")
BYTES_AT_ONCE = 2**26


def described_work(
    model: nn.Module, ids: Iterable[Tensor], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Model, token ids, settings and libraries, in the types of JSON.

    Every weight that is in memory enters a SHA-256, also those on GPUs; of what is offloaded or
    packed only the names and shapes do.
    """
    facts = {name: value for name, value in model_provenance(model).items() if name not in NAMES}
    versions = library_versions()
    del versions["python"]
    described = {
        "model": facts
        | {"weights_sha256": weights_sha256(model), "configuration_sha256": _configuration(model)},
        "texts": _texts(ids),
        "settings": dict(settings),
        "versions": versions,
    }
    made: dict[str, Any] = json.loads(json.dumps(plain(described)))
    return made


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of all that a checkpoint of the model would hold, as far as it is here in numbers.

    Example:
        >>> first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        >>> weights_sha256(first) == weights_sha256(second)
        False
    """
    digest = hashlib.sha256()
    known: set[int] = set()
    for name, weight in model.state_dict(keep_vars=True).items():
        if not isinstance(weight, Tensor):
            continue
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        if weight.is_meta or is_packed(weight) or id(weight) in known:
            continue
        known.add(id(weight))
        numbers = weight.detach().reshape(-1)
        for part in torch.split(numbers, BYTES_AT_ONCE // numbers.element_size()):
            digest.update(part.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _configuration(model: nn.Module) -> str:
    known = getattr(getattr(model, "config", None), "to_dict", dict[str, Any])()
    said = {str(name): value for name, value in known.items() if name not in UNSAID}
    return hashlib.sha256(json.dumps(plain(said), sort_keys=True).encode()).hexdigest()


def _texts(ids: Iterable[Tensor]) -> dict[str, Any]:
    digest, number = hashlib.sha256(), 0
    for number, row in enumerate(ids, start=1):  # noqa: B007 - counted
        digest.update(f"{len(row)} ".encode())
        digest.update(row.numpy().astype("<i8").tobytes())
    return {"number": number, "token_ids_sha256": digest.hexdigest()}
