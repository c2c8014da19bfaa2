"""Whether one network counts better than another: changes of errors, and the counts that they are of."""

from __future__ import annotations

import numpy as np
import pytest

from engine.config import CountingRule
from engine.training.judge import Change, count
from engine.training.rule import Reading

# The encoder's count, where the map has as many peaks.
RULE = CountingRule(0.1, 0.9, 0.5, 2.0)


def test_a_change_is_one_beyond_twice_its_standard_error():
    assert Change.of(np.array([4.0, 4, 4]), np.array([3.0, 3, 3.1])).is_better
    assert not Change.of(np.array([4.0, 4, 4]), np.array([1.0, 4, 4])).is_better
    assert Change.of(np.array([3.0, 3, 3.1]), np.array([4.0, 4, 4])).is_worse
    same = Change.of(np.ones(3), np.ones(3))
    assert not same.is_better
    assert not same.is_worse
    assert not Change.of(np.array([4.0]), np.array([1.0])).is_better


@pytest.mark.parametrize(("expected", "counted"), [(0.2, 1), (2.3, 2), (9.0, 3)])
def test_a_count_is_what_the_rule_makes_of_a_reading(expected, counted):
    scores = np.array([0.95, 0.5, 0.2, 0.06], np.float32)
    assert count(Reading("a", 2, expected, scores), RULE) == counted
