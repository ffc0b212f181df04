"""Run by torchrun: two processes share a long run; one of them fails, and both start again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tiny_models import build_tiny

import hf_ess
from hf_ess.analysis.checkpoint import Checkpoint
from hf_ess.launch import launched_processes

WRITE = Checkpoint.write
LENGTHS = (20, 33, 20, 9, 33, 12, 20)


def texts():
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(10, 60, (n,), generator=generator).tolist() for n in LENGTHS]


def analysed(folder, **options):
    model = build_tiny("llama")
    return hf_ess.analyze(
        model, {"input_ids": texts()}, progress=False, checkpoint=folder, **options
    )


def fail_after(batches):
    """The disk is full when this process has written so many batches."""
    write, written = Checkpoint.write, []

    def counted(self, batch, gathering):
        if len(written) == batches:
            written.clear()
            raise hf_ess.OutputPathError("no space left")
        written.append(batch)
        write(self, batch, gathering)

    Checkpoint.write = counted


def main():
    folder, (rank, _) = Path(sys.argv[1]), launched_processes()
    if rank == 1:
        fail_after(2)
    try:
        analysed(folder / "checkpoint")
        first = "no error"
    except hf_ess.HfEssError as error:
        first = f"{type(error).__name__}: {error}"
    kept = len(list((folder / "checkpoint").glob("batch-*")))
    Checkpoint.write = WRITE
    again = analysed(folder / "checkpoint").fingerprint()
    record = {"first": first, "kept": kept, "again": again}
    (folder / f"{rank}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
