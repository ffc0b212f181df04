"""Commands that talk to the Hub talk to the stub of its tests."""

from hub.conftest import clean_client, hub, quick_plots

__all__ = ["clean_client", "hub", "quick_plots"]
