"""`hf-ess serve`: the page on this machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from hf_ess.cli.telling import tell
from hf_ess.errors import MissingDependencyError


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Model to offer instead of the list: Hub id, folder or .gguf; repeated."),
    ] = None,
    allow_any_model: Annotated[
        bool,
        typer.Option("--allow-any-model", help="Visitors may name any model of the Hub."),
    ] = False,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="By default the first free one from 7860 on."),
    ] = None,
    reports: Annotated[
        list[str] | None,
        typer.Option(help="Folder or repository of the Hub for the gallery; repeated."),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder for what is measured; by default in the cache.")
    ] = None,
    keep_texts: Annotated[
        bool, typer.Option("--keep-texts/--no-keep-texts", help="Keep the texts with the results.")
    ] = True,
    share: Annotated[
        bool, typer.Option("--share", help="A public address for three days, by Gradio.")
    ] = False,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
) -> None:
    """Look at a model's memory in the browser: paste a text, measure, compare, take away."""
    if find_spec("gradio") is None:
        raise MissingDependencyError(
            "The page needs gradio, and it is not installed.",
            fix="pip install 'hf-ess[space]'",
        )
    from hf_ess.space.app import Address, Settings, serve_page

    settings = Settings(
        models=tuple(model or ()),
        any_model=allow_any_model,
        reports=tuple(reports or ()),
        results=results,
        keep_texts=keep_texts,
    )
    serve_page(
        settings,
        Address(host=host, port=port, share=share, browser=browser),
        on_ready=lambda url: print(url, flush=True),
    )
    tell("stopped")
