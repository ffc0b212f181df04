"""Peak memory of `hf_ess.analyze` on a model whose weights all stay on disk.

    python benchmarks/offload.py [--layers 8] [--width 2048] [--tokens 128] [--json]

Writes a Llama of random float32 weights to a temporary folder, a layer at a time, and analyses it
in two processes: with everything on disk, and in memory. Both peaks are above what the process
held once everything was imported. The folder is deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from measuring import PeakMemory
from safetensors.torch import save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import hf_ess

VOCABULARY = 4000
HEAD = 128
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Result:
    """Memory is in MiB."""

    weights: float
    largest_layer: float
    memory_budget: float
    peak_on_disk: float
    peak_in_memory: float
    peak_on_disk_by_weights: float
    same_report: bool
    verified_layers: int


def write_checkpoint(folder: Path, layers: int, width: int) -> list[int]:
    """One file for each layer and one for the rest; returns their sizes in bytes."""
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=11 * width // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        num_key_value_heads=width // HEAD,
        vocab_size=VOCABULARY,
        tie_word_embeddings=False,
        dtype="float32",
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(folder)
    with init_empty_weights():
        model = LlamaForCausalLM(config)
    places: dict[str, str] = {}
    sizes = []
    for number, shapes in enumerate(_parts(model)):
        generator = torch.Generator().manual_seed(number)
        weights = {
            name: torch.ones(weight.shape)
            if weight.ndim == 1
            else torch.randn(weight.shape, generator=generator) * weight.shape[-1] ** -0.5
            for name, weight in shapes.items()
        }
        file = f"part-{number:03d}.safetensors"
        save_file(weights, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(weights, file)
        sizes.append(sum(weight.nbytes for weight in weights.values()))
    index = {"metadata": {"total_size": sum(sizes)}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return sizes


def _parts(model: nn.Module) -> Iterator[dict[str, nn.Parameter]]:
    """The weights of each layer, then all others."""
    named = dict(model.named_parameters())
    for number in range(model.config.num_hidden_layers):
        yield {name: named[name] for name in named if f".layers.{number}." in name}
    yield {name: named[name] for name in named if ".layers." not in name}


def analyze_here(folder: str, tokens: int, budget: int, on_disk: bool) -> dict[str, Any]:
    """The peak of one analysis in this process."""
    ids = torch.randint(0, VOCABULARY, (1, tokens), generator=torch.Generator().manual_seed(0))
    with PeakMemory() as memory:
        report = hf_ess.analyze(
            folder,
            ids,
            positions=16,
            memory_budget=budget,
            device_map="disk" if on_disk else None,
            progress=False,
        )
    return {
        "peak": memory.mebibytes,
        "fingerprint": report.fingerprint(),
        "verified": len(report.verified_layers),
    }


def measure(layers: int, width: int, tokens: int, budget: int) -> Result:
    """Writes the model, analyses it in two processes, and deletes it."""
    with tempfile.TemporaryDirectory(prefix="hf-ess-offload-") as folder:
        sizes = write_checkpoint(Path(folder), layers, width)
        found = {}
        for where in ("disk", "memory"):
            command = [sys.executable, __file__, "--analyze", folder, "--where", where]
            command += ["--tokens", str(tokens), "--budget", str(budget)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[where] = json.loads(done.stdout.splitlines()[-1])
    disk, memory = found["disk"], found["memory"]
    return Result(
        weights=round(sum(sizes) / MEBIBYTE, 1),
        largest_layer=round(max(sizes) / MEBIBYTE, 1),
        memory_budget=round(budget / MEBIBYTE, 1),
        peak_on_disk=disk["peak"],
        peak_in_memory=memory["peak"],
        peak_on_disk_by_weights=round(disk["peak"] * MEBIBYTE / sum(sizes), 3),
        same_report=disk["fingerprint"] == memory["fingerprint"],
        verified_layers=disk["verified"],
    )


def main() -> None:
    """Runs the benchmark and prints one table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--budget", type=int, default=64 * MEBIBYTE, help="memory_budget, in bytes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--analyze", help=argparse.SUPPRESS)
    parser.add_argument("--where", default="disk", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.analyze:
        on_disk = options.where == "disk"
        print(json.dumps(analyze_here(options.analyze, options.tokens, options.budget, on_disk)))
        return
    result = measure(options.layers, options.width, options.tokens, options.budget)
    if options.json:
        print(json.dumps(asdict(result), indent=2))
        return
    for name, value in asdict(result).items():
        print(f"{name.replace('_', ' '):28s}{value}")


if __name__ == "__main__":
    main()
