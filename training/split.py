"""Which of the annotated pictures are trained on, and which are held out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from engine.dataset.samples import Sample
from engine.errors import ConfigError
from engine.image.folders import is_picture

# Last digits of picture numbers, where the data have no split of their own.
_EXCLUDED, _VALIDATED = (0,), (5,)


def has_own_split(samples: Sequence[Sample], validate: Sequence[int] | None) -> bool:
    """Whether the data's own split val validates: where there is one, unless last digits are named for it."""
    return validate is None and any(sample.split == "val" for sample in samples)


def split(
    samples: list[Sample], exclude: Sequence[int] | None, validate: Sequence[int] | None
) -> tuple[list[Sample], list[Sample]]:
    """(To train on, to validate on): the data's own split, or by the last digit of the pictures' numbers.

    Args:
        exclude: last digits that are in neither; None for none of data with a split of their own, else 0.
        validate: last digits to validate on; None for the data's split val, or 5 without one.
    """
    if has_own_split(samples, validate):
        used = without(samples, exclude or ())
        return [s for s in used if s.split != "val"], [s for s in used if s.split == "val"]
    used, validate = without(samples, _EXCLUDED if exclude is None else exclude), validate or _VALIDATED
    return without(used, validate), [s for s in used if s.number % 10 in validate]


def check_split(
    samples: list[Sample], exclude: Sequence[int] | None, validate: Sequence[int] | None, trains: bool
) -> tuple[list[Sample], list[Sample]]:
    """The same as :func:`split`.

    Raises:
        ConfigError: no picture is held out, or none is left to train on although ``trains`` says that some are needed.
    """
    train_on, held_out = split(samples, exclude, validate)
    if not held_out:
        digits = " or ".join(map(str, validate or _VALIDATED))
        own = has_own_split(samples, validate)
        raise ConfigError(
            ("no picture of the split val is left" if own else f"no picture's number ends in {digits}")
            + ", and the counting rule is calibrated on such pictures: give other digits to "
            + ("--exclude" if own else "--validate")
        )
    if not train_on and trains:
        raise ConfigError("no picture is left to train on: give fewer digits to --exclude and --validate")
    return train_on, held_out


def find_scenes(folder: Path, leave_out: Collection[int]) -> list[Sample]:
    """The pictures below ``folder``, in which nobody is, but for those whose number ends in one of ``leave_out``.

    Raises:
        ConfigError: there are none.
    """
    pictures = [path for path in sorted(folder.rglob("*")) if is_picture(path.name)]
    samples = [Sample(path, np.zeros((0, 2), np.float32), "without_people") for path in pictures]
    chosen = without(samples, leave_out)
    if not chosen:
        raise ConfigError(f"there are no pictures to train on below {folder}")
    return chosen


def left_out(samples: list[Sample], exclude: Sequence[int] | None, validate: Sequence[int] | None) -> Collection[int]:
    """Last digits of the pictures that :func:`split` leaves out of training, whatever the data's own split."""
    if has_own_split(samples, validate):
        return exclude or ()
    return {*(_EXCLUDED if exclude is None else exclude), *(validate or _VALIDATED)}


def without(samples: Sequence[Sample], digits: Collection[int]) -> list[Sample]:
    """Those of ``samples`` whose number does not end in one of ``digits``."""
    return [sample for sample in samples if sample.number % 10 not in digits]
