"""What Prometheus reads at /metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from engine.serve.streams import StreamRegistry

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Turns(Protocol):
    """Pictures that wait for their turn, and those that are counted now: a :class:`engine.serve.desk.Desk`."""

    @property
    def waiting(self) -> int: ...

    @property
    def running(self) -> int: ...


class Metrics:
    """The numbers of one application, in a registry of its own: several may be in one process.

    Args:
        desk: where requests wait; None where nothing is counted.
        streams: the streams of the application.

    Attributes:
        counts: pictures that were counted.
        people: people in them.
        errors: answers that were errors, by the class of the error.
        stage: seconds of each stage of a request: "wait" for its turn, "decode", those of the count, "answer" (to write
            it), and "request" as a whole.
    """

    def __init__(self, desk: Turns | None, streams: StreamRegistry):
        self.registry = registry = CollectorRegistry()
        self.counts = Counter("crowd_counts", "Pictures counted.", registry=registry)
        self.people = Counter("crowd_people", "People in the pictures counted.", registry=registry)
        self.errors = Counter("crowd_errors", "Requests that failed, by kind of error.", ["kind"], registry=registry)
        self.stage = Histogram(
            "crowd_stage_seconds", "Time of each stage of a request.", ["stage"], registry=registry, buckets=_SECONDS
        )
        waiting = Gauge("crowd_waiting_requests", "Pictures that wait for their turn.", registry=registry)
        running = Gauge("crowd_running_counts", "Pictures that are counted now.", registry=registry)
        if desk:
            waiting.set_function(lambda: desk.waiting)
            running.set_function(lambda: desk.running)
        registry.register(_StreamCollector(streams))

    def describe(self, model: Mapping[str, object]) -> None:
        """Say what counts, as labels of ``crowd_model_info``."""
        labels = {name: str(model[name]) for name in ("model", "version", "backend", "device", "compute_type")}
        Gauge("crowd_model_info", "What counts.", list(labels), registry=self.registry).labels(**labels).set(1)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)


class _StreamCollector(Collector):
    """Reads the newest numbers of each running stream when it is asked for them."""

    def __init__(self, streams: StreamRegistry):
        self._streams = streams

    def collect(self) -> Iterator[Metric]:
        people = GaugeMetricFamily("crowd_stream_people", "People in the newest frame.", labels=["stream"])
        zones = GaugeMetricFamily(
            "crowd_stream_zone_people", "People in a zone of the newest frame.", labels=["stream", "zone"]
        )
        frames = CounterMetricFamily("crowd_stream_frames", "Frames counted.", labels=["stream"])
        dropped = CounterMetricFamily("crowd_stream_dropped", "Frames left out.", labels=["stream"])
        for stream in self._streams.running():
            status = stream.status
            if "count" in status:
                people.add_metric([stream.name], status["count"])
            for zone, number in status.get("zones", {}).items():
                zones.add_metric([stream.name, zone], number)
            frames.add_metric([stream.name], stream.frames)
            dropped.add_metric([stream.name], stream.dropped)
        yield from (people, zones, frames, dropped)
