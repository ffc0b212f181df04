"""Splitting a text by a tokenizer that may be damaged, or made to take forever."""

from __future__ import annotations

from typing import Any

from hf_ess.errors import InvalidInputError

# What the Rust code of tokenizers raises is no Exception, and has no name to import.
PANIC = "PanicException"


def encoded(tokenizer: Any, text: str, **options: Any) -> Any:
    """What the tokenizer makes of a text.

    Args:
        tokenizer: of transformers.
        text: what it reads.
        **options: what it is called with besides.

    Raises:
        InvalidInputError: it fails on the text, such as by an expression that tries too much.

    Example:
        >>> encoded(lambda text, verbose: {"input_ids": [len(text)]}, "four")
        {'input_ids': [4]}
    """
    try:
        return tokenizer(text, verbose=False, **options)
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        raise InvalidInputError(
            f"The tokenizer fails on the text: {type(error).__name__}: {error}",
            causes=["its files are damaged", "a pattern in them is made to take forever"],
            fix="Pass another tokenizer, or token ids (--ids at the command line).",
        ) from error
