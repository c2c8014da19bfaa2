"""Damaged pictures: sound files of every kind, and reproducible damage to them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import numpy as np
from pictures import FORMATS, encoded, smooth
from PIL import Image, PngImagePlugin

# What a hostile number looks like in a header: nothing, the ends of signed and unsigned ranges.
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def sound_files() -> dict[str, bytes]:
    """Small pictures by name: every format that is read, in its modes and with the extras that parsers trip over."""
    picture = Image.fromarray(smooth(23, 29))
    files = {f"{kind}.{mode}": _file(picture.convert(mode), kind) for kind in FORMATS for mode in _modes(kind)}
    files["gif.animated"] = _file(picture, "gif", save_all=True, append_images=[picture.rotate(90), picture.rotate(45)])
    files["webp.animated"] = _file(picture, "webp", save_all=True, append_images=[picture.rotate(90)])
    files["png.interlaced text"] = _text_png(picture)
    files["tiff.tiled big-endian"] = _big_endian(picture)
    exif = Image.Exif()
    exif[0x0112] = 6
    files["jpeg.exif"] = _file(picture, "jpeg", exif=exif, icc_profile=bytes(300), comment=b"a comment")
    files["webp.exif"] = _file(picture, "webp", exif=exif)
    files["png.16"] = _png16()
    avif = io.BytesIO()
    picture.save(avif, "AVIF")
    files["avif.RGB"] = avif.getvalue()
    return files


def _modes(kind: str) -> tuple[str, ...]:
    if "jpeg" in kind:
        return ("RGB", "L") if kind == "tiff-jpeg" else ("RGB", "L", "CMYK")
    if "webp" in kind:
        return ("RGB", "RGBA")
    return {"png": ("RGB", "RGBA", "L", "P", "1", "LA"), "ppm": ("RGB", "L", "1"), "gif": ("P", "L")}.get(
        kind, ("RGB", "L", "P", "1")
    )


def _file(picture: Image.Image, kind: str, **options: object) -> bytes:
    return encoded(picture, kind, **options)


def _text_png(picture: Image.Image) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "crowd " * 200, zip=True)
    text.add_itxt("Title", "x", "en", "y")
    return _file(picture, "png", pnginfo=text, transparency=(1, 2, 3))


def _png16() -> bytes:
    return _file(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 160), "png")


def _big_endian(picture: Image.Image) -> bytes:
    """A TIFF written by hand, as Pillow writes the machine's own byte order: MM, one strip, uncompressed."""
    pixels = np.asarray(picture).tobytes()
    width, height = picture.width << 16, picture.height << 16
    tags = [(256, 3, width), (257, 3, height), (258, 3, 8 << 16), (259, 3, 1 << 16), (262, 3, 2 << 16), (273, 4, 8),
            (277, 3, 3 << 16), (278, 3, height), (279, 4, len(pixels))]  # fmt: skip
    entries = b"".join(
        tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + (1).to_bytes(4, "big") + value.to_bytes(4, "big")
        for tag, kind, value in tags
    )
    head = b"MM\0*" + (8 + len(pixels)).to_bytes(4, "big")
    return head + pixels + len(tags).to_bytes(2, "big") + entries + bytes(4)


def claimed_png(width: int, height: int, rows: int = 0) -> bytes:
    """A PNG, sound but for its end, that claims to be ``width`` x ``height`` and holds ``rows`` black rows."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 + 3 * width)) for _ in range(rows)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def mutate(data: bytes, rng: np.random.Generator, other: bytes = b"") -> bytes:
    """One to five kinds of damage: bits, bytes, numbers, cuts, insertions, repetitions, parts of another file.

    Args:
        data: a sound file.
        rng: chooses; the same state, the same damage.
        other: file that parts are taken from.
    """
    damaged = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        # Half of the damage falls on the header, where it does most.
        end = min(len(damaged), 80) if rng.random() < 0.5 else len(damaged)
        at = int(rng.integers(0, max(end, 1)))
        _DAMAGES[int(rng.integers(0, len(_DAMAGES)))](damaged, at, rng, other)
    return bytes(damaged)


def _flip(data: bytearray, at: int, rng: np.random.Generator, _: bytes) -> None:
    if data:
        data[at % len(data)] ^= 1 << int(rng.integers(0, 8))


def _byte(data: bytearray, at: int, rng: np.random.Generator, _: bytes) -> None:
    data[at : at + 1] = bytes([int(rng.integers(0, 256))])


def _number(data: bytearray, at: int, rng: np.random.Generator, _: bytes) -> None:
    size = int(rng.choice([1, 2, 4]))
    number = int(rng.choice(np.array(_NUMBERS, np.int64))) & (256**size - 1)
    data[at : at + size] = number.to_bytes(size, "little" if rng.random() < 0.5 else "big")


def _cut(data: bytearray, at: int, rng: np.random.Generator, _: bytes) -> None:
    del data[at if rng.random() < 0.1 else int(rng.integers(0, len(data) + 1)) :]


def _remove(data: bytearray, at: int, rng: np.random.Generator, _: bytes) -> None:
    del data[at : at + int(rng.integers(1, 17))]


def _insert(data: bytearray, at: int, rng: np.random.Generator, _: bytes) -> None:
    data[at:at] = rng.bytes(int(rng.integers(1, 17)))


def _repeat(data: bytearray, at: int, rng: np.random.Generator, _: bytes) -> None:
    part = bytes(data[at : at + int(rng.integers(1, 200))])
    data[at:at] = part * int(rng.integers(1, 8))


def _splice(data: bytearray, at: int, rng: np.random.Generator, other: bytes) -> None:
    start = int(rng.integers(0, len(other) + 1))
    data[at : at + 64] = other[start : start + 64]


_Damage = Callable[[bytearray, int, np.random.Generator, bytes], None]
# Flips and bytes thrice: the more is destroyed, the sooner a parser stops, and the less of it is tried.
_DAMAGES: tuple[_Damage, ...] = (
    *(_flip, _flip, _flip, _byte, _byte, _byte, _number, _number, _number),
    *(_cut, _remove, _insert, _repeat, _splice),
)
