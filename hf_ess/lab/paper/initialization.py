"""Initialization: a larger state is of use only where decays at the start let it be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_ess.lab.paper.experiment import Experiment, Finding, Scale, Trainings
from hf_ess.lab.paper.initialization_figure import initialization_figure
from hf_ess.lab.paper.noise_probe import HAS_RATES, mixers_on_noise, noise_rows
from hf_ess.lab.paper.recall_grid import SMALLER, recall_base
from hf_ess.lab.paper.runs import RATE, after_last_step, by_run, complete, with_best_rates
from hf_ess.lab.paper.statistics import difference_interval, rank_correlation
from hf_ess.lab.paper.verdicts import beyond, failed_in_words, verdict_on
from hf_ess.training import ProbedMixer
from hf_ess.training.initialization.verdicts import UNUSED, USED, Criterion

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from hf_ess.lab.paper.work import Work

STATES, ALPHA = "model.state_sizes", "model.alpha"
FEATURIZER, STRETCH = "featurizer", "stretch"
# Pairs and tokens.
TASKS = {Scale.minute: (2, 16), Scale.small: (8, 32), Scale.paper: (128, 2048)}
# What a state forgets over a text depends on length times dt: 64 times the steps of Mamba are over
# 32 tokens what those are over 2048.
STEPS: dict[Scale, dict[str, float]] = {
    Scale.minute: {"smallest_step": 0.064, "largest_step": 6.4},
    Scale.small: {"smallest_step": 0.064, "largest_step": 6.4},
    Scale.paper: {},
}
SIZES: dict[Scale, dict[str, int]] = {
    Scale.minute: {"hidden_size": 32, "num_attention_heads": 1},
    Scale.small: {"hidden_size": 32, "num_attention_heads": 1},
    Scale.paper: {"hidden_size": 128, "num_attention_heads": 8},
}
TRAINED_STATES: dict[Scale, tuple[int, ...]] = {
    Scale.minute: (4, 8),
    Scale.small: (16, 64),
    Scale.paper: (16, 64, 256),
}
TRAINED_ALPHAS: dict[Scale, tuple[float, ...]] = {
    Scale.minute: (1.0, 1024.0),
    Scale.small: (1.0, 64.0, 1024.0),
    Scale.paper: (1.0, 2.0**10, 2.0**12, 2.0**14),
}
RATES: dict[Scale, tuple[float, ...]] = {
    Scale.minute: (5e-3,),
    Scale.small: (2e-3, 5e-3),
    Scale.paper: (5e-4, 1e-3, 2e-3, 4e-3),
}
NOISE: dict[Scale, dict[str, Any]] = {
    Scale.minute: {"states": [4, 8], "seeds": 2, "length": 32, "alphas": [1024.0], "width": 16},
    Scale.small: {
        "states": [16, 32, 64, 128],
        "seeds": 5,
        "length": 256,
        "alphas": [32.0, 1024.0, 16384.0],
        "width": 128,
    },
    Scale.paper: {
        "states": [16, 32, 64, 128, 256],
        "seeds": 5,
        "length": 2048,
        "alphas": [2.0**10, 2.0**12, 2.0**14],
        "width": 256,
    },
}
PART, ON_NOISE, ON_RECALL = "part", "noise", "recall"
TRAINED, ACCURACY = "trained_entropy_ess", "accuracy"
SETTING = ["mixer", "alpha", "state_size"]
NAMES = [*SETTING, RATE, "seed"]
OF_RECALL = ["entropy_ess", ACCURACY, "test_loss"]
WITH_RATES = tuple(mixer for mixer, has in HAS_RATES.items() if has)
Noise = Mapping[tuple[str, float], ProbedMixer]
Parts = dict[str, bool | None]
# Naming any of the values seen is right once in `pairs`; so much above it is still near it, and
# so much more is a rise.
MARGIN = 0.1


def initialization_trainings(scale: Scale) -> tuple[Trainings, ...]:
    """S6 and GLA-S6 on recall, by state size and alpha.

    What a state forgets over a text depends on its length over alpha, so that an alpha of the
    paper's 2048 tokens is that much smaller here. S6 has it from its steps instead.
    """
    base = recall_base(scale, *TASKS[scale])
    model = {**base.get("model", {}), **SIZES[scale], **STEPS[scale]}
    # Measuring S6 takes as long as some steps of so small a model.
    seldom = {} if scale is Scale.paper else {"measure_every": None}
    stretches = {"S6": 1.0, "GLA-S6": TASKS[Scale.paper][1] / TASKS[scale][1]}
    return tuple(
        Trainings(
            f"initialization-{mixer}",
            {**base, "model": {**model, "mixers": [mixer, mixer]}, **seldom},
            {
                STATES: [[state, state] for state in TRAINED_STATES[scale]],
                ALPHA: [alpha / stretch for alpha in TRAINED_ALPHAS[scale]],
                "learning_rate": list(RATES[scale]),
                "seed": [0],
            },
            {FEATURIZER: mixer, STRETCH: stretch},
        )
        for mixer, stretch in stretches.items()
    )


class Initialization(Experiment):
    """ESS of untrained mixers by state size, and what they learn by alpha."""

    name = "initialization"
    title = "Before training S6 does not use a larger state; slower decays let it, and let it learn"
    source = "section 5.1, figure 8"
    claim = (
        "On Gaussian noise, before training, the ESS of S6 does not grow with its state (TSS), "
        "that of GLA does. S6 and GLA-S6 with alpha = 1 have an accuracy near 0 on recall (2048 "
        "tokens, 128 pairs, TSS 16 to 256); alpha of 2^10 to 2^14 raises ESS and accuracy."
    )
    setting = (
        "Noise: mixers of 128 channels on 256 tokens, five seeds. Recall: 8 pairs in 32 tokens, 32 "
        "channels, one head, states of 16 and 64, two learning rates of which the better counts, "
        "one seed. So that models forget over 32 tokens what the paper's do over 2048, steps dt of "
        "S6 are 64 times Mamba's, and GLA-S6, which has none, is built with 1/64 of the alpha that "
        f"is shown. {SMALLER}"
    )

    def trainings(self, scale: Scale) -> tuple[Trainings, ...]:
        return initialization_trainings(scale)

    def measure(self, work: Work) -> pd.DataFrame:
        import pandas as pd

        noise = work.pieces(
            noise_rows, {mixer: {"mixer": mixer, **NOISE[work.scale]} for mixer in HAS_RATES}
        )
        rows = [{PART: ON_NOISE, **row} for piece in noise.values() for row in piece]
        return pd.concat([pd.DataFrame(rows), self._recall(work)], ignore_index=True)

    def judge(self, rows: pd.DataFrame) -> Finding:
        noise, best, left_out = _parted(rows)
        parts = {**_on_noise(noise), **_on_recall(best)}
        words = f"{_elasticities(noise)} {_accuracies(best)}{failed_in_words(parts)}{left_out}"
        return Finding(verdict_on(parts.values()), words, _tables(noise, best))

    def draw(self, rows: pd.DataFrame) -> Figure:
        noise, best, _ = _parted(rows)
        return initialization_figure(noise, best)

    def _recall(self, work: Work) -> pd.DataFrame:
        """A row for each training: ESS before and after it, and its accuracy."""
        sweeps = self.trainings(work.scale)
        table = work.table(*sweeps)
        before = by_run(table[table["step"] == 0]).set_index("run")["entropy_ess"]
        runs = by_run(after_last_step(table))
        rows = runs.assign(
            part=ON_RECALL,
            trained_entropy_ess=runs["entropy_ess"],
            entropy_ess=runs["run"].map(before),
            mixer=runs[FEATURIZER],
            alpha=runs[ALPHA] * runs[STRETCH],
            pairs=sweeps[0].base["task"]["pairs"],
        )
        kept = [PART, *NAMES, "pairs", "attainable", *OF_RECALL, TRAINED]
        return rows[kept]


def _parted(rows: pd.DataFrame) -> tuple[Noise, pd.DataFrame, str]:
    """Mixers on noise, trained models with their best rates, and words on rows that lack values."""
    noise = rows[rows[PART] == ON_NOISE]
    recall, left_out = complete(rows[rows[PART] == ON_RECALL], OF_RECALL, NAMES)
    _, unmeasured = complete(noise, ["entropy_ess"], [*SETTING, "seed"])
    return mixers_on_noise(noise), with_best_rates(recall, SETTING), left_out + unmeasured


def _on_noise(noise: Noise) -> Parts:
    """What the paper says of mixers before training, by whether it holds."""
    largest = max((alpha for _, alpha in noise), default=1.0)
    parts: Parts = {"the ESS of GLA grows with its state": _is(noise.get(("GLA", 1.0)), USED)}
    for mixer in WITH_RATES:
        parts[f"that of {mixer} does not"] = _is(noise.get((mixer, 1.0)), UNUSED)
        claim = f"that of {mixer} does with alpha = {largest:g}"
        parts[claim] = _is(noise.get((mixer, largest)), USED)
        ends = noise.get((mixer, 1.0)), noise.get((mixer, largest))
        parts[f"alpha = {largest:g} raises the ESS of {mixer}"] = _raises(*ends)
    return parts


def _raises(before: ProbedMixer | None, after: ProbedMixer | None) -> bool | None:
    """Whether ESS is higher at every state size, by two standard errors over seeds."""
    if before is None or after is None or before.state_sizes != after.state_sizes:
        return None
    ends = zip(after.entropy_ess, before.entropy_ess, strict=True)
    rises = [beyond(difference_interval(high, low), 0) for high, low in ends]
    return False if False in rises else None if None in rises else True


def _is(mixer: ProbedMixer | None, kind: str) -> bool | None:
    """Whether a mixer uses a larger state, or does not; None where that is not decided."""
    if mixer is None:
        return None
    found = Criterion().kind(*mixer.elasticity())
    return found == kind if found in (USED, UNUSED) else None


def _on_recall(best: pd.DataFrame) -> Parts:
    """What the paper says of accuracy, by whether it holds at every state size."""
    parts: Parts = {}
    for mixer in WITH_RATES:
        own = best[best["mixer"] == mixer]
        plain, slower = _at_one(own), _highest(own)
        known = len(plain) > 0 and set(plain.index) == set(slower.index)
        near = plain <= 1 / own["pairs"].mean() + MARGIN
        parts[f"{mixer} with alpha = 1 is near chance"] = bool(near.all()) if known else None
        rises = (slower - plain > MARGIN).all()
        parts[f"a larger alpha makes {mixer} better"] = bool(rises) if known else None
    return parts


def _elasticities(noise: Noise) -> str:
    """How ESS follows the size that a state can attain."""
    figures = [
        f"{_named(*key)} {slope:.2f} ± {error:.2f}"
        for key, mixer in noise.items()
        for slope, error in [mixer.elasticity()]
    ]
    return f"On noise the elasticity of ESS (0: stays, 1: keeps in step) is {', '.join(figures)}."


def _accuracies(best: pd.DataFrame) -> str:
    figures = [
        f"{mixer} from {' / '.join(f'{value:.2f}' for value in _at_one(own))} "
        f"at alpha = 1 to {' / '.join(f'{value:.2f}' for value in _highest(own))} at the best other"
        for mixer, own in best.groupby("mixer", sort=False)
    ]
    states = " / ".join(f"{state:g}" for state in sorted(best["state_size"].unique()))
    follows = rank_correlation(best[ACCURACY], best["entropy_ess"])
    return (
        f"Accuracy on recall (states of {states}) goes for {', for '.join(figures)}; its rank "
        f"correlation with ESS before training is {follows:.2f} over {len(best)} models."
    )


def _at_one(rows: pd.DataFrame) -> pd.Series[float]:
    return rows[rows["alpha"] == 1].groupby("state_size")[ACCURACY].mean()


def _highest(rows: pd.DataFrame) -> pd.Series[float]:
    return rows[rows["alpha"] > 1].groupby("state_size")[ACCURACY].max()


def _named(mixer: str, alpha: float) -> str:
    return f"{mixer} (alpha {alpha:g})" if HAS_RATES[mixer] else mixer


def _tables(noise: Noise, best: pd.DataFrame) -> dict[str, pd.DataFrame]:
    import pandas as pd

    shown = best.sort_values(["mixer", "state_size", "alpha"], ascending=[False, True, True])
    columns = {
        "mixer": "mixer",
        "state_size": "N",
        "alpha": "alpha",
        RATE: "learning rate",
        "entropy_ess": "ESS before",
        TRAINED: "ESS after",
        ACCURACY: "accuracy",
    }
    return {
        "Entropy-ESS on noise before training, by state size N": pd.DataFrame(
            _noise_cells(mixer, key) for key, mixer in noise.items()
        ),
        "Recall: entropy-ESS before and after training, and accuracy": shown[[*columns]]
        .rename(columns=columns)
        .round({"ESS before": 2, "ESS after": 2, "accuracy": 2}),
    }


def _noise_cells(mixer: ProbedMixer, key: tuple[str, float]) -> dict[str, str]:
    """A row of the table: means and standard errors over seeds."""
    figures = zip(mixer.state_sizes, mixer.mean(), mixer.standard_error(), strict=True)
    slope, error = mixer.elasticity()
    return {
        "mixer": _named(*key),
        **{str(state): f"{mean:.1f} ± {margin:.1f}" for state, mean, margin in figures},
        "elasticity": f"{round(slope, 2) + 0:.2f} ± {error:.2f}",
    }
