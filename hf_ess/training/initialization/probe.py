"""`hf_ess.probe_initialization`: ESS against capacity before training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from hf_ess.analysis.analyze import DEFAULT_TOLERANCES, checked_tolerances
from hf_ess.spectra import Positions
from hf_ess.training.initialization.arguments import checked_alphas, checked_inputs
from hf_ess.training.initialization.models import Builder
from hf_ess.training.initialization.result import InitializationProbe
from hf_ess.training.initialization.run import ProbeRun

ALPHAS = (1.0, 32.0, 1024.0, 16384.0)
"""What decay rates are divided by: 2^0, 2^5, 2^10 and 2^14, between which the paper's curves turn;
what to try as the `alphas` of `hf_ess.probe_initialization`."""


def probe_initialization(
    build_model: Callable[..., nn.Module],
    state_sizes: Sequence[int] = (16, 32, 64, 128),
    *,
    seeds: Sequence[int] = (0, 1, 2),
    length: int = 256,
    samples: int = 1,
    inputs: Tensor | None = None,
    alphas: Sequence[float] | None = None,
    positions: Positions = "auto",
    tolerances: Sequence[float] = DEFAULT_TOLERANCES,
    progress: bool = True,
) -> InitializationProbe:
    """Measures, before any training, whether a larger state of a mixer becomes a used one.

    Builds the model for every state size and seed, runs it once on Gaussian noise in place of
    embeddings, and measures the operators of all mixers. Takes seconds on a CPU for mixers of
    the paper's sizes. A mixer whose operator is not known or does not rebuild the real output in
    one of the models is refused, and is in no figure.

    Args:
        build_model: gives a new model, in any mode, for a state size; or for a state size and a
            `seed`, if one of its parameters is called so. Anyway torch's random numbers are
            seeded around the call and afterwards what they were before. A language model gets the
            noise as `inputs_embeds`; a module without `input_ids`, such as a mixer alone, as its
            only argument.
        state_sizes: at least two.
        seeds: of weights and noise; a verdict needs at least two.
        length: tokens of the noise.
        samples: independent inputs in each run.
        inputs: vectors `[B, L, d]` instead of noise, or token ids `[B, L]`; the same for all.
        alphas: also measure with decay rates divided by each, where there are some
            (`divide_decay_rates`), and say which turns capacity into use; `ALPHAS` of
            `hf_ess.training` are those of the paper. None for the models as they are.
        positions: as `hf_ess.analyze` takes them; "auto" is at most 64, evenly spread.
        tolerances: of the tolerance-ESS, absolute.
        progress: show a progress bar on stderr.

    Returns:
        Figures by mixer, state size and seed; `.verdicts`, `.summary()`, `.to_pandas()`,
        `.plot()`.

    Raises:
        InvalidTypeError, InvalidInputError: an argument cannot be used, or no mixer has another
            capacity for another state size.
        UnsupportedModelError: no mixer can be measured, or alphas are given and no mixer has
            decay rates that are known.
        NonFiniteError: NaN or infinity in a model, named by state size and seed.

    Source: Parnichkun et al., ICML 2025, section 5.1, appendix D.2 and figure 8.

    Example:
        >>> import hf_ess
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> def gated(state, seed):
        ...     config = SyntheticConfig(["GLA"], vocab_size=2, hidden_size=state,
        ...                              num_attention_heads=1)
        ...     return build_model(config, seed=seed)
        >>> probe = hf_ess.probe_initialization(gated, (4, 8), length=64, progress=False)
        >>> [verdict.kind for verdict in probe.verdicts]
        ['used']
    """
    given = checked_inputs(inputs)
    run = ProbeRun(
        Builder(build_model),
        state_sizes=state_sizes,
        seeds=seeds,
        shape=(samples, length) if given is None else (given.shape[0], given.shape[1]),
        inputs=given,
        alphas=checked_alphas(alphas),
        positions=positions,
        tolerances=checked_tolerances(tolerances),
    )
    return run.probe(progress=progress)
