"""Every kind of source gives the same upright RGB pixels, and what is no picture is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import LOSSLESS, SIZES, encoded, pixels, smooth
from PIL import Image

from engine.errors import ConfigError, ImageError
from engine.image import decode
from engine.image.load import load_image


class Foreign:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array


class Interface:
    def __init__(self, array: np.ndarray) -> None:
        self.__array_interface__ = array.__array_interface__
        self.keep = array


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_files_give_their_pixels(kind: str, size: tuple[int, int]) -> None:
    picture = pixels(*size)
    loaded = load_image(encoded(picture, kind))
    assert loaded.dtype == np.uint8
    assert loaded.flags.c_contiguous
    assert loaded.flags.writeable
    np.testing.assert_array_equal(loaded, picture)


@pytest.mark.parametrize("kind", ["png", "jpeg", "jpeg-progressive", "webp-lossy", "gif"])
def test_every_kind_of_source_gives_the_same_array(kind: str, tmp_path: Path) -> None:
    data = encoded(smooth(31, 45), kind)
    path = tmp_path / "picture.bin"
    path.write_bytes(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    chw = torch.from_numpy(expected.copy()).permute(2, 0, 1)
    sources: dict[str, Any] = {
        "str": str(path),
        "Path": path,
        "bytes": data,
        "bytearray": bytearray(data),
        "memoryview": memoryview(data),
        "strided memoryview": memoryview(bytes(b for byte in data for b in (byte, 0)))[::2],
        "file": io.BytesIO(data),
        "PIL": Image.open(io.BytesIO(data)),
        "PIL RGB": Image.fromarray(expected),
        "array": expected,
        "Fortran": np.asfortranarray(expected),
        "float32": expected.astype(np.float32) / 255,
        "float64": expected / 255,
        "float16": (expected / 255).astype(np.float16),
        "opaque RGBA": np.dstack([expected, np.full(expected.shape[:2], 255, np.uint8)]),
        "__array__": Foreign(expected),
        "__array_interface__": Interface(expected),
        "tensor HWC": chw.permute(1, 2, 0),
        "tensor CHW": chw,
        "tensor float": (chw.float() / 255).requires_grad_(),
    }
    for name, source in sources.items():
        loaded = load_image(source)
        assert loaded.dtype == np.uint8, name
        assert loaded.flags.c_contiguous, name
        np.testing.assert_array_equal(loaded, expected, err_msg=name)
    with path.open("rb") as file:
        np.testing.assert_array_equal(load_image(file), expected)
    for bgr in (expected[..., ::-1], torch.from_numpy(expected[..., ::-1].copy())):
        np.testing.assert_array_equal(load_image(bgr, color="bgr"), expected)


def test_bgr_reorders_arrays_only() -> None:
    bgra = np.array([[[1, 2, 3, 255]]], np.uint8)
    assert load_image(bgra, color="bgr").tolist() == [[[3, 2, 1]]]
    assert load_image(bgra[..., :1], color="bgr").tolist() == [[[1, 1, 1]]]
    picture = pixels(5, 6)
    np.testing.assert_array_equal(load_image(encoded(picture), color="bgr"), picture)
    np.testing.assert_array_equal(load_image(Image.fromarray(picture), color="bgr"), picture)


@pytest.mark.parametrize("color", ["RGB", "gbr", "L", None])
def test_other_orders_are_refused(color: Any) -> None:
    with pytest.raises(ConfigError, match="color"):
        load_image(pixels(2, 2), color=color)


def test_the_result_never_shares_memory() -> None:
    picture = pixels(4, 5)
    tensor = torch.from_numpy(picture)
    for source in (picture, tensor, Foreign(picture)):
        loaded = load_image(source)
        loaded[:] = 0
        assert picture.any()


# How a viewer maps stored rows and columns (0th row, 0th column of EXIF's table), written out with NumPy.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.rot90(np.fliplr(a), 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.fliplr(a), -1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "tiff-lzw"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(orientation: int, kind: str, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(decode, "simplejpeg", None)
    stored = smooth(17, 30)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, kind, exif=exif)
    expected = UPRIGHT[orientation](load_image(encoded(stored, kind)))
    np.testing.assert_array_equal(load_image(data), expected)
    np.testing.assert_array_equal(load_image(Image.open(io.BytesIO(data))), expected)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist_turn_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = smooth(9, 14)
    np.testing.assert_array_equal(load_image(encoded(picture, "png", exif=exif)), picture)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_opaque_modes(mode: str) -> None:
    image = Image.fromarray(smooth(20, 33)).convert(mode)
    np.testing.assert_array_equal(load_image(image), np.asarray(image.convert("RGB")))


def on_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "RGBa", "PA"])
def test_transparency_is_composited_on_white(mode: str) -> None:
    rgba = np.dstack([pixels(16, 19), np.random.default_rng(1).integers(0, 256, (16, 19), dtype=np.uint8)])
    rgba[0, :, 3], rgba[1, :, 3] = 0, 255
    image = Image.fromarray(rgba)
    # There is no direct way to some modes.
    image = image.convert("LA" if mode == "La" else "RGBA")
    if mode == "PA":
        palette = Image.fromarray(rgba[..., :3]).quantize(16)
        image = palette.convert("PA")
        image.putalpha(Image.fromarray(rgba[..., 3]))
    elif mode != image.mode:
        image = image.convert(mode)
    opened = image.convert("LA") if mode == "La" else image
    expected = on_white(np.asarray(opened.convert("RGBA"), np.float64))
    assert np.abs(load_image(image) - expected).max() <= 0.5 + 1e-9
    if mode == "RGBA":
        np.testing.assert_array_equal(load_image(rgba), load_image(image))
        np.testing.assert_array_equal(load_image(encoded(image)), load_image(image))
        assert (load_image(image)[0] == 255).all()
        assert (load_image(image)[1] == rgba[1, :, :3]).all()


def test_transparent_colours_of_png_and_gif() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    for kind in ("png", "gif"):
        loaded = load_image(encoded(image, kind, transparency=1))
        assert loaded.tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]
    grey = Image.fromarray(np.array([[0, 100]], np.uint8))
    assert load_image(encoded(grey, transparency=100))[..., 0].tolist() == [[0, 255]]


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.arange(0, 65536, 7, dtype=np.uint16).reshape(1, -1)
    expected = np.repeat(np.rint(ramp[..., None] * (255 / 65535)), 3, 2)
    image = Image.fromarray(ramp)
    assert image.mode == "I;16"
    sources = [ramp, ramp.astype(">u2"), ramp[..., None], image, image.convert("I"), encoded(image), torch.tensor(ramp)]
    for source in [*sources, encoded(image, "tiff"), encoded(image, "ppm")]:
        np.testing.assert_array_equal(load_image(source), expected)
    floats = Image.fromarray((ramp / 65535).astype(np.float32))
    assert floats.mode == "F"
    np.testing.assert_array_equal(load_image(floats), expected)
    np.testing.assert_array_equal(load_image(floats), load_image(encoded(floats, "tiff")))


def test_thirty_two_bit_integers_outside_sixteen_are_refused() -> None:
    for value in (-1, 65536):
        with pytest.raises(ImageError, match="integers from"):
            load_image(Image.fromarray(np.array([[0, value]], np.int32)))


def test_bool_arrays_are_black_and_white() -> None:
    assert load_image(np.array([[False, True]]))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff"])
def test_animations_give_their_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 6), c) for c in ("red", "lime", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(load_image(data), np.asarray(frames[0]))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 4, 5), (4, 5)),
        ((4, 5, 3), (4, 5)),
        ((3, 4, 3), (4, 3)),
        ((4, 5), (4, 5)),
        ((1, 4, 5), (4, 5)),
        ((4, 4, 5), (4, 5)),
        ((4, 5, 4), (4, 5)),
        ((1, 5, 3), (1, 5)),
    ],
)
def test_tensor_layouts(shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    assert load_image(torch.zeros(shape, dtype=torch.uint8)).shape == (*expected, 3)


def test_bfloat16_tensors() -> None:
    assert load_image(torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.bfloat16))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 4, 3), np.uint8), "at least 1x1"),
        (np.zeros((4, 0), np.uint8), "at least 1x1"),
        (np.zeros(9, np.uint8), r"shape \[9\]"),
        (np.zeros((), np.uint8), r"shape \[\]"),
        (np.zeros((4, 5, 2), np.uint8), r"shape \[4, 5, 2\]"),
        (np.zeros((3, 4, 5), np.uint8), r"shape \[3, 4, 5\]"),
        (np.zeros((2, 4, 5, 3), np.uint8), "one by one"),
        (np.full((4, 5, 3), -1, np.int64), "integers from -1 to 0"),
        (np.full((4, 5, 3), 65536, np.uint32), "integers from 0 to 65536"),
        (np.zeros((4, 5, 3), complex), "complex"),
        (np.zeros((4, 5, 3), object), "object"),
        (np.array([["a"]]), "<U1"),
        (np.array([[0.0, np.nan]]), "finite"),
        (np.array([[0.0, np.inf]]), "finite"),
        (np.array([[0.0, -np.inf]]), "finite"),
        (np.array([[0.0, 65536.0]]), "expected 0 to 1, 255 or at most 65535"),
        (np.array([[-0.001, 1.0]], np.float32), "floats from -0.001 to 1"),
        (torch.zeros(2, 3, 4, 5), "one by one"),
        (torch.full((3, 4, 5), -1, dtype=torch.int32), "integers from -1"),
        (torch.zeros(4, 5).to_sparse(), "<tensor>"),
    ],
)
def test_bad_arrays_are_refused(array: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(array)


@pytest.mark.parametrize("source", [None, 3, [1, 2], {}, object(), np.ndarray, io.StringIO("text")])
def test_other_objects_are_refused(source: Any) -> None:
    with pytest.raises(ImageError, match="expected"):
        load_image(source)


def test_failing_foreign_arrays_are_refused() -> None:
    class Failing:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise TypeError("Implicit conversion is not allowed")

    with pytest.raises(ImageError, match=r"Failing.*Implicit conversion"):
        load_image(Failing())


def test_pictures_larger_than_a_band() -> None:
    """Conversion by bands has no seams."""
    picture = smooth(1500, 1600)
    image = Image.fromarray(picture)
    np.testing.assert_array_equal(load_image(image), picture)
    np.testing.assert_array_equal(load_image(picture / 255), picture)
    np.testing.assert_array_equal(load_image(image.convert("CMYK")), np.asarray(image.convert("CMYK").convert("RGB")))
