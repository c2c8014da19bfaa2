"""Which pictures are trained on and held out: the data's own split, and last digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.dataset.samples import Sample
from engine.errors import ConfigError
from engine.training.split import check_split, left_out, split

NOBODY = np.zeros((0, 2), np.float32)


def numbers(samples: list[Sample]) -> list[int]:
    return [sample.number for sample in samples]


def made(validated: set[int] = frozenset()) -> list[Sample]:
    return [Sample(Path(f"{i}.png"), NOBODY, "a", "val" if i in validated else "train") for i in range(10)]


@pytest.mark.parametrize(
    ("validated", "exclude", "validate", "train_on", "held_out"),
    [
        (set(), None, None, [1, 2, 3, 4, 6, 7, 8, 9], [5]),
        (set(), [1], None, [0, 2, 3, 4, 6, 7, 8, 9], [5]),
        (set(), [], [1, 2], [0, 3, 4, 5, 6, 7, 8, 9], [1, 2]),
        ({3, 4}, None, None, [0, 1, 2, 5, 6, 7, 8, 9], [3, 4]),
        # What is left out is so on both sides, and the split stays.
        ({3, 4}, [0, 3], None, [1, 2, 5, 6, 7, 8, 9], [4]),
        ({3, 4}, [], None, [0, 1, 2, 5, 6, 7, 8, 9], [3, 4]),
        ({3, 4}, None, [5], [1, 2, 3, 4, 6, 7, 8, 9], [5]),
    ],
)
def test_pictures_are_split(validated, exclude, validate, train_on, held_out):
    samples = made(validated)
    assert tuple(map(numbers, split(samples, exclude, validate))) == (train_on, held_out)
    kept = set(range(10)) - set(left_out(samples, exclude, validate)) - validated
    assert kept - {3, 4} == set(train_on) - {3, 4}


def test_a_split_of_which_nothing_is_left_is_refused():
    with pytest.raises(ConfigError, match=r"no picture of the split val is left, .* other digits to --exclude"):
        check_split(made({3}), [3], None, trains=True)
    with pytest.raises(ConfigError, match=r"no picture's number ends in 5 or 6, .* other digits to --validate"):
        check_split(made(), [5, 6], [5, 6], trains=True)
    with pytest.raises(ConfigError, match="no picture is left to train on"):
        check_split(made(), [], list(range(10)), trains=True)
    assert numbers(check_split(made(), [], list(range(10)), trains=False)[1]) == list(range(10))
