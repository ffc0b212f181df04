"""Conformance of mLSTM (xLSTM)."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import Any

import torch
from naive_attention import heads_of, inputs_of
from recurrent_conformance import LENGTH, Case, RecurrentConformance, recorded
from tiny_model_overrides import HEADS
from tiny_models import build_tiny, tiny_input_ids
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

MIXER = "mLSTM"
# Caches of xLSTM hold heads whose widths together are a multiple of 64; 64 tokens are one chunk.
HIDDEN = 128
build = partial(build_tiny, "xlstm", hidden_size=HIDDEN, chunk_size=64)


def naive_mlstm(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """The parallel form, without a running maximum: nothing here is stabilised."""
    config = model.config
    operators = []
    for module, hidden, _ in inputs_of(model, ids, ".mlstm_layer"):
        width = module.qk_dim // HEADS
        query, key = heads_of(module.q(hidden), width), heads_of(module.k(hidden), width)
        cap = config.gate_soft_cap
        gates = [module.igate_preact(hidden), module.fgate_preact(hidden)]
        write, forget = (cap * torch.tanh(gate / cap).transpose(1, 2) for gate in gates)
        forget = logsigmoid(forget)
        batch, _, length, _ = query.shape
        dense = torch.zeros(batch, HEADS, length, length, dtype=torch.float64)
        for b, h, i in product(range(batch), range(HEADS), range(length)):
            exponents = [
                float(write[b, h, j]) + math.fsum(forget[b, h, j + 1 : i + 1].tolist())
                for j in range(i + 1)
            ]
            # The state starts from zeros with the maximum 0, which decays like everything else.
            start = math.fsum(forget[b, h, : i + 1].tolist())
            largest = max(start, *exponents)
            row = [
                float(query[b, h, i] @ key[b, h, j]) / math.sqrt(width) * math.exp(exponents[j])
                for j in range(i + 1)
            ]
            total = max(abs(math.fsum(row)), 1.0)
            row = [entry / (total + config.eps * math.exp(largest)) for entry in row]
            dense[b, h, i, : i + 1] = torch.tensor(row, dtype=torch.float64)
        operators.append(dense)
    return operators


class TestMatrixLSTM(RecurrentConformance):
    mixer = MIXER
    cases = (
        Case(
            name="xlstm",
            build=build,
            naive=naive_mlstm,
            state_sizes=(HIDDEN // 2 // HEADS,) * 2,
            receiver="multihead_norm",
        ),
    )

    def cached(self, model: nn.Module, result: Any) -> dict[str, Any]:
        return {"cache_params": result.cache_params, "use_cache": True}


class PackagedBackend(nn.Module):
    """Names its arguments as the backend of the xlstm package does."""

    def __init__(self, backend: nn.Module) -> None:
        super().__init__()
        self.backend = backend
        self.config = backend.config

    def forward(self, q, k, v, i, f, c_initial=None, n_initial=None, m_initial=None):
        return self.backend(q, k, v, i, f, c_initial, n_initial, m_initial)


class Layer(nn.Module):
    def __init__(self, backend: nn.Module) -> None:
        super().__init__()
        self.mlstm_backend = backend

    def forward(self, input_ids, features):
        return self.mlstm_backend(*features)


def test_arguments_of_the_xlstm_package() -> None:
    backend = build().backbone.blocks[0].mlstm_layer.mlstm_backend
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 2, 9, 4)] * 3 + [(1, 2, 9)] * 2
    features = [torch.randn(shape, generator=generator) for shape in shapes]
    ids = torch.zeros(1, 9, dtype=torch.long)
    (native,), _, _ = recorded(Layer(backend).eval(), ids, MIXER, features=features)
    (packaged,), _, _ = recorded(
        Layer(PackagedBackend(backend)).eval(), ids, MIXER, features=features
    )
    assert TestMatrixLSTM().largest_residual([native, packaged]) <= 1e-5
    assert torch.equal(native.operator.to_dense(), packaged.operator.to_dense())


def test_whole_chunks_and_rests() -> None:
    model = build_tiny("xlstm")
    for length in (8, 16, 21):
        ids = tiny_input_ids(model, batch=2, length=length)
        layers, _, _ = recorded(model, ids, MIXER, use_cache=False)
        assert TestMatrixLSTM().largest_residual(layers) <= 1e-5


def test_gates_that_overflow_without_a_maximum() -> None:
    model = build(gate_soft_cap=2000.0)
    for block in model.backbone.blocks:
        block.mlstm_layer.igate_preact.bias.data += torch.tensor([900.0, -900.0, 300.0, 0.0])
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    layers, _, _ = recorded(model, ids, MIXER, use_cache=False)
    # Float32 rounds exponents near 900 by 3e-5, which the model's small denominators enlarge.
    assert TestMatrixLSTM().largest_residual(layers) <= 1e-2
    for layer in layers:
        heads = layer.operator.to_dense().abs().amax((0, 2, 3))
        assert heads.isfinite().all()
        assert heads[1] == 0
        assert (heads[[0, 2]] > 0.1).all()
