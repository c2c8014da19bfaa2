"""``crowd serve``: count over HTTP, with a page."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.counter_options import CounterFactory, make_counter
from engine.cli.extras import needs_extra
from engine.cli.terminal import Status, say
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.serve.settings import ServeSettings

EXTRA = "serve"
SERVER_OPTIONS = ("host", "port", "token_file", "tls_cert", "tls_key", "name")
# What it does, and examples.
TEXTS = (
    "count over HTTP, with a page to draw zones on",
    "crowd serve\n"
    "  CROWD_TOKEN=$(openssl rand -hex 24) crowd serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that are this command's own."""
    add_server_arguments(parser)
    parser.add_argument("--steps", type=int, help="denoising steps, where a request names none")
    parser.add_argument("--waiting", type=int, default=32, metavar="N", help="requests that may wait (default: 32)")
    parser.add_argument(
        "--timeout", type=float, default=30, metavar="S", help="seconds for a body, and for a turn (default: 30)"
    )
    parser.add_argument("--max-mib", type=float, default=32, metavar="N", help="largest request, in MiB (default: 32)")
    parser.add_argument(
        "--max-megapixels", type=float, default=64, metavar="N", help="largest picture, in millions (default: 64)"
    )
    parser.add_argument(
        "--max-work", type=int, default=64, metavar="N", help="most steps x samples of a request (default: 64)"
    )


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of where and to whom it is served: :data:`SERVER_OPTIONS`, None where they are not given."""
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, help="0 is a free one (default: 8000)")
    parser.add_argument(
        "--token-file", metavar="FILE", help="holds what clients must know; else CROWD_TOKEN of the environment"
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate (PEM): https, which cameras need")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its key (PEM)")
    parser.add_argument("--name", action="append", help="that it is asked for by, such as a proxy's; may be repeated")


def server_settings(options: argparse.Namespace, **limits: float) -> ServeSettings:
    """The settings that the options of :func:`add_server_arguments` give.

    Raises:
        ConfigError: one of them is not valid.
        EngineError: the extra is not installed.
    """
    with needs_extra(EXTRA):
        from engine.serve.settings import TOKEN_VARIABLE, ServeSettings, read_token
    token = os.environ.get(TOKEN_VARIABLE) or None
    if options.token_file is not None:
        token = read_token(Path(options.token_file))
    address = {name: getattr(options, name) for name in ("host", "port") if getattr(options, name) is not None}
    return ServeSettings(
        token=token,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        names=tuple(options.name or ()),
        **address,
        **limits,  # type: ignore[arg-type]
    )


def say_how_open(settings: ServeSettings) -> None:
    """Say where strangers can read what is sent, or are answered themselves."""
    if settings.names and settings.token is None:
        names = ", ".join(settings.names)
        say(f"clients that ask for {names} need no token: set CROWD_TOKEN, unless a proxy asks for a password")
    if not settings.is_loopback and settings.tls_cert is None:
        say("the token and the pictures are sent in the clear: give --tls-cert and --tls-key, or use a proxy's TLS")


def run(options: argparse.Namespace, factory: CounterFactory) -> int:
    """Serve until SIGINT or SIGTERM; what runs then is finished, and the status is 0."""
    for name in ("max_mib", "max_megapixels"):
        if not 0 < getattr(options, name) < 1e6:
            raise ConfigError(f"--{name.replace('_', '-')} must be a positive number, got {getattr(options, name)}")
    settings = server_settings(
        options,
        waiting=options.waiting,
        timeout=options.timeout,
        max_bytes=int(options.max_mib * (1 << 20)),
        max_pixels=int(options.max_megapixels * 1e6),
        max_work=options.max_work,
    )
    with needs_extra(EXTRA):
        from engine.serve.app import create_app
        from engine.serve.server import AppServer
    with contextlib.closing(make_counter(options, factory, options.steps)) as counter:
        server = AppServer(create_app(counter, settings), settings)
        say(f"serving at {server.url}, with its API at {server.url}docs")
        say_how_open(settings)
        server.run()
    return Status.OK
