"""The few values that are kept are those that were used last."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.system.recently_used import RecentlyUsed


@given(st.lists(st.integers(0, 9)), st.integers(1, 5))
def test_the_last_different_keys_are_kept(keys: list[int], capacity: int) -> None:
    cache, made = RecentlyUsed[int, str](capacity), []
    for key in keys:
        assert cache.find(key, lambda key=key: made.append(key) or str(key)) == str(key)
    # Each key once, where it was used last.
    expected = sorted(set(keys), key=lambda key: len(keys) - keys[::-1].index(key))[-capacity:]
    assert list(cache) == expected
    assert len(made) >= len(set(keys))


def test_a_value_that_is_there_is_not_made_again_and_an_error_leaves_the_rest() -> None:
    cache = RecentlyUsed[str, int](1)
    assert cache.find("a", lambda: 1) == 1
    with pytest.raises(ZeroDivisionError):
        cache.find("b", lambda: 1 // 0)
    assert cache.find("a", lambda: 2) == 1
