"""Encoded pictures, told by their first bytes, and Pillow images to upright uint8 RGB pixels."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
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
    WebPImagePlugin,
)

from engine.config import ImageLimits
from engine.errors import ImageError
from engine.image.pages import turn_to
from engine.image.pillow import pillow_pixels, sixteen_bit_mode, sixteen_bit_pixels, uses_few_bits
from engine.image.pixels import Warn
from engine.image.tiff import TiffFile, prepare_tiff

try:
    simplejpeg: ModuleType | None = importlib.import_module("simplejpeg")
except ImportError:
    # It only makes JPEGs faster: Pillow decodes them to the same pixels (both are libjpeg-turbo).
    simplejpeg = None

# Pillow's plugins are called by their magic bytes rather than through Image.open, which would consult the
# process-wide Image.MAX_IMAGE_PIXELS (and warn through the process-wide warnings) in place of our limits.
_FORMATS: dict[str, tuple[Callable[[bytes], bool], type[ImageFile.ImageFile]]] = {
    "JPEG": (lambda b: b[:3] == b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    "PNG": (lambda b: b[:8] == b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    "WebP": (lambda b: b[:4] == b"RIFF" and b[8:12] == b"WEBP", WebPImagePlugin.WebPImageFile),
    "BMP": (lambda b: b[:2] == b"BM", BmpImagePlugin.BmpImageFile),
    "GIF": (lambda b: b[:6] in (b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    "TIFF": (lambda b: b[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffFile),
    "PNM": (lambda b: b[:1] == b"P" and b[1:2] in b"123456f" and b[2:3].isspace(), PpmImagePlugin.PpmImageFile),
    "AVIF": (lambda b: b[4:12] in (b"ftypavif", b"ftypavis"), AvifImagePlugin.AvifImageFile),
}
# Brands of HEIF files that hold HEVC, or do not say what they hold.
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
# EXIF orientation -> (transpose, reverse rows, reverse columns), applied in this order.
_ORIENTATIONS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """How a picture is read.

    Attributes:
        limits: judged from the header, before any pixel is decoded.
        page: of a TIFF file, or frame of an animation, from 0; None is the first of a file (of HEIC the main one),
            the current one of a Pillow image.
        exif_orientation: turn the picture as its EXIF data say.
        warn: gets a sentence for whatever was assumed or left out.
    """

    limits: ImageLimits
    page: int | None = None
    exif_orientation: bool = True
    warn: Warn = _log.warning


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


def rgb_from_encoded(data: bytes, name: str, how: Reading) -> np.ndarray:
    """Decode a picture file of one of the kinds above.

    Args:
        data: the whole file.
        name: what errors call the picture.

    Returns:
        uint8 [H, W, 3] RGB, upright, C-contiguous.

    Raises:
        ImageError: another format, a damaged or cut file, no such page, or a picture outside the limits.
    """
    plugin = find_plugin(data, name)
    file = _WholeFile(data)
    try:
        with plugin(file) as image:
            how.limits.check(image.width, image.height, name)
            pixels, turned = (None if how.page else _fast_jpeg(image, data)), 1
            if pixels is None:
                file.strict = True
                turn_to(image, how.page, name, how.warn)
                how.limits.check(image.width, image.height, name)
                prepare_tiff(image, name)
                sixteen = sixteen_bit_mode(image)
                turned = _turned_by_pillow(image)
                image.load()
                if sixteen and uses_few_bits(image, sixteen):
                    with plugin(_WholeFile(data)) as again:
                        pixels = sixteen_bit_pixels(image, again, how.page, name, how.warn)
                else:
                    pixels = pillow_pixels(image, name, how.limits, how.warn)
            return _turn(pixels, image, how, turned)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's WebP plugin, and GIF frames, also consult Pillow's own limit.
        advice = "shrink it, save it as PNG or TIFF, or raise PIL.Image.MAX_IMAGE_PIXELS"
        raise ImageError(f"{name} is too large for Pillow, which has a limit of its own ({error}); {advice}") from error
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than this process can have; shrink it") from error
    except Exception as error:
        if "unknown pixel mode" in str(error):
            raise ImageError(f"{name} has pixels of a kind that is not read; convert it to 8 or 16 bits") from error
        # Damaged files make Pillow's parsers raise nearly anything: OSError, SyntaxError, struct.error, KeyError...
        raise ImageError(f"{name} is damaged or cut short ({_reason(error)}); save or download it again") from error


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """(width, height) of the picture in a file, after its EXIF orientation, from its header; None if there is none."""
    try:
        with open(path, "rb") as file:
            plugin = find_plugin(file.read(16), os.fspath(path))
            file.seek(0)
            with plugin(file) as image:
                # Pillow gives the size of a TIFF file as it will be once it is turned.
                sideways = image.format != "TIFF" and _orientation(image) >= 5
                return (image.height, image.width) if sideways else (image.width, image.height)
    except Exception:
        # Reading the picture itself will say what is wrong with it.
        return None


def rgb_from_picture(image: Image.Image, name: str, how: Reading) -> np.ndarray:
    """Upright uint8 RGB pixels [H, W, 3] of a Pillow image, which is loaded if it was lazy."""
    how.limits.check(image.width, image.height, name)
    current = image.tell()
    try:
        if how.page is not None:
            turn_to(image, how.page, name, how.warn)
        elif not current and (getattr(image, "tile", None) or image.format not in ("GIF", "TIFF")):
            # Looking for the pages of these two would undo what was painted on a loaded one. An image whose file is
            # closed cannot tell of any.
            with contextlib.suppress(Exception):
                turn_to(image, None, name, how.warn)
        prepare_tiff(image, name)
        turned = _turned_by_pillow(image)
        image.load()
        return _turn(pillow_pixels(image, name, how.limits, how.warn), image, how, turned)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than this process can have; shrink it") from error
    except Exception as error:
        raise ImageError(f"{name} cannot be loaded ({_reason(error)}); open it from a complete file") from error
    finally:
        if image.tell() != current:
            image.seek(current)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a stored picture the way its EXIF orientation (1 to 8) says it is viewed.

    Args:
        pixels: uint8 [H, W, 3].
        orientation: values outside 2..8 mean "as stored", as the EXIF standard has it.

    Returns:
        uint8 [H, W, 3] or [W, H, 3], C-contiguous; ``pixels`` itself where nothing turns.

    Source: EXIF 2.32, tag 274.

    >>> upright(np.array([[[1, 1, 1], [2, 2, 2]]], np.uint8), 6)[..., 0].tolist()
    [[1], [2]]
    """
    transpose, flip_rows, flip_columns = _ORIENTATIONS.get(orientation, (False, False, False))
    view = pixels.transpose(1, 0, 2) if transpose else pixels
    view = view[::-1] if flip_rows else view
    view = view[:, ::-1] if flip_columns else view
    return np.ascontiguousarray(view)


def _heif_plugin(name: str) -> type[ImageFile.ImageFile]:
    try:
        pillow_heif = importlib.import_module("pillow_heif")
    except ImportError as error:
        raise ImageError(f"{name} is HEIC; install what reads it: pip install 'crowd-engine[heic]'") from error
    # Its plugin takes no part of Pillow's registry, and applies the turns that the file asks for by itself.
    plugin: type[ImageFile.ImageFile] = pillow_heif.HeifImageFile
    return plugin


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


def _turn(pixels: np.ndarray, image: Image.Image, how: Reading, turned: int) -> np.ndarray:
    """Stored pixels as they are wanted; ``turned`` is the orientation that Pillow has applied to them already."""
    if how.exif_orientation:
        return upright(pixels, _orientation(image, how.warn))
    return upright(pixels, {6: 8, 8: 6}.get(turned, turned))


def _turned_by_pillow(image: Image.Image) -> int:
    """The orientation that Pillow will apply itself when it loads the image, as it does with TIFF."""
    return _orientation(image) if image.format == "TIFF" else 1


def _orientation(image: Image.Image, warn: Warn = _log.warning) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        # Some writers repeat it, or write it as bytes.
        return int(orientation[0] if isinstance(orientation, tuple | bytes) else orientation)
    except Exception as error:
        # A damaged tag makes the parser raise nearly anything; viewers show such a picture as stored, and so do we.
        warn(f"its EXIF data are unreadable ({_reason(error)}); it was taken as upright")
        return 1


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
