"""Runs one random case again: `python tests/reliability/fuzzing --seed 123 --set length=5`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
# As in the tests: where these are installed, transformers calls kernels that need a GPU.
sys.modules.update(dict.fromkeys(("causal_conv1d", "fla", "mamba_ssm")))

from reliability.fuzzing.reproduction import main  # noqa: E402 - needs the path above

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings")
    arguments = parser.parse_args()
    sys.exit(main(arguments.seed, arguments.settings))
