"""Outlines of zones and lines on a picture, with their names and how many people are there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from engine.drawing.lettering import DARK, LIGHT, Colour, Plate, fit, spell
from engine.zones.layout import ZoneLayout

# Okabe and Ito's colours for every colour vision, less those that a dark rim would hide (black and blue), green, which
# the heat layer has, and vermilion, which is for alerts.
PALETTE: tuple[Colour, ...] = ((86, 180, 233), (204, 121, 167), (240, 228, 66), (230, 159, 0))
ALERT: Colour = (213, 94, 0)
# Colour of zones whose people are not counted.
GREY: Colour = (160, 160, 160)
# Cells along each side of a zone's bounds in which the place for its label is looked for.
_LABEL_CELLS = 16
# Outlines are drawn in pieces of so many pixels, so many times larger than they will be.
_PIECE, _SMOOTH = 64.0, 3
# Where a label may go if its place is taken, in its widths and heights.
_SHIFTS = np.array([(0, 0), (0, 1.15), (0, -1.15), (0, 2.3), (0, -2.3), (0.7, 0), (-0.7, 0), (0.7, 1.15), (-0.7, 1.15)])

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ZoneMark:
    """A zone to draw: its name, corners float [N, 2] in pixels, the people in it, and whether its alert is on.

    Where nobody counts, ``people`` is None.
    """

    name: str
    corners: np.ndarray
    people: int | None
    alert: bool = False


@dataclass(frozen=True)
class LineMark:
    """A line to draw: its name, ends float [2, 2] in pixels, and the people on its left and on its right."""

    name: str
    ends: np.ndarray
    left: int
    right: int


def zone_marks(
    layout: ZoneLayout, size: tuple[int, int], people: Mapping[str, int], alerts: Collection[str] = ()
) -> list[ZoneMark]:
    """The zones of ``layout`` on a picture of that size, with the people in each; ``alerts`` names those that ring.

    Those to ignore come last.
    """
    corners = layout.zone_corners(size)
    marks = [ZoneMark(name, corners[name], people[name], name in alerts) for name in corners if name in people]
    return marks + [ZoneMark(name, ignored, None) for name, ignored in layout.ignored_corners(size).items()]


def line_marks(layout: ZoneLayout, size: tuple[int, int], sides: Mapping[str, tuple[int, int]]) -> list[LineMark]:
    """The lines of ``layout`` on a picture of that size, with the people on the (left, right) of each."""
    ends = layout.line_ends(size)
    return [LineMark(name, ends[name], *sides[name]) for name in ends if name in sides]


def draw_zones(
    canvas: Image.Image, zones: Sequence[ZoneMark], lines: Sequence[LineMark], taken: Sequence[Box] = ()
) -> None:
    """Outline zones and lines and label them; labels keep off each other where there is room.

    Args:
        canvas: RGB; drawn on.
        taken: (left, top, right, bottom) of what no label should cover.
    """
    scale = math.sqrt(canvas.width * canvas.height)
    # On thumbnails, outlines of two pixels would hide what they enclose.
    stroke = max(1.0, min(2.0, 0.012 * scale), 0.0034 * scale)
    for number, zone in enumerate(zones):
        colour = _colour(zone, number)
        path = np.concatenate([zone.corners, zone.corners[:1]])
        _stroke(canvas, path, stroke * (2 if zone.alert else 1), colour)
    for line in lines:
        _stroke(canvas, _beyond(line.ends, canvas.size), 0.4 * stroke, LIGHT)
        _stroke(canvas, line.ends, stroke, LIGHT)
    boxes = list(taken)
    size = max(12.0, 0.024 * scale)
    for number, zone in enumerate(zones):
        _label_zone(canvas, zone, number, size, boxes)
    for number, line in enumerate(lines):
        _label_line(canvas, line, number, size, boxes)


def _colour(zone: ZoneMark, number: int) -> Colour:
    if zone.people is None:
        return GREY
    return ALERT if zone.alert else PALETTE[number % len(PALETTE)]


def _stroke(canvas: Image.Image, path: np.ndarray, width: float, colour: Colour) -> None:
    """A line with a dark rim, which shows on light ground as the line does on dark."""
    rim = max(1.2, 0.4 * width)
    pieces = _pieces(path, canvas.size, width + 2 * rim)
    for thick, ink in ((width + 2 * rim, DARK), (width, colour)):
        for start, end in pieces:
            _dab(canvas, start, end, thick / 2, ink)


def _pieces(path: np.ndarray, size: tuple[int, int], width: float) -> np.ndarray:
    """The path in short pieces [n, 2 ends, 2], without those that are off the picture: their masks are small.

    Corners are pieces of their own, of no length. Of an edge, only the pieces near the picture are made: an edge may be
    a thousand times longer than the picture.
    """
    step = max(_PIECE, 4 * width)
    low, high = np.full(2, -width), np.array(size) + width
    pieces = [np.stack([path, path], axis=1)]
    for start, end in itertools.pairwise(path):
        number = max(1, math.ceil(np.hypot(*(end - start)) / step))
        first, last = _inside(start, end, low, high)
        if first <= last:
            cuts = np.arange(max(0, math.floor(first * number) - 1), min(number, math.ceil(last * number) + 1) + 1)
            shares = np.where(cuts == number, 1, cuts * (1 / number))  # as np.linspace has them
            corners = start + shares[:, None] * (end - start)
            pieces.append(np.stack([corners[:-1], corners[1:]], axis=1))
    cut = np.concatenate(pieces)
    seen = (cut.max(axis=1) >= low) & (cut.min(axis=1) <= high)
    return cut[seen.all(axis=1)]


def _inside(start: np.ndarray, end: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """From where to where, as shares of its length, an edge is in a rectangle; the first is larger if it is not at all.

    Source: Liang and Barsky, "A New Concept and Method for Line Clipping", ACM Transactions on Graphics 3(1), 1984.
    """
    first, last = 0.0, 1.0
    for at, along, least, most in zip(start.tolist(), (end - start).tolist(), low.tolist(), high.tolist(), strict=True):
        if along == 0:
            if not least <= at <= most:
                return 1.0, 0.0
            continue
        shares = sorted(((least - at) / along, (most - at) / along))
        first, last = max(first, shares[0]), min(last, shares[1])
    return first, last


def _dab(canvas: Image.Image, start: np.ndarray, end: np.ndarray, radius: float, ink: Colour) -> None:
    """A straight stroke, or a round dot if it has no length; drawn larger and shrunk, for smooth edges."""
    corner = np.floor(np.minimum(start, end) - radius) - 1
    width, height = (np.ceil(np.maximum(start, end) + radius) + 1 - corner).astype(int).tolist()
    mask = Image.new("L", (width * _SMOOTH, height * _SMOOTH))
    draw = ImageDraw.Draw(mask)
    # Pillow's coordinates are those of the middles of pixels.
    a, b, reach = (start - corner) * _SMOOTH - 0.5, (end - corner) * _SMOOTH - 0.5, radius * _SMOOTH
    length = np.hypot(*(b - a))
    if length > 0:
        along = (b - a) / length
        aside = np.array([-along[1], along[0]]) * (reach - 0.5)
        # Pieces overlap by half a pixel, so that no seam shows.
        a, b = a - along * _SMOOTH / 2, b + along * _SMOOTH / 2
        draw.polygon([tuple(p) for p in (a + aside, b + aside, b - aside, a - aside)], fill=255)
    else:
        low, high = a - (reach - 0.5), a + (reach - 0.5)
        draw.ellipse((low[0], low[1], high[0], high[1]), fill=255)
    canvas.paste(ink, (int(corner[0]), int(corner[1])), mask.reduce(_SMOOTH))


def _beyond(ends: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Two points of the same line outside the picture: it parts everybody, not only who is beside it."""
    along = (ends[1] - ends[0]) / np.hypot(*(ends[1] - ends[0]))
    # From the ends, the farthest point of the picture is at most this far away.
    reach = 2 * sum(size) + np.abs(ends).max()
    return np.stack([ends[0] - along * reach, ends[1] + along * reach])


def _label_zone(canvas: Image.Image, zone: ZoneMark, number: int, size: float, boxes: list[Box]) -> None:
    seen = np.clip(zone.corners, 0, canvas.size)
    width, height = seen.max(axis=0) - seen.min(axis=0)
    if min(width, height) <= 0:
        return
    name = spell(zone.name, f"zone {number + 1}")
    sign = "! " if zone.alert else ""
    people = "ignored" if zone.people is None else zone.people
    long, short = f"{sign}{name}: {people}", f"{sign}{people}"
    # A label may be somewhat wider than its zone, and its mere number much wider.
    fits = [
        fit((long,), size, min(1.1 * width, 0.9 * canvas.width), height),
        fit((short,), size, 0.5 * canvas.width, 0.3 * canvas.height),
    ]
    strip = None if zone.alert else _colour(zone, number)
    ink, ground = (DARK, ALERT) if zone.alert else (LIGHT, DARK)
    plates = [Plate(*chosen, ink, ground, strip) for chosen in fits if chosen]
    _place(canvas, plates, _heart(zone.corners, canvas.size), boxes)


def _label_line(canvas: Image.Image, line: LineMark, number: int, size: float, boxes: list[Box]) -> None:
    ends = np.clip(line.ends, 0, canvas.size)
    along = line.ends[1] - line.ends[0]
    # To the left of who walks along it, with y pointing down.
    left = np.array([along[1], -along[0]]) / np.hypot(*along)
    name = spell(line.name, f"line {number + 1}")
    for texts, side in (
        ((f"{name}: {line.left} left", f"{line.left} left", str(line.left)), left),
        ((f"{line.right} right", str(line.right)), -left),
    ):
        fits = [fit((text,), size, 0.45 * canvas.width, 0.25 * canvas.height) for text in texts]
        plates = [Plate(*chosen, strip=LIGHT) for chosen in fits if chosen]
        if plates:
            width, height = plates[0].extent
            # Far enough for the plate to clear the line, whatever the slope.
            away = 0.5 * (abs(side[0]) * width + abs(side[1]) * height) + 0.5 * size
            # Near the start: in the middle is what the line was drawn for.
            _place(canvas, plates, ends[0] + 0.12 * (ends[1] - ends[0]) + side * away, boxes)


def _place(canvas: Image.Image, plates: Sequence[Plate], at: np.ndarray, boxes: list[Box]) -> None:
    """Draw the first plate that finds a free place near there; none if all places are taken."""
    for plate in plates:
        extent = np.array(plate.extent)
        for shift in _SHIFTS:
            corner = np.clip(at - extent / 2 + shift * extent, 0, np.maximum(np.array(canvas.size) - extent, 0))
            box = (float(corner[0]), float(corner[1]), float(corner[0] + extent[0]), float(corner[1] + extent[1]))
            if not any(_overlap(box, other) for other in boxes):
                boxes.append(box)
                plate.draw(canvas, (round(box[0]), round(box[1])))
                return


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _heart(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Of a grid over the zone, the point inside and on the picture that is farthest from every edge."""
    low, high = np.clip(corners, 0, size).min(axis=0), np.clip(corners, 0, size).max(axis=0)
    steps = (np.arange(_LABEL_CELLS) + 0.5) / _LABEL_CELLS
    x, y = np.meshgrid(*(low[:, None] + steps * (high - low)[:, None]))
    grid = np.stack([x.ravel(), y.ravel()], -1)  # [256, 2]
    mask = Image.new("L", (_LABEL_CELLS * 4, _LABEL_CELLS * 4))
    inside_of = (corners - low) / np.maximum(high - low, 1e-9) * _LABEL_CELLS * 4
    ImageDraw.Draw(mask).polygon([tuple(corner) for corner in inside_of.tolist()], fill=1)
    inside = np.asarray(mask)[2::4, 2::4].ravel() > 0
    start, end = corners, np.roll(corners, -1, axis=0)
    along = end - start
    part = ((grid[:, None] - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-9)  # [256, N]
    nearest = start + np.clip(part, 0, 1)[..., None] * along
    distance = np.hypot(*np.moveaxis(grid[:, None] - nearest, -1, 0)).min(axis=1)
    # Level outlines have many points that are equally good: of those, the middle.
    distance = np.where(inside, distance, -1.0) - 1e-3 * np.abs(grid - (low + high) / 2).sum(axis=1)
    return grid[distance.argmax()]
