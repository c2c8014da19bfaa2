"""Files that are cut, damaged, too large, missing or no pictures are refused by name; sound ones are not."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import FORMATS, SIZES, encoded, pixels, smooth
from PIL import Image, ImageFile

from engine.config import ImageLimits
from engine.errors import ConfigError, ImageError
from engine.image import decode
from engine.image.load import load_image


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
    [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"8BPS\0\1", b"%PDF-1.7\n", b"\0\0\0\x1cftypmp42", b"<svg></svg>", b"GIF", b"P7\n"],
)
def test_other_formats_are_refused_by_their_first_bytes(head: bytes) -> None:
    with pytest.raises(ImageError, match=r"<bytes> is no picture of a supported kind.*JPEG, PNG, WebP"):
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
    for a, data in zip(fast, cases, strict=True):
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
from engine.image.load import load_image
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
    for kind in ("tiff", "tiff-lzw", "tiff-deflate"):
        exif = Image.Exif()
        exif[0x0112] = 6
        np.testing.assert_array_equal(load_image(encoded(picture, kind, exif=exif)), np.rot90(picture, -1))
    with pytest.raises(ImageError, match=r"limit of its own .* PIL.Image.MAX_IMAGE_PIXELS"):
        load_image(encoded(picture, "webp"))
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
        assert loaded.dtype == np.uint8
        assert loaded.ndim == 3
        assert loaded.shape[2] == 3
