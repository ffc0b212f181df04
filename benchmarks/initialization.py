"""Before training, does a larger state become more use? Entropy-ESS of the paper's mixers on noise.

    python benchmarks/initialization.py [--states 16 32 64 128] [--seeds 5] [--length 256] [--json]

One mixer of the synthetic models at a time, Gaussian noise in place of embeddings. Heads have as
many channels as states (d = 128); S6 has that many states for each of 16 channels. Mean over
channels, every fourth position and seeds, with the standard error over seeds.

Source: Parnichkun et al., ICML 2025, section 5.1 and figure 8.
"""

from __future__ import annotations

import argparse
import json
import statistics

import torch

import hf_ess
from hf_ess.synthetics import SyntheticConfig, build_model
from model_adapters import LayerOperator

WIDTH, CHANNELS = 128, 16
MIXERS = {
    "S6": ("S6", 1.0),
    "GLA": ("GLA", 1.0),
    "GLA-S6, alpha 1": ("GLA-S6", 1.0),
    "GLA-S6, alpha 1024": ("GLA-S6", 1024.0),
}
EVERY = 4


def entropy_ess(mixer: str, alpha: float, state: int, length: int, seed: int) -> float:
    """Mean over channels and positions of one new mixer."""
    width, heads = (CHANNELS, 1) if mixer == "S6" else (WIDTH, max(1, WIDTH // state))
    config = SyntheticConfig(
        [mixer],
        vocab_size=2,
        hidden_size=width,
        num_attention_heads=heads,
        state_size=state,
        alpha=alpha,
    )
    found: list[float] = []

    def measure(layer: LayerOperator) -> None:
        spectra = hf_ess.block_singular_values(layer.operator, range(1, length, EVERY))
        found.append(float(hf_ess.entropy_ess(spectra.values).mean()))

    model = build_model(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad(), hf_ess.record_operators(model, measure):
        model(inputs_embeds=torch.randn(1, length, width, generator=generator))
    return found[0]


def main() -> None:
    """Measures and prints a row for each mixer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--states", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = {}
    for name, (mixer, alpha) in MIXERS.items():
        rows[name] = row = {}
        for state in options.states:
            seeds = range(options.seeds)
            values = [entropy_ess(mixer, alpha, state, options.length, seed) for seed in seeds]
            error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
            row[state] = {"mean": statistics.mean(values), "standard_error": error}
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'N':20s}" + "".join(f"{state:>14d}" for state in options.states))
    for name, row in rows.items():
        cells = (f"{cell['mean']:.1f} +- {cell['standard_error']:.1f}" for cell in row.values())
        print(f"{name:20s}" + "".join(f"{cell:>14s}" for cell in cells))


if __name__ == "__main__":
    main()
