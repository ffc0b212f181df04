"""What commands say on stderr, where names from models and answers of servers are mere text."""

from __future__ import annotations

import sys

from hf_ess.plain_text import safe_to_show


def tell(words: object) -> None:
    r"""Prints words for a person on stderr.

    Args:
        words: whatever they hold, no escape code reaches the terminal, and no secret is told.

    Example:
        >>> import contextlib
        >>> with contextlib.redirect_stderr(sys.stdout):
        ...     tell("wrote \x1b[31mreport")
        wrote report
    """
    print(safe_to_show(str(words)), file=sys.stderr)
