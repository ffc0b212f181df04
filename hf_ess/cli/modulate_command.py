"""`hf-ess modulate`: does the state of a model fall at separators?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_ess.cli.adapters_command import PIPED_WIDTH, Format, FormatOption
from hf_ess.cli.analyze_command import REPORT_BYTES, parsed_layers, parsed_window
from hf_ess.cli.model_options import (
    DeviceOption,
    DtypeOption,
    LayersOption,
    RevisionOption,
    ToleranceOption,
    TrustRemoteCodeOption,
    WindowOption,
)
from hf_ess.cli.telling import tell
from hf_ess.errors import InvalidInputError
from hf_ess.launch import launched_processes
from hf_ess.written import listed

if TYPE_CHECKING:
    from hf_ess.modulation import Modulation

RESULT = "modulation.json"


def modulate(
    models: Annotated[
        list[str],
        typer.Argument(
            help=f"Hub id, local folder or .gguf file; or a {RESULT} of before. Several are "
            "compared."
        ),
    ],
    separators: Annotated[
        str,
        typer.Option(
            help="Of eos, period, newline, none, closing (last character of a passage, as }) and "
            "token:<|endoftext|>."
        ),
    ] = "eos,period,newline,none",
    texts: Annotated[str | None, typer.Option(help="Of short, long, code, shots. [short]")] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(help="Text of your own, passages between blank lines; may be repeated."),
    ] = None,
    tolerance: ToleranceOption = None,
    window: WindowOption = None,
    layers: LayersOption = None,
    draws: Annotated[int, typer.Option(help="Random choices behind p and intervals.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of these choices.")] = 0,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    out: Annotated[
        Path | None, typer.Option(help=f"Folder for {RESULT} and a plot of each text.")
    ] = None,
    output: FormatOption = Format.table,
    revision: RevisionOption = None,
    trust_remote_code: TrustRemoteCodeOption = False,
) -> None:
    """Measure whether the state of a model falls at separators between unrelated passages."""
    import hf_ess

    rank, _ = launched_processes()
    if out is not None:
        if len(models) > 1:
            raise InvalidInputError(
                "--out is for one model.",
                fix=f"Measure each with its own --out, then give the files {RESULT} to compare.",
            )
        if rank == 0:
            from hf_ess.report import check_writable

            check_writable(out, REPORT_BYTES, remove_created=True)
    arguments: dict[str, Any] = {
        "texts": _texts(texts, file),
        "separators": listed(separators, "--separators"),
        "tolerances": tuple(tolerance) if tolerance else (1e-1, 1e-3, 1e-5),
        "window": parsed_window(window),
        "layers": parsed_layers(layers),
        "draws": draws,
        "seed": seed,
        "dtype": dtype,
        "device": device,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
    }
    results = [
        hf_ess.Modulation.load(model)
        if model.endswith(".json")
        else hf_ess.measure_modulation(model, **arguments)
        for model in models
    ]
    if rank > 0:
        return
    written = [] if out is None else _save(results[0], out)
    _print(results, output)
    for path in written:
        tell(f"wrote {path}")


def _texts(names: str | None, files: Sequence[Path] | None) -> dict[str, tuple[str, ...]]:
    from hf_ess.corpus import paragraphs
    from hf_ess.modulation.texts import passages_of

    default = () if files else ("short",)
    chosen = default if names is None else listed(names, "--texts")
    texts = {name: passages_of(name) for name in chosen}
    for path in files or ():
        try:
            texts[str(path)] = paragraphs(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"Cannot read {str(path)!r}: {error}") from error
    return texts


def _save(result: Modulation, out: Path) -> list[Path]:
    names = dict.fromkeys(run.text for run in result.runs)
    written = [result.save(out / RESULT)]
    for number, name in enumerate(names):
        written.append(out / f"modulation-{number}.png")
        result.plot(written[-1], text=name)
    return written


def _print(results: Sequence[Modulation], output: Format) -> None:
    if output is Format.json:
        documents = [result.to_dict() for result in results]
        shown: Any = documents if len(documents) > 1 else documents[0]
        typer.echo(json.dumps(shown, indent=2, allow_nan=False))
        return
    from rich.console import Console

    from hf_ess.modulation.tables import ModulationView

    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(ModulationView(results))
