"""Reads addresses: http and https with aiohttp, s3 with s3fs, gs with gcsfs. Everything here runs in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol

from engine.errors import ImageError
from engine.jobs.networks import SocketFactory

if TYPE_CHECKING:
    import aiohttp

_REDIRECTS, _CHUNK = 5, 1 << 18


class Source(Protocol):
    """Reads the addresses of one scheme.

    Attributes:
        broken: errors of a connection that could not be made or broke off, within a picture too, as far as they are no
            OSError.
    """

    broken: tuple[type[Exception], ...]

    async def read(self, address: str) -> bytes:
        """All bytes; ImageError where there are more than the limit."""

    async def close(self) -> None:
        """Close the connections."""


class _Web:
    """http and https."""

    def __init__(self, max_bytes: int, make_socket: SocketFactory):
        import aiohttp

        self._max_bytes, self.broken = max_bytes, _broken_web()
        # Proxies and passwords of the environment are left out: through a proxy nobody sees where a connection leads.
        connector = aiohttp.TCPConnector(socket_factory=make_socket)
        headers = {"User-Agent": "crowd-engine"}
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout)

    async def read(self, address: str) -> bytes:
        import aiohttp

        try:
            # aiohttp gives up at the redirection of this number.
            async with self._session.get(address, max_redirects=_REDIRECTS + 1, raise_for_status=True) as response:
                return await self._body(response)
        except aiohttp.TooManyRedirects:
            pass
        # Outside of the handler: what aiohttp raises holds the whole address.
        raise ImageError(f"it cannot be read: TooManyRedirects: more than {_REDIRECTS} redirections")

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        _check_size(response.content_length or 0, self._max_bytes)
        data = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            data += chunk
            _check_size(len(data), self._max_bytes)
        return bytes(data)

    async def close(self) -> None:
        await self._session.close()


class _Bucket:
    """A file system of fsspec, for objects in buckets."""

    def __init__(self, files: Any, max_bytes: int, broken: tuple[type[Exception], ...]):
        self._files, self._max_bytes, self._lock = files, max_bytes, asyncio.Lock()
        self.broken = broken

    async def read(self, address: str) -> bytes:
        # One after the other: the first makes the session.
        async with self._lock:
            await self._open_session()
        # One byte more than the limit tells that there is more.
        data: bytes = await self._files._cat_file(address, start=0, end=self._max_bytes + 1)
        _check_size(len(data), self._max_bytes)
        return data

    async def _open_session(self) -> None:
        open_session = getattr(self._files, "set_session", None) or self._files._set_session
        await open_session()

    async def close(self) -> None:
        client = getattr(self._files, "_s3", None) or getattr(self._files, "_session", None)
        if client is not None:
            with contextlib.suppress(Exception):
                await client.close()


def open_source(scheme: str, max_bytes: int, timeout: float, make_socket: SocketFactory) -> Source:
    """What reads addresses of ``scheme``.

    Raises:
        ModuleNotFoundError: its package is not installed.
    """
    if scheme in ("http", "https"):
        return _Web(max_bytes, make_socket)
    # Not shared: a file system belongs to one event loop.
    options: dict[str, Any] = {"asynchronous": True, "loop": asyncio.get_running_loop(), "skip_instance_cache": True}
    if scheme == "s3":
        import botocore.exceptions as boto
        import s3fs

        settings = {"connector_args": {"socket_factory": make_socket}, "retries": {"max_attempts": 1}}
        settings |= {"connect_timeout": timeout, "read_timeout": timeout}
        broken = (*_broken_web(), boto.ConnectionError, boto.HTTPClientError)
        return _Bucket(s3fs.S3FileSystem(config_kwargs=settings, **options), max_bytes, broken)
    import aiohttp
    import gcsfs

    connector = aiohttp.TCPConnector(socket_factory=make_socket)
    return _Bucket(gcsfs.GCSFileSystem(session_kwargs={"connector": connector}, **options), max_bytes, _broken_web())


def _broken_web() -> tuple[type[Exception], ...]:
    import aiohttp

    return aiohttp.ClientConnectionError, aiohttp.ClientPayloadError


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise ImageError(f"it has more than {most} bytes, the limit for an address (--max-bytes)")
