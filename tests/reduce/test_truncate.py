"""Smaller synthetic models against dense operators: what they apply, and what is certified."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_channels import of_channels
from torch import Tensor
from transformers import AutoModelForCausalLM

import hf_ess
from hf_ess.reduce import plan, truncate
from hf_ess.synthetics import SyntheticConfig, SyntheticForCausalLM, build_model

LENGTH, BATCH = 20, 2
SINGLE = ("GLA", "WLA", "GLA-S6", "S6", "Mamba")
ALL = ("LA", *SINGLE)
IDS = torch.randint(32, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))


def model_of(*mixers: str, seed: int = 0, **more) -> SyntheticForCausalLM:
    config = SyntheticConfig(
        mixers, vocab_size=32, hidden_size=12, num_attention_heads=2, state_size=6, **more
    )
    model = build_model(config, seed=seed)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # equal channels have no best choice
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return model.double()


@torch.no_grad()
def operators_of(model, **inputs) -> list:
    layers = []
    with hf_ess.record_operators(model, layers.append):
        model(**(inputs or {"input_ids": IDS}))
    return [layer.operator for layer in layers]


@torch.no_grad()
def inputs_of_mixers(model) -> list[Tensor]:
    found = []
    handles = [
        layer.mixer.register_forward_pre_hook(lambda _, args: found.append(args[0]))
        for layer in model.layers
    ]
    model(input_ids=IDS)
    for handle in handles:
        handle.remove()
    return found


def dense_pairs(model, smaller) -> list[tuple[Tensor, Tensor]]:
    """Each layer before and after, at the inputs that it had in the whole model."""
    pairs = []
    for number, (whole, given) in enumerate(
        zip(operators_of(model), inputs_of_mixers(model), strict=True)
    ):
        (cut,) = operators_of(smaller.layers[number].mixer, hidden_states=given)
        pairs.append((whole.to_dense(), cut.to_dense()))
    return pairs


@torch.no_grad()
def logits_of(model) -> Tensor:
    return model(input_ids=IDS).logits


@pytest.mark.parametrize("choose", ["operator", "magnitude", "random"])
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("mixer", ALL)
def test_the_smaller_operator_is_the_sum_of_what_was_kept(
    mixer: str, rescale: bool, choose: str
) -> None:
    model = model_of(mixer)
    done = truncate(model, 4, IDS, choose=choose, rescale=rescale, seed=3, progress=False)
    (layer,) = done.layers
    (whole,), (cut,) = operators_of(model), operators_of(done.model)
    assert cut.state_size == layer.size == 4
    channels, groups = of_channels(whole), np.arange(whole.groups) % len(layer.kept)
    expected = cut.to_dense() * 0
    for group, own in enumerate(groups):
        for channel, factor in zip(layer.kept[own], layer.factors[own], strict=True):
            expected[:, group] += factor * channels[channel, :, group]
    direct = whole.to_dense() - channels.sum(0)
    torch.testing.assert_close(cut.to_dense(), expected + direct, rtol=0.0, atol=1e-12)
    assert (layer.factors == 1).all() != rescale


@pytest.mark.parametrize("mixer", ALL)
def test_certificates_hold_for_every_block(mixer: str) -> None:
    model = model_of(mixer, mixer)
    done = truncate(model, {0: 2, 1: 4}, IDS, progress=False)
    assert [layer.size for layer in done.layers] == [2, 4]
    for layer, (whole, cut) in zip(done.layers, dense_pairs(model, done.model), strict=True):
        error = torch.linalg.matrix_norm(whole - cut)
        certified = torch.from_numpy(layer.error)
        assert (certified >= error).all()
        torch.testing.assert_close(certified, error, rtol=1e-8, atol=0.0)
        largest = torch.zeros_like(error)
        for i in range(1, LENGTH):
            block = torch.linalg.matrix_norm((whole - cut)[..., i:, :i], ord=2)
            assert (block <= certified).all()
            largest = torch.maximum(largest, block)
        assert (torch.from_numpy(layer.unbeatable) <= largest + 1e-12).all()
        middle = torch.linalg.svdvals(whole[..., LENGTH // 2 :, : LENGTH // 2])[..., layer.size]
        assert (torch.from_numpy(layer.unbeatable) >= middle - 1e-10).all()


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("mixer", ALL)
def test_operators_of_all_subsets_are_no_better_step_by_step(mixer: str, rescale: bool) -> None:
    model = model_of(mixer)
    one = truncate(model, 4, IDS, rescale=rescale, progress=False).layers[0]
    less = truncate(model, 2, IDS, rescale=rescale, progress=False).layers[0]
    assert all(set(few) <= set(more) for few, more in zip(less.kept, one.kept, strict=True))
    others = [
        truncate(model, 4, IDS, choose="random", seed=seed, rescale=rescale, progress=False)
        for seed in range(6)
    ]
    best = np.linalg.norm(one.error)
    assert all(best <= np.linalg.norm(other.layers[0].error) + 1e-9 for other in others)


@pytest.mark.parametrize("mixer", ALL)
def test_rescaling_never_makes_it_worse(mixer: str) -> None:
    model = model_of(mixer)
    for choose in ("magnitude", "random"):
        with_factors, without = (
            truncate(model, 2, IDS, choose=choose, rescale=rescale, progress=False).layers[0]
            for rescale in (True, False)
        )
        assert (with_factors.kept == without.kept).all()
        assert np.linalg.norm(with_factors.error) <= np.linalg.norm(without.error) + 1e-9


@pytest.mark.parametrize("choose", ["operator", "magnitude", "random"])
def test_the_present_sizes_change_nothing(choose: str) -> None:
    model = model_of(*ALL, "SA", "Hyena")
    done = truncate(model, 6, IDS, choose=choose, progress=False)
    torch.testing.assert_close(logits_of(done.model), logits_of(model), rtol=0.0, atol=1e-12)
    assert all((layer.kept == np.arange(6)).all() for layer in done.layers)
    assert all(layer.relative_error < 1e-5 for layer in done.layers)


def test_a_smaller_model_is_saved_loaded_and_analysed(tmp_path) -> None:
    model = model_of(*ALL, "SA").float()
    done = truncate(model, {"layers.0": 2, 3: 3, 5: 5}, IDS, progress=False)
    assert type(done.model) is SyntheticForCausalLM
    assert not done.model.training
    done.model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits_of(again), logits_of(done.model))
    report = hf_ess.analyze(again, IDS, progress=False)
    assert all(layer.verified for layer in report.layers)
    assert [layer.state_size for layer in report.layers] == [2, 6, 6, 3, 6, 5, None]
    twice = truncate(again, 2, IDS, progress=False)
    assert [layer.size for layer in twice.layers] == [2] * 6
    assert (logits_of(twice.model) - logits_of(again)).abs().max() > 0


def test_pairs_that_are_left_turn_as_before_also_the_second_time() -> None:
    model = model_of("LA", rope_theta=50.0)
    first = truncate(model, 4, IDS, rescale=False, progress=False)
    second = truncate(first.model, 2, IDS, rescale=False, progress=False)
    turns = second.model.layers[0].mixer.turns
    left = first.layers[0].kept[np.arange(2)[:, None], second.layers[0].kept][:, 0]
    assert turns[0, :, 0].tolist() == (2 * left).tolist()
    assert turns[1].unique().tolist() == [6]


def test_nothing_else_changes() -> None:
    model = model_of(*ALL)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    sizes = model.config.state_sizes
    state = torch.random.get_rng_state()
    first = truncate(model, 2, IDS, choose="random", seed=1, progress=False)
    same = truncate(model, 2, IDS, choose="random", seed=1, progress=False)
    other = truncate(model, 2, IDS, choose="random", seed=2, progress=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert model.config.state_sizes is sizes
    for module in (*model.modules(), *first.model.modules()):
        assert not module._forward_pre_hooks
        assert not module._forward_hooks
    assert torch.equal(logits_of(first.model), logits_of(same.model))
    assert not torch.equal(logits_of(first.model), logits_of(other.model))
    shared = {weight.data_ptr() for weight in model.state_dict().values()}
    assert not shared & {weight.data_ptr() for weight in first.model.state_dict().values()}


def test_a_plan_is_carried_out() -> None:
    model = model_of("LA", "S6", "SA")
    report = hf_ess.analyze(model, IDS, positions="all", progress=False)
    small = plan(report, tolerance=1e-1)
    done = truncate(model, small, IDS, progress=False)
    for layer in done.layers:
        asked = small.sizes[layer.name]
        assert asked <= layer.size <= asked + 1
        assert bool(layer.note) == (layer.size != asked)
        assert layer.unbeatable.max() <= max(small.layers[layer.index].largest_error, 1e-9)
        assert layer.name in done.summary(60)
        assert layer.note in done.summary()
    frame = done.to_pandas()
    assert frame["size"].tolist() == [layer.size for layer in done.layers]
    assert (frame["largest_error"] >= frame["unbeatable"]).all()


def test_the_bar_is_on_stderr_and_can_be_off(capsys) -> None:
    model = model_of("GLA")
    truncate(model, 2, IDS)
    shown = capsys.readouterr()
    assert not shown.out
    assert "Truncating" in shown.err
    truncate(model, 2, IDS, progress=False)
    assert capsys.readouterr() == ("", "")


def test_padding_is_no_part_of_it() -> None:
    model = model_of("GLA", "S6")
    padded = torch.nn.functional.pad(IDS, (3, 0))
    mask = torch.nn.functional.pad(torch.ones_like(IDS), (3, 0))
    alone = truncate(model, 3, IDS, progress=False)
    beside = truncate(model, 3, {"input_ids": padded, "attention_mask": mask}, progress=False)
    for one, other in zip(alone.layers, beside.layers, strict=True):
        assert (one.kept == other.kept).all()
        np.testing.assert_allclose(other.factors, one.factors, rtol=1e-8)
