"""Links say what to show; what makes no sense in them is left out."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from hf_ess.space.links import Link, parsed_link

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


def test_a_link_comes_back():
    state = {"metric": "tolerance", "scale": "log", "threshold": 0.001, "layer": 3, "position": 7}
    link = Link((KEY, OTHER), state)
    assert parsed_link(dict(parse_qsl(link.query))) == link
    assert parsed_link(dict(parse_qsl(Link((KEY,)).query))) == Link((KEY,))


@pytest.mark.parametrize(
    "key",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "file:///etc",
        "",
        "short",
        "a" * 200,
        "a\0" * 10,
        "é" * 20,
    ],
)
def test_keys_that_could_be_paths(key):
    assert parsed_link({"view": key}) == Link()
    assert parsed_link({"view": KEY, "with": key}) == Link()


@pytest.mark.parametrize(
    "wrong",
    [
        {"metric": "<script>"},
        {"threshold": "nan"},
        {"threshold": "-1"},
        {"threshold": "inf"},
        {"threshold": "0"},
        {"layer": "-1"},
        {"layer": "1e3"},
        {"position": "9" * 5000},
        {"position": "٣"},
        {"side": "2"},
        {"unknown": "1"},
    ],
)
def test_what_makes_no_sense(wrong):
    assert parsed_link({"view": KEY, **wrong}) == Link((KEY,))


def test_nothing_to_show():
    assert parsed_link({}) == Link()
    assert parsed_link({"metric": "entropy"}) == Link()
    assert parsed_link({"with": KEY}) == Link()
