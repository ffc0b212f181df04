"""The mixers of the paper, one at a time, before training and on Gaussian noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_ess.errors import ReportError
from hf_ess.synthetics import SyntheticConfig, SyntheticForCausalLM, build_model
from hf_ess.training import InitializationProbe, ProbedMixer, probe_initialization

if TYPE_CHECKING:
    import pandas as pd

# Whether decay rates [1 .. N] are there to be divided by alpha.
HAS_RATES = {"S6": True, "GLA": False, "GLA-S6": True}
# In the middle of stretches of this length, so that their mean is that of all positions.
EVERY = 16


def builder(mixer: str, width: int = 128) -> Callable[[int, int], SyntheticForCausalLM]:
    """What builds a model of one mixer for a state size and a seed.

    Heads have as many channels as states; S6 has that many states for each channel.

    Example:
        >>> builder("GLA", 32)(16, 0).config.num_attention_heads
        2
    """

    def build(state: int, seed: int) -> SyntheticForCausalLM:
        config = SyntheticConfig(
            [mixer],
            vocab_size=2,
            hidden_size=width,
            num_attention_heads=max(1, width // state),
            state_size=state,
        )
        return build_model(config, seed=seed)

    return build


def probe_mixer(
    mixer: str,
    *,
    states: Sequence[int],
    seeds: int,
    length: int,
    alphas: Sequence[float],
    width: int = 128,
    progress: bool = True,
) -> InitializationProbe:
    """Entropy-ESS of one mixer by state size and seed, with its rates divided by each alpha.

    Args:
        mixer: "S6", "GLA" or "GLA-S6".
        states: their sizes.
        seeds: how many, from 0.
        length: tokens.
        alphas: GLA has no rates to be divided by them.
        width: channels.
        progress: show a bar on stderr.

    Raises:
        ReportError: the mixer could not be verified; says why.

    Source: Parnichkun et al., ICML 2025, section 5.1 and figure 8.

    Example:
        >>> probe = probe_mixer(
        ...     "GLA-S6", states=(4, 8), seeds=2, length=32, alphas=(32,), width=8, progress=False
        ... )
        >>> [mixer.alpha for mixer in (*probe.mixers, *probe.rescaled)]
        [1.0, 32.0]
    """
    probe = probe_initialization(
        builder(mixer, width),
        states,
        seeds=range(seeds),
        length=length,
        alphas=alphas if HAS_RATES[mixer] else None,
        positions=range(EVERY // 2, length, EVERY),
        progress=progress,
    )
    if probe.refused:
        raise ReportError(f"{mixer} was not measured: {probe.refused[0].reason}.")
    return probe


def noise_rows(**arguments: Any) -> list[dict[str, Any]]:
    """`probe_mixer` as rows: a row for each alpha, state size and seed."""
    probe = probe_mixer(**arguments, progress=False)
    return [
        {
            "mixer": arguments["mixer"],
            "alpha": mixer.alpha,
            "state_size": state,
            "seed": seed,
            "attainable": float(mixer.attainable[row]),
            "entropy_ess": float(mixer.entropy_ess[row, column]),
        }
        for mixer in (*probe.mixers, *probe.rescaled)
        for row, state in enumerate(mixer.state_sizes)
        for column, seed in enumerate(probe.seeds)
    ]


def mixers_on_noise(rows: pd.DataFrame) -> dict[tuple[str, float], ProbedMixer]:
    """What `noise_rows` wrote, by mixer and alpha; NaN where a row is missing."""
    found = (
        _probed(own["mixer"].iloc[0], float(own["alpha"].iloc[0]), own)
        for _, own in rows.groupby(["mixer", "alpha"], sort=False)
    )
    return {(mixer.mixer, mixer.alpha): mixer for mixer in found}


def _probed(mixer: str, alpha: float, rows: pd.DataFrame) -> ProbedMixer:
    states, seeds = (sorted(rows[name].unique()) for name in ("state_size", "seed"))
    found = rows.set_index(["state_size", "seed"])["entropy_ess"]
    values = [[found.get((state, seed), np.nan) for seed in seeds] for state in states]
    return ProbedMixer(
        index=-1,
        name=mixer,
        call=0,
        mixer=mixer,
        alpha=alpha,
        has_rates=HAS_RATES[mixer],
        state_sizes=tuple(int(state) for state in states),
        capacity=np.asarray(states, float),
        attainable=rows.groupby("state_size")["attainable"].first().to_numpy(float),
        entropy_ess=np.asarray(values, float),
        tolerance_ess={},
    )
