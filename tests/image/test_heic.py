"""HEIC, which needs the extra of that name."""

from __future__ import annotations

import io
import sys

import numpy as np
import pillow_heif
import pytest
from pictures import smooth
from PIL import Image

from engine.config import ImageLimits
from engine.errors import ImageError
from engine.image.load import load_image

PICTURE = smooth(48, 64)


def heic(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, quality=95, **options)
    return file.getvalue()


def test_heic_shows_the_picture() -> None:
    data = heic(PICTURE)
    assert data[4:12] == b"ftypheic"
    got = load_image(data)
    assert got.shape == PICTURE.shape
    assert np.abs(got.astype(int) - PICTURE).mean() < 3


def test_heic_is_turned_once() -> None:
    """The decoder turns it, and says that it is upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    got = load_image(heic(PICTURE, exif=exif.tobytes()))
    assert np.abs(got.astype(int) - np.rot90(PICTURE, -1)).mean() < 3


def test_limits_and_damage() -> None:
    data = heic(PICTURE)
    with pytest.raises(ImageError, match="limit of 3071"):
        load_image(data, limits=ImageLimits(max_pixels=3071))
    for cut in (16, 100, len(data) // 2, len(data) - 9):
        with pytest.raises(ImageError):
            load_image(data[:cut])


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(PICTURE)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"is HEIC; install what reads it: pip install 'crowd-engine\[heic\]'"):
        load_image(data)
