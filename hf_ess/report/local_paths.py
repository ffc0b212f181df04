r"""Taking paths of the machine, and credentials, out of texts that others will read.

What is not certain to be no path is taken for one: rather a word too few than a name too many.
The same text gives the same result on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote

from hf_ess.plain_text import without_secrets

HOME = "~"

# Inside of a path written without quotes: neither blanks nor what closes a phrase.
_PART = r"[^\s/\\'\"<>|:;()\[\]{}`*?]"
# Windows allows blanks in folders, as everybody's home folder may have.
_WINDOWS_FOLDER = r"[^\\/\r\n'\"<>|:*?]*"
_USERS = r"(?:home|Users|users|Documents and Settings)"

_FILE_URL = re.compile(r"\bfile:[/\\]+[^\s'\"<>]*", re.IGNORECASE)
_WINDOWS = re.compile(
    rf"(?:(?<![A-Za-z0-9])[A-Za-z]:[\\/]|\\\\)+(?:{_WINDOWS_FOLDER}[\\/]+)*{_PART}*"
)
_QUOTED = re.compile(r"(?P<quote>['\"])(?P<path>(?:~[\w.-]*|\.{1,2})?/[^'\"\r\n]*)(?P=quote)")
_POSIX = re.compile(
    r"(?:(?<![\w/~])~[\w.-]*/|(?<![\w/:<])\.*/+|(?<=:)/(?!/)|(?<=<)/(?=[^\s/<>]+/))"
    rf"(?:{_USERS}/[^/\r\n'\"<>]{{1,64}}(?=/)/|{_USERS}/{_PART}+)?"
    rf"(?:{_PART}+/+)*{_PART}*"
)
_HOME_FOLDER = re.compile(rf"(?:^|[\\/]){_USERS}[\\/]+[^\\/]+[\\/]*$")


def without_local_paths(text: str) -> str:
    r"""The text with every absolute path reduced to its last component, and no credentials.

    Example:
        >>> without_local_paths("cannot read '/home/jane doe/my models/x.bin' of org/model")
        "cannot read 'x.bin' of org/model"
        >>> without_local_paths(r"C:\Users\Jane Doe\x.py, see https://huggingface.co/org/model")
        'x.py, see https://huggingface.co/org/model'
    """
    before = None
    # What one turn leaves may look like a path again; every turn makes the text shorter.
    while text != before:
        before = text
        text = without_secrets(text)
        for pattern, write in _RULES:
            text = pattern.sub(write, text)
    return text


def last_component(path: str) -> str:
    r"""The name of a file or folder, whatever system the path is of; `~` for a home folder.

    Example:
        >>> last_component("/models/llama/"), last_component(r"C:\models\a b"), last_component("/")
        ('llama', 'a b', '')
        >>> last_component("/home/jane")
        '~'
    """
    if _HOME_FOLDER.search(path):
        return HOME
    parts = [part for part in re.split(r"[\\/]+", path) if part and not part.endswith(":")]
    return parts[-1] if parts else ""


def _shortened(match: re.Match[str]) -> str:
    whole = match[0]
    kept = whole.rstrip(".,!")
    # A slash or dots alone are no path.
    return (last_component(kept) or kept) + whole[len(kept) :]


def _shortened_in_quotes(match: re.Match[str]) -> str:
    path, quote = match["path"], match["quote"]
    return quote + (last_component(path) or path) + quote


def _shortened_url(match: re.Match[str]) -> str:
    return last_component(unquote(match[0].partition(":")[2])) or "file"


_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (_FILE_URL, _shortened_url),
    (_WINDOWS, _shortened),
    (_QUOTED, _shortened_in_quotes),
    (_POSIX, _shortened),
)
