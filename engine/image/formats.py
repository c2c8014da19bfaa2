"""The kinds of picture files that are read, told by their first bytes."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from engine.errors import ImageError

# Pillow's plugins are called by their magic bytes rather than through Image.open, which would consult the
# process-wide Image.MAX_IMAGE_PIXELS (and warn through the process-wide warnings) in place of our limits.
_FORMATS: dict[str, tuple[Callable[[bytes], bool], type[ImageFile.ImageFile]]] = {
    "JPEG": (lambda b: b[:3] == b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    "PNG": (lambda b: b[:8] == b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    "WebP": (lambda b: b[:4] == b"RIFF" and b[8:12] == b"WEBP", WebPImagePlugin.WebPImageFile),
    "BMP": (lambda b: b[:2] == b"BM", BmpImagePlugin.BmpImageFile),
    "GIF": (lambda b: b[:6] in (b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    "TIFF": (lambda b: b[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImagePlugin.TiffImageFile),
    "PNM": (lambda b: b[:1] == b"P" and b[1:2] in b"123456f" and b[2:3].isspace(), PpmImagePlugin.PpmImageFile),
    "AVIF": (lambda b: b[4:12] in (b"ftypavif", b"ftypavis"), AvifImagePlugin.AvifImageFile),
}
# Brands of HEIF files that hold HEVC, or do not say what they hold.
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")


def find_plugin(data: bytes, name: str) -> type[ImageFile.ImageFile]:
    """What reads this file.

    Raises:
        ImageError: it is empty or of no kind that is read, or needs the extra "heic".
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); expected an encoded picture")
    head = data[:16]
    for is_format, plugin in _FORMATS.values():
        if is_format(head):
            return plugin
    if is_heif(head):
        return _heif_plugin(name)
    raise ImageError(
        f"{name} is no picture of a supported kind: it starts with {head!r}; convert it to one of "
        f"{', '.join(_FORMATS)} or HEIC"
    )


def is_encoded(head: bytes) -> bool:
    """Whether these are the first bytes (at least 16) of a picture file."""
    return is_heif(head) or any(is_format(head) for is_format, _ in _FORMATS.values())


def is_heif(head: bytes) -> bool:
    """Whether these are the first bytes of a HEIC or HEIF file."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def _heif_plugin(name: str) -> type[ImageFile.ImageFile]:
    try:
        pillow_heif = importlib.import_module("pillow_heif")
    except ImportError as error:
        raise ImageError(f"{name} is HEIC; install what reads it: pip install 'crowd-engine[heic]'") from error
    # Its plugin takes no part of Pillow's registry, and applies the turns that the file asks for by itself.
    plugin: type[ImageFile.ImageFile] = pillow_heif.HeifImageFile
    return plugin
