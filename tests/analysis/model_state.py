"""What an analysis has to leave as it was."""

from __future__ import annotations

import warnings

import torch
from transformers import AttentionInterface


def state_of(model):
    """Everything that an analysis touches."""
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for m in model.modules()
    ]
    return {
        "training": [module.training for module in model.modules()],
        "hooks": hooks,
        "gradients": [weight.requires_grad for weight in model.parameters()],
        "implementation": getattr(getattr(model, "config", None), "_attn_implementation", None),
        "get_interface": AttentionInterface.get_interface,
        "threads": torch.get_num_threads(),
        "grad mode": torch.is_grad_enabled(),
        "filters": list(warnings.filters),
        "modes": len(torch.overrides._get_current_function_mode_stack()),
        "attributes": {name: set(vars(module)) for name, module in model.named_modules()},
        "random": torch.get_rng_state().tolist(),
    }
