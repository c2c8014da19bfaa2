"""The addresses that count, and say what counts."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from engine.serve.answers import CSV, PNG, CountAnswer, ModelAnswer, problems
from engine.serve.body import CountWish
from engine.serve.counting import CountService
from engine.serve.metrics import Metrics
from engine.serve.settings import ServeSettings

_BINARY = {"type": "string", "format": "binary"}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_WHOLE = {"type": "integer", "minimum": 1, "maximum": 1000}
_FORM = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": _BINARY,
        "zones": {"type": "string"},
        **dict.fromkeys(("zone", "line", "ignore", "include"), _TEXTS),
        **dict.fromkeys(("steps", "samples"), _WHOLE),
    },
}
_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
        "multipart/form-data": {"schema": _FORM},
    },
}
_PROBLEMS = problems(
    {
        400: "a parameter is not valid",
        406: "the answer cannot be of the kind that Accept asks for",
        408: "the body came too slowly",
        413: "the body is too large",
        422: "the picture cannot be read",
        503: "the server is full; Retry-After says when to try again",
    }
)
_Whole = Annotated[int | None, Query(ge=1, le=1000)]
_Zones = Annotated[str | None, Query(description="zones and lines as JSON, as a file of --zones has them")]
_Zone = Annotated[list[str], Query(description="NAME=x,y x,y x,y ... in pixels, or NAME=x%,y% ...")]
_Line = Annotated[list[str], Query(description="NAME=x,y x,y: people on each side of it")]
_Ignore = Annotated[list[str], Query(description="as zone: nobody counts there")]
_Include = Annotated[list[str], Query(description="maps, picture")]


def add_count(app: FastAPI, service: CountService | None, metrics: Metrics) -> None:
    """Add ``POST /v1/count``."""

    @app.post(
        "/v1/count",
        summary="Count the people in a picture",
        response_model=CountAnswer,
        responses={200: {"content": {PNG: {}, CSV: {}}}, **_PROBLEMS},
        openapi_extra={"requestBody": _BODY},
    )
    async def count(
        request: Request,
        steps: _Whole = None,
        samples: _Whole = None,
        zones: _Zones = None,
        zone: _Zone = [],  # noqa: B006
        line: _Line = [],  # noqa: B006
        ignore: _Ignore = [],  # noqa: B006
        include: _Include = [],  # noqa: B006
    ) -> Response:
        """The body is the picture itself, or a form with the picture as its file "image" and the parameters as fields.

        Accept chooses the answer: application/json (what `crowd count --json` writes), image/png (the picture with
        heads, heat map and zones drawn on it) or text/csv (the heads: x, y, score).
        """
        if service is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this server shows streams and counts no pictures")
        wish = CountWish(steps, samples, zones, tuple(zone), tuple(line), tuple(ignore), tuple(include))
        answered = await service.answer(request, wish, metrics)
        return Response(answered.body, media_type=answered.kind, headers={"Vary": "Accept"})


def add_model(app: FastAPI, service: CountService | None, settings: ServeSettings, edits_zones: bool) -> None:
    """Add ``GET /v1/model``."""

    @app.get("/v1/model", summary="What counts, and within which limits")
    async def model() -> ModelAnswer:
        return ModelAnswer(
            counts=service is not None,
            edits_zones=edits_zones,
            max_bytes=settings.max_bytes,
            max_pixels=settings.max_pixels,
            max_work=settings.max_work,
            **(service.model if service else {"version": version("crowd-engine")}),
        )
