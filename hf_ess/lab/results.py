"""What a finished run leaves in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_ess.errors import ReportError
from hf_ess.lab.run_config import RunConfig
from hf_ess.lab.run_log import log_frame, read_records
from hf_ess.shipped import MODEL, RESULTS, RUN_WRITTEN
from hf_ess.synthetics import SyntheticForCausalLM

if TYPE_CHECKING:
    import pandas as pd

# Another run of the same configuration has other values here.
OF_THIS_RUN = ("seconds", "versions")


@dataclass(frozen=True)
class RunResult:
    """A finished training.

    `hf_ess.lab.train` gives it back.

    Attributes:
        folder: where it is.
        config: what was trained.
        accuracy: on the test set, after the last step.
        loss: on the test set, after the last step.
        layers: ESS of each layer after the last step, as in `log()`.
        seconds: that the training took.
        numbers: all that results.json holds.
    """

    folder: Path
    config: RunConfig
    accuracy: float
    loss: float
    layers: list[dict[str, Any]]
    seconds: float
    numbers: dict[str, Any]

    def log(self) -> pd.DataFrame:
        """A row for each tested step and layer.

        Columns: step, learning_rate, loss (mean over the training steps since the last row),
        test_loss, accuracy, and where ESS was measured index, mixer, state_size, attainable,
        entropy_ess, tolerance_ess_TAU, utilization, entropy_ess_per_pair (of tasks with pairs),
        verified.
        """
        return log_frame(read_records(self.folder))

    def model(self) -> SyntheticForCausalLM:
        """The trained model, in evaluation mode."""
        loaded: SyntheticForCausalLM = SyntheticForCausalLM.from_pretrained(self.folder / MODEL)
        loaded.eval()
        return loaded

    @classmethod
    def load(cls, folder: Path | str) -> RunResult:
        """The result of a folder.

        Raises:
            ReportError: no run is finished there, or its files are damaged.
        """
        path = Path(folder)
        try:
            numbers = json.loads((path / RESULTS).read_text(encoding="utf-8"))
            return cls(
                folder=path,
                config=RunConfig.read(path / RUN_WRITTEN),
                accuracy=numbers["accuracy"],
                loss=numbers["loss"],
                layers=numbers["layers"],
                seconds=numbers["seconds"],
                numbers=numbers,
            )
        except FileNotFoundError as error:
            raise ReportError(
                f"{str(path)!r} holds no finished run.",
                fix="Train it: hf-ess lab train CONFIG.yaml --out FOLDER.",
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReportError(f"The run in {str(path)!r} cannot be read: {error}.") from error
