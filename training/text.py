"""Text for training pictures: what recorders burn into a picture, and pages of writing. None of it is a head."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SIGNS = _LETTERS + "0123456789" * 3 + ":.-/#%()&+ "
_WORDS = [
    "CAM",
    "Camera",
    "Entrance",
    "North",
    "South",
    "Gate",
    "Hall",
    "Exit",
    "Lobby",
    "Platform",
    "Zone",
    "REC",
    "LIVE",
    "IPC",
    "DVR",
    "Channel",
    "Street",
    "Floor",
]
_DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
# Lines of a page, at most.
_MOST_LINES = 40


def text_layer(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random text on a transparent square.

    Args:
        size: pixels per side.

    Returns:
        Colour float32 [3, size, size] in 0 .. 1, and opacity float32 [size, size]: 0 where there is no text.
    """
    layer = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    height = int(np.exp(rng.uniform(np.log(8), np.log(64))))
    font = _font(int(rng.integers(len(_font_files()) + 1)), height)
    fill = tuple(int(x) for x in _fill(rng))
    stroke = int(rng.integers(1, 3)) if height > 16 and rng.random() < 0.5 else 0
    edge = (0, 0, 0, 255) if sum(fill[:3]) > 380 else (255, 255, 255, 255)
    lines = int(rng.integers(4, _MOST_LINES)) if rng.random() < 0.3 else int(rng.integers(1, 3))
    x, y = rng.uniform(-0.3, 0.7) * size, rng.uniform(-0.1, 0.95 if lines < 3 else 0.3) * size
    spacing = height * rng.uniform(1.1, 1.9)
    for line in range(lines):
        place = x, y + line * spacing
        text = _text(rng, long=lines > 2)
        if lines < 3 and rng.random() < 0.3:
            draw.rectangle(draw.textbbox(place, text, font=font), fill=(*edge[:3], int(rng.integers(60, 256))))
        draw.text(place, text, fill=fill, font=font, stroke_width=stroke, stroke_fill=edge)
    values = np.asarray(layer, np.float32) / 255
    return np.ascontiguousarray(values[..., :3].transpose(2, 0, 1)), values[..., 3]


def _fill(rng: np.random.Generator) -> np.ndarray:
    colour = rng.integers(256, size=4)
    colour[3] = 255 if rng.random() < 0.7 else rng.integers(120, 256)
    kind = rng.random()
    if kind < 0.8:
        colour[:3] = [255] * 3 if kind < 0.5 else [0] * 3 if kind < 0.7 else [255, 255, 0]
    return colour


def _text(rng: np.random.Generator, long: bool) -> str:
    pieces = [_piece(rng) for _ in range(int(rng.integers(4, 12)) if long else int(rng.integers(1, 4)))]
    return " ".join(pieces)


def _piece(rng: np.random.Generator) -> str:
    kind = rng.random()
    number = rng.integers(0, 60, 6)
    if kind < 0.25:
        return f"20{number[0]:02d}-{1 + number[1] % 12:02d}-{1 + number[2] % 28:02d}"
    if kind < 0.45:
        return f"{number[3] % 24:02d}:{number[4]:02d}:{number[5]:02d}"
    if kind < 0.55:
        return str(rng.choice(_DAYS))
    if kind < 0.75:
        return f"{rng.choice(_WORDS)} {number[0]:02d}"
    return "".join(rng.choice(list(_SIGNS), int(rng.integers(1, 14))))


@lru_cache(maxsize=1)
def _font_files() -> tuple[Path, ...]:
    """Fonts that Matplotlib brings, if it is installed; Pillow has one of its own."""
    try:
        import matplotlib
    except ImportError:
        return ()
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    # There is nothing to read where there are symbols alone.
    return tuple(
        path
        for path in sorted(folder.glob("*.ttf"))
        if path.stem.startswith(("DejaVu", "STIXGeneral", "cmr", "cmtt", "cmss"))
    )


@lru_cache(maxsize=256)
def _font(number: int, height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    files = _font_files()
    if number < len(files):
        return ImageFont.truetype(files[number], height)
    return ImageFont.load_default(height)
