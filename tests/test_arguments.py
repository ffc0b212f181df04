"""Single arguments: what is let through, and what each error says."""

from __future__ import annotations

import math

import pytest

from hf_ess.arguments import check_number, check_whole
from hf_ess.errors import InvalidInputError, InvalidTypeError


def test_what_is_right_comes_back():
    assert check_whole("steps", 3, least=3, most=3) == 3
    assert check_number("share", 1, above=0, most=1) == 1.0
    assert check_number("share", -2.5) == -2.5
    assert isinstance(check_number("share", 1), float)


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_no_whole_numbers(value):
    with pytest.raises(InvalidTypeError, match=r"^steps must be a whole number, got "):
        check_whole("steps", value, least=0)


@pytest.mark.parametrize("value", [True, "1", None, 1j])
def test_no_numbers(value):
    with pytest.raises(InvalidTypeError, match=r"^share must be a number, got "):
        check_number("share", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite(value):
    with pytest.raises(InvalidInputError, match=f"^share must be finite, got {value}"):
        check_number("share", value, least=0)


@pytest.mark.parametrize(
    ("limits", "value", "said"),
    [
        ({"above": 0}, 0, "above 0, got 0"),
        ({"least": 0}, -1e-9, "at least 0, got -1e-09"),
        ({"above": 0, "most": 1}, 1.5, "above 0 and at most 1, got 1.5"),
        ({"least": 2, "most": 3}, 3.5, "at least 2 and at most 3, got 3.5"),
    ],
)
def test_numbers_out_of_range(limits, value, said):
    with pytest.raises(InvalidInputError) as raised:
        check_number("share", value, **limits, fix="Use 0.02.")
    assert raised.value.what == f"share must be {said}."
    assert raised.value.fix == "Use 0.02."


@pytest.mark.parametrize(
    ("limits", "value", "said"),
    [((2,), 1, "at least 2, got 1"), ((0, 5), 6, "from 0 to 5, got 6")],
)
def test_whole_numbers_out_of_range(limits, value, said):
    with pytest.raises(InvalidInputError) as raised:
        check_whole("steps", value, *limits)
    assert raised.value.what == f"steps must be {said}."
