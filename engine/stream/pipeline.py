"""Reading and counting at the same time: one thread fetches frames, the caller's counts them."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Any

from engine.counting.stitching import CountPlan
from engine.errors import SourceError
from engine.result import CountResult
from engine.stream.frame import Frame, FrameResult
from engine.stream.mailbox import Mailbox
from engine.stream.sources import Source
from engine.stream.warm_start import WarmStart

# Seconds that closing waits for the reading thread. One that hangs in a driver is left to itself: it is a daemon.
_CLOSE_TIMEOUT = 2.0


class FrameReader:
    """Reads a source in a thread of its own.

    Attributes:
        is_live: of the source.
        mailbox: where its frames lie until they are counted.
    """

    def __init__(self, source: Source):
        self._source = source
        self.is_live = source.is_live
        self.mailbox = Mailbox(newest=source.is_live)
        self._thread = threading.Thread(target=_read, args=(source, self.mailbox), name="crowd-reader", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        """The frames, until the source ends or is closed.

        Raises:
            SourceError: the source failed, or a frame is overdue.
            Exception: what an iterable raised.
        """
        source = self._source
        while True:
            try:
                frame = self.mailbox.take(source.timeout)
            except TimeoutError:
                raise SourceError(f"{source.name} gave no frame for {source.timeout:g} s") from None
            if frame is None:
                return
            yield frame

    def close(self) -> None:
        """Stop reading. Closing twice, or from another thread, is harmless."""
        self._source.close()
        self.mailbox.close()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_TIMEOUT)


def _read(source: Source, mailbox: Mailbox) -> None:
    frames = source.frames()
    try:
        for frame in frames:
            if not mailbox.put(frame):
                break
    except BaseException as error:
        # Raised where the frames are counted.
        mailbox.finish(error)
    else:
        mailbox.finish()
    finally:
        # Frees the container in the thread that reads it.
        frames.close()


CountAll = Callable[[Iterable[tuple[Any, str]], CountPlan], Iterator[CountResult]]


def count_frames(
    reader: FrameReader, plan: CountPlan, warm: WarmStart | None, count_all: CountAll
) -> Generator[FrameResult, None, None]:
    """Count what a reader reads.

    Args:
        plan: of each count.
        warm: plans each count in its place.
        count_all: counts images, each with its channel order, in their order.
    """
    try:
        # The backend may take the next frame before it gives the result of this one. From a camera, that would be to
        # wait for it; and a warm start needs the result.
        batches = ([frame] for frame in reader) if reader.is_live or warm else [reader]
        for batch in batches:
            yield from _count_batch(batch, plan, warm, count_all)
    finally:
        reader.close()


def _count_batch(
    frames: Iterable[Frame], plan: CountPlan, warm: WarmStart | None, count_all: CountAll
) -> Generator[FrameResult, None, None]:
    taken: deque[Frame] = deque()

    def images() -> Iterator[tuple[Any, str]]:
        for frame in frames:
            taken.append(frame)
            yield frame.image, "rgb"

    if warm:
        (first,) = frames
        plan = warm.plan(first.image)
    is_warm = warm is not None and plan.start is not None
    for result in count_all(images(), plan):
        frame = taken.popleft()
        if warm:
            warm.learn(result)
        yield frame.counted(result, is_warm)


class CountStream:
    """The results of a stream, frame by frame: an iterator, and a context manager that closes it.

    It may be closed from any thread: a thread that waits for the next result then gets the end.

    Attributes:
        is_live: frames are dropped rather than waited for.
    """

    def __init__(self, reader: FrameReader, results: Generator[FrameResult, None, None]):
        self.is_live = reader.is_live
        self._reader, self._results = reader, results
        # A stream that is forgotten half-way must not go on reading.
        self._finalizer = weakref.finalize(self, reader.close)

    @property
    def dropped(self) -> int:
        """Frames of a live source that were left out so far, because counting took longer than a frame."""
        return self._reader.mailbox.dropped

    def __iter__(self) -> CountStream:
        return self

    def __next__(self) -> FrameResult:
        try:
            return next(self._results)
        except BaseException:
            # Also at the end: the reading thread is over then.
            self._reader.close()
            raise

    def close(self) -> None:
        """Stop; closing twice is harmless."""
        self._finalizer()
        # Another thread may be inside it, and will find the end.
        with suppress(ValueError):
            self._results.close()

    def __enter__(self) -> CountStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
