"""Loss terms on operators: their values, what they do to a model, and what they leave behind."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from operators_recurrent.families import FAMILIES, Features
from recording_checks import footprint
from tiny_models import build_tiny
from training.small_models import LENGTH, ids_of, synthetic, term_of
from training.structures import STRUCTURES

import hf_ess
from hf_ess.training.transition_regularizer import recurrences_of

POSITIONS = [5, 12, 18]


def trained(model, penalties, ids, *, steps=10, rate=1e-2, with_loss=False):
    """Losses of a training on the terms alone, or on the loss of the model too."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(ids, labels=ids).loss if with_loss else 0 * model(ids).logits.sum()
        for penalty in penalties:
            loss = loss + penalty()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def average_ess(model, ids, metric="entropy"):
    was_training = model.training
    report = hf_ess.analyze(model.eval(), ids, positions=POSITIONS, progress=False)
    model.train(was_training)
    return report.average_ess(metric)


# Values


@pytest.mark.parametrize("name", ["llama", "mamba", "mamba2", "qwen3_next"])
@pytest.mark.parametrize("side", ["exactly", "at least", "at most"])
def test_the_term_follows_from_the_report(name, side):
    model = build_tiny(name)
    ids = ids_of(model)
    report = hf_ess.analyze(
        model, ids, positions=POSITIONS, progress=False, accuracy="exact", layers=[1]
    )
    layer = report.layers[0]
    attainable = np.broadcast_to(layer.attainable, layer.entropy_ess.shape)
    distance = layer.entropy_ess / attainable - 0.4
    kept = {"exactly": distance**2 >= 0, "at least": distance < 0, "at most": distance > 0}[side]
    expected = np.where(kept, distance, 0.0) ** 2
    regularizer = hf_ess.ESSRegularizer(
        model, target=0.4, weight=3.0, layers=[1], positions=POSITIONS, side=side
    )
    assert term_of(regularizer, ids).item() == pytest.approx(3 * expected.mean(), rel=1e-5)


def test_an_absolute_target_of_the_smooth_count():
    model = synthetic("GLA", "LA")
    ids = ids_of(model)
    regularizer = hf_ess.ESSRegularizer(
        model, target=3, unit="absolute", metric="tolerance", tolerance=0.05, width=0.3,
        positions=POSITIONS,
    )  # fmt: skip
    layers = []
    with torch.no_grad(), hf_ess.record_operators(model, layers.append):
        model(ids)
    expected = []
    for layer in layers:
        values = hf_ess.block_singular_values(layer.operator, POSITIONS).values
        counts = 1 / (1 + (0.05 / values.clamp(min=1e-300)) ** (1 / 0.3))
        attainable = torch.tensor([min(8, i, LENGTH - i) for i in POSITIONS])
        expected.append((((counts.sum(-1) - 3) / attainable) ** 2).mean())
    got = term_of(regularizer, ids).item()
    assert got == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_the_sum_of_hankel_singular_values():
    model = build_tiny("mamba")
    ids = ids_of(model)
    layers = []
    with torch.no_grad(), hf_ess.record_operators(model, layers.append):
        model(ids)
    sums = [
        torch.linalg.matrix_norm(layer.operator.to_dense()[..., i:, :i], "nuc").mean()
        for layer in layers
        for i in POSITIONS
    ]
    regularizer = hf_ess.HankelRegularizer(model, weight=0.5, positions=POSITIONS)
    expected = 0.5 * torch.stack(sums).mean().item()
    assert term_of(regularizer, ids).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_distance_of_transitions_from_the_identity(name):
    example = FAMILIES[name](Features(9, seed=1))
    identity = np.eye(example.transition.shape[-1])
    expected = np.linalg.norm(example.transition - identity, axis=(-2, -1))
    got = example.operator.transition_from_identity()
    np.testing.assert_allclose(got.expand(expected.shape).numpy(), expected, rtol=1e-10, atol=1e-12)


def _has_transition(name):
    structure = STRUCTURES[name]
    return any(recurrences_of(structure.make(*structure.features())))


@pytest.mark.parametrize("name", [name for name in STRUCTURES if _has_transition(name)])
def test_gradients_of_that_distance(name):
    structure = STRUCTURES[name]
    features = [f.requires_grad_() for f in structure.features()]

    def mean(parts):
        operator = structure.make(*parts)
        return sum(part.transition_from_identity().mean() for part in recurrences_of(operator))

    gradients = torch.autograd.grad(mean(features), features, allow_unused=True)
    checked = 0
    for changed, gradient in enumerate(gradients):
        if gradient is None:
            continue
        direction = torch.linspace(-1, 1, gradient.numel(), dtype=torch.float64)
        direction = direction.reshape(gradient.shape)
        ends = []
        for step in (1e-6, -1e-6):
            moved = [f.detach() for f in features]
            moved[changed] = moved[changed] + step * direction
            ends.append(mean(moved))
        expected = (ends[0] - ends[1]) / 2e-6
        torch.testing.assert_close((gradient * direction).sum(), expected, rtol=1e-6, atol=1e-7)
        checked += 1
    assert checked


def test_no_decay_at_all_has_no_gradient_but_zero():
    model = synthetic("LA", "GLA")
    term = term_of(hf_ess.TransitionRegularizer(model, layers=[1]), ids_of(model))
    assert term.item() > 0
    with torch.no_grad():
        ones = term_of(hf_ess.TransitionRegularizer(model, layers=[0]), ids_of(model))
    assert ones.item() == 0


# What they do


@pytest.mark.parametrize("mixer", ["GLA", "SA", "Mamba", "S6"])
@pytest.mark.parametrize(("target", "side", "sign"), [(1.0, "at least", 1), (0.1, "at most", -1)])
def test_training_moves_the_ess(mixer, target, side, sign):
    model = synthetic(mixer, mixer).train()
    ids = ids_of(model)
    before = average_ess(model, ids)
    regularizer = hf_ess.ESSRegularizer(model, target=target, side=side, positions=POSITIONS)
    with regularizer as penalty:
        losses = trained(model, [penalty], ids)
    assert losses[-1] < losses[0]
    assert sign * (average_ess(model, ids) - before) > 0.02


def test_training_moves_transitions_to_the_identity():
    model = synthetic("GLA", "GLA").train()
    ids = ids_of(model)
    with hf_ess.TransitionRegularizer(model, layers=[1]) as penalty:
        losses = trained(model, [penalty], ids)
    assert losses[-1] < 0.9 * losses[0]


def test_training_shrinks_hankel_singular_values():
    model = synthetic("Mamba", "GLA").train()
    with hf_ess.HankelRegularizer(model, positions=POSITIONS) as penalty:
        losses = trained(model, [penalty], ids_of(model))
    assert losses[-1] < 0.9 * losses[0]


def test_a_weight_of_zero_changes_no_bit():
    ids = ids_of(synthetic("GLA", "SA"))
    results = []
    for watch in (False, True):
        model = synthetic("GLA", "SA").train()
        before = footprint(model)
        penalty = hf_ess.ESSRegularizer(model, target=0.5, weight=0.0)
        with penalty:
            assert footprint(model) == before
            losses = trained(model, [penalty] if watch else [], ids, with_loss=True, steps=4)
        results.append([*losses, *(weight.detach() for weight in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_evaluation_within_the_context():
    model = synthetic("GLA", "LA").train()
    ids = ids_of(model)
    with hf_ess.ESSRegularizer(model, target=0.5) as penalty:
        model(ids)
        followed = penalty()
        with torch.no_grad():
            model(ids)
            assert torch.equal(penalty(), followed.detach())
        model.eval()
        assert average_ess(model, ids) > 0
        model(ids)
        assert penalty().requires_grad


def test_the_latest_pass_counts():
    model = synthetic("GLA", "LA")
    first, second = torch.randint(1, 30, (2, 1, LENGTH), generator=torch.Generator().manual_seed(0))
    regularizer = hf_ess.ESSRegularizer(model, target=0.5)
    alone = term_of(regularizer, second)
    with regularizer as penalty:
        model(first)
        model(second)
        assert torch.equal(penalty(), alone)


def test_terms_of_several_regularizers_add_up():
    model = synthetic("GLA", "LA")
    ids = ids_of(model)
    parts = [
        hf_ess.ESSRegularizer(model, target=0.5, layers=[layer], positions=POSITIONS)
        for layer in (0, 1)
    ]
    both = hf_ess.ESSRegularizer(model, target=0.5, positions=POSITIONS)
    mean = sum(term_of(part, ids) for part in parts) / 2
    torch.testing.assert_close(term_of(both, ids), mean, rtol=1e-6, atol=0)


def test_a_wide_model_gets_a_wide_term():
    model = build_tiny("llama").double()
    term = term_of(hf_ess.HankelRegularizer(model), ids_of(model))
    assert term.dtype == torch.float64
    assert term_of(hf_ess.HankelRegularizer(build_tiny("llama")), ids_of(model)).dtype == (
        torch.float32
    )


# What they leave behind


@pytest.mark.parametrize("raised", [ZeroDivisionError, KeyboardInterrupt])
def test_hooks_are_gone_after_exceptions(raised):
    model = synthetic("GLA", "SA").train()
    before = footprint(model)
    regularizer = hf_ess.ESSRegularizer(model, target=0.5)

    def run():
        with regularizer:
            assert footprint(model) != before
            model(ids_of(model))
            raise raised

    with pytest.raises(raised):
        run()
    assert footprint(model) == before
    assert term_of(regularizer, ids_of(model)).requires_grad


def test_memory_does_not_grow():
    model = synthetic("GLA", "SA").train()
    ids = ids_of(model, batch=1, length=8)

    def living():
        gc.collect()
        return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())

    with hf_ess.ESSRegularizer(model, target=0.5, positions=[4]) as penalty:
        trained(model, [penalty], ids, steps=20)
        before = living()
        trained(model, [penalty], ids, steps=200)
        # Another optimizer holds two tensors for each weight until the first is collected.
        assert living() <= before + 2
