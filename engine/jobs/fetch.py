"""Pictures by their address: read because the user named them, within limits, and from public networks alone."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import url2pathname

from engine.errors import ConfigError, EngineError, ImageError
from engine.jobs.networks import REFUSED, public_socket
from engine.jobs.row import Entry
from engine.jobs.sources import Source, open_source
from engine.system.addresses import hide_password, hide_passwords

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
SCHEMES = ("http", "https", "s3", "gs")
# What may be otherwise a moment later, as every error of a server's own (5xx).
_TRY_AGAIN = {408, 429}


@dataclass(frozen=True)
class FetchLimits:
    """What reading one address may take.

    Attributes:
        timeout: seconds, for each attempt.
        max_bytes: of a picture.
        retries: further attempts, after 1, 2, 4... seconds, where the failure may pass.
        allow_private: read from addresses of private networks and of this machine, too.
        at_once: addresses that are read ahead at the same time.

    Raises:
        ConfigError: a limit is not positive.
    """

    timeout: float = 30.0
    max_bytes: int = 64 << 20
    retries: int = 3
    allow_private: bool = False
    at_once: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.timeout < 86400 or self.max_bytes < 1 or self.retries < 0 or self.at_once < 1:
            raise ConfigError(f"a time-out is up to a day, and sizes and numbers are positive, got {self}")


def is_address(file: str) -> bool:
    """Whether ``file`` is an address and no path.

    >>> is_address("s3://bucket/a.jpg"), is_address("photos/a.jpg"), is_address("C:\\\\photos\\\\a.jpg")
    (True, False, False)
    """
    return _ADDRESS.match(file) is not None


class Fetcher:
    """Reads pictures by path or address; a context manager. It connects to nothing but what it is asked to read.

    http and https are read with aiohttp, s3 with s3fs and gs with gcsfs, which take their credentials, regions and
    endpoints from where their users keep them. Connections are refused to private networks, loopback, link-local and
    reserved addresses, whatever name or redirection leads there, unless the limits allow them.
    """

    def __init__(self, limits: FetchLimits | None = None):
        self.limits = limits or FetchLimits()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sources: dict[str, Source] = {}
        self._lock = threading.Lock()

    def begin(self, file: str) -> Callable[[], str | bytes]:
        """Begin to read an address; what is returned waits for its bytes, or gives a path as it is.

        That raises ImageError where they cannot be read.
        """
        if not file:
            return _nothing
        if not (match := _ADDRESS.match(file)):
            return lambda: file
        scheme = match[1].lower()
        if scheme == "file":
            return lambda: _local_path(file)
        if scheme not in SCHEMES:
            return lambda: _refuse_scheme(scheme)
        future = asyncio.run_coroutine_threadsafe(self._read(scheme, file), self._running_loop())
        return lambda: _waited(future)

    def read(self, file: str) -> str | bytes:
        """The bytes behind an address, or a path as it is.

        Raises:
            ImageError: they cannot be read.
            EngineError: the packages that read such addresses are not installed.
        """
        return self.begin(file)()

    def read_ahead(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Callable[[], str | bytes]]]:
        """Each entry with what waits for its picture; the next ``limits.at_once`` are being read meanwhile."""
        ahead: deque[tuple[Entry, Callable[[], str | bytes]]] = deque()
        for entry in entries:
            ahead.append((entry, self.begin(entry.file)))
            if len(ahead) > self.limits.at_once:
                yield ahead.popleft()
        yield from ahead

    def close(self) -> None:
        """End what is still being read, and close the connections."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result()
            loop.call_soon_threadsafe(loop.stop)

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(self._loop,), name="crowd-fetch", daemon=True).start()
            return self._loop

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for source in self._sources.values():
            await source.close()
        self._sources.clear()

    async def _read(self, scheme: str, address: str) -> bytes:
        source, reason = self._source(scheme), ""
        for attempt in range(self.limits.retries + 1):
            try:
                return await asyncio.wait_for(source.read(address), self.limits.timeout)
            except EngineError:
                raise
            except Exception as error:
                reason = hide_passwords(self._reason(error), [address])
                if not _may_pass(error, source.broken):
                    break
            if attempt < self.limits.retries:
                await asyncio.sleep(2.0**attempt)
        # Outside of the handler, and from nothing: what libraries raise holds the whole address.
        raise ImageError(f"it cannot be read: {reason}")

    def _source(self, scheme: str) -> Source:
        if scheme not in self._sources:
            make_socket = public_socket(self.limits.allow_private)
            try:
                self._sources[scheme] = open_source(scheme, self.limits.max_bytes, self.limits.timeout, make_socket)
            except ModuleNotFoundError as error:
                raise EngineError(f"{scheme}:// needs {error.name}: pip install 'crowd-engine[cloud]'") from error
        return self._sources[scheme]

    def _reason(self, error: Exception) -> str:
        if refused := _refusal(error):
            return refused
        if isinstance(error, TimeoutError):
            return f"no answer within {self.limits.timeout:g} s (--timeout)"
        if (status := getattr(error, "status", None)) is not None:
            return f"HTTP status {status} {getattr(error, 'message', '')}".rstrip()
        return f"{type(error).__name__}: {error}"


def _may_pass(error: Exception, broken: tuple[type[Exception], ...]) -> bool:
    """Whether another attempt may succeed; ``broken`` are a source's errors of connections that broke off."""
    if isinstance(error, FileNotFoundError | PermissionError) or _refusal(error):
        return False
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(status, int):
        return status in _TRY_AGAIN or status >= 500
    return isinstance(error, (OSError, TimeoutError, EOFError, *broken))


def _refusal(error: BaseException | None) -> str:
    """Why the connection behind ``error`` was refused here; empty where it was not. Libraries wrap what they get."""
    while error is not None:
        if isinstance(error, OSError) and REFUSED in (error.strerror or ""):
            return error.strerror or ""
        error = error.__cause__ or error.__context__
    return ""


def _waited(future: Future[bytes]) -> bytes:
    try:
        return future.result()
    except CancelledError as error:
        raise ImageError("reading it was ended") from error


def _nothing() -> bytes:
    raise ImageError("the manifest has no address here")


def _refuse_scheme(scheme: str) -> bytes:
    raise ImageError(f"{scheme}:// is not read; expected a path, or an address of {', '.join(SCHEMES)}")


def _local_path(address: str) -> str:
    # Not with urlsplit alone: it refuses some passwords, and says them.
    place, _, _ = address.partition("://")[2].partition("/")
    if place not in ("", "localhost"):
        raise ImageError(f"{hide_password(address)} is a file of another machine; give a path of this one")
    return url2pathname(urlsplit(address).path)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
