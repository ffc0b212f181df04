"""What can be known of a model before any of its weights are downloaded or loaded."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_ess.errors import InvalidInputError

SECONDS_KNOWN = 300.0
PATIENCE_SECONDS = 10.0
LONGEST_HEADER = 100 * 2**20
LOADED_FILES = ("*.json", "*.safetensors", "*.bin", "*.gguf", "*.model")


@dataclass(frozen=True)
class ModelFacts:
    """How many parameters a model has, None where not known, and which state of it this is."""

    parameters: int | None
    revision: str


NOTHING = ModelFacts(None, "")


class HubModels:
    """Asks the Hub for size and revision of models, and remembers the answers for some minutes.

    Visitors reach nothing private of the operator: for models that they name no token is used.

    Args:
        api: a client of the Hub in place of the usual ones.
    """

    def __init__(self, api: Any | None = None) -> None:
        self._api = api
        self._known: dict[tuple[str, bool], tuple[float, ModelFacts]] = {}
        self._lock = threading.Lock()

    def find(self, repo_id: str, *, listed: bool) -> ModelFacts:
        """Size and revision of a model, None and what lies in the cache where nobody answers.

        Args:
            repo_id: a valid id.
            listed: whether the operator named it, so that it may be private, and used unasked.

        Raises:
            InvalidInputError: the Hub has no such model; or a visitor named it, and it is not
                for everyone, or the Hub is out of reach.
        """
        with self._lock:
            asked, facts = self._known.get((repo_id, listed), (-math.inf, NOTHING))
        if time.monotonic() - asked < SECONDS_KNOWN:
            return facts
        facts = self._ask(repo_id, listed)
        with self._lock:
            self._known[repo_id, listed] = time.monotonic(), facts
            while len(self._known) > 1000:
                del self._known[next(iter(self._known))]
        return facts

    def _ask(self, repo_id: str, listed: bool) -> ModelFacts:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import (
            GatedRepoError,
            HTTPError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
        )

        api = self._api or (HfApi() if listed else HfApi(token=False))
        try:
            info = api.model_info(repo_id, timeout=PATIENCE_SECONDS)
        except (GatedRepoError, RepositoryNotFoundError) as error:
            raise InvalidInputError(
                f"The Hub does not give {repo_id!r} to this server.",
                causes=["the name is mistyped", "the model is private or gated"],
                fix="Choose a public model.",
            ) from error
        except (OfflineModeIsEnabled, HTTPError, OSError) as error:
            if listed:
                return ModelFacts(None, cached_revision(repo_id))
            raise InvalidInputError(
                f"The Hub cannot be asked how large {repo_id!r} is.",
                causes=["this server has no network, or is set offline", "the Hub is busy"],
                fix="Choose a model of the list, or try again later.",
            ) from error
        if not listed and getattr(info, "gated", False):
            raise InvalidInputError(
                f"{repo_id!r} is gated: its owner gives it only to those who ask.",
                fix="Choose a public model.",
            )
        weights = getattr(info, "safetensors", None)
        return ModelFacts(weights.total if weights else None, info.sha or "")


def local_facts(path: Path) -> ModelFacts:
    """Parameters of a folder with safetensors, and a digest of names, sizes and times of files.

    The parameters of a GGUF file, whose numbers are packed, are not counted.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     local_facts(Path(folder)).parameters is None
        True
    """
    files = [path]
    if path.is_dir():
        files = sorted({file for pattern in LOADED_FILES for file in path.glob(pattern)})
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(f"{file.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    counts = [_parameters_of(file) for file in files if file.suffix == ".safetensors"]
    return ModelFacts(sum(counts) or None, digest.hexdigest()[:16])


def _parameters_of(file: Path) -> int:
    """Numbers in a safetensors file, from its header; 0 where it has none that can be read."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(min(length, LONGEST_HEADER)))
        return sum(
            math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__"
        )
    except (OSError, ValueError, struct.error, AttributeError, KeyError, TypeError):
        return 0


def cached_revision(repo_id: str) -> str:
    """The commit that the cache holds of the main branch, empty if it has none."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    folder = str(repo_folder_name(repo_id=repo_id, repo_type="model"))
    try:
        return Path(HF_HUB_CACHE, folder, "refs", "main").read_text().strip()
    except OSError:
        return ""
