"""Every kind of source gives the same pixels; everything that is no picture is refused by name."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from engine import decode
from engine.config import ImageLimits
from engine.errors import ConfigError, ImageError
from engine.images import load_image

SIZES = [(1, 1), (1, 7), (9, 1), (13, 17), (64, 48)]
# name -> (Pillow format, options); the lossless ones give back exactly what was saved.
LOSSLESS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "ppm": ("PPM", {}),
}
LOSSY: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {}),
    "jpeg-progressive": ("JPEG", {"progressive": True}),
    "jpeg-444": ("JPEG", {"subsampling": 0}),
    "webp-lossy": ("WEBP", {}),
    "gif": ("GIF", {}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg"}),
}
FORMATS = LOSSLESS | LOSSY


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Gradients, which every channel order and orientation changes, and which lossy formats keep closely."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 200 // width + 30, y * 200 // height + 30, (x + y) * 100 // (width + height)], -1).astype(
        np.uint8
    )


def encoded(picture: np.ndarray | Image.Image, kind: str = "png", **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    name, defaults = FORMATS[kind]
    image.save(file, name, **{**defaults, **options})
    return file.getvalue()


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
    assert loaded.dtype == np.uint8 and loaded.flags.c_contiguous and loaded.flags.writeable
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
        assert loaded.dtype == np.uint8 and loaded.flags.c_contiguous, name
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
    expected = on_white(np.asarray(image.convert("RGBA"), np.float64))
    assert np.abs(load_image(image) - expected).max() <= 0.5 + 1e-9
    if mode == "RGBA":
        np.testing.assert_array_equal(load_image(rgba), load_image(image))
        np.testing.assert_array_equal(load_image(encoded(image)), load_image(image))
        assert (load_image(image)[0] == 255).all() and (load_image(image)[1] == rgba[1, :, :3]).all()


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
        with pytest.raises(ImageError, match="32-bit"):
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
        (np.zeros((4, 5, 3), np.int64), "int64"),
        (np.zeros((4, 5, 3), np.uint32), "uint32"),
        (np.zeros((4, 5, 3), complex), "complex"),
        (np.zeros((4, 5, 3), object), "object"),
        (np.array([["a"]]), "<U1"),
        (np.array([[0.0, np.nan]]), "finite"),
        (np.array([[0.0, np.inf]]), "finite"),
        (np.array([[0.0, 1.001]]), "divide by 255"),
        (np.array([[-0.001, 1.0]], np.float32), r"\[0, 1\]"),
        (torch.zeros(2, 3, 4, 5), "one by one"),
        (torch.zeros(3, 4, 5, dtype=torch.int32), "int32"),
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

    with pytest.raises(ImageError, match="Failing.*Implicit conversion"):
        load_image(Failing())


@pytest.mark.parametrize("url", ["http://example.org/a.jpg", "https://a/b.png", "rtsp://cam", "file:///a.jpg"])
def test_urls_are_not_fetched(url: str) -> None:
    with pytest.raises(ImageError, match="not fetched"):
        load_image(url)


def test_bad_paths_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(encoded(pixels(20, 20))[:300])
    cases = {
        "gone.jpg": "does not exist",
        "": "is a folder",
        "empty.jpg": "empty",
        "text.jpg": "not a pict",
        "cut.png": "cut short",
        "text.jpg/x.jpg": "cannot be opened",
        "n\0ul.jpg": "cannot be opened",
        "n" * 5000: "cannot be opened",
    }
    for name, message in cases.items():
        for path in (tmp_path / name, str(tmp_path / name)):
            with pytest.raises(ImageError, match=message) as caught:
                load_image(path)
            assert name in str(caught.value) or "\0" in name
    with pytest.raises(ImageError, match="does not exist"):
        load_image("")


@pytest.mark.parametrize(
    "head",
    [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"8BPS\0\1", b"%PDF-1.7\n", b"\0\0\0\x1cftypheic", b"<svg></svg>", b"GIF", b"P7\n"],
)
def test_other_formats_are_refused_by_their_first_bytes(head: bytes) -> None:
    with pytest.raises(ImageError, match="<bytes> is no picture of a supported kind.*JPEG, PNG, WebP"):
        load_image(head + bytes(100))


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_cut_files_are_never_silent(kind: str, fast: bool, tolerant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cut is refused, or lost no pixel; even when someone told Pillow to pad cut files."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant)
    if not fast:
        monkeypatch.setattr(decode, "simplejpeg", None)
    data = encoded(smooth(37, 41), kind)
    whole = load_image(data)
    refused = 0
    for length in [*range(0, len(data) - 20, max(1, len(data) // 60)), *range(len(data) - 20, len(data))]:
        try:
            loaded = load_image(data[:length])
        except ImageError:
            refused += 1
        else:
            np.testing.assert_array_equal(loaded, whole, err_msg=f"{kind} cut at {length} of {len(data)}")
    assert refused >= 60


def test_jpegs_whose_scan_stops_early_are_refused() -> None:
    data = encoded(pixels(64, 64), "jpeg")
    with pytest.raises(ImageError, match="remature end"):
        load_image(data[: len(data) // 2] + b"\xff\xd9")


def test_simplejpeg_and_pillow_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode.simplejpeg is not None, "simplejpeg is part of a normal installation"
    cases = [
        encoded(Image.fromarray(pixels(h, w)).convert(mode), "jpeg", subsampling=s, progressive=p)
        for h, w in SIZES
        for mode in ("RGB", "L")
        for s in (0, 1, 2)
        for p in (False, True)
    ]
    fast = [load_image(data) for data in cases]
    monkeypatch.setattr(decode, "simplejpeg", None)
    for a, data in zip(fast, cases):
        np.testing.assert_array_equal(a, load_image(data))


def test_stray_bytes_in_a_jpeg_are_harmless() -> None:
    data = encoded(smooth(30, 30), "jpeg")
    stray = data[:-2] + b"\0\0\0" + data[-2:]
    np.testing.assert_array_equal(load_image(stray), load_image(data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, with hardly any data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    body = chunk(b"IHDR", size + b"\x08\x02\0\0\0") + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("size", [(16000, 10001), (13000, 13000), (20000, 20000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_from_their_header(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"<bytes> is {size[0]}x{size[1]}.*CROWD_MAX_PIXELS"):
        load_image(png_header(*size))


def test_bombs_cost_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(12000, 13400))
    program = f"""
import resource
from engine.errors import ImageError
from engine.images import load_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_image({str(path)!r})
except ImageError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    run = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 50 * 1024


@pytest.mark.filterwarnings("error")
def test_pillows_own_limits_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    picture = pixels(20, 20)
    for kind in ("png", "bmp", "ppm"):
        np.testing.assert_array_equal(load_image(encoded(picture, kind)), picture)
    assert load_image(encoded(picture, "jpeg")).shape == (20, 20, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_limits_hold_for_every_source() -> None:
    picture = pixels(10, 10)
    for source in (
        picture,
        encoded(picture),
        encoded(picture, "jpeg"),
        Image.fromarray(picture),
        torch.tensor(picture),
    ):
        assert load_image(source, limits=ImageLimits(max_pixels=100)).shape == (10, 10, 3)
        with pytest.raises(ImageError, match="more than the limit of 99"):
            load_image(source, limits=ImageLimits(max_pixels=99))


def test_files_above_max_bytes_are_refused(tmp_path: Path) -> None:
    data = encoded(pixels(10, 10))
    path = tmp_path / "a.png"
    path.write_bytes(data)

    class Endless:
        def read(self, size: int) -> bytes:
            return bytes(size)

    limits = ImageLimits(max_bytes=len(data) - 1)
    for source in (data, path, io.BytesIO(data), memoryview(data), Endless()):
        with pytest.raises(ImageError, match="larger than the limit"):
            load_image(source, limits=limits)
    assert load_image(path, limits=ImageLimits(max_bytes=len(data))).shape == (10, 10, 3)


def test_limits_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CROWD_MAX_PIXELS", raising=False)
    assert ImageLimits().max_pixels == 160_000_000
    monkeypatch.setenv("CROWD_MAX_PIXELS", "12")
    assert ImageLimits().max_pixels == 12
    assert ImageLimits(max_pixels=5).max_pixels == 5
    with pytest.raises(ImageError, match="limit of 12"):
        load_image(pixels(4, 4))
    for text in ("0", "-3", "1e6", "many"):
        monkeypatch.setenv("CROWD_MAX_PIXELS", text)
        with pytest.raises(ConfigError, match="CROWD_MAX_PIXELS"):
            ImageLimits()
    with pytest.raises(ConfigError, match="max_bytes"):
        ImageLimits(max_pixels=1, max_bytes=0)


def test_file_objects() -> None:
    picture = pixels(6, 7)
    data = encoded(picture)
    file = io.BytesIO(data)
    file.seek(0, io.SEEK_END)
    np.testing.assert_array_equal(load_image(file), picture)

    class Pipe:
        """Cannot seek, and gives a few bytes at a time."""

        def __init__(self) -> None:
            self.file = io.BytesIO(data)

        def read(self, size: int) -> bytes:
            return self.file.read(min(size, 10))

    np.testing.assert_array_equal(load_image(Pipe()), picture)
    file.close()
    with pytest.raises(ImageError, match="cannot be read"):
        load_image(file)


def test_pictures_larger_than_a_band() -> None:
    """Conversion by bands has no seams."""
    picture = smooth(1500, 1600)
    image = Image.fromarray(picture)
    np.testing.assert_array_equal(load_image(image), picture)
    np.testing.assert_array_equal(load_image(picture / 255), picture)
    np.testing.assert_array_equal(load_image(image.convert("CMYK")), np.asarray(image.convert("CMYK").convert("RGB")))


def test_damaged_exif_is_taken_as_upright() -> None:
    picture = smooth(9, 12)
    data = encoded(picture, "jpeg", exif=b"Exif\0\0garbage that is no TIFF header")
    np.testing.assert_array_equal(load_image(data), load_image(encoded(picture, "jpeg")))


def test_threads_agree() -> None:
    data = [encoded(pixels(50, 60, seed), kind) for seed in range(4) for kind in ("jpeg", "png", "tiff-lzw")]
    expected = [load_image(d) for d in data]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(5):
            wrong.extend(i for i, d in enumerate(data) if not np.array_equal(load_image(d), expected[i]))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        # Half of the damage falls on the header, where it does most.
        at = int(rng.integers(0, min(len(damaged), 64) if rng.random() < 0.5 else len(damaged)))
        match rng.integers(0, 8):
            case 0:
                del damaged[max(at, 1) :]
            case 1:
                del damaged[at : min(at + int(rng.integers(1, 9)), at + len(damaged) - 1)]
            case _:
                damaged[at] = rng.integers(0, 256)
    return bytes(damaged)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_are_read_or_refused(kind: str) -> None:
    """Nothing but an array or an ImageError comes out, whatever bytes go in."""
    rng = np.random.default_rng(list(kind.encode()))
    modes = ["RGB", "L"] if "jpeg" in kind or "webp" in kind else ["RGB", "L", "P", "1"]
    seeds = [
        encoded(Image.fromarray(smooth(23, 29)).convert(mode), kind) for mode in modes if (kind, mode) != ("ppm", "P")
    ]
    for number in range(300):
        try:
            loaded = load_image(mutate(seeds[number % len(seeds)], rng))
        except ImageError:
            continue
        assert loaded.dtype == np.uint8 and loaded.ndim == 3 and loaded.shape[2] == 3
