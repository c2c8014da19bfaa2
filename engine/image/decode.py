"""Encoded pictures and Pillow images to upright uint8 RGB pixels."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from PIL import ExifTags, Image, ImageFile

from engine.config import ImageLimits
from engine.errors import ImageError
from engine.image.formats import find_plugin
from engine.image.pages import turn_to
from engine.image.pixels import bands, check_size, fill_rgb, upright
from engine.image.ranges import Warn, eight_bit, white_level
from engine.image.sixteen import has_sixteen_bits, read_lower_bytes, rgb_of_sixteen, uses_few_bits

try:
    simplejpeg: ModuleType | None = importlib.import_module("simplejpeg")
except ImportError:
    # It only makes JPEGs faster: Pillow decodes them to the same pixels (both are libjpeg-turbo).
    simplejpeg = None

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """How a picture is read.

    Attributes:
        limits: judged from the header, before any pixel is decoded.
        page: of a TIFF file, or frame of an animation, from 0; None is the first of a file, the current one of a
            Pillow image.
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


def rgb_from_encoded(data: bytes, name: str, how: Reading) -> np.ndarray:
    """Decode a picture file of one of the kinds in :mod:`engine.image.formats`.

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
            check_size(image.width, image.height, name, how.limits)
            pixels, turned = (None if how.page else _fast_jpeg(image, data)), 1
            if pixels is None:
                file.strict = True
                turn_to(image, how.page or 0, name, how.warn)
                check_size(image.width, image.height, name, how.limits)
                has_more = has_sixteen_bits(image)
                turned = _turned_by_pillow(image)
                image.load()
                if has_more and uses_few_bits(image):
                    with plugin(_WholeFile(data)) as again:
                        pixels = _sixteen_bit_pixels(image, again, name, how)
                else:
                    pixels = _pixels(image, name, how)
            return _turn(pixels, image, how, turned)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's WebP and TIFF plugins, and GIF frames, also consult Pillow's own limit.
        raise ImageError(f"{name} is too large for Pillow ({error}); shrink it") from error
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
    check_size(image.width, image.height, name, how.limits)
    current = image.tell()
    try:
        if how.page is not None:
            turn_to(image, how.page, name, how.warn)
        elif not current and (getattr(image, "tile", None) or image.format not in ("GIF", "TIFF")):
            # Looking for the pages of these two would undo what was painted on a loaded one. An image whose file is
            # closed cannot tell of any.
            with contextlib.suppress(Exception):
                turn_to(image, 0, name, how.warn)
        turned = _turned_by_pillow(image)
        image.load()
        return _turn(_pixels(image, name, how), image, how, turned)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than this process can have; shrink it") from error
    except Exception as error:
        raise ImageError(f"{name} cannot be loaded ({_reason(error)}); open it from a complete file") from error
    finally:
        if image.tell() != current:
            image.seek(current)


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


def _pixels(image: Image.Image, name: str, how: Reading) -> np.ndarray:
    """Stored pixels of a loaded image as uint8 [H, W, 3], converted band by band to bound the memory."""
    # Loading may have changed the size that the header gave.
    width, height = image.size
    check_size(width, height, name, how.limits)

    def band(rows: slice) -> Image.Image:
        return image.crop((0, rows.start, width, rows.stop))

    # "I" is a carrier of 16-bit grey too; these modes have no white level of their own.
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        white = white_level((np.asarray(band(rows)) for rows in bands(width, height)), name, how.warn)
        # Pillow turns black and white of a TIFF file round where that is stored, but not in these modes.
        is_negative = getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0

        def grey(rows: slice) -> np.ndarray:
            pixels = eight_bit(np.asarray(band(rows))[..., None], white)
            return 255 - pixels if is_negative else pixels

        return fill_rgb(width, height, lambda rows: (grey(rows), None), how.warn)
    return fill_rgb(width, height, lambda rows: _colours_and_alpha(band(rows)), how.warn)


def _sixteen_bit_pixels(upper: Image.Image, again: Image.Image, name: str, how: Reading) -> np.ndarray:
    """As :func:`_pixels`, of all 16 bits; ``again`` is the same file, freshly opened."""
    turn_to(again, how.page or 0, name, lambda _: None)
    read_lower_bytes(again)
    again.load()
    return rgb_of_sixteen(upper, again, name, how.warn)


def _colours_and_alpha(band: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    if band.mode == "La":
        # Pillow has no way from premultiplied grey to RGBA but this.
        band = band.convert("LA")
    if not band.has_transparency_data:
        return np.asarray(band.convert("RGB")), None
    rgba = np.asarray(band.convert("RGBA"))
    return rgba[..., :3], rgba[..., 3:]


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
