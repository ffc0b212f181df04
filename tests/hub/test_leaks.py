"""The last look before sending: what must not be published, wherever it stands."""

from __future__ import annotations

import json

import pytest

import hf_ess
from hf_ess.hub.leaks import MOST_CHARACTERS, refuse_leaks

TOKEN = "hf_abcdefghijklmnop"
TEXT = "Call me Ishmael. Some years ago, never mind how long precisely."
SECRETS = {"before": {}, "tokens": [TOKEN], "texts": [TEXT], "home": "/home/me"}


def refused(path, content, **changes):
    with pytest.raises(hf_ess.HubError) as error:
        refuse_leaks({"fine.md": b"# Fine\n", path: content}, **{**SECRETS, **changes})
    said = str(error.value)
    assert TOKEN not in said
    assert TEXT not in said
    return said


@pytest.mark.parametrize(
    ("leaked", "name"),
    [
        (TOKEN, "a token of the Hub"),
        ("/home/me", "the path of your home folder"),
        ("file:///home/me/llama", "the path of your home folder"),
        (TEXT, "the text that was measured"),
        (TEXT.replace(" ", "\n> ").replace("> ", ""), "the text that was measured"),
        (f"> {TEXT} And more.", "the text that was measured"),
    ],
)
def test_text_files(leaked, name):
    assert f"README.md would hold {name} (line 3)" in refused(
        "README.md", f"1\n2\n{leaked}".encode()
    )


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"a": [{"b": TOKEN}]}, "a[0].b"),
        ({"a": [1, ["x", f"in {TOKEN}"]]}, "a[1][1]"),
        ({TOKEN: 1}, "(name 1)"),
        ({"tokens": [word + " " for word in TEXT.split(" ")]}, "tokens"),
        ({"path": "C:\\Users\\me\\llama"}, "path"),
    ],
)
def test_json(content, place):
    home = "C:\\Users\\me" if "path" in content else "/home/me"
    assert place in refused("r.json", json.dumps(content).encode(), home=home)


def test_json_that_is_none_and_bytes():
    assert "line 1" in refused("r.json", f"{{ {TOKEN}".encode())
    assert "line 1" in refused("a.safetensors", b"\xff\x00" + TOKEN.encode() + b"\xfe")


@pytest.mark.parametrize(
    "content",
    ["/home/meadow/llama", "my-/home/me-too", "/srv/home/me2", TEXT[:-20], "hf_abc", "Call me"],
)
def test_what_is_no_leak(content):
    refuse_leaks({"README.md": content.encode()}, **SECRETS)


def test_what_was_there_before():
    before = {"README.md": f"{TOKEN} {TEXT} /home/me\n".encode()}
    refuse_leaks({"README.md": before["README.md"] + b"# More\n"}, **{**SECRETS, "before": before})
    twice = before["README.md"] + TOKEN.encode()
    assert "a token" in refused("README.md", twice, before=before)


def test_the_beginning_gives_a_long_text_away():
    text = "".join(f"word{i} " for i in range(1000))
    refuse_leaks({"a.md": text[: MOST_CHARACTERS - 1].encode()}, **{**SECRETS, "texts": [text]})
    assert "the text" in refused("a.md", text[:-100].encode(), texts=[text])


@pytest.mark.parametrize("home", ["/", "", "/a"])
def test_homes_that_are_in_every_path(home):
    refuse_leaks({"a.md": b"/usr/a/b /a"}, **{**SECRETS, "home": home})
