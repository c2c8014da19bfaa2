"""Cameras whose time passes only when a test says so, and stand-ins for counting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from videos import number_of, numbered

from engine import CountResult

# No test waits as long; a hang ends as a failure.
PATIENCE = 60


class SteppedCamera:
    """An iterable of numbered pictures, one every ``period`` seconds of its own clock.

    ``produce`` lets time pass for so many pictures, and returns once all of them have been handed over.
    """

    def __init__(self, period: float = 1.0):
        self.period, self._given, self._due = period, 0, 0
        self._asked, self._ended = False, False
        self._changed = threading.Condition()

    def clock(self) -> float:
        return self._given * self.period

    def produce(self, pictures: int) -> None:
        with self._changed:
            self._due += pictures
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._given == self._due and self._asked, PATIENCE)

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            with self._changed:
                self._asked = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._given < self._due or self._ended)
                if self._given == self._due:
                    return
                self._asked = False
                number, self._given = self._given, self._given + 1
            yield numbered(number)


def result_of(image: np.ndarray) -> CountResult:
    """A result that counts as many people as the picture's number."""
    number = number_of(image)
    zero = np.zeros((1, 1), np.float32)
    size = (image.shape[1], image.shape[0])
    return CountResult(
        number,
        np.zeros((number, 2), np.float32),
        np.ones(number, np.float32),
        zero,
        zero,
        zero,
        interval=(number, number),
        image_size=size,
        _image=image,
    )


def count_numbers(meanwhile: Callable[[], None] = lambda: None) -> Callable[..., Iterator[CountResult]]:
    """What counts pictures in place of a counter; ``meanwhile`` happens during each count."""

    def count_all(images: Iterable[tuple[Any, str]], plan: Any) -> Iterator[CountResult]:
        for image, _ in images:
            meanwhile()
            yield result_of(image)

    return count_all
