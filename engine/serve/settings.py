"""How the application is served, checked: where, to whom, and how much of it."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path

from engine.config import ImageLimits, check_range
from engine.errors import ConfigError

# Environment variable that holds the token.
TOKEN_VARIABLE = "CROWD_TOKEN"
# Shorter ones can be guessed.
_SHORTEST_TOKEN = 16
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ServeSettings:
    """How the application is served.

    Attributes:
        host, port: the address that it listens on; port 0 takes a free one.
        token: that requests must carry; needed anywhere but on the loopback address.
        tls_cert, tls_key: PEM files of a certificate and its key; both or none.
        names: by which the server may be called besides its addresses, such as that of a proxy before it.
        secret_path: first part of every address, where the loopback address is to be for those alone who were told it.
        waiting: requests that may wait beside those that are counted.
        timeout: seconds that a body may take to come, and that a request may wait for its turn.
        max_bytes: of a request.
        max_pixels: of a picture.
        max_work: noise samples times steps of a request.

    Raises:
        ConfigError: a value is outside its range, or the address is not the loopback address and there is no token.

    >>> ServeSettings(host="0.0.0.0")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    engine.errors.ConfigError: 0.0.0.0 can be reached from other machines: set CROWD_TOKEN or --token-file to ...
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    names: tuple[str, ...] = ()
    secret_path: str = field(default="", repr=False)
    waiting: int = 32
    timeout: float = 30.0
    max_bytes: int = 32 << 20
    max_pixels: int = field(default_factory=lambda: min(64_000_000, ImageLimits().max_pixels))
    max_work: int = 64

    def __post_init__(self) -> None:
        check_range("port", self.port, 0, 65535)
        check_range("waiting", self.waiting, 1, 10_000)
        check_range("max_bytes", self.max_bytes, 1 << 10, 1 << 30)
        check_range("max_pixels", self.max_pixels, 1, 2**63 - 1)
        check_range("max_work", self.max_work, 1, 10**6)
        if not 0 < self.timeout < 3600:
            raise ConfigError(f"the timeout must be from 0 to 3600 seconds, got {self.timeout!r}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("give both --tls-cert and --tls-key, or none of them")
        for file in (self.tls_cert, self.tls_key):
            if file is not None and not file.is_file():
                raise ConfigError(f"{file} does not exist; expected a PEM file")
        self._check_token()

    def _check_token(self) -> None:
        if self.token is None:
            if not self.is_loopback:
                raise ConfigError(
                    f"{self.host} can be reached from other machines: set {TOKEN_VARIABLE} or --token-file to a secret "
                    f"of at least {_SHORTEST_TOKEN} characters, such as of: openssl rand -hex 24"
                )
        elif len(self.token) < _SHORTEST_TOKEN or not self.token.isascii() or not self.token.isprintable():
            raise ConfigError(f"the token must be at least {_SHORTEST_TOKEN} printable ASCII characters")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host == "localhost" or (_is_address(self.host) and ipaddress.ip_address(self.host).is_loopback)

    @property
    def scheme(self) -> str:
        """ "http" or "https"."""
        return "https" if self.tls_cert else "http"

    def is_own_name(self, name: str) -> bool:
        """Whether a request for that host is one for this server.

        A site whose name was made to point here asks for its own name. An address cannot be made to; but on the
        loopback address no other one is asked for.
        """
        name = name.lower().rstrip(".")
        if name in _LOOPBACK_NAMES or name in map(str.lower, self.names):
            return True
        if self.is_loopback:
            return name == self.host
        own = socket.gethostname().lower()
        return _is_address(name) or name in (own, f"{own.partition('.')[0]}.local")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def read_token(path: Path) -> str:
    """The token in a file, without the end of its line.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the token in {path}: {getattr(error, 'strerror', None) or error}") from error
