"""Small models whose operators keep their graph, and loss terms on them."""

from __future__ import annotations

import torch
from recording_checks import footprint
from tiny_models import tiny_input_ids

from hf_ess.synthetics import SyntheticConfig, build_model

LENGTH = 24


def synthetic(*mixers, seed=0):
    config = SyntheticConfig(mixers, vocab_size=32, hidden_size=16, num_attention_heads=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(config)


def ids_of(model, batch=2, length=LENGTH):
    return tiny_input_ids(model, batch=batch, length=length)


def term_of(regularizer, ids):
    with regularizer as penalty:
        regularizer.model(ids)
        return penalty()


def state_of(model):
    """All that measuring must leave as it was."""
    return (
        footprint(model),
        {name: module.training for name, module in model.named_modules()},
        {name: set(vars(module)) for name, module in model.named_modules()},
        {name: (id(buffer), buffer.tolist()) for name, buffer in model.named_buffers()},
        {name: id(weight.grad) for name, weight in model.named_parameters()},
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
    )
