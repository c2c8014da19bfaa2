"""The application: every address that is answered."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from engine.counter import CrowdCounter
from engine.serve import count_routes, live_routes, zone_routes
from engine.serve.counting import CountService
from engine.serve.gate import Gate
from engine.serve.head import HeadAsGet
from engine.serve.metrics import CONTENT_TYPE, Metrics
from engine.serve.problems import answer_errors
from engine.serve.read_to_end import ReadToEnd
from engine.serve.secret_path import SecretPath
from engine.serve.settings import ServeSettings
from engine.serve.streams import StreamRegistry
from engine.serve.zone_file import ZoneFile

_PAGE = Path(__file__).parent / "page"


def create_app(
    counter: CrowdCounter | None,
    settings: ServeSettings | None = None,
    streams: StreamRegistry | None = None,
    zone_file: ZoneFile | None = None,
) -> FastAPI:
    """The application, for any ASGI server.

    Args:
        counter: what counts, made with ``performance="throughput"`` on a CPU; None for streams alone. It stays the
            caller's, to be closed after the application has ended.
        settings: limits, names and the token. Where it listens is the server's affair; but whether that is the
            loopback address decides by which names it may be called.
        streams: what the page shows as live.
        zone_file: what the page edits.
    """
    settings, streams = settings or ServeSettings(), streams or StreamRegistry()
    service = CountService(counter, settings) if counter else None
    metrics = Metrics(service.desk if service else None, streams)
    if service:
        metrics.describe(service.model)

    app = _empty_app(streams, service)
    answer_errors(app, metrics)
    count_routes.add_count(app, service, metrics)
    count_routes.add_model(app, service, settings, zone_file is not None)
    _add_health(app, service, metrics)
    live_routes.add(app, streams)
    zone_routes.add(app, zone_file)
    _add_page(app)
    if settings.secret_path:
        app.add_middleware(SecretPath, secret=settings.secret_path)
    app.add_middleware(Gate, settings=settings)
    app.add_middleware(ReadToEnd, settings=settings)
    # The last one is asked first.
    app.add_middleware(HeadAsGet)
    return app


def _empty_app(streams: StreamRegistry, service: CountService | None) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        streams.close()
        if service:
            service.desk.close()

    app = FastAPI(
        title="crowd",
        version=version("crowd-engine"),
        description="Counts the people in pictures, and says where each one is and how sure it is.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.streams = streams
    return app


def _add_health(app: FastAPI, service: CountService | None, metrics: Metrics) -> None:
    @app.get("/healthz", summary="Whether the process answers", response_class=Response)
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", summary="Whether a picture would be taken now", response_class=Response)
    async def readyz() -> Response:
        full = service is not None and service.desk.is_full
        return Response("full\n" if full else "ready\n", 503 if full else 200, media_type="text/plain")

    @app.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    async def read_metrics() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)


def _add_page(app: FastAPI) -> None:
    def add(path: str, file: str) -> None:
        async def page() -> Response:
            return FileResponse(_PAGE / file, headers={"Cache-Control": "no-cache"})

        app.add_api_route(path, page, include_in_schema=False)

    for path, file in {"/": "index.html", "/docs": "docs.html", "/signin": "signin.html"}.items():
        add(path, file)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return RedirectResponse("page/icon.svg")

    app.mount("/page", StaticFiles(directory=_PAGE))
