"""The queue at the counter: a bounded number of requests wait, and as many are counted at once as it can."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from engine.errors import EngineError
from engine.serve.problems import BusyError, ClientGoneError

ResultT = TypeVar("ResultT")


class Desk:
    """Gives requests their turns, in the order in which they came.

    Args:
        parallel: pictures that are counted at once.
        waiting: requests that may wait besides.
        timeout: seconds that one may wait.

    Attributes:
        inside: requests that have a place now.
    """

    def __init__(self, parallel: int, waiting: int, timeout: float):
        self.inside = 0
        # Jobs that wait for their turn, and those that are counted, also for clients that are gone.
        self._waiting, self._running = set[object](), set[object]()
        self._most, self._timeout = parallel + waiting, timeout
        # One more than are counted at once, so that no thread waits for the event loop to hand it the next.
        self._turns = asyncio.Semaphore(parallel + 1)
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="crowd-count")

    @property
    def is_full(self) -> bool:
        """Whether there is no place left."""
        return self.inside >= self._most

    @property
    def waiting(self) -> int:
        """Pictures that wait for their turn."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Pictures that are counted."""
        return len(self._running)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place, from the first byte of a request to its answer.

        Raises:
            BusyError: there is none left.
        """
        if self.is_full:
            raise BusyError(f"the server has {self.inside} requests, as many as it may hold; try again in a second")
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def run(self, job: Callable[[], ResultT]) -> tuple[ResultT, float]:
        """Run ``job`` in a thread, in its turn; its result, and the seconds that it waited.

        May be cancelled: a job that waits is then never run, and one that runs keeps its turn to its end.

        Raises:
            BusyError: its turn did not come in time.
            EngineError: the application is ending.
        """
        ticket = object()
        self._waiting.add(ticket)
        try:
            return await self._run(job, ticket)
        finally:
            # It may have been cancelled while it waited.
            self._waiting.discard(ticket)

    async def _run(self, job: Callable[[], ResultT], ticket: object) -> tuple[ResultT, float]:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                await self._turns.acquire()
        except TimeoutError:
            raise BusyError(f"no turn came in {self._timeout:g} s; try again later") from None
        loop = asyncio.get_running_loop()
        waited = 0.0

        def work() -> ResultT:
            nonlocal waited
            waited = time.perf_counter() - start
            self._running.add(ticket)
            self._waiting.discard(ticket)
            try:
                return job()
            finally:
                self._running.discard(ticket)

        try:
            future = self._pool.submit(work)
        except RuntimeError as error:
            self._turns.release()
            raise EngineError("the server is ending") from error
        future.add_done_callback(lambda _: _tell(loop, self._turns.release))
        return await asyncio.wrap_future(future), waited

    def close(self) -> None:
        """Wait for what runs; nothing can be run afterwards."""
        self._pool.shutdown()


async def unless_gone(request: Request, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The result of ``work``, which is cancelled when the client goes away.

    The request's body must have been read.

    Raises:
        ClientGoneError: it went.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(until_gone(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def until_gone(receive: Receive) -> None:
    """Wait until the client of a request has gone away."""
    while (await receive())["type"] != "http.disconnect":
        continue


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        # The loop has ended, and with it the requests that waited.
        return
