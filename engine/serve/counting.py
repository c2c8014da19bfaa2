"""``POST /v1/count``: from a body to an answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from importlib.metadata import version
from typing import IO, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from engine.config import ImageLimits
from engine.counter import CrowdCounter
from engine.errors import ConfigError
from engine.image.decode import Reading, rgb_from_encoded
from engine.serve.answers import JSON, choose_kind, write_answer
from engine.serve.body import INCLUDES, CountWish, check_query, read_body
from engine.serve.desk import Desk, unless_gone
from engine.serve.metrics import Metrics
from engine.serve.problems import BodyError
from engine.serve.settings import ServeSettings
from engine.zones.layout import ZoneLayout

# Stages of a count as the engine names them; its "total" is their sum, and "load" is only a copy here.
_NO_STAGES = ("total", "load")


@dataclass(frozen=True)
class Answered:
    """A body, its media type, and what was counted."""

    body: bytes
    kind: str
    people: int
    stages: dict[str, float]


class CountService:
    """Counts the pictures of requests with one counter.

    Args:
        counter: stays the caller's.
        settings: its limits.

    Attributes:
        model: what counts, for people and metrics.
    """

    def __init__(self, counter: CrowdCounter, settings: ServeSettings):
        self._counter, self._settings = counter, settings
        self._limits = ImageLimits(max_pixels=settings.max_pixels, max_bytes=settings.max_bytes)
        self.desk = Desk(counter.parallel, settings.waiting, settings.timeout)
        shown = ("backend", "device", "compute_type", "steps", "samples")
        self.model: dict[str, Any] = {"model": counter.name, "version": version("crowd-engine")}
        self.model |= {name: value for name, value in counter.settings.items() if name in shown}

    async def answer(self, request: Request, wish: CountWish, metrics: Metrics) -> Answered:
        """Read the body, wait, count and write the answer.

        Raises:
            EngineError: as the engine, and :class:`BusyError` and :class:`BodyError`.
            ClientGoneError: nobody waits for the answer any more.
        """
        start = time.perf_counter()
        with self.desk.place():
            kind = choose_kind(request.headers.get("accept", ""))
            if kind is None:
                raise BodyError("an answer can be application/json, image/png or text/csv", HTTPStatus.NOT_ACCEPTABLE)
            check_query(request)
            self._check(wish)
            file, wish = await read_body(request, wish, self._settings)
            with file:
                self._check(wish)
                # The zones of 1 MiB take a while, in which others are answered.
                layout = await run_in_threadpool(wish.layout)
                job = self.desk.run(lambda: self._count(file, wish, layout, kind))
                answered, waited = await unless_gone(request, job)
        metrics.counts.inc()
        metrics.people.inc(answered.people)
        stages = {"wait": waited, **answered.stages, "request": time.perf_counter() - start}
        for stage, seconds in stages.items():
            metrics.stage.labels(stage).observe(seconds)
        return answered

    def _check(self, wish: CountWish) -> None:
        steps, samples = wish.steps or self.model["steps"], wish.samples or self.model["samples"]
        most = self._settings.max_work
        if steps * samples > most:
            raise ConfigError(f"steps x samples must be at most {most} here, got {steps} x {samples}")
        if wish.include and (unknown := set(wish.include) - set(INCLUDES)):
            raise ConfigError(f"include must be one of {', '.join(INCLUDES)}, got {min(unknown)!r:.40}")

    def _count(self, file: IO[bytes], wish: CountWish, layout: ZoneLayout, kind: str) -> Answered:
        """In a thread of the desk."""
        start = time.perf_counter()
        file.seek(0)
        notes: list[str] = []
        image = rgb_from_encoded(file.read(), "the picture", Reading(self._limits, warn=notes.append))
        decoded = time.perf_counter()
        result = self._counter.count(image, steps=wish.steps, samples=wish.samples, zones=layout)
        result = replace(result, warnings=(*notes, *result.warnings))
        counted = time.perf_counter()
        body = write_answer(result, kind, wish.include if kind == JSON else ())
        stages = {name: seconds / 1e3 for name, seconds in result.timings.items() if name not in _NO_STAGES}
        stages |= {"decode": decoded - start, "answer": time.perf_counter() - counted}
        return Answered(body, kind, result.count, stages)
