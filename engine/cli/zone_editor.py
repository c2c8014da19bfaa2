"""``crowd zones``: draw zones and lines on a picture, in a browser."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.counter_options import CounterFactory, make_counter
from engine.cli.extras import needs_extra
from engine.cli.inputs import stream_source
from engine.cli.outputs import check_output_file, files_of_settings, refuse_shared_files
from engine.cli.serve import EXTRA
from engine.cli.terminal import Status, say
from engine.config import PICTURE_SUFFIXES
from engine.errors import SourceError

if TYPE_CHECKING:
    import numpy as np

    from engine.zones.layout import ZoneLayout

# What it does, and examples.
TEXTS = (
    "draw zones and lines on a picture",
    "crowd zones photo.jpg\n  crowd zones rtsp://camera/live --out gate.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that are this command's own."""
    parser.add_argument("source", metavar="PICTURE", help="picture, or video, folder, URL or number of a camera")
    parser.add_argument(
        "--out", default="zones.json", metavar="FILE", help="that is opened and saved (default: zones.json)"
    )
    parser.add_argument("--port", type=int, default=0, help="of the page (default: a free one)")
    parser.add_argument("--browser", action="store_true", help="open the page in the browser of this machine")


def run(options: argparse.Namespace, factory: CounterFactory) -> int:
    """Serve the editor until SIGINT or SIGTERM, with status 0."""
    check_output_file("--out", options.out)
    refuse_shared_files({"--out": options.out}, [options.source, *files_of_settings(options)])
    with needs_extra(EXTRA):
        from engine.serve.app import create_app
        from engine.serve.server import AppServer
        from engine.serve.settings import ServeSettings
        from engine.serve.zone_file import ZoneFile
    title, pixels, data = _view(options.source)

    def saved(layout: ZoneLayout) -> None:
        say(f"saved {options.out}: {_number(len(layout.zones), 'zone')}, {_number(len(layout.lines), 'line')}")

    file = ZoneFile(Path(options.out), title, pixels, data, saved)
    # Other users of this machine can reach the server, and everybody who reaches it can write the file.
    settings = ServeSettings(port=options.port, secret_path=secrets.token_urlsafe(18))
    with contextlib.closing(make_counter(options, factory, None)) as counter:
        server = AppServer(create_app(counter, settings, zone_file=file), settings)
        say(f"draw at {server.url}; Ctrl-C ends")
        if options.browser:
            webbrowser.open(server.url)
        server.run()
    return Status.OK


def _view(source: str) -> tuple[str, np.ndarray, bytes | None]:
    """Title and pixels of a picture or of a first frame, and the picture's file."""
    from engine.image.load import load_image
    from engine.stream.opening import StreamOptions, open_source
    from engine.system.addresses import hide_password

    if os.path.isfile(source) and os.path.splitext(source)[1].lower() in PICTURE_SUFFIXES:
        return os.path.basename(source), load_image(source), Path(source).read_bytes()
    opened = open_source(stream_source(source), StreamOptions())
    try:
        with contextlib.closing(opened.frames()) as frames:
            frame = next(frames, None)
    finally:
        opened.close()
    if frame is None:
        raise SourceError(f"{hide_password(source)} has no frame to draw on")
    return os.path.basename(hide_password(source)) or "frame", load_image(frame.image), None


def _number(many: int, what: str) -> str:
    return f"{many} {what}{'' if many == 1 else 's'}"
