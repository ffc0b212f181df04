"""Which models may be measured: a list with sizes, the operator's own, or any of the Hub.

Code that comes with a checkpoint is never run, whatever the operator allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_ess.errors import InvalidInputError, LimitError
from hf_ess.plain_text import printable
from hf_ess.report.text import shortened
from hf_ess.shipped import trained_folder
from hf_ess.space.hub_models import HubModels, local_facts
from hf_ess.space.limits import Limits
from model_adapters.bundled import bundled_smollm2

FLOAT32_BYTES = 4
LONGEST_NAME = 120
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class CatalogModel:
    """One model that may be measured.

    Attributes:
        name: what users choose, and what reports say.
        source: what is loaded: a Hub id, a folder, or a `.gguf` file.
        is_local: whether `source` is a path.
        parameters: how many it has, None where that is not known yet.
        mixers: what mixes its tokens, in words; empty where that is not known.
        revision: commit on the Hub, or a digest of local files; empty where not known yet.
    """

    name: str
    source: str
    is_local: bool = False
    parameters: int | None = None
    mixers: str = ""
    revision: str = ""

    @property
    def bytes(self) -> int | None:
        """Bytes of its weights in float32, the most that they take."""
        return None if self.parameters is None else FLOAT32_BYTES * self.parameters


ATTENTION = "softmax attention"
# All of them separate texts by <|endoftext|>.
CURATED = (
    CatalogModel(SMOLLM2, SMOLLM2, parameters=134_515_008, mixers=ATTENTION),
    CatalogModel(
        "HuggingFaceTB/SmolLM2-360M",
        "HuggingFaceTB/SmolLM2-360M",
        parameters=361_821_120,
        mixers=ATTENTION,
    ),
    CatalogModel("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B", False, 494_032_768, ATTENTION),
    CatalogModel("EleutherAI/pythia-160m", "EleutherAI/pythia-160m", False, 162_322_944, ATTENTION),
    CatalogModel("openai-community/gpt2", "openai-community/gpt2", False, 124_439_808, ATTENTION),
    CatalogModel(
        "state-spaces/mamba-130m-hf", "state-spaces/mamba-130m-hf", False, 129_135_360, "mamba"
    ),
    CatalogModel("RWKV/rwkv-4-169m-pile", "RWKV/rwkv-4-169m-pile", False, 169_342_464, "RWKV-4"),
)


def curated_models() -> list[CatalogModel]:
    """The list that a server offers by itself; the first needs no network where it is bundled.

    Example:
        >>> curated_models()[0].parameters
        134515008
    """
    first, *others = CURATED
    bundled = bundled_smollm2()
    if bundled is not None:
        # Its weights are rounded to four bits, so that it must not go by the name on the Hub.
        local = _local(bundled)
        first = replace(local, parameters=first.parameters, mixers=first.mixers)
    return [first, *others]


class Catalog:
    """The models of one server.

    Args:
        limits: how large a model may be.
        models: Hub ids, folders and `.gguf` files of the operator, in place of the curated list.
        any_hub_model: whether visitors may name any model of the Hub.
        unknown_size: whether those may be measured whose size the Hub does not know.
        hub: what asks the Hub.

    Raises:
        InvalidInputError: what the operator named is neither there nor a Hub id, or two local
            models have one name.

    Example:
        >>> catalog = Catalog(Limits(), ["EleutherAI/pythia-160m"])
        >>> catalog.choose("EleutherAI/pythia-160m").is_local
        False
        >>> catalog.choose("../secret")
        Traceback (most recent call last):
        ...
        hf_ess.errors.InvalidInputError: '../secret' is not the name of a model.
        What to do: Choose one of the list.
    """

    def __init__(
        self,
        limits: Limits,
        models: Sequence[str] | None = None,
        *,
        any_hub_model: bool = False,
        unknown_size: bool = False,
        hub: HubModels | None = None,
    ) -> None:
        listed = [_of_operator(word) for word in models] if models else curated_models()
        self._models = {model.name: model for model in listed}
        if len(self._models) < len(listed):
            names = ", ".join(model.name for model in listed)
            raise InvalidInputError(
                f"Two models have one name: {names}.", fix="Rename one of the folders."
            )
        self.limits = limits
        self.any_hub_model = any_hub_model
        self.unknown_size = unknown_size
        self._hub = hub or HubModels()

    @property
    def models(self) -> list[CatalogModel]:
        """The models of the list that are not above the limit of parameters."""
        return [
            model
            for model in self._models.values()
            if model.is_local or (model.parameters or 0) <= self.limits.parameters
        ]

    def choose(self, name: str) -> CatalogModel:
        """The model of that name, without asking the Hub.

        Raises:
            InvalidInputError: it is no name of a model, or none that may be measured here.
            LimitError: it is too large.
        """
        if isinstance(name, str) and name in self._models:
            model = self._models[name]
        else:
            check_hub_id(name, self._advice)
            if not self.any_hub_model:
                raise InvalidInputError(
                    f"{_shown(name)} is not among the models that this server measures.",
                    fix=self._advice,
                )
            model = CatalogModel(name, name)
        if not model.is_local and model.parameters is not None:
            self.limits.check_parameters(model.name, model.parameters)
        return model

    def found(self, name: str) -> CatalogModel:
        """The model of that name with its size and revision, from the Hub where it is there.

        Nothing of it is downloaded. The revision stays empty where the Hub is out of reach and
        holds nothing of the model here.

        Raises:
            InvalidInputError: as `choose`; or the Hub does not have or give such a model.
            LimitError: it is too large, or nobody knows how large.
        """
        model = self.choose(name)
        if model.is_local:
            facts = local_facts(Path(model.source))
            return replace(
                model,
                revision=facts.revision,
                parameters=model.parameters or facts.parameters,
            )
        if Path(model.source).exists():
            # Loading would prefer it, whatever it holds.
            raise InvalidInputError(
                f"{_shown(name)} cannot be told from a folder of the server.", fix=self._advice
            )
        listed = model.name in self._models
        remote = self._hub.find(model.source, listed=listed)
        parameters = model.parameters or remote.parameters
        if parameters is not None:
            self.limits.check_parameters(model.name, parameters)
        elif not (listed or self.unknown_size):
            raise LimitError(
                f"The Hub does not know how large {model.name} is, so that it is not loaded here.",
                causes=["its weights are no safetensors files"],
                fix="Choose a model with safetensors, or measure it on your own machine.",
            )
        return replace(model, parameters=parameters, revision=remote.revision)

    @property
    def _advice(self) -> str:
        more = ", or write the id of a model on the Hub (organisation/name)"
        return f"Choose one of the list{more if self.any_hub_model else ''}."


def check_hub_id(name: Any, advice: str = "Write it as organisation/name.") -> None:
    """Refuses everything that is no id of a model on the Hub: paths, addresses, file names.

    Raises:
        InvalidInputError: the message shows the name with control characters written out.

    Example:
        >>> check_hub_id("EleutherAI/pythia-160m")
        >>> check_hub_id("file:///etc/passwd")
        Traceback (most recent call last):
        ...
        hf_ess.errors.InvalidInputError: 'file:///etc/passwd' is not the name of a model.
        What to do: Write it as organisation/name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        if not isinstance(name, str) or len(name) > LONGEST_NAME:
            raise HFValidationError
        validate_repo_id(name)
        if name.lower().endswith((".gguf", ".bin", ".safetensors")):
            raise HFValidationError
    except HFValidationError:
        raise InvalidInputError(f"{_shown(name)} is not the name of a model.", fix=advice) from None


def _shown(name: Any) -> str:
    return f"'{shortened(printable(str(name)[: 2 * LONGEST_NAME]), LONGEST_NAME)}'"


def _of_operator(word: str) -> CatalogModel:
    """A folder or file by its own name, or a Hub id; the curated list may know more of it."""
    path = Path(word).expanduser()
    if trained_folder(word) is not None:
        raise InvalidInputError(
            f"{_shown(word)} was trained on numbers, not on words: the page has no text for it.",
            fix=f"Measure it at the command line: hf-ess analyze {word}",
        )
    if path.exists():
        return _local(path.resolve())
    check_hub_id(word, "Give a folder or file that exists, or an id of the Hub.")
    known = {model.name: model for model in curated_models()}
    return known.get(word) or CatalogModel(word, word)


def _local(path: Path) -> CatalogModel:
    facts = local_facts(path)
    return CatalogModel(
        printable(path.name), str(path), True, facts.parameters, revision=facts.revision
    )
