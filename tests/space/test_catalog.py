"""Only models that the operator allows can be chosen, whatever a name looks like."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError
from trained_checkpoints import save_trained
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    Qwen2Config,
    RwkvConfig,
)

from hf_ess.errors import InvalidInputError, LimitError
from hf_ess.space import catalog as catalog_module
from hf_ess.space.catalog import CURATED, Catalog, curated_models
from hf_ess.space.hub_models import HubModels, local_facts
from hf_ess.space.limits import Limits

TRICKS = [
    "", ".", "..", "../secret", "a/../b", "./model", "/etc/passwd", "//host/share", "a//b",
    "a/b/c", "a/b/", "file:///etc/passwd", "file://model", "http://example.org/a", "hf://a/b",
    "c:\\windows", "..\\..\\x", "a\\b", "~/model", "~root", "a\x00b", "a/b\n", "a\u202eb",
    "\u0430/b", "a b/c", "a/b?x", "a/b#x", "a/b@main", "%2e%2e/x", "a--b/c", "a/b.git",
    "a/model.gguf", "a/pytorch_model.bin", "$HOME/x", "`id`", "-x/y", "x" * 5000,
]  # fmt: skip

# As published with each model.
CONFIGURATIONS = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": LlamaConfig(
        hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        intermediate_size=1536, vocab_size=49152, tie_word_embeddings=True,
    ),
    "HuggingFaceTB/SmolLM2-360M": LlamaConfig(
        hidden_size=960, num_hidden_layers=32, num_attention_heads=15, num_key_value_heads=5,
        intermediate_size=2560, vocab_size=49152, tie_word_embeddings=True,
    ),
    "Qwen/Qwen2.5-0.5B": Qwen2Config(
        hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
        intermediate_size=4864, vocab_size=151936, tie_word_embeddings=True,
    ),
    "EleutherAI/pythia-160m": GPTNeoXConfig(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
        vocab_size=50304,
    ),
    "openai-community/gpt2": GPT2Config(),
    "state-spaces/mamba-130m-hf": MambaConfig(
        hidden_size=768, num_hidden_layers=24, state_size=16, vocab_size=50280
    ),
    "RWKV/rwkv-4-169m-pile": RwkvConfig(
        hidden_size=768, num_hidden_layers=12, vocab_size=50277
    ),
}  # fmt: skip


class FakeHub:
    """What `HfApi` says of models, and how often it was asked."""

    def __init__(self, **answers):
        self.answers = {name.replace("__", "/"): answer for name, answer in answers.items()}
        self.asked = []

    def model_info(self, repo_id, *, timeout):
        self.asked.append((repo_id, timeout))
        answer = self.answers[repo_id]
        if isinstance(answer, Exception):
            raise answer
        return answer


def refusal(kind):
    return kind("no", response=httpx2.Response(404, request=httpx2.Request("GET", "http://hub")))


def model_info(total, sha="c0ffee", gated=False):
    weights = None if total is None else SimpleNamespace(total=total)
    return SimpleNamespace(safetensors=weights, sha=sha, gated=gated)


def open_catalog(hub, **options):
    return Catalog(Limits(), any_hub_model=True, hub=HubModels(hub), **options)


@pytest.mark.parametrize("model", CURATED, ids=lambda model: model.name)
def test_parameter_counts_are_right(model):
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(CONFIGURATIONS[model.name])
    assert sum(weight.numel() for weight in built.parameters()) == model.parameters
    assert model.bytes == 4 * model.parameters


@pytest.mark.parametrize("model", CURATED, ids=lambda model: model.name)
def test_listed_models_are_of_types_that_are_measured(model):
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    model_type = CONFIGURATIONS[model.name].model_type
    row = next(line for line in page.splitlines() if line.startswith(f"| `{model_type}` |"))
    assert model.mixers in row.split("|")[2]


def test_the_bundled_model_comes_first_and_needs_no_network(monkeypatch, gguf_file):
    monkeypatch.setattr(catalog_module, "bundled_smollm2", lambda: gguf_file)
    hub = FakeHub()
    catalog = Catalog(Limits(), hub=HubModels(hub))
    first = catalog.models[0]
    assert (first.name, first.source, first.is_local) == (gguf_file.name, str(gguf_file), True)
    found = catalog.found(first.name)
    assert found.parameters == 134_515_008
    assert found.revision == local_facts(gguf_file).revision != ""
    assert hub.asked == []


def test_without_the_package_it_comes_from_the_hub(monkeypatch):
    monkeypatch.setattr(catalog_module, "bundled_smollm2", lambda: None)
    assert curated_models() == list(CURATED)


def test_models_above_the_limit_are_not_offered():
    catalog = Catalog(Limits(parameters=200_000_000))
    assert "Qwen/Qwen2.5-0.5B" not in [model.name for model in catalog.models]
    assert "EleutherAI/pythia-160m" in [model.name for model in catalog.models]
    with pytest.raises(LimitError, match="494 million parameters; this server takes 200 million"):
        catalog.choose("Qwen/Qwen2.5-0.5B")


@pytest.mark.parametrize("any_hub_model", [False, True])
@pytest.mark.parametrize("name", TRICKS, ids=lambda name: ascii(name[:20]))
def test_tricks_are_refused_without_a_look(name, any_hub_model):
    hub = FakeHub()
    catalog = Catalog(Limits(), any_hub_model=any_hub_model, hub=HubModels(hub))
    with pytest.raises(InvalidInputError, match="is not the name of a model") as refused:
        catalog.found(name)
    message = str(refused.value)
    assert message.isprintable() or message.replace("\n", "").isprintable()
    assert len(message) < 400
    assert hub.asked == []


@pytest.mark.parametrize("name", [None, 7, ["a/b"], b"a/b", {"a": 1}])
def test_other_types_are_refused(name):
    with pytest.raises(InvalidInputError, match="is not the name of a model"):
        Catalog(Limits()).choose(name)


def test_other_models_of_the_hub_need_permission():
    hub = FakeHub(org__model=model_info(5_000))
    with pytest.raises(InvalidInputError, match="not among the models") as refused:
        Catalog(Limits(), hub=HubModels(hub)).found("org/model")
    assert "Choose one of the list." in str(refused.value)
    assert hub.asked == []
    found = open_catalog(hub).found("org/model")
    assert (found.source, found.parameters, found.revision) == ("org/model", 5_000, "c0ffee")
    assert not found.is_local


def test_the_hub_is_asked_once_for_a_while():
    hub = FakeHub(org__model=model_info(5_000))
    catalog = open_catalog(hub)
    assert catalog.found("org/model") == catalog.found("org/model")
    assert [repo_id for repo_id, _ in hub.asked] == ["org/model"]


def test_the_size_is_known_before_anything_is_downloaded():
    hub = FakeHub(org__big=model_info(70_000_000_000), org__unknown=model_info(None))
    with pytest.raises(LimitError, match="70,000 million parameters"):
        open_catalog(hub).found("org/big")
    with pytest.raises(LimitError, match="does not know how large"):
        open_catalog(hub).found("org/unknown")
    assert open_catalog(hub, unknown_size=True).found("org/unknown").parameters is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(RepositoryNotFoundError), "does not give 'org/model' to this server"),
        (refusal(GatedRepoError), "does not give 'org/model' to this server"),
        (model_info(5, gated="auto"), "is gated"),
        (OfflineModeIsEnabled("offline"), "cannot be asked"),
        (httpx2.ConnectError("no route"), "cannot be asked"),
    ],
    ids=["missing", "gated", "gated by hand", "offline", "no network"],
)
def test_what_the_hub_does_not_give(answer, said):
    with pytest.raises(InvalidInputError, match=said):
        open_catalog(FakeHub(org__model=answer)).found("org/model")


def test_listed_models_do_without_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    name = "EleutherAI/pythia-160m"
    hub = FakeHub(EleutherAI__pythia=None)
    hub.answers[name] = OfflineModeIsEnabled("offline")
    assert Catalog(Limits(), hub=HubModels(hub)).found(name).revision == ""
    refs = tmp_path / "models--EleutherAI--pythia-160m" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("abc123\n")
    assert Catalog(Limits(), hub=HubModels(hub)).found(name).revision == "abc123"


def test_what_the_operator_lists_may_be_private_and_of_unknown_size():
    gated = model_info(None, gated="manual")
    hub = FakeHub(org__mine=gated, org__gone=refusal(RepositoryNotFoundError))
    catalog = Catalog(Limits(), ["org/mine", "org/gone"], any_hub_model=True, hub=HubModels(hub))
    assert catalog.found("org/mine").revision == "c0ffee"
    with pytest.raises(InvalidInputError, match="does not give 'org/gone' to this server"):
        catalog.found("org/gone")


@pytest.mark.parametrize("listed", [True, False])
def test_visitors_do_not_use_the_token_of_the_operator(monkeypatch, listed):
    tokens = []

    class Client(FakeHub):
        def __init__(self, token=None):
            super().__init__(org__model=model_info(5))
            tokens.append(token)

    monkeypatch.setattr("huggingface_hub.HfApi", Client)
    HubModels().find("org/model", listed=listed)
    assert tokens == [None if listed else False]


def test_folders_are_given_by_the_operator_under_their_name(llama_folder, gguf_file):
    catalog = Catalog(Limits(), [str(llama_folder), str(gguf_file)])
    assert [model.name for model in catalog.models] == [llama_folder.name, gguf_file.name]
    found = catalog.found(llama_folder.name)
    assert (found.source, found.is_local) == (str(llama_folder.resolve()), True)
    built = AutoModelForCausalLM.from_pretrained(llama_folder)
    assert found.parameters == sum(weight.numel() for weight in built.parameters())
    for name in (str(llama_folder), f"{llama_folder.name}/", f"../{llama_folder.name}"):
        with pytest.raises(InvalidInputError):
            catalog.found(name)


def test_a_changed_file_is_another_revision(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    before = local_facts(tmp_path)
    assert before == local_facts(tmp_path)
    os.utime(tmp_path / "config.json", ns=(1, 1))
    assert local_facts(tmp_path).revision != before.revision
    assert before.parameters is None


@pytest.mark.parametrize(
    "header", [b"", b"\x05", b"\xff" * 8 + b"{}", b"\x02" + b"\0" * 7 + b"[]"], ids=repr
)
def test_damaged_weights_have_no_size(tmp_path, header):
    (tmp_path / "model.safetensors").write_bytes(header)
    assert local_facts(tmp_path).parameters is None


def test_two_folders_of_one_name_are_refused(tmp_path):
    folders = [tmp_path / name / "model" for name in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
    with pytest.raises(InvalidInputError, match="Two models have one name"):
        Catalog(Limits(), list(map(str, folders)))


def test_models_without_words_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_ess.shipped.SHIPPED", tmp_path)
    folder = save_trained(tmp_path / "small-gla")
    for name in ("small-gla", str(folder)):
        with pytest.raises(InvalidInputError, match="trained on numbers, not on words") as caught:
            Catalog(Limits(), [name])
        assert caught.value.fix.endswith(f"hf-ess analyze {name}")


def test_what_the_operator_mistypes_is_refused():
    with pytest.raises(InvalidInputError, match="is not the name of a model"):
        Catalog(Limits(), ["/no/such/folder"])
    listed = Catalog(Limits(), ["EleutherAI/pythia-160m", "org/other"]).models
    assert [model.parameters for model in listed] == [162_322_944, None]


def test_a_folder_beside_the_server_is_no_model_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "model").mkdir(parents=True)
    hub = FakeHub(org__model=model_info(5))
    with pytest.raises(InvalidInputError, match="cannot be told from a folder"):
        open_catalog(hub).found("org/model")
    assert hub.asked == []
