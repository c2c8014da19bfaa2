"""A counter whose streams have the frames that a test gives, and ``crowd stream`` with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cameras import result_of
from videos import numbered

from engine.cli import main
from engine.stream.frame import FrameResult


class StandInStream:
    """Frame N has N people, and comes at N / 10 s; ``end`` is raised after the last."""

    def __init__(self, numbers: list[int], end: BaseException | None):
        self._numbers, self._end, self.dropped, self.closed = iter(numbers), end, 2, False

    def __iter__(self) -> Iterator[FrameResult]:
        return self

    def __next__(self) -> FrameResult:
        number = next(self._numbers, None)
        if number is None:
            if self._end:
                raise self._end
            raise StopIteration
        warnings = ("it was dark",) if number == 5 else ()
        return FrameResult(number, number / 10, int(number == 5), result_of(numbered(number)), False, warnings)

    def __enter__(self) -> StandInStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


class StandInCounter:
    last: StandInCounter

    def __init__(self, numbers: list[int], end: BaseException | None, **options: Any):
        self.options, self.closed = options, False
        self.numbers, self.end = numbers, end
        StandInCounter.last = self

    def stream(self, source: Any, **options: Any) -> StandInStream:
        self.source, self.stream_options = source, options
        self.opened = StandInStream(self.numbers, self.end)
        return self.opened

    def close(self) -> None:
        self.closed = True


def crowd(*arguments: Any, numbers: tuple[int, ...] = (3, 5, 4), end: BaseException | None = None) -> int:
    def factory(**options: Any) -> StandInCounter:
        return StandInCounter(list(numbers), end, **options)

    return main(["stream", *map(str, arguments)], counter_factory=factory)
