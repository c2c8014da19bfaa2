"""Text on a picture: legible on any ground, at any size, or not there at all."""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

LIGHT: Colour = (255, 255, 255)
DARK: Colour = (24, 20, 37)
# Below the first size in pixels a shorter text is better; below the second no text can be read.
GOOD_FONT, SMALLEST_FONT = 11.0, 8.0
# Dark grounds let a little of the picture through.
_OPACITY = 215
_PAD, _STRIP = 0.45, 0.3


@dataclass(frozen=True)
class Plate:
    """A line of text on a rounded ground of its own.

    Attributes:
        text: signs of the built-in font (:func:`spell`).
        size: of the font, in pixels.
        ink, ground: colours.
        strip: colour of a bar at the left end, which says what the text belongs to.
    """

    text: str
    size: float
    ink: Colour = LIGHT
    ground: Colour = DARK
    strip: Colour | None = None

    @property
    def extent(self) -> tuple[int, int]:
        """Width and height in pixels."""
        left, _, right, _ = ImageFont.load_default(self.size).getbbox(self.text)
        strip = _STRIP * self.size if self.strip else 0
        return math.ceil(right - left + strip + 2 * _PAD * self.size), math.ceil(self.size * (1 + 2 * _PAD))

    def draw(self, canvas: Image.Image, corner: tuple[int, int]) -> None:
        """Draw it with its top left corner there."""
        width, height = self.extent
        # Drawn large and shrunk, for smooth corners.
        mask = Image.new("L", (width * 4, height * 4))
        ImageDraw.Draw(mask).rounded_rectangle(
            (0, 0, width * 4 - 1, height * 4 - 1), height, fill=_OPACITY if self.ground == DARK else 255
        )
        mask = mask.reduce(4)
        canvas.paste(self.ground, corner, mask)
        start = corner[0] + _PAD * self.size
        if self.strip:
            bar = math.ceil(_STRIP * self.size)
            canvas.paste(self.strip, corner, mask.crop((0, 0, bar, height)).point(lambda level: min(255, level * 2)))
            start += bar
        font = ImageFont.load_default(self.size)
        at = (start - font.getbbox(self.text)[0], corner[1] + height / 2)
        ImageDraw.Draw(canvas).text(at, self.text, fill=self.ink, font=font, anchor="lm")


def fit(texts: Sequence[str], size: float, width: float, height: float) -> tuple[str, float] | None:
    """The first text, from long to short, that can be read in that space, and the size of its font.

    Args:
        size: of the font where there is room; less is taken where there is not.
        width, height: of the plate, in pixels.

    Returns:
        None if even the last would be too small to read.
    """
    chosen = None
    for text in texts:
        # Text grows in proportion to its font, so one measurement gives the size that fits.
        per_size = _length(text) + 2 * _PAD + _STRIP
        chosen = text, min(size, width / per_size, height / (1 + 2 * _PAD))
        if chosen[1] >= GOOD_FONT:
            return chosen
    return chosen if chosen and chosen[1] >= SMALLEST_FONT else None


def spell(name: str, otherwise: str) -> str:
    """``name`` in the signs that the built-in font has: without accents, or ``otherwise`` if it needs others.

    >>> spell("Entrée Süd", "zone 1"), spell("北门", "zone 2")
    ('Entree Sud', 'zone 2')
    """
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", name) if not unicodedata.combining(sign))
    return plain if all(map(_has_glyph, plain)) else otherwise


@functools.lru_cache(256)
def _length(text: str) -> float:
    return ImageFont.load_default(100).getlength(text) / 100


@functools.lru_cache(1024)
def _has_glyph(sign: str) -> bool:
    font = ImageFont.load_default(20)
    return sign == " " or bytes(font.getmask(sign)) != bytes(font.getmask("\uffff"))
