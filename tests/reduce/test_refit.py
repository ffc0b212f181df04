"""What C reads, fitted anew: against least squares over dense operators of single weights."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from tiny_models import build_tiny, tiny_input_ids
from torch import Tensor, nn

import hf_ess
from hf_ess.reduce import families, refitting, truncate
from hf_ess.synthetics import SyntheticConfig, build_model

READERS = {
    **dict.fromkeys(("LA", "GLA", "WLA", "GLA-S6"), "q_proj"),
    **dict.fromkeys(("S6", "Mamba"), "c_proj"),
}
BATCH, LENGTH, WIDTH = 3, 16, 8
IDS = torch.randint(32, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))


def model_of(*mixers: str):
    config = SyntheticConfig(
        mixers, vocab_size=32, hidden_size=WIDTH, num_attention_heads=2, state_size=4
    )
    return build_model(config, seed=5).double()


@torch.no_grad()
def dense_of(model: nn.Module, ids: Tensor) -> Tensor:
    layers = []
    with hf_ess.record_operators(model, layers.append):
        model(input_ids=ids)
    return layers[0].operator.to_dense()


@torch.no_grad()
def dense_of_single_weights(model: nn.Module, rows: Tensor, ids: Tensor) -> Tensor:
    """The operator is linear in the rows of C: that of each weight alone, `[n d, B, G, L, L]`."""
    before, columns = rows.clone(), []
    for weight in range(rows.numel()):
        rows.zero_()
        rows.view(-1)[weight] = 1.0
        columns.append(dense_of(model, ids))
    rows.copy_(before)
    return torch.stack(columns)


@pytest.mark.parametrize("mixer", READERS)
def test_the_fit_is_that_of_least_squares(mixer: str, monkeypatch) -> None:
    monkeypatch.setattr(refitting, "RIDGE", 1e-13)
    model = model_of(mixer)
    done = truncate(model, 2, IDS, refit=True, progress=False)
    whole = dense_of(model, IDS)
    direct = torch.diag_embed(getattr(model.layers[0].mixer, "direct", torch.zeros(1)).detach())
    without = deepcopy(done.model)
    reader = getattr(without.layers[0].mixer, READERS[mixer]).weight
    fitted, columns = reader.detach().clone(), dense_of_single_weights(without, reader.data, IDS)
    if mixer == "Mamba":  # an affine map: the direct terms are there for every weight
        diagonal = torch.diag_embed(direct.diagonal()[None, :, None].expand(BATCH, -1, LENGTH))
        whole, columns = whole - diagonal, columns - diagonal
    solved = torch.linalg.lstsq(
        columns.flatten(1).mT, whole.flatten()[:, None], driver="gelsd"
    ).solution
    torch.testing.assert_close(fitted.flatten(), solved[:, 0], rtol=1e-6, atol=1e-8)
    left = float((columns.flatten(1).mT @ solved - whole.flatten()[:, None]).norm())
    assert float(np.linalg.norm(done.layers[0].error)) == pytest.approx(left, rel=1e-6)


@pytest.mark.parametrize("choose", ["operator", "magnitude", "random"])
@pytest.mark.parametrize("mixer", READERS)
def test_a_fit_is_no_worse_than_factors(mixer: str, choose: str) -> None:
    model = model_of(mixer, mixer)
    factors, fit = (
        truncate(model, 2, IDS, choose=choose, refit=refit, progress=False).layers
        for refit in (False, True)
    )
    for one, other in zip(factors, fit, strict=True):
        assert (one.kept == other.kept).all()
        assert np.linalg.norm(other.error) < np.linalg.norm(one.error)
        assert (other.unbeatable <= other.error).all()


def test_a_fitted_model_is_like_any_other(tmp_path) -> None:
    model = model_of(*READERS).float()
    smaller = truncate(model, 2, IDS, refit=True, progress=False).model
    smaller.save_pretrained(tmp_path)
    again = type(smaller).from_pretrained(tmp_path)
    report = hf_ess.analyze(again, IDS, progress=False)
    assert all(layer.verified and layer.state_size == 2 for layer in report.layers)
    whole = truncate(model, 4, IDS, refit=True, progress=False).model
    assert torch.equal(whole(input_ids=IDS).logits, model(input_ids=IDS).logits)


def test_mamba_of_transformers_is_fitted_and_others_say_why_not() -> None:
    model = build_tiny("mamba")
    ids = tiny_input_ids(model, batch=4, length=20)
    factors, fit = (truncate(model, 3, ids, refit=r, progress=False).layers for r in (False, True))
    for one, other in zip(factors, fit, strict=True):
        assert np.linalg.norm(other.error) < 0.9 * np.linalg.norm(one.error)
        assert not other.note
    for model_type in ("falcon_mamba", "mamba2"):
        model = build_tiny(model_type)
        done = truncate(model, 3, tiny_input_ids(model), refit=True, progress=False)
        assert all(layer.note.startswith("not refitted: B and C") for layer in done.layers)


def test_too_many_weights_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(refitting, "MOST_EQUATIONS", 2 * WIDTH - 1)
    with pytest.raises(hf_ess.InvalidInputError, match=r"(?s)2 channels of 8.*refit=False"):
        truncate(model_of("GLA"), 2, IDS, refit=True, progress=False)


def test_weights_that_do_not_make_c_are_refused(monkeypatch) -> None:
    def doubled(_family, state, _length):
        return 2 * torch.eye(state.size)[None, None]

    monkeypatch.setattr(families.Family, "turns", doubled)
    with pytest.raises(hf_ess.UnsupportedMixerError, match="not what its weights make"):
        truncate(model_of("GLA"), 2, IDS, refit=True, progress=False)


def test_threads_change_nothing_but_rounding() -> None:
    # MKL's LU factorization by several threads fails on systems of this size.
    config = SyntheticConfig(["GLA"], vocab_size=32, hidden_size=32, num_attention_heads=2)
    model = build_model(config, seed=0)
    ids = torch.randint(32, (4, 32), generator=torch.Generator().manual_seed(0))
    former, found = torch.get_num_threads(), []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        try:
            cut = truncate(model, {0: 8}, ids, refit=True, progress=False).model
        finally:
            torch.set_num_threads(former)
        found.append(cut.get_submodule("layers.0.mixer").q_proj.weight.detach().double())
    assert found[0].isfinite().all()
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-6)
