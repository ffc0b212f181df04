from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hf_ess.report.local_paths import without_local_paths

PATHS = {
    "/home/jane/x.py": "x.py",
    "at /home/jane, and": "at ~, and",
    "/home/jane/": "~",
    "/tmp/abc123/model": "model",
    "//home/jane/x": "x",
    "../../home/jane/x": "x",
    "file:///home/jane%20doe/my%20x.py": "my x.py",
    "file:///C:/Users/jane/x": "x",
    "</home/jane/x>": "<x>",
    "path=/a/b:/home/jane/c": "path=c",
    "PYTHONPATH=/home/jane": "PYTHONPATH=~",
    "~/secret/x and ~jane/y": "x and y",
    "/Users/jane": "~",
    "/home/Jane Doe/my/x": "x",
    r"C:\Users\Jane Doe\m\f.txt: bad": "f.txt: bad",
    r"D:/a/b": "b",
    r"\\server\share\x.py": "x.py",
    r"'C:\\Users\\jane\\y.bin'": "'y.bin'",
    "['/home/jane/a b', \"/tmp/c d\"]": "['a b', \"c d\"]",
    "it's /home/j/x isn't": "it's x isn't",
    "error in /data/jane/x.py:12: bad": "error in x.py:12: bad",
    "a\n/home/j/x\n/tmp/z": "a\nx\nz",
    "https://a.b/c/d?x=/home/jane/q": "https://a.b/c/d?x=q",
    "https://jane:password@huggingface.co/x": "https://huggingface.co/x",
    "hf_abcdefghijklmnopqrstuvwxyz": "hf_***",
}
LEFT = [
    "", "org/model", "ESS / TSS", "and/or", "</s>", "M[i:, :i]", "1/2", "cuda:0", "/", "//", "~",
    "https://huggingface.co/org/model", "s3://bucket/x/y", "residual 3.0e-01 above 1.0e-04", "C:",
    r"tensor\(x\)", "model.layers.0.self_attn", "~10 tokens", "hf_ess", "a: b", "x:y", "語/語",
]  # fmt: skip
PIECES = [
    "/", "\\", "//", "\\\\", "~", ".", "..", ":", "://", "C:", "file:", "home", "/home/", "Users",
    "jane", " ", "'", '"', "<", ">", "a", "1", "@", "hf_", "x" * 20, "\n", ",", "é", "%2F", "*",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), PATHS.items())
def test_paths_become_their_last_component(text, expected):
    assert without_local_paths(text) == expected


@pytest.mark.parametrize("text", LEFT)
def test_what_is_no_path_stays(text):
    assert without_local_paths(text) == text


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(max_size=40))
@example("C:/home/x:/home/y'/a b'")
def test_a_second_time_changes_nothing(text):
    once = without_local_paths(text)
    assert without_local_paths(once) == once
    assert len(once) <= len(text)


@given(
    st.text("abc 1.,:='\"()<[", max_size=8),
    st.sampled_from(["/home/{}/m/f", "/Users/{}/f", "~{}/f", r"C:\Users\{}\m\f", "/tmp/{}/x/f"]),
    st.text("\n,;: )'\">", max_size=1),
)
def test_no_name_of_a_user_is_left(before, path, after):
    text = before + path.format("jane") + after
    assert "jane" in text
    # A slash after a word begins no path.
    if before[-1:] not in tuple("abc1"):
        assert "jane" not in without_local_paths(text)


def test_a_long_text_takes_no_long_time():
    for piece in ("/", "a/", "\\", "://a", "'/", "~", "C:/", "/home/", "@", "file:", "<"):
        without_local_paths(piece * 20_000)
