"""Kinds of TIFF that Pillow reads as another picture: the same picture as in 8 bits, or an error, never another."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from pictures import smooth
from PIL import Image

from engine.errors import ImageError
from engine.image.load import load_image

PICTURE = smooth(24, 40)
GREY = PICTURE[..., 1:2]
OPAQUE = np.full((*GREY.shape[:2], 1), 255, np.uint8)
RGB, CMYK = 2, 5
REFUSED = "channels lie apart|uses too few of its 16 bits"


def tiff(
    pixels: np.ndarray, order: str, bits: int, photometric: int, *, apart: bool = False, deflated: bool = False,
    alpha: int | None = None, kind: int = 1, strips: int = 1, fill: int = 1,
) -> bytes:  # fmt: skip
    """A TIFF of pixels [H, W, C] of any type, whose channels lie together or apart, in strips, packed or not."""
    height, width, channels = pixels.shape
    parts = [pixels[..., i : i + 1] for i in range(channels)] if apart else [pixels]
    rows = height // strips
    data = [part[top : top + rows].tobytes() for part in parts for top in range(0, height, rows)]
    data = [zlib.compress(strip) for strip in data] if deflated else data
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("H", [width]), 257: ("H", [height]), 258: ("H", [bits] * channels), 259: ("H", [8 if deflated else 1]),
        262: ("H", [photometric]), 266: ("H", [fill]), 273: ("I", [0] * len(data)), 277: ("H", [channels]),
        278: ("H", [rows]), 279: ("I", list(map(len, data))), 284: ("H", [2 if apart else 1]),
        339: ("H", [kind] * channels),
    }  # fmt: skip
    if alpha is not None:
        tags[338] = ("H", [alpha])
    beyond = 8 + 2 + 12 * len(tags) + 4
    start = beyond + sum(size for form, v in tags.values() if (size := struct.calcsize(f"{order}{len(v)}{form}")) > 4)
    tags[273] = ("I", [start + sum(map(len, data[:i])) for i in range(len(data))])
    entries = extra = b""
    for tag in sorted(tags):
        form, values = tags[tag]
        raw = struct.pack(f"{order}{len(values)}{form}", *values)
        where = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(f"{order}I", beyond + len(extra))
        extra += raw if len(raw) > 4 else b""
        entries += struct.pack(f"{order}HHI", tag, 3 if form == "H" else 4, len(values)) + where
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + bytes(4) + extra + b"".join(data)


def same(data: bytes, expected: np.ndarray, most: int = 1) -> bool:
    """Whether the file is that picture, through both ways in."""
    sources = data, Image.open(io.BytesIO(data))
    arrays = [load_image(source).astype(int) for source in sources]
    return all(np.abs(array - expected).max() <= most for array in arrays)


def refused(data: bytes) -> bool:
    with pytest.raises(ImageError, match=REFUSED):
        load_image(data)
    return True


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("strips", [1, 3])
@pytest.mark.parametrize("factor", [257, 16, 4])
def test_sixteen_bits_whose_channels_lie_apart(order: str, strips: int, factor: int) -> None:
    """Uncompressed ones counted nobody; packed ones of 10 and 12 bits had eight of the upper byte."""
    for pixels, photometric, alpha in ((PICTURE, RGB, None), (np.dstack([PICTURE, OPAQUE]), RGB, 2)):
        stored = (pixels.astype(int) * factor).astype(f"{order}u2")
        plain, packed = (
            tiff(stored, order, 16, photometric, apart=True, deflated=deflated, alpha=alpha, strips=strips)
            for deflated in (False, True)
        )
        assert refused(plain)
        with pytest.raises(ImageError, match=REFUSED):
            load_image(Image.open(io.BytesIO(plain)))
        assert same(packed, PICTURE) if factor == 257 else refused(packed)


@pytest.mark.parametrize("order", "<>")
def test_eight_bits_whose_channels_lie_apart(order: str) -> None:
    inks = np.dstack([255 - PICTURE, OPAQUE * 0])
    for deflated in (False, True):
        assert same(tiff(PICTURE, order, 8, RGB, apart=True, deflated=deflated, strips=3), PICTURE)
        assert same(tiff(GREY, order, 8, 1, apart=True, deflated=deflated), GREY)
        assert same(tiff(inks, order, 8, CMYK, apart=True, deflated=deflated), PICTURE)


@pytest.mark.parametrize("order", "<>")
def test_negatives_and_turned_bits_whose_one_channel_lies_apart(order: str) -> None:
    """They were read as positives, and bits in the wrong order."""
    assert refused(tiff(255 - GREY, order, 8, 0, apart=True))
    assert same(tiff(255 - GREY, order, 8, 0, apart=True, deflated=True), GREY)
    turned = np.packbits(np.unpackbits(PICTURE[..., None], axis=-1)[..., ::-1], axis=-1)[..., 0]
    assert same(tiff(turned, order, 8, RGB, fill=2), PICTURE)
    assert refused(tiff(turned, order, 8, RGB, fill=2, apart=True))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("factor", [257, 16, 4])
def test_sixteen_bits_of_inks_and_of_colours_that_alpha_was_multiplied_with(
    order: str, deflated: bool, factor: int
) -> None:
    """Those of 10 and 12 bits were up to 240 levels off."""
    half = np.full_like(OPAQUE, 128)
    faint = np.rint(PICTURE * (128 / 255))
    for pixels, photometric, alpha, expected in (
        (np.dstack([255 - PICTURE, OPAQUE * 0]), CMYK, None, PICTURE),
        (np.dstack([PICTURE, OPAQUE]), RGB, 1, PICTURE),
        (np.dstack([faint, half]), RGB, 1, faint + 127),
    ):
        stored = (pixels.astype(int) * factor).astype(f"{order}u2")
        data = tiff(stored, order, 16, photometric, deflated=deflated, alpha=alpha)
        assert same(data, expected, 2) if factor == 257 else refused(data)


@pytest.mark.parametrize(("dtype", "bits", "kind"), [("f4", 32, 3), ("i4", 32, 2), ("i2", 16, 2)])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflated", [False, True])
def test_signed_numbers_and_floats_of_either_order_packed_or_not(
    dtype: str, bits: int, kind: int, order: str, deflated: bool
) -> None:
    """Floats from 0 to 255 in big-endian order, packed, were black: numbers near zero."""
    assert same(tiff(GREY.astype(order + dtype), order, bits, 1, deflated=deflated, kind=kind), GREY)


def test_a_mask_of_few_floats_is_not_black() -> None:
    values = np.where(GREY > 100, 192.0, 128.0)
    assert same(tiff(values.astype(">f4"), ">", 32, 1, deflated=True, kind=3), values)
