"""The body of a request to count: a picture and what is to be counted in it, within limits of size and time."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import IO, Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from engine.errors import ConfigError, ImageError
from engine.serve.problems import BodyError, ClientGoneError
from engine.serve.settings import ServeSettings
from engine.zones.inputs import extend_layout, parse_layout
from engine.zones.layout import NO_ZONES, ZoneLayout

# A body of up to so many bytes stays in memory, as Starlette does with the files of a form; larger ones wait on disk.
_IN_MEMORY = 1 << 20
# Bytes of a form's fields other than the picture, together; the zones are the largest.
_MOST_FIELD = 1 << 20
_MOST_FIELDS = 2100
_SMALL_SECONDS = 30.0
INCLUDES = ("maps", "picture")
# What may be asked for once, and what may be asked for again and again.
_ONE, _MANY = ("steps", "samples", "zones"), ("zone", "line", "ignore", "include")


@dataclass(frozen=True)
class CountWish:
    """What a request asks for besides its picture, as text, not yet checked.

    Attributes:
        zones: a layout as JSON, as a file of ``--zones`` has it.
        zone, line, ignore: shapes of the command line.
        include: what else is answered: "maps", "picture".
    """

    steps: int | None = None
    samples: int | None = None
    zones: str | None = None
    zone: tuple[str, ...] = ()
    line: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    include: tuple[str, ...] = ()

    def layout(self) -> ZoneLayout:
        """The zones and lines.

        Raises:
            ConfigError: they are not valid, or one is there twice.
        """
        read = NO_ZONES if self.zones is None else parse_layout(self.zones.encode(), "the zones")
        return extend_layout(read, self.zone, self.line, self.ignore)


async def read_body(request: Request, wish: CountWish, settings: ServeSettings) -> tuple[IO[bytes], CountWish]:
    """The picture, in a file that the caller closes, and the wish with the fields of the form, which go first.

    Raises:
        BodyError: it is too large, comes too slowly, or has no picture.
        ConfigError: a field is not valid.
        ClientGoneError: the client went away.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    async with _within(request, settings.max_bytes, settings.timeout):
        if kind == "multipart/form-data":
            return await _read_form(request, wish)
        return await _read_raw(request), wish


@contextlib.asynccontextmanager
async def _within(request: Request, most: int, seconds: float) -> AsyncIterator[None]:
    """Around the reading of a body of at most ``most`` bytes.

    Raises:
        BodyError: it is larger, or does not come within ``seconds``.
        ClientGoneError: the client went away.
    """
    _limit(request, most)
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise BodyError(f"the body did not come in {seconds:g} s", HTTPStatus.REQUEST_TIMEOUT) from None
    except ClientDisconnect as error:
        raise ClientGoneError from error


async def _read_raw(request: Request) -> IO[bytes]:
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
    try:
        async for chunk in request.stream():
            file.write(chunk)
        if not file.tell():
            raise ImageError("the body is empty; send a picture")
    except BaseException:
        file.close()
        raise
    return file


async def _read_form(request: Request, wish: CountWish) -> tuple[IO[bytes], CountWish]:
    try:
        form = await request.form(max_files=1, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD)
    except HTTPException as error:
        message = (
            f"the form cannot be read: {error.detail.rstrip('.')}; its one file is the image, other fields are text"
        )
        raise BodyError(message, HTTPStatus.BAD_REQUEST) from error
    except UnicodeError as error:
        # Some of Python's encodings are none of text.
        raise BodyError(f"the form cannot be read: {error}", HTTPStatus.BAD_REQUEST) from error
    image = form.get("image")
    if not isinstance(image, UploadFile):
        await form.close()
        raise BodyError('the form has no file "image"; add the picture under that name', HTTPStatus.BAD_REQUEST)
    try:
        return image.file, _with_fields(wish, form)
    except BaseException:
        await form.close()
        raise


def check_query(request: Request) -> None:
    """Refuse an address that names something without a meaning, or one thing twice.

    Raises:
        ConfigError: it does.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        _check_name("address", name, names.count(name))


def _with_fields(wish: CountWish, form: FormData) -> CountWish:
    texts = [(name, str(value)) for name, value in form.multi_items() if name != "image"]
    if sum(len(value) for _, value in texts) > _MOST_FIELD:
        message = f"the fields beside the picture are larger than {_MOST_FIELD >> 20} MiB together"
        raise BodyError(message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    fields: dict[str, Any] = {}
    for name in dict(texts):
        values = tuple(value for other, value in texts if other == name)
        _check_name("form", name, len(values))
        if name in _MANY:
            fields[name] = values
        else:
            fields[name] = values[0] if name == "zones" else _whole(name, values[0])
    return replace(wish, **fields)


def _check_name(where: str, name: str, times: int) -> None:
    if name not in (*_ONE, *_MANY):
        raise ConfigError(f"the {where} has an unknown field {name!r:.80}; known are {', '.join((*_ONE, *_MANY))}")
    if name in _ONE and times > 1:
        raise ConfigError(f"the {where} has more than one field {name!r}")


def _whole(name: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise ConfigError(f"{name} must be a whole number, got {text!r:.40}")
    return int(text)


def _limit(request: Request, most: int) -> None:
    """Make reading more than ``most`` bytes of the body an error."""
    announced = request.headers.get("content-length", "")
    message = f"the body is larger than the limit of {most >> 20 or most / (1 << 20):g} MiB; shrink the picture"
    if announced.isdecimal() and int(announced) > most:
        raise BodyError(message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    receive, got = request.receive, 0

    async def limited() -> Message:
        nonlocal got
        event = await receive()
        got += len(event.get("body", b""))
        if got > most:
            raise BodyError(message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return event

    request._receive = limited


async def read_small(request: Request) -> bytes:
    """A body of at most 1 MiB.

    Raises:
        BodyError: it is larger, or comes too slowly.
        ClientGoneError: the client went away.
    """
    async with _within(request, _MOST_FIELD, _SMALL_SECONDS):
        return await request.body()
