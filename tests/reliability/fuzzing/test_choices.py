"""The generator reaches what it is there for, and a case is the same each time and as text."""

from __future__ import annotations

import pytest
from reliability.fuzzing.choices import (
    LARGEST_BATCH,
    LONGEST,
    command,
    differences,
    drawn,
    with_setting,
)
from reliability.fuzzing.knobs import STATES, model_types
from reliability.fuzzing.reproduction import smaller_cases

from hf_ess.synthetics.configuration import MIXERS


@pytest.fixture(scope="module")
def cases():
    return [drawn(seed) for seed in range(2000)]


def _values(cases, key):
    return {repr(case.config[key]) for case in cases if key in case.config}


def test_a_number_draws_the_same_case(cases):
    assert [drawn(seed) for seed in range(50)] == cases[:50]


def test_every_kind_of_case_is_drawn(cases):
    assert {case.model for case in cases} >= set(model_types())
    assert {case.dtype for case in cases} == {"float32", "float64", "bfloat16", "float16"}
    assert {case.padding for case in cases} == {"none", "left", "right"}
    assert {case.batch for case in cases} >= {1, 2, 3, LARGEST_BATCH}
    lengths = {case.length for case in cases}
    assert (min(lengths), max(lengths)) == (1, LONGEST)
    assert len(lengths) > 100
    assert {case.attention for case in cases} == {None, "eager"}
    names = set().union(*(case.arguments for case in cases))
    assert names == {
        "positions", "tolerances", "relative", "layers", "window", "batch_size", "method",
        "accuracy", "scope", "memory_budget", "keep_singular_values",
    }  # fmt: skip
    positions = [case.arguments.get("positions") for case in cases]
    assert {type(position).__name__ for position in positions} >= {"str", "int", "tuple"}


def test_every_kind_of_mixer_is_drawn(cases):
    synthetic = [case.config["mixers"] for case in cases if case.family == "synthetic"]
    assert {mixer for mixers in synthetic for mixer in mixers} == set(MIXERS)
    assert len({tuple(mixers) for mixers in synthetic}) > 200
    assert {int(size) for size in _values(cases, "state_size")} == set(STATES)
    heads = {int(number) for number in _values(cases, "num_attention_heads")}
    assert heads >= {1, 2, 3, 4, 5, 6, 7, 8}
    ratios = {
        (case.config["num_attention_heads"], case.config["num_key_value_heads"])
        for case in cases
        if "num_key_value_heads" in case.config
    }
    assert {(6, 2), (6, 3), (5, 1), (7, 7)} <= ratios
    assert len(_values(cases, "sliding_window")) >= 5
    for name in ("sinks", "alibi", "qk_norm"):
        assert _values(cases, name) == {"False", "True"}
    assert len(_values(cases, "rotary")) >= 4
    assert len(_values(cases, "soft_cap")) == len(_values(cases, "attn_logit_softcapping")) == 3
    assert len(_values(cases, "layer_types")) > 100


def test_a_case_comes_back_from_its_settings():
    for seed in range(100):
        for case in [drawn(seed), *smaller_cases(drawn(seed))][::7]:
            again = drawn(seed)
            for setting in differences(case):
                again = with_setting(again, setting)
            assert again == case


def test_few_cases_are_of_one_token(cases):
    assert 50 < sum(min(case.lengths) == 1 for case in cases) < 200


def test_the_command_says_what_differs_from_the_draw():
    case = with_setting(with_setting(drawn(3), "length=4"), "arguments.window=(3, 7)")
    assert command(case).startswith("python tests/reliability/fuzzing --seed 3 --set 'length=4'")
    assert "--set 'arguments.window=(3, 7)'" in command(case)
    assert list(differences(drawn(3))) == []


def test_each_step_of_shrinking_makes_a_case_smaller():
    for seed in range(30):
        case = drawn(seed)
        for smaller in smaller_cases(case):
            assert smaller != case
            assert smaller.length <= case.length
            assert smaller.batch <= case.batch
            assert len(smaller.config) <= len(case.config)
            assert len(smaller.arguments) <= len(case.arguments)
