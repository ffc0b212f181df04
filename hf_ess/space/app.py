"""The app: `hf-ess serve` starts it on this machine, `spaces/app.py` in a Space."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr

from hf_ess.errors import AddressError
from hf_ess.plain_text import safe_logs
from hf_ess.space import bundle
from hf_ess.space.catalog import Catalog
from hf_ess.space.downloads import Downloads
from hf_ess.space.endpoints import add_endpoints
from hf_ess.space.events import Events
from hf_ess.space.gallery import Gallery
from hf_ess.space.gpu_loans import lending_package, measure_on_loan
from hf_ess.space.instrument import Instrument
from hf_ess.space.limits import Limits
from hf_ess.space.measuring import Measurer
from hf_ess.space.page import TITLE, Choices, lay_out
from hf_ess.space.results import ResultStore
from hf_ess.space.taking import Taking
from hf_ess.space.theme import theme
from hf_ess.space.wording import limits_words, model_words

# In the folder of a Space, reports for its gallery.
EXAMPLES = "examples"
# Nothing is uploaded here; this is as little as Gradio can allow.
LARGEST_UPLOAD = "1b"
SESSIONS = 200
# Threads beyond those that wait for their turn: links, cells, downloads.
SPARE_THREADS = 20
# Gradio's copies of files that were taken away.
KEPT_SECONDS = 3600


@dataclass(frozen=True)
class Settings:
    """What the operator of a server decides.

    `hf_ess.space.app.serve_page` takes them.

    Attributes:
        models: Hub ids, folders and `.gguf` files, in place of the curated list.
        any_model: whether visitors may name any model of the Hub.
        reports: folders and repositories of the Hub for the gallery.
        results: folder for what is measured; None for one in the cache.
        keep_texts: whether texts are kept with the results.
        limits: what the machine is protected by.
    """

    models: tuple[str, ...] = ()
    any_model: bool = False
    reports: tuple[str, ...] = ()
    results: Path | None = None
    keep_texts: bool = True
    limits: Limits = field(default_factory=Limits.from_environment)

    @classmethod
    def of_space(cls) -> Settings:
        """What the variables of a Space say."""
        results = os.environ.get("HF_ESS_RESULTS")
        shown = os.environ.get("HF_ESS_REPORTS", EXAMPLES if Path(EXAMPLES).is_dir() else "")
        return cls(
            models=tuple(os.environ.get("HF_ESS_MODELS", "").split()),
            any_model=os.environ.get("HF_ESS_ANY_MODEL") == "1",
            reports=tuple(shown.split()),
            results=Path(results) if results else None,
            keep_texts=os.environ.get("HF_ESS_KEEP_TEXTS") != "0",
        )


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    `hf_ess.space.app.serve_page` takes it.

    Attributes:
        host: None for what Gradio's variables say, else this machine only.
        port: None for the first free one.
        share: whether Gradio makes a public address for it.
        browser: whether a browser opens it.
    """

    host: str | None = None
    port: int | None = None
    share: bool = False
    browser: bool = False


class App:
    """The page with what is behind it.

    `hf_ess.space.app.serve_page` and `hf_ess.space.app.launch_space` start one.

    Args:
        settings: of the operator.

    Raises:
        InvalidInputError: a model is neither there nor a Hub id.
        OutputPathError: the folder for results cannot be written.
    """

    def __init__(self, settings: Settings) -> None:
        # Before anything asks for a GPU.
        lending_package()
        catalog = Catalog(settings.limits, settings.models, any_hub_model=settings.any_model)
        store = ResultStore(
            settings.results or _cache(),
            settings.limits.store_bytes,
            keep_texts=settings.keep_texts,
        )
        measurer = Measurer(catalog)
        self.gallery = Gallery(settings.reports)
        self.instrument = Instrument(
            catalog,
            store,
            measurer=measurer,
            measure=measure_on_loan(measurer),
            elsewhere=self.gallery.report,
        )
        self.downloads = Downloads()
        self.demo = self._built(settings)

    def start(self, address: Address) -> str:
        """Begins to answer; returns the address of the page.

        Raises:
            AddressError: the port is taken, or cannot be used.
        """
        limits = self.instrument.limits
        # Gradio prints; stdout is for the address alone.
        with contextlib.redirect_stdout(sys.stderr), _named_errors(address):
            _, local, shared = self.demo.launch(
                server_name=address.host,
                server_port=address.port,
                share=address.share,
                inbrowser=address.browser,
                prevent_thread_lock=True,
                quiet=True,
                ssr_mode=False,
                theme=theme(),
                css=bundle.surroundings(),
                allowed_paths=[str(self.downloads.folder)],
                max_file_size=LARGEST_UPLOAD,
                max_threads=limits.queue + 1 + SPARE_THREADS,
                state_session_capacity=SESSIONS,
                footer_links=["api"],
                run_history=False,
                enable_monitoring=False,
                mcp_server=find_spec("mcp") is not None,
            )
            if self.demo.mcp_error:
                warnings.warn(f"There is no MCP: {self.demo.mcp_error}", stacklevel=2)
        return str(shared or local)

    def stop(self) -> None:
        """Ends every job, and the server."""
        self.instrument.jobs.cancel(None)
        with contextlib.redirect_stdout(sys.stderr):
            self.demo.close(verbose=False)
        self.downloads.close()

    def _built(self, settings: Settings) -> Any:
        models = [(model_words(model), model.name) for model in self.instrument.catalog.models]
        choices = Choices(
            models=models,
            any_model=settings.any_model,
            publishing=can_log_in(),
            limits=limits_words(settings.limits, settings.keep_texts),
        )
        with gr.Blocks(
            title=TITLE, analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)
        ) as demo:
            events = Events(self.instrument, self.gallery)
            page = lay_out(choices, events.cell)
            events.connect(page, demo)
            Taking(self.instrument, self.downloads).connect(page)
            add_endpoints(self.instrument)
        # The instrument's queue says more than Gradio's; this one only bounds what may pile up.
        return demo.queue(max_size=2 * settings.limits.queue + SPARE_THREADS)


def serve_page(settings: Settings, address: Address, on_ready: Callable[[str], None]) -> None:
    """Serves the page until somebody ends it with Ctrl-C, or the process is told to end.

    Args:
        settings: what the operator decides.
        address: where the page is to be reached.
        on_ready: called with the page's address once it answers.

    Raises:
        AddressError: the port is taken, or cannot be used.
        InvalidInputError, OutputPathError: as `App`.
    """
    app = App(settings)
    try:
        with _told_to_end() as ended:
            on_ready(app.start(address))
            ended.wait()
    finally:
        app.stop()


def launch_space() -> None:
    """What a Space runs: its settings come from its variables.

    On one's own machine that is `hf_ess.space.app.serve_page`.
    """
    with safe_logs():
        serve_page(Settings.of_space(), Address(), lambda _: None)


def can_log_in() -> bool:
    """Whether visitors can log in with their account of the Hub: in a Space that allows it.

    An `App` asks it.
    """
    return os.environ.get("SYSTEM") == "spaces" and bool(os.environ.get("OAUTH_CLIENT_ID"))


@contextlib.contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """An event that Ctrl-C and a request to end set, from here until the context is left."""
    ended = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _named_errors(address: Address) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f"port {address.port}" if address.port else "any port from 7860 on"
        raise AddressError(
            f"The page cannot be served at {where} of {address.host or 'this machine'}.",
            causes=[
                "another program, maybe this one, listens there",
                "the host is not this machine",
            ],
            fix="Choose another --port, or leave it out for the first free one.",
        ) from error


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HOME, "hf_ess", "results")
