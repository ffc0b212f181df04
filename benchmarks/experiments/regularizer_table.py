"""The table of what loss terms do to a GLA that forgets too early, from the sweep's results.

    hf-ess lab sweep benchmarks/experiments/regularizer.yaml --out regularizer
    python benchmarks/experiments/regularizer_table.py [regularizer/results.csv]

Without an argument it reads `regularizer.csv` beside it: the rows of that sweep after the last
step, second mixer. Mean and standard error over the seeds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

KEPT = Path(__file__).with_suffix("").with_name("regularizer.csv")
SECOND_MIXER = 1
COLUMNS = {
    "accuracy": "accuracy",
    "entropy_ess_per_pair": "entropy-ESS / kv",
    "tolerance_ess_0.1": "tolerance-ESS(0.1) / kv",
}
PAIRS = 8


def name_of(regularizer: str) -> str:
    """A loss term in words, from what the sweep wrote for it."""
    if regularizer == "none":
        return "none"
    term = json.loads(regularizer)
    return f"{term['name']}, weight {term['weight']:g}"


def last_rows(path: Path) -> pd.DataFrame:
    """The second mixer of every run after its last step."""
    rows = pd.read_csv(path)
    rows = rows[(rows["index"] == SECOND_MIXER) & (rows["step"] == rows["step"].max())]
    kept = ["regularizer", "learning_rate", "seed", *COLUMNS]
    return rows[kept].reset_index(drop=True)


def table(rows: pd.DataFrame) -> str:
    """Markdown, a row for each loss term and learning rate."""
    rows = rows.assign(regularizer=rows["regularizer"].map(name_of))
    rows["tolerance_ess_0.1"] = rows["tolerance_ess_0.1"] / PAIRS
    lines = [
        f"| loss term | learning rate | {' | '.join(COLUMNS.values())} |",
        "|---|---|---|---|---|",
    ]
    for (term, rate), runs in rows.groupby(["regularizer", "learning_rate"], sort=False):
        cells = [f"{runs[name].mean():.2f} ± {runs[name].sem():.2f}" for name in COLUMNS]
        lines.append(f"| {term} | {rate:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table; of a fresh sweep, keeps its rows beside this file too."""
    if len(sys.argv) > 1:
        last_rows(Path(sys.argv[1])).to_csv(KEPT, index=False)
    print(table(pd.read_csv(KEPT)))


if __name__ == "__main__":
    main()
