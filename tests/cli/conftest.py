"""Commands that talk to the Hub talk to the stub of its tests."""

from hub.conftest import clean_client, hub

__all__ = ["clean_client", "hub"]
