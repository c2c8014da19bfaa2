"""What ``crowd zones`` edits: a picture, and the file of zones that is drawn on it."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.errors import ConfigError, EngineError
from engine.system.files import write_whole
from engine.zones.inputs import load_layout, parse_layout
from engine.zones.layout import ZoneLayout
from engine.zones.tools import from_tool

# What every browser shows as it is.
_SHOWN = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}


class ZoneFile:
    """A picture, and a file of zones; saved whole or not at all.

    Args:
        path: of the file; it need not be there yet.
        title: of the picture, for people.
        data: the encoded picture; None takes ``pixels``.
        pixels: uint8 [H, W, 3] RGB.
        saved: is told the layout after each time.

    Raises:
        ConfigError: the file is there and holds no zones, or is an annotation tool's; or its folder does not exist.
    """

    def __init__(
        self,
        path: Path,
        title: str,
        pixels: np.ndarray,
        data: bytes | None = None,
        saved: Callable[[ZoneLayout], None] = lambda _: None,
    ):
        if not path.parent.is_dir():
            raise ConfigError(f"cannot write {path}: the folder {path.parent} does not exist")
        self.path, self.title, self._saved, self._lock = path, title, saved, threading.Lock()
        self.load()
        kind = next((kind for magic, kind in _SHOWN.items() if data and data.startswith(magic)), None)
        self.kind, self.picture = (kind, data) if kind and data else ("image/png", _png(pixels))

    def load(self) -> dict[str, Any] | None:
        """The file's contents; None if it is not there yet.

        Raises:
            ConfigError: somebody else has made another file of it.
        """
        with self._lock:
            if not self.path.exists():
                return None
            load_layout(self.path)
            data = self.path.read_bytes()
        if (own := _own(data)) is None:
            raise ConfigError(
                f"{self.path} is an annotation tool's file, of which nothing but the zones would be kept; name another "
                "file with --out"
            )
        return own

    def save(self, data: bytes) -> ZoneLayout:
        """Replace the file.

        Raises:
            ConfigError: ``data`` holds no zones, or is an annotation tool's, which :meth:`load` would refuse.
            EngineError: the file cannot be written.
        """
        layout = parse_layout(data, "what was drawn")
        if _own(data) is None:
            raise ConfigError("what was drawn is an annotation tool's file; send zones as --zones documents them")
        try:
            with self._lock:
                write_whole(self.path, data)
        except OSError as error:
            raise EngineError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._saved(layout)
        return layout


def _own(data: bytes) -> dict[str, Any] | None:
    """The contents of a file that holds zones; None if it is an annotation tool's."""
    parsed: dict[str, Any] = json.loads(data.decode("utf-8-sig"))
    return None if from_tool(parsed) is not None else parsed


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
