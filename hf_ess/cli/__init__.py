"""The command `hf-ess`: results on stdout, progress and messages on stderr."""

from hf_ess.cli.app import main

__all__ = ["main"]
