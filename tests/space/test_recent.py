"""Memory holds what was used last."""

from __future__ import annotations

from hf_ess.space.recent import Recent


def test_the_least_recently_used_go_first():
    kept = Recent(bytes_kept=30)
    for name in "abc":
        kept.put(name, name.upper(), size=10)
    assert kept.get("a") == "A"
    kept.put("d", "D", size=10)
    assert [kept.get(name) for name in "abcd"] == ["A", None, "C", "D"]
    assert len(kept) == 3


def test_a_value_that_is_put_again_counts_once():
    kept = Recent(bytes_kept=30)
    for _ in range(5):
        kept.put("a", 1, size=10)
    kept.put("b", 2, size=20)
    assert (kept.get("a"), kept.get("b")) == (1, 2)


def test_room_is_made_before_something_comes():
    kept = Recent(bytes_kept=30)
    kept.put("a", 1, size=10)
    kept.put("b", 2, size=10)
    kept.make_room(15)
    assert (kept.get("a"), kept.get("b")) == (None, 2)
    kept.make_room(100)
    assert len(kept) == 0
