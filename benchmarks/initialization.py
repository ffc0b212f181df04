"""Before training, does a larger state become more use? Entropy-ESS of the paper's mixers on noise.

    python benchmarks/initialization.py [--states 16 32 64 128] [--seeds 5] [--length 256]
                                        [--alphas 1024] [--mixers S6 GLA GLA-S6] [--width 128]
                                        [--plot PATH] [--json]

`hf_ess.probe_initialization` on one mixer of the synthetic models at a time, all of 128 channels.
Heads have as many channels as states; S6 has that many states for each channel. Mean over
channels, 16 positions and seeds, with the standard error over seeds.

Source: Parnichkun et al., ICML 2025, section 5.1 and figure 8.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import hf_ess
from hf_ess.lab.paper.noise_probe import HAS_RATES, probe_mixer
from hf_ess.training import ProbedMixer, plot_probed_mixers

PROBED = ("states", "seeds", "length", "alphas", "width")


def by_name(mixer: str, measured: hf_ess.InitializationProbe) -> dict[str, ProbedMixer]:
    """Rows of the table: the mixer as it is, and with each alpha."""
    as_built = f"{mixer}, alpha = 1" if HAS_RATES[mixer] else mixer
    rows = {as_built: measured.mixers[0]}
    return rows | {f"{mixer}, alpha = {x.alpha:g}": x for x in measured.rescaled}


def row_of(mixer: ProbedMixer) -> dict[str, Any]:
    """Figures of one row, by state size."""
    figures = zip(
        mixer.state_sizes,
        mixer.mean(),
        mixer.standard_error(),
        mixer.entropy_ess,
        strict=True,
    )
    return {
        str(state): {"mean": mean, "standard_error": error, "by_seed": values.tolist()}
        for state, mean, error, values in figures
    }


def main() -> None:
    """Measures and prints a row for each mixer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--states", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--alphas", type=float, nargs="+", default=[1024.0])
    parser.add_argument("--mixers", nargs="+", choices=list(HAS_RATES), default=list(HAS_RATES))
    parser.add_argument("--plot", type=Path, help="where to draw ESS against capacity")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    began = time.process_time()
    given = {name: vars(options)[name] for name in PROBED}
    probes = {mixer: probe_mixer(mixer, **given) for mixer in options.mixers}
    seconds = time.process_time() - began
    rows = {k: v for name, measured in probes.items() for k, v in by_name(name, measured).items()}
    verdicts = {name: measured.verdicts[0] for name, measured in probes.items()}
    if options.plot:
        plot_probed_mixers(rows, options.plot)
    if options.json:
        printed = {
            "rows": {name: row_of(mixer) for name, mixer in rows.items()},
            "verdicts": {name: vars(verdict) for name, verdict in verdicts.items()},
            "processor_seconds": seconds,
        }
        print(json.dumps(printed, indent=1))
        return
    print("| N |" + "".join(f" {state} |" for state in options.states) + " elasticity |")
    print("|---|" + "---|" * (len(options.states) + 1))
    for name, mixer in rows.items():
        cells = zip(mixer.mean(), mixer.standard_error(), strict=True)
        shown = [f"{mean:.1f} ± {error:.1f}" for mean, error in cells]
        slope, error = mixer.elasticity()
        print(f"| {name} | {' | '.join(shown)} | {round(slope, 2) + 0:.2f} ± {error:.2f} |")
    for verdict in verdicts.values():
        print(verdict)
    print(f"{seconds:.0f} s of processor time")


if __name__ == "__main__":
    main()
