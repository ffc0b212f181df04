"""The app on a free port, with tiny models, for tests that ask it as visitors do."""

from __future__ import annotations

import socket
from contextlib import contextmanager

from hf_ess.space.app import Address, App, Settings
from hf_ess.space.limits import Limits

ROOMY = Limits(tokens=256, characters=4000)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(*models, results, limits=ROOMY, **settings):
    """Yields the app and its address."""
    app = App(Settings(models=tuple(map(str, models)), results=results, limits=limits, **settings))
    try:
        yield app, app.start(Address(host="127.0.0.1", port=free_port()))
    finally:
        app.stop()
