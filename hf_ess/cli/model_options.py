"""Options that every command has which runs a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FileOption = Annotated[
    list[Path] | None,
    typer.Option("--file", help="File with a text; may be repeated; - is stdin."),
]
IdsOption = Annotated[
    Path | None,
    typer.Option(help="File with token ids in place of texts, one text a line; - is stdin."),
]
DatasetOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--dataset",
        help="File of many texts: .jsonl, .txt (paragraphs), .parquet; may be repeated.",
    ),
]
ColumnOption = Annotated[
    str | None, typer.Option(help="Field or column of --dataset that holds the text. [text]")
]
ShuffleOption = Annotated[
    int | None, typer.Option(help="Seed: draw the texts of --dataset in random order.")
]
MaxLengthOption = Annotated[
    int | None, typer.Option(help="Tokens of each text that are measured, the first ones.")
]
LeaveOutOption = Annotated[
    bool,
    typer.Option(
        "--leave-out-failing", help="Name texts that cannot be analysed, and go on without them."
    ),
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Discard the checkpoint of --dataset in --out.")
]
ToleranceOption = Annotated[
    list[float] | None,
    typer.Option(help="Threshold of the tolerance-ESS; may be repeated. [1e-1 1e-3 1e-5]"),
]
WindowOption = Annotated[
    str | None, typer.Option(help="Windowed ESS: w, or f,p for f rows and p columns.")
]
LayersOption = Annotated[
    str | None, typer.Option(help="Layers to measure: indices, ranges or names, 0,3,8-11.")
]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16 or float64.")]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps, ...; cpu by default.")
]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")]
TrustRemoteCodeOption = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run Python code that comes with the checkpoint."),
]
