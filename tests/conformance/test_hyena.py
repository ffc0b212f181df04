"""Conformance of Hyena operators of two and of three orders (HyenaDNA)."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hyena_stand_in.hyena_dna import HyenaOperator
from mamba_ssm_stand_in.mixer_seq_simple import MambaLMHeadModel
from naive_recurrent import earlier_pairs
from recurrent_conformance import LENGTH, Case, RecurrentConformance, recorded
from torch import Tensor, nn

import hf_ess

WIDTH = 6


def model_of(orders: tuple[int, ...]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mixers = [HyenaOperator(WIDTH, order) for order in orders]
        return MambaLMHeadModel(mixers, WIDTH).eval()


def toeplitz(taps: Tensor, direct: Tensor) -> Tensor:
    """`[D, L, L]` of filters `[D, L]`, entry by entry."""
    length = taps.shape[-1]
    operator = torch.zeros(taps.shape[0], length, length, dtype=torch.float64)
    for i, j in earlier_pairs(length):
        operator[:, i, j] = taps[:, i - j]
    return operator + torch.diag_embed(direct[:, None].expand(-1, length))


@torch.no_grad()
def naive(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """`diag(x0) T diag(x1)`, and for three orders `diag(x0) T2 diag(x1) T1 diag(x2)`."""
    operators: list[Tensor] = []

    def of_mixer(mixer: HyenaOperator, args: tuple[Tensor, ...], result: Tensor) -> None:
        length = args[0].shape[1]
        features = mixer.short_filter(mixer.in_proj(args[0]).mT)[..., :length].double()
        gates = features.reshape(len(features), -1, WIDTH, length)
        filters = mixer.filter_fn.filter(length)[0].double()
        operator = torch.eye(length, dtype=torch.float64)
        for order in range(mixer.order - 1):
            columns = slice(order * WIDTH, (order + 1) * WIDTH)
            applied = toeplitz(filters[:, columns].T, mixer.filter_fn.bias[columns].double())
            gate = torch.diag_embed(gates[:, mixer.order - 1 - order])
            operator = applied @ gate @ operator
        operators.append(torch.diag_embed(gates[:, 0]) @ operator)

    handles = [layer.mixer.register_forward_hook(of_mixer) for layer in model.backbone.layers]
    model(input_ids=ids)
    for handle in handles:
        handle.remove()
    return operators


class TestHyena(RecurrentConformance):
    mixer = "hyena"
    cases = (
        Case(
            name="orders_2_3_2",
            build=partial(model_of, (2, 3, 2)),
            naive=naive,
            state_sizes=(None, None, None),
            receiver="out_proj",
        ),
    )

    # It keeps no state.
    test_calls_that_go_on_from_a_state_are_refused = None

    def test_operators_that_are_put_together_otherwise_are_refused(self) -> None:
        model = model_of((2,))
        mixer = model.backbone.layers[0].mixer
        mixer.filter_fn.forward = lambda x, *_, **__: x
        layers, recorder, _ = recorded(model, torch.randint(128, (1, LENGTH)), self.mixer)
        assert not layers
        assert ["long filters" in layer.reason for layer in recorder.refused] == [True]


def test_report_of_a_model_whose_filters_are_long() -> None:
    model = model_of((2, 3))
    model.config = SimpleNamespace(vocab_size=128)
    ids = torch.randint(128, (1, 200))
    report = hf_ess.analyze(model, ids, positions=[100], memory_budget=2**24, progress=False)
    assert [layer.mixer for layer in report.layers] == ["hyena", "hyena"]
    assert all(layer.verified and layer.state_size is None for layer in report.layers)
    with pytest.raises(hf_ess.MemoryBudgetError):
        hf_ess.analyze(model, ids, positions=[100], memory_budget=2**16, progress=False)
