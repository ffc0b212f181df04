"""`hf-ess recall`: perplexity on what a text repeats, beside its standard perplexity."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from hf_ess.cli.adapters_command import PIPED_WIDTH, Format, FormatOption
from hf_ess.cli.analysed_inputs import TextOptions, analysed_inputs
from hf_ess.cli.model_options import (
    DeviceOption,
    DtypeOption,
    FileOption,
    IdsOption,
    RevisionOption,
    TrustRemoteCodeOption,
)
from hf_ess.errors import InvalidInputError
from hf_ess.shipped import trained_folder


def recall(
    model: Annotated[
        str, typer.Argument(help="Hub id (org/name), local folder, or path of a .gguf file.")
    ],
    text: Annotated[
        list[str] | None, typer.Option("--text", help="Text to score; may be repeated.")
    ] = None,
    file: FileOption = None,
    ids: IdsOption = None,
    window: Annotated[
        int | None, typer.Option(help="Tokens of one context. [what the model was made for]")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Tokens from one window to the next. [half a window]")
    ] = None,
    exclude_common: Annotated[
        int | None,
        typer.Option(help="Bigrams more frequent than this in --corpus are not recall."),
    ] = None,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(help="File in which common bigrams are counted; may be repeated."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Windows of one length that run together.")] = 1,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    output: FormatOption = Format.table,
    revision: RevisionOption = None,
    trust_remote_code: TrustRemoteCodeOption = False,
) -> None:
    """Perplexity on the tokens that a text repeats, on all others, and on both."""
    import hf_ess

    if ids is None and trained_folder(model) is not None:
        raise InvalidInputError(
            f"{model} was trained to answer queries, not to continue texts.",
            fix="Give token ids with --ids, or a language model.",
        )
    measured_on = analysed_inputs(model, TextOptions(text, file, ids, None), stdin_allowed=True)
    common_in = None
    if corpus:
        chosen = TextOptions(None, corpus, None, None)
        common_in = analysed_inputs(model, chosen, stdin_allowed=False).texts
    result = hf_ess.recall_perplexity(
        model,
        measured_on.inputs,
        window=window,
        stride=stride,
        exclude_common=exclude_common,
        corpus=common_in,
        batch_size=batch_size,
        dtype=dtype,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    if output is Format.json:
        typer.echo(json.dumps(result.to_dict(), indent=2, allow_nan=False))
        return
    from rich.console import Console

    from hf_ess.recall.result import RecallView

    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(RecallView(result))
