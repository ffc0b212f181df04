"""Limits come from the environment, and say what they are and what to do."""

from __future__ import annotations

from dataclasses import fields

import pytest

from hf_ess.errors import InvalidInputError, LimitError
from hf_ess.space.limits import Limits


def test_every_limit_has_a_variable():
    environment = {
        f"HF_ESS_MAX_{field.name.upper()}": str(number)
        for number, field in enumerate(fields(Limits), start=11)
    }
    limits = Limits.from_environment(environment)
    assert [getattr(limits, field.name) for field in fields(Limits)] == list(range(11, 22))


def test_without_variables_the_defaults_hold(monkeypatch):
    monkeypatch.setenv("HF_ESS_MAX_TOKENS", "1_000")
    monkeypatch.setenv("HF_ESS_MAX_QUEUE", "")
    assert Limits.from_environment() == Limits(tokens=1000)
    assert Limits.from_environment({}) == Limits()


@pytest.mark.parametrize("words", ["0", "-3", "many", "1.5", "inf"])
def test_a_variable_that_is_no_limit_is_named(words):
    with pytest.raises(InvalidInputError, match="HF_ESS_MAX_TOKENS"):
        Limits.from_environment({"HF_ESS_MAX_TOKENS": words})


@pytest.mark.parametrize("text", ["", "  \n\t", None, 7])
def test_no_text(text):
    with pytest.raises(InvalidInputError, match="There is no text"):
        Limits().check_text(text)


def test_a_megabyte_is_refused_with_the_limit_and_a_way_out():
    with pytest.raises(LimitError) as refused:
        Limits().check_text("a" * 2**20)
    assert "1,048,576 characters; this server takes 20,000" in str(refused.value)
    assert "Shorten the text" in str(refused.value)
    assert isinstance(refused.value, ValueError)
    Limits().check_text("a" * 20_000)


def test_tokens():
    limits = Limits(tokens=100)
    with pytest.raises(LimitError, match=r"250 tokens.*takes 100") as refused:
        limits.check_tokens(250)
    assert "about 40 %" in str(refused.value)
    with pytest.raises(InvalidInputError, match=r"1 token\(s\)"):
        limits.check_tokens(1)
    limits.check_tokens(100)
    limits.check_tokens(2)


def test_parameters():
    with pytest.raises(LimitError, match="org/big has 7,000 million parameters") as refused:
        Limits().check_parameters("org/big", 7_000_000_000)
    assert "takes 1,000 million" in str(refused.value)
    Limits().check_parameters("org/small", 1_000_000_000)
