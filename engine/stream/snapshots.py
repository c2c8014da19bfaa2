"""Addresses that answer with a single picture, as IP cameras and door bells offer them: asked again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np

from engine.config import ImageLimits
from engine.errors import ImageError, SourceError
from engine.image.load import load_image
from engine.stream.video import Picture
from engine.system.addresses import hide_password, hide_passwords

# Seconds between two looks at whether to stop.
_NAP = 0.1
_CHUNK = 1 << 16


class Snapshots:
    """Pictures of an address that has one at a time; a :class:`engine.stream.live.Connection`.

    Args:
        ask: gets the picture, uint8 [H, W, 3]; raises SourceError.
        every: seconds from one question to the next; a slow answer delays the next question, it adds none.
        first: an answer that is there already.
    """

    def __init__(
        self,
        ask: Callable[[], np.ndarray],
        every: float,
        first: np.ndarray | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._ask, self._every, self._first = ask, every, first
        self._clock, self._sleep = clock, sleep

    def pictures(self, check: Callable[[], None]) -> Iterator[Picture]:
        """One picture for each answer, without end.

        Raises:
            SourceError: as ``ask``.
        """
        while True:
            asked = self._clock()
            pixels, self._first = self._ask() if self._first is None else self._first, None
            yield Picture(None, partial(np.asarray, pixels), ())
            while (left := asked + self._every - self._clock()) > 0:
                check()
                self._sleep(min(left, _NAP))
            check()

    def close(self) -> None:
        """Nothing is open between two questions."""


def take_snapshot(url: str, timeout: float, limits: ImageLimits) -> np.ndarray:
    """The picture that an address answers with, uint8 [H, W, 3].

    Args:
        url: http or https; user and password in it are used for basic and digest authentication.
        timeout: seconds for the whole answer.

    Raises:
        SourceError: no answer in time, an error in place of one, something else than a picture, or one outside
            ``limits``.
    """
    name = hide_password(url)
    try:
        return load_image(_fetch(url, timeout, limits), limits=limits)
    except ImageError as error:
        problem = str(error)
    except OSError as error:
        # Only the reason or status of an error of urllib is shown: the rest may hold the address, and so passwords.
        problem = hide_passwords(str(getattr(error, "reason", None) or error), [url])
        if isinstance(error, HTTPError):
            error.close()
            problem = f"HTTP status {error.code} {problem}"
    except Exception as error:
        # The text is no address, or the answer is not HTTP.
        problem = f"no HTTP there, or no address ({type(error).__name__})"
    # Outside of the handlers, so that the error's context does not hold the address.
    raise SourceError(f"{name} gave no picture: {problem}")


def _fetch(url: str, timeout: float, limits: ImageLimits) -> bytes:
    deadline = time.monotonic() + timeout
    with _opener(url).open(_without_password(url), timeout=timeout) as answer:
        # Some cameras do not say what it is; a film would have no end.
        kind = answer.headers.get("Content-Type", "image/unknown")
        if not kind.lower().startswith(("image/", "application/octet-stream")):
            raise ImageError(f"it answers with {kind}")
        data = bytearray()
        while chunk := answer.read1(_CHUNK):
            data += chunk
            if len(data) > limits.max_bytes:
                raise ImageError(f"it is of more than {limits.max_bytes} bytes")
            if time.monotonic() > deadline:
                raise ImageError(f"it was not complete in {timeout:g} s")
    return bytes(data)


def _opener(url: str) -> Any:
    """Opens http and https alone, whatever it is redirected to."""
    from urllib import request

    parts, passwords = urlsplit(url), request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        passwords.add_password(None, _without_password(url), unquote(parts.username), unquote(parts.password or ""))
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        request.HTTPRedirectHandler(),
        request.HTTPDigestAuthHandler(passwords),
        request.HTTPBasicAuthHandler(passwords),
    ):
        opener.add_handler(handler)
    return opener


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
