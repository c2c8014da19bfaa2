"""Encoded pictures and Pillow images to upright uint8 RGB pixels."""

from __future__ import annotations

import importlib
import io
import logging
import os
from collections.abc import Callable
from types import ModuleType

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from engine.config import ImageLimits
from engine.errors import ImageError
from engine.image.pixels import bands, check_size, fill_rgb, upright

try:
    simplejpeg: ModuleType | None = importlib.import_module("simplejpeg")
except ImportError:
    # It only makes JPEGs faster: Pillow decodes them to the same pixels (both are libjpeg-turbo).
    simplejpeg = None

_log = logging.getLogger(__name__)

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


class _WholeFile(io.BytesIO):
    """Bytes that refuse to end early: once ``strict``, reading past the end is an error.

    Pillow itself only notices a cut file while ``ImageFile.LOAD_TRUNCATED_IMAGES`` is unset, and any part
    of the process may set it.
    """

    strict = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.strict and not data and size != 0:
            raise OSError("the file ends before the picture does")
        return data


def rgb_from_encoded(data: bytes, name: str, limits: ImageLimits) -> np.ndarray:
    """Decode the first frame of a JPEG, PNG, WebP, BMP, GIF, TIFF, PNM or AVIF file.

    Args:
        data: the whole file.
        name: what errors call the picture.
        limits: judged from the header, before any pixel is decoded.

    Returns:
        uint8 [H, W, 3] RGB, upright, C-contiguous.

    Raises:
        ImageError: another format, a damaged or cut file, or a picture outside ``limits``.
    """
    plugin = _plugin(data, name)
    file = _WholeFile(data)
    try:
        with plugin(file) as image:
            check_size(image.width, image.height, name, limits)
            pixels = _fast_jpeg(image, data)
            if pixels is None:
                file.strict = True
                image.load()
                pixels = _pixels(image, name, limits)
            return upright(pixels, _orientation(image, name))
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's WebP and TIFF plugins, and GIF frames, also consult Pillow's own limit.
        raise ImageError(f"{name} is too large for Pillow ({error}); shrink it") from error
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than this process can have; shrink it") from error
    except Exception as error:
        # Damaged files make Pillow's parsers raise nearly anything: OSError, SyntaxError, struct.error, KeyError...
        raise ImageError(f"{name} is damaged or cut short ({_reason(error)}); save or download it again") from error


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """(width, height) of the picture in a file, after its EXIF orientation, from its header; None if there is none."""
    try:
        with open(path, "rb") as file:
            plugin = _plugin(file.read(16), os.fspath(path))
            file.seek(0)
            with plugin(file) as image:
                sideways = _orientation(image, os.fspath(path)) >= 5
                return (image.height, image.width) if sideways else (image.width, image.height)
    except Exception:
        # Reading the picture itself will say what is wrong with it.
        return None


def rgb_from_picture(image: Image.Image, name: str, limits: ImageLimits) -> np.ndarray:
    """Upright uint8 RGB pixels [H, W, 3] of a Pillow image (its current frame), which is loaded if it was lazy."""
    check_size(image.width, image.height, name, limits)
    try:
        image.load()
        return upright(_pixels(image, name, limits), _orientation(image, name))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than this process can have; shrink it") from error
    except Exception as error:
        raise ImageError(f"{name} cannot be loaded ({_reason(error)}); open it from a complete file") from error


def _plugin(data: bytes, name: str) -> type[ImageFile.ImageFile]:
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); expected an encoded picture")
    head = data[:16]
    for is_format, plugin in _FORMATS.values():
        if is_format(head):
            return plugin
    raise ImageError(
        f"{name} is no picture of a supported kind: it starts with {head!r}; convert it to one of {', '.join(_FORMATS)}"
    )


def _fast_jpeg(image: ImageFile.ImageFile, data: bytes) -> np.ndarray | None:
    """Pixels of a grey or RGB JPEG by simplejpeg; None where Pillow must decide."""
    if simplejpeg is None or image.format != "JPEG" or image.mode not in ("L", "RGB"):
        return None
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "rgb", strict=True)
    except ValueError as error:
        # Only missing data is fatal here; strict mode also objects to harmless stray bytes between markers.
        if "remature end" in str(error):
            raise
        return None
    return pixels if pixels.shape == (image.height, image.width, 3) else None


def _pixels(image: Image.Image, name: str, limits: ImageLimits) -> np.ndarray:
    """Stored pixels of a loaded image as uint8 [H, W, 3], converted band by band to bound the memory."""
    # Loading may have changed the size that the header gave.
    check_size(image.width, image.height, name, limits)
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for rows in bands(image.width, image.height):
        band = image.crop((0, rows.start, image.width, rows.stop))
        fill_rgb(rgb[rows], _band_array(band, name), name)
    return rgb


def _band_array(band: Image.Image, name: str) -> np.ndarray:
    if band.mode == "F" or band.mode.startswith("I;16"):
        return np.asarray(band)
    if band.mode == "I":
        # Pillow's carrier of 16-bit grey; the mode itself has no white level.
        values = np.asarray(band)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(
                f"{name} has 32-bit integers from {values.min()} to {values.max()}; expected [0, 65535]: "
                "scale it to 8 or 16 bits"
            )
        return values.astype(np.uint16)
    if band.mode == "La":
        # Pillow has no way from premultiplied grey to RGBA but this.
        band = band.convert("LA")
    return np.asarray(band.convert("RGBA" if band.has_transparency_data else "RGB"))


def _orientation(image: Image.Image, name: str) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:
        # A damaged tag makes the parser raise nearly anything; viewers show such a picture as stored, and so do we.
        _log.warning("%s: unreadable EXIF data (%s); taken as upright", name, _reason(error))
        return 1


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
