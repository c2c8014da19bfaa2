"""The answers of the application, as its OpenAPI document describes them, and how a result becomes one."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from engine.drawing.overlay import crowding, heat_of_heads
from engine.result import CountResult
from engine.serve.problems import MEDIA_TYPE
from engine.system.text import json_text

JSON, CSV, PNG = "application/json", "text/csv", "image/png"
_PREVIEW_SIDE = 2048


class CountAnswer(BaseModel):
    """The people in one picture: what ``CountResult.to_json()`` has."""

    model_config = ConfigDict(extra="forbid")

    count: int = Field(description="number of people")
    interval: tuple[int, int] = Field(description="low and high, whole people")
    points: list[tuple[float, float]] = Field(description="(x, y) of each head in pixels of the upright picture")
    scores: list[float] = Field(description="height of each head's peak")
    zones: dict[str, int] = Field(description="people in each zone")
    zone_intervals: dict[str, tuple[int, int]] = Field(description="low and high of the people in each zone")
    lines: dict[str, tuple[int, int]] = Field(description="people on the left and on the right of each line")
    image_size: tuple[int, int] = Field(description="width and height of the upright picture")
    timings: dict[str, float] = Field(description="milliseconds of each stage")
    warnings: list[str] = Field(description="what may make this count less reliable")
    maps: dict[str, str] | None = Field(
        None, description='with include=maps: "heat" and "uncertainty", grey PNG, base64'
    )
    picture: str | None = Field(None, description="with include=picture: the upright picture, JPEG, base64")


class ModelAnswer(BaseModel):
    """What counts, if anything does, and within which limits."""

    counts: bool
    edits_zones: bool = Field(description="whether a file of zones is edited, at /v1/zone-file")
    model: str = ""
    version: str
    backend: str = ""
    device: str = ""
    compute_type: str = ""
    steps: int = Field(0, description="denoising steps, where a request names none")
    samples: int = Field(0, description="noise samples, where a request names none")
    max_bytes: int = Field(description="of a request")
    max_pixels: int = Field(description="of a picture")
    max_work: int = Field(description="noise samples times steps of a request")


class StreamAnswer(BaseModel):
    """A running stream, and what was counted in its newest frame."""

    name: str
    title: str
    frames: int
    dropped: int
    status: dict[str, object]


class ProblemAnswer(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="what was got, what was expected and what to do")
    kind: str = Field(description="class of the error")


def problems(texts: Mapping[int | str, str]) -> dict[int | str, dict[str, Any]]:
    """The errors of an address for its description, from what each status says."""
    content = {MEDIA_TYPE: {"schema": ProblemAnswer.model_json_schema()}}
    return {status: {"description": text, "content": content} for status, text in texts.items()}


def choose_kind(accept: str) -> str | None:
    """What of JSON, PNG and CSV an Accept header wants most; None for none of them.

    >>> choose_kind("text/html, image/*;q=0.8, */*;q=0.1"), choose_kind(""), choose_kind("text/html")
    ('image/png', 'application/json', None)
    """
    best: tuple[float, str | None] = (0.0, None)
    for part in accept.split(",") if accept.strip() else ["*/*"]:
        wanted, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = _weight(parameters)
        for kind in (JSON, PNG, CSV):
            if wanted in (kind, kind.partition("/")[0] + "/*", "*/*") and weight > best[0]:
                best = weight, kind
    return best[1]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def write_answer(result: CountResult, kind: str, include: tuple[str, ...] = ()) -> bytes:
    """A result as the body of an answer of that kind."""
    if kind == PNG:
        return result.encode(".png")
    if kind == CSV:
        return result.encode(".csv")
    if not include:
        return result.to_json().encode()
    answer = result.to_dict()
    if "maps" in include:
        maps = {"heat": result.heatmap, "uncertainty": result.uncertainty}
        answer["maps"] = {name: _map_text(heat_of_heads(crowding(values))) for name, values in maps.items()}
    if "picture" in include and result._image is not None:
        picture = Image.fromarray(result._image)
        picture.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
        answer["picture"] = _text(picture, "JPEG", quality=88)
    return json_text(answer).encode()


def _map_text(values: np.ndarray) -> str:
    """A map in [0, 1] as a grey picture."""
    return _text(Image.fromarray(np.rint(values * 255).astype(np.uint8)), "PNG", compress_level=1)


def _text(picture: Image.Image, kind: str, **options: int) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode()
