"""Kinds of pictures that gave nobody, without a word: each against the same picture in 8 bits."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from pictures import encoded, smooth
from PIL import Image, PngImagePlugin

from engine.counting.stitching import is_dark
from engine.errors import ConfigError, ImageError
from engine.image import pixels
from engine.image.decode import upright
from engine.image.load import is_many_pictures, load_image

PICTURE = smooth(24, 40)
PICTURE[0, 0], PICTURE[0, 1] = 0, 255
GREY = PICTURE[..., 1]


def loaded(source: Any, **options: Any) -> tuple[np.ndarray, list[str]]:
    warnings: list[str] = []
    return load_image(source, warn=warnings.append, **options), warnings


def close(source: Any, expected: np.ndarray, **options: Any) -> None:
    """The same picture, without a warning; of 255 levels, scaling may cost half a one on the way there and back."""
    got, warnings = loaded(source, **options)
    assert warnings == []
    want = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, 2)
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want).max() <= 1


def png16(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits, grey, RGB or RGBA; Pillow writes none but the first."""
    height, width = pixels.shape[:2]
    channels = pixels.reshape(height, width, -1).shape[2]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return PngImagePlugin._MAGIC + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff16(pixels: np.ndarray, order: str, deflated: bool = False) -> bytes:
    """A TIFF of 16-bit RGB or RGBA, in either byte order, whole or packed; Pillow writes none."""
    height, width, channels = pixels.shape
    data = pixels.astype(order + "u2").tobytes()
    data = zlib.compress(data) if deflated else data
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    tags = [
        (256, width), (257, height), (258, 8 + len(data)), (259, 8 if deflated else 1), (262, 2), (273, 8),
        (277, channels), (278, height), (279, len(data)), (284, 1), *([(338, 2)] if channels == 4 else []),
    ]  # fmt: skip
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 3, channels, value)
        if tag == 258
        else struct.pack(f"{order}HHII", tag, 4, 1, value)
        for tag, value in tags
    )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    start = struct.pack(f"{order}I", 8 + len(data) + len(bits))
    return mark + start + data + bits + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_files_of_sixteen_bits_that_use_fewer(bits: int) -> None:
    white = 2**bits - 1
    grey, colour = (np.rint(x * (white / 255)).astype(np.uint16) for x in (GREY, PICTURE))
    alpha = np.full((*GREY.shape, 1), 65535, np.uint16)
    for data in (png16(grey), encoded(Image.fromarray(grey), "tiff"), encoded(Image.fromarray(grey), "png")):
        close(data, GREY)
    for data in (png16(colour), png16(np.dstack([colour, alpha])), tiff16(colour, "<"), tiff16(colour, ">")):
        close(data, PICTURE)
    close(tiff16(colour, "<", deflated=True), PICTURE)
    close(tiff16(np.dstack([colour, alpha]), ">", deflated=True), PICTURE)
    close(Image.fromarray(grey), GREY)
    close(Image.fromarray(grey.astype(np.int32)), GREY)
    close(encoded(Image.fromarray(grey.astype(np.int32)), "tiff"), GREY)


@pytest.mark.parametrize("pixels_of_a_band", [1 << 21, 100])
def test_the_brightest_pixel_is_looked_for_everywhere(pixels_of_a_band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tall picture of 12 bits that is dark but for its last pixel, read at once or in bands of four rows."""
    monkeypatch.setattr(pixels, "_BAND_PIXELS", pixels_of_a_band)
    colour, expected = np.full((42, 24, 3), 200, np.uint16), np.full((42, 24, 3), 12, np.uint8)
    colour[-1, -1], expected[-1, -1] = 4095, 255
    grey, opaque = colour[..., 0], np.dstack([colour, np.full((42, 24, 1), 65535, np.uint16)])
    for data in (png16(colour), png16(opaque), tiff16(colour, "<"), png16(grey), Image.fromarray(grey), colour, grey):
        close(data, expected)


def test_big_endian_sixteen_bit_images_of_pillow() -> None:
    big = Image.frombytes("I;16B", GREY.shape[::-1], (GREY.astype(np.uint16) * 16).astype(">u2").tobytes())
    close(big, GREY)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "int16", "int32", "uint32", "int64", "float32", "float64"])
@pytest.mark.parametrize("white", [255, 1023, 4095, 65535])
def test_arrays_of_any_type_and_range(dtype: str, white: int) -> None:
    if white > (np.iinfo(dtype).max if np.dtype(dtype).kind in "ui" else white):
        white = np.iinfo(dtype).max if dtype == "int16" else 255
    values = PICTURE * (white / 255)
    array = (np.rint(values) if np.dtype(dtype).kind in "ui" else values).astype(dtype)
    if dtype == "int16" and white == 32767:
        # No level of its own: read as 16 bits, half as bright.
        assert np.abs(loaded(array)[0] - PICTURE / 2).max() <= 1
        return
    close(array, PICTURE)
    close(array[..., 1], GREY)
    if array.dtype.isnative:
        close(torch.tensor(array.astype(np.int32) if dtype in ("uint32", "uint16") else array), PICTURE)


@pytest.mark.parametrize("white", [1, 255, 4095, 65535])
def test_float_tiff(white: int) -> None:
    close(encoded(Image.fromarray((GREY * (white / 255)).astype(np.float32)), "tiff"), GREY)


@pytest.mark.parametrize(
    ("dtype", "bits", "kind", "white"), [("<u2", 16, 1, 65535), ("<u2", 16, 1, 4095), ("<f4", 32, 3, 1)]
)
def test_tiff_of_16_bits_or_floats_in_which_0_is_white(dtype: str, bits: int, kind: int, white: int) -> None:
    negative = (255 - GREY) * (white / 255)
    data = (negative if kind == 3 else np.rint(negative)).astype(dtype).tobytes()
    height, width = GREY.shape
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 0), (273, 8), (277, 1), (278, height),
            (279, len(data)), (339, kind)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    close(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4), GREY)


def test_pixels_that_are_not_read_are_not_called_damaged() -> None:
    whole, floats = (struct.pack("<HHII", *tag) for tag in ((284, 4, 1, 1), (339, 4, 1, 3)))
    data = tiff16(PICTURE.astype(np.uint16), "<").replace(whole, floats)
    with pytest.raises(ImageError, match="pixels of a kind that is not read; convert it"):
        load_image(data)


def test_floats_a_little_above_one_are_white_and_that_is_told() -> None:
    got, (warning,) = loaded(np.array([[0.0, 0.5, 1.003]]))
    assert got[0, :, 0].tolist() == [0, 128, 255]
    assert "1.003" in warning


def test_alpha_has_a_range_of_its_own() -> None:
    """Alpha of 0 to 1 beside colours of 0 to 255, as floats; opaque 16 bits beside colours of 12."""
    alpha = np.ones((*GREY.shape, 1))
    alpha[:, 20:] = 0
    expected = PICTURE.copy()
    expected[:, 20:] = 255
    close(np.dstack([PICTURE.astype(float), alpha]), expected)
    close(np.dstack([PICTURE.astype(np.uint16) * 16, (alpha * 65535).astype(np.uint16)]), expected)
    close(png16(np.dstack([PICTURE.astype(np.uint16) * 16, (alpha * 65535).astype(np.uint16)])), expected)


def test_transparency_that_hides_everything_is_not_believed() -> None:
    hidden = np.dstack([PICTURE, np.zeros(GREY.shape, np.uint8)])
    palette = Image.fromarray(GREY).convert("P")
    palette.info["transparency"] = bytes(256)
    greys = Image.merge("LA", [Image.fromarray(GREY), Image.new("L", GREY.shape[::-1])])
    for source, expected in {
        "array": (hidden, PICTURE),
        "png": (encoded(Image.fromarray(hidden)), PICTURE),
        "webp": (encoded(Image.fromarray(hidden), "webp", lossless=True, exact=True), PICTURE),
        "16 bits": (png16(hidden.astype(np.uint16) * 16), PICTURE),
        "palette": (palette, GREY),
        "grey": (greys, GREY),
    }.values():
        got, warnings = loaded(source)
        assert warnings == ["its transparency hides the whole picture; it was counted as if it were opaque"]
        assert np.abs(got.astype(int) - np.atleast_3d(expected)).max() <= 1


@pytest.mark.parametrize("kind", ["tiff", "gif", "png", "webp"])
def test_pages_and_frames(kind: str) -> None:
    shades = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    frames = [Image.new("RGB", (8, 6), shade) for shade in shades]
    data = encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "webp" else {})
    )
    got, (warning,) = loaded(data)
    assert warning == "the file has 3 pages or frames, of which the first was read; page=1 reads the second"
    for page, shade in enumerate(shades):
        for source in (data, io.BytesIO(data), Image.open(io.BytesIO(data))):
            got, warnings = loaded(source, page=page)
            assert (got == shade).all()
            assert len(warnings) == (page == 0)
    assert loaded(Image.open(io.BytesIO(data)))[1] == [warning]
    with Image.open(io.BytesIO(data)) as closed:
        closed.load()
    assert (loaded(closed)[0] == shades[0]).all()
    painted = Image.open(io.BytesIO(data))
    painted.paste((9, 9, 9) if painted.mode != "P" else 0, (0, 0, 8, 6))
    before = np.asarray(painted.convert("RGB"))
    assert np.array_equal(loaded(painted)[0], before)
    opened = Image.open(io.BytesIO(data))
    opened.seek(2)
    assert (loaded(opened)[0] == shades[2]).all()
    assert (loaded(opened, page=1)[0] == shades[1]).all()
    assert opened.tell() == 2
    with pytest.raises(ImageError, match="no page 3: it has 3, numbered from 0"):
        load_image(data, page=3)


def test_what_has_no_pages_has_page_0_alone() -> None:
    for source in (PICTURE, encoded(PICTURE, "jpeg"), encoded(PICTURE, "png"), Image.fromarray(PICTURE)):
        load_image(source, page=0)
        with pytest.raises(ImageError, match="no page 1"):
            load_image(source, page=1)
    for page in (-1, True, "1"):
        with pytest.raises(ConfigError, match="page"):
            load_image(PICTURE, page=page)


def test_smaller_copies_of_a_page_are_no_pages() -> None:
    thumbnail = Image.fromarray(PICTURE).resize((8, 6))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    first = Image.fromarray(PICTURE)
    data = encoded(first, "tiff", save_all=True, append_images=[thumbnail])
    assert loaded(data)[1] == []


def test_an_encoded_file_as_an_array() -> None:
    for kind in ("png", "jpeg", "webp"):
        data = encoded(PICTURE, kind)
        row = np.frombuffer(data, np.uint8)
        expected = load_image(data)
        for array in (row, row[:, None], row[None], torch.tensor(row)):
            np.testing.assert_array_equal(load_image(array), expected)
        assert not is_many_pictures(row)
    # A picture of one row is none of these.
    assert load_image(np.zeros((1, 100), np.uint8)).shape == (1, 100, 3)


@pytest.mark.parametrize("orientation", [6, 8, 5, 2])
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
def test_the_orientation_may_be_left_alone(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(PICTURE), kind, exif=exif.tobytes())
    plain = encoded(Image.fromarray(PICTURE), kind)
    np.testing.assert_array_equal(load_image(data, exif_orientation=False), load_image(plain))
    np.testing.assert_array_equal(load_image(data), upright(load_image(plain), orientation))
    assert load_image(Image.open(io.BytesIO(data)), exif_orientation=False).shape == PICTURE.shape


@pytest.mark.parametrize(
    ("kind", "value", "turned"),
    [*((kind, b"\6\0\0\0", True) for kind in (1, 3, 4, 7)), (2, b"6\0\0\0", True)]
    + [(3, bytes([none, 0, 0, 0]), False) for none in (0, 9)],
)
def test_orientations_of_other_types(kind: int, value: bytes, turned: bool) -> None:
    """As numbers of 1, 2 and 4 bytes, text and bytes; 0 and 9 are none."""
    entry = struct.pack("<HHI", 0x112, kind, 2 if kind == 2 else 1) + value
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    got, warnings = loaded(encoded(Image.fromarray(PICTURE), "jpeg", exif=exif))
    assert got.shape == ((40, 24, 3) if turned else (24, 40, 3))
    assert warnings == []


@pytest.mark.parametrize(
    "kind", ["1", "L", "LA", "La", "P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_every_mode_of_pillow_shows_the_picture(kind: str) -> None:
    image = Image.fromarray(GREY)
    if kind in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[kind])
    if kind == "LAB":
        image = Image.merge("LAB", [image, *[Image.new("L", image.size, 128)] * 2])
    image = image.convert(kind)
    got, warnings = loaded(image)
    assert warnings == []
    assert np.corrcoef(got[..., 1].ravel(), GREY.ravel())[0, 1] > (0.4 if kind == "1" else 0.99)


@pytest.mark.parametrize(("level", "dark"), [(0, True), (20, True), (60, True), (70, False), (255, False)])
def test_very_dark_pictures(level: int, dark: bool) -> None:
    assert is_dark(np.full((200, 301, 3), level, np.uint8)) is dark
    lamps = np.full((200, 301, 3), level, np.uint8)
    lamps[::20, ::20] = 255
    assert is_dark(lamps) is dark
